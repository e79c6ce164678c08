"""What identifies an instance, and the little the intake stores of it."""

import re
import warnings
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import BinaryIO

from pydicom.charset import convert_encodings, decode_bytes
from pydicom.valuerep import TEXT_VR_DELIMS

from dicom_node.elements import LONGEST_TEXT, read_file_meta, scan, text_of
from dicom_node.errors import UnreadableInstanceError
from dicom_node.identity import is_own_mark, is_uid

MEDIA_SOP_CLASS_UID = 0x00020002
MEDIA_SOP_INSTANCE_UID = 0x00020003
TRANSFER_SYNTAX_UID = 0x00020010
SOURCE_AET = 0x00020016
CHARACTER_SET = 0x00080005
ACCESSION_NUMBER = 0x00080050
PATIENT_NAME = 0x00100010
PATIENT_ID = 0x00100020
ISSUER = 0x00100021
BIRTH_DATE = 0x00100030
SEX = 0x00100040
AGE = 0x00101010
DEVICE_UID = 0x00181002
CONTRIBUTING_EQUIPMENT = 0x0018A001
SOP_CLASS_UID = 0x00080016
SOP_INSTANCE_UID = 0x00080018
MODALITY = 0x00080060
MANUFACTURER = 0x00080070
CODING_SCHEMES = 0x00080110
STUDY_DATE = 0x00080020
STUDY_DESCRIPTION = 0x00081030
SERIES_DESCRIPTION = 0x0008103E
MODEL_NAME = 0x00081090
STUDY_UID = 0x0020000D
SERIES_UID = 0x0020000E

KEYS = (SOP_CLASS_UID, SOP_INSTANCE_UID, STUDY_UID)
OWN_MARKS = (MANUFACTURER, CODING_SCHEMES, MODEL_NAME, SERIES_UID)
WANTED = (
    CHARACTER_SET, MODALITY, MANUFACTURER, CODING_SCHEMES, STUDY_DESCRIPTION, SERIES_DESCRIPTION,
    MODEL_NAME, SERIES_UID, ACCESSION_NUMBER, PATIENT_NAME, PATIENT_ID, ISSUER, BIRTH_DATE, DEVICE_UID,
    CONTRIBUTING_EQUIPMENT, STUDY_DATE, SEX, AGE, *KEYS,
)  # fmt: skip

DAYS_A_YEAR = 365.25

