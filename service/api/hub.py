"""One look at the change notices for all who watch: a thread that wakes on NOTIFY, or by the clock.

It runs while somebody watches. Every watcher has a queue of its own, bounded: one that does not take what it
is told is let go, and asks again from the last number it saw.
"""

import asyncio
import threading
import time
from collections.abc import Sequence

import psycopg
import structlog

from service.api.problems import too_many_watchers
from service.engine import DATABASE_AWAY
from service.store import Store, changes, conninfo
from service.store.changes import Change

MOST_WATCHERS = 200
QUEUE = 256  # notices a watcher may be behind
POLL_S = 2.0  # where no NOTIFY comes through, as behind a pooler of connections
GATHER_S = 0.2  # a burst of changes becomes one look
LOOK = 1000  # notices at a time
THREAD = "changes"

log = structlog.get_logger(__name__)


class Watcher:
    """Somebody who is told of changes.

    Attributes
    ----------
    queue : asyncio.Queue of Change or None
        None: some notices are gone, read the list again.
    is_dropped : bool
        It was too slow; nothing more is told.
    """

    def __init__(self) -> None:
        self.queue: asyncio.Queue[Change | None] = asyncio.Queue(QUEUE)
        self.is_dropped = False
        self._loop = asyncio.get_running_loop()

    def tell(self, told: Sequence[Change | None]) -> None:
        """Hand notices over, from any thread; never waits."""
        try:
            self._loop.call_soon_threadsafe(self._take, told)
        except RuntimeError:  # its loop has ended, and so has it
            self.is_dropped = True

    def _take(self, told: Sequence[Change | None]) -> None:
        for change in told:
            if self.queue.full():
                self.is_dropped = True
                return
            self.queue.put_nowait(change)


class Hub:
    """Tells everybody who watches.

    Parameters
    ----------
    store : Store
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._watchers: set[Watcher] = set()
        self._thread: threading.Thread | None = None
        self._looked_at = time.monotonic()

    @property
    def unread_s(self) -> float:
        """Seconds since the database was last looked at: there may be changes that nobody is told of."""
        return time.monotonic() - self._looked_at

    def join(self, watcher: Watcher) -> None:
        """Tell somebody from now on; waits for the database.

        Raises
        ------
        ProblemError
            If too many watch.
        """
        with self._store.transaction() as session:
            told = changes.settle(session)
        with self._lock:
            if len(self._watchers) >= MOST_WATCHERS:
                raise too_many_watchers()
            self._watchers.add(watcher)
            if self._thread is None:
                self._looked_at = time.monotonic()
                self._thread = threading.Thread(target=self._run, args=(told,), name=THREAD, daemon=True)
                self._thread.start()

    def leave(self, watcher: Watcher) -> None:
        """Tell somebody no more; the last one stops the looking."""
        with self._lock:
            self._watchers.discard(watcher)

    def _run(self, told: int) -> None:
        while self._is_watched():
            try:
                with psycopg.connect(conninfo(self._store.url), autocommit=True) as connection:
                    connection.execute(f"LISTEN {changes.CHANNEL}")
                    while self._is_watched():
                        told = self._look(told)
                        if any(True for _ in connection.notifies(timeout=POLL_S, stop_after=1)):
                            time.sleep(GATHER_S)
            except (psycopg.Error, *DATABASE_AWAY):
                log.warning("change notices wait for the database")
                time.sleep(POLL_S)
            except Exception:  # a list that stands still must not look like a quiet night
                log.exception("change notices begin again")
                time.sleep(POLL_S)

    def _is_watched(self) -> bool:
        """Whether to go on; decided together with `join`, so that nobody is left without a thread."""
        with self._lock:
            if self._watchers:
                return True
            self._thread = None
            return False

    def _look(self, told: int) -> int:
        """Tell what is new; return the number of the newest."""
        with self._store.transaction() as session:
            newest = changes.settle(session)
        while told < newest:
            with self._store.transaction() as session:
                found = changes.since(session, told, limit=LOOK)
            if not found:  # some are gone
                self._tell([None])
                break
            self._tell(_merged(found))
            told = found[-1].number
        self._looked_at = time.monotonic()
        return newest

    def _tell(self, told: Sequence[Change | None]) -> None:
        with self._lock:
            watchers = tuple(self._watchers)
        for watcher in watchers:
            watcher.tell(told)


def _merged(found: Sequence[Change]) -> list[Change]:
    """Return the newest notice of each study and kind of change."""
    newest = {(change.key, change.change): change for change in found}
    return sorted(newest.values(), key=lambda change: change.number)
