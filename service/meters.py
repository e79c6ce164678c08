"""What each role counts, for Prometheus. No label holds a study or a person (I9).

The API tells what the database knows (`service.api.metrics`); these tell what only the process itself knows.
"""

import shutil
from collections import Counter as Count
from collections.abc import Iterator, Mapping
from typing import TypeVar
from wsgiref.simple_server import WSGIServer

import structlog
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    start_http_server,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from dicom_node.errors import PortInUseError
from dicom_node.log.segments import backlog
from dicom_node.quarantine import Quarantined
from dicom_node.quota import read_used
from dicom_node.spool import QUARANTINE
from dicom_node.tallies import Tallies
from service.settings import Settings
from service.study import Priority

MB = 1024 * 1024
WORK_S = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 900)
WAIT_S = (1, 5, 15, 30, 60, 120, 300, 600, 1800, 3600, 14_400, 86_400)
LOADED, REFUSED = "loaded", "refused"  # how a change of the model went
BATCH = (1, 2, 4, 8, 16, 32, 64, 128, 256)

_LabelsT = TypeVar("_LabelsT", bound=tuple[str, ...])

log = structlog.get_logger(__name__)

# A third of all series, in Prometheus' text format, for times that no rule reads.
disable_created_metrics()  # type: ignore[no-untyped-call]  # of the library


def gauge(name: str, meaning: str, values: Mapping[_LabelsT, float], *labels: str) -> Metric:
    """Gauge of now, by the values of its labels."""
    family = GaugeMetricFamily(name, meaning, labels=labels)
    for key, value in values.items():
        family.add_metric(key, value)
    return family


def spool_metrics(settings: Settings) -> Iterator[Metric]:
    """Room and use of the spool on this machine, and what lies in quarantine; no database is asked."""
    folder = settings.spool_folder
    # Before the first instance the spool is not made yet; its disk is the one of the folder above.
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    free = float(shutil.disk_usage(existing).free)
    yield gauge("vigil_spool_free_bytes", "Free bytes on the disk of the spool.", {(): free})
    used = read_used(folder)  # what a node on this machine, or on the same folder, counted
    if used is not None:
        yield gauge("vigil_spool_used_bytes", "Bytes of received studies.", {(): float(used)})
    if settings.spool_quota_mb is not None:
        quota = float(settings.spool_quota_mb * MB)
        yield gauge("vigil_spool_quota_bytes", "Bytes above which senders are refused.", {(): quota})
    log_of_node = backlog(settings.log_folder)
    meaning = "Age of the oldest part of the log that waits to become files; received, and not seen yet."
    yield gauge("vigil_log_oldest_seconds", meaning, {(): log_of_node.oldest_s})
    meaning = "Parts of the log with damaged records, put by: received instances may be lost."
    yield gauge("vigil_log_damaged_segments", meaning, {(): float(log_of_node.damaged)})
    # Second data sets under a known UID among them: somebody should look. A reason is told before its first
    # file: a series that is born with one never grows, and no rule would see it.
    reasons = Count(dict.fromkeys(map(str, Quarantined), 0))
    reasons.update(path.name.split(".")[1] for path in (folder.parent / QUARANTINE).glob("*.*.dcm"))
    counts = {(reason,): float(count) for reason, count in reasons.items()}
    yield gauge("vigil_quarantine_files", "Files in quarantine by reason.", counts, "reason")


def scratch_metrics(settings: Settings) -> Iterator[Metric]:
    """Room on the disk of this machine's scratch, where it has one."""
    if settings.scratch_folder.exists():
        free = float(shutil.disk_usage(settings.scratch_folder).free)
        yield gauge("vigil_scratch_free_bytes", "Free bytes on the disk of the scratch.", {(): free})


class _Role:
    """What one process counts, and where it tells."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry(auto_describe=False)

    def serve(self, settings: Settings, port: int | None) -> WSGIServer | None:
        """Answer Prometheus at ``/metrics``, in a thread of its own; return what to close.

        Parameters
        ----------
        settings : Settings
            Whose address to listen on.
        port : int or None
            None: nobody asks.

        Raises
        ------
        PortInUseError
            If the address is taken, as by a second worker of this machine.
        """
        if port is None:
            return None
        try:
            server, _ = start_http_server(port, settings.metrics_address, registry=self.registry)
        except OSError as error:
            raise PortInUseError(
                f"Port {port} for metrics on {settings.metrics_address}: {error.strerror}. "
                "Stop what uses it, or give each process of this machine a port of its own "
                "(VIGIL_..._METRICS_PORT)."
            ) from error
        return server


class NodeMeters(_Role):
    """What the node counts. To be made before the receiving processes are forked.

    Attributes
    ----------
    tallies : Tallies
        Of the receiving processes.
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.tallies = Tallies()
        self._instances = Counter(
            "vigil_registered_instances", "Received instances with a row.", registry=self.registry
        )
        self._bytes = Counter(
            "vigil_registered_bytes", "Bytes of received instances with a row.", registry=self.registry
        )
        self._completed = Counter(
            "vigil_completed_studies",
            "Revisions of studies by what said that all is there.",
            ["trigger"],
            registry=self.registry,
        )
        self.registry.register(_NodeCensus(self.tallies, settings))

    def registered(self, instances: int, size_bytes: int) -> None:
        """Count instances that got their rows."""
        self._instances.inc(instances)
        self._bytes.inc(size_bytes)

    def completed(self, trigger: str) -> None:
        """Count a study that is complete."""
        self._completed.labels(trigger).inc()


