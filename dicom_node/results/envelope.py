"""What every result object has in common: patient, study, series, equipment, dates (PS3.3 C.7, C.12).

Values are taken from the source as text and checked one by one. What the standard does not allow is left out
or shortened: an odd header of the sender never keeps a result from being made.
"""

import re
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta, timezone
from types import MappingProxyType
from typing import Final

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.multival import MultiValue
from pydicom.uid import UID, ExplicitVRLittleEndian
from pydicom.valuerep import DA, TM

from dicom_node.header import PARSE_ERRORS
from dicom_node.identity import (
    IMPLEMENTATION_CLASS_UID,
    IMPLEMENTATION_VERSION,
    MANUFACTURER,
    MODEL_NAME,
    device_uid,
)
from dicom_node.kinds import ResultKind
from dicom_node.results import codes
from dicom_node.results.context import ResultContext, series_uid

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_CODE_STRING: Final = re.compile(r"[A-Z0-9_ ]{1,16}")
_AGE: Final = re.compile(r"\d{3}[DWMY]")
_OFFSET: Final = re.compile(r"([+-])(\d{2})(\d{2})")
_DAY: Final = re.compile(r"\d{8}")
_TIME: Final = re.compile(r"\d{2}(\d{2}(\d{2}(\.\d{1,6})?)?)?")
_NAME_GROUP: Final = 64  # characters (PS3.5 6.2)
_SEXES: Final = frozenset({"M", "F", "O"})


def text_of(source: Dataset, keyword: str) -> str:
    """Value of an element as decoded text; empty where it is missing or cannot be read."""
    try:
        value = source.get(keyword)
        if value is None:
            return ""
        parts = value if isinstance(value, MultiValue) else [value]
        return _CONTROL.sub("", "/".join(str(part) for part in parts)).strip()
    except PARSE_ERRORS:
        return ""


def _long(limit: int) -> Callable[[str], str]:
    def shorten(text: str) -> str:
        return text.replace("\\", "/")[:limit].strip()

    return shorten


def _name(text: str) -> str:
    groups = text.replace("\\", " ").split("=")[:3]  # alphabetic, ideographic, phonetic
    return "=".join("^".join(group.split("^")[:5])[:_NAME_GROUP] for group in groups)


def _code_string(text: str) -> str:
    return text if _CODE_STRING.fullmatch(text) else ""


def _day(text: str) -> str:
    try:
        return text if _DAY.fullmatch(text) and DA(text) else ""
    except ValueError:
        return ""


def _time(text: str) -> str:
    try:
        return text if _TIME.fullmatch(text) and TM(text) else ""
    except ValueError:
        return ""


def _sex(text: str) -> str:
    return text if text in _SEXES else ""


def _age(text: str) -> str:
    return text if _AGE.fullmatch(text) else ""


# Type 2: there, if empty. The others only where the source has a good value.
_REQUIRED: Final = MappingProxyType(
    {
        "PatientName": _name,
        "PatientID": _long(64),
        "PatientBirthDate": _day,
        "PatientSex": _sex,
        "StudyDate": _day,
        "StudyTime": _time,
        "AccessionNumber": _long(16),
        "ReferringPhysicianName": _name,
        "StudyID": _long(16),
    }
)
_OPTIONAL: Final = MappingProxyType(
    {"IssuerOfPatientID": _long(64), "PatientAge": _age, "StudyDescription": _long(64)}
)
_REGION: Final = MappingProxyType({"BodyPartExamined": _code_string, "Laterality": _code_string})
_FACELESS: Final = frozenset(
    {"CHEST", "ABDOMEN", "PELVIS", "SPINE", "TSPINE", "LSPINE", "KNEE", "HAND", "FOOT"}
)
_SCANNER: Final = MappingProxyType({"Manufacturer": _long(64), "ManufacturerModelName": _long(64)})


