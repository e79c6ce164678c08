"""One list, several readers: who is read when. An event queue of two kinds, arrivals and readers set free.

No simulation library: a reader takes the next study the moment both are there, so the whole machine is a
heap of readers. What the order says of a study changes while it waits (it is scored, it is overdue), which
the priority queues of libraries do not offer.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from math import inf

import numpy as np
from numpy.typing import NDArray

from service.study import Priority

Rank = tuple[float, ...]


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
    """How the list is ordered. STAT is first in every order, in that of arrival.

    Attributes
    ----------
    name : str
    ranks : sequence of tuple
        Of each study; lower is read first, equal ones as they arrived.
    known_h : float64, shape (studies,)
        From when on the rank is known; before, a study waits at the end, as it arrived.
    longest_h : float
        A study that waited longer passes all but STAT; among themselves the oldest first (I12).
    """

    name: str
    ranks: Sequence[Rank]
    known_h: NDArray[np.float64]
    longest_h: float = inf


def first_come(day: Day) -> Order:
    """Urgent before routine, else as they arrived: a list without Vigil."""
    return Order(name="first-come", ranks=[(-float(p),) for p in day.priority], known_h=day.arrival_h)


def oracle(day: Day) -> Order:
    """Every abnormal study before every normal one: no list can do better for the abnormal."""
    ranks = [(0.0 if is_abnormal else 1.0,) for is_abnormal in day.is_abnormal]
    return Order(name="severity-oracle", ranks=ranks, known_h=day.arrival_h)


def vigil(day: Day, longest_h: float) -> Order:
    """The worklist's own order: overdue, then by priority what could not be judged, percentile and score.

    Parameters
    ----------
    day : Day
    longest_h : float
        Hours after which a study is overdue.
    """
    ranks: list[Rank] = []
    for priority, p, score in zip(day.priority, day.p_value, day.score, strict=True):
        # A study without a score is never behind one with (I7).
        judged = (0.0, 0.0, 0.0) if np.isnan(p) else (1.0, float(p), -float(score))
        ranks.append((-float(priority), *judged))
    return Order(name="vigil", ranks=ranks, known_h=day.scored_h, longest_h=longest_h)


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


class _List:
    """What waits. A study stands in several queues; the first that gives it away wins."""

    def __init__(self, day: Day, order: Order) -> None:
        self._arrival = day.arrival_h.tolist()
        self._known = order.known_h.tolist()
        self._is_stat = (day.priority >= Priority.STAT).tolist()
        self._order = order
        self._coming = 0  # the first that has not arrived
        self._is_taken = [False] * len(self._arrival)
        self._stat: deque[int] = deque()
        self._by_age: deque[int] = deque()
        self._unknown: list[tuple[float, int]] = []
        self._ranked: list[tuple[Rank, int]] = []
        self._waiting = 0

    def next_moment(self, free_h: float) -> float:
        """When a reader free since then can begin: at once, or with the next arrival."""
        return free_h if self._waiting else max(free_h, self._next_arrival(free_h))

    def _next_arrival(self, free_h: float) -> float:
        return self._arrival[self._coming] if self._coming < len(self._arrival) else free_h

    def take(self, now: float) -> int:
        """The study that is first on the list now."""
        self._admit(now)
        chosen = next(self._candidates(now))
        self._is_taken[chosen] = True
        self._waiting -= 1
        return chosen

    def _admit(self, now: float) -> None:
        while self._coming < len(self._arrival) and self._arrival[self._coming] <= now:
            study = self._coming
            if self._is_stat[study]:
                self._stat.append(study)
            else:
                self._by_age.append(study)
                heappush(self._unknown, (self._known[study], study))
            self._waiting += 1
            self._coming += 1
        while self._unknown and self._unknown[0][0] <= now:
            _, study = heappop(self._unknown)
            heappush(self._ranked, (self._order.ranks[study], study))

    def _candidates(self, now: float) -> Iterator[int]:
        """Studies that wait, in the order of the rules."""
        if self._stat:
            yield self._stat.popleft()
        while self._by_age and self._is_taken[self._by_age[0]]:
            self._by_age.popleft()
        if self._by_age and now - self._arrival[self._by_age[0]] > self._order.longest_h:
            yield self._by_age.popleft()
        while self._ranked:
            _, study = heappop(self._ranked)
            if not self._is_taken[study]:
                yield study
        yield self._by_age.popleft()