class _NodeCensus(Collector):
    """What the receiving processes counted, and the disk."""

    def __init__(self, tallies: Tallies, settings: Settings) -> None:
        self._tallies = tallies
        self._settings = settings

    def collect(self) -> Iterator[Metric]:
        """One scrape."""
        yield _counter(
            "vigil_associations", "Associations by outcome.", self._tallies.associations(), "outcome"
        )
        meaning = "Instances by how they were answered."
        yield _counter("vigil_instances", meaning, self._tallies.instances(), "outcome")
        yield from spool_metrics(self._settings)
        yield from scratch_metrics(self._settings)


class Meters(_Role):
    """What one inference worker counts; also the observer of its batches."""

    def __init__(self) -> None:
        super().__init__()
        self._samples = Counter(
            "vigil_inference_samples", "Slices and pictures that ran.", registry=self.registry
        )
        self._filled = Counter(
            "vigil_inference_filled", "Samples that only filled up a batch.", registry=self.registry
        )
        self._sizes = Histogram(
            "vigil_inference_batch_samples",
            "Slices and pictures in one run, without what filled it up.",
            buckets=BATCH,
            registry=self.registry,
        )
        self._seconds = Histogram(
            "vigil_inference_batch_seconds",
            "Time of one run of the network; the rate of its sum is the share of time the device is busy.",
            registry=self.registry,
        )
        self._halved = Counter(
            "vigil_inference_out_of_memory",
            "Batches for which the device had no memory.",
            registry=self.registry,
        )
        self._limit = Gauge(
            "vigil_inference_batch_limit",
            "Most samples in one run since memory was short; 0 before.",
            registry=self.registry,
        )
        self._changes = Counter(
            "vigil_model_changes", "Changes of the model in service.", ["result"], registry=self.registry
        )
        for result in (LOADED, REFUSED):  # told before the first: a series born with 1 never increased
            self._changes.labels(result)
        self._waits = Histogram(
            "vigil_queue_wait_seconds",
            "From a job's making to the begin of an attempt, by urgency.",
            ["priority"],
            buckets=WAIT_S,
            registry=self.registry,
        )
        self._stages = Histogram(
            "vigil_stage_seconds",
            "Time of one stage of an attempt: fetch, read, score, build, keep.",
            ["stage"],
            buckets=WORK_S,
            registry=self.registry,
        )
        self._jobs = Histogram(
            "vigil_job_seconds",
            "Time of an attempt that ended a study, by how it ended.",
            ["state"],
            buckets=WORK_S,
            registry=self.registry,
        )
        self._failures = Counter(
            "vigil_failed_attempts", "Attempts on a study that raised an error.", registry=self.registry
        )

    def ran(self, samples: int, size: int, seconds: float) -> None:
        """Count a batch."""
        self._samples.inc(samples)
        self._filled.inc(size - samples)
        self._sizes.observe(samples)
        self._seconds.observe(seconds)

    def halved(self, size: int) -> None:
        """Count a batch that did not fit."""
        self._halved.inc()
        self._limit.set(size)
        log.error("device out of memory: batches are smaller from now on", size=size)

    def changed(self, is_loaded: bool) -> None:
        """Count a change of model that succeeded or was refused."""
        self._changes.labels(LOADED if is_loaded else REFUSED).inc()

    def claimed(self, priority: int, waited_s: float) -> None:
        """Count an attempt that begins."""
        self._waits.labels(urgency_name(priority)).observe(max(waited_s, 0.0))

    def ended(self, state: str, seconds: Mapping[str, float]) -> None:
        """Count a study that ended, with the time of each stage."""
        for stage, spent_s in seconds.items():
            self._stages.labels(stage).observe(spent_s)
        self._jobs.labels(state).observe(sum(seconds.values()))

    def failed(self) -> None:
        """Count an attempt that raised an error."""
        self._failures.inc()


class DeliveryMeters(_Role):
    """What one delivery worker counts. A destination's name is the one of the peers file."""

    def __init__(self) -> None:
        super().__init__()
        self._attempts = Counter(
            "vigil_delivery_attempts",
            "Attempts to send a result, by destination and outcome: delivered, again or given_up.",
            ["destination", "outcome"],
            registry=self.registry,
        )
        self._seconds = Histogram(
            "vigil_delivery_seconds",
            "Time of an attempt that succeeded.",
            ["destination"],
            buckets=WORK_S,
            registry=self.registry,
        )

    def delivered(self, destination: str, seconds: float) -> None:
        """Count an attempt that the destination answered with success."""
        self._attempts.labels(destination, "delivered").inc()
        self._seconds.labels(destination).observe(seconds)

    def failed(self, destination: str, *, is_over: bool) -> None:
        """Count an attempt that failed."""
        self._attempts.labels(destination, "given_up" if is_over else "again").inc()


def urgency_name(priority: int) -> str:
    """Name of the urgency a job has; one that waited long has climbed between two of them."""
    return next((level.name.lower() for level in reversed(Priority) if priority >= level), "screening")


def _counter(name: str, meaning: str, values: Mapping[str, int], label: str) -> Metric:
    family = CounterMetricFamily(name, meaning, labels=[label])
    for key, value in values.items():
        family.add_metric((key,), float(value))
    return family
