"""Keys of a data set by one look forward over its first elements.

`keys.read_keys` is the judge: whatever this scan does not plainly understand is left to it.
"""

import io
import struct
from collections.abc import Iterator

from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian

from dicom_node.elements import LONG_VRS, SHORT_VRS
from dicom_node.identity import is_uid
from dicom_node.keys import KEYS, Keys, read_keys

_LAST = max(KEYS)
_LONGEST_UID = 66  # bytes, with padding; a longer value is no key
_LONGEST_HEAD = 12  # bytes before a value
_MOST_ELEMENTS = 500  # before the last key; images have some dozens
_EXPLICIT = struct.Struct("<HH2sH")
_IMPLICIT = struct.Struct("<HHL")
_LENGTH = struct.Struct("<L")
_OTHERWISE_ENCODED = (DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian)


def keys_of(data_set: memoryview, transfer_syntax_uid: str) -> Keys:
    """Keys of a data set in memory.

    Raises
    ------
    UnreadableInstanceError
        As `read_keys` does.
    """
    if transfer_syntax_uid not in _OTHERWISE_ENCODED:
        found = _scan(data_set)
        if found is not None:
            return found
    return read_keys(io.BytesIO(data_set), transfer_syntax_uid)


def _scan(data: memoryview) -> Keys | None:
    found: dict[int, str] = {}
    try:
        for tag, at, length in _elements(data):
            if tag > _LAST:
                break
            if tag in KEYS:
                if length > _LONGEST_UID:
                    return None
                found[tag] = str(data[at : at + length], "ascii", "replace").strip("\0 ")
    except _NotPlainError:
        return None
    keys = [found.get(tag, "") for tag in KEYS]
    if not all(is_uid(key) for key in keys):
        return None
    return Keys(sop_class_uid=keys[0], sop_instance_uid=keys[1], study_uid=keys[2])


class _NotPlainError(Exception):
    """The walker of `elements` understands more."""


def _elements(data: memoryview) -> Iterator[tuple[int, int, int]]:
    """Tag, start and length of the values of the top level, up to the last key."""
    vr = bytes(data[4:6])
    is_explicit = vr in SHORT_VRS or vr in LONG_VRS  # some senders announce the other encoding
    at, size = 0, len(data)
    for _ in range(_MOST_ELEMENTS):
        if at + _LONGEST_HEAD > size:
            break
        if not is_explicit:
            group, element, length = _IMPLICIT.unpack_from(data, at)
            at += 8
        else:
            group, element, vr, length = _EXPLICIT.unpack_from(data, at)
            at += 8
            if vr in LONG_VRS:
                (length,) = _LENGTH.unpack_from(data, at)
                at += 4
            elif vr not in SHORT_VRS:
                break
        if length > size - at and group << 16 | element <= _LAST:  # undefined lengths are the longest
            break
        yield group << 16 | element, at, length
        at += length
    raise _NotPlainError
