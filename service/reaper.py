"""Brings back the work of the dead: whatever the domain tables wait for gets a live job again.

Runs as a plain loop in every worker process, not as a queued job, for a queued rescue can itself be
stranded. An advisory lock lets one act at a time.
"""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog
from sqlalchemy import text
from sqlalchemy.orm import Session

from service import engine, urgency
from service.engine import Pool
from service.errors import SchemaError
from service.store import Store, audit, census, deliveries, jobs, outbox, retractions, sign_ins
from service.store.migrations import require

LOCK = 0x52_45_41_50  # "REAP"
ACTOR = "reaper"

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reaper:
    """Queues again what no live job works on.

    Attributes
    ----------
    store : Store
    stalled_s : float
        Silence after which a worker counts as dead.
    longest_queue_s : float
        Waiting time after which work passes all but STAT.
    besides : callable
        Done at each look of this process.
    """

    store: Store
    stalled_s: float
    longest_queue_s: float = 14_400.0
    besides: Callable[[], None] = lambda: None

    def step(self) -> int:
        """Look once; return how many jobs were put back."""
        with self.store.transaction() as session:
            if not session.scalar(text("SELECT pg_try_advisory_xact_lock(:lock)"), {"lock": LOCK}):
                return 0
            engine.purge(session)
            engine.follow_clock(session)
            scores = self._rescue(
                session,
                Pool.INFER,
                lambda: _due_now(jobs.waiting_scores(session) | retractions.waiting(session)),
            )
            unsent = self._rescue(session, Pool.DELIVER, lambda: deliveries.waiting(session))
            untold = self._rescue(session, Pool.MESSAGE, lambda: outbox.waiting(session))
            outbox.purge(session, now=datetime.now(UTC))
            sign_ins.sweep(session)
            urgency.age(session, longest_s=self.longest_queue_s)
            census.beat(session, ACTOR)
            if scores or unsent or untold:
                audit.append(
                    session, "jobs.rescued", actor=ACTOR, inference=scores, delivery=unsent, messages=untold
                )
                log.warning("jobs rescued", inference=scores, delivery=unsent, messages=untold)
            return scores + unsent + untold

    def _rescue(
        self, session: Session, pool: Pool, waiting: Callable[[], Mapping[int, tuple[int, datetime | None]]]
    ) -> int:
        """Queue what of a pool waits and no live job works on; return how many."""
        rows = waiting()
        lost = engine.without_live_job(session, pool, list(rows), stalled_s=self.stalled_s)
        if lost:  # one that ended while we looked is not lost
            rows = waiting()
            lost = [row_id for row_id in lost if row_id in rows]
        for row_id in lost:
            priority, due = rows[row_id]
            engine.enqueue(session, pool, row_id, priority=priority, not_before=due)
        return len(lost)

    def run(self, stop: threading.Event, on_refusal: Callable[[], None] = lambda: None) -> None:
        """Look again and again until `stop` is set; a database that is away is waited for.

        Parameters
        ----------
        stop : threading.Event
        on_refusal : callable
            Called once, at the end, where the database came to belong to another release.
        """
        while not stop.wait(self.stalled_s / 3):
            try:
                require(self.store)
                self.step()
                self.besides()
            except SchemaError as error:
                log.error("work ends", remedy=str(error))  # noqa: TRY400 - not a defect
                on_refusal()
                return
            except engine.DATABASE_AWAY:
                log.warning("reaper waits for the database")
            except Exception:  # a reaper that ends leaves the dead unburied without a word
                log.exception("reaper failed")


def _due_now(rows: dict[int, int]) -> dict[int, tuple[int, None]]:
    """Rows whose jobs wait for no time."""
    return {row_id: (priority, None) for row_id, priority in rows.items()}
