"""``GET /metrics`` for Prometheus, read from the database at each scrape. No label holds a study (I9)."""

import shutil
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from enum import StrEnum
from typing import TypeVar

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm import Session

from dicom_node.quota import read_used
from dicom_node.spool import QUARANTINE
from service import __version__, engine
from service.api.callers import open_to_all
from service.api.dependencies import Parts, PartsOf, refuse_unknown_parameters
from service.audit_export import NAME
from service.store import calibrations, harm, outbox, packs, shadows, trail
from service.store.census import beats, live_workers, take_census

_LabelsT = TypeVar("_LabelsT", bound=tuple[str, ...])

MB = 1024 * 1024
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


@router.get("/metrics", response_class=Response)
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
        yield self._free()
        yield from self._used()
        yield self._quarantined()
        try:
            found = list(self._counted())
        except (OperationalError, InterfaceError, PoolTimeoutError):
            found = []
        yield _gauge("vigil_database_up", "1 if the database answered this scrape.", {(): float(bool(found))})
        yield from found

    def _build(self) -> Metric:
        model = self._parts.model_now
        facts = {"version": __version__}
        if model is not None:
            facts |= {"model": model.name, "model_version": model.version, "model_sha256": model.sha256}
        return InfoMetricFamily("vigil_build", "Software, and the model in service.", facts)

    def _free(self) -> Metric:
        folder = self._parts.settings.spool_folder
        # Before the first instance the spool is not made yet; its disk is the one of the folder above.
        existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        free = shutil.disk_usage(existing).free
        return _gauge("vigil_spool_free_bytes", "Free bytes on the disk of the spool.", {(): float(free)})

    def _used(self) -> Iterator[Metric]:
        """What a node on this machine, or on the same folder, counted."""
        settings = self._parts.settings
        used = read_used(settings.spool_folder)
        if used is not None:
            yield _gauge("vigil_spool_used_bytes", "Bytes of received studies.", {(): float(used)})
        if settings.spool_quota_mb is not None:
            quota = float(settings.spool_quota_mb * MB)
            yield _gauge("vigil_spool_quota_bytes", "Bytes above which senders are refused.", {(): quota})
        if settings.scratch_folder.exists():
            free = float(shutil.disk_usage(settings.scratch_folder).free)
            yield _gauge("vigil_scratch_free_bytes", "Free bytes on the disk of the scratch.", {(): free})

    def _quarantined(self) -> Metric:
        """Second data sets under a known UID among them: somebody should look."""
        folder = self._parts.settings.spool_folder.parent / QUARANTINE
        reasons = Counter(path.name.split(".")[1] for path in folder.glob("*.*.dcm"))
        counts = {(reason,): float(count) for reason, count in reasons.items()}
        return _gauge("vigil_quarantine_files", "Files in quarantine by reason.", counts, "reason")

    def _counted(self) -> Iterator[Metric]:
        with self._parts.store.transaction() as session:
            census = take_census(session)
            depth = engine.depth(session)
            packing = packs.waiting(session)
            shadow = shadows.count(session)
            workers = live_workers(session, stalled_s=self._parts.settings.stalled_s)
            seen = beats(session)
            untold = None if self._parts.settings.audit_syslog is None else trail.lag(session, NAME)
            messages, oldest_messages = outbox.count(session), outbox.oldest_s(session)
            model = self._parts.model_now
            groups = calibrations.groups_in_force(session, model.sha256) if model else 0
            order = self._recent_harm.read(session, longest_unread_s=self._parts.settings.longest_unread_s)
        yield _gauge("vigil_studies", "Studies by state.", _by(census.studies.items()), "state")
        yield _gauge("vigil_scores", "Scores by state.", _by(census.scores.items()), "state")
        meaning = "Groups of the site's own calibration of the model in service; 0: the model's own serves."
        yield _gauge("vigil_calibration_groups", meaning, {(): float(groups)})
        yield _gauge("vigil_deliveries", "Deliveries by status.", _by(census.deliveries.items()), "status")
        jobs = {
            (pool.value, status): float(count)
            for pool, found in depth.items()
            for status, count in (("waiting", found.waiting), ("running", found.running))
        }
        yield _gauge("vigil_jobs", "Jobs by pool and status.", jobs, "pool", "status")
        oldest = {(pool.value,): found.oldest_s for pool, found in depth.items()}
        yield _gauge("vigil_oldest_job_seconds", "Age of the oldest job that is due.", oldest, "pool")
        yield _gauge(
            "vigil_packs_waiting", "Complete studies whose pack is to be made.", {(): float(packing)}
        )
        where = _by(census.bytes_are.items())
        yield _gauge("vigil_studies_kept", "Studies by where their bytes are.", where, "bytes_are")
        longest = {(pool.value,): found.longest_run_s for pool, found in depth.items()}
        yield _gauge("vigil_longest_run_seconds", "Age of the job that runs longest.", longest, "pool")
        yield _gauge("vigil_parked_studies", "Studies that a person put aside.", {(): float(census.parked)})
        aside = {(): float(census.parked_destinations)}
        yield _gauge("vigil_parked_destinations", "Destinations that a person put aside.", aside)
        watched = _by(shadow.items())
        yield _gauge("vigil_shadow_scores", "Studies of models that only watch, by state.", watched, "state")
        looked = {(name,): age_s for name, age_s in seen.items()}
        yield _gauge("vigil_loop_age_seconds", "Seconds since a loop looked last.", looked, "loop")
        yield _gauge("vigil_workers", "Worker processes with a fresh heartbeat.", {(): float(workers)})
        yield from self._untold(untold)
        told = {(channel, status.value): float(count) for (channel, status), count in messages.items()}
        yield _gauge("vigil_messages", "Messages by channel and status.", told, "channel", "status")
        ages = {(channel,): age_s for channel, age_s in oldest_messages.items()}
        meaning = "Age of the oldest message that waits, by channel."
        yield _gauge("vigil_oldest_message_seconds", meaning, ages, "channel")
        yield _gauge(
            "vigil_delayed_studies",
            "Studies of the last 30 days that waited past the age limit while a later one was seen first.",
            {(): float(order.delayed)},
        )
        overdue = {(): float(order.overdue)}
        yield _gauge("vigil_overdue_studies", "Studies that no reader saw within the age limit.", overdue)
        head = {(): float(census.audit_number)}
        yield _gauge("vigil_audit_number", "Newest row of the audit trail; it never falls.", head)

    def _untold(self, lag: trail.Lag | None) -> Iterator[Metric]:
        """What the audit repository has not got, where there is one."""
        if lag is not None:
            rows, age_s = {(): float(lag.rows)}, {(): lag.age_s}
            yield _gauge("vigil_audit_untold", "Audit rows that the audit repository has not got.", rows)
            yield _gauge("vigil_audit_untold_seconds", "Age of the oldest of them.", age_s)


def _gauge(name: str, meaning: str, values: dict[_LabelsT, float], *labels: str) -> Metric:
    family = GaugeMetricFamily(name, meaning, labels=labels)
    for key, value in values.items():
        family.add_metric(key, value)
    return family


def _by(counts: Iterable[tuple[StrEnum, int]]) -> dict[tuple[str, ...], float]:
    return {(code.value,): float(count) for code, count in counts}
