"""Volume → what the network sees, and the way back to source voxels.

The affine alone decides where a voxel lies: axis order, direction and spacing of the storage make no
difference, and nothing is flipped that the affine does not flip. The model grid is axial, aligned with
the patient, with index 0, 1, 2 growing towards superior, posterior and left (S, P, L).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from models.artefact import InputContract
from models.errors import NotAssessableError, Reason
from models.scratch import Scratch, slabs
from models.volume import Volume

VERSION = "volume-1"  # Raised by whoever changes what a network sees of the same voxels.
FWHM = 2.3548  # Full width at half maximum of a Gaussian, in standard deviations.
TRUNCATE = 4.0  # Standard deviations at which a Gaussian is cut off.
BRAIN_SHARE = 0.10  # A voxel is tissue from this share of the volume's 98th foreground percentile.
SURVEY_MM = 2.0  # Grid on which brain and box are found, whatever the source spacing.
# Patient LPS coordinates (x, y, z) of the model grid's axes (slice, row, column): S, P, L.
AXES = np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """One volume on the model grid.

    Attributes
    ----------
    voxels : float32, shape (slices, rows, columns)
        Normalised intensities, about 0 to 1 inside the brain and 0 outside.
    mask : bool, shape (slices, rows, columns)
        The brain.
    affine : float64, shape (4, 4)
        Model grid index to patient millimetres, LPS.
    """

    voxels: NDArray[np.float32]
    mask: NDArray[np.bool_]
    affine: NDArray[np.float64]

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance between voxel centres along (slices, rows, columns)."""
        steps = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(steps[0]), float(steps[1]), float(steps[2])


def clean_voxels(volume: Volume) -> NDArray[np.float32]:
    """Voxels above the background: lowest value 0, padding 0, shape (slices, rows, columns).

    Raises
    ------
    NotAssessableError
        CONSTANT_PIXELS if nothing stands above the background.
    """
    low = min((_lowest(volume, part) for part in slabs(volume.voxels.shape)), default=np.inf)
    low = low if np.isfinite(low) else 0.0
    cleaned: NDArray[np.float32] = volume.scratch.zeros(volume.voxels.shape, np.float32)
    for part in slabs(cleaned.shape):
        voxels = volume.voxels[part]
        cleaned[part] = np.where(_valid(volume, part), voxels - np.float32(low), np.float32(0))
    if not cleaned.any():
        raise NotAssessableError(Reason.CONSTANT_PIXELS, "All pixels have the same value.")
    return cleaned


def _valid(volume: Volume, part: slice) -> NDArray[np.bool_]:
    """Where a slab holds measurements."""
    valid = np.isfinite(volume.voxels[part])
    if volume.padding is not None:
        valid &= ~volume.padding[part]
    return valid


def _lowest(volume: Volume, part: slice) -> float:
    valid = _valid(volume, part)
    return float(volume.voxels[part][valid].min()) if valid.any() else np.inf


