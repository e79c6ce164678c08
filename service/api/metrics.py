"""``GET /metrics`` for Prometheus, read from the database at each scrape. No label holds a study (I9)."""

import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from enum import StrEnum

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import InfoMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm import Session

from dicom_node.quota import read_used
from service import __version__, engine
from service.api.callers import ask_directly, open_to_all
from service.api.dependencies import Parts, PartsOf, refuse_unknown_parameters
from service.audit_export import NAME
from service.meters import gauge, scratch_metrics, spool_metrics, urgency_name
from service.store import (
    calibrations,
    deliveries,
    harm,
    outbox,
    packs,
    referrals,
    shadows,
    trail,
    watch_lists,
)
from service.store.census import beats, live_workers, take_census
from service.store.watch_lists import ListedWatch
from service.study import Priority

MOST_SCANNERS = 200  # headers name them, and anybody may write those
MEASURED_S = 60.0  # a measurement of the order serves for so long

router = APIRouter(
    tags=["operations"], dependencies=[Depends(open_to_all), Depends(refuse_unknown_parameters)]
)


class RecentHarm:
    """What the order of the list did, measured at most once a minute: it reads every study of a month."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._found: harm.Harm | None = None
        self._measured_at = 0.0

    def read(self, session: Session, *, longest_unread_s: float) -> harm.Harm:
        """The newest measurement, made now where that is too old."""
        with self._lock:
            if self._found is None or time.monotonic() - self._measured_at > MEASURED_S:
                self._found = harm.measure(session, now=datetime.now(UTC), longest_unread_s=longest_unread_s)
                self._measured_at = time.monotonic()
            return self._found


@router.get("/metrics", response_class=Response, dependencies=[Depends(ask_directly)])
def read_metrics(parts: PartsOf, request: Request) -> Response:
    """Metrics in the text format of Prometheus; while the database is down, those that do not need it."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Census(parts, request.app.state.recent_harm))
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_PLAIN_0_0_4)


