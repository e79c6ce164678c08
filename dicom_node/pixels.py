"""Pixels as modality values: decoded, padding found, rescaled (standards: PS3.3 C.7.6.3, C.11.1)."""

import struct
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset
from pydicom.encaps import generate_frames
from pydicom.pixels.processing import apply_modality_lut
from pydicom.pixels.utils import pixel_array

from dicom_node.errors import NotAVolumeError
from dicom_node.header import PARSE_ERRORS
from models.errors import Reason

Stored = NDArray[np.integer[Any]]

RUST_PANIC = "pyo3_runtime"  # module of the exception class, which cannot be imported
DECODE_ERRORS = (*PARSE_ERRORS, RuntimeError)

# How a frame of JPEG 2000, with or without boxes, and of JPEG begins, and the markers of a JPEG's size.
_J2K, _JP2, _JPEG = b"\xff\x4f\xff\x51", b"\x00\x00\x00\x0cjP  ", b"\xff\xd8"
_SIZES = frozenset({*range(0xC0, 0xD0), 0xF7}) - {0xC4, 0xC8, 0xCC}
_ALONE = frozenset({0x00, 0x01, *range(0xD0, 0xD9)})  # markers without a segment
_SPARE = 4  # times the samples of the header: an edge or a channel more is no attack


def decode(dataset: FileDataset) -> Stored:
    """Stored values of all frames, integers of shape (frames, rows, columns).

    Raises
    ------
    NotAVolumeError
        UNDECODABLE: no decoder here can read the pixels, or they are not what the header claims.
    """
    with guarded(lambda name: NotAVolumeError(Reason.UNDECODABLE, f"The pixels cannot be decoded ({name}).")):
        if "PixelData" in dataset and dataset["PixelData"].is_undefined_length:
            tables = dataset.get("ExtendedOffsetTable"), dataset.get("ExtendedOffsetTableLengths")
            for frame in generate_frames(
                dataset.PixelData,
                number_of_frames=int(dataset.get("NumberOfFrames") or 1),
                extended_offsets=None if None in tables else tables,
            ):
                refuse_larger(frame, samples=samples_of(dataset))
        stored = np.asarray(pixel_array(dataset, raw=True))
    return stored.reshape(-1, *stored.shape[-2:])


def samples_of(header: Dataset) -> int:
    """Samples of one frame."""
    return int(header.Rows) * int(header.Columns) * int(header.get("SamplesPerPixel") or 1)


def refuse_larger(frame: bytes, *, samples: int) -> None:
    """Raise ValueError if a compressed frame is far larger than the samples its header says (I13).

    A decoder takes its memory by what the frame says of itself, and two hundred bytes can say gigabytes.
    """
    sizes: list[tuple[int, ...]] = []  # rows, columns, channels
    if frame.startswith((_J2K, _JP2)):
        at = frame.find(_J2K)
        while at >= 0:
            right, bottom, left, top = struct.unpack_from(">4L", frame, at + 8)
            sizes.append((bottom - top, right - left, *struct.unpack_from(">H", frame, at + 40)))
            at = frame.find(_J2K, at + 1) if frame.startswith(_JP2) else -1  # a box may hold what looks so
    elif frame.startswith(_JPEG):
        at = len(_JPEG)
        while not sizes:  # as libjpeg looks for it: whatever stands between two segments is passed over
            at = frame.index(b"\xff", at) + 1
            while frame[at] == 0xFF:  # noqa: PLR2004 - fills
                at += 1
            if frame[at] in _SIZES:
                sizes.append(struct.unpack_from(">HHB", frame, at + 4))
            elif frame[at] not in _ALONE:
                at += int.from_bytes(frame[at + 1 : at + 3])
    if any(rows * columns * channels > _SPARE * samples for rows, columns, channels in sizes):
        raise ValueError("the frame is larger than the header says")


@contextmanager
def guarded(told: Callable[[str], Exception]) -> Iterator[None]:
    """Raise what `told` makes of an error's name where a decoder fails; the cause may quote the file (I9)."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except BaseException as error:
        # A decoder written in Rust panics on a damaged frame, and a panic is no Exception: uncaught, one
        # bad file would end the process.
        if isinstance(error, DECODE_ERRORS) or type(error).__module__ == RUST_PANIC:
            raise told(type(error).__name__) from None
        raise


def padding_of(dataset: Dataset, stored: Stored) -> NDArray[np.bool_] | None:
    """Where the scanner wrote its padding value, compared on stored values (PS3.3 C.7.5.1.1.2).

    Returns
    -------
    bool, shape of `stored`, or None
        None where no padding value is declared.
    """
    value = dataset.get("PixelPaddingValue")
    if value is None:
        return None
    low = _as_stored(int(value), stored)
    limit = dataset.get("PixelPaddingRangeLimit")
    high = low if limit is None else _as_stored(int(limit), stored)
    mask: NDArray[np.bool_] = (stored >= min(low, high)) & (stored <= max(low, high))
    return mask


def is_inverted(dataset: Dataset) -> bool:
    """Whether the least stored value is white, by photometry or by display shape (PS3.3 C.8.11.3)."""
    return bool(
        dataset.get("PhotometricInterpretation") == "MONOCHROME1"
        or dataset.get("PresentationLUTShape") == "INVERSE"
    )


def to_modality_values(
    dataset: Dataset, stored: Stored, rescale: Dataset | None = None
) -> NDArray[np.float32]:
    """Stored values in the modality's unit, larger is brighter.

    Parameters
    ----------
    dataset : Dataset
        The instance: bits, photometric interpretation, rescale or Modality LUT.
    stored : array, shape (rows, columns)
    rescale : Dataset, optional
        Pixel Value Transformation of the frame, in enhanced objects.

    Returns
    -------
    float32, shape of `stored`
    """
    source = dataset if rescale is None else rescale
    values = np.asarray(apply_modality_lut(stored, source), dtype=np.float64)
    if is_inverted(dataset):
        bits, is_signed = int(dataset.BitsStored), int(dataset.PixelRepresentation) == 1
        least = -(1 << (bits - 1)) if is_signed else 0
        ends = np.array([least, least + (1 << bits) - 1], dtype=stored.dtype)
        values = np.asarray(apply_modality_lut(ends, source), dtype=np.float64).sum() - values
    return values.astype(np.float32)


def _as_stored(value: int, stored: Stored) -> int:
    """Padding values are written with either sign (VR US or SS); read them in the pixels' own."""
    if np.issubdtype(stored.dtype, np.signedinteger) and value > np.iinfo(stored.dtype).max:
        return value - (1 << (8 * stored.dtype.itemsize))
    if np.issubdtype(stored.dtype, np.unsignedinteger) and value < 0:
        return value + (1 << (8 * stored.dtype.itemsize))
    return value
