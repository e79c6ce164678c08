"""Keys of a data set by one look forward over its first elements.

`keys.read_keys` is the judge: whatever this scan does not plainly understand is left to it.
"""

import io
import struct
from collections.abc import Mapping

from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian

from dicom_node.elements import LONG_VRS, SHORT_VRS
from dicom_node.identity import is_uid
from dicom_node.keys import KEYS, Keys, read_keys

_LAST, _KEYS = max(KEYS), frozenset(KEYS)
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
    """Keys on the top level; None where the walker of `elements` understands more."""
    found: dict[int, str] = {}
    vr = bytes(data[4:6])
    is_explicit = vr in SHORT_VRS or vr in LONG_VRS  # some senders announce the other encoding
    at, size = 0, len(data)
    for _ in range(_MOST_ELEMENTS):
        if at + _LONGEST_HEAD > size:
            return None
        if is_explicit:
            group, element, vr, length = _EXPLICIT.unpack_from(data, at)
            at += 8
            if vr in LONG_VRS:
                (length,) = _LENGTH.unpack_from(data, at)
                at += 4
            elif vr not in SHORT_VRS:
                return None
        else:
            group, element, length = _IMPLICIT.unpack_from(data, at)
            at += 8
        tag = group << 16 | element
        if tag > _LAST:
            return _keys(found)
        if length > size - at:  # undefined lengths are the longest
            return None
        if tag in _KEYS:
            if length > _LONGEST_UID:
                return None
            found[tag] = str(data[at : at + length], "ascii", "replace").strip("\0 ")
        at += length
    return None


def _keys(found: Mapping[int, str]) -> Keys | None:
    keys = [found.get(tag, "") for tag in KEYS]
    if not all(is_uid(key) for key in keys):
        return None
    return Keys(sop_class_uid=keys[0], sop_instance_uid=keys[1], study_uid=keys[2])
