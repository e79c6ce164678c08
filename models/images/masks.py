"""What of a picture is assessed: everything, what is no background, the largest bright body, the brain."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from models.images.resampling import resampled

BACKGROUND_LEVEL = 0.02  # Brightness up to which a pixel is empty background (5 of 255).
SMOOTHING_PIXELS = 1.0  # Before the threshold, so that noise in air makes no bridges.
TISSUE_SHARE = 0.6  # Of Otsu's threshold: dark tissue beside bright fat belongs to the body.
HISTOGRAM_BINS = 256

BRAIN_PIXELS = 96  # Longer side of the copy on which the brain is searched: finer is slower, not better.
# Shares of the head's diameter: scalp and bone are thinner than SCALP; what is thinner than two NECKs comes
# apart.
SCALP = 0.06
NECK = 0.07
REGROWTH = 1.3  # Necks that the brain grows back by, along tissue.
BRAIN_SHARE = 0.65  # Of the brain's median: fluid and bone are darker on T1 and FLAIR.
FISSURE_PIXELS = 1  # Half width of the fissures that are closed.


def assessed_mask(
    pixels: NDArray[np.float32], kind: Literal["all", "content", "tissue", "brain"]
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
        return _fill(largest_part(grey > BACKGROUND_LEVEL))
    return brain_mask(grey) if kind == "brain" else body_mask(grey)


def brain_mask(grey: NDArray[np.float32]) -> NDArray[np.bool_]:
    """The brain of a T1 or FLAIR stack of axial slices, with or without its skull.

    What is deep in the head and as bright as brain is opened, so that scalp, eyes and neck come apart; the
    largest part in three dimensions is grown back along tissue, by little more than it was opened, and
    fissures and holes are closed. It is no segmentation: a rim of the brain may be missing, and parts of the
    orbits and of the top of the scalp may be in it.

    Parameters
    ----------
    grey : float32, shape (slices, rows, columns)

    Returns
    -------
    bool, shape (slices, rows, columns)
    """
    rows, columns = grey.shape[1:]
    shrink = min(1.0, BRAIN_PIXELS / max(rows, columns))
    small = max(1, round(rows * shrink)), max(1, round(columns * shrink))
    brain = _brain(resampled(grey, small))
    return resampled(brain.astype(np.float32), (rows, columns)) >= 0.5  # noqa: PLR2004 - half


def _brain(grey: NDArray[np.float32]) -> NDArray[np.bool_]:
    """The brain on a small copy of the stack."""
    body = body_mask(grey)
    size = 2 * float(np.sqrt(max(int(plane.sum()) for plane in body) / np.pi))
    deep = _depth(body) > SCALP * size
    if not deep.any():
        return body
    smooth = ndimage.gaussian_filter(grey, (0, SMOOTHING_PIXELS / 2, SMOOTHING_PIXELS / 2))
    tissue = body & (smooth > BRAIN_SHARE * np.median(smooth[deep]))
    neck = max(1.0, NECK * size)
    brain = largest_part(_depth(tissue & deep) > neck)
    cross = ndimage.generate_binary_structure(2, 1)[None]
    square = np.ones((1, 3, 3), dtype=np.bool_)
    for step in range(round(REGROWTH * neck)):  # Cross and square in turn come near to a disc.
        brain = ndimage.binary_dilation(brain, cross if step % 2 else square) & tissue
    border = ((0, 0), (FISSURE_PIXELS,) * 2, (FISSURE_PIXELS,) * 2)
    closed = ndimage.binary_closing(np.pad(brain, border), square, iterations=FISSURE_PIXELS)
    return _fill(closed[:, FISSURE_PIXELS:-FISSURE_PIXELS, FISSURE_PIXELS:-FISSURE_PIXELS])


def _depth(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Distance of every pixel to what is not set or to the frame, in its own slice."""
    return np.stack([ndimage.distance_transform_edt(np.pad(plane, 1))[1:-1, 1:-1] for plane in mask])


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
    return _fill(largest_part(smooth > level))


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


def largest_part(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The largest connected part of a mask; an empty mask stays empty."""
    parts, count = ndimage.label(mask)
    if count < 2:  # noqa: PLR2004 - one part is the largest one
        return mask
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    return np.asarray(parts == sizes.argmax())


def _fill(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Holes filled slice by slice."""
    return np.stack([ndimage.binary_fill_holes(plane) for plane in mask]).astype(np.bool_)
