"""Prometheus metrics of one process, right over several workers too."""

import os
import platform
from collections.abc import Callable

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_fastapi_instrumentator import metrics as instrumentations

CONTENT_TYPE = CONTENT_TYPE_LATEST
# From a cache hit to the slowest statement that is let run, in seconds.
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """Everything that is counted. Labels take few, known values: nobody can make series."""

    def __init__(self, version: str) -> None:
        registry = CollectorRegistry()
        self._registry = registry
        if not is_multiprocess():
            ProcessCollector(registry=registry)
        self.http = [
            instrument
            for instrument in (
                instrumentations.latency(buckets=BUCKETS, registry=registry),
                instrumentations.requests(registry=registry),
            )
            if instrument is not None
        ]
        self.in_progress = _gauge(registry, "http_requests_in_progress", "Requests being served.")
        self.shed = Counter(
            "http_requests_shed", "Requests refused because of too many at once.", registry=registry
        )
        self.pool_size = _gauge(registry, "db_pool_connections", "Open database connections.")
        self.pool_limit = _gauge(registry, "db_pool_limit", "Connections that may be open.")
        self.pool_in_use = _gauge(registry, "db_pool_in_use", "Database connections lent out.")
        self.cache_lookups = Counter(
            "cache_lookups", "Lookups in the cache.", ["namespace", "outcome"], registry=registry
        )
        self.rate_limited = Counter(
            "rate_limit_refusals", "Requests refused by a rate limit.", ["limit"], registry=registry
        )
        self.sockets = _gauge(registry, "websocket_connections", "Open WebSockets.")
        self.streams = _gauge(registry, "event_streams", "Open SSE streams.")
        self.socket_messages = Counter(
            "websocket_messages", "WebSocket messages.", ["direction"], registry=registry
        )
        self.socket_messages_out = self.socket_messages.labels("out")
        self.events_read = Counter("events_read", "Events read from the outbox.", registry=registry)
        self.event_lag = Histogram(
            "event_lag_seconds",
            "From an event's commit to its delivery.",
            buckets=BUCKETS,
            registry=registry,
        )
        self.webhook_attempts = Counter(
            "webhook_attempts",
            "Attempts to send a webhook.",
            ["outcome"],
            registry=registry,
        )
        self.webhook_duration = Histogram(
            "webhook_attempt_duration_seconds",
            "How long an endpoint took to answer, or not to.",
            buckets=(*BUCKETS, 15.0),
            registry=registry,
        )
        self.jobs_waiting = _latest(registry, "jobs_waiting", "Jobs whose time has come.")
        self.jobs_oldest_seconds = _latest(
            registry, "jobs_oldest_waiting_seconds", "How long the oldest of them has waited."
        )
        self.job_attempts = Counter(
            "jobs_attempts", "Attempts of jobs.", ["kind", "outcome"], registry=registry
        )
        self.job_seconds = Histogram(
            "job_duration_seconds",
            "From an attempt's start to its end.",
            ["kind"],
            buckets=(0.01, 0.1, 0.5, 1, 5, 15, 60, 300, 1800),
            registry=registry,
        )
        self.loop_lag = Histogram(
            "event_loop_lag_seconds",
            "How late a timer of the event loop fires.",
            buckets=(0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0),
            registry=registry,
        )
        build = Gauge(
            "kingpost_build_info",
            "The version that runs; always 1.",
            ["version", "python"],
            registry=registry,
            multiprocess_mode="max",
        )
        build.labels(version, platform.python_version()).set(1)
        self._refreshers: list[Callable[[], None]] = []

    def refresh_with(self, *refreshers: Callable[[], None]) -> None:
        """Call these before each scrape, for gauges that are read and not counted."""
        self._refreshers.extend(refreshers)

    def render(self) -> bytes:
        """Return the exposition, over all workers where there are several."""
        self.refresh()
        if not is_multiprocess():
            return generate_latest(self._registry)
        merged = CollectorRegistry()
        MultiProcessCollector(merged)  # type: ignore[no-untyped-call]
        return generate_latest(merged)

    def refresh(self) -> None:
        """Bring the gauges up to date; other workers' scrapes read what was written last."""
        for refresher in self._refreshers:
            refresher()


def is_multiprocess() -> bool:
    """Tell whether several workers share a folder of metrics."""
    return "PROMETHEUS_MULTIPROC_DIR" in os.environ


def _gauge(registry: CollectorRegistry, name: str, documentation: str) -> Gauge:
    # livesum: the sum over the workers that live; a dead one's connections are gone.
    return Gauge(name, documentation, registry=registry, multiprocess_mode="livesum")


def _latest(registry: CollectorRegistry, name: str, documentation: str) -> Gauge:
    # What every process reads from the database alike: the last one who looked is right.
    return Gauge(name, documentation, registry=registry, multiprocess_mode="livemostrecent")
