"""Asking an archive what it holds: C-FIND in the Study Root (PS3.4 C.6.2)."""

from collections.abc import Iterator, Mapping
from datetime import date
from typing import Any

from pydicom.dataset import Dataset
from pynetdicom import build_context
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind

from dicom_node.contexts import NATIVE
from dicom_node.errors import DestinationBusyError, DestinationRefusedError
from dicom_node.line import Line
from dicom_node.services.association import SUCCESS, association

PENDING = (0xFF00, 0xFF01)  # a match follows; optional keys were or were not supported (PS3.4 C.4.1.1.4)
OUT_OF_RESOURCES = 0xA700
MOST_MATCHES = 10_000  # a peer that never ends its answer ends here


def find(
    line: Line, keys: Dataset, *, model: str = StudyRootQueryRetrieveInformationModelFind
) -> Iterator[Dataset]:
    """Matches of a query, one by one.

    Parameters
    ----------
    line : Line
    keys : Dataset
        Identifier: matching keys with values, return keys empty.
    model : str
        SOP class UID of the information model.

    Raises
    ------
    DestinationBusyError
        If the peer is not there, does not answer, or has no resources.
    NotOfferedError
        If it does not offer the query.
    DestinationRefusedError
        If it fails, or answers without end.
    """
    with association(line, [build_context(model, list(NATIVE))]) as opened:
        count = 0
        for status, match in opened.send_c_find(keys, model):
            code = status.get("Status")
            if code is None:
                raise DestinationBusyError("The peer did not answer the query.")
            if code in PENDING:
                count += 1
                if count > MOST_MATCHES:
                    opened.abort()
                    raise DestinationRefusedError(f"The peer answers with more than {MOST_MATCHES} matches.")
                if match is not None:
                    yield match
            elif code == OUT_OF_RESOURCES:
                raise DestinationBusyError("The peer has no resources for the query.", code)
            elif code != SUCCESS:
                raise DestinationRefusedError(f"The peer failed the query with status 0x{code:04X}.", code)


def holds_instance(line: Line, *, study_uid: str, series_uid: str, sop_instance_uid: str) -> bool:
    """Whether an archive holds one instance: a query at the IMAGE level.

    Raises
    ------
    DeliveryError
        As `find`.
    """
    keys = Dataset()
    keys.QueryRetrieveLevel = "IMAGE"
    keys.StudyInstanceUID = study_uid
    keys.SeriesInstanceUID = series_uid
    keys.SOPInstanceUID = sop_instance_uid
    # Some archives ignore a key they do not support and answer with all they hold.
    return any(str(match.get("SOPInstanceUID", "")) == sop_instance_uid for match in find(line, keys))


def series_counts(line: Line, study_uid: str) -> Mapping[str, int]:
    """How many instances an archive holds of each series of a study.

    Returns
    -------
    mapping of str to int
        By Series Instance UID; series whose number the archive does not tell are missing.

    Raises
    ------
    DeliveryError
        As `find`.
    """
    keys = Dataset()
    keys.QueryRetrieveLevel = "SERIES"
    keys.StudyInstanceUID = study_uid
    keys.SeriesInstanceUID = ""
    keys.NumberOfSeriesRelatedInstances = None
    counts = {}
    for match in find(line, keys):
        series, count = str(match.get("SeriesInstanceUID", "")), match.get("NumberOfSeriesRelatedInstances")
        if series and count is not None:
            counts[series] = int(count)
    return counts


def classes_of(line: Line, study_uid: str) -> tuple[str, ...]:
    """SOP classes of a study; empty where the archive does not tell.

    Raises
    ------
    DeliveryError
        As `find`.
    """
    keys = Dataset()
    keys.QueryRetrieveLevel = "STUDY"
    keys.StudyInstanceUID = study_uid
    keys.SOPClassesInStudy = ""
    return tuple(
        str(uid)
        for match in find(line, keys)
        if str(match.get("StudyInstanceUID", "")) == study_uid
        for uid in _several(match.get("SOPClassesInStudy"))
    )


def _several(value: Any) -> tuple[Any, ...]:
    if isinstance(value, str):
        return (value,) if value else ()
    return tuple(value or ())


def studies_of(line: Line, accession_number: str) -> tuple[str, ...]:
    """Study Instance UIDs an archive knows under an accession number.

    Raises
    ------
    DeliveryError
        As `find`.
    """
    keys = Dataset()
    keys.QueryRetrieveLevel = "STUDY"
    keys.AccessionNumber = accession_number
    keys.StudyInstanceUID = ""
    return tuple(
        str(match.StudyInstanceUID)
        for match in find(line, keys)
        if str(match.get("AccessionNumber", "")).strip() == accession_number and match.get("StudyInstanceUID")
    )


def studies_between(line: Line, first: date, last: date, modality: str) -> Iterator[str]:
    """Study Instance UIDs of a time and a modality, as the archive lists them.

    Parameters
    ----------
    first, last : date
        Of the study, both included.
    modality : str
        Of any series of it.

    Raises
    ------
    DeliveryError
        As `find`.
    """
    keys = Dataset()
    keys.QueryRetrieveLevel = "STUDY"
    keys.StudyDate = f"{first:%Y%m%d}-{last:%Y%m%d}"  # a range includes its ends (PS3.4 C.2.2.2.5)
    keys.ModalitiesInStudy = modality
    keys.StudyInstanceUID = ""
    for match in find(line, keys):
        # Some archives ignore a key they do not support and answer with all they hold.
        is_of_it = modality in _several(match.get("ModalitiesInStudy") or modality)
        if is_of_it and match.get("StudyInstanceUID"):
            yield str(match.StudyInstanceUID)
