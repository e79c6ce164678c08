"""Brings back the work of the dead: whatever the domain tables wait for gets a live job again.

Runs as a plain loop in every worker process, not as a queued job, for a queued rescue can itself be
stranded. An advisory lock lets one act at a time.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass

import structlog
from sqlalchemy import text

from service import engine, urgency
from service.engine import Pool
from service.errors import SchemaError
from service.store import Store, audit, census, deliveries, jobs, sign_ins
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
    """

    store: Store
    stalled_s: float
    longest_queue_s: float = 14_400.0

    def step(self) -> int:
        """Look once; return how many jobs were put back."""
        with self.store.transaction() as session:
            if not session.scalar(text("SELECT pg_try_advisory_xact_lock(:lock)"), {"lock": LOCK}):
                return 0
            engine.purge(session)
            engine.follow_clock(session)
            scores = jobs.waiting_scores(session)
            lost = engine.without_live_job(session, Pool.INFER, list(scores), stalled_s=self.stalled_s)
            if lost:  # one that ended while we looked is not lost
                scores = jobs.waiting_scores(session)
                lost = [score_id for score_id in lost if score_id in scores]
            for score_id in lost:
                engine.enqueue(session, Pool.INFER, score_id, priority=scores[score_id])
            undelivered = deliveries.waiting(session)
            unsent = engine.without_live_job(
                session, Pool.DELIVER, list(undelivered), stalled_s=self.stalled_s
            )
            if unsent:
                undelivered = deliveries.waiting(session)
                unsent = [delivery_id for delivery_id in unsent if delivery_id in undelivered]
            for delivery_id in unsent:
                priority, due = undelivered[delivery_id]
                engine.enqueue(session, Pool.DELIVER, delivery_id, priority=priority, not_before=due)
            sign_ins.sweep(session)
            urgency.age(session, longest_s=self.longest_queue_s)
            census.beat(session, ACTOR)
            if lost or unsent:
                audit.append(session, "jobs.rescued", actor=ACTOR, inference=len(lost), delivery=len(unsent))
                log.warning("jobs rescued", inference=len(lost), delivery=len(unsent))
            return len(lost) + len(unsent)

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
            except SchemaError as error:
                log.error("work ends", remedy=str(error))  # noqa: TRY400 - not a defect
                on_refusal()
                return
            except engine.DATABASE_AWAY:
                log.warning("reaper waits for the database")
            except Exception:  # a reaper that ends leaves the dead unburied without a word
                log.exception("reaper failed")
