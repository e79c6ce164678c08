"""The file head that stands before every received data set (PS3.10 section 7.1)."""

import struct
from functools import lru_cache

from dicom_node.elements import PREAMBLE, PREFIX
from dicom_node.identity import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION

_SHORT = struct.Struct("<HH2sH")
_LONG = struct.Struct("<HH2sHL")
_UL = struct.Struct("<L")
_OPENING = b"\0" * PREAMBLE + PREFIX + _SHORT.pack(2, 0x0000, b"UL", 4)  # the length of the group follows


def file_head(*, sop_class: str, sop_instance: str, syntax: str, sender: str) -> bytes:
    """Preamble, prefix and file meta information with the Source AE Title.

    Parameters
    ----------
    sop_class, sop_instance : str
        As the sender announced them, whatever they are.
    syntax : str
        Transfer syntax UID.
    sender : str
        Calling AE title.
    """
    first, last = _of_association(sop_class, syntax, sender)
    instance = _short(0x0003, b"UI", sop_instance, b"\0")
    return _OPENING + _UL.pack(len(first) + len(instance) + len(last)) + first + instance + last


@lru_cache(maxsize=256)
def _of_association(sop_class: str, syntax: str, sender: str) -> tuple[bytes, bytes]:
    """Elements before and after the one that differs from instance to instance."""
    first = _LONG.pack(2, 0x0001, b"OB", 0, 2) + b"\x00\x01" + _short(0x0002, b"UI", sop_class, b"\0")
    last = (
        _short(0x0010, b"UI", syntax, b"\0"),
        _short(0x0012, b"UI", IMPLEMENTATION_CLASS_UID, b"\0"),
        _short(0x0013, b"SH", IMPLEMENTATION_VERSION, b" "),
        _short(0x0016, b"AE", sender, b" "),
    )
    return first, b"".join(last)


def _short(element: int, vr: bytes, text: str, padding: bytes) -> bytes:
    value = text.encode("ascii", "replace")
    value += padding * (len(value) % 2)
    return _SHORT.pack(2, element, vr, len(value)) + value
