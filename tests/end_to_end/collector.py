"""An OpenTelemetry collector that keeps what it is sent, as it came and as what it means."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@dataclass(frozen=True, slots=True)
class ToldSpan:
    """One span as a collector knows it."""

    role: str
    name: str
    study: str
    trace_id: str
    parent_id: str


@dataclass(slots=True)
class Collector:
    """What came by OTLP over HTTP."""

    url: str = ""
    bodies: list[bytes] = field(default_factory=list)

    @property
    def spans(self) -> list[ToldSpan]:
        return [
            ToldSpan(
                role=next(one.value.string_value for one in resource.attributes if one.key == "service.name"),
                name=span.name,
                study=next(
                    (one.value.string_value for one in span.attributes if one.key == "vigil.study"), ""
                ),
                trace_id=span.trace_id.hex(),
                parent_id=span.parent_span_id.hex(),
            )
            for body in self.bodies
            for group in ExportTraceServiceRequest.FromString(body).resource_spans
            for resource in [group.resource]
            for scope in group.scope_spans
            for span in scope.spans
        ]


@contextmanager
def collector() -> Iterator[Collector]:
    """Run a collector on a free port of this machine."""
    told = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told.bodies.append(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.send_header("content-type", "application/x-protobuf")
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    told.url = f"http://127.0.0.1:{server.server_address[1]}/v1/traces"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield told
    finally:
        server.shutdown()
        server.server_close()
