"""What every place for objects promises: one contract, a folder and a bucket."""

import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from service import storage
from service.errors import ObjectMissingError, StorageAwayError
from service.storage import ObjectStore, keep, read
from service.storage import folder as folder_module
from service.storage.bucket import PART_BYTES, BucketStore, Endpoint
from service.storage.folder import DRAFTS, FolderStore
from tests.bucket import ACCESS_KEY, BUCKET, SECRET_KEY, Bucket

NAME = "packs/abcdefghijklmnopqrst/0123.tar"
SMALL = b"a pack" * 1000


def in_bucket(served: Bucket) -> BucketStore:
    return BucketStore(BUCKET, f"site/{uuid4().hex}", endpoint_of(served))


def endpoint_of(served: Bucket) -> Endpoint:
    return Endpoint(url=served.endpoint, access_key=ACCESS_KEY, secret_key=SECRET_KEY)


@pytest.fixture(params=["folder", "bucket"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    if request.param == "folder":
        return FolderStore(tmp_path / "share")
    return in_bucket(request.getfixturevalue("served"))


def content(place: ObjectStore, name: str) -> bytes:
    with place.open(name) as source:
        return b"".join(iter(lambda: source.read(1 << 16), b""))


def test_what_was_kept_is_read_back(place: ObjectStore) -> None:
    kept = keep(place, NAME, [SMALL[:10], SMALL[10:]])

    assert (kept.sha256, kept.bytes) == (hashlib.sha256(SMALL).hexdigest(), len(SMALL))
    assert read(place, NAME) == kept
    assert content(place, NAME) == SMALL


def test_an_empty_object_is_an_object(place: ObjectStore) -> None:
    assert keep(place, NAME, []).bytes == 0


def test_the_same_again_changes_nothing(place: ObjectStore) -> None:
    assert keep(place, NAME, [SMALL]) == keep(place, NAME, [SMALL])


def test_what_is_not_there_is_told(place: ObjectStore) -> None:
    with pytest.raises(ObjectMissingError):
        content(place, NAME)


def test_removing_twice_is_removing_once(place: ObjectStore) -> None:
    place.put(NAME, [SMALL])

    place.remove(NAME)
    place.remove(NAME)

    with pytest.raises(ObjectMissingError):
        content(place, NAME)


def test_a_folder_goes_with_all_its_objects_and_no_other(place: ObjectStore) -> None:
    beside = "packs/abcdefghijklmnopqrstu/0123.tar"
    for name in (NAME, NAME.replace("0123", "4567"), beside):
        place.put(name, [SMALL])

    place.remove_all("packs/abcdefghijklmnopqrst")
    place.remove_all("packs/abcdefghijklmnopqrst")

    assert content(place, beside) == SMALL
    for name in (NAME, NAME.replace("0123", "4567")):
        with pytest.raises(ObjectMissingError):
            content(place, name)


def test_a_source_that_breaks_off_leaves_no_object(place: ObjectStore) -> None:
    def broken() -> Iterator[bytes]:
        yield SMALL
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        place.put(NAME, broken())

    with pytest.raises(ObjectMissingError):
        content(place, NAME)


def test_errors_of_who_reads_are_not_the_stores(place: ObjectStore) -> None:
    place.put(NAME, [SMALL])

    with pytest.raises(OSError, match="our own disk"), place.open(NAME):
        raise OSError("our own disk")


class Lying(FolderStore):
    """A folder on a disk that loses the last byte."""

    def put(self, name: str, parts: Any) -> None:
        FolderStore.put(self, name, [b"".join(parts)[:-1]])


def test_a_store_that_gives_back_other_bytes_is_not_believed(tmp_path: Path) -> None:
    place = Lying(tmp_path)

    with pytest.raises(StorageAwayError, match="other bytes"):
        keep(place, NAME, [SMALL])
    with pytest.raises(ObjectMissingError):
        content(place, NAME)


def test_an_upload_that_was_interrupted_is_gone_on_with(served: Bucket) -> None:
    place = in_bucket(served)
    parts = [os.urandom(PART_BYTES) for _ in range(3)] + [b"the end"]
    sent = counted(place)

    def killed() -> Iterator[bytes]:
        yield from parts[:2]
        yield parts[2][:5]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        place.put(NAME, killed())
    assert sent("upload_part") == 2

    kept = keep(place, NAME, parts)

    assert sent("upload_part") == 4  # and not six
    assert kept.sha256 == hashlib.sha256(b"".join(parts)).hexdigest()
    assert place._begun(place._prefix + NAME) is None


def test_parts_of_other_bytes_are_sent_again(served: Bucket) -> None:
    place = in_bucket(served)

    def killed() -> Iterator[bytes]:
        yield b"x" * 2 * PART_BYTES
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        place.put(NAME, killed())
    other = b"y" * 2 * PART_BYTES + b"z"

    assert keep(place, NAME, [other]).sha256 == hashlib.sha256(other).hexdigest()


def test_removing_an_object_ends_uploads_of_it(served: Bucket) -> None:
    place = in_bucket(served)

    def killed() -> Iterator[bytes]:
        yield b"x" * 2 * PART_BYTES
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        place.put(NAME, killed())
    place.remove(NAME)

    assert place._begun(place._prefix + NAME) is None


def test_drafts_nobody_goes_on_with_are_swept(served: Bucket, tmp_path: Path) -> None:
    share, place = FolderStore(tmp_path), in_bucket(served)
    (tmp_path / DRAFTS).mkdir()
    old, young = tmp_path / DRAFTS / "old", tmp_path / DRAFTS / "young"
    for path in (old, young):
        path.write_bytes(b"half")
    os.utime(old, (0, 0))
    place._call("create_multipart_upload", Key=place._prefix + NAME)  # this server dates all of them to 2010

    assert (share.sweep(), place.sweep()) == (1, 1)
    assert [path.name for path in (tmp_path / DRAFTS).iterdir()] == ["young"]
    assert FolderStore(tmp_path / "new").sweep() == 0


def test_a_bucket_that_does_not_answer_is_told_without_its_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.storage.bucket.TRIES", 1)
    monkeypatch.setattr("service.storage.bucket.CONNECT_S", 1)
    away = Endpoint(url="http://127.0.0.1:9", access_key=ACCESS_KEY, secret_key=SECRET_KEY)

    with pytest.raises(StorageAwayError) as told:
        BucketStore(BUCKET, "", away).put(NAME, [SMALL])

    assert ACCESS_KEY not in repr(away)
    assert SECRET_KEY not in str(told.value) + repr(away)


def test_a_bucket_that_is_not_there_is_no_missing_object_to_who_writes(served: Bucket) -> None:
    place = BucketStore("nowhere", "", endpoint_of(served))

    with pytest.raises(StorageAwayError):
        keep(place, NAME, [SMALL])


def test_a_full_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(folder_module.os, "fsync", full)

    with pytest.raises(StorageAwayError, match="No space left"):
        FolderStore(tmp_path).put(NAME, [SMALL])
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_name_that_leads_out_of_the_folder_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret")

    for name in ("../secret", str(tmp_path / "secret")):
        with pytest.raises(ObjectMissingError):
            content(FolderStore(tmp_path / "share"), name)


def test_the_name_of_a_pack_says_study_and_content() -> None:
    assert storage.pack_name("k" * 20, "c" * 64) == f"packs/{'k' * 20}/{'c' * 64}.tar"


def counted(place: BucketStore) -> Callable[[str], int]:
    """Count the calls of a store by method."""
    calls: list[str] = []
    call = place._s3.call_s3

    def counting(method: str, **arguments: Any) -> Any:
        calls.append(method)
        return call(method, **arguments)

    place._s3.call_s3 = counting
    return calls.count
