"""One list, several readers: who is read when. An event queue of two kinds, arrivals and readers set free.

No simulation library: a reader takes the next study the moment both are there, so the whole machine is a
heap of readers. What the order says of a study changes while it waits (it is scored, it is overdue), which
the priority queues of libraries do not offer.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from math import inf

import numpy as np
from numpy.typing import NDArray

from service.study import Priority

Rank = tuple[float, ...]
# Bands of the list, top first. None is uncalibrated here: every score has its percentile.
UNJUDGED, RANKED, PENDING = range(3)
TAKEN = -1  # not here: to come, or read


@dataclass(frozen=True, slots=True, kw_only=True)
class Day:
    """Studies in the order of their arrival; every array has the shape (studies,).

    Attributes
    ----------
    arrival_h : float64
        Ascending, hours.
    reading_h : float64
        How long each takes to read.
    priority : int
        As in `Priority`.
    is_abnormal : bool
    p_value, score : float64
        NaN: not assessable.
    scored_h : float64
        When the score is there.
    """

    arrival_h: NDArray[np.float64]
    reading_h: NDArray[np.float64]
    priority: NDArray[np.int64]
    is_abnormal: NDArray[np.bool_]
    p_value: NDArray[np.float64]
    score: NDArray[np.float64]
    scored_h: NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """How the list is ordered: by bands, which never change places, and within each by tiers.

    The tiers are those of the worklist (`service.store.order`): STAT that is overdue, other STAT, what else
    is overdue, the rest. The overdue are read as they arrived, the others by their ranks. Screening never is
    overdue.

    Attributes
    ----------
    name : str
    bands : sequence of int
        Of each study, below `PENDING`; the lowest is read first.
    ranks : sequence of tuple
        Of each study; lower is read first, equal ones as they arrived.
    known_h : float64, shape (studies,)
        From when on band and rank are known; before, a study is pending: below all bands, by priority.
    longest_h : float
        A study that waited longer is overdue.
    """

    name: str
    bands: Sequence[int]
    ranks: Sequence[Rank]
    known_h: NDArray[np.float64]
    longest_h: float = inf


def first_come(day: Day) -> Order:
    """Urgent before routine, else as they arrived: a list without Vigil."""
    ranks = [(-float(p),) for p in day.priority]
    return Order(name="first-come", bands=[RANKED] * len(ranks), ranks=ranks, known_h=day.arrival_h)


def oracle(day: Day) -> Order:
    """STAT, then every abnormal study before every normal one: no list can do better for the abnormal."""
    ranks = [(0.0 if is_abnormal else 1.0,) for is_abnormal in day.is_abnormal]
    return Order(name="severity-oracle", bands=[RANKED] * len(ranks), ranks=ranks, known_h=day.arrival_h)


def vigil(day: Day, longest_h: float) -> Order:
    """The worklist's own order: what could not be judged, what was ranked, what is not scored yet.

    Parameters
    ----------
    day : Day
    longest_h : float
        Hours after which a study is overdue.
    """
    bands, ranks = [], list[Rank]()
    for priority, p, score in zip(day.priority, day.p_value, day.score, strict=True):
        is_judged = not np.isnan(p)
        bands.append(RANKED if is_judged else UNJUDGED)
        ranks.append((-float(priority), *((float(p), -float(score)) if is_judged else ())))
    return Order(name="vigil", bands=bands, ranks=ranks, known_h=day.scored_h, longest_h=longest_h)


def waits(day: Day, order: Order, readers: int) -> NDArray[np.float64]:
    """Hours from the arrival of each study to the start of its reading.

    Parameters
    ----------
    day : Day
    order : Order
    readers : int
        Each reads one study at a time, to its end.
    """
    waited = np.empty(len(day.arrival_h))
    listed = _List(day, order)
    free = [0.0] * readers
    heapify(free)
    for _ in range(len(waited)):
        now = listed.next_moment(heappop(free))
        chosen = listed.take(now)
        waited[chosen] = now - day.arrival_h[chosen]
        heappush(free, now + float(day.reading_h[chosen]))
    return waited


class _Tier:
    """Part of a band: what is overdue as it arrived, then the rest by rank. A study stands in both queues."""

    def __init__(self) -> None:
        self._by_age: list[int] = []  # a study's number is its place in the order of arrival
        self._ranked: list[tuple[Rank, int]] = []

    def add(self, study: int, rank: Rank, *, may_be_overdue: bool) -> None:
        if may_be_overdue:
            heappush(self._by_age, study)
        heappush(self._ranked, (rank, study))

    def first(self, bands: Sequence[int], band: int, overdue_until: int) -> int | None:
        """The study that is read first of those that are in the band still; below a number all are late."""
        while self._by_age and bands[self._by_age[0]] != band:
            heappop(self._by_age)
        if self._by_age and self._by_age[0] < overdue_until:
            return self._by_age[0]
        while self._ranked and bands[self._ranked[0][1]] != band:
            heappop(self._ranked)
        return self._ranked[0][1] if self._ranked else None


class _List:
    """What waits, by band and tier."""

    def __init__(self, day: Day, order: Order) -> None:
        self._arrival = day.arrival_h.tolist()
        self._known = order.known_h.tolist()
        self._priority = day.priority.tolist()
        self._order = order
        self._coming = 0  # the first that has not arrived
        self._overdue_until = 0  # the first that is not overdue
        self._band = [TAKEN] * len(self._arrival)
        self._tiers = {band: (_Tier(), _Tier()) for band in (UNJUDGED, RANKED, PENDING)}
        self._unknown: list[tuple[float, int]] = []
        self._waiting = 0

    def next_moment(self, free_h: float) -> float:
        """When a reader free since then can begin: at once, or with the next arrival."""
        return free_h if self._waiting else max(free_h, self._next_arrival(free_h))

    def _next_arrival(self, free_h: float) -> float:
        return self._arrival[self._coming] if self._coming < len(self._arrival) else free_h

    def take(self, now: float) -> int:
        """The study that is first on the list now."""
        self._admit(now)
        chosen = next(self._candidates())
        self._band[chosen] = TAKEN
        self._waiting -= 1
        return chosen

    def _admit(self, now: float) -> None:
        while self._coming < len(self._arrival) and self._arrival[self._coming] <= now:
            study = self._coming
            self._put(study, PENDING, (-float(self._priority[study]),))
            heappush(self._unknown, (self._known[study], study))
            self._waiting += 1
            self._coming += 1
        while self._unknown and self._unknown[0][0] <= now:
            _, study = heappop(self._unknown)
            if self._band[study] != TAKEN:
                self._put(study, self._order.bands[study], self._order.ranks[study])
        while self._overdue_until < self._coming and self._is_overdue(self._overdue_until, now):
            self._overdue_until += 1

    def _is_overdue(self, study: int, now: float) -> bool:
        return bool(now - self._arrival[study] > self._order.longest_h)

    def _put(self, study: int, band: int, rank: Rank) -> None:
        self._band[study] = band
        priority = self._priority[study]
        tier = self._tiers[band][0 if priority >= Priority.STAT else 1]
        tier.add(study, rank, may_be_overdue=priority > Priority.SCREENING)

    def _candidates(self) -> Iterator[int]:
        """Studies that wait, in the order of the list."""
        for band, tiers in self._tiers.items():
            for tier in tiers:
                found = tier.first(self._band, band, self._overdue_until)
                if found is not None:
                    yield found
