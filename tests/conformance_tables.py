"""Writes tables of the conformance statement from the code: ``python -m tests.conformance_tables``."""

import re
import sys
from collections.abc import Mapping
from pathlib import Path

from pydicom.charset import python_encoding
from pydicom.sr.coding import Code
from pydicom.uid import UID

import dicom_node
from dicom_node.contexts import storage_classes
from dicom_node.identity import CODING_SCHEME
from dicom_node.results import codes
from service.messages import concepts

STATEMENT = Path(dicom_node.__file__).parent / "CONFORMANCE.md"
BETWEEN = "<!-- {name}: made by `python -m tests.conformance_tables` -->"


def classes() -> str:
    rows = [f"| {UID(uid).name} | {uid} |" for uid in sorted(storage_classes(), key=_by_number)]
    return "\n".join(("| SOP class | UID |", "|---|---|", *rows)) + "\n"


def private_codes() -> str:
    """Every concept of our scheme, of result objects and of messages."""
    found: dict[str, str] = {}
    for module in (codes, concepts):
        for value in vars(module).values():
            for code in value.values() if isinstance(value, Mapping) else [value]:
                if isinstance(code, Code) and code.scheme_designator == CODING_SCHEME:
                    found.setdefault(code.value, code.meaning)
    rows = [f"| `{value}` | {meaning} |" for value, meaning in sorted(found.items())]
    return "\n".join(("| code | meaning |", "|---|---|", *rows)) + "\n"


def character_sets() -> str:
    """Every defined term that is decoded."""
    terms = sorted(term for term in python_encoding if term.startswith(("ISO", "GB")))
    return ", ".join(f"`{term}`" for term in terms) + "\n"


TABLES = {
    "storage classes": classes,
    "private codes": private_codes,
    "character sets": character_sets,
}


def statement() -> str:
    """Return the statement as it is, with each table as it should be."""
    text = STATEMENT.read_text(encoding="utf-8")
    for name, table in TABLES.items():
        begin, end = BETWEEN.format(name=name), f"<!-- end of {name} -->"
        pattern = re.compile(rf"(?<={re.escape(begin)}\n).*?(?={re.escape(end)})", re.DOTALL)
        before, place, after = pattern.split(text)[0], pattern.search(text), pattern.split(text)[-1]
        if place is None:
            raise SystemExit(f"{STATEMENT.name} has no place for {name}")
        text = f"{before}\n{table()}\n{after}"
    return text


def _by_number(uid: str) -> tuple[int, ...]:
    return tuple(int(part) for part in uid.split("."))


def main() -> None:
    """Write the tables."""
    STATEMENT.write_text(statement(), encoding="utf-8")
    sys.stdout.write(f"written: {STATEMENT.name}\n")


if __name__ == "__main__":
    main()
