"""How long something lasts in the middle, where some of it has not ended: Kaplan and Meier's estimate."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95
# A hair above one half: the product of many factors may miss it by rounding, and then it was reached.
_HALF = 0.5 + 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Median:
    """A median with its interval; None where the data do not reach so far.

    Attributes
    ----------
    value, low, high : float or None
        In the unit of what was given.
    """

    value: float | None
    low: float | None
    high: float | None


def median(lengths: Sequence[float], has_ended: Sequence[bool]) -> Median:
    """Estimate the median length, with what has not ended yet counted for as long as it lasted.

    The estimate is Kaplan and Meier's (1958); its 95 % interval holds the lengths at which the log-log
    interval of the survival curve (Kalbfleisch and Prentice, Greenwood's variance) contains one half
    (Brookmeyer and Crowley 1982).

    Parameters
    ----------
    lengths : sequence of float
    has_ended : sequence of bool
        False: it lasts longer than its length (censored).
    """
    times = np.asarray(lengths, dtype=np.float64)
    ended = np.asarray(has_ended, dtype=np.bool_)
    moments, ends = np.unique(times[ended], return_counts=True)
    if not moments.size:
        return Median(value=None, low=None, high=None)
    at_risk = (times.size - np.searchsorted(np.sort(times), moments)).astype(np.float64)
    survival: NDArray[np.float64] = np.cumprod(1 - ends / at_risk, dtype=np.float64)
    low, high = _band(survival, ends, at_risk)
    return Median(
        value=_first(moments, survival),
        low=_first(moments, low),
        high=_first(moments, high),
    )


def _band(
    survival: NDArray[np.float64], ends: NDArray[np.int64], at_risk: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Lower and upper limit of the survival at each moment; where nothing is left it says nothing: 0 to 1."""
    low, high = np.zeros_like(survival), np.ones_like(survival)
    inner = survival > 0
    kept, left = survival[inner], (at_risk - ends)[inner]
    greenwood = np.cumsum(ends[inner] / (at_risk[inner] * left))
    reach = NormalDist().inv_cdf((1 + CONFIDENCE) / 2) * np.sqrt(greenwood) / np.log(kept)
    low[inner], high[inner] = kept ** np.exp(-reach), kept ** np.exp(reach)
    # A curve that has fallen to nothing stays below where its limit was: it cannot rise again.
    return low, np.minimum.accumulate(high)


def _first(moments: NDArray[np.float64], survival: NDArray[np.float64]) -> float | None:
    """First moment by which half has ended."""
    below = np.flatnonzero(survival <= _HALF)
    return float(moments[below[0]]) if below.size else None
