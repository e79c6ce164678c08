"""Volumes as stacks of axial slices, seen as on a screen."""

import numpy as np
from nibabel.orientations import apply_orientation, io_orientation, ornt_transform
from numpy.typing import NDArray

from models.images.files import scaled
from models.volume import Volume

# Axes of a stack in patient coordinates LPS: slices to the head (+z), rows to the back (+y), columns to the
# left (+x).
AXIAL = np.array([[2, 1], [1, 1], [0, 1]])


def axial_slices(volume: Volume, *, white: float | None = None) -> NDArray[np.float32]:
    """Slices of a volume from the feet to the head, whatever the plane it was acquired in.

    Parameters
    ----------
    volume : Volume
        Affine in LPS.
    white : float, optional
        Value of brightness 1 where 0 is black; by default the volume's own extent is black to white.

    Returns
    -------
    float32, shape (slices, 1, rows, columns)
        Rows from the front to the back, columns from the patient's right to the left.
    """
    voxels = to_axial(_without_padding(volume), volume.affine)
    brightness = scaled(voxels) if white is None else voxels / np.float32(white)
    return np.ascontiguousarray(brightness[:, None])


def _without_padding(volume: Volume) -> NDArray[np.float32]:
    """Voxels with the least measured value where the scanner padded: padding is neither black nor white."""
    if volume.padding is None or volume.padding.all():
        return volume.voxels
    least = volume.voxels[~volume.padding].min()
    return np.where(volume.padding, least, volume.voxels)


def to_axial(array: NDArray[np.generic], affine: NDArray[np.float64]) -> NDArray[np.float32]:
    """An array on a volume's grid, such as its lesion mask, with its axes turned to axial slices."""
    turn = ornt_transform(io_orientation(affine), AXIAL)
    return np.asarray(apply_orientation(array, turn), dtype=np.float32)


def from_axial(array: NDArray[np.float32], volume: Volume) -> NDArray[np.float32]:
    """The way back of ``to_axial``: axial slices with the axes of a volume's own storage.

    Parameters
    ----------
    array : float32, shape (slices, rows, columns)
        In the axes of ``axial_slices`` of that volume.
    """
    turn = ornt_transform(AXIAL, io_orientation(volume.affine))
    return np.ascontiguousarray(apply_orientation(array, turn), dtype=np.float32)
