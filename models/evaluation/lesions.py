"""Synthetic lesions: soft blobs of known place, size and contrast inside the brain.

Contrast is given in units of the brain's own standard deviation, so a lesion is equally hard on any
scanner. They stand in for labelled findings where there are none (protocol after Zimmerer's
dissertation, section 4.1.4); they are not real disease and a table made with them says so.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from models.preprocess import brain_mask
from models.volume import Volume

EDGE_SHARE = 0.25  # Softness of the edge, as a share of the radius.
LOWEST_SHARE = (
    0.02  # Dark lesions stay above this share of the brain's 98th percentile: tissue, not background.
)


def add_lesion(
    volume: Volume,
    *,
    diameter_mm: float,
    contrast_sd: float,
    seed: int | None = None,
    centre_mm: tuple[float, float, float] | None = None,
) -> tuple[Volume, NDArray[np.bool_]]:
    """The volume with one soft blob added, and where it is.

    The added intensity is ``contrast_sd`` brain standard deviations times a profile that is 1 in the
    middle, 0.5 at the radius and falls to 0 over about half a radius (hyperbolic tangent).

    Parameters
    ----------
    volume : Volume
        Skull-stripped brain, background at the lowest value.
    diameter_mm : float
        Full width of the blob at half its contrast, in millimetres.
    contrast_sd : float
        Peak contrast in standard deviations of the brain's voxels; negative is dark.
    seed : int, optional
        Draws the centre among the voxels deep enough for the blob to lie inside the brain.
    centre_mm : tuple of float, optional
        Centre in patient millimetres, LPS, instead of a draw.

    Returns
    -------
    volume : Volume
        New voxels, same geometry. The blob never leaves the brain.
    mask : bool, shape (slices, rows, columns)
        Brain voxels within the radius.

    Raises
    ------
    ValueError
        If not exactly one of ``seed`` and ``centre_mm`` is given, the diameter is not positive, or the
        blob fits nowhere inside the brain.
    """
    if (seed is None) == (centre_mm is None):
        raise ValueError("give either seed or centre_mm")
    if diameter_mm <= 0:
        raise ValueError(f"diameter {diameter_mm} mm is not positive")
    brain = brain_mask(volume)
    if not brain.any():
        raise ValueError("there is no brain to put a lesion into")
    radius_mm = diameter_mm / 2
    if centre_mm is None:
        centre_mm = _draw_centre(volume, brain, radius_mm, np.random.default_rng(seed))
    distance_mm = _distance_mm(volume, centre_mm)
    profile = 0.5 * (1 - np.tanh((distance_mm - radius_mm) / (EDGE_SHARE * radius_mm)))
    inside = volume.voxels[brain]
    background = float(volume.voxels.min())
    lowest = background + LOWEST_SHARE * (float(np.percentile(inside, 98)) - background)
    changed = volume.voxels + contrast_sd * float(inside.std()) * profile
    floor = np.minimum(volume.voxels, lowest)
    voxels = np.where(brain, np.maximum(changed, floor), volume.voxels).astype(np.float32)
    return replace(volume, voxels=voxels), brain & (distance_mm <= radius_mm)


def _draw_centre(
    volume: Volume, brain: NDArray[np.bool_], radius_mm: float, rng: np.random.Generator
) -> tuple[float, float, float]:
    """A voxel centre at least one radius below the brain's surface, in patient millimetres."""
    depth_mm = ndimage.distance_transform_edt(np.pad(brain, 1), sampling=volume.spacing_mm)[1:-1, 1:-1, 1:-1]
    candidates = np.argwhere(depth_mm >= radius_mm)
    if len(candidates) == 0:
        raise ValueError(f"a lesion of {2 * radius_mm:g} mm fits nowhere inside the brain")
    index = candidates[rng.integers(len(candidates))]
    x, y, z = volume.affine[:3, :3] @ index + volume.affine[:3, 3]
    return float(x), float(y), float(z)


def _distance_mm(volume: Volume, centre_mm: tuple[float, float, float]) -> NDArray[np.float64]:
    """Distance of every voxel centre to a point, shape (slices, rows, columns)."""
    squared = np.zeros(volume.voxels.shape)
    for axis in range(3):
        steps = [
            volume.affine[axis, i] * np.arange(n).reshape([-1 if j == i else 1 for j in range(3)])
            for i, n in enumerate(volume.voxels.shape)
        ]
        squared += (steps[0] + steps[1] + steps[2] + volume.affine[axis, 3] - centre_mm[axis]) ** 2
    return np.sqrt(squared)
