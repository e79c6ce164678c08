"""Intervals of case figures under redrawing patients, fast enough for ten thousand cases."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from models.evaluation.pixels import PixelCurve

Interval = tuple[float, float]


def case_intervals(
    truth: ArrayLike, scores: ArrayLike, patients: Sequence[str], *, seed: int, draws: int = 1000
) -> tuple[Interval, Interval]:
    """95 % percentile intervals of AUROC and AP; a patient is drawn with all of their cases.

    Parameters
    ----------
    truth : bool, shape (cases,)
    scores : float, shape (cases,)
    patients : sequence of str
        Owner of each case.
    seed, draws : int
        Draws without both kinds of cases are left out.

    Returns
    -------
    auroc, average_precision : tuple of float
        NaN where no draw has both kinds.
    """
    values = np.asarray(scores, dtype=np.float64)
    order = np.argsort(-values, kind="stable")
    labels = np.asarray(truth, dtype=np.bool_)[order]
    last_of_tie = np.append(np.flatnonzero(np.diff(values[order])), len(values) - 1)
    names, owner = np.unique(np.asarray(patients), return_inverse=True)
    owner = owner[order]
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(draws):
        weight = np.bincount(rng.integers(len(names), size=len(names)), minlength=len(names))[owner]
        hits = np.cumsum(weight * labels)[last_of_tie]
        alarms = np.cumsum(weight * ~labels)[last_of_tie]
        if hits[-1] and alarms[-1]:
            curve = PixelCurve(hits=hits, alarms=alarms)
            found.append((curve.auroc, curve.average_precision))
    if not found:
        return (float("nan"), float("nan")), (float("nan"), float("nan"))
    (low, low_ap), (high, high_ap) = np.percentile(found, [2.5, 97.5], axis=0)
    return (float(low), float(high)), (float(low_ap), float(high_ap))
