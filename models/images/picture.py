"""One prepared picture with what is known about it, and the way back to the pixels it came from."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Grid = NDArray[np.float64]  # (3, 3), homogeneous (row, column, 1): prepared to native pixel centres.


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """One picture, or one slice of a stack, ready for a network.

    Attributes
    ----------
    pixels : float32, shape (channels, rows, columns)
        About [0, 1]; 0 outside the mask.
    mask : bool, shape (rows, columns)
        What is assessed.
    position : float
        -1 for the lowest slice of its stack that shows something, 1 for the highest, 0 for single pictures.
    patient, study : str
        Pseudonyms of the person and of the stack or image.
    index : int
        Slice in its stack, in slice order; 0 for single pictures.
    split : str
        Part of the data: ``train`` or the name of a part that evaluation scores.
    label : int or None
        1 if abnormal, 0 if normal, None if not known.
    finding : str
        What is to be seen; empty for normals.
    lesion : bool, shape of ``native_shape``, or None
        Where the finding is, on the native grid, where that is known.
    native_shape : tuple of int
        Rows and columns of the file.
    grid : float64, shape (3, 3)
        Maps prepared (row, column, 1) to native (row, column, 1), pixel centres.
    covariates : dict of str to float
        Properties that should not tell normal from abnormal but may: ``aspect_ratio`` (width by height of the
        original), ``sharpness``, ``contrast``, ``assessed`` (share of the picture in the mask),
        ``slice_position`` (0 lowest to 1 highest of all slices), and numbers of the data's own table such as
        ``age``.
    """

    pixels: NDArray[np.float32]
    mask: NDArray[np.bool_]
    position: float = 0.0
    patient: str
    study: str
    index: int = 0
    split: str
    label: int | None
    finding: str = ""
    lesion: NDArray[np.bool_] | None = None
    native_shape: tuple[int, int]
    grid: Grid
    covariates: dict[str, float] = field(default_factory=dict)

    def to_native(self, plane: NDArray[np.float32]) -> NDArray[np.float32]:
        """A map of the prepared grid on the native grid, linear; 0 outside what was prepared.

        Parameters
        ----------
        plane : float32, shape (rows, columns)
            On the grid of ``pixels``.

        Returns
        -------
        float32, shape of ``native_shape``
        """
        return map_to_native(plane, self.grid, self.native_shape)


def map_to_native(
    plane: NDArray[np.float32], grid: Grid, native_shape: tuple[int, int]
) -> NDArray[np.float32]:
    """A map of a prepared grid on its native grid, linear; 0 outside what was prepared.

    The outermost half pixel takes the value of the edge, so a map that covers the picture covers all of it.

    Parameters
    ----------
    plane : float32, shape (rows, columns)
    grid : float64, shape (3, 3)
        Prepared to native pixel centres.
    native_shape : tuple of int
        Rows and columns of the result.
    """
    back = np.linalg.inv(grid)
    rows, columns = np.ogrid[: native_shape[0], : native_shape[1]]
    row = back[0, 0] * rows + back[0, 1] * columns + back[0, 2]
    column = back[1, 0] * rows + back[1, 1] * columns + back[1, 2]
    values = ndimage.map_coordinates(
        plane, np.stack(np.broadcast_arrays(row, column)), order=1, mode="nearest", output=np.float32
    )
    edge = 0.5 + 1e-6  # Rounding must not drop the outermost native pixel.
    inside = (row >= -edge) & (row <= plane.shape[0] - 1 + edge)
    inside &= (column >= -edge) & (column <= plane.shape[1] - 1 + edge)
    return np.where(inside, values, np.float32(0))


def stack_context(pictures: Sequence[Picture], context: Sequence[int]) -> NDArray[np.float32]:
    """Slices of one study with their neighbours as further channels.

    Beyond the ends of the stack the outermost slice stands in.

    Parameters
    ----------
    pictures : sequence of Picture
        All slices of one study, in slice order.
    context : sequence of int
        Offsets in slice order; (0,) is the slice alone.

    Returns
    -------
    float32, shape (slices, channels * len(context), rows, columns)
        Channels of the first offset first.
    """
    return with_context(np.stack([picture.pixels for picture in pictures]), context)


def with_context(pixels: NDArray[np.float32], context: Sequence[int]) -> NDArray[np.float32]:
    """As ``stack_context``, of the pixels of all slices of a study, (slices, channels, rows, columns)."""
    if tuple(context) == (0,):
        return pixels
    last = len(pixels) - 1
    order = [np.clip(np.arange(len(pixels)) + offset, 0, last) for offset in context]
    return np.concatenate([pixels[indices] for indices in order], axis=1)