def patient_and_study(source: Dataset) -> Dataset:
    """Patient and study of a source, every value valid and decoded (for ``ISO_IR 192``)."""
    copy = Dataset()
    copy.SpecificCharacterSet = codes.CHARACTER_SET
    copy.StudyInstanceUID = str(source.StudyInstanceUID)
    for keyword, clean in _REQUIRED.items():
        setattr(copy, keyword, clean(text_of(source, keyword)))
    _copy_valid(source, copy, _OPTIONAL)
    return copy


def anonymous_study(source: Dataset) -> Dataset:
    """Study UID of a source with everything of type 2 empty."""
    copy = Dataset()
    copy.StudyInstanceUID = str(source.StudyInstanceUID)
    for keyword in _REQUIRED:
        setattr(copy, keyword, "")
    return copy


def region(source: Dataset) -> Dataset:
    """Body part and side of a source, for results that are images."""
    copy = Dataset()
    _copy_valid(source, copy, _REGION)
    side = text_of(source, "ImageLaterality")
    if "Laterality" not in copy and side in {"L", "R"}:  # where radiographs say it
        copy.Laterality = side
    if "BodyPartExamined" not in copy and "Laterality" not in copy:
        copy.Laterality = ""  # type 2C: which side, if any, is unknown (PS3.3 C.7.3.1)
    return copy


def may_show_a_face(source: Dataset) -> bool:
    """Whether a picture of a source may let a person be recognised (0028,0302)."""
    return text_of(source, "BodyPartExamined") not in _FACELESS


def _copy_valid(source: Dataset, copy: Dataset, rules: MappingProxyType[str, Callable[[str], str]]) -> None:
    for keyword, clean in rules.items():
        value = clean(text_of(source, keyword))
        if value:
            setattr(copy, keyword, value)


def envelope(context: ResultContext, kind: ResultKind, sop_class: UID, modality: str) -> Dataset:
    """New object of a kind with everything but its content.

    Parameters
    ----------
    context : ResultContext
    kind : ResultKind
    sop_class : UID
    modality : str

    Returns
    -------
    Dataset
        With file meta information; its UIDs and dates are functions of the context.
    """
    source = context.sources[0]
    result = shell(
        source,
        kind=kind,
        sop_class=sop_class,
        modality=modality,
        sop_instance=instance_uid(context, kind),
        run_at=context.run_at,
        model_sha256=context.model.sha256,
        software=[context.software_version, f"{context.model.name} {context.model.version}"],
    )
    run_at, _ = local_run_time(source, context.run_at)
    result.ContributingEquipmentSequence = [*_scanner(source), _algorithm(context, run_at)]
    return result


def shell(
    source: Dataset,
    *,
    kind: ResultKind,
    sop_class: UID,
    modality: str,
    sop_instance: str,
    run_at: datetime,
    model_sha256: str,
    software: Sequence[str],
) -> Dataset:
    """New object of a kind with patient, study, series, equipment and dates; of the model the hash alone.

    Parameters
    ----------
    source : Dataset
        Whose patient and study it has.
    kind : ResultKind
    sop_class : UID
    modality : str
    sop_instance : str
        Its UID; the series follows from it.
    run_at : datetime
        With time zone.
    model_sha256 : str
    software : sequence of str
        Versions.

    Returns
    -------
    Dataset
        With file meta information.
    """
    run_at, offset = local_run_time(source, run_at)
    result = patient_and_study(source)
    result.SOPClassUID = sop_class
    result.SOPInstanceUID = sop_instance
    result.SeriesInstanceUID = series_uid(result.SOPInstanceUID)
    result.SeriesNumber = codes.SERIES_NUMBER[kind]
    result.SeriesDescription = codes.SERIES_DESCRIPTION[kind]
    result.Modality = modality
    result.InstanceNumber = 1
    result.Manufacturer = MANUFACTURER
    result.ManufacturerModelName = MODEL_NAME
    result.DeviceSerialNumber = model_sha256[: codes.SERIAL_LENGTH]
    result.SoftwareVersions = list(software)
    result.ContentQualification = codes.CONTENT_QUALIFICATION
    result.CodingSchemeIdentificationSequence = [codes.coding_scheme()]
    for stem in ("InstanceCreation", "Series", "Content"):
        setattr(result, f"{stem}Date", run_at.strftime("%Y%m%d"))
        setattr(result, f"{stem}Time", run_at.strftime("%H%M%S"))
    if offset:
        result.TimezoneOffsetFromUTC = offset
    result.file_meta = _file_meta(sop_class, result.SOPInstanceUID)
    return result


