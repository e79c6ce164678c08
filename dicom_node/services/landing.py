"""Instances that come over HTTP, by STOW-RS to us or WADO-RS from a peer: part by part into the spool.

Each part goes to a file as it arrives, so a message of any size needs the memory of one piece (I13). The
data set is kept byte for byte; the file meta information before it is ours, as it is for C-STORE.
"""

import os
import secrets
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import BinaryIO, Self

import structlog
from pydicom.dataset import FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_file_meta_info
from pydicom.uid import UID

from dicom_node.contexts import TRANSFER_SYNTAXES, storage_classes
from dicom_node.elements import PREAMBLE, PREFIX, read_file_meta, text_of
from dicom_node.errors import MalformedMessageError, SpoolFullError, UnreadableInstanceError
from dicom_node.identity import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION
from dicom_node.keys import (
    MEDIA_SOP_CLASS_UID,
    MEDIA_SOP_INSTANCE_UID,
    TRANSFER_SYNTAX_UID,
    Keys,
    read_keys,
)
from dicom_node.multipart import DICOM_TYPE, PartReader
from dicom_node.quarantine import Quarantined
from dicom_node.spool import CHUNK, Spool, StoreKind

# Failure Reason (PS3.18 table I.2-2).
OUT_OF_RESOURCES, MISMATCH, CANNOT_UNDERSTAND = 0xA700, 0xA900, 0xC000
SYNTAX_NOT_SUPPORTED, CLASS_NOT_SUPPORTED = 0xC122, 0x0122
MOST_INSTANCES = 100_000  # of one message

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Landed:
    """What became of one part.

    Attributes
    ----------
    sop_class_uid, sop_instance_uid : str
        Empty where the part could not be read.
    failure : int or None
        Failure Reason; None: it is in the spool, durable.
    """

    sop_class_uid: str
    sop_instance_uid: str
    failure: int | None


