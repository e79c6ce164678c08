"""Does a calibration hold what it says? Rates of false alarms on normals, against exact intervals.

Of n reference studies, a new normal has p <= alpha with chance floor(alpha (n + 1)) / (n + 1) exactly, if
scores do not tie. How many of m further normals that a *given* reference flags is beta-binomial: the
reference is as random as they are (Vovk 2012, conditional validity of inductive conformal predictors).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import betabinom, binom

from models.calibration import conformal_p_values, family_limit
from models.discoveries import discoveries

ALPHAS = (0.01, 0.05, 0.1, 0.2)
CONFIDENCE = 0.95
SIZES = (99, 400)  # Of simulated references: from the smallest that knows an alpha of 0.01.
GROUPS = 10_000
SPLITS = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """How often normals were flagged, and how often they may be.

    Attributes
    ----------
    data : str
        What was flagged.
    alpha : float
    reference : int
        Studies in each reference; of many sizes, the smallest.
    tested : int
        Normals that were compared with references.
    expected, observed : float
        Rate of flagged normals.
    low, high : float
        Between which the observed rate lies with a chance of at least ``CONFIDENCE``.
    """

    data: str
    alpha: float
    reference: int
    tested: int
    expected: float
    observed: float
    low: float
    high: float

    @property
    def holds(self) -> bool:
        """The observed rate is one that the stated rate gives."""
        return bool(self.low <= self.observed <= self.high)  # of JSON too: numbers of numpy have their own


def exact_rate(n: ArrayLike, alpha: float) -> NDArray[np.float64]:
    """Chance of p <= alpha for a normal, of the shape of ``n``."""
    sizes = np.asarray(n, dtype=np.float64)
    return np.floor(alpha * (sizes + 1) + 1e-9) / (sizes + 1)


def simulated_coverage(
    *, groups: int = GROUPS, seed: int = 0, alphas: Sequence[float] = ALPHAS
) -> list[Coverage]:
    """Groups with scores of their own, each with one new normal; one row an alpha.

    One new study a group: the groups are independent, so the interval is binomial. Scores are normal,
    skewed or heavy-tailed, with a place and a width of the group.

    Parameters
    ----------
    groups, seed : int
    alphas : sequence of float
    """
    rng = np.random.default_rng(seed)
    sizes = rng.integers(SIZES[0], SIZES[1] + 1, size=groups)
    width = SIZES[1] + 1
    drawn = np.empty((groups, width))
    drawn[0::3] = rng.normal(size=drawn[0::3].shape)
    drawn[1::3] = rng.gamma(2.0, size=drawn[1::3].shape)
    drawn[2::3] = rng.standard_t(3, size=drawn[2::3].shape)
    drawn = drawn * rng.uniform(0.1, 10, size=(groups, 1)) + rng.normal(scale=5, size=(groups, 1))
    is_reference = np.arange(1, width) <= sizes[:, None]
    above = ((drawn[:, 1:] >= drawn[:, :1]) & is_reference).sum(axis=1)
    p_values = (1 + above) / (sizes + 1)
    rows = []
    for alpha in alphas:
        expected = float(exact_rate(sizes, alpha).mean())
        low, high = binom.interval(CONFIDENCE, groups, expected)
        rows.append(
            Coverage(
                data=f"{groups} simulated groups",
                alpha=alpha,
                reference=SIZES[0],
                tested=groups,
                expected=expected,
                observed=float((p_values <= alpha + 1e-12).mean()),
                low=low / groups,
                high=high / groups,
            )
        )
    return rows


def one_split(data: str, reference: ArrayLike, normals: ArrayLike, alpha: float) -> Coverage:
    """Normals that no one calibrated with, against one reference.

    Parameters
    ----------
    data : str
    reference, normals : float, shape (n,) and (m,)
        Study scores, one a person.
    alpha : float
        At least 1 / (n + 1).
    """
    known, tested = np.sort(np.asarray(reference, dtype=np.float64)), np.asarray(normals, dtype=np.float64)
    flagged = int((conformal_p_values(known, tested) <= alpha + 1e-12).sum())
    low, high = _interval(known.size, tested.size, alpha)
    return Coverage(
        data=data,
        alpha=alpha,
        reference=known.size,
        tested=tested.size,
        expected=float(exact_rate(known.size, alpha)),
        observed=flagged / tested.size,
        low=low,
        high=high,
    )


def repeated_splits(
    data: str, normals: ArrayLike, alpha: float, *, reference: int, splits: int = SPLITS, seed: int = 0
) -> tuple[Coverage, float]:
    """Normals divided again and again into a reference and new studies.

    Parameters
    ----------
    data : str
    normals : float, shape (studies,)
        Scores, one a person, by a model that knew none of them.
    alpha : float
    reference : int
        Studies of each reference.
    splits, seed : int

    Returns
    -------
    coverage : Coverage
        Mean over the splits. The interval is that of a single split: the splits share their people, so
        their mean is no surer than the people allow.
    inside : float
        Share of splits whose own rate is in the interval; at least ``CONFIDENCE`` but for chance.
    """
    values = np.asarray(normals, dtype=np.float64)
    rng = np.random.default_rng(seed)
    rates = np.empty(splits)
    for number in range(splits):
        drawn = rng.permutation(values)
        p_values = conformal_p_values(np.sort(drawn[:reference]), drawn[reference:])
        rates[number] = (p_values <= alpha + 1e-12).mean()
    tested = values.size - reference
    low, high = _interval(reference, tested, alpha)
    coverage = Coverage(
        data=data,
        alpha=alpha,
        reference=reference,
        tested=tested,
        expected=float(exact_rate(reference, alpha)),
        observed=float(rates.mean()),
        low=low,
        high=high,
    )
    return coverage, float(((rates >= low) & (rates <= high)).mean())


def highlighted(
    data: str, maxima: ArrayLike, alpha: float, *, reference: int, splits: int = SPLITS, seed: int = 0
) -> Coverage:
    """Share of normals with any highlighted voxel, the limit taken from others; as ``repeated_splits``.

    Parameters
    ----------
    maxima : float, shape (studies,)
        Highest map value of each normal.
    """
    values = np.asarray(maxima, dtype=np.float64)
    rng = np.random.default_rng(seed)
    shown = []
    for _ in range(splits):
        drawn = rng.permutation(values)
        limit, _ = family_limit(drawn[:reference].tolist(), alpha)
        shown.append(float((drawn[reference:] > limit).mean()))
    _, rate = family_limit(values[:reference].tolist(), alpha)
    tested = values.size - reference
    low, high = _interval(reference, tested, rate)
    return Coverage(
        data=data,
        alpha=alpha,
        reference=reference,
        tested=tested,
        expected=rate,
        observed=float(np.mean(shown)),
        low=low,
        high=high,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class CohortRates:
    """What lists of many simulated cohorts held.

    Attributes
    ----------
    rate : float
        Mean share of normals on the list: the false-discovery rate.
    error : float
        Standard error of it.
    power : float
        Mean share of the abnormal studies that are on the list.
    """

    rate: float
    error: float
    power: float


def cohort_discoveries(
    *, cohorts: int, studies: int, prevalence: float, reference: int, shift: float, q: float, seed: int = 0
) -> CohortRates:
    """Benjamini-Hochberg lists over cohorts of normal scores, each with a reference of its own.

    Parameters
    ----------
    cohorts, studies, reference : int
        A cohort is compared with one reference, so its p-values depend on each other.
    prevalence : float
        Share of abnormal studies.
    shift : float
        Of their scores, in standard deviations.
    q : float
    seed : int
    """
    rng = np.random.default_rng(seed)
    abnormal = np.arange(studies) < round(prevalence * studies)
    false, power = np.empty(cohorts), np.empty(cohorts)
    for cohort in range(cohorts):
        known = np.sort(rng.normal(size=reference))
        listed = discoveries(conformal_p_values(known, rng.normal(size=studies) + shift * abnormal), q)
        false[cohort] = (listed & ~abnormal).sum() / max(1, listed.sum())
        power[cohort] = listed[abnormal].mean()
    return CohortRates(
        rate=float(false.mean()),
        error=float(false.std(ddof=1) / np.sqrt(cohorts)),
        power=float(power.mean()),
    )


def _interval(reference: int, tested: int, alpha: float) -> tuple[float, float]:
    """Central interval of the flagged share of ``tested`` normals, over references and normals both."""
    allowed = int(np.floor(alpha * (reference + 1) + 1e-9))
    if allowed == 0:
        return 0.0, 0.0
    low, high = betabinom.interval(CONFIDENCE, tested, allowed, reference + 1 - allowed)
    return float(low) / tested, float(high) / tested