_LONGEST_AGE = 9  # digits; more might be no number that a float can hold
_NOT_PRINTED = re.compile(r"[\x00-\x1f\x7f]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """What identifies an instance: its class, its own UID and its study's."""

    sop_class_uid: str
    sop_instance_uid: str
    study_uid: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Whom an instance is about, as it says; empty or None where it says nothing.

    Attributes
    ----------
    name : str
        Person name (PS3.5 6.2.1): components divided by ``^``, groups by ``=``.
    patient_id, issuer : str
    birth_date : date or None
    age_years : float or None
        At the time of the study: as stated, else from the dates.
    sex : str
        ``M``, ``F``, ``O`` or empty.
    """

    name: str
    patient_id: str
    issuer: str
    birth_date: date | None
    age_years: float | None
    sex: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedHeader:
    """What the intake asks of one instance. UIDs, accession number and patient never leave the process.

    Attributes
    ----------
    study_uid, series_uid, sop_class_uid, sop_instance_uid, transfer_syntax_uid : str
    modality, study_description, series_description, manufacturer : str
        Empty where unstated.
    is_own : bool
        One of Vigil's results, come back.
    sender : str
        AE title that sent it to us, from (0002,0016).
    accession_number : str
        Empty where unstated.
    patient : tuple of str
        Id with its issuer, birth date, and name without case and punctuation; each empty where unstated.
    person : Person
    device_uids : frozenset of str
        Of the equipment that made the object or contributed to it.
    """

    study_uid: str
    series_uid: str
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    modality: str
    study_description: str
    series_description: str
    manufacturer: str
    is_own: bool
    sender: str
    accession_number: str
    patient: tuple[str, str, str]
    person: Person
    device_uids: frozenset[str]


def read_header(path: Path) -> ReceivedHeader:
    """Header of a spooled instance.

    Raises
    ------
    UnreadableInstanceError
        If the file is no Part 10 file, or its data set cannot be walked.
    OSError
        If the file cannot be read.
    """
    with path.open("rb") as file:
        meta = read_file_meta(file)
        syntax = text_of(meta, TRANSFER_SYNTAX_UID)
        found = scan(file, syntax, WANTED)
    encodings = encodings_of(found.get(CHARACTER_SET, b""))
    return ReceivedHeader(
        study_uid=text_of(found, STUDY_UID),
        series_uid=text_of(found, SERIES_UID),
        sop_class_uid=text_of(found, SOP_CLASS_UID),
        sop_instance_uid=text_of(found, SOP_INSTANCE_UID),
        transfer_syntax_uid=syntax,
        modality=text_of(found, MODALITY).upper(),
        study_description=prose(found, STUDY_DESCRIPTION, encodings),
        series_description=prose(found, SERIES_DESCRIPTION, encodings),
        manufacturer=prose(found, MANUFACTURER, encodings),
        is_own=_is_own(found),
        sender=text_of(meta, SOURCE_AET),
        accession_number=prose(found, ACCESSION_NUMBER, encodings),
        patient=_patient(found, encodings),
        person=_person(found, encodings),
        device_uids=_devices(found),
    )


def read_keys(file: BinaryIO, transfer_syntax_uid: str) -> Keys:
    """Keys of the data set that begins at the file's position.

    Raises
    ------
    UnreadableInstanceError
        If the data set cannot be walked, or lacks a key that is a proper UID.
    """
    return _keys(scan(file, transfer_syntax_uid, KEYS))


def _is_own(found: dict[int, bytes]) -> bool:
    return is_own_mark(
        manufacturer=text_of(found, MANUFACTURER),
        model_name=text_of(found, MODEL_NAME),
        schemes=tuple(_designators(found.get(CODING_SCHEMES, b""))),
        sop_instance_uid=text_of(found, SOP_INSTANCE_UID),
        series_uid=text_of(found, SERIES_UID),
    )


def _keys(found: dict[int, bytes]) -> Keys:
    keys = [text_of(found, tag) for tag in KEYS]
    if not all(is_uid(key) for key in keys):
        raise UnreadableInstanceError("SOP class, SOP instance or study UID is missing or malformed")
    return Keys(sop_class_uid=keys[0], sop_instance_uid=keys[1], study_uid=keys[2])


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """What an instance is, read before anything else is asked of it.

    Attributes
    ----------
    keys : Keys
    syntax : str
        Transfer syntax UID.
    is_own : bool
        One of Vigil's results.
    """

    keys: Keys
    syntax: str
    is_own: bool


def read_mark(file: BinaryIO) -> Mark:
    """Mark of a Part 10 file.

    Raises
    ------
    UnreadableInstanceError
        If it is none, or lacks a key that is a proper UID.
    """
    syntax = text_of(read_file_meta(file), TRANSFER_SYNTAX_UID)
    found = scan(file, syntax, (*KEYS, *OWN_MARKS))
    return Mark(keys=_keys(found), syntax=syntax, is_own=_is_own(found))


def _patient(found: dict[int, bytes], encodings: list[str]) -> tuple[str, str, str]:
    number = prose(found, PATIENT_ID, encodings)
    # Senders differ in how they write a name down; only its letters tell patients apart.
    name = prose(found, PATIENT_NAME, encodings).partition("=")[0]
    letters = "".join(character for character in name.casefold() if character.isalnum())
    issuer = prose(found, ISSUER, encodings)
    return f"{number}\x1f{issuer}" if number else "", text_of(found, BIRTH_DATE), letters


def _person(found: dict[int, bytes], encodings: list[str]) -> Person:
    birth, study = _date(text_of(found, BIRTH_DATE)), _date(text_of(found, STUDY_DATE))
    age = age_years(text_of(found, AGE))
    if age is None and birth is not None and study is not None and study >= birth:
        age = (study - birth).days / DAYS_A_YEAR
    sex = text_of(found, SEX).upper()
    return Person(
        name=prose(found, PATIENT_NAME, encodings),
        patient_id=prose(found, PATIENT_ID, encodings),
        issuer=prose(found, ISSUER, encodings),
        birth_date=birth,
        age_years=age,
        sex=sex if sex in {"M", "F", "O"} else "",
    )


def age_years(age: str) -> float | None:
    """Years of an Age String such as ``031Y`` (PS3.5 6.2); None for anything else."""
    number, unit = age[:-1], age[-1:]
    days = {"D": 1.0, "W": 7.0, "M": 30.44, "Y": DAYS_A_YEAR}.get(unit)
    is_number = number.isdecimal() and len(number) <= _LONGEST_AGE
    return int(number) * days / DAYS_A_YEAR if days and is_number else None


def _date(text: str) -> date | None:
    """Date of a DA value; None for anything else."""
    with suppress(ValueError):
        return datetime.strptime(text, "%Y%m%d").date()  # noqa: DTZ007 - a date has no zone
    return None


def _devices(found: dict[int, bytes]) -> frozenset[str]:
    """Device UIDs, those of the contributing equipment's raw items among them.

    What follows the header of an element (0018,1002), explicit or implicit, up to its length.
    """
    nested = re.findall(
        rb"\x18\x00\x02\x10(?:UI)?[\x00-\x40]\x00(?:\x00\x00)?([0-9.]{1,64})",
        found.get(CONTRIBUTING_EQUIPMENT, b""),
    )
    uids = {uid.decode("ascii") for uid in nested} | {text_of(found, DEVICE_UID)}
    return frozenset(uids - {""})


def prose(found: dict[int, bytes], tag: int, encodings: list[str]) -> str:
    """Value in the data set's character set, on one line; what is far too long is cut."""
    value = found.get(tag, b"")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what cannot be decoded is replaced; the data set is not ours
        try:
            text = decode_bytes(value, encodings, TEXT_VR_DELIMS)
        except (LookupError, UnicodeError):  # any name that Python knows counts, also of what is no text
            text = value.decode("ascii", "replace")
    # Halves of characters, which some of those give, are no text for a database.
    return _NOT_PRINTED.sub(" ", text.encode(errors="replace").decode()).strip()[:LONGEST_TEXT]


def encodings_of(value: bytes) -> list[str]:
    """Python's names of the character sets that (0008,0005) states."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return convert_encodings([part.strip() for part in value.decode("ascii", "replace").split("\\")])
        except (LookupError, ValueError):
            return ["iso8859"]


def _designators(items: bytes) -> list[str]:
    """Coding scheme designators among the raw items of (0008,0110).

    Every VR of the sequence's short attributes is text, so a search between the delimiters of the element
    (0008,0102) is exact enough: what follows the eight bytes of its header, up to its length.
    """
    return [
        match.group(1).decode("ascii", "replace").strip("\0 ")
        for match in re.finditer(rb"\x08\x00\x02\x01(?:SH)?[\x00-\x10]\x00(?:\x00\x00)?([ -~]{1,16})", items)
    ]
