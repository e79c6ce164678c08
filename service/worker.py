"""The worker process of a pool, or of two: takes jobs, hands failures back, lets the reaper run beside it."""

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from enum import Enum, auto
from typing import Protocol

import procrastinate
import structlog

from service.engine import DATABASE_AWAY, TASKS, Pool
from service.reaper import Reaper
from service.store import conninfo

POLL_S = 2.0  # fallback where a notification was lost
STOP_TIMEOUT_S = 60.0  # a job in hand may finish
LAST_GRACE_S = 5.0  # for the goodbyes after it
PATIENCE_S = (0.5, 1.0, 2.0, 4.0, *(5.0,) * 22)  # between tries to say how a job failed: through a failover
WORD_S = 2.0  # to say what is abandoned
EXIT_ABANDONED = 3  # stopped with a job in hand, which the reaper brings back

log = structlog.get_logger(__name__)


class Work(Protocol):
    """What one pool does with a row."""

    def run(self, row_id: int) -> None:
        """Make one attempt; harmless where the row has ended."""

    def failed(self, row_id: int, error: Exception) -> None:
        """Decide about another attempt."""


class Ended(Enum):
    """Why a worker stopped."""

    TOLD = auto()  # by SIGTERM or SIGINT
    LOST = auto()  # the database went away
    REFUSED = auto()  # the database came to belong to another release


def run_worker(
    work: Mapping[Pool, Work],
    *,
    database_url: str,
    reaper: Reaper,
    slots: int = 1,
    on_abandon: Callable[[], None] = lambda: None,
) -> Ended:
    """Work until told to stop, or until the database goes.

    The first SIGTERM or SIGINT lets the jobs in hand finish, for `STOP_TIMEOUT_S` at most; a second one, or
    the end of that time, ends the process with `EXIT_ABANDONED`. What it had in hand is done again.

    Parameters
    ----------
    work : mapping of Pool to Work
        What this process does.
    database_url : str
    reaper : Reaper
        Runs in a thread of this process.
    slots : int
        Jobs at once, each in a thread of its own.
    on_abandon : callable
        Called before the process ends with jobs in hand; gets `WORD_S` seconds.
    """
    app = procrastinate.App(
        connector=procrastinate.PsycopgConnector(
            conninfo=conninfo(database_url, pools=[pool.value for pool in work])
        )
    )
    for pool, part in work.items():
        app.task(name=TASKS[pool.value])(_task(part))
    return asyncio.run(_Worker(app, tuple(work), reaper, slots, on_abandon).run())


class _Worker:
    """The engine's worker with our signals and our reaper around it."""

    def __init__(
        self,
        app: procrastinate.App,
        pools: tuple[Pool, ...],
        reaper: Reaper,
        slots: int,
        on_abandon: Callable[[], None],
    ) -> None:
        self._app = app
        self._pools = pools
        self._reaper = reaper
        self._slots = slots
        self._on_abandon = on_abandon
        self._ended = Ended.LOST

    async def run(self) -> Ended:
        loop = asyncio.get_running_loop()
        # The loop's own pool has few threads, whatever the number of jobs at once.
        loop.set_default_executor(ThreadPoolExecutor(self._slots + 1, thread_name_prefix="job"))
        working = asyncio.ensure_future(self._work())
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._told, working)
        stop = threading.Event()

        def refuse() -> None:
            loop.call_soon_threadsafe(self._finish, working, Ended.REFUSED)

        rescue = threading.Thread(target=self._reaper.run, args=(stop, refuse), name="reaper", daemon=True)
        rescue.start()
        log.info("worker ready", pools=[pool.value for pool in self._pools], slots=self._slots)
        try:
            with suppress(asyncio.CancelledError):
                await working
        finally:
            stop.set()
            rescue.join(LAST_GRACE_S)
        return self._ended

    async def _work(self) -> None:
        async with self._app.open_async():
            await self._app.run_worker_async(
                queues=[pool.value for pool in self._pools],
                name=self._pools[0].value,
                concurrency=self._slots,
                fetch_job_polling_interval=POLL_S,
                shutdown_graceful_timeout=STOP_TIMEOUT_S,
                delete_jobs="successful",
                install_signal_handlers=False,
                update_heartbeat_interval=self._reaper.stalled_s / 4,
                stalled_worker_timeout=self._reaper.stalled_s,
            )

    def _told(self, working: "asyncio.Future[None]") -> None:
        if self._ended is Ended.TOLD:
            self._abandon()
        self._finish(working, Ended.TOLD)

    def _finish(self, working: "asyncio.Future[None]", ended: Ended) -> None:
        """Take no further job; the process ends in bounded time, whatever the jobs in hand do."""
        self._ended = ended
        watchdog = threading.Timer(STOP_TIMEOUT_S + LAST_GRACE_S, self._abandon)
        watchdog.daemon = True
        watchdog.start()
        working.cancel()

    def _abandon(self) -> None:
        log.warning("worker ends with a job in hand")
        word = threading.Thread(target=self._on_abandon, name="last word", daemon=True)
        word.start()
        word.join(WORD_S)  # the database may be away
        os._exit(EXIT_ABANDONED)  # a thread at work cannot be ended otherwise


def _task(work: Work) -> Callable[[int], None]:
    def run(row_id: int) -> None:
        try:
            work.run(row_id)
        except Exception as error:  # noqa: BLE001 - the worker's border: one bad study never stops the pool
            _tell(work, row_id, error)

    return run


def _tell(work: Work, row_id: int, error: Exception) -> None:
    """Hand a failure back; a database that restarts is waited for, else this process would seem dead."""
    for pause_s in PATIENCE_S:
        try:
            work.failed(row_id, error)
        except DATABASE_AWAY:
            time.sleep(pause_s)
        else:
            return
    work.failed(row_id, error)
