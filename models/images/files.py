"""Opening picture files: bounded in size, nothing executed, every failure with the file's name."""

import gzip
import math
import zipfile
import zlib
from pathlib import Path

import nibabel
import numpy as np
from nibabel.filebasedimages import ImageFileError
from numpy.typing import NDArray
from PIL import Image

from models.errors import DatasetError

LARGEST_VALUES = 2**28  # One file: a CT of 1000 slices of 512 x 512.

READ_ERRORS = (OSError, ValueError, EOFError, zlib.error, zipfile.BadZipFile, ImageFileError)


def read_image(path: Path) -> NDArray[np.float32]:
    """A PNG or JPEG, shape (1, channels, rows, columns), in [0, 1] of the format's range.

    Raises
    ------
    DatasetError
        If the file is missing, too large or not readable.
    """
    try:
        with Image.open(path, formats=("PNG", "JPEG")) as image:
            _check_size(path, image.width * image.height)
            plain = image.mode in {"L", "RGB", "I;16"}
            target = "RGB" if image.mode in {"P", "RGBA", "CMYK", "YCbCr"} else "L"
            values = np.asarray(image if plain else image.convert(target))
    except (*READ_ERRORS, Image.DecompressionBombError) as error:
        raise _unreadable(path, error) from error
    planes = values[None] if values.ndim == 2 else values.transpose(2, 0, 1)  # noqa: PLR2004 - grey
    return as_brightness(planes[None], path)


def read_arrays(path: Path, names: tuple[str, ...]) -> dict[str, NDArray[np.generic]]:
    """Arrays of an npz file, by name.

    Raises
    ------
    DatasetError
        If the file or an array is missing, too large or not readable.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            missing = sorted(set(names) - set(archive.files))
            if missing:
                raise DatasetError(f"{path.name}: no array {missing[0]}; it has {', '.join(archive.files)}")
            return {name: _array(archive, name, path) for name in names}
    except READ_ERRORS as error:
        raise _unreadable(path, error) from error


def npz_names(path: Path) -> set[str]:
    """Names of the arrays of an npz file.

    Raises
    ------
    DatasetError
        If the file is missing or not an npz file.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            return set(archive.files)
    except READ_ERRORS as error:
        raise _unreadable(path, error) from error


def _array(archive: np.lib.npyio.NpzFile, name: str, path: Path) -> NDArray[np.generic]:
    """One array, after its header was held against what the archive really holds."""
    entry = archive.zip.getinfo(f"{name}.npy")  # type: ignore[union-attr]  # open until the block ends
    with archive.zip.open(entry) as stream:  # type: ignore[union-attr]
        version = np.lib.format.read_magic(stream)
        read_header = (
            np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        )
        shape, _, dtype = read_header(stream)
    count = math.prod(shape)
    _check_size(path, count)
    if count * dtype.itemsize > entry.file_size:
        raise DatasetError(f"{path.name}: array {name} is shorter than its header says; make the file anew")
    return np.asarray(archive[name])


def read_nifti(path: Path) -> NDArray[np.float32]:
    """Axial slices of a NIfTI volume as seen on a screen, shape (slices, 1, rows, columns), in [0, 1].

    Slices from the feet to the head, rows from the front to the back, columns from the patient's right to
    the left.

    Raises
    ------
    DatasetError
        If the file is missing, not three-dimensional, too large or not readable.
    """
    try:
        image = nibabel.load(path)
        _check_size(path, math.prod(image.shape))
        values = np.asarray(nibabel.as_closest_canonical(image).dataobj)
    except READ_ERRORS as error:
        raise _unreadable(path, error) from error
    if values.ndim == 4 and values.shape[3] == 1:  # noqa: PLR2004 - one time point is a volume
        values = values[..., 0]
    if values.ndim != 3:  # noqa: PLR2004 - a volume
        raise DatasetError(f"{path.name}: shape {values.shape} is not that of one volume")
    return as_brightness(values.transpose(2, 1, 0)[:, None, ::-1, ::-1], path)


def read_idx(path: Path) -> NDArray[np.uint8]:
    """A gzipped idx file of bytes (LeCun's MNIST format): two zeros, type 8, dimensions, sizes, values.

    Raises
    ------
    DatasetError
        If the file is missing, of another type, too large or cut short.
    """
    try:
        with gzip.open(path, "rb") as file:
            head = file.read(4)
            if len(head) < 4 or head[:3] != b"\0\0\x08":  # noqa: PLR2004 - length of the head
                raise DatasetError(f"{path.name}: not an idx file of bytes")
            shape = tuple(np.frombuffer(file.read(4 * head[3]), dtype=">u4").astype(int).tolist())
            count = math.prod(shape)
            _check_size(path, count)
            values = file.read(count)
    except READ_ERRORS as error:
        raise _unreadable(path, error) from error
    if len(values) != count:
        raise DatasetError(f"{path.name}: cut short after {len(values)} of {count} values; fetch it again")
    return np.frombuffer(values, dtype=np.uint8).reshape(shape)


def as_brightness(values: NDArray[np.generic], path: Path) -> NDArray[np.float32]:
    """Values as brightness in [0, 1]: bytes and 16-bit pictures by their range, others by their own extent.

    Raises
    ------
    DatasetError
        If a value is not finite.
    """
    if values.dtype == np.uint8:
        return np.asarray(values, dtype=np.float32) / np.float32(255)
    if values.dtype == np.uint16:
        return np.asarray(values, dtype=np.float32) / np.float32(65535)
    numbers = np.asarray(values, dtype=np.float32)
    if not np.isfinite(numbers).all():
        raise DatasetError(f"{path.name}: holds values that are not finite; repair or leave the file out")
    return scaled(numbers)


def scaled(numbers: NDArray[np.float32]) -> NDArray[np.float32]:
    """The lowest value as 0 and the highest as 1; a constant array as 0."""
    low, high = (float(numbers.min()), float(numbers.max())) if numbers.size else (0.0, 0.0)
    scale = np.float32(1 / (high - low)) if high > low else np.float32(0)
    return np.asarray((numbers - np.float32(low)) * scale, dtype=np.float32)


def _check_size(path: Path, values: int) -> None:
    if values > LARGEST_VALUES:
        raise DatasetError(f"{path.name}: {values} values; at most {LARGEST_VALUES} are read from one file")


def _unreadable(path: Path, error: Exception) -> DatasetError:
    if isinstance(error, FileNotFoundError):
        return DatasetError(
            f"{path.name}: no such file in {path.parent.name}; restore it or take its row out"
        )
    return DatasetError(f"{path.name}: cannot be read ({type(error).__name__}); restore the file")
