"""Figures of scores of cases: points of the curve, decisions at a threshold, and what covariates explain."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.evaluation.metrics import auroc, wilson_interval

MOST_ALARMS = 0.05  # Share of normals that the operating point may flag.
SENSITIVITY_ASKED = 0.95  # Of the false-positive rate at a fixed sensitivity.

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Decisions:
    """Cases flagged and not flagged at one threshold.

    Attributes
    ----------
    true_positives, false_negatives, true_negatives, false_positives : int
    """

    true_positives: int
    false_negatives: int
    true_negatives: int
    false_positives: int

    @property
    def sensitivity(self) -> float:
        """Share of the abnormal that are flagged; NaN without any."""
        return _share(self.true_positives, self.true_positives + self.false_negatives)

    @property
    def specificity(self) -> float:
        """Share of the normal that are not flagged; NaN without any."""
        return _share(self.true_negatives, self.true_negatives + self.false_positives)

    @property
    def precision(self) -> float:
        """Share of the flagged that are abnormal; NaN if nothing is flagged."""
        return _share(self.true_positives, self.true_positives + self.false_positives)

    @property
    def accuracy(self) -> float:
        """Share of right decisions."""
        right = self.true_positives + self.true_negatives
        return _share(right, right + self.false_positives + self.false_negatives)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and sensitivity."""
        wrong = self.false_positives + self.false_negatives
        return _share(2 * self.true_positives, 2 * self.true_positives + wrong)

    def intervals(self) -> dict[str, tuple[float, float]]:
        """95 % Wilson intervals of sensitivity and specificity, where there are cases."""
        found = {}
        abnormal = self.true_positives + self.false_negatives
        normal = self.true_negatives + self.false_positives
        if abnormal:
            found["sensitivity"] = wilson_interval(self.true_positives, abnormal)
        if normal:
            found["specificity"] = wilson_interval(self.true_negatives, normal)
        return found


def decide(truth: ArrayLike, flagged: ArrayLike) -> Decisions:
    """Count decisions.

    Parameters
    ----------
    truth, flagged : array of bool, shape (cases,)
    """
    labels, flags = np.asarray(truth, dtype=np.bool_), np.asarray(flagged, dtype=np.bool_)
    return Decisions(
        true_positives=int((labels & flags).sum()),
        false_negatives=int((labels & ~flags).sum()),
        true_negatives=int((~labels & ~flags).sum()),
        false_positives=int((~labels & flags).sum()),
    )


def conformal_threshold(reference: ArrayLike, alpha: float = MOST_ALARMS) -> float:
    """Reference score above which the split-conformal p is at most ``alpha``: what is higher is flagged.

    With fewer than 1 / alpha - 1 reference scores no p is that small; then what is higher than all of them is
    flagged, which is the lowest p they can give.
    """
    scores = np.sort(np.asarray(reference, dtype=np.float64))
    passed = max(0, int(np.floor(alpha * (len(scores) + 1) + 1e-9)) - 1)
    return float(scores[len(scores) - 1 - passed])


def equal_error_threshold(truth: ArrayLike, scores: ArrayLike) -> float:
    """Score at which as many normals are flagged as abnormals are missed, as nearly as the cases allow.

    It uses labels, so figures at it are optimistic; it stands beside published ones that did the same.
    """
    labels = np.asarray(truth, dtype=np.bool_)
    values = np.asarray(scores, dtype=np.float64)
    thresholds = np.unique(values)
    normal, abnormal = np.sort(values[~labels]), np.sort(values[labels])
    alarms = 1 - np.searchsorted(normal, thresholds) / len(normal)
    missed = np.searchsorted(abnormal, thresholds) / len(abnormal)
    return float(thresholds[np.argmin(np.abs(alarms - missed))])


def false_positive_rate(truth: ArrayLike, scores: ArrayLike, sensitivity: float = SENSITIVITY_ASKED) -> float:
    """Share of normals flagged at the highest threshold that finds ``sensitivity`` of the abnormal."""
    labels = np.asarray(truth, dtype=np.bool_)
    values = np.asarray(scores, dtype=np.float64)
    abnormal = np.sort(values[labels])[::-1]
    if not len(abnormal) or labels.all():
        return float("nan")
    threshold = abnormal[int(np.ceil(sensitivity * len(abnormal) - 1e-9)) - 1]
    return float((values[~labels] >= threshold).mean())


def area_by_trapezoids(truth: ArrayLike, scores: ArrayLike) -> float:
    """AUPRC: the precision-recall curve joined by straight lines, which is more generous than the AP."""
    from sklearn.metrics import auc, precision_recall_curve  # Heavy; the service never needs it.

    labels = np.asarray(truth, dtype=np.bool_)
    if not labels.any():
        return float("nan")
    precision, recall, _ = precision_recall_curve(labels, np.asarray(scores, dtype=np.float64))
    return float(auc(recall, precision))


def regress_out(scores: ArrayLike, covariates: ArrayLike, normal: ArrayLike) -> Floats:
    """What of the scores is not a linear function of the covariates.

    Parameters
    ----------
    scores : float, shape (cases,)
    covariates : float, shape (cases, covariates)
    normal : bool, shape (cases,)
        Cases that the regression is fitted on: findings must not explain themselves away.

    Returns
    -------
    float64, shape (cases,)
    """
    values = np.asarray(scores, dtype=np.float64)
    found = np.asarray(covariates, dtype=np.float64)
    chosen = np.asarray(normal, dtype=np.bool_)
    middle = found[chosen].mean(axis=0)
    spread = np.maximum(found[chosen].std(axis=0), 1e-9)
    design = np.column_stack([np.ones(len(found)), (found - middle) / spread])
    weights = np.linalg.lstsq(design[chosen], values[chosen], rcond=None)[0]
    return np.asarray(values - design @ weights, dtype=np.float64)


def most_telling(truth: ArrayLike, values: ArrayLike) -> Floats:
    """A property as the score that separates best: high, low, or far from the middle of the normals.

    A shortcut may point any way, and a model can find it whichever way it points, so this row gives the
    property every advantage.
    """
    labels = np.asarray(truth, dtype=np.bool_)
    found = np.asarray(values, dtype=np.float64)
    candidates = (found, -found, np.abs(found - np.median(found[~labels])))
    return max(candidates, key=lambda scores: auroc(labels, scores))


def _share(found: int, of: int) -> float:
    return found / of if of else float("nan")
