"""A scanner upgrade, simulated: how soon a watch sees it, and how often it cries without one.

What scores and images are like before and after is measured on real normals, each read twice: as it is,
and as a scanner with another reconstruction would have made it. Years of daily use are drawn from these.
"""

from bisect import insort
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from models.drift import ALPHA, first_capital, online_p, wager
from models.volume import Volume

DAYS = 365
A_DAY = 40  # Studies of one group: a busy scanner.
MOST_CAPITAL = 1e100
WIDTH = 0.5  # Of the noise that keeps drawn studies from being copies, in standard deviations.


def upgraded(volume: Volume, strength: float = 1.0) -> Volume:
    """The same person after an upgrade of the reconstruction: smoother, edges enhanced, darker midtones.

    Parameters
    ----------
    volume : Volume
        Lowest value 0.
    strength : float
        0 changes nothing.
    """
    voxels = volume.voxels
    smooth = ndimage.gaussian_filter(voxels, 0.6)
    sharp = smooth + 0.8 * (smooth - ndimage.gaussian_filter(voxels, 1.5))
    mixed = np.maximum(voxels + strength * (sharp - voxels), 0)
    top = max(float(np.percentile(mixed, 99.5)), 1e-6)
    changed = top * np.power(mixed / top, 1 + 0.1 * strength)
    # Beyond the stripped brain there is nothing to enhance.
    return replace(volume, voxels=np.where(voxels > 0, changed, 0).astype(np.float32))


@dataclass(frozen=True, slots=True, kw_only=True)
class Population:
    """Measured studies, to draw more of their kind from (smoothed bootstrap: Silverman 1986, section 6.4).

    Attributes
    ----------
    rows : float64, shape (studies, numbers)
    """

    rows: NDArray[np.float64]

    def draw(self, count: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float64]:
        """New studies, shape (*count, numbers)."""
        spread = np.atleast_2d(np.cov(self.rows.T))
        noise = rng.multivariate_normal(np.zeros(self.rows.shape[1]), WIDTH**2 * spread, size=count)
        return self.rows[rng.integers(len(self.rows), size=count)] + noise


@dataclass(frozen=True, slots=True, kw_only=True)
class Years:
    """What a watch did over simulated years.

    Attributes
    ----------
    years : int
        Without a change.
    alarms : int
        Years with a false alarm.
    delays : tuple of int
        Studies from an upgrade to its alarm, one more than were looked at where none came. Years with a
        false alarm are left out.
    """

    years: int
    alarms: int
    delays: tuple[int, ...]

    def share_within(self, studies: int) -> float:
        """Share of upgrades that were seen within so many studies."""
        return float(np.mean(np.array(self.delays) <= studies))


def simulate_years(
    before: Population,
    after: Population,
    *,
    years: int,
    reference: int,
    a_day: int = A_DAY,
    days: int = DAYS,
    look_out: int = 400,
    alpha: float = ALPHA,
    seed: int = 0,
) -> Years:
    """Years without a change, each of which then ends in one.

    Parameters
    ----------
    before, after : Population
    years : int
    reference : int
        Studies the watch begins with.
    a_day, days : int
        Studies a day, days a year; the upgrade comes after them.
    look_out : int
        Studies after it.
    alpha : float
        Chance of a false alarm, ever; shared out over the numbers.
    seed : int
    """
    rng = np.random.default_rng(seed)
    numbers = before.rows.shape[1]
    pools = [[sorted(column) for column in one.T] for one in before.draw((years, reference), rng)]
    capital = first_capital((years, numbers))
    alarm_at = np.full(years, -1)
    length = a_day * days
    for study in range(length + look_out):
        values = (before if study < length else after).draw((years,), rng)
        capital = wager(capital, _ranks(pools, values, rng))
        is_over = (capital.sum(axis=-1) >= numbers / alpha).any(axis=1)
        alarm_at[is_over & (alarm_at < 0)] = study
        capital = np.minimum(capital, MOST_CAPITAL)  # of a year that has raised its alarm
    is_early = (alarm_at >= 0) & (alarm_at < length)
    seen = np.where(alarm_at < 0, look_out + 1, alarm_at - length + 1)
    return Years(
        years=years,
        alarms=int(is_early.sum()),
        delays=tuple(int(delay) for delay in seen[~is_early]),
    )


def _ranks(
    pools: Sequence[Sequence[list[float]]], values: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.float64]:
    """Online p of every number of every year's study, and the study joins those before it."""
    ties = 1 - rng.random(values.shape)
    p_values = np.empty(values.shape)
    for year, pool in enumerate(pools):
        for number, before in enumerate(pool):
            value = float(values[year, number])
            p_values[year, number] = online_p(before, value, float(ties[year, number]))
            insort(before, value)
    return p_values
