"""Storage commitment, answering side (PS3.4 J.3): off unless a site switches it on.

A modality may delete what we commit to, and a triage node is rarely the archive. A request is written down
before it is answered, so its report survives a restart; the report goes out on the same association while
that stands, else on a new one, again and again for a day.
"""

import fcntl
import hashlib
import json
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import structlog
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence
from pynetdicom import build_context, build_role
from pynetdicom.sop_class import StorageCommitmentPushModel

from dicom_node.contexts import NATIVE
from dicom_node.durable import write_durably
from dicom_node.errors import DeliveryError, UnreadableInstanceError
from dicom_node.identity import instance_file_name, is_uid
from dicom_node.line import line_to
from dicom_node.peers import Peer, Peers
from dicom_node.quarantine import conflicts
from dicom_node.services.association import SUCCESS, association
from dicom_node.services.commitment import (
    ALL_HELD,
    COMMITMENT_INSTANCE,
    MOST_INSTANCES,
    REQUEST,
    SOME_FAILED,
)
from dicom_node.signals import Signal, SignalKind, Signals
from dicom_node.spool import Spool, SpooledInstance

# Failure Reason (PS3.3 C.14.1.1).
PROCESSING_FAILURE, NO_SUCH_INSTANCE, CLASS_CONFLICT = 0x0110, 0x0112, 0x0119
# Statuses of our answer (PS3.7 annex C).
INVALID_ARGUMENT, NO_SUCH_ACTION, NOT_AUTHORISED, TOO_MANY = 0x0115, 0x0123, 0x0124, 0x0213
MOST_REQUESTS = 1000  # that wait for their report
LOOK_S = 0.5  # between two looks at the requests
OTHERS_S = 5.0  # before a request that another acceptor took is looked at
FIRST_PAUSE_S, LONGEST_PAUSE_S = 5.0, 600.0
SETTLED_AFTER_S = 60.0  # the log is emptied long before, whatever else arrives
GIVEN_UP_AFTER_S = 86_400.0

log = structlog.get_logger(__name__)


class _NotSettledError(Exception):
    """Instances may be on their way to the spool: look again."""


