"""``GET /metrics`` for Prometheus, read from the database at each scrape. No label holds a study (I9)."""

import shutil
from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import TypeVar

from fastapi import APIRouter, Depends
from fastapi.responses import Response
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from service import __version__, engine
from service.api.dependencies import Parts, PartsOf, refuse_unknown_parameters
from service.store.census import live_workers, take_census

_LabelsT = TypeVar("_LabelsT", bound=tuple[str, ...])

router = APIRouter(tags=["operations"], dependencies=[Depends(refuse_unknown_parameters)])


@router.get("/metrics", response_class=Response)
def read_metrics(parts: PartsOf) -> Response:
    """Metrics in the text format of Prometheus; while the database is down, those that do not need it."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Census(parts))
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_PLAIN_0_0_4)


class _Census(Collector):
    """Everything that is counted, as gauges."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def describe(self) -> Iterator[Metric]:
        """Nothing ahead of time: registering must not read the database."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """One scrape."""
        yield self._build()
        yield self._free()
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

    def _counted(self) -> Iterator[Metric]:
        with self._parts.store.transaction() as session:
            census = take_census(session)
            depth = engine.depth(session)
            workers = live_workers(session, stalled_s=self._parts.settings.stalled_s)
        yield _gauge("vigil_studies", "Studies by state.", _by(census.studies.items()), "state")
        yield _gauge("vigil_scores", "Scores by state.", _by(census.scores.items()), "state")
        yield _gauge("vigil_deliveries", "Deliveries by status.", _by(census.deliveries.items()), "status")
        jobs = {
            (pool.value, status): float(count)
            for pool, found in depth.items()
            for status, count in (("waiting", found.waiting), ("running", found.running))
        }
        yield _gauge("vigil_jobs", "Jobs by pool and status.", jobs, "pool", "status")
        oldest = {(pool.value,): found.oldest_s for pool, found in depth.items()}
        yield _gauge("vigil_oldest_job_seconds", "Age of the oldest job that is due.", oldest, "pool")
        yield _gauge("vigil_workers", "Worker processes with a fresh heartbeat.", {(): float(workers)})
        head = {(): float(census.audit_number)}
        yield _gauge("vigil_audit_number", "Newest row of the audit trail; it never falls.", head)


def _gauge(name: str, meaning: str, values: dict[_LabelsT, float], *labels: str) -> Metric:
    family = GaugeMetricFamily(name, meaning, labels=labels)
    for key, value in values.items():
        family.add_metric(key, value)
    return family


def _by(counts: Iterable[tuple[StrEnum, int]]) -> dict[tuple[str, ...], float]:
    return {(code.value,): float(count) for code, count in counts}
