"""Stored values must fit the bits that the header declares (PS3.5 8.1.1).

Decoding masks the bits above those stored. That is right for the overlays of old, for signs and for a pattern
that is the same everywhere; where real values reach beyond, it would wrap the brightest into the darkest.
"""

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset

from dicom_node.errors import NotAVolumeError
from dicom_node.pixels import DECODE_ERRORS, Stored
from models.errors import Reason

WORD = 16  # bits; whatever is stored in fewer leaves some of them unused


def check_bits(dataset: FileDataset, stored: Stored) -> None:
    """Pass, or say that values lie beyond the declared bits.

    Parameters
    ----------
    dataset : FileDataset
        With its pixels.
    stored : array
        The same, decoded.

    Raises
    ------
    NotAVolumeError
        OUT_OF_RANGE; UNDECODABLE where the header declares no usable bits.
    """
    if "PixelData" not in dataset:  # float pixels have no bits stored
        return
    try:
        is_within = _decoded_fit(dataset, stored) and _unused_bits_are_still(dataset, stored.size)
    except DECODE_ERRORS:
        raise NotAVolumeError(Reason.UNDECODABLE, "The header declares no usable bits.") from None
    if not is_within:
        raise NotAVolumeError(Reason.OUT_OF_RANGE, "Stored values lie beyond the bits the header declares.")


def _decoded_fit(dataset: FileDataset, stored: Stored) -> bool:
    """Whether every decoded value can be written in the bits stored."""
    bits = int(dataset.BitsStored)
    least = -(1 << (bits - 1)) if int(dataset.PixelRepresentation) == 1 else 0
    return not stored.size or least <= int(stored.min()) <= int(stored.max()) < least + (1 << bits)


def _unused_bits_are_still(dataset: FileDataset, count: int) -> bool:
    """Whether the bits beyond those stored are the same in every word, or in every word of one sign."""
    bits, high = int(dataset.BitsStored), int(dataset.HighBit)
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax.is_compressed or int(dataset.BitsAllocated) != WORD or bits == WORD:
        return True
    words = np.frombuffer(dataset.PixelData, dtype="<u2" if syntax.is_little_endian else ">u2")[:count]
    unused = np.uint16(0xFFFF & ~(((1 << bits) - 1) << (high + 1 - bits)))
    above = words & unused & ~_overlay_bits(dataset)
    if int(dataset.PixelRepresentation) != 1:
        return _is_one(above)
    sign = (words >> np.uint16(high)) & np.uint16(1)
    return _is_one(above[sign == 0]) and _is_one(above[sign == 1])


def _is_one(words: NDArray[np.uint16]) -> bool:
    return bool((words == words[:1]).all())


def _overlay_bits(dataset: Dataset) -> np.uint16:
    """Bits of a word that hold overlay planes, in the retired way of repeating group 60xx (PS3.3 C.9.2)."""
    bits = 0
    for group in range(0x6000, 0x6020, 2):
        allocated, position = dataset.get((group, 0x0100)), dataset.get((group, 0x0102))
        if allocated is not None and position is not None and int(allocated.value) == WORD:
            bits |= 1 << int(position.value)
    return np.uint16(bits & 0xFFFF)
