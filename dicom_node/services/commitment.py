"""Storage commitment, asking side: a destination's word that it keeps what it was sent (PS3.4 J.3).

The request goes out with N-ACTION. The report comes with N-EVENT-REPORT, on the same association or, often
hours later, on one the destination opens to our receiver. Either way it is put into the `Mailbox`, where
the delivery finds it: the receiver needs nothing but its disk.
"""

import hashlib
import json
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import structlog
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence
from pynetdicom import build_context, evt
from pynetdicom.sop_class import StorageCommitmentPushModel

from dicom_node.contexts import NATIVE
from dicom_node.durable import write_durably
from dicom_node.errors import DestinationBusyError, NotOfferedError
from dicom_node.identity import instance_file_name, is_uid
from dicom_node.line import Line
from dicom_node.services.association import SUCCESS, association

COMMITMENT_INSTANCE: Final = "1.2.840.10008.1.20.1.1"  # well-known SOP instance (PS3.4 J.3.2)
REQUEST = 1  # action type of a request (PS3.4 table J.3.2-1)
ALL_HELD, SOME_FAILED = 1, 2  # event types of a report (PS3.4 table J.3.3-1)
SAME_ASSOCIATION_S = 2.0  # how long the report is waited for where it was asked
POLL_S = 0.05
MOST_INSTANCES = 10_000  # of one report
KEPT_S = 30 * 86_400.0  # a report that nobody fetched by then concerns nobody

