"""Volumes as compressed NIfTI-1, for viewers: values and place, and nothing of who it is."""

import zlib
from collections.abc import Iterable, Iterator

import nibabel as nib
import numpy as np
from numpy.typing import DTypeLike, NDArray

MEDIA_TYPE = "application/gzip"
LEVELS = 255  # of the stored map: 0 to 1 in 256 steps
_GZIP = 16 + zlib.MAX_WBITS  # RFC 1952 around the stream; its time is 0, so the same bytes come out again
_SPEED = 3  # zlib level: made while a person waits
_OFFSET = 352  # first voxel: header and four bytes that say that no extension follows (NIfTI-1, 2003)
_MILLIMETRES = "mm"
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_REVERSE = [2, 1, 0, 3]  # our index is (slice, row, column), theirs (column, row, slice)


def of_voxels(voxels: NDArray[np.float32], affine: NDArray[np.float64]) -> Iterator[bytes]:
    """Volume in 16 bits, slice by slice.

    Whole values within 16 bits stay what they are; others are spread evenly between the least and the
    greatest. What is not a finite number counts as the least.

    Parameters
    ----------
    voxels : float32, shape (slices, rows, columns)
        Modality units.
    affine : float64, shape (4, 4)
        Voxel index (slice, row, column) to patient millimetres, LPS.
    """
    low, high, is_whole = _range_of(voxels)
    limits = np.iinfo(np.int16)
    if is_whole and limits.min <= low and high <= limits.max:
        slope, inter = 1.0, 0.0
    else:
        slope = max(high - low, float(np.finfo(np.float32).tiny)) / (limits.max - limits.min)
        inter = low - slope * limits.min

    def stored() -> Iterator[bytes]:
        for plane in voxels:
            values = (
                np.nan_to_num(plane.astype(np.float64), nan=low, posinf=low, neginf=low) - inter
            ) / slope
            yield np.clip(values.round(), limits.min, limits.max).astype("<i2").tobytes()

    yield from _compressed(_header(voxels.shape, affine, "<i2", slope, inter), stored())


def of_map(values: NDArray[np.float32], affine: NDArray[np.float64]) -> Iterator[bytes]:
    """Anomaly map in 256 steps, slice by slice; a step is never above its value.

    Parameters
    ----------
    values : float32, shape (slices, rows, columns)
        0 to 1.
    affine : float64, shape (4, 4)
        Voxel index (slice, row, column) to patient millimetres, LPS.
    """
    stored = ((np.clip(plane, 0.0, 1.0) * LEVELS).astype(np.uint8).tobytes() for plane in values)
    yield from _compressed(_header(values.shape, affine, "u1", 1 / LEVELS, 0.0), stored)


def _range_of(voxels: NDArray[np.float32]) -> tuple[float, float, bool]:
    """Least and greatest finite value, and whether all of them are whole."""
    low, high, is_whole = np.inf, -np.inf, True
    for plane in voxels:
        finite = plane[np.isfinite(plane)]
        if finite.size:
            low, high = min(low, float(finite.min())), max(high, float(finite.max()))
            is_whole = is_whole and bool((finite == np.rint(finite)).all())
    return (low, high, is_whole) if low <= high else (0.0, 0.0, True)


def _header(
    shape: tuple[int, ...], affine: NDArray[np.float64], kind: DTypeLike, slope: float, inter: float
) -> bytes:
    header = nib.Nifti1Header(endianness="<")
    header.set_data_dtype(kind)
    header.set_data_shape(shape[::-1])
    header.set_slope_inter(slope, inter)
    header.set_xyzt_units(_MILLIMETRES)
    placed = (_LPS_TO_RAS @ affine)[:, _REVERSE]
    header.set_sform(placed, code="scanner")
    header["pixdim"][1:4] = np.linalg.norm(placed[:3, :3], axis=0)
    header["vox_offset"] = _OFFSET
    block = bytes(header.binaryblock)
    return block + b"\0" * (_OFFSET - len(block))


def _compressed(header: bytes, planes: Iterable[bytes]) -> Iterator[bytes]:
    press = zlib.compressobj(_SPEED, zlib.DEFLATED, _GZIP)
    yield press.compress(header)
    for plane in planes:
        yield press.compress(plane)
    yield press.flush()
