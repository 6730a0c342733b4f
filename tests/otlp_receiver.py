"""A small collector: takes traces by OTLP over HTTP, and keeps them."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

DEADLINE = 60.0  # seconds


@dataclass(frozen=True)
class Span:
    """What was received of a span."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str
    attributes: dict[str, Any]


@dataclass
class Receiver:
    """Where it listens, and what it has got."""

    url: str
    spans: list[Span] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)

    def trace(self, trace_id: str, *names: str) -> list[Span]:
        """Wait until spans of these names are there; return the whole trace.

        Raises:
            AssertionError: they did not come.
        """
        self.wait_for(lambda: set(names) <= {each.name for each in self._of(trace_id)}, names)
        return self._of(trace_id)

    def wait_for(self, is_there: Callable[[], bool], wanted: object) -> None:
        """Wait for what comes from another thread."""
        deadline = time.monotonic() + DEADLINE
        while not is_there():
            assert time.monotonic() < deadline, (wanted, [each.name for each in self.spans])
            time.sleep(0.02)

    def _of(self, trace_id: str) -> list[Span]:
        return [each for each in self.spans if each.trace_id == trace_id]


@contextmanager
def receiving() -> Iterator[Receiver]:
    """Run a collector until the end of the block."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            assert self.path == "/v1/traces"
            receiver.bodies.append(body)
            receiver.spans.extend(_spans(body))
            answer = ExportTraceServiceResponse().SerializeToString()
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    receiver = Receiver(f"http://127.0.0.1:{server.server_address[1]}")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()


def _spans(body: bytes) -> Iterator[Span]:
    for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield Span(
                    span.name,
                    span.trace_id.hex(),
                    span.span_id.hex(),
                    span.parent_span_id.hex(),
                    {
                        each.key: each.value.string_value or each.value.int_value
                        for each in span.attributes
                    },
                )
