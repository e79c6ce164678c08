"""A trace of each study for OpenTelemetry, from its first instance to its last delivery; off by default.

Every role derives the W3C trace context (trace and parent id) from the study's key, which the row of every
job leads to. So the context crosses the queue, a restart and a change of machine without being stored, and
who has the key of a study from a log line finds its trace (`traceparent`). A span is told when it is over; a
process that dies in the middle leaves none. No attribute holds more of a patient than that key (I9).
"""

import hashlib
import threading
from collections.abc import Mapping
from datetime import datetime, timedelta
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from service import __version__
from service.errors import SettingsError

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import SpanProcessor
    from opentelemetry.trace import Tracer

EXPORT_TIMEOUT_S = 3  # for a collector that does not answer: nobody's work waits for it, but a stop would


def trace_ids(study_key: str) -> tuple[int, int]:
    """Trace id (16 bytes) and id of the first span (8 bytes) of a study; never zero, which W3C forbids."""
    digest = hashlib.sha256(f"vigil trace {study_key}".encode()).digest()
    return int.from_bytes(digest[:16], "big") or 1, int.from_bytes(digest[16:24], "big") or 1


def traceparent(study_key: str) -> str:
    """W3C ``traceparent`` of a study (Trace Context, section 3.2), as every role sees it."""
    trace_id, span_id = trace_ids(study_key)
    return f"00-{trace_id:032x}-{span_id:016x}-01"


class Traces:
    """Where spans are told; without a tracer, nowhere.

    Parameters
    ----------
    tracer : Tracer, optional
        As of `tracing_to`.
    """

    def __init__(self, tracer: "Tracer | None" = None) -> None:
        self._tracer = tracer

    def tell(
        self,
        name: str,
        study_key: str,
        *,
        begun: datetime,
        ended: datetime,
        is_first: bool = False,
        error: str | None = None,
        parts: Mapping[str, float] | None = None,
        **attributes: str | float | bool,
    ) -> None:
        """Tell a span that is over.

        Parameters
        ----------
        name : str
        study_key : str
        begun, ended : datetime
            Aware.
        is_first : bool
            The study's first span, below which all others stand.
        error : str, optional
            Type of what went wrong; its words may hold what does not belong here.
        parts : mapping of str to float
            Spans below this one, in seconds, one after another from `begun` on.
        **attributes
            Told as ``vigil.<name>``.
        """
        if self._tracer is None:
            return
        from opentelemetry.trace import Status, StatusCode, set_span_in_context

        if is_first:
            _chosen.ids = trace_ids(study_key)
        span = self._tracer.start_span(
            name,
            context=_nothing() if is_first else _context(study_key),
            start_time=_ns(begun),
            attributes={
                "vigil.study": study_key,
                **{f"vigil.{key}": value for key, value in attributes.items()},
            },
        )
        if error is not None:
            span.set_status(Status(StatusCode.ERROR, error))
        above, at = set_span_in_context(span, _nothing()), begun
        for part, seconds in (parts or {}).items():
            inner = self._tracer.start_span(part, context=above, start_time=_ns(at))
            at += timedelta(seconds=seconds)
            inner.end(_ns(at))
        span.end(_ns(ended))


NO_TRACES = Traces()


def require_packages(endpoint: str | None) -> None:
    """Refuse before a role starts what would keep a part of it from starting later.

    Raises
    ------
    SettingsError
        If a collector is named and the packages for it are not installed.
    """
    if endpoint is None:
        return
    try:
        exporter = find_spec("opentelemetry.exporter.otlp.proto.http")
    except ModuleNotFoundError:  # not even the packages above it are there
        exporter = None
    if exporter is None:
        raise SettingsError(
            "VIGIL_TRACES: its packages are not installed. Install vigil-triage[traces], or unset it."
        )


def open_traces(endpoint: str | None, role: str) -> Traces:
    """Traces to the collector of the settings, or none.

    Parameters
    ----------
    endpoint : str or None
        VIGIL_TRACES.
    role : str
        Of this process.
    """
    if endpoint is None:
        return NO_TRACES
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from requests import Session

    session = Session()
    session.trust_env = False  # the collector is the site's: no proxy for the world stands before it
    exporter = OTLPSpanExporter(endpoint=endpoint, timeout=EXPORT_TIMEOUT_S, session=session)
    return tracing_to(BatchSpanProcessor(exporter), role)


def tracing_to(processor: "SpanProcessor", role: str) -> Traces:
    """Traces to a processor of spans of the OpenTelemetry SDK."""
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

    class Ids(RandomIdGenerator):
        """Ids by chance, but for the first span of a study."""

        def generate_trace_id(self) -> int:
            chosen = getattr(_chosen, "ids", None)
            return super().generate_trace_id() if chosen is None else int(chosen[0])

        def generate_span_id(self) -> int:
            chosen, _chosen.ids = getattr(_chosen, "ids", None), None
            return super().generate_span_id() if chosen is None else int(chosen[1])

    provider = TracerProvider(
        resource=Resource.create({"service.name": f"vigil-{role}", "service.version": __version__}),
        id_generator=Ids(),
    )
    provider.add_span_processor(processor)
    return Traces(provider.get_tracer("vigil", __version__))


_chosen: Any = threading.local()  # ids of the span that this thread is about to start


def _nothing() -> "Context":
    from opentelemetry.context import Context

    return Context()


def _context(study_key: str) -> "Context":
    """Context of a span below the study's first one, wherever that was made."""
    from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

    trace_id, span_id = trace_ids(study_key)
    remote = SpanContext(trace_id, span_id, is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED))
    return set_span_in_context(NonRecordingSpan(remote), _nothing())


def _ns(at: datetime) -> int:
    return int(at.timestamp() * 1_000_000_000)
