"""Figures of pixels pooled over a data set, from histograms by patient.

A score's bin is the leading 20 bits of its float32 in numerical order (sign, exponent and 11 bits of the
mantissa), 1 048 576 bins: no range has to be known, scores closer than 1/2048 of themselves count as tied,
and a pool of a hundred million pixels needs a few megabytes.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BITS = 20
BINS = 2**BITS
COARSE = 4096  # Bins of the bootstrap, each with about as many abnormal pixels.

Counts = NDArray[np.int64]


def bin_of(scores: NDArray[np.float32]) -> NDArray[np.int64]:
    """Bin of every score; bins ascend with scores."""
    # Adding zero turns -0 into 0, which are the same score.
    words = (np.asarray(scores, dtype=np.float32) + np.float32(0)).view(np.uint32)
    ordered = np.where(words >> 31, ~words, words | np.uint32(1 << 31))
    return (ordered >> np.uint32(32 - BITS)).astype(np.int64)


@dataclass(frozen=True, slots=True, kw_only=True)
class PixelCurve:
    """Pixels at or above each of a falling series of thresholds.

    Attributes
    ----------
    hits, alarms : int64, shape (thresholds,)
        Abnormal and normal pixels at or above.
    """

    hits: Counts
    alarms: Counts

    @property
    def average_precision(self) -> float:
        """As scikit-learn defines it; NaN without an abnormal pixel."""
        return float(_average_precision(self.hits[None], self.alarms[None])[0])

    @property
    def auroc(self) -> float:
        """Area under the receiver operating characteristic, ties counting half."""
        if not self.hits[-1] or not self.alarms[-1]:
            return float("nan")
        tpr = np.concatenate([[0], self.hits]) / self.hits[-1]
        fpr = np.concatenate([[0], self.alarms]) / self.alarms[-1]
        return float(np.trapezoid(tpr, fpr))

    @property
    def best_dice(self) -> float:
        """Highest Dice over all thresholds: optimistic, for the threshold is chosen by the labels."""
        return float(_dice(self.hits, self.alarms).max()) if self.hits[-1] else float("nan")

    @property
    def prevalence(self) -> float:
        """Share of abnormal pixels, which is the AP of chance."""
        return float(self.hits[-1] / (self.hits[-1] + self.alarms[-1]))


class PixelPool:
    """Pixels of a data set, kept as one histogram a patient."""

    def __init__(self) -> None:
        self._kept: dict[str, tuple[NDArray[np.int64], Counts]] = {}

    def add(self, patient: str, scores: NDArray[np.float32], truth: NDArray[np.bool_]) -> PixelCurve:
        """Count the pixels of a scan.

        Parameters
        ----------
        patient : str
            Whose they are.
        scores : float32
        truth : bool
            Of the same shape.

        Returns
        -------
        PixelCurve
            Of this scan alone.
        """
        bins, place = np.unique(bin_of(scores.ravel()), return_inverse=True)
        total = np.bincount(place, minlength=len(bins))
        hits = np.bincount(place[truth.ravel()], minlength=len(bins))
        counts = np.stack([hits, total - hits]).astype(np.int64)
        own = _curve(counts)
        if patient in self._kept:
            bins, counts = _merge([self._kept[patient], (bins, counts)])
        self._kept[patient] = bins, counts
        return own

    @property
    def patients(self) -> tuple[str, ...]:
        """Patients with pixels in the pool."""
        return tuple(self._kept)

    def curve(self) -> PixelCurve:
        """The curve of all pixels."""
        return _curve(_merge(list(self._kept.values()))[1])

    def dice_at(self, threshold: float) -> float:
        """Dice of the pixels in the threshold's bin and above."""
        first = int(bin_of(np.array([threshold], dtype=np.float32))[0])
        hits = alarms = total = 0
        for bins, counts in self._kept.values():
            above = bins >= first
            hits += int(counts[0, above].sum())
            alarms += int(counts[1, above].sum())
            total += int(counts[0].sum())
        return 2 * hits / (hits + alarms + total) if total else float("nan")

    def intervals(self, *, seed: int, draws: int = 1000) -> dict[str, tuple[float, float]]:
        """95 % percentile intervals of AP and best Dice under redrawing patients.

        Parameters
        ----------
        seed : int
            Of the draws.
        draws : int
        """
        table = self._coarse()
        rng = np.random.default_rng(seed)
        drawn = rng.multinomial(len(table), np.full(len(table), 1 / len(table)), size=draws)
        precision, dice = [], []
        for weights in drawn:
            hits, alarms = np.cumsum(np.tensordot(weights, table, 1), axis=1)
            if hits[-1]:
                precision.append(float(_average_precision(hits[None], alarms[None])[0]))
                dice.append(float(_dice(hits, alarms).max()))
        return {"pixel_ap": _percentiles(precision), "pixel_dice_best": _percentiles(dice)}

    def _coarse(self) -> Counts:
        """Histograms of all patients on common bins, highest first; shape (patients, 2, bins)."""
        bins, counts = _merge(list(self._kept.values()))
        share = np.cumsum(counts[0][::-1]) / max(1, int(counts[0].sum()))
        group = np.minimum((share * COARSE).astype(np.int64), COARSE - 1)[::-1]
        table = np.zeros((len(self._kept), 2, COARSE), dtype=np.int64)
        for row, (own, found) in zip(table, self._kept.values(), strict=True):
            at = group[np.searchsorted(bins, own)]
            for kind in (0, 1):
                np.add.at(row[kind], at, found[kind])
        return table


def dice_of(scores: NDArray[np.float32], truth: NDArray[np.bool_], threshold: float) -> float:
    """Dice of one scan at a threshold; NaN where the scan has no abnormal pixel."""
    if not truth.any():
        return float("nan")
    found = scores >= threshold
    return float(2 * (found & truth).sum() / (found.sum() + truth.sum()))


def _curve(counts: Counts) -> PixelCurve:
    falling = np.cumsum(counts[:, ::-1], axis=1)
    return PixelCurve(hits=falling[0], alarms=falling[1])


def _merge(parts: list[tuple[NDArray[np.int64], Counts]]) -> tuple[NDArray[np.int64], Counts]:
    bins = np.unique(np.concatenate([own for own, _ in parts]))
    counts = np.zeros((2, len(bins)), dtype=np.int64)
    for own, found in parts:
        counts[:, np.searchsorted(bins, own)] += found
    return bins, counts


def _average_precision(hits: Counts, alarms: Counts) -> NDArray[np.float64]:
    steps = np.diff(hits, axis=1, prepend=0)
    precision = hits / np.maximum(hits + alarms, 1)
    total = hits[:, -1]
    return np.where(total > 0, (steps * precision).sum(axis=1) / np.maximum(total, 1), np.nan)


def _dice(hits: Counts, alarms: Counts) -> NDArray[np.float64]:
    return np.asarray(2 * hits / (hits + alarms + hits[-1]), dtype=np.float64)


def _percentiles(values: list[float]) -> tuple[float, float]:
    if not values:
        return float("nan"), float("nan")
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)
