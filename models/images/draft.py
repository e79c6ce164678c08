"""A study on its way from the file to the network: pixels, mask, and where both lie on the native grid."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from models.images.contract import ImageContract
from models.images.picture import Grid


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """One study while it is prepared; every step makes a new one.

    Attributes
    ----------
    pixels : float32, shape (slices, channels, rows, columns)
    mask : bool, shape (slices, rows, columns)
    grid : float64, shape (3, 3)
        Maps (row, column, 1) of ``pixels`` to the native ones, pixel centres.
    contract : ImageContract
    original_shape : tuple of int, optional
        Rows and columns before the file was padded to a square, where known.
    is_left_eye : bool
    """

    pixels: NDArray[np.float32]
    mask: NDArray[np.bool_]
    grid: Grid
    contract: ImageContract
    original_shape: tuple[int, int] | None = None
    is_left_eye: bool = False

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.mask.shape[1], self.mask.shape[2]

    @property
    def grey(self) -> NDArray[np.float32]:
        """Mean over the channels, shape (slices, rows, columns)."""
        grey: NDArray[np.float32] = self.pixels.mean(axis=1)
        return grey

    def moved(self, pixels: NDArray[np.float32], mask: NDArray[np.bool_], step: Grid) -> "Draft":
        """The draft on a new grid.

        Parameters
        ----------
        pixels, mask : arrays
            On the new grid.
        step : float64, shape (3, 3)
            Maps the new grid to the one of this draft.
        """
        return replace(self, pixels=pixels, mask=mask, grid=self.grid @ step)

    def cut(self, top: int, bottom: int, left: int, right: int) -> "Draft":
        """Rows ``top`` to ``bottom`` and columns ``left`` to ``right``, ends excluded."""
        step = np.array([[1.0, 0, top], [0, 1, left], [0, 0, 1]])
        return self.moved(
            self.pixels[:, :, top:bottom, left:right], self.mask[:, top:bottom, left:right], step
        )