def settle(made: Dataset, outer: Dataset, dimensions: str) -> Dataset:
    """Plain data set with what highdicom took from the clock, the source or at random replaced (I4).

    Parameters
    ----------
    made : Dataset
        What highdicom made.
    outer : Dataset
        Its envelope, which prevails.
    dimensions : str
        Dimension Organization UID.
    """
    for keyword in ("DimensionOrganizationSequence", "DimensionIndexSequence"):
        for item in made.get(keyword, []):
            item.DimensionOrganizationUID = dimensions
    settled = Dataset()
    settled.update(made)
    settled.update(outer)
    settled.ContentCreatorName = ""  # type 2 in the Content Identification macro: no person made this
    settled.file_meta = FileMetaDataset(outer.file_meta)
    settled.file_meta.TransferSyntaxUID = made.file_meta.TransferSyntaxUID
    return settled


def instance_uid(context: ResultContext, kind: ResultKind) -> str:
    """SOP Instance UID of a result."""
    return context.uid(f"{kind.value}-instance")


def local_run_time(source: Dataset, run_at: datetime) -> tuple[datetime, str]:
    """Run time in the zone the source states, and that zone as DICOM writes it.

    Timezone Offset From UTC holds for every date in an object, and so for the study's, which we copy. Where
    the source does not state it, stating ours would move the study: it stays unstated.
    """
    offset = text_of(source, "TimezoneOffsetFromUTC")
    match = _OFFSET.fullmatch(offset)
    if match is None:
        return run_at, ""
    span = timedelta(hours=int(match[2]), minutes=int(match[3]))
    if span >= timedelta(hours=15):  # the largest is +14:00
        return run_at, ""
    return run_at.astimezone(timezone(-span if match[1] == "-" else span)), offset


def _scanner(source: Dataset) -> list[Dataset]:
    item = Dataset()
    _copy_valid(source, item, _SCANNER)
    if "Manufacturer" not in item:  # type 1 in this sequence
        return []
    item.PurposeOfReferenceCodeSequence = [codes.coded(codes.ACQUISITION_EQUIPMENT)]
    return [item]


def _algorithm(context: ResultContext, run_at: datetime) -> Dataset:
    """The model as a device: another Device UID for every retraining (IHE AIR)."""
    item = Dataset()
    item.PurposeOfReferenceCodeSequence = [codes.coded(codes.PROCESSING_EQUIPMENT)]
    item.Manufacturer = MANUFACTURER
    item.ManufacturerModelName = context.model.name[:64]
    item.SoftwareVersions = context.model.version[:64]
    item.DeviceUID = device_uid(context.model.sha256)
    item.ContributionDateTime = run_at.strftime("%Y%m%d%H%M%S%z")
    item.ContributionDescription = "Unsupervised anomaly ranking"
    return item


def _file_meta(sop_class: UID, sop_instance: str) -> FileMetaDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = sop_class
    meta.MediaStorageSOPInstanceUID = UID(sop_instance)
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
    meta.ImplementationVersionName = IMPLEMENTATION_VERSION
    return meta


def is_referable(source: Dataset) -> bool:
    """Whether a source has the three UIDs that a reference needs, each a valid one."""
    return all(
        UID(text_of(source, keyword)).is_valid
        for keyword in ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID")
    )