class CommitmentProvider:
    """Commits to what the spool holds.

    Parameters
    ----------
    spool : Spool
    signals : Signals
        A request is also a sign that the modality has sent all.
    peers : Peers
    folder : Path
        Of the requests that wait for their report.
    aet : str
        Our own AE title.
    is_settled : callable, optional
        Whether everything received is in the spool already; unset, it always is.
    """

    def __init__(
        self,
        *,
        spool: Spool,
        signals: Signals,
        peers: Peers,
        folder: Path,
        aet: str,
        is_settled: Callable[[], bool] = lambda: True,
    ) -> None:
        self._spool = spool
        self._signals = signals
        self._peers = peers
        self._folder = folder
        self._aet = aet
        self._is_settled = is_settled
        self._associations: weakref.WeakValueDictionary[str, Any] = weakref.WeakValueDictionary()
        self._due: dict[str, tuple[float, float]] = {}  # by file name: when again, and the pause after that
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Report on what was asked, before a restart too."""
        self._stop.clear()
        self._thread = threading.Thread(target=self._run, name="commitment", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop reporting; what is not reported yet is reported after the next start."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def take(self, event: Any, peers: Sequence[Peer]) -> int:
        """EVT_N_ACTION: write a request down and return the status."""
        if event.action_type != REQUEST:
            return NO_SUCH_ACTION
        information = event.action_information
        transaction_uid = str(information.get("TransactionUID", ""))
        items = information.get("ReferencedSOPSequence") or ()
        references = [
            (str(item.get("ReferencedSOPClassUID", "")), str(item.get("ReferencedSOPInstanceUID", "")))
            for item in items
        ]
        if not is_uid(transaction_uid) or not references or len(references) > MOST_INSTANCES:
            return INVALID_ARGUMENT
        if not peers:
            return NOT_AUTHORISED  # nobody to report to
        if len(self._waiting()) >= MOST_REQUESTS:
            return TOO_MANY
        name = f"{hashlib.sha256(transaction_uid.encode()).hexdigest()[:32]}.json"
        content = {
            "transaction": transaction_uid,
            "references": references,
            "peer": peers[0].name,
            "at": time.time(),
        }
        write_durably(self._folder / name, json.dumps(content).encode())
        self._associations[name] = event.assoc
        return SUCCESS

    def _run(self) -> None:
        while not self._stop.wait(LOOK_S):
            waiting = self._waiting()
            names = {path.name for path in waiting}
            self._due = {name: due for name, due in self._due.items() if name in names}
            for path in waiting:
                # Not before the request is answered; and whoever has its association goes first.
                wait_s = LOOK_S if path.name in self._associations else OTHERS_S
                due, pause = self._due.get(path.name, (0.0, FIRST_PAUSE_S))
                if time.monotonic() < due or _age_s(path) < wait_s:
                    continue
                try:
                    self._report_alone(path)
                except _NotSettledError:
                    continue
                except Exception as error:  # noqa: BLE001 - one request must not end the thread
                    log.warning("commitment not reported yet", error=type(error).__name__)
                    self._due[path.name] = (time.monotonic() + pause, min(2 * pause, LONGEST_PAUSE_S))
                else:
                    self._due.pop(path.name, None)

    def _waiting(self) -> list[Path]:
        return sorted(self._folder.glob("*.json")) if self._folder.is_dir() else []

    def _report_alone(self, path: Path) -> None:
        """Report once: the file is locked by whichever acceptor reports, and gone afterwards."""
        with suppress(FileNotFoundError), path.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return
            if path.exists():
                self._report(path)
                path.unlink(missing_ok=True)

    def _report(self, path: Path) -> None:
        content = json.loads(path.read_bytes())
        if time.time() - content["at"] > GIVEN_UP_AFTER_S:
            log.error("commitment report given up: the peer was away for a day")
            return
        references = [(str(sop_class), str(uid)) for sop_class, uid in content["references"]]
        # Asked before the look: what settles in between is found.
        may_be_on_its_way = not self._is_settled() and time.time() - content["at"] < SETTLED_AFTER_S
        information = self._answer(content["transaction"], references)
        if may_be_on_its_way and "FailedSOPSequence" in information:
            raise _NotSettledError
        event_type = SOME_FAILED if "FailedSOPSequence" in information else ALL_HELD
        same = self._associations.pop(path.name, None)
        if same is not None and same.is_established and _sent(same, information, event_type):
            return
        line = line_to(self._peers.named(content["peer"]), calling_aet=self._aet)
        role = build_role(StorageCommitmentPushModel, scp_role=True)
        context = build_context(StorageCommitmentPushModel, list(NATIVE))
        with association(line, [context], roles=[role]) as opened:
            if not _sent(opened, information, event_type):
                raise DeliveryError("The peer did not take the report.")

    def _answer(self, transaction_uid: str, references: Sequence[tuple[str, str]]) -> Dataset:
        """What we hold of what was asked for."""
        held = self._find({instance_file_name(uid) for _, uid in references})
        twofold = conflicts(self._spool.quarantined)
        failures = {}
        for sop_class, uid in references:
            instance = held.get(instance_file_name(uid))
            if instance is None:
                failures[uid] = NO_SUCH_INSTANCE
            elif (instance.path.parent.name, instance.file_name) in twofold:
                failures[uid] = PROCESSING_FAILURE  # which of the two is asked about nobody can tell
            elif _sop_class(instance) != sop_class:
                failures[uid] = CLASS_CONFLICT
        information = Dataset()
        information.TransactionUID = transaction_uid
        kept = [_item(sop_class, uid) for sop_class, uid in references if uid not in failures]
        if kept:
            information.ReferencedSOPSequence = DicomSequence(kept)
        if failures:
            information.FailedSOPSequence = DicomSequence(
                [_item(sop_class, uid, failures[uid]) for sop_class, uid in references if uid in failures]
            )
        by_study: dict[str, set[str]] = {}
        for name, instance in held.items():
            by_study.setdefault(instance.path.parent.name, set()).add(name)
        self._spool.sync(by_study)
        for key, names in by_study.items():
            self._signals.put(
                key,
                transaction_uid,
                Signal(kind=SignalKind.COMMITMENT_REQUEST, is_final=not failures, instances=frozenset(names)),
            )
        return information

    def _find(self, wanted: set[str]) -> dict[str, SpooledInstance]:
        """Find instances by file name: the studies that changed last first, for those are asked about."""
        found: dict[str, SpooledInstance] = {}
        for key, _ in sorted(self._spool.studies(), key=lambda study: study[1], reverse=True):
            for instance in self._spool.instances(key):
                if instance.file_name in wanted:
                    found[instance.file_name] = instance
            if len(found) == len(wanted):
                break
        return found


def _age_s(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:  # another process of this node has reported it
        return 0.0


def _sent(opened: Any, information: Dataset, event_type: int) -> bool:
    try:
        answer, _ = opened.send_n_event_report(
            information, event_type, StorageCommitmentPushModel, COMMITMENT_INSTANCE
        )
    except (RuntimeError, ValueError):  # the association ended, or its context is not for reports
        return False
    return bool(answer.get("Status") == SUCCESS)


def _sop_class(instance: SpooledInstance) -> str:
    try:
        return instance.header().sop_class_uid
    except (UnreadableInstanceError, OSError):
        return ""


def _item(sop_class: str, uid: str, reason: int | None = None) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class, uid
    if reason is not None:
        item.FailureReason = reason
    return item