class Landing:
    """Takes one multipart message.

    Parameters
    ----------
    spool : Spool
    boundary : bytes
    source : str
        Kept as the sender of each instance, up to 16 characters.
    max_instance_bytes : int
        A longer part fails; those after it are taken.
    study_uid : str, optional
        The study every instance must belong to.
    """

    def __init__(
        self,
        spool: Spool,
        boundary: bytes,
        *,
        source: str,
        max_instance_bytes: int,
        study_uid: str | None = None,
    ) -> None:
        self.landed: list[Landed] = []
        self._spool = spool
        self._reader = PartReader(boundary)
        self._source = source[:16]
        self._max_instance_bytes = max_instance_bytes
        self._study_uid = study_uid
        self._draft = spool.incoming / f"{secrets.token_hex(16)}.part"
        self._file: BinaryIO | None = None
        self._size = 0
        self._failure: int | None = None

    def feed(self, chunk: bytes) -> None:
        """Take one more piece of the message.

        Raises
        ------
        MalformedMessageError
            If this is no multipart message, or one of too many parts.
        """
        for kind, content in self._reader.feed(chunk):
            self.take(kind, content if isinstance(content, bytes) else content.encode())

    def close(self) -> list[Landed]:
        """Say that the message has ended; return what became of its parts.

        Raises
        ------
        MalformedMessageError
            If it ended early. What came whole is kept.
        """
        self._reader.close()
        return self.landed

    def take(self, kind: str, content: bytes) -> None:
        """Take one event of a `PartReader`."""
        if kind == "begin":
            self._begin(content.decode("ascii", "replace"))
        elif kind == "data":
            self._write(content)
        else:
            self._end()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()
        self._draft.unlink(missing_ok=True)

    def _begin(self, media_type: str) -> None:
        self._size, self._failure = 0, None
        if len(self.landed) >= MOST_INSTANCES:  # the answer names each: of nothing else, gigabytes
            raise MalformedMessageError(f"The message has more than {MOST_INSTANCES} parts.")
        if media_type not in {"", DICOM_TYPE}:
            self._failure = CANNOT_UNDERSTAND
        elif not self._spool.has_room():
            self._failure = OUT_OF_RESOURCES
        else:
            descriptor = os.open(self._draft, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
            self._file = os.fdopen(descriptor, "w+b")

    def _write(self, content: bytes) -> None:
        self._size += len(content)
        if self._size > self._max_instance_bytes:
            self._failure = self._failure or OUT_OF_RESOURCES
        if self._file is None or self._failure is not None:
            return
        try:
            self._file.write(content)
        except OSError:
            self._failure = OUT_OF_RESOURCES

    def _end(self) -> None:
        file, self._file = self._file, None
        landed = Landed(sop_class_uid="", sop_instance_uid="", failure=self._failure or CANNOT_UNDERSTAND)
        if file is not None:
            with suppress(OSError), file:  # of a full disk, which is told
                if self._failure is None:
                    landed = replace(landed, failure=OUT_OF_RESOURCES)
                    landed = self._store_or_keep(file)
        if landed.failure is not None:
            log.warning("instance refused", reason=f"0x{landed.failure:04X}")
        self.landed.append(landed)

    def _store_or_keep(self, file: BinaryIO) -> Landed:
        """Store a part; what cannot be stored for its content is kept in quarantine (I2)."""
        refused = Landed(sop_class_uid="", sop_instance_uid="", failure=CANNOT_UNDERSTAND)
        reason = Quarantined.UNREADABLE
        try:
            landed = self._store(file)
            if landed.failure != MISMATCH:
                return landed
            refused, reason = landed, Quarantined.MISMATCH
        except UnreadableInstanceError:
            pass
        except SpoolFullError:
            return replace(refused, failure=OUT_OF_RESOURCES)
        try:
            self._spool.quarantine(_parts(b"", file, 0), reason)
        except SpoolFullError:
            return replace(refused, failure=OUT_OF_RESOURCES)
        return refused

    def _store(self, file: BinaryIO) -> Landed:
        file.seek(0)
        meta = read_file_meta(file)
        start = file.tell()
        syntax = text_of(meta, TRANSFER_SYNTAX_UID)
        announced = (text_of(meta, MEDIA_SOP_CLASS_UID), text_of(meta, MEDIA_SOP_INSTANCE_UID))
        keys = read_keys(file, syntax)
        failure = self._failure_of(keys, announced, syntax)
        head = _head(keys, syntax, self._source)
        if failure is None:
            outcome = self._spool.store(keys.study_uid, keys.sop_instance_uid, _parts(head, file, start))
            if outcome.kind is StoreKind.CONFLICT:
                log.warning("second data set under a known UID, kept in quarantine", study=outcome.study_key)
        return Landed(
            sop_class_uid=keys.sop_class_uid, sop_instance_uid=keys.sop_instance_uid, failure=failure
        )

    def _failure_of(self, keys: Keys, announced: tuple[str, str], syntax: str) -> int | None:
        if announced != (keys.sop_class_uid, keys.sop_instance_uid):
            return MISMATCH
        if self._study_uid is not None and keys.study_uid != self._study_uid:
            return MISMATCH
        if keys.sop_class_uid not in storage_classes():
            return CLASS_NOT_SUPPORTED
        return None if syntax in TRANSFER_SYNTAXES else SYNTAX_NOT_SUPPORTED


def _head(keys: Keys, syntax: str, source: str) -> bytes:
    """Preamble, prefix and file meta information that says from where it came (PS3.10 7.1)."""
    meta = FileMetaDataset()
    meta.FileMetaInformationGroupLength = 0  # counted when written
    meta.FileMetaInformationVersion = b"\x00\x01"
    meta.MediaStorageSOPClassUID = UID(keys.sop_class_uid)
    meta.MediaStorageSOPInstanceUID = UID(keys.sop_instance_uid)
    meta.TransferSyntaxUID = UID(syntax)
    meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
    meta.ImplementationVersionName = IMPLEMENTATION_VERSION
    meta.SourceApplicationEntityTitle = source
    buffer = DicomBytesIO()
    buffer.write(b"\0" * PREAMBLE + PREFIX)
    write_file_meta_info(buffer, meta, enforce_standard=False)
    return buffer.getvalue()


def _parts(head: bytes, file: BinaryIO, start: int) -> Iterator[bytes]:
    yield head
    file.seek(start)
    while chunk := file.read(CHUNK):
        yield chunk


def land_study(events: Iterator[tuple[str, bytes]], spool: Spool, *, source: str, limit: int) -> list[Landed]:
    """Take a study a peer sends by WADO-RS.

    Parameters
    ----------
    events : iterator of tuple
        Of `WebPeer.retrieve_study`.
    spool : Spool
    source : str
        Name of the peer.
    limit : int
        Bytes of the longest instance.
    """
    with Landing(spool, b"unused", source=source, max_instance_bytes=limit) as landing:
        for kind, content in events:
            landing.take(kind, content)
        return landing.landed
