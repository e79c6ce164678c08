"""Two models on the same studies: whether they agree on the order, and on which side of a line one stands.

It says nothing about which of them is right: what readers said does (`service.reader_report`).
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.stats import kendalltau, norm, rankdata, spearmanr

from service.reader_report import Share, share_of
from service.store.shadows import Pair, Side
from service.study import State

LEVELS: Final = (0.05, 0.1)  # p-values at or below which a study is on the unusual side
LEAST: Final = 10  # pairs below which a correlation has no interval
MOST_MOVES: Final = 20
REACH: Final = float(norm.ppf(0.975))


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A number with its 95 % interval; None where the data do not carry it."""

    value: float | None
    low: float | None
    high: float | None


NOTHING: Final = Figure(value=None, low=None, high=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sides:
    """Which side of a p-value both models put the same studies on.

    Attributes
    ----------
    level : float
    both, served_only, shadow_only, neither : int
        Studies on the unusual side.
    same : Share
    kappa : Figure
        Cohen's, with the large-sample interval of Fleiss, Cohen and Everitt (1969); None where a model puts
        every study on one side, for then chance explains all of it.
    """

    level: float
    both: int
    served_only: int
    shadow_only: int
    neither: int
    same: Share
    kappa: Figure


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """One study at two places; ranks among the studies that both models scored, 1 is most unusual."""

    key: str
    served_rank: float
    shadow_rank: float
    served_percentile: float
    shadow_percentile: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Seconds:
    """What scoring a study took: half of them at most the median, 19 of 20 at most the other."""

    studies: int
    median: float | None
    late: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The model in service and the shadow, on the studies that both have looked at.

    Attributes
    ----------
    studies, scored : int
        Looked at by both; scored by both.
    spearman, kendall : Figure
        Agreement of the ranks.
    sides : tuple of Sides
        At each of `LEVELS`.
    moves : tuple of Move
        The studies that move most, most first.
    only_served, only_shadow : dict of str to int
        Studies that one of them alone declined, by reason.
    both_declined : int
    served_seconds, shadow_seconds : Seconds
    """

    studies: int
    scored: int
    spearman: Figure
    kendall: Figure
    sides: tuple[Sides, ...]
    moves: tuple[Move, ...]
    only_served: dict[str, int]
    only_shadow: dict[str, int]
    both_declined: int
    served_seconds: Seconds
    shadow_seconds: Seconds


def compare(pairs: Sequence[Pair], *, most_moves: int = MOST_MOVES) -> Comparison:
    """Compare what two models said.

    Parameters
    ----------
    pairs : sequence of Pair
    most_moves : int
        Studies named that move most.
    """
    scored = [pair for pair in pairs if _has_score(pair.served) and _has_score(pair.shadow)]
    served = _ranks([pair.served for pair in scored])
    shadow = _ranks([pair.shadow for pair in scored])
    return Comparison(
        studies=len(pairs),
        scored=len(scored),
        spearman=_spearman(served, shadow),
        kendall=_kendall(served, shadow),
        sides=tuple(_sides(scored, level) for level in LEVELS),
        moves=_moves(scored, served, shadow, most_moves),
        only_served=_reasons([pair.served for pair in pairs if _declines(pair.served, pair.shadow)]),
        only_shadow=_reasons([pair.shadow for pair in pairs if _declines(pair.shadow, pair.served)]),
        both_declined=sum(not _has_score(pair.served) and not _has_score(pair.shadow) for pair in pairs),
        served_seconds=_seconds([pair.served for pair in pairs]),
        shadow_seconds=_seconds([pair.shadow for pair in pairs]),
    )


def kappa(both: int, served_only: int, shadow_only: int, neither: int) -> Figure:
    """Cohen's kappa of a table of two by two, with its large-sample 95 % interval."""
    n = both + served_only + shadow_only + neither
    if n == 0:
        return NOTHING
    table = np.array([[both, served_only], [shadow_only, neither]], dtype=np.float64) / n
    rows, columns = table.sum(axis=1), table.sum(axis=0)
    agreed, expected = float(np.trace(table)), float(rows @ columns)
    if expected >= 1:
        return NOTHING
    value = (agreed - expected) / (1 - expected)
    # Fleiss, Cohen and Everitt (1969), equation 13.
    diagonal = sum(table[i, i] * (1 - (rows[i] + columns[i]) * (1 - value)) ** 2 for i in (0, 1))
    beside = (1 - value) ** 2 * sum(table[i, j] * (columns[i] + rows[j]) ** 2 for i, j in ((0, 1), (1, 0)))
    variance = (diagonal + beside - (value - expected * (1 - value)) ** 2) / (n * (1 - expected) ** 2)
    half = REACH * float(np.sqrt(max(variance, 0.0)))
    return Figure(value=value, low=max(value - half, -1.0), high=min(value + half, 1.0))


def _has_score(side: Side) -> bool:
    return side.state is State.SCORED and side.p_value is not None and side.study_score is not None


def _declines(one: Side, other: Side) -> bool:
    return not _has_score(one) and _has_score(other)


def _numbers(side: Side) -> tuple[float, float]:
    """What the list orders by: p-value, then raw score, the higher first."""
    return (1.0 if side.p_value is None else side.p_value, -(side.study_score or 0.0))


def _ranks(sides: Sequence[Side]) -> NDArray[np.float64]:
    """Ranks from 1, most unusual first; equals share theirs."""
    numbers = [_numbers(side) for side in sides]
    places = {pair: place for place, pair in enumerate(sorted(set(numbers)))}
    return np.asarray(rankdata([places[pair] for pair in numbers]), dtype=np.float64)


def _is_constant(values: NDArray[np.float64]) -> bool:
    return len(values) < 2 or bool((values == values[0]).all())  # noqa: PLR2004 - one study has no order


def _spearman(served: NDArray[np.float64], shadow: NDArray[np.float64]) -> Figure:
    """Spearman's rho; interval by Fisher's z with the variance of Bonett and Wright (2000)."""
    if _is_constant(served) or _is_constant(shadow):
        return NOTHING
    value = float(spearmanr(served, shadow).statistic)
    return _correlation(
        value, np.sqrt((1 + value**2 / 2) / (len(served) - 3)) if len(served) >= LEAST else None
    )


def _kendall(served: NDArray[np.float64], shadow: NDArray[np.float64]) -> Figure:
    """Kendall's tau-b; interval by Fisher's z with the variance of Fieller, Hartley and Pearson (1957)."""
    if _is_constant(served) or _is_constant(shadow):
        return NOTHING
    value = float(kendalltau(served, shadow).statistic)
    return _correlation(value, np.sqrt(0.437 / (len(served) - 4)) if len(served) >= LEAST else None)


def _correlation(value: float, error: float | None) -> Figure:
    if error is None or abs(value) >= 1:
        return Figure(value=value, low=None, high=None)
    z = float(np.arctanh(value))
    return Figure(value=value, low=float(np.tanh(z - REACH * error)), high=float(np.tanh(z + REACH * error)))


def _sides(scored: Sequence[Pair], level: float) -> Sides:
    counts = Counter(
        (_numbers(pair.served)[0] <= level, _numbers(pair.shadow)[0] <= level) for pair in scored
    )
    table = (counts[True, True], counts[True, False], counts[False, True], counts[False, False])
    return Sides(
        level=level,
        both=table[0],
        served_only=table[1],
        shadow_only=table[2],
        neither=table[3],
        same=share_of(table[0] + table[3], len(scored)),
        kappa=kappa(*table),
    )


def _moves(
    scored: Sequence[Pair], served: NDArray[np.float64], shadow: NDArray[np.float64], most: int
) -> tuple[Move, ...]:
    order = sorted(range(len(scored)), key=lambda i: (-abs(served[i] - shadow[i]), scored[i].key))
    return tuple(
        Move(
            key=scored[i].key,
            served_rank=float(served[i]),
            shadow_rank=float(shadow[i]),
            served_percentile=100 * _numbers(scored[i].served)[0],
            shadow_percentile=100 * _numbers(scored[i].shadow)[0],
        )
        for i in order[:most]
        if served[i] != shadow[i]
    )


def _reasons(declined: Sequence[Side]) -> dict[str, int]:
    """Why studies were declined, the most frequent reason first."""
    return dict(Counter(side.reason or side.state.value for side in declined).most_common())


def _seconds(sides: Sequence[Side]) -> Seconds:
    taken = [side.seconds for side in sides if side.seconds is not None]
    if not taken:
        return Seconds(studies=0, median=None, late=None)
    median, late = np.percentile(taken, [50, 95])
    return Seconds(studies=len(taken), median=float(median), late=float(late))
