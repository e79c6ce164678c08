"""Today's raw scores over those of the reference group, as numbers for a drawing and for a table."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf, nextafter
from typing import Self

BINS_WITHIN = 8  # over the range of the reference group
BINS_BEYOND = 8  # of the same width, above its highest


@dataclass(frozen=True, slots=True, kw_only=True)
class Bin:
    """One range of scores.

    Attributes
    ----------
    label : str
        The range in words: ``below 0.1``, ``0.1 to 0.2``, ``0.9 and above``.
    today, reference : int
        Studies in it.
    is_beyond : bool
        No reference study scored as high.
    """

    label: str
    today: int
    reference: int
    is_beyond: bool

    def without_reference(self) -> Self:
        """The same range where there is nobody to compare with, so that nothing lies beyond anything."""
        return replace(self, reference=0, is_beyond=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """Today's studies over the reference group.

    Attributes
    ----------
    bins : tuple of Bin
        Ascending: more unusual to the right.
    """

    bins: tuple[Bin, ...]

    @property
    def today(self) -> int:
        """Studies of today."""
        return sum(item.today for item in self.bins)

    @property
    def reference(self) -> int:
        """Studies in the reference group."""
        return sum(item.reference for item in self.bins)

    @property
    def beyond(self) -> int:
        """Studies of today that scored higher than every reference study."""
        return sum(item.today for item in self.bins if item.is_beyond)

    @property
    def within(self) -> int:
        """Bins up to the highest reference score."""
        return sum(not item.is_beyond for item in self.bins)

    def heights(self, name: str, tallest: float) -> list[float]:
        """Heights of the bars of ``today`` or ``reference``; the fullest is the tallest."""
        counts = [getattr(item, name) for item in self.bins]
        most = max(counts) or 1
        return [tallest * count / most for count in counts]


def edges_of(reference: Sequence[float]) -> list[float]:
    """Edges of the bins for a reference group: its range, and as far again above it.

    Parameters
    ----------
    reference : sequence of float
        Raw scores, ascending, at least one.
    """
    lowest, highest = reference[0], reference[-1]
    width = (highest - lowest) / BINS_WITHIN or max(abs(highest), 1.0) / BINS_WITHIN
    beyond = nextafter(highest, inf)  # a bin holds its lower edge: what is as high as the highest is within
    return [
        *(lowest + width * step for step in range(BINS_WITHIN)),
        *(beyond + width * step for step in range(BINS_BEYOND + 1)),
    ]


def histogram(reference: Sequence[float], today: Sequence[int]) -> Histogram:
    """Today's counts beside those of the reference group.

    Parameters
    ----------
    reference : sequence of float
        Raw scores, ascending, at least one.
    today : sequence of int
        As `service.store.score_counts` counts them between `edges_of` the reference.
    """
    edges = edges_of(reference)
    beside = [0] * (len(edges) + 1)
    for score in reference:
        beside[bisect_right(edges, score)] += 1
    return Histogram(
        bins=tuple(
            Bin(
                label=_label(edges, index),
                today=today[index],
                reference=beside[index],
                is_beyond=index > BINS_WITHIN,
            )
            for index in range(len(beside))
        )
    )


def _label(edges: Sequence[float], index: int) -> str:
    if index == 0:
        return f"below {edges[0]:.3g}"
    if index == len(edges):
        return f"{edges[-1]:.3g} and above"
    return f"{edges[index - 1]:.3g} to {edges[index]:.3g}"
