"""What an image is like, whoever is on it: a few numbers that a change of the scanner moves.

They see no anomaly and need no model. Watched beside the scores (`models.drift`), they say that something
in the making of the images has changed, also where the model does not mind, and they say it first. None
depends on the unit of the intensities.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from models.volume import Volume

MOST_SLICES = 32  # Evenly taken; more tell the same.
MIDDLE = (0.2, 0.8)  # Of the stack: its ends hold little.
RIM = 2  # Pixels; the edge against the air is the body's, and sharper than anything within.
FOREGROUND = 0.1  # Of the 98th percentile, as a tissue mask begins.
# Immerkaer 1996, Computer Vision and Image Understanding 64: what edges leave of it is noise.
NOISE_KERNEL = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], dtype=np.float32)
NOISE_GAIN = 6.0  # Standard deviation of the kernel's answer to noise of 1.
MAD = 1.4826  # Median absolute deviation to standard deviation, of a normal distribution.

NAMES = ("noise", "sharpness", "contrast", "midtone", "slice_mm", "pixel_mm")


def appearance(volume: Volume) -> dict[str, float]:
    """Numbers of one volume, by the names in ``NAMES``.

    Parameters
    ----------
    volume : Volume
        One slice suffices.

    Returns
    -------
    dict of str to float
        ``noise``, ``sharpness`` (mean gradient in the plane, per millimetre), ``contrast`` (10th to 90th
        percentile) and ``midtone`` (median), of the foreground and as shares of its 98th percentile, 0 where
        there is no foreground; ``slice_mm`` and ``pixel_mm``, the spacings.
    """
    planes = _planes(volume)
    slice_mm, row_mm, column_mm = volume.spacing_mm
    found = dict.fromkeys(NAMES, 0.0) | {"slice_mm": slice_mm, "pixel_mm": float(np.sqrt(row_mm * column_mm))}
    top = float(np.percentile(planes[planes > 0], 98)) if (planes > 0).any() else 0.0
    inside = planes > FOREGROUND * top
    if not inside.any():
        return found
    values = planes[inside] / top
    ten, half, ninety = np.percentile(values, (10, 50, 90))
    core = ndimage.binary_erosion(inside, np.ones((1, 3, 3), dtype=np.bool_), iterations=RIM)
    core = core if core.any() else inside
    answer = ndimage.convolve(planes, NOISE_KERNEL[None], mode="nearest")[core] / top
    steps = np.hypot(
        ndimage.sobel(planes, axis=1)[core] / row_mm, ndimage.sobel(planes, axis=2)[core] / column_mm
    )
    return found | {
        "noise": float(MAD * np.median(np.abs(answer)) / NOISE_GAIN),
        "sharpness": float(steps.mean(dtype=np.float64) / (8 * top)),  # 8: the gain of Sobel's kernel
        "contrast": float(ninety - ten),
        "midtone": float(half),
    }


def _planes(volume: Volume) -> NDArray[np.float32]:
    """Some slices from the middle, lowest value 0, padding 0."""
    count = len(volume.voxels)
    low, high = (round(share * (count - 1)) for share in MIDDLE)
    chosen = np.unique(np.linspace(low, high, min(MOST_SLICES, high - low + 1)).round().astype(int))
    planes = np.asarray(volume.voxels[chosen], dtype=np.float32)
    valid = np.isfinite(planes)
    if volume.padding is not None:
        valid &= ~volume.padding[chosen]
    least = planes[valid].min() if valid.any() else np.float32(0)
    return np.where(valid, planes - least, np.float32(0))
