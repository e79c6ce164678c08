r"""Writing of HL7 v2.5.1: segments, composites and escapes (chapter 2.7), in UTF-8.

Whatever comes from outside goes through `text`, so that no name can end a field or begin a segment.
"""

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime
from decimal import Decimal

from pydicom.sr.coding import Code

from service.access import Identity

CHARACTER_SET = "UNICODE UTF-8"  # table 0211, MSH-18
_ESCAPES = str.maketrans({"\\": "\\E\\", "|": "\\F\\", "^": "\\S\\", "~": "\\R\\", "&": "\\T\\"})
_ESCAPED = re.compile(r"\\([^\\]*)\\")
_MARKS = {"E": "\\", "F": "|", "S": "^", "R": "~", "T": "&"}
_REPRESENTATIONS = ("A", "I", "P")  # alphabetic, ideographic, phonetic: the order of DICOM's groups


def text(value: str) -> str:
    """Return a value with its separators escaped; control characters, which MLLP frames with, are spaces."""
    return "".join(letter if letter.isprintable() else " " for letter in value).strip().translate(_ESCAPES)


def unescaped(value: str) -> str:
    r"""Return a value that came with its escapes undone; those that only say how it is shown are left out.

    Not by the library: it repeats ``\\.sp999999999\\`` as often as it says, and logs the value of what it
    cannot read.
    """
    return _ESCAPED.sub(lambda found: _letters(found[1]), value)


def composite(*parts: str) -> str:
    """Join components; each is escaped."""
    return "^".join(text(part) for part in parts).rstrip("^")


def coded(code: Code) -> str:
    """CWE of a concept."""
    return composite(code.value, code.meaning, code.scheme_designator)


def number(value: float) -> str:
    """NM: six digits, for it takes 16 characters, and no exponent, which it does not know."""
    return f"{Decimal(f'{value:.6g}'):f}"


def timestamp(at: datetime) -> str:
    """TS with seconds and zone."""
    return at.astimezone(UTC).strftime("%Y%m%d%H%M%S+0000")


def day(at: date | None) -> str:
    """TS of a day; empty where it is unknown."""
    return at.strftime("%Y%m%d") if at else ""


def segment(name: str, fields: Mapping[int, str]) -> str:
    """Return one segment of fields by their number; those not given are empty."""
    last = max((number for number, value in fields.items() if value), default=0)
    return "|".join([name, *(fields.get(index, "") for index in range(1, last + 1))])


def header(fields: Mapping[int, str]) -> str:
    r"""MSH: its first field is the separator, its second ``^~\&``."""
    last = max(fields)
    return "|".join(["MSH", "^~\\&", *(fields.get(index, "") for index in range(3, last + 1))])


def person_name(name: str) -> str:
    """XPN of a DICOM person name: one repetition for each of its groups.

    DICOM (PS3.5 6.2.1.1) puts the prefix before the suffix, HL7 after it.
    """
    written = []
    for group, representation in zip(name.split("="), _REPRESENTATIONS, strict=False):
        family, given, middle, prefix, suffix = ([*group.split("^"), "", "", "", "", ""])[:5]
        if any((family, given, middle)):
            parts = (family, given, middle, suffix, prefix, "", "L", representation)
            written.append("^".join(text(part) for part in parts))
    return "~".join(written)


def patient_id(identity: Identity) -> str:
    """CX of a patient id with who gave it."""
    return composite(identity.patient_id, "", "", identity.issuer, "PI") if identity.patient_id else ""


def _letters(code: str) -> str:
    if code.startswith("X"):  # bytes by their hexadecimal digits (2.7.5)
        try:
            return bytes.fromhex(code[1:]).decode("latin-1")
        except ValueError:
            return ""
    return _MARKS.get(code, "")