class _Census(Collector):
    """Everything that is counted, as gauges."""

    def __init__(self, parts: Parts, recent_harm: RecentHarm) -> None:
        self._parts = parts
        self._recent_harm = recent_harm

    def describe(self) -> Iterator[Metric]:
        """Nothing ahead of time: registering must not read the database."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """One scrape."""
        yield self._build()
        if read_used(self._parts.settings.spool_folder) is not None:
            yield from spool_metrics(self._parts.settings)  # a node looks after it; elsewhere it tells alone
        yield from scratch_metrics(self._parts.settings)
        try:
            found = list(self._counted())
        except (OperationalError, InterfaceError, PoolTimeoutError):
            found = []
        yield gauge("vigil_database_up", "1 if the database answered this scrape.", {(): float(bool(found))})
        yield from found

    def _build(self) -> Metric:
        model = self._parts.model_now
        facts = {"version": __version__}
        if model is not None:
            facts |= {
                "model": model.name,
                "model_version": model.version,
                "model_sha256": model.sha256,
                "calibration_sha256": model.calibration_sha256,
            }
        return InfoMetricFamily("vigil_build", "Software, model and calibration in service.", facts)

    def _counted(self) -> Iterator[Metric]:
        with self._parts.store.transaction() as session:
            census = take_census(session)
            depth = engine.depth(session)
            queues = engine.depth_by_priority(session)
            outstanding = deliveries.outstanding(session)
            packing = packs.waiting(session)
            workers = live_workers(session, stalled_s=self._parts.settings.stalled_s)
            seen = beats(session)
            untold = None if self._parts.settings.audit_syslog is None else trail.lag(session, NAME)
            messages, oldest_messages = outbox.count(session), outbox.oldest_s(session)
            trust = list(self._trust(session))
            order = self._recent_harm.read(session, longest_unread_s=self._parts.settings.longest_unread_s)
        yield gauge("vigil_studies", "Studies by state.", _by(census.studies.items()), "state")
        yield gauge("vigil_scores", "Scores by state.", _by(census.scores.items()), "state")
        reasons = {(reason,): float(count) for reason, count in census.not_assessable.items()}
        yield gauge("vigil_not_assessable", "Studies that are not assessable, by reason.", reasons, "reason")
        yield gauge("vigil_deliveries", "Deliveries by status.", _by(census.deliveries.items()), "status")
        meaning = "Studies whose earlier results hold no longer and could not be taken back."
        yield gauge("vigil_results_not_retracted", meaning, {(): float(census.not_retracted)})
        jobs = {
            (pool.value, status): float(count)
            for pool, found in depth.items()
            for status, count in (("waiting", found.waiting), ("running", found.running))
        }
        yield gauge("vigil_jobs", "Jobs by pool and status.", jobs, "pool", "status")
        oldest = {(pool.value,): found.oldest_s for pool, found in depth.items()}
        yield gauge("vigil_oldest_job_seconds", "Age of the oldest job that is due.", oldest, "pool")
        yield from _queues(queues)
        yield from _outstanding(outstanding)
        yield gauge("vigil_packs_waiting", "Complete studies whose pack is to be made.", {(): float(packing)})
        where = _by(census.bytes_are.items())
        yield gauge("vigil_studies_kept", "Studies by where their bytes are.", where, "bytes_are")
        longest = {(pool.value,): found.longest_run_s for pool, found in depth.items()}
        yield gauge("vigil_longest_run_seconds", "Age of the job that runs longest.", longest, "pool")
        yield gauge("vigil_parked_studies", "Studies that a person put aside.", {(): float(census.parked)})
        aside = {(): float(census.parked_destinations)}
        yield gauge("vigil_parked_destinations", "Destinations that a person put aside.", aside)
        looked = {(name,): age_s for name, age_s in seen.items()}
        yield gauge("vigil_loop_age_seconds", "Seconds since a loop looked last.", looked, "loop")
        live = {(pool,): float(count) for pool, count in workers.by_pool.items()}
        yield gauge("vigil_workers", "Worker processes with a fresh heartbeat, by pool.", live, "pool")
        yield from self._untold(untold)
        told = {(channel, status.value): float(count) for (channel, status), count in messages.items()}
        yield gauge("vigil_messages", "Messages by channel and status.", told, "channel", "status")
        ages = {(channel,): age_s for channel, age_s in oldest_messages.items()}
        meaning = "Age of the oldest message that waits, by channel."
        yield gauge("vigil_oldest_message_seconds", meaning, ages, "channel")
        yield gauge(
            "vigil_delayed_studies",
            "Studies of the last 30 days that waited past the age limit while a later one was seen first.",
            {(): float(order.delayed)},
        )
        overdue = {(): float(order.overdue)}
        yield gauge("vigil_overdue_studies", "Studies that no reader saw within the age limit.", overdue)
        yield from trust
        head = {(): float(census.audit_number)}
        yield gauge("vigil_audit_number", "Newest row of the audit trail; it never falls.", head)

    def _trust(self, session: Session) -> Iterator[Metric]:
        """What percentiles rest on: scanners under watch, models that only watch, findings referred."""
        model = self._parts.model_now
        groups = calibrations.groups_in_force(session, model.sha256) if model else 0
        meaning = "Groups of the site's own calibration of the model in service; 0: the model's own serves."
        yield gauge("vigil_calibration_groups", meaning, {(): float(groups)})
        scanners = self._watched(session)
        watched = _by(shadows.count(session).items())
        yield gauge("vigil_shadow_scores", "Studies of models that only watch, by state.", watched, "state")
        late = referrals.count_overdue(session, datetime.now(UTC).astimezone().date())
        evidence = {(one.group,): one.evidence for one in scanners}
        meaning = "How near a scanner is to a drift alarm: 1 raises it."
        yield gauge("vigil_drift_evidence", meaning, evidence, "group")
        alarms = {(one.group,): float(one.alarmed_at is not None) for one in scanners}
        meaning = "1 if a scanner's percentile is withdrawn, for its images have changed."
        yield gauge("vigil_drift_alarm", meaning, alarms, "group")
        yield gauge("vigil_referrals_overdue", "Open referrals past their day.", {(): float(late)})

    def _watched(self, session: Session) -> tuple[ListedWatch, ...]:
        """Scanners under watch by what is in force now."""
        model = self._parts.model_now
        if model is None:
            return ()
        sha256 = calibrations.sha256_in_force(session, model.sha256)
        return watch_lists.under(session, model.sha256, sha256, limit=MOST_SCANNERS)

    def _untold(self, lag: trail.Lag | None) -> Iterator[Metric]:
        """What the audit repository has not got, where there is one."""
        if lag is not None:
            rows, age_s = {(): float(lag.rows)}, {(): lag.age_s}
            yield gauge("vigil_audit_untold", "Audit rows that the audit repository has not got.", rows)
            yield gauge("vigil_audit_untold_seconds", "Age of the oldest of them.", age_s)


def _queues(found: Sequence[engine.Queue]) -> Iterator[Metric]:
    """What is due by urgency, every urgency of each pool named, so that a series never vanishes."""
    names = [(pool.value, level.name.lower()) for pool in engine.Pool for level in Priority]
    jobs, oldest = dict.fromkeys(names, 0.0), dict.fromkeys(names, 0.0)
    for queue in found:
        name = (queue.pool.value, urgency_name(queue.priority))
        jobs[name] += queue.due
        oldest[name] = max(oldest[name], queue.oldest_s)
    yield gauge("vigil_queue_jobs", "Jobs that are due, by pool and urgency.", jobs, "pool", "priority")
    meaning = "Age of the oldest job that is due, by pool and urgency."
    yield gauge("vigil_queue_oldest_seconds", meaning, oldest, "pool", "priority")


def _outstanding(found: Sequence[deliveries.Outstanding]) -> Iterator[Metric]:
    """What destinations have not got."""
    labels = ("destination", "status")
    counts = {(one.destination, one.status.value): float(one.count) for one in found}
    yield gauge("vigil_outstanding_deliveries", "Results that a destination has not got.", counts, *labels)
    ages = {(one.destination, one.status.value): one.oldest_s for one in found}
    meaning = "Age of the oldest result that a destination has not got."
    yield gauge("vigil_outstanding_delivery_seconds", meaning, ages, *labels)


def _by(counts: Iterable[tuple[StrEnum, int]]) -> dict[tuple[str, ...], float]:
    return {(code.value,): float(count) for code, count in counts}
