"""The job queue: Procrastinate behind a few functions. Domain rows are the truth, engine rows disposable.

A job names a pool and the id of a domain row, nothing else. It is put into the queue inside the caller's
transaction, so that state, job and audit row commit together (I5). Duplicates are harmless by our own
unique keys; the engine's `queueing_lock` is never used, for a sibling holding it blocks a retry (its issue
1446).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import procrastinate
from procrastinate.exceptions import ConnectorException
from procrastinate.jobs import Job
from procrastinate.manager import JobManager
from sqlalchemy import Select, column, literal_column, table, text, update
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm import Session

from service import study

Pool = study.Pool
TASKS = {pool.value: f"vigil.{pool.value}" for pool in Pool}
# How a database that went away shows, through our own queries and through the engine's.
DATABASE_AWAY = (OperationalError, InterfaceError, PoolTimeoutError, ConnectorException)
TOO_MUCH = "54"  # PostgreSQL's class of errors for values beyond its limits, which drivers call operational
CLOCK_TOLERANCE_S = 2.0  # transactions begin before they write
KEEP_FAILED_HOURS = 24  # a finished row serves nobody but the person looking into a failure


def is_away(error: Exception) -> bool:
    """Whether the database went away; False where it is there and refuses what one study holds."""
    state = getattr(getattr(error, "orig", None), "sqlstate", None) or ""
    return isinstance(error, DATABASE_AWAY) and not state.startswith(TOO_MUCH)


@dataclass(frozen=True, slots=True, kw_only=True)
class Depth:
    """Jobs of one pool.

    Attributes
    ----------
    waiting, running : int
    oldest_s : float
        Age of the oldest job that is due, in seconds; 0 where there is none.
    longest_run_s : float
        Since when the job runs that runs longest; 0 where none does.
    """

    waiting: int
    running: int
    oldest_s: float
    longest_run_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """Jobs of one pool and priority that are due.

    Attributes
    ----------
    pool : Pool
    priority : int
    due : int
    oldest_s : float
        Age of the oldest of them, in seconds.
    """

    pool: Pool
    priority: int
    due: int
    oldest_s: float


# What of the engine's table we write ourselves.
_JOBS = table("procrastinate_jobs", column("id"), column("queue_name"), column("status"), column("priority"))

# Never opened: every call brings the connection of its own transaction.
_MANAGER = JobManager(procrastinate.SyncPsycopgConnector())


def enqueue(
    session: Session, pool: Pool, row_id: int, *, priority: int, not_before: datetime | None = None
) -> None:
    """Put a job into the queue, in the caller's transaction.

    Parameters
    ----------
    session : Session
    pool : Pool
    row_id : int
        Id of the score (`INFER`), the delivery (`DELIVER`) or the message (`MESSAGE`).
    priority : int
        Higher runs first.
    not_before : datetime, optional
        Aware; the job waits until then.
    """
    enqueue_all(session, pool, [row_id], priority=priority, not_before=not_before)


def enqueue_all(
    session: Session,
    pool: Pool,
    row_ids: Sequence[int],
    *,
    priority: int,
    not_before: datetime | None = None,
) -> None:
    """Put some jobs of one priority into the queue, in the caller's transaction; as `enqueue`."""
    jobs = [
        Job(
            queue=pool.value,
            lock=None,
            queueing_lock=None,
            task_name=TASKS[pool.value],
            task_kwargs={"row_id": row_id},
            priority=priority,
            scheduled_at=not_before,
        )
        for row_id in row_ids
    ]
    session.flush()
    if jobs:
        _MANAGER.batch_defer_jobs(jobs, connection=session.connection().connection.driver_connection)


def cancel(session: Session, pool: Pool, row_id: int) -> int:
    """Take the waiting jobs of a row out of the queue; return how many. A running job runs on."""
    done = session.execute(
        text(
            "DELETE FROM procrastinate_jobs WHERE queue_name = :pool AND status = 'todo'"
            " AND (args->>'row_id')::bigint = :row RETURNING id"
        ),
        {"pool": pool.value, "row": row_id},
    )
    return len(done.all())


def hasten(session: Session, pool: Pool, wanted: Select[int, int]) -> int:
    """Raise the priority of waiting jobs; return how many. None is lowered.

    Parameters
    ----------
    session : Session
    pool : Pool
    wanted : Select
        Ids of rows, and the priority that their jobs should have at least.
    """
    rows = wanted.subquery()
    row_id, priority = rows.c
    done = session.execute(
        update(_JOBS)
        .where(
            _JOBS.c.queue_name == pool.value,
            _JOBS.c.status == text("'todo'"),
            literal_column("(args->>'row_id')::bigint") == row_id,
            _JOBS.c.priority < priority,
        )
        .values(priority=priority)
        .returning(_JOBS.c.id)
    )
    return len(done.all())