def tissue_mask(voxels: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Largest connected part above a tenth of the tissue's intensity, holes filled.

    Parameters
    ----------
    voxels : float32, shape (slices, rows, columns)
        Background 0.
    """
    foreground = voxels[voxels > 0]
    if foreground.size == 0:
        return np.zeros(voxels.shape, dtype=np.bool_)
    above = voxels > BRAIN_SHARE * np.percentile(foreground, 98)
    labels, count = ndimage.label(above)
    if count > 1:
        above = labels == 1 + int(np.argmax(np.bincount(labels.ravel())[1:]))
    return np.asarray(ndimage.binary_fill_holes(above), dtype=np.bool_)


def brain_mask(volume: Volume) -> NDArray[np.bool_]:
    """Brain of a skull-stripped volume on its own grid, shape (slices, rows, columns)."""
    return tissue_mask(clean_voxels(volume))


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What was made of a volume to look at it, for whoever needs it next.

    Attributes
    ----------
    cleaned : float32, on the grid of the volume
        As of ``clean_voxels``.
    overview, affine : arrays
        As of ``survey``.
    """

    cleaned: NDArray[np.float32]
    overview: NDArray[np.float32]
    affine: NDArray[np.float64]


def survey(
    volume: Volume, cleaned: NDArray[np.float32] | None = None
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """The whole volume on a patient-aligned 2 mm grid.

    Parameters
    ----------
    volume : Volume
    cleaned : float32, optional
        As of ``clean_voxels``, where that is known.

    Returns
    -------
    voxels : float32, shape (slices, rows, columns)
        Background 0; axes S, P, L.
    affine : float64, shape (4, 4)
        Index to patient millimetres, LPS.
    """
    shape = np.array(volume.voxels.shape)
    corners = np.array([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)]) * (shape - 1)
    points = corners @ volume.affine[:3, :3].T + volume.affine[:3, 3]  # (8, 3) in LPS
    low, high = points.min(axis=0), points.max(axis=0)
    affine = np.eye(4)
    affine[:3, :3] = AXES * SURVEY_MM
    affine[:3, 3] = low
    # The tolerance keeps rounding in the corners from adding a slice.
    size = np.ceil((high - low)[::-1] / SURVEY_MM - 1e-6).astype(int) + 1  # x, y, z → S, P, L
    cleaned = clean_voxels(volume) if cleaned is None else cleaned
    return resample(cleaned, volume, affine, (int(size[0]), int(size[1]), int(size[2]))), affine


def prepare(volume: Volume, contract: InputContract, seen: Seen | None = None) -> Prepared:
    """Put a skull-stripped volume on the model grid and normalise its intensities.

    The brain's bounding box is scaled to the contract's width and length (sparing outliers), the top of
    the brain is put at a fixed slice; intensities follow the contract's landmarks.

    Parameters
    ----------
    volume : Volume
    contract : InputContract
    seen : Seen, optional
        What the check of the volume has made already.

    Raises
    ------
    NotAssessableError
        CONSTANT_PIXELS if there is nothing to see.
    """
    if seen is None:
        cleaned = clean_voxels(volume)
        overview, overview_affine = survey(volume, cleaned)
        seen = Seen(cleaned=cleaned, overview=overview, affine=overview_affine)
    affine = _model_affine(tissue_mask(seen.overview), seen.affine, contract)
    voxels = resample(seen.cleaned, volume, affine, contract.shape)
    mask = tissue_mask(voxels)
    if not mask.any():
        raise NotAssessableError(Reason.CONSTANT_PIXELS, "No tissue stands above the background.")
    return Prepared(voxels=normalise(voxels, mask, contract), mask=mask, affine=affine)


def normalise(
    voxels: NDArray[np.float32], mask: NDArray[np.bool_], contract: InputContract
) -> NDArray[np.float32]:
    """Map the brain's intensity percentiles to the contract's landmarks, piecewise linear (Nyul 2000).

    Beyond the outer landmarks the line through them continues, so a lesion outside the common range
    keeps its contrast. Invariant to scaling of the source.
    """
    found = np.percentile(voxels[mask], contract.landmark_percentiles)
    wanted = np.asarray(contract.landmark_values)
    slope = (wanted[-1] - wanted[0]) / max(found[-1] - found[0], 1e-9)
    mapped = np.interp(voxels, found, wanted)
    mapped += slope * (np.minimum(voxels - found[0], 0) + np.maximum(voxels - found[-1], 0))
    low, high = contract.clip
    return np.where(mask, np.clip(mapped, low, high), 0.0).astype(np.float32)


def resample(
    voxels: NDArray[np.float32],
    volume: Volume,
    affine: NDArray[np.float64],
    shape: tuple[int, int, int],
) -> NDArray[np.float32]:
    """Voxels of a volume's grid on another grid: Gaussian against aliasing, then linear.

    Parameters
    ----------
    voxels : float32, on the grid of ``volume``
    affine : float64, shape (4, 4)
        Target index to patient millimetres, LPS.
    shape : tuple of int
        Target (slices, rows, columns).
    """
    target_mm = float(np.linalg.norm(affine[:3, :3], axis=0).mean())
    sigma = [np.sqrt(max(target_mm**2 - s**2, 0.0)) / FWHM / s for s in volume.spacing_mm]
    if max(sigma) > 0.1:  # noqa: PLR2004 - voxels; a narrower kernel is the identity
        voxels = _blurred(voxels, sigma, volume.scratch)
    to_source = np.linalg.inv(volume.affine) @ affine
    return np.asarray(
        ndimage.affine_transform(
            voxels, to_source[:3, :3], to_source[:3, 3], output_shape=shape, order=1, mode="constant"
        ),
        dtype=np.float32,
    )


def _blurred(voxels: NDArray[np.float32], sigma: Sequence[float], scratch: Scratch) -> NDArray[np.float32]:
    """Gaussian filter slab by slab, each with the slices around it that reach into it: the same numbers."""
    reach = int(TRUNCATE * sigma[0] + 0.5)  # as scipy counts
    blurred: NDArray[np.float32] = scratch.zeros(voxels.shape, np.float32)
    for part in slabs(voxels.shape):
        start = max(0, part.start - reach)
        found = ndimage.gaussian_filter(
            voxels[start : part.stop + reach], sigma, mode="constant", truncate=TRUNCATE
        )
        blurred[part] = found[part.start - start : part.stop - start]
    return blurred


def to_source(values: NDArray[np.float32], prepared: Prepared, volume: Volume) -> NDArray[np.float32]:
    """A map of the model grid at the voxel centres of the source, linear, 0 outside the model grid.

    Returns
    -------
    float32, shape (slices, rows, columns) of ``volume``
    """
    to_model = np.linalg.inv(prepared.affine) @ volume.affine
    found: NDArray[np.float32] = volume.scratch.zeros(volume.voxels.shape, np.float32)
    ndimage.affine_transform(
        values,
        to_model[:3, :3],
        to_model[:3, 3],
        output_shape=volume.voxels.shape,
        output=found,
        order=1,
        mode="constant",
    )
    return found


def extent_mm(
    mask: NDArray[np.bool_], affine: NDArray[np.float64]
) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Lowest and highest patient coordinate (x, y, z, LPS millimetres) of a mask on an aligned grid."""
    low, high = np.zeros(3), np.zeros(3)
    for axis in range(3):
        present = np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))
        low[2 - axis] = affine[2 - axis, 3] + affine[2 - axis, axis] * present[0]
        high[2 - axis] = affine[2 - axis, 3] + affine[2 - axis, axis] * present[-1]
    return (float(low[0]), float(low[1]), float(low[2])), (float(high[0]), float(high[1]), float(high[2]))


def _model_affine(
    mask: NDArray[np.bool_], affine: NDArray[np.float64], contract: InputContract
) -> NDArray[np.float64]:
    """Where the model grid lies in the patient, from the brain's bounding box."""
    (left, front, _), (right, back, top) = extent_mm(mask, affine)
    least, most = contract.scale_range
    scale_x = float(np.clip((right - left) / contract.brain_width_mm, least, most))
    scale_y = float(np.clip((back - front) / contract.brain_length_mm, least, most))
    # The lower end of a stripped brain is wherever the stripper cut, so height follows the other two.
    step = contract.spacing_mm * np.array([np.sqrt(scale_x * scale_y), scale_y, scale_x])  # S, P, L
    _, rows, columns = contract.shape
    centre = np.array([(left + right) / 2, (front + back) / 2])
    out = np.eye(4)
    out[:3, :3] = AXES * step
    out[0, 3] = centre[0] - step[2] * (columns - 1) / 2
    out[1, 3] = centre[1] - step[1] * (rows - 1) / 2
    out[2, 3] = top - step[0] * contract.top_slice
    return out
