"""DICOM JSON of a stored object (PS3.18 annex F). Long values are named by an address, not written out."""

import json
import math
import re
import warnings
from pathlib import Path
from typing import Any

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.uid import ParametricMapStorage

from dicom_node.header import PARSE_ERRORS, read_dataset

LONGEST_INLINE = 1024  # bytes
TRAIL = re.compile(r"[0-9A-F]{8}(/[0-9]{1,6}/[0-9A-F]{8}){0,15}")  # tag, or tag, item, tag, ...
UTF8 = "ISO_IR 192"
_BULKY = frozenset(("OB", "OD", "OF", "OL", "OV", "OW", "UN", "UT", "LT", "ST", "UC", "UR"))
_BYTES = frozenset(("OB", "OD", "OF", "OL", "OV", "OW", "UN"))
_CHARACTER_SET, _SYNTAXES = "00080005", "00083002"


def read_metadata(path: Path, *, address: str) -> dict[str, Any]:
    """Every attribute of a stored object but its long values.

    Parameters
    ----------
    path : Path
    address : str
        What stands before the trail of a long value.

    Returns
    -------
    dict
        The DICOM JSON model.

    Raises
    ------
    UnreadableInstanceError
        If the file cannot be parsed.
    """
    dataset = read_dataset(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        document = _object(dataset, f"{address}/")
    document[_CHARACTER_SET] = {"vr": "CS", "Value": [UTF8]}
    document[_SYNTAXES] = {"vr": "UI", "Value": [str(dataset.file_meta.TransferSyntaxUID)]}
    if "Rows" in dataset and "Columns" in dataset:
        tag, vr = _pixels(dataset)
        document[tag] = {"vr": vr, "BulkDataURI": f"{address}/{tag}"}
    return dict(sorted(document.items()))


def encode_metadata(document: dict[str, Any]) -> bytes:
    """Write a document as JSON; numbers that JSON lacks stand as texts (PS3.18 F.2.4)."""
    try:
        text = json.dumps(document, separators=(",", ":"), allow_nan=False)
    except ValueError:
        text = json.dumps(_spelled(document), separators=(",", ":"), allow_nan=False)
    return text.encode()


def read_bulk(path: Path, trail: str) -> bytes:
    """Value that an address names.

    Parameters
    ----------
    path : Path
    trail : str
        As `TRAIL` says.

    Raises
    ------
    KeyError
        If the object has no such value.
    UnreadableInstanceError
        If it cannot be parsed.
    """
    if not TRAIL.fullmatch(trail):
        raise KeyError("no such value")
    steps = trail.split("/")
    found: Any = read_dataset(path)
    try:
        for tag, item in zip(steps[:-1:2], steps[1::2], strict=True):
            found = found[int(tag, 16)].value[int(item)]
        value = found[int(steps[-1], 16)].value
    except PARSE_ERRORS:  # an element that is not there, and one that is no sequence
        raise KeyError("no such value") from None
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode()
    raise KeyError("no such value")


def _object(dataset: Dataset, address: str) -> dict[str, Any]:
    document = {}
    for tag in dataset.keys():  # noqa: SIM118 - iterating a data set parses elements, and one may be damaged
        if tag.element == 0:  # a group's length says nothing here
            continue
        try:
            element = dataset[tag]
            document[f"{int(tag):08X}"] = _value(element, f"{address}{int(tag):08X}")
        except PARSE_ERRORS:
            continue  # a value that is none of its kind has no place in JSON
    return document


def _value(element: DataElement, address: str) -> dict[str, Any]:
    if element.VR == "SQ":
        items = [_object(item, f"{address}/{number}/") for number, item in enumerate(element.value)]
        return {"vr": "SQ", "Value": items} if items else {"vr": "SQ"}
    value = element.value
    if element.VR in _BULKY and isinstance(value, (bytes, str)) and len(value) > LONGEST_INLINE:
        return {"vr": element.VR, "BulkDataURI": address}
    if element.VR in _BYTES and not value:
        return {"vr": element.VR}
    return dict(element.to_json_dict(None, bulk_data_threshold=LONGEST_INLINE))


def _pixels(dataset: Dataset) -> tuple[str, str]:
    """Tag and VR of the pixels: only a parametric map's may be numbers with a point (PS3.3 C.7.6.24)."""
    stated = dataset.get("BitsAllocated")
    bits = stated if isinstance(stated, int) else 0  # one bad value is not the end of a study's metadata
    if dataset.get("SOPClassUID") == ParametricMapStorage and bits > 16:  # noqa: PLR2004 - bits of a float
        return ("7FE00008", "OF") if bits == 32 else ("7FE00009", "OD")  # noqa: PLR2004 - bits of a float
    return "7FE00010", "OW" if bits > 8 else "OB"  # noqa: PLR2004 - bits of a byte


def _spelled(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _spelled(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_spelled(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value