def without_live_job(session: Session, pool: Pool, row_ids: list[int], *, stalled_s: float) -> list[int]:
    """Return the rows that no job will ever work on.

    A job is alive while it waits, or runs in a worker whose heartbeat is younger than `stalled_s`. Jobs of
    dead workers are removed on the way: their rows come back in the answer.
    """
    session.execute(
        text(
            "DELETE FROM procrastinate_jobs WHERE id IN ("
            " SELECT job.id FROM procrastinate_jobs job LEFT JOIN procrastinate_workers worker"
            " ON worker.id = job.worker_id WHERE job.queue_name = :pool AND job.status = 'doing'"
            # A heartbeat of the future is from before the clock was set back: its worker may be dead too.
            " AND coalesce(worker.last_heartbeat, '-infinity') NOT BETWEEN"
            " now() - make_interval(secs => :stalled) AND now() + make_interval(secs => :stalled))"
        ),
        {"pool": pool.value, "stalled": stalled_s},
    )
    alive = session.scalars(
        text(
            "SELECT (args->>'row_id')::bigint FROM procrastinate_jobs"
            " WHERE queue_name = :pool AND status IN ('todo', 'doing')"
            " AND (args->>'row_id')::bigint = ANY(:rows)"  # one parameter, however many rows
        ),
        {"pool": pool.value, "rows": row_ids},
    )
    return sorted(set(row_ids) - set(alive))


def stalled(session: Session, *, stalled_s: float) -> int:
    """Jobs that are with workers without a fresh heartbeat; a reaper takes them back."""
    found = session.scalar(
        text(
            "SELECT count(*) FROM procrastinate_jobs job LEFT JOIN procrastinate_workers worker"
            " ON worker.id = job.worker_id WHERE job.status = 'doing'"
            " AND coalesce(worker.last_heartbeat, '-infinity') < now() - make_interval(secs => :stalled)"
        ),
        {"stalled": stalled_s},
    )
    return int(found or 0)


def follow_clock(session: Session) -> int:
    """Make due what was put off by a clock that has been set back since; return how many jobs.

    Such a job was put into the queue in what is now the future, and would wait until that comes.
    """
    done = session.execute(
        text(
            "UPDATE procrastinate_jobs job SET scheduled_at = now()"
            " WHERE status = 'todo' AND scheduled_at > now() AND EXISTS ("
            " SELECT FROM procrastinate_events event WHERE event.job_id = job.id AND event.type = 'deferred'"
            " AND event.at > now() + make_interval(secs => :tolerance)) RETURNING id"
        ),
        {"tolerance": CLOCK_TOLERANCE_S},
    )
    return len(done.all())


def depth(session: Session) -> dict[Pool, Depth]:
    """Jobs per pool."""
    rows = session.execute(
        text(
            "SELECT queue_name, count(*) FILTER (WHERE status = 'todo'),"
            " count(*) FILTER (WHERE status = 'doing'),"
            " coalesce(extract(epoch FROM max(now() - coalesce(job.scheduled_at, event.at)) FILTER"
            "  (WHERE status = 'todo' AND coalesce(job.scheduled_at, now()) <= now())), 0),"
            " coalesce(extract(epoch FROM max(now() - started.at) FILTER (WHERE status = 'doing')), 0)"
            " FROM procrastinate_jobs job"
            " LEFT JOIN procrastinate_events event ON event.job_id = job.id AND event.type = 'deferred'"
            " LEFT JOIN procrastinate_events started ON started.job_id = job.id AND started.type = 'started'"
            "  AND job.status = 'doing'"
            " WHERE status IN ('todo', 'doing') GROUP BY queue_name"
        )
    )
    found = {
        Pool(name): Depth(
            waiting=waiting, running=running, oldest_s=float(oldest), longest_run_s=float(longest)
        )
        for name, waiting, running, oldest, longest in rows
    }
    nothing = Depth(waiting=0, running=0, oldest_s=0.0, longest_run_s=0.0)
    return {pool: found.get(pool, nothing) for pool in Pool}


def depth_by_priority(session: Session) -> tuple[Queue, ...]:
    """Jobs that are due, per pool and priority; what is put off is not among them."""
    rows = session.execute(
        text(
            "SELECT queue_name, job.priority, count(*),"
            " coalesce(extract(epoch FROM max(now() - coalesce(job.scheduled_at, event.at))), 0)"
            " FROM procrastinate_jobs job"
            " LEFT JOIN procrastinate_events event ON event.job_id = job.id AND event.type = 'deferred'"
            " WHERE status = 'todo' AND coalesce(job.scheduled_at, now()) <= now()"
            " GROUP BY queue_name, job.priority"
        )
    )
    return tuple(
        Queue(pool=Pool(name), priority=priority, due=due, oldest_s=float(oldest))
        for name, priority, due, oldest in rows
    )


def purge(session: Session) -> None:
    """Remove finished engine rows older than `KEEP_FAILED_HOURS`; millions of them slow a worker's start."""
    session.execute(
        text(
            "DELETE FROM procrastinate_jobs WHERE status NOT IN ('todo', 'doing') AND id IN ("
            " SELECT job_id FROM procrastinate_events GROUP BY job_id"
            " HAVING max(at) < now() - make_interval(hours => :hours))"
        ),
        {"hours": KEEP_FAILED_HOURS},
    )
