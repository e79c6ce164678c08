"""Pieces of the DICOM JSON model (PS3.18 annex F) that answers are made of."""

from typing import Any


def element(vr: str, value: Any) -> dict[str, Any]:
    """One attribute with one value, a list of them, or none where there is nothing to say."""
    values = value if isinstance(value, list) else [value]
    stated = [one for one in values if one is not None and one != ""]
    return {"vr": vr, "Value": stated} if stated else {"vr": vr}


def name_element(text: str) -> dict[str, Any]:
    """A person name with its groups (PS3.5 6.2.1.1)."""
    groups = dict(zip(("Alphabetic", "Ideographic", "Phonetic"), text.split("="), strict=False))
    named = {name: group for name, group in groups.items() if group}
    return {"vr": "PN", "Value": [named]} if named else {"vr": "PN"}


def value_in(document: Any, tag: str) -> Any:
    """First value of an attribute of a document that came from outside; None where it has none."""
    found = document.get(tag) if isinstance(document, dict) else None
    values = found.get("Value") if isinstance(found, dict) else None
    return values[0] if isinstance(values, list) and values else None
