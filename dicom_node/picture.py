"""Frames of our own secondary captures, for a screen. Imports neither highdicom nor the network."""

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom import dcmread
from pydicom.errors import InvalidDicomError
from pydicom.pixels.utils import pixel_array

from dicom_node.errors import UnreadableInstanceError

SPEED = 1  # zlib level: a picture is looked at once, on the same machine or network


def read_frame(path: Path, index: int) -> NDArray[np.uint8]:
    """One frame of a multi-frame colour object; the other frames are neither read nor decoded.

    Parameters
    ----------
    path : Path
    index : int
        From 0.

    Returns
    -------
    uint8, shape (rows, columns, 3)
        Red, green, blue.

    Raises
    ------
    IndexError
        If there is no such frame.
    UnreadableInstanceError
        If the file is not a colour object that can be decoded.
    OSError
        If there is no such file.
    """
    try:
        header = dcmread(path, stop_before_pixels=True)
        frames = int(header.get("NumberOfFrames") or 1)
        if header.get("SamplesPerPixel") != 3 or header.get("BitsAllocated") != 8:  # noqa: PLR2004 - RGB bytes
            raise UnreadableInstanceError("the object does not hold 8-bit colour")
        if not 0 <= index < frames:
            raise IndexError(f"frame {index} of {frames}")
        return np.asarray(pixel_array(path, index=index), dtype=np.uint8)
    except (InvalidDicomError, ValueError, RuntimeError, AttributeError, NotImplementedError):
        # The cause may quote the data set, so it is not carried on (I9).
        raise UnreadableInstanceError("the frame cannot be decoded") from None


def shrink(picture: NDArray[np.uint8], longest: int) -> NDArray[np.uint8]:
    """Picture, shape (rows, columns, 3), made small enough for a list; a small one stays as it is.

    Parameters
    ----------
    picture : uint8, shape (rows, columns, 3)
    longest : int
        Pixels of the longer side at most.
    """
    image = Image.fromarray(picture, mode="RGB")
    image.thumbnail((longest, longest), Image.Resampling.BOX)
    return np.asarray(image, dtype=np.uint8)


def encode_png(picture: NDArray[np.uint8]) -> bytes:
    """PNG bytes of a picture, shape (rows, columns, 3)."""
    target = io.BytesIO()
    Image.fromarray(picture, mode="RGB").save(target, "PNG", compress_level=SPEED)
    return target.getvalue()
