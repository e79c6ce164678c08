"""What happens on an association: pynetdicom event → spool → status. No other work in these threads.

Status of a C-STORE (PS3.4 B.2.3, PS3.7 C):

====== ==============================================================================
0x0000 durable in the spool, whether new, a copy, or a second data set under a known UID
0xA700 the disk is full, or below its free-space mark; the sender tries again
0xA900 the data set's class or UID is not the one the request announced
0xC001 the data set cannot be parsed, or lacks a key; it is kept in quarantine
0xC002 an error of ours; nothing was stored
====== ==============================================================================
"""

import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import structlog
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_file_meta_info
from pydicom.uid import UID

from dicom_node.elements import PREAMBLE, PREFIX, read_file_meta
from dicom_node.errors import SpoolFullError, UnreadableInstanceError
from dicom_node.identity import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION
from dicom_node.keys import Keys, read_keys
from dicom_node.peers import Peers
from dicom_node.spool import CHUNK, StoreKind, StoreOutcome

SUCCESS = 0x0000
OUT_OF_RESOURCES = 0xA700
CLASS_MISMATCH = 0xA900
CANNOT_UNDERSTAND = 0xC001
PROCESSING_FAILURE = 0xC002

# Result, source and reason of an association rejection (PS3.8 table 9-21): permanent, by the service user,
# calling AE title not recognised.
CALLING_AET_NOT_RECOGNISED = (1, 1, 3)

log = structlog.get_logger(__name__)


class Sink(Protocol):
    """Where instances go. `Spool` is the real one."""

    def has_room(self) -> bool:
        """Whether another instance may be taken."""

    def store(self, study_uid: str, sop_instance_uid: str, parts: Iterable[bytes]) -> StoreOutcome:
        """Keep an instance, durable on return."""

    def quarantine(self, parts: Iterable[bytes], reason: str) -> Path:
        """Keep what cannot be stored."""


class Counters:
    """How often each thing happened since the start; any thread may count and read."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def add(self, name: str) -> None:
        """Count one more."""
        with self._lock:
            self._counts[name] += 1

    def snapshot(self) -> dict[str, int]:
        """Counts by name: ``stored``, ``duplicate``, ``conflict``, ``refused_<code>``, ``association_*``."""
        with self._lock:
            return dict(self._counts)


def reject_strangers(event: Any, peers: Peers, counters: Counters) -> None:
    """EVT_REQUESTED: reject an association whose AE title and address are no sender's."""
    association = event.assoc
    requestor = association.requestor
    try:
        is_sender = peers.accepts(str(requestor.primitive.calling_ae_title), requestor.address_info.address)
    except Exception:
        # pynetdicom would swallow the error and accept the association.
        log.exception("sender not checked")
        is_sender = False
    if not is_sender:
        counters.add("association_rejected")
        log.warning("association rejected", reason="calling AE title and address are no sender's")
        association.acse.send_reject(*CALLING_AET_NOT_RECOGNISED)
        association.kill()


def count_rejection(_event: Any, counters: Counters) -> None:
    """EVT_REJECTED: the called AE title was not ours, or too many associations were open."""
    counters.add("association_rejected")
    log.warning("association rejected", reason="called AE title, or too many associations")


def handle_echo(_event: Any) -> int:
    """EVT_C_ECHO: alive. Readiness is told elsewhere."""
    return SUCCESS


def handle_store(event: Any, sink: Sink, counters: Counters) -> Dataset:
    """EVT_C_STORE: keep one instance.

    Never raises: an exception here would leave the temporary file and tell the sender nothing it can use.

    Returns
    -------
    Dataset
        Status, and for a refusal an Error Comment without identity.
    """
    try:
        return _store(event, sink, counters)
    except SpoolFullError:
        return _refuse(counters, "full", OUT_OF_RESOURCES, "disk is full")
    except Exception:
        log.exception("instance not stored")
        return _refuse(counters, "error", PROCESSING_FAILURE, "processing failure")


def _store(event: Any, sink: Sink, counters: Counters) -> Dataset:
    if not sink.has_room():
        return _refuse(counters, "full", OUT_OF_RESOURCES, "below the free-space mark")
    path = event.dataset_path
    if path is None:
        return _refuse(counters, "unreadable", CANNOT_UNDERSTAND, "no data set")
    syntax = str(event.context.transfer_syntax)
    with path.open("rb") as file:
        read_file_meta(file)  # pynetdicom's, which does not say who sent it
        start = file.tell()
        head = _file_head(event, syntax)
        try:
            keys = read_keys(file, syntax)
        except UnreadableInstanceError as error:
            sink.quarantine(_parts(head, file, start), "unreadable")
            return _refuse(counters, "unreadable", CANNOT_UNDERSTAND, str(error))
        if not _is_as_announced(event.request, keys):
            sink.quarantine(_parts(head, file, start), "mismatch")
            return _refuse(counters, "mismatch", CLASS_MISMATCH, "data set does not match the request")
        outcome = sink.store(keys.study_uid, keys.sop_instance_uid, _parts(head, file, start))
    counters.add(outcome.kind.value)
    if outcome.kind is StoreKind.CONFLICT:
        log.warning("second data set under a known UID, kept in quarantine", study=outcome.study_key)
    return _status(SUCCESS)


def _is_as_announced(request: Any, keys: Keys) -> bool:
    announced = (str(request.AffectedSOPClassUID), str(request.AffectedSOPInstanceUID))
    return announced == (keys.sop_class_uid, keys.sop_instance_uid)


def _file_head(event: Any, syntax: str) -> bytes:
    """Preamble, prefix and file meta information with the Source AE Title (PS3.10 7.1)."""
    meta = FileMetaDataset()
    meta.FileMetaInformationGroupLength = 0  # counted when written
    meta.FileMetaInformationVersion = b"\x00\x01"
    meta.MediaStorageSOPClassUID = event.request.AffectedSOPClassUID
    meta.MediaStorageSOPInstanceUID = event.request.AffectedSOPInstanceUID
    meta.TransferSyntaxUID = UID(syntax)
    meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
    meta.ImplementationVersionName = IMPLEMENTATION_VERSION
    meta.SourceApplicationEntityTitle = str(event.assoc.requestor.ae_title).strip()
    buffer = DicomBytesIO()
    buffer.write(b"\0" * PREAMBLE + PREFIX)
    write_file_meta_info(buffer, meta, enforce_standard=False)  # the UIDs stand as announced
    return buffer.getvalue()


def _parts(head: bytes, file: BinaryIO, start: int) -> Iterator[bytes]:
    """Our file meta, then the data set as it came."""
    yield head
    file.seek(start)
    while chunk := file.read(CHUNK):
        yield chunk


def _refuse(counters: Counters, code: str, status: int, comment: str) -> Dataset:
    counters.add(f"refused_{code}")
    log.warning("instance refused", code=code, status=f"0x{status:04X}", reason=comment)
    return _status(status, comment)


def _status(status: int, comment: str = "") -> Dataset:
    answer = Dataset()
    answer.Status = status
    if comment:
        answer.ErrorComment = comment[:64]  # LO
    return answer
