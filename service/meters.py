"""What one inference worker counts, for Prometheus. No label holds a study (I9)."""

from wsgiref.simple_server import WSGIServer

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

log = structlog.get_logger(__name__)


class Meters:
    """Counters of one process; also the observer of its batches."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry(auto_describe=False)
        self._samples = Counter(
            "vigil_inference_samples", "Slices and pictures that ran.", registry=self.registry
        )
        self._filled = Counter(
            "vigil_inference_filled", "Samples that only filled up a batch.", registry=self.registry
        )
        self._seconds = Histogram(
            "vigil_inference_batch_seconds", "Time of one run of the network.", registry=self.registry
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

    def ran(self, samples: int, size: int, seconds: float) -> None:
        """Count a batch."""
        self._samples.inc(samples)
        self._filled.inc(size - samples)
        self._seconds.observe(seconds)

    def halved(self, size: int) -> None:
        """Count a batch that did not fit."""
        self._halved.inc()
        self._limit.set(size)
        log.error("device out of memory: batches are smaller from now on", size=size)

    def changed(self, is_loaded: bool) -> None:
        """Count a change of model that succeeded or was refused."""
        self._changes.labels("loaded" if is_loaded else "refused").inc()

    def serve(self, host: str, port: int) -> WSGIServer:
        """Answer Prometheus at ``/metrics``, in a thread of its own; return what to close."""
        server, _ = start_http_server(port, host, registry=self.registry)
        return server
