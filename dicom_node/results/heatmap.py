"""Colours of the anomaly map. The only place that knows them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

# The colour map "viridis" (S. van der Walt, N. Smith, CC0): lightness rises evenly, so it reads without
# colour, and no pair of its colours differs by red against green alone. The page's viewer draws the map in it
# too. Kept as its fit by polynomials of degree six in the map value, one column per channel, lowest power
# first (M. Zucker, "matplotlib colormaps", CC0); no colour is off by more than 1.3 %.
_VIRIDIS: Final = np.array(
    [
        [0.2777273272234177, 0.005407344544966578, 0.3340998053353061],
        [0.1050930431085774, 1.404613529898575, 1.384590162594685],
        [-0.3308618287255563, 0.214847559468213, 0.09509516302823659],
        [-4.634230498983486, -5.799100973351585, -19.33244095627987],
        [6.228269936347081, 14.17993336680509, 56.69055260068105],
        [4.776384997670288, -13.74514537774601, -65.35303263337234],
        [-5.435455855934631, 4.645852612178535, 26.3124352495832],
    ]
)
_LEVELS: Final = 256
_OPACITY: Final = 0.65  # the anatomy below stays visible
_ONSET: Final = 0.5  # share of the lowest band at which colour begins to show


def _make_table() -> NDArray[np.uint8]:
    powers = np.power.outer(np.linspace(0.0, 1.0, _LEVELS), np.arange(len(_VIRIDIS)))  # (levels, powers)
    level = np.clip(powers @ _VIRIDIS, 0.0, 1.0) * 255.0
    return np.asarray(level.round(), dtype=np.uint8)


TABLE: Final = _make_table()


def colours(values: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Colour of map values.

    Parameters
    ----------
    values : float, any shape
        Map values, 0 to 1; outside they are clipped.

    Returns
    -------
    uint8, shape of ``values`` and (3,)
        Red, green, blue.
    """
    level = _unit(values) * (_LEVELS - 1)
    return np.asarray(TABLE[level.round().astype(np.intp)])


def window(voxels: NDArray[np.float32], low: float, high: float) -> NDArray[np.uint8]:
    """Grey levels of voxels: ``low`` and below black, ``high`` and above white.

    Parameters
    ----------
    voxels : float32, any shape
    low, high : float
        Display window in modality units.
    """
    span = max(high - low, float(np.finfo(np.float32).eps))
    level = (np.clip(np.nan_to_num(voxels), low, high) - low) / span * 255.0
    return np.asarray(level.round(), dtype=np.uint8)


def levels(values: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Map values in 256 steps; a step is never above its value."""
    return np.asarray(_unit(values) * (_LEVELS - 1), dtype=np.uint8)


@dataclass(frozen=True, slots=True)
class Overlay:
    """Colours of a map over grey pixels.

    Colour begins at half of the lowest band and reaches its full strength at the band itself: below, the
    pixels are those of the slice.

    Attributes
    ----------
    onset : int
        Least level that shows.
    mixed : uint8, shape (levels, greys, 3)
    """

    onset: int
    mixed: NDArray[np.uint8]

    @classmethod
    def of(cls, bands: Sequence[float]) -> "Overlay":
        """Overlay for ascending thresholds of the bands."""
        values = np.arange(_LEVELS) / (_LEVELS - 1)
        onset = _ONSET * bands[0]
        ramp = (values - onset) / max(bands[0] - onset, float(np.finfo(np.float32).eps))
        opacity = _OPACITY * np.clip(ramp, 0.0, 1.0)[:, np.newaxis, np.newaxis]
        greys = np.arange(_LEVELS)[np.newaxis, :, np.newaxis]
        mixed = (1.0 - opacity) * greys + opacity * TABLE[:, np.newaxis, :]
        return cls(onset=int((values <= onset).sum()), mixed=mixed.round().astype(np.uint8))

    def lay(self, grey: NDArray[np.uint8], level: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Slice with its map laid over it.

        Parameters
        ----------
        grey, level : uint8, same shape
            Pixels of the slice, and the map there, as of `levels`.

        Returns
        -------
        uint8, that shape and (3,)
        """
        return self.mixed[level, grey]


def colour_bar(height: int, width: int) -> NDArray[np.uint8]:
    """Colours of the map values, 1 at the top, 0 at the bottom.

    Parameters
    ----------
    height, width : int
        Pixels.

    Returns
    -------
    uint8, shape (height, width, 3)
    """
    column = colours(np.linspace(1.0, 0.0, height))
    return np.repeat(column[:, np.newaxis], width, axis=1)


def bar_row(value: float, height: int) -> int:
    """Row of a map value on a colour bar of that height."""
    return round((1.0 - value) * (height - 1))


def _unit(values: NDArray[np.floating]) -> NDArray[np.floating]:
    return np.asarray(np.clip(values, 0.0, 1.0))
