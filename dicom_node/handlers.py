"""What happens on an association: instance → spool → status. No other work in these threads.

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
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import structlog
from pydicom.dataset import Dataset

from dicom_node.certificates import fingerprint_of
from dicom_node.elements import read_file_meta
from dicom_node.errors import SpoolFullError, UnreadableInstanceError
from dicom_node.keys import Keys, read_keys
from dicom_node.part10 import file_head
from dicom_node.peers import Peers
from dicom_node.quarantine import Quarantined
from dicom_node.spool import CHUNK, StoreKind, StoreOutcome
from dicom_node.tallies import Tally
from dicom_node.wire import LONGEST_COMMENT

SUCCESS = 0x0000
OUT_OF_RESOURCES = 0xA700
CLASS_MISMATCH = 0xA900
CANNOT_UNDERSTAND = 0xC001
PROCESSING_FAILURE = 0xC002

# Result, source and reason of an association rejection (PS3.8 table 9-21): permanent, by the service user,
# calling AE title not recognised.
CALLING_AET_NOT_RECOGNISED = (1, 1, 3)
LIMIT_EXCEEDED = (2, 3, 2)  # transient, by the presentation service, local limit exceeded

log = structlog.get_logger(__name__)


class Sink(Protocol):
    """Where instances go. `Spool` is the real one."""

    def has_room(self) -> bool:
        """Whether another instance may be taken."""

    def store(self, study_uid: str, sop_instance_uid: str, parts: Iterable[bytes]) -> StoreOutcome:
        """Keep an instance, durable on return."""

    def quarantine(self, parts: Iterable[bytes], reason: str) -> Path:
        """Keep what cannot be stored."""


class Incoming(Protocol):
    """One instance as it was received, by whichever way."""

    @property
    def announced(self) -> tuple[str, str]:
        """SOP class and instance UID of the request."""

    def keys(self) -> Keys:
        """Keys of the data set; raises UnreadableInstanceError."""

    def keep(self, keys: Keys) -> StoreOutcome:
        """Keep it, durable on return."""

    def set_aside(self, reason: str) -> None:
        """Keep it in quarantine, durable on return."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Status of a C-STORE, and for a refusal a comment without identity."""

    status: int
    comment: str = ""


class Counters:
    """How often each thing happened since the start; any thread may count and read.

    Parameters
    ----------
    tally : Tally, optional
        Where it is counted too, for all processes of the node.
    """

    def __init__(self, tally: Tally | None = None) -> None:
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._tally = tally

    def add(self, name: str) -> None:
        """Count one more."""
        with self._lock:
            self._counts[name] += 1
        if self._tally is not None:
            self._tally.add(name)

    def snapshot(self) -> dict[str, int]:
        """Counts by name: ``stored``, ``duplicate``, ``conflict``, ``refused_<code>``, ``association_*``."""
        with self._lock:
            return dict(self._counts)


def reject_strangers(event: Any, peers: Peers, counters: Counters) -> None:
    """EVT_REQUESTED: reject an association whose AE title, address and certificate are no sender's."""
    association = event.assoc
    requestor = association.requestor
    try:
        is_sender = peers.accepts(
            str(requestor.primitive.calling_ae_title),
            requestor.address_info.address,
            fingerprint_of(association.dul.socket.socket),
        )
    except Exception:
        # pynetdicom would swallow the error and accept the association.
        log.exception("sender not checked")
        is_sender = False
    if not is_sender:
        counters.add("association_rejected")
        log.warning("association rejected", reason="calling AE title, address or certificate are no sender's")
        association.acse.send_reject(*CALLING_AET_NOT_RECOGNISED)
        association.kill()


def reject_for_now(association: Any, counters: Counters, reason: str) -> None:
    """Reject an association that may be tried again."""
    counters.add("association_rejected")
    log.warning("association rejected", reason=reason)
    association.acse.send_reject(*LIMIT_EXCEEDED)
    association.kill()


def count_rejection(_event: Any, counters: Counters) -> None:
    """EVT_REJECTED: the called AE title was not ours."""
    counters.add("association_rejected")
    log.warning("association rejected", reason="called AE title")


