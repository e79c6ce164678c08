"""Objects in an S3-compatible bucket, through fsspec's s3fs (the extra ``s3`` of the package)."""

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from s3fs import S3FileSystem

from dicom_node.pack import Readable
from service.errors import ObjectMissingError, StorageAwayError
from service.storage import Told

PART_BYTES = 16 * 1024 * 1024  # of an upload: at most 10,000 parts, so objects up to 160 GB
LEFT_OVER = timedelta(days=1)  # an upload this old is gone on with by nobody
CONNECT_S, READ_S, TRIES = 10, 60, 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where the bucket is and who asks.

    Attributes
    ----------
    url : str, optional
        ``https://host:port``, or ``http://`` for one without TLS. None: Amazon's.
    access_key, secret_key : str, optional
        None: as the AWS variables, files or instance roles of this machine say.
    """

    url: str | None = None
    access_key: str | None = field(default=None, repr=False)
    secret_key: str | None = field(default=None, repr=False)


class BucketStore:
    """Objects of a bucket, below a prefix.

    Parameters
    ----------
    bucket, prefix : str
        The prefix without slashes at its ends; may be empty.
    endpoint : Endpoint
    """

    def __init__(self, bucket: str, prefix: str, endpoint: Endpoint) -> None:
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self._s3 = S3FileSystem(
            key=endpoint.access_key,
            secret=endpoint.secret_key,
            endpoint_url=endpoint.url,
            use_ssl=not (endpoint.url or "").startswith("http://"),
            use_listings_cache=False,
            skip_instance_cache=True,
            config_kwargs={
                "connect_timeout": CONNECT_S,
                "read_timeout": READ_S,
                "retries": {"max_attempts": TRIES},
            },
        )

    def put(self, name: str, parts: Iterable[bytes]) -> None:
        """Upload in parts; what an earlier try uploaded of the same bytes is not sent again."""
        key = self._prefix + name
        blocks = _blocks(parts)
        first, second = next(blocks, b""), next(blocks, None)
        with self._told():
            if second is None:
                self._call("put_object", Key=key, Body=first)
            else:
                self._upload(key, chain((first, second), blocks))

    def _upload(self, key: str, blocks: Iterable[bytes]) -> None:
        upload = self._begun(key) or self._call("create_multipart_upload", Key=key)["UploadId"]
        there = self._uploaded(key, upload)
        done = []
        for number, block in enumerate(blocks, start=1):
            tag = f'"{hashlib.md5(block, usedforsecurity=False).hexdigest()}"'  # what S3 calls a part's ETag
            if there.get(number) != tag:
                tag = self._call("upload_part", Key=key, UploadId=upload, PartNumber=number, Body=block)[
                    "ETag"
                ]
            done.append({"PartNumber": number, "ETag": tag})
        self._call("complete_multipart_upload", Key=key, UploadId=upload, MultipartUpload={"Parts": done})

    def _begun(self, key: str) -> str | None:
        """Newest upload of this object that was begun and not ended."""
        found = self._call("list_multipart_uploads", Prefix=key).get("Uploads") or []
        mine = [upload for upload in found if upload["Key"] == key]
        return str(max(mine, key=lambda upload: upload["Initiated"])["UploadId"]) if mine else None

    def _uploaded(self, key: str, upload: str) -> dict[int, str]:
        """Tag of each part that is there, by its number."""
        tags: dict[int, str] = {}
        marker = 0
        while True:
            page = self._call("list_parts", Key=key, UploadId=upload, PartNumberMarker=marker)
            tags |= {part["PartNumber"]: part["ETag"] for part in page.get("Parts") or []}
            if not page.get("IsTruncated"):
                return tags
            marker = page["NextPartNumberMarker"]

    @contextmanager
    def open(self, name: str) -> Iterator[Readable]:
        """Object to be read forward, in ranges of a part: one that breaks off is asked for again."""
        with self._told():
            file = self._s3.open(self._address(name), "rb", block_size=PART_BYTES, cache_type="readahead")
        with file:
            yield Told(file, self._told)

    @contextmanager
    def open_at(self, name: str, start: int) -> Iterator[Readable]:
        """Object to be read forward from one of its bytes on, each read a range of its own."""
        with self._told():
            file = self._s3.open(self._address(name), "rb", cache_type="none")
            file.seek(start)
        with file:
            yield Told(file, self._told)

    def _address(self, name: str) -> str:
        return f"{self._bucket}/{self._prefix}{name}"

    def remove(self, name: str) -> None:
        """Remove an object and what is left of uploads of it."""
        key = self._prefix + name
        with self._told():
            self._call("delete_object", Key=key)
            while upload := self._begun(key):
                self._abort(key, upload)

    def remove_all(self, folder: str) -> None:
        """Remove every object of a folder and what is left of uploads to it."""
        prefix = f"{self._prefix}{folder}/"
        with self._told():
            while found := self._call("list_objects_v2", Prefix=prefix).get("Contents"):
                for entry in found:
                    self._call("delete_object", Key=entry["Key"])
            for upload in self._call("list_multipart_uploads", Prefix=prefix).get("Uploads") or []:
                self._abort(upload["Key"], upload["UploadId"])

    def sweep(self) -> int:
        """Abort uploads that nobody goes on with; return how many."""
        removed = 0
        with self._told():
            found = self._call("list_multipart_uploads", Prefix=self._prefix).get("Uploads") or []
            for upload in found:
                if datetime.now(UTC) - upload["Initiated"] > LEFT_OVER:
                    self._abort(upload["Key"], upload["UploadId"])
                    removed += 1
        return removed

    def _abort(self, key: str, upload: str) -> None:
        with suppress(FileNotFoundError):  # ended meanwhile
            self._call("abort_multipart_upload", Key=key, UploadId=upload)

    def _call(self, method: str, **arguments: Any) -> dict[str, Any]:
        answer: dict[str, Any] = self._s3.call_s3(method, Bucket=self._bucket, **arguments)
        return answer

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            raise ObjectMissingError("The store has no such object, or no such bucket.") from error
        except (OSError, BotoCoreError, ClientError) as error:
            raise StorageAwayError(
                f"The bucket of VIGIL_STORE cannot be used ({type(error).__name__}). Check that its endpoint "
                "answers and that the credentials may read, write and delete."
            ) from error


def _blocks(parts: Iterable[bytes]) -> Iterator[bytes]:
    """Return the same bytes in blocks of `PART_BYTES`, the last one shorter."""
    block = bytearray()
    for part in parts:
        block += part
        while len(block) >= PART_BYTES:
            yield bytes(block[:PART_BYTES])
            del block[:PART_BYTES]
    if block:
        yield bytes(block)
