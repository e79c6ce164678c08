"""Whose turn it is at a destination: one that hangs holds its own places, never those of others.

What finds no place asks again later; while the destination takes what it is sent, what stepped aside is taken
along at once.
"""

import heapq
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from threading import BoundedSemaphore, Lock

from dicom_node.errors import DeliveryError
from service import engine
from service.engine import Pool
from service.errors import StorageError
from service.store import Store, deliveries

FIRST_PAUSE_S = 2.0
LONGEST_PAUSE_S = 1800.0
AT_ONCE = 2  # attempts at one destination: one that hangs leaves slots of the pool to the others
SPARE = 4  # destinations that the peers file may gain before a restart gives them slots of their own
STEP_ASIDE_S = 3.0  # before an attempt asks again for its place at a destination that is full
ASIDE_GAP_S = 0.05  # between two that ask again, so that thousands for a dead destination load nobody
LONGEST_ASIDE_S = 300.0
MOST_ASIDE = 1000  # remembered for a destination; others come back by their time


def pause_s(attempt: int) -> float:
    """Seconds to wait after the given attempt: doubling, from `FIRST_PAUSE_S` up to `LONGEST_PAUSE_S`."""
    return float(min(FIRST_PAUSE_S * 2 ** (min(attempt, 30) - 1), LONGEST_PAUSE_S))


@dataclass(frozen=True, slots=True, kw_only=True)
class Errand:
    """One row of a pool on its way to one destination.

    Attributes
    ----------
    row_id, priority : int
    destination : str
    step : callable
        What is done once there is a place.
    takes_along : bool
        Whether what stepped aside goes with it.
    """

    row_id: int
    priority: int
    destination: str
    step: Callable[[], None]
    takes_along: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Turns:
    """The places of every destination of one pool, in this process.

    Attributes
    ----------
    store : Store
    pool : Pool
    attempt : callable
        Makes one attempt on a row.
    failed : callable
        Stores how one failed.
    """

    store: Store
    pool: Pool
    attempt: Callable[[int], None]
    failed: Callable[[int, Exception], None]
    _places: dict[str, BoundedSemaphore] = field(default_factory=dict)
    _asked_again: dict[str, float] = field(default_factory=dict)  # when the last one to step aside will ask
    # Priority, id and time of those that stepped aside in this process: a hint, the queue has them all.
    _aside: dict[str, list[tuple[int, int, float]]] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)

    def run(self, errand: Errand) -> None:
        """Do it if its destination has a place, else let it ask again."""
        with self._lock:  # the peers file may bring destinations while we run
            place = self._places.setdefault(errand.destination, BoundedSemaphore(AT_ONCE))
        if not place.acquire(blocking=False):
            self._step_aside(errand)
            return
        try:
            errand.step()
            if errand.takes_along:
                self._take_along(errand.destination)
        finally:
            place.release()

    def _take_along(self, destination: str) -> None:
        """Send what stepped aside, while the destination takes it: a healthy one keeps nothing waiting."""
        while (row_id := self._next_aside(destination)) is not None:
            with self.store.transaction() as session:
                if deliveries.is_parked(session, destination):
                    return
            try:
                self.attempt(row_id)
            except (DeliveryError, StorageError) as error:
                with self.store.transaction() as session:
                    engine.cancel(session, self.pool, row_id)  # it would ask before its pause is over
                self.failed(row_id, error)
                return

    def _next_aside(self, destination: str) -> int | None:
        """Most urgent of those that stepped aside and whose own time has not come."""
        with self._lock:
            waiting = self._aside.get(destination, [])
            while waiting:
                _, row_id, at = heapq.heappop(waiting)
                if at > time.monotonic():
                    return row_id
            return None

    def _step_aside(self, errand: Errand) -> None:
        """Ask for a place again soon, one after the other, without counting an attempt."""
        now = time.monotonic()
        with self._lock:
            last = self._asked_again.get(errand.destination, 0.0)
            at = min(max(last + ASIDE_GAP_S, now + STEP_ASIDE_S), now + LONGEST_ASIDE_S)
            self._asked_again[errand.destination] = at
            aside = self._aside.setdefault(errand.destination, [])
            if len(aside) < MOST_ASIDE:
                heapq.heappush(aside, (-errand.priority, errand.row_id, at))
        due = datetime.now(UTC) + timedelta(seconds=at - now)
        with self.store.transaction() as session:
            engine.enqueue(session, self.pool, errand.row_id, priority=errand.priority, not_before=due)
