"""Pulling a study from an archive: C-MOVE to our receiver, or C-GET into the spool (PS3.4 C.4)."""

import tempfile
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pydicom.dataset import Dataset
from pynetdicom import build_context, build_role, evt
from pynetdicom.sop_class import (
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
)

from dicom_node import handlers
from dicom_node.contexts import NATIVE, TRANSFER_SYNTAXES, storage_classes
from dicom_node.errors import DestinationBusyError, DestinationRefusedError
from dicom_node.handlers import Counters
from dicom_node.header import IMAGE_CLASSES
from dicom_node.line import Line
from dicom_node.services.association import SUCCESS, association
from dicom_node.services.query import OUT_OF_RESOURCES, PENDING, classes_of
from dicom_node.spool import Spool

SOME_FAILED = 0xB000  # sub-operations complete, one or more failures (PS3.4 table C.4-2)
UNKNOWN_DESTINATION = 0xA801
NONE_WENT = 0xA702  # unable to perform sub-operations: not one of the objects could be sent
MOST_CLASSES = 127  # of one association, whose 128 contexts hold the query too (PS3.8 9.3.2.2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pulled:
    """What came of a study, as the archive counts."""

    completed: int
    failed: int


def move_study(line: Line, study_uid: str, *, destination_aet: str) -> Pulled:
    """Have an archive send a study to an AE title it knows.

    Raises
    ------
    DestinationBusyError
        If the archive is not there, does not answer, or has no resources.
    DestinationRefusedError
        If it refuses; also where it does not know the AE title.
    """
    model = StudyRootQueryRetrieveInformationModelMove
    with association(line, [build_context(model, list(NATIVE))]) as opened:
        return _followed(opened.send_c_move(_study(study_uid), destination_aet, model))


def get_study(line: Line, study_uid: str, spool: Spool) -> Pulled:
    """Fetch a study into the spool.

    All storage classes do not fit into one association, so the archive is asked which the study has. One that
    does not tell is offered image classes first, and asked again with the others where objects are left.

    Raises
    ------
    DestinationBusyError, DestinationRefusedError
        As `move_study`.
    """
    completed = failed = 0
    for classes in _offers(classes_of(line, study_uid)):
        pulled = _get(line, study_uid, spool, classes)
        completed += pulled.completed
        failed = pulled.failed if not failed else max(failed - pulled.completed, 0)
        if not failed:
            break
    return Pulled(completed=completed, failed=failed)


def _offers(told: Collection[str]) -> Iterator[Sequence[str]]:
    """Storage classes that were told, or all, images first, as many at a time as fit into one association."""
    known = [uid for uid in storage_classes() if uid in told or not told]
    classes = sorted(known, key=lambda uid: (uid not in IMAGE_CLASSES, uid))
    for first in range(0, len(classes), MOST_CLASSES):
        yield classes[first : first + MOST_CLASSES]


def _get(line: Line, study_uid: str, spool: Spool, classes: Sequence[str]) -> Pulled:
    model = StudyRootQueryRetrieveInformationModelGet
    contexts = [build_context(model, list(NATIVE))]
    contexts += [build_context(uid, list(TRANSFER_SYNTAXES)) for uid in classes]
    counters = Counters()

    def keep(event: Any) -> Any:
        try:
            return handlers.handle_store(event, spool, counters)
        finally:
            if event.dataset_path is not None:  # pynetdicom removes it where it answers, not where it asks
                event.dataset_path.unlink(missing_ok=True)

    before, tempfile.tempdir = tempfile.tempdir, str(spool.incoming)
    try:
        with association(
            line,
            contexts,
            roles=[build_role(uid, scp_role=True) for uid in classes],
            handlers=[(evt.EVT_C_STORE, keep)],
        ) as opened:
            return _followed(opened.send_c_get(_study(study_uid), model))
    finally:
        tempfile.tempdir = before


def _study(study_uid: str) -> Dataset:
    keys = Dataset()
    keys.QueryRetrieveLevel = "STUDY"
    keys.StudyInstanceUID = study_uid
    return keys


def _followed(answers: Any) -> Pulled:
    """Read the answers to the end; the last one counts."""
    completed = failed = 0
    for answer, _ in answers:
        status = answer.get("Status")
        if status is None:
            raise DestinationBusyError("The archive did not answer.")
        completed = int(answer.get("NumberOfCompletedSuboperations") or completed)
        failed = int(answer.get("NumberOfFailedSuboperations") or failed)
        if status == UNKNOWN_DESTINATION:
            raise DestinationRefusedError("The archive does not know our AE title.", status)
        if status == NONE_WENT and failed and not completed:
            continue  # not for want of resources: of the classes offered there is none
        if status & 0xFF00 == OUT_OF_RESOURCES:
            raise DestinationBusyError("The archive has no resources for this.", status)
        if status not in {*PENDING, SUCCESS, SOME_FAILED}:
            raise DestinationRefusedError(f"The archive failed with status 0x{status:04X}.", status)
    return Pulled(completed=completed, failed=failed)
