"""What the report and the key object selection share: root, observer, hierarchical references."""

from collections.abc import Iterable
from itertools import groupby

from highdicom.sr import DeviceObserverIdentifyingAttributes, ObserverContext
from pydicom.dataset import Dataset

from dicom_node.identity import MANUFACTURER, MODEL_NAME, device_uid
from dicom_node.results import codes
from dicom_node.results.context import ResultContext, series_uid

_ROOT = (
    "ValueType",
    "ConceptNameCodeSequence",
    "ContinuityOfContent",
    "ContentTemplateSequence",
    "ContentSequence",
)

Reference = tuple[str, str, str]
"""Series, class and instance of an object."""


def plant(content: Dataset, result: Dataset) -> None:
    """Make a container the root of a document (PS3.3 C.17.3)."""
    for keyword in _ROOT:
        result[keyword] = content[keyword]


def complete_report(content: Dataset, result: Dataset) -> None:
    """Make an empty object a report: complete, unverified and preliminary, for no person has seen it."""
    plant(content, result)
    result.CompletionFlag = "COMPLETE"
    result.VerificationFlag = "UNVERIFIED"
    result.PreliminaryFlag = "PRELIMINARY"
    result.PerformedProcedureCodeSequence = []
    result.ReferencedPerformedProcedureStepSequence = []


def name_predecessor(result: Dataset, predecessor_sr: tuple[str, str]) -> None:
    """Name the report that another one supersedes, by its SOP Class and Instance UID (PS3.3 C.17.2)."""
    _, instance = predecessor_sr
    result.PredecessorDocumentsSequence = [
        hierarchy(str(result.StudyInstanceUID), [(series_uid(instance), *predecessor_sr)])
    ]


def observer(context: ResultContext) -> ObserverContext:
    """The model as the device that looked (TID 1004)."""
    return observer_of(context.model.sha256, context.model.name)


def observer_of(model_sha256: str, name: str) -> ObserverContext:
    """Device of a model that is known by its hash."""
    return ObserverContext(
        observer_type=codes.DEVICE,
        observer_identifying_attributes=DeviceObserverIdentifyingAttributes(
            uid=device_uid(model_sha256),
            name=name,
            manufacturer_name=MANUFACTURER,
            model_name=MODEL_NAME,
            serial_number=model_sha256[: codes.SERIAL_LENGTH],
        ),
    )


def hierarchy(study_uid: str, references: Iterable[Reference]) -> Dataset:
    """Hierarchical reference: study, series, instances (PS3.3 C.17.2.1)."""
    study = Dataset()
    study.StudyInstanceUID = study_uid
    study.ReferencedSeriesSequence = []
    for uid, members in groupby(references, key=lambda reference: reference[0]):
        series = Dataset()
        series.SeriesInstanceUID = uid
        series.ReferencedSOPSequence = []
        for _, sop_class, sop_instance in members:
            item = Dataset()
            item.ReferencedSOPClassUID = sop_class
            item.ReferencedSOPInstanceUID = sop_instance
            series.ReferencedSOPSequence.append(item)
        study.ReferencedSeriesSequence.append(series)
    return study
