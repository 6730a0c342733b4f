"""Traces by OpenTelemetry, sent by OTLP over HTTP; without OTLP_ENDPOINT nothing of it is loaded.

FastAPI's own telemetry makes the span of a request; here are those of what a request causes. No
span has a value in it: no parameter, no query string, no text of an error.
"""

import asyncio
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from app.settings import Settings

if TYPE_CHECKING:
    from opentelemetry.context import Context

    from app.adapters.spans import End

TRACEPARENT = "traceparent"  # https://www.w3.org/TR/trace-context/; also its name where it is kept
_QUEUE_SIZE = 2048  # spans; what comes on top while the collector is away is dropped
_SEND_EVERY = 1000  # milliseconds
_EXPORT_SECONDS = 3.0  # that one batch may take
_CLOSE_SECONDS = 5.0  # that the end of a process waits for the rest
# A statement that begins WITH is what it changes, or else a question.
_CHANGE = re.compile(r'\b(INSERT INTO|DELETE FROM|(?<!FOR )UPDATE)\s+"?(\w+)')
_QUESTION = re.compile(r'\bFROM\s+"?(\w+)')


class Tracing:
    """The tracer of one process. Spans are kept in memory until `start`."""

    def __init__(self, settings: Settings, version: str) -> None:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.sampling import TraceIdRatioBased

        self._endpoint = str(settings.otlp_endpoint).rstrip("/") + "/v1/traces"
        self.provider: TracerProvider = TracerProvider(
            # By the trace's id alone: all parts of a trace agree, and the flag in a client's
            # header costs nothing.
            sampler=TraceIdRatioBased(settings.trace_sample_ratio),
            resource=Resource.create(
                {
                    "service.name": "kingpost",
                    "service.version": version,
                    "deployment.environment.name": str(settings.environment),
                }
            ),
            shutdown_on_exit=False,
        )
        self._tracer = self.provider.get_tracer("kingpost", version)

    def start(self) -> None:
        """Send what is traced from now on; a thread does it."""
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace import SpanProcessor
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        class WithoutQueries(SpanProcessor):
            """A query may hold a ticket, or what somebody looks for."""

            def on_start(self, span: Any, parent_context: "Context | None" = None) -> None:
                if "url.query" in (span.attributes or {}):
                    span.set_attribute("url.query", "[redacted]")

        self._exporter = OTLPSpanExporter(endpoint=self._endpoint, timeout=_EXPORT_SECONDS)
        self.provider.add_span_processor(WithoutQueries())
        self.provider.add_span_processor(
            BatchSpanProcessor(
                self._exporter, max_queue_size=_QUEUE_SIZE, schedule_delay_millis=_SEND_EVERY
            )
        )

    async def close(self) -> None:
        """Send the rest, for no longer than a deadline."""
        closing = asyncio.create_task(asyncio.to_thread(self.provider.shutdown))
        await asyncio.wait([closing], timeout=_CLOSE_SECONDS)
        if not closing.done():  # what still waits between two attempts gives up
            self._exporter.shutdown()  # type: ignore[no-untyped-call]

    def statement(self, sql: str) -> "End | None":
        """Begin the span of an SQL statement, as part of what is traced."""
        operation, table = _operation_and_table(sql)
        attributes = {"db.operation.name": operation, "db.collection.name": table}
        return self._begin(f"{operation} {table}".strip(), attributes)

    def command(self, operation: Callable[..., object]) -> "End | None":
        """Begin the span of what is asked of Redis, named after who asks."""
        name = operation.__qualname__.partition(".<locals>")[0]
        return self._begin(f"redis {name}", {"db.system.name": "redis"})

    def snapshot(self) -> "End | None":
        """Begin the span of a long read of one moment, from waiting for it to giving it back."""
        return self._begin("snapshot", {})

    def _begin(self, name: str, attributes: Mapping[str, str]) -> "End | None":
        from opentelemetry.trace import SpanKind, StatusCode, get_current_span

        # What runs by itself, such as the poll for events, is no part of anybody's trace.
        if not get_current_span().is_recording():
            return None
        span = self._tracer.start_span(name, kind=SpanKind.CLIENT, attributes=attributes)

        def end(error: BaseException | None) -> None:
            if error is not None:
                span.set_attribute("error.type", type(error).__name__)
                span.set_status(StatusCode.ERROR)
            span.end()

        return end

    @contextmanager
    def job(self, kind: str, job_id: int, traceparent: str | None) -> Iterator[None]:
        """Go on with the trace of the request that queued a job."""
        from opentelemetry.trace import SpanKind

        with self._tracer.start_as_current_span(
            f"job {kind}",
            context=_within(traceparent),
            kind=SpanKind.CONSUMER,
            attributes={"kingpost.job.id": job_id, "kingpost.job.kind": kind},
            record_exception=False,
            set_status_on_exception=False,
        ):
            yield

    @contextmanager
    def webhook(self, host: str, traceparent: str | None) -> Iterator[Mapping[str, str]]:
        """Trace an attempt to send a webhook, as part of the trace of what it tells of.

        Yields the headers that let its receiver go on.
        """
        from opentelemetry.trace import SpanKind, StatusCode

        with self._tracer.start_as_current_span(
            "webhook POST",
            context=_within(traceparent),
            kind=SpanKind.CLIENT,
            attributes={"server.address": host},
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            here = current_traceparent()
            try:
                yield {TRACEPARENT: here} if here else {}
            except Exception as error:
                span.set_attribute("error.type", type(error).__name__)
                span.set_status(StatusCode.ERROR)
                raise

    def events(self, deliver: Callable[[Sequence[Any]], None]) -> Callable[[Sequence[Any]], None]:
        """Return a listener that delivers a batch in a span of each trace that has events in it."""
        from opentelemetry.trace import SpanKind

        def deliver_traced(batch: Sequence[Any]) -> None:
            counts = Counter(each.traceparent for each in batch if each.traceparent)
            spans = [
                self._tracer.start_span(
                    "events deliver",
                    context=_within(traceparent),
                    kind=SpanKind.CONSUMER,
                    attributes={"kingpost.events": count, "kingpost.event.last_id": batch[-1].id},
                )
                for traceparent, count in counts.items()
            ]
            try:
                deliver(batch)
            finally:
                for span in spans:
                    span.end()

        return deliver_traced


def open_tracing(settings: Settings, version: str) -> Tracing | None:
    """Return the tracer where the settings name a collector; else None, and nothing is loaded."""
    return Tracing(settings, version) if settings.otlp_endpoint else None


def current_trace_id() -> str | None:
    """Return the id of the trace that goes on here, for a log line."""
    traceparent = current_traceparent()
    return traceparent.split("-")[1] if traceparent else None


def current_traceparent() -> str | None:
    """Return what lets another process go on with this trace: W3C's `traceparent`."""
    if "opentelemetry.sdk.trace" not in sys.modules:
        return None
    from opentelemetry.trace import get_current_span

    span = get_current_span().get_span_context()
    if not span.is_valid:
        return None
    return f"00-{span.trace_id:032x}-{span.span_id:016x}-{span.trace_flags:02x}"


def _within(traceparent: str | None) -> "Context":
    """Return the context of who wrote a `traceparent`; without one, what begins is a new trace."""
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    return TraceContextTextMapPropagator().extract(
        {TRACEPARENT: traceparent} if traceparent else {}
    )


@lru_cache(1024)
def _operation_and_table(sql: str) -> tuple[str, str]:
    """Return what a statement does and the first table that it does it to."""
    change = _CHANGE.search(sql)
    if change:
        return change[1].split()[0], change[2]
    question = _QUESTION.search(sql)
    return "SELECT", question[1] if question else ""
