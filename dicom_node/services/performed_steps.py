"""Modality Performed Procedure Step, answering side (PS3.4 F.7): the modality says when it has ended.

N-CREATE announces a step, N-SET changes it until it is COMPLETED or DISCONTINUED. What counts here is its
study and the exact list of instances; everything else is not kept.
"""

from collections.abc import Iterable
from typing import Any, Final

from pydicom.dataset import Dataset

from dicom_node.identity import instance_file_name, is_uid
from dicom_node.services.association import SUCCESS
from dicom_node.signals import Signal, SignalKind, Signals
from dicom_node.spool import Spool

IN_PROGRESS, COMPLETED, DISCONTINUED = "IN PROGRESS", "COMPLETED", "DISCONTINUED"
# PS3.7 annex C, PS3.4 F.7.2.2.3.
INVALID_VALUE, DUPLICATE_INSTANCE, NO_SUCH_INSTANCE = 0x0106, 0x0111, 0x0112
MISSING_ATTRIBUTE, PROCESSING_FAILURE = 0x0120, 0x0110
MAY_NOT_CHANGE: Final = 0xA710  # error id: the step has ended
MOST_STUDIES = 100  # of one step


def create_step(uid: str, attributes: Dataset, spool: Spool, signals: Signals) -> int | Dataset:
    """N-CREATE: a step has begun; return the status."""
    if not is_uid(uid):
        return INVALID_VALUE
    if str(attributes.get("PerformedProcedureStepStatus", "")) != IN_PROGRESS:
        return INVALID_VALUE
    studies = _studies(attributes)
    if not studies:
        return MISSING_ATTRIBUTE
    if signals.step(uid) is not None:
        return DUPLICATE_INSTANCE
    step = {
        "state": IN_PROGRESS,
        "keys": sorted({spool.key_of(study) for study in studies}),
        "instances": sorted(_instances(attributes)),
    }
    signals.put_step(uid, step)
    _tell(uid, step, signals)
    return SUCCESS


def set_step(uid: str, changes: Dataset, signals: Signals) -> int | Dataset:
    """N-SET: a step has changed, or has ended; return the status."""
    step = signals.step(uid)
    if step is None:
        return NO_SUCH_INSTANCE
    if step["state"] != IN_PROGRESS:
        refusal = Dataset()
        refusal.Status, refusal.ErrorID = PROCESSING_FAILURE, MAY_NOT_CHANGE
        return refusal
    state = str(changes.get("PerformedProcedureStepStatus", "") or IN_PROGRESS)
    if state not in {IN_PROGRESS, COMPLETED, DISCONTINUED}:
        return INVALID_VALUE
    step["state"] = state
    if "PerformedSeriesSequence" in changes:  # the whole list, each time (PS3.4 table F.7.2-1)
        step["instances"] = sorted(_instances(changes))
    # The study first: a crash between the two is repaired by the modality's next try.
    _tell(uid, step, signals)
    signals.put_step(uid, step)
    return SUCCESS


def _tell(uid: str, step: dict[str, Any], signals: Signals) -> None:
    """Tell each study of the step. A step of several studies does not say whose its instances are."""
    keys: list[str] = step["keys"]
    # A discontinued step promises nothing: what it lists may never be sent.
    is_listed = len(keys) == 1 and step["state"] == COMPLETED
    for key in keys:
        signals.put(
            key,
            uid,
            Signal(
                kind=SignalKind.PERFORMED_STEP,
                is_final=step["state"] != IN_PROGRESS,
                instances=frozenset(step["instances"]) if is_listed else frozenset(),
            ),
        )


def _studies(attributes: Dataset) -> list[str]:
    found = (
        str(item.get("StudyInstanceUID", ""))
        for item in attributes.get("ScheduledStepAttributesSequence") or ()
    )
    return [uid for uid in found if is_uid(uid)][:MOST_STUDIES]


def _instances(attributes: Dataset) -> set[str]:
    return {
        instance_file_name(str(reference.ReferencedSOPInstanceUID))
        for series in attributes.get("PerformedSeriesSequence") or ()
        for reference in _references(series)
        if reference.get("ReferencedSOPInstanceUID")
    }


def _references(series: Dataset) -> Iterable[Dataset]:
    yield from series.get("ReferencedImageSequence") or ()
    yield from series.get("ReferencedNonImageCompositeSOPInstanceSequence") or ()