def handle_echo(_event: Any) -> int:
    """EVT_C_ECHO: alive. Readiness is told elsewhere."""
    return SUCCESS


def handle_store(event: Any, sink: Sink, counters: Counters, *, is_whole: bool = True) -> Dataset:
    """EVT_C_STORE: keep one instance that pynetdicom received into a file, unless the disk was full for it.

    Never raises: an exception here would leave the temporary file and tell the sender nothing it can use.

    Returns
    -------
    Dataset
        Status, and for a refusal an Error Comment without identity.
    """
    answer = answer_to(lambda: _store(event, sink, counters, is_whole=is_whole), counters)
    dataset = Dataset()
    dataset.Status = answer.status
    if answer.comment:
        dataset.ErrorComment = answer.comment
    return dataset


def answer_to(work: Callable[[], Answer], counters: Counters) -> Answer:
    """Do the work of one C-STORE; whatever goes wrong becomes an answer."""
    try:
        return work()
    except SpoolFullError:
        return refuse(counters, "full", OUT_OF_RESOURCES, "disk is full")
    except Exception:
        log.exception("instance not stored")
        return refuse(counters, "error", PROCESSING_FAILURE, "processing failure")


def admit(instance: Incoming, counters: Counters) -> Answer:
    """Keep an instance that was received, in the spool or in quarantine."""
    try:
        keys = instance.keys()
    except UnreadableInstanceError as error:
        instance.set_aside(Quarantined.UNREADABLE)
        return refuse(counters, "unreadable", CANNOT_UNDERSTAND, str(error))
    if instance.announced != (keys.sop_class_uid, keys.sop_instance_uid):
        instance.set_aside(Quarantined.MISMATCH)
        return refuse(counters, "mismatch", CLASS_MISMATCH, "data set does not match the request")
    outcome = instance.keep(keys)
    counters.add(outcome.kind.value)
    if outcome.kind is StoreKind.CONFLICT:
        log.warning("second data set under a known UID, kept in quarantine", study=outcome.study_key)
    return Answer(SUCCESS)


def refuse(counters: Counters, code: str, status: int, comment: str) -> Answer:
    """Count and tell a refusal."""
    counters.add(f"refused_{code}")
    log.warning("instance refused", code=code, status=f"0x{status:04X}", reason=comment)
    return Answer(status, comment[:LONGEST_COMMENT])


@dataclass(frozen=True, slots=True)
class _ReceivedFile:
    """Instance in pynetdicom's temporary file, whose own file meta does not say who sent it."""

    file: BinaryIO
    start: int  # of the data set
    announced: tuple[str, str]
    syntax: str
    sender: str
    sink: Sink

    def keys(self) -> Keys:
        self.file.seek(self.start)
        return read_keys(self.file, self.syntax)

    def keep(self, keys: Keys) -> StoreOutcome:
        return self.sink.store(keys.study_uid, keys.sop_instance_uid, self._parts())

    def set_aside(self, reason: str) -> None:
        self.sink.quarantine(self._parts(), reason)

    def _parts(self) -> Iterator[bytes]:
        """Our file meta, then the data set as it came."""
        yield file_head(
            sop_class=self.announced[0],
            sop_instance=self.announced[1],
            syntax=self.syntax,
            sender=self.sender,
        )
        self.file.seek(self.start)
        while chunk := self.file.read(CHUNK):
            yield chunk


def _store(event: Any, sink: Sink, counters: Counters, *, is_whole: bool) -> Answer:
    if not is_whole:
        raise SpoolFullError("The disk of the spool is full.")
    if not sink.has_room():
        return refuse(counters, "full", OUT_OF_RESOURCES, "below the free-space mark")
    path = event.dataset_path
    if path is None:
        return refuse(counters, "unreadable", CANNOT_UNDERSTAND, "no data set")
    request = event.request
    with path.open("rb") as file:
        read_file_meta(file)
        received = _ReceivedFile(
            file=file,
            start=file.tell(),
            announced=(str(request.AffectedSOPClassUID), str(request.AffectedSOPInstanceUID)),
            syntax=str(event.context.transfer_syntax),
            sender=str(event.assoc.requestor.ae_title).strip(),
            sink=sink,
        )
        return admit(received, counters)
