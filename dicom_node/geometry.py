"""Slices in space: their order, their regularity, and the affine of the stack they make (PS3.3 C.7.6.2)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dicom_node.errors import NotAVolumeError
from models.errors import Reason

SAME_DIRECTION = 1e-3  # largest difference of direction cosines that is rounding
SAME_SPACING = 1e-3  # largest relative difference of pixel spacings that is rounding
SAME_PLACE_MM = 1e-2  # slices closer than this are at one position
EVEN = 0.02  # largest deviation from the median gap, as a share of it, that is rounding
MISSING = 1.5  # a gap this many times the median holds a missing slice
STRAIGHT = 0.02  # largest drift across the normal, as a share of the gap: more is a tilted gantry
FEWEST_SLICES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Plane:
    """Where one slice lies.

    Attributes
    ----------
    position_mm : tuple of float
        Centre of the first pixel in patient coordinates, LPS (0020,0032).
    orientation : tuple of float
        Six direction cosines: along a row, then along a column (0020,0037).
    spacing_mm : tuple of float
        Distance between rows, then between columns (0028,0030).
    matrix : tuple of int
        Rows, columns.
    """

    position_mm: tuple[float, float, float]
    orientation: tuple[float, ...]
    spacing_mm: tuple[float, float]
    matrix: tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """Slices in geometric order, as one regular grid.

    Attributes
    ----------
    order : tuple of int
        Index of each slice in the sequence given, along the normal.
    spacing_mm : tuple of float
        Along (slices, rows, columns).
    affine : float64, shape (4, 4)
        Voxel index (slice, row, column) to patient millimetres, LPS.
    """

    order: tuple[int, ...]
    spacing_mm: tuple[float, float, float]
    affine: NDArray[np.float64]


def arrange(planes: Sequence[Plane]) -> Stack:
    """Order slices along their normal and require a regular stack.

    Parameters
    ----------
    planes : sequence of Plane
        Any order; instance numbers and slice locations are not asked.

    Raises
    ------
    NotAVolumeError
        NO_GEOMETRY, MIXED_GEOMETRY, DUPLICATE_POSITIONS, TOO_FEW_SLICES or MISSING_SLICES.
    """
    first = planes[0]
    _require_one_grid(planes)
    row, column = np.array(first.orientation[:3]), np.array(first.orientation[3:])
    normal = np.cross(row, column)
    positions = np.array([plane.position_mm for plane in planes])  # (slices, 3)
    along = positions @ normal
    order = np.argsort(along, kind="stable")
    gaps = np.diff(along[order])
    if len(gaps) and gaps.min() < SAME_PLACE_MM:
        raise NotAVolumeError(Reason.DUPLICATE_POSITIONS, "Several images lie at one position.")
    if len(planes) < FEWEST_SLICES:
        raise NotAVolumeError(Reason.TOO_FEW_SLICES, f"{len(planes)} slices make no volume.")
    gap = float(np.median(gaps))
    if gaps.max() > MISSING * gap:
        raise NotAVolumeError(
            Reason.MISSING_SLICES, f"A gap of {gaps.max():.2f} mm between slices {gap:.2f} mm apart."
        )
    if np.abs(gaps - gap).max() > EVEN * gap + SAME_PLACE_MM:
        raise NotAVolumeError(Reason.MIXED_GEOMETRY, "The distance between slices varies.")
    ordered = positions[order]
    step = (ordered[-1] - ordered[0]) / (len(planes) - 1)
    straight = ordered[0] + np.outer(np.arange(len(planes)), step)
    if np.abs(ordered - straight).max() > STRAIGHT * gap + SAME_PLACE_MM:
        raise NotAVolumeError(Reason.MIXED_GEOMETRY, "The slices do not lie in one straight stack.")
    if np.linalg.norm(step - normal * (step @ normal)) > STRAIGHT * gap + SAME_PLACE_MM:
        raise NotAVolumeError(Reason.MIXED_GEOMETRY, "The stack is sheared: the gantry was tilted.")
    affine = np.eye(4)
    affine[:3, 0] = step
    affine[:3, 1] = column * first.spacing_mm[0]  # one row further lies one row spacing down the column
    affine[:3, 2] = row * first.spacing_mm[1]
    affine[:3, 3] = ordered[0]
    return Stack(
        order=tuple(int(index) for index in order),
        spacing_mm=(float(np.linalg.norm(step)), *first.spacing_mm),
        affine=affine,
    )


def lay_flat(plane: Plane) -> Stack:
    """A single picture as a stack of one: columns run to the left, rows to the back, one millimetre deep.

    It has no place in the patient; no result says that it has.
    """
    affine = np.diag([0.0, 0.0, 0.0, 1.0])
    affine[2, 0] = 1.0
    affine[1, 1], affine[0, 2] = plane.spacing_mm
    return Stack(order=(0,), spacing_mm=(1.0, *plane.spacing_mm), affine=affine)


def is_same_grid(first: Plane, second: Plane) -> bool:
    """Whether two slices could belong to one stack: direction, spacing and matrix agree."""
    return (
        float(np.abs(np.subtract(first.orientation, second.orientation)).max()) <= SAME_DIRECTION
        and first.matrix == second.matrix
        and bool(np.allclose(first.spacing_mm, second.spacing_mm, rtol=SAME_SPACING))
    )


def _require_one_grid(planes: Sequence[Plane]) -> None:
    """Raise NotAVolumeError unless all slices share matrix, spacing and a right-angled orientation."""
    first = planes[0]
    directions = np.array(first.orientation).reshape(2, 3)
    is_right_angled = np.allclose(directions @ directions.T, np.eye(2), atol=1e-2)
    if not is_right_angled or min(first.spacing_mm) <= 0:
        raise NotAVolumeError(Reason.NO_GEOMETRY, "Orientation or pixel spacing is not possible.")
    for plane in planes[1:]:
        if np.abs(np.subtract(plane.orientation, first.orientation)).max() > SAME_DIRECTION:
            raise NotAVolumeError(Reason.MIXED_GEOMETRY, "The series mixes orientations.")
        if plane.matrix != first.matrix:
            raise NotAVolumeError(Reason.MIXED_GEOMETRY, "The series mixes matrix sizes.")
        if not np.allclose(plane.spacing_mm, first.spacing_mm, rtol=SAME_SPACING):
            raise NotAVolumeError(Reason.MIXED_GEOMETRY, "The series mixes pixel spacings.")
