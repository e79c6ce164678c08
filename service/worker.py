"""The worker process of one pool: takes jobs, hands failures back, lets the reaper run beside it."""

import threading
from collections.abc import Callable
from typing import Protocol

import procrastinate
import structlog

from service.engine import TASKS, Pool
from service.reaper import Reaper
from service.store import conninfo

POLL_S = 2.0  # fallback where a notification was lost
DELIVERIES = 4  # at a time; they wait for the network
STOP_TIMEOUT_S = 60.0  # a job in hand may finish

log = structlog.get_logger(__name__)


class Work(Protocol):
    """What one pool does with a row."""

    def run(self, row_id: int) -> None:
        """Make one attempt; harmless where the row has ended."""

    def failed(self, row_id: int, error: Exception) -> None:
        """Decide about another attempt."""


def run_worker(pool: Pool, work: Work, *, jobs: int, database_url: str, reaper: Reaper) -> None:
    """Work until told to stop by SIGTERM or SIGINT, or until the database goes.

    Parameters
    ----------
    pool : Pool
    work : Work
    jobs : int
        At a time, each in a thread of its own.
    database_url : str
    reaper : Reaper
        Runs in a thread of this process.
    """
    app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=conninfo(database_url)))
    app.task(name=TASKS[pool.value])(_task(work))
    stop = threading.Event()
    rescue = threading.Thread(target=reaper.run, args=(stop,), name="reaper", daemon=True)
    rescue.start()
    log.info("worker ready", pool=pool.value)
    try:
        app.run_worker(
            queues=[pool.value],
            name=pool.value,
            concurrency=jobs,
            fetch_job_polling_interval=POLL_S,
            shutdown_graceful_timeout=STOP_TIMEOUT_S,
            delete_jobs="successful",
            update_heartbeat_interval=reaper.stalled_s / 4,
            stalled_worker_timeout=reaper.stalled_s,
        )
    finally:
        stop.set()
        rescue.join()


def _task(work: Work) -> Callable[[int], None]:
    def run(row_id: int) -> None:
        try:
            work.run(row_id)
        except Exception as error:  # noqa: BLE001 - the worker's border: one bad study never stops the pool
            work.failed(row_id, error)

    return run
