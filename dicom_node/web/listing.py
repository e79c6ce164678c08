"""What a DICOMweb search matches and answers of one instance, read with bounded effort and no trust."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import BinaryIO

from pydicom.uid import ExplicitVRBigEndian

from dicom_node.elements import read_file_meta, scan, text_of
from dicom_node.errors import UnreadableInstanceError
from dicom_node.identity import is_uid
from dicom_node.keys import (
    CHARACTER_SET,
    MODALITY,
    SERIES_DESCRIPTION,
    SERIES_UID,
    SOP_CLASS_UID,
    SOP_INSTANCE_UID,
    STUDY_UID,
    TRANSFER_SYNTAX_UID,
    encodings_of,
    prose,
)

STUDY_DATE, STUDY_TIME, REFERRING, STUDY_NUMBER = 0x00080020, 0x00080030, 0x00080090, 0x00200010
BODY_PART, SERIES_NUMBER, BEGAN_DATE, BEGAN_TIME = 0x00180015, 0x00200011, 0x00400244, 0x00400245
INSTANCE_NUMBER, FRAMES, ROWS, COLUMNS, BITS = 0x00200013, 0x00280008, 0x00280010, 0x00280011, 0x00280100
FIRST = (
    CHARACTER_SET, SOP_CLASS_UID, SOP_INSTANCE_UID, STUDY_DATE, STUDY_TIME, MODALITY, REFERRING,
    SERIES_DESCRIPTION, BODY_PART, STUDY_UID, SERIES_UID,
)  # fmt: skip
ALL = (
    *FIRST, STUDY_NUMBER, SERIES_NUMBER, INSTANCE_NUMBER, FRAMES, ROWS, COLUMNS, BITS, BEGAN_DATE, BEGAN_TIME,
)  # fmt: skip

_DATE = re.compile(r"[0-9]{8}")
_TIME = re.compile(r"([0-9]{2}){1,3}(\.[0-9]{1,6})?")
_LARGEST = 1 << 31  # of a number that the database keeps


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """One instance as a search shows it; texts are empty and numbers None where it says nothing.

    Attributes
    ----------
    study_uid, series_uid, sop_instance_uid, sop_class_uid, transfer_syntax_uid : str
    study_date, study_time, study_number, referring_physician : str
        Dates and times as DICOM writes them; what is none is left out.
    modality, series_description, body_part, began_date, began_time : str
        The last two: of the performed procedure step.
    series_number, instance_number, frames, rows, columns, bits_allocated : int or None
    """

    study_uid: str
    series_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    study_date: str
    study_time: str
    study_number: str
    referring_physician: str
    modality: str
    series_description: str
    body_part: str
    began_date: str
    began_time: str
    series_number: int | None
    instance_number: int | None
    frames: int | None
    rows: int | None
    columns: int | None
    bits_allocated: int | None


def read_listing(file: BinaryIO) -> Listing:
    """Listing of a Part 10 file.

    Parameters
    ----------
    file : BinaryIO
        Seekable.

    Raises
    ------
    UnreadableInstanceError
        If its keys cannot be read.
    """
    syntax = text_of(read_file_meta(file), TRANSFER_SYNTAX_UID)
    start = file.tell()
    try:
        found = scan(file, syntax, ALL)
    except UnreadableInstanceError:  # damaged behind its keys: it is listed by what comes before
        file.seek(start)
        found = scan(file, syntax, FIRST)
    keys = [text_of(found, tag) for tag in (STUDY_UID, SERIES_UID, SOP_INSTANCE_UID)]
    if not all(is_uid(key) for key in keys):
        raise UnreadableInstanceError("study, series or SOP instance UID is missing or malformed")
    encodings = encodings_of(found.get(CHARACTER_SET, b""))
    order = ">" if syntax == ExplicitVRBigEndian else "<"
    return Listing(
        study_uid=keys[0],
        series_uid=keys[1],
        sop_instance_uid=keys[2],
        sop_class_uid=text_of(found, SOP_CLASS_UID),
        transfer_syntax_uid=syntax,
        study_date=_matching(found, STUDY_DATE, _DATE),
        study_time=_matching(found, STUDY_TIME, _TIME),
        study_number=prose(found, STUDY_NUMBER, encodings),
        referring_physician=prose(found, REFERRING, encodings),
        modality=text_of(found, MODALITY).upper(),
        series_description=prose(found, SERIES_DESCRIPTION, encodings),
        body_part=text_of(found, BODY_PART),
        began_date=_matching(found, BEGAN_DATE, _DATE),
        began_time=_matching(found, BEGAN_TIME, _TIME),
        series_number=_integer(found, SERIES_NUMBER),
        instance_number=_integer(found, INSTANCE_NUMBER),
        frames=_integer(found, FRAMES),
        rows=_binary(found, ROWS, order),
        columns=_binary(found, COLUMNS, order),
        bits_allocated=_binary(found, BITS, order),
    )


def listing_of(file: BinaryIO) -> Listing | None:
    """Listing of a Part 10 file; None where its keys cannot be read, and nobody could ask for it."""
    try:
        return read_listing(file)
    except UnreadableInstanceError:
        return None


def _matching(found: Mapping[int, bytes], tag: int, pattern: re.Pattern[str]) -> str:
    text = found.get(tag, b"").decode("ascii", "replace").strip("\0 ")
    return text if pattern.fullmatch(text) else ""


def _integer(found: Mapping[int, bytes], tag: int) -> int | None:
    """Value of an Integer String."""
    try:
        value = int(found.get(tag, b"").decode("ascii", "replace").strip("\0 "))
    except ValueError:
        return None
    return value if -_LARGEST <= value < _LARGEST else None


def _binary(found: Mapping[int, bytes], tag: int, order: str) -> int | None:
    """Value of an unsigned short."""
    value = found.get(tag, b"")
    return int.from_bytes(value[:2], "big" if order == ">" else "little") if len(value) >= 2 else None  # noqa: PLR2004 - bytes of a short
