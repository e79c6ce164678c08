"""Order beyond the reference: a generalised Pareto tail of the highest reference scores.

A conformal p cannot fall below 1 / (n + 1), so every study above all reference scores has the same. To put
the most unusual of them first, also across groups, the highest tenth of the reference is extrapolated
(peaks over threshold: Pickands 1975; Coles 2001, section 4). It is an estimate: it orders, and no p-value
of a study is ever taken from it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

SHARE = 0.10  # Of the reference scores that make the tail.
LEAST = 30  # Fewer scores above the threshold fix no shape.
STRAIGHT = 0.95  # Least correlation of observed and fitted quantiles.
SHAPES = (-0.5, 1.0)  # Beyond: no regular likelihood, or no mean (Coles 2001, section 4.3).


@dataclass(frozen=True, slots=True, kw_only=True)
class Tail:
    """Distribution of a score above a threshold.

    Attributes
    ----------
    threshold : float
        Score where the tail begins.
    shape, scale : float
        Of the generalised Pareto distribution of what is above it.
    share : float
        Of the reference scores that are above it.
    n : int
        Their number.
    straightness : float
        Correlation of their quantiles with the fitted ones.
    """

    threshold: float
    shape: float
    scale: float
    share: float
    n: int
    straightness: float

    @classmethod
    def fit(cls, scores: Sequence[float]) -> Self | None:
        """Fit the tail of reference scores by maximum likelihood.

        Parameters
        ----------
        scores : sequence of float
            Ascending.

        Returns
        -------
        Tail or None
            None where there are fewer than ``LEAST`` scores in it, or they follow no such tail.
        """
        values = np.asarray(scores, dtype=np.float64)
        count = int(SHARE * values.size)
        if count < LEAST:
            return None
        threshold = float(values[-count - 1])
        excess = values[-count:] - threshold
        if excess[0] <= 0:  # ties with the threshold: no continuous score
            return None
        from scipy.stats import genpareto  # takes a second to load, and most processes never need it

        shape, _, scale = genpareto.fit(excess, floc=0)
        wanted = genpareto.ppf((np.arange(count) + 0.5) / count, shape, scale=scale)
        straightness = float(np.corrcoef(excess, wanted)[0, 1])
        if straightness < STRAIGHT or not SHAPES[0] <= shape <= SHAPES[1]:
            return None
        return cls(
            threshold=threshold,
            shape=float(shape),
            scale=float(scale),
            share=count / values.size,
            n=count,
            straightness=straightness,
        )

    def probability(self, score: float) -> float | None:
        """Estimated share of normals that score higher; None below the threshold, where they are counted."""
        if score <= self.threshold:
            return None
        from scipy.stats import genpareto  # as above

        return self.share * float(genpareto.sf(score - self.threshold, self.shape, scale=self.scale))
