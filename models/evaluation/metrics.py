"""Ranking metrics, and intervals that respect that lesions of one person are not independent."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

NORMAL_QUANTILE = 1.959964  # 97.5 % of the normal distribution lie below.


def auroc(truth: ArrayLike, scores: ArrayLike) -> float:
    """Chance that an abnormal scores above a normal, ties counting half; NaN with one class only."""
    labels = np.asarray(truth, dtype=np.bool_)
    positives, negatives = int(labels.sum()), int((~labels).sum())
    if positives == 0 or negatives == 0:
        return float("nan")
    ranks = rankdata(np.asarray(scores, dtype=np.float64))
    return float((ranks[labels].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def average_precision(truth: ArrayLike, scores: ArrayLike) -> float:
    """Mean precision over recall steps, equal scores taken together (definition of scikit-learn)."""
    labels = np.asarray(truth, dtype=np.bool_)
    values = np.asarray(scores, dtype=np.float64)
    positives = int(labels.sum())
    if positives == 0:
        return float("nan")
    order = np.argsort(-values, kind="stable")
    hits = np.cumsum(labels[order])
    last_of_tie = np.append(np.flatnonzero(np.diff(values[order])), len(values) - 1)
    hits = hits[last_of_tie]
    precision = hits / (last_of_tie + 1)
    return float(np.sum(np.diff(np.concatenate([[0], hits])) * precision) / positives)


def bootstrap_interval(
    subjects: Sequence[str],
    statistic: Callable[[NDArray[np.int64]], float],
    *,
    seed: int,
    draws: int = 1000,
) -> tuple[float, float]:
    """95 % percentile interval of a statistic under redrawing people, with all that belongs to each.

    Parameters
    ----------
    subjects : sequence of str
        Owner of each case.
    statistic : callable
        Indices of the drawn cases (repeats allowed) → value; NaN draws are left out.
    """
    names = sorted(set(subjects))
    owned = [np.flatnonzero(np.asarray(subjects) == name) for name in names]
    rng = np.random.default_rng(seed)
    values = []
    for _ in range(draws):
        chosen = rng.integers(len(names), size=len(names))
        value = statistic(np.concatenate([owned[i] for i in chosen]))
        if np.isfinite(value):
            values.append(value)
    if not values:
        return float("nan"), float("nan")
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


def wilson_interval(found: int, n: int) -> tuple[float, float]:
    """95 % interval of a share of independent cases (Wilson 1927)."""
    share, square = found / n, NORMAL_QUANTILE**2
    centre = (share + square / (2 * n)) / (1 + square / n)
    half = NORMAL_QUANTILE * np.sqrt(share * (1 - share) / n + square / (4 * n**2)) / (1 + square / n)
    return float(max(0.0, centre - half)), float(min(1.0, centre + half))
