"""What of a picture is assessed: everything, what is not background, or the largest bright body."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

BACKGROUND_LEVEL = 0.02  # Brightness up to which a pixel is empty background (5 of 255).
SMOOTHING_PIXELS = 1.0  # Before the threshold, so that noise in air makes no bridges.
TISSUE_SHARE = 0.6  # Of Otsu's threshold: dark tissue beside bright fat belongs to the body.
HISTOGRAM_BINS = 256


def assessed_mask(
    pixels: NDArray[np.float32], kind: Literal["all", "content", "tissue"]
) -> NDArray[np.bool_]:
    """Pixels of a stack that are assessed.

    Parameters
    ----------
    pixels : float32, shape (slices, channels, rows, columns)
        Brightness in [0, 1].
    kind : str
        See `ImageContract.mask`.

    Returns
    -------
    bool, shape (slices, rows, columns)
    """
    grey = pixels.mean(axis=1)
    if kind == "all":
        return np.ones(grey.shape, dtype=np.bool_)
    if kind == "content":
        return _fill(_largest(grey > BACKGROUND_LEVEL))
    return body_mask(grey)


def body_mask(grey: NDArray[np.float32]) -> NDArray[np.bool_]:
    """The largest bright body of a stack, holes of each slice filled.

    Smoothed, cut at a share of Otsu's threshold (Otsu 1979), largest connected part, holes filled.

    Parameters
    ----------
    grey : float32, shape (slices, rows, columns)

    Returns
    -------
    bool, shape (slices, rows, columns)
    """
    smooth = ndimage.gaussian_filter(grey, (0, SMOOTHING_PIXELS, SMOOTHING_PIXELS))
    level = max(TISSUE_SHARE * otsu_level(smooth), BACKGROUND_LEVEL)
    return _fill(_largest(smooth > level))


def otsu_level(values: NDArray[np.float32]) -> float:
    """Threshold that splits values into two classes of least inner variance (Otsu 1979)."""
    counts, edges = np.histogram(values, bins=HISTOGRAM_BINS)
    centres = (edges[1:] + edges[:-1]) / 2
    below = np.cumsum(counts)
    above = below[-1] - below
    sums = np.cumsum(counts * centres)
    both = (below > 0) & (above > 0)
    if not both.any():
        return float(centres[0])
    difference = sums[both] / below[both] - (sums[-1] - sums[both]) / above[both]
    between = below[both] * above[both] * difference**2
    return float(edges[1:][both][np.argmax(between)])


def _largest(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The largest connected part of a stack; an empty mask stays empty."""
    parts, count = ndimage.label(mask)
    if count < 2:  # noqa: PLR2004 - one part is the largest one
        return mask
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    return np.asarray(parts == sizes.argmax())


def _fill(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Holes filled slice by slice."""
    return np.stack([ndimage.binary_fill_holes(plane) for plane in mask]).astype(np.bool_)