# Failure Reason (0008,1197) where no other is stated (PS3.3 C.14.1.1).
UNKNOWN_REASON = 0x0110
# Statuses of our answer to a report (PS3.7 annex C).
NO_SUCH_OBJECT, INVALID_ARGUMENT, NOT_AUTHORISED, PROCESSING_FAILURE = 0x0112, 0x0115, 0x0124, 0x0110

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """An object by its class and UID."""

    sop_class_uid: str
    sop_instance_uid: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a destination committed to.

    Attributes
    ----------
    held : frozenset of str
        Hashes of the instances it keeps, as `instance_file_name` makes them.
    failed : dict of str to int
        Failure reason of each it does not keep, by the same hashes.
    """

    held: frozenset[str]
    failed: dict[str, int]

    def holds(self, sop_instance_uid: str) -> bool:
        """Whether the destination keeps an instance."""
        return instance_file_name(sop_instance_uid) in self.held

    def reason(self, sop_instance_uid: str) -> int | None:
        """Why it does not keep an instance; None where it does, or says nothing about it."""
        return self.failed.get(instance_file_name(sop_instance_uid))


@dataclass(frozen=True, slots=True)
class Mailbox:
    """Reports on their way from the receiver to the delivery: one small file each, no UID in it.

    Only a transaction that was asked for has a place here, and only the peer that was asked may fill it.

    Attributes
    ----------
    folder : Path
        Made when it is first needed.
    """

    folder: Path

    def ask(self, transaction_uid: str, peer: str) -> None:
        """Open a place for the answer of a peer, durable."""
        write_durably(self._place(transaction_uid, "asked"), json.dumps({"peer": peer}).encode())

    def put(self, transaction_uid: str, report: Report, *, peers: Iterable[str]) -> bool:
        """Keep a report, durable; False where none of the peers was asked for it.

        Parameters
        ----------
        transaction_uid : str
        report : Report
        peers : iterable of str
            Names of the peers the report may come from.
        """
        try:
            asked = json.loads(self._place(transaction_uid, "asked").read_bytes())
        except FileNotFoundError:
            return False
        if asked.get("peer") not in set(peers):
            return False
        content = {"held": sorted(report.held), "failed": report.failed}
        write_durably(self._place(transaction_uid, "report"), json.dumps(content).encode())
        return True

    def report(self, transaction_uid: str) -> Report | None:
        """Return the report on a transaction; None while there is none."""
        try:
            content = json.loads(self._place(transaction_uid, "report").read_bytes())
        except FileNotFoundError:
            return None
        return Report(held=frozenset(content["held"]), failed=content["failed"])

    def sweep(self, *, older_than_s: float = KEPT_S) -> int:
        """Remove what nobody fetched; return how many files."""
        removed = 0
        for path in self.folder.glob("*.*") if self.folder.is_dir() else ():
            if time.time() - path.stat().st_mtime >= older_than_s:
                path.unlink(missing_ok=True)
                removed += 1
        return removed

    def _place(self, transaction_uid: str, kind: str) -> Path:
        return self.folder / f"{hashlib.sha256(transaction_uid.encode()).hexdigest()[:32]}.{kind}"


def request_commitment(
    line: Line, *, transaction_uid: str, references: Sequence[Reference], peer: str, mailbox: Mailbox
) -> None:
    """Ask a destination to commit to objects; its report comes into the mailbox, now or later.

    Parameters
    ----------
    line : Line
    transaction_uid : str
        New with every request.
    references : sequence of Reference
    peer : str
        Name of the destination.
    mailbox : Mailbox

    Raises
    ------
    DestinationBusyError
        If it cannot be asked now.
    NotOfferedError
        If it does not offer storage commitment, or refuses the request.
    """
    mailbox.ask(transaction_uid, peer)
    wanted = Dataset()
    wanted.TransactionUID = transaction_uid
    wanted.ReferencedSOPSequence = DicomSequence([_item(reference) for reference in references])

    served: list[threading.Thread] = []

    def take(event: Any) -> tuple[int, None]:
        served.append(threading.current_thread())  # pynetdicom serves event reports beside its own thread
        return take_report(event, mailbox, peers=(peer,)), None

    with association(
        line,
        [build_context(StorageCommitmentPushModel, list(NATIVE))],
        handlers=[(evt.EVT_N_EVENT_REPORT, take)],
    ) as opened:
        answer, _ = opened.send_n_action(wanted, REQUEST, StorageCommitmentPushModel, COMMITMENT_INSTANCE)
        status = answer.get("Status")
        if status is None:
            raise DestinationBusyError("The destination did not answer the commitment request.")
        if status != SUCCESS:
            raise NotOfferedError(f"The destination refused the commitment request: 0x{status:04X}.", status)
        deadline = time.monotonic() + SAME_ASSOCIATION_S
        while opened.is_established and time.monotonic() < deadline:
            if mailbox.report(transaction_uid) is not None:
                break
            time.sleep(POLL_S)
        for thread in served:  # after a release no answer may go out (PS3.8 section 7.2.2)
            thread.join(SAME_ASSOCIATION_S)


def take_report(event: Any, mailbox: Mailbox, *, peers: Iterable[str]) -> int:
    """EVT_N_EVENT_REPORT: put a report into the mailbox and return the status of our answer.

    Parameters
    ----------
    event : pynetdicom.events.Event
    mailbox : Mailbox
    peers : iterable of str
        Names of the peers on the other end of this association.
    """
    try:
        if event.event_type not in {ALL_HELD, SOME_FAILED}:
            return INVALID_ARGUMENT
        information = event.event_information
        transaction_uid = str(information.get("TransactionUID", ""))
        held = _instances(information.get("ReferencedSOPSequence"))
        failed = {
            name: int(item.get("FailureReason") or UNKNOWN_REASON)
            for name, item in _named(information.get("FailedSOPSequence"))
        }
        if not is_uid(transaction_uid) or len(held) + len(failed) > MOST_INSTANCES:
            return INVALID_ARGUMENT
        report = Report(held=frozenset(held), failed=failed)
        if not mailbox.put(transaction_uid, report, peers=peers):
            log.warning("commitment report refused: nobody asked this peer for it")
            return NO_SUCH_OBJECT
    except Exception as error:  # noqa: BLE001 - the border between a peer and this process
        log.warning("commitment report not taken", error=type(error).__name__)
        return PROCESSING_FAILURE
    log.info("commitment report taken", held=len(held), failed=len(failed))
    return SUCCESS


def _item(reference: Reference) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = reference.sop_class_uid
    item.ReferencedSOPInstanceUID = reference.sop_instance_uid
    return item


def _instances(items: Any) -> set[str]:
    return {name for name, _ in _named(items)}


def _named(items: Any) -> list[tuple[str, Any]]:
    """Items of a sequence that refer to an instance, each with the hash of its UID."""
    return [
        (instance_file_name(str(item.ReferencedSOPInstanceUID)), item)
        for item in items or ()
        if item.get("ReferencedSOPInstanceUID")
    ]
