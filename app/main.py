"""The table of contents: builds the app from its parts, in the order in which a request meets them.

`create_app(settings)` is what tests and the command line use; `app.main:app` is made from the
environment when a server asks for it, so that importing this module does nothing.
"""

import gc
from collections import ChainMap
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import cache
from typing import Any

from fastapi import APIRouter, Depends, FastAPI
from fastapi.telemetry import TelemetryConfig
from starlette.middleware import Middleware
from starlette.routing import BaseRoute
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from app.context import current_request
from app.dependencies.auth import default_limit
from app.jobs.running import jobs_beside_requests, jobs_of_worker
from app.middleware.access_log import AccessLog
from app.middleware.compression import Compression
from app.middleware.cors import Cors
from app.middleware.draining import Draining
from app.middleware.head import HeadMiddleware
from app.middleware.limits import METHODS, InputLimits
from app.middleware.metrics import RequestMetrics
from app.middleware.overload import Shedding
from app.middleware.problems import ErrorBoundary, install_exception_handlers
from app.middleware.rate_limit_headers import RateLimitHeaders
from app.middleware.request_context import RequestContextMiddleware
from app.middleware.security_headers import SecurityHeaders
from app.middleware.traced_route import TracedRoute
from app.middleware.versions import VERSIONS, VersionNegotiation
from app.observability.logging import configure_logging
from app.observability.metrics import Metrics
from app.observability.tracing import Tracing, current_trace_id, open_tracing
from app.resources import Resources, open_resources
from app.routers import (
    addresses,
    api_keys,
    audit,
    auth,
    console,
    events,
    files,
    health,
    items,
    items_export,
    items_import,
    jobs,
    jwks,
    metrics,
    oidc,
    recovery,
    second_factor,
    users,
    webhooks,
    ws,
)
from app.routers.dispatch import install_prefix_dispatch
from app.routers.docs import TITLE, add_documentation, describe
from app.routers.versioning import add_routes
from app.schemas.versions import CamelCase
from app.settings import Settings
from app.version import VERSION

# A new resource is imported above and adds one line here, and nothing else in this file. Where two
# could answer a path, the first does: /items/export before /items/{item_id}.
RESOURCES = (
    items_export.resource,
    items_import.resource,
    items.resource,
    auth.resource,
    second_factor.resource,
    recovery.resource,
    addresses.resource,
    oidc.resource,
    api_keys.resource,
    users.resource,
    events.resource,
    files.resource,
    audit.resource,
    jobs.resource,
    webhooks.resource,
)


def create_app(settings: Settings) -> FastAPI:
    """Return the whole service for these settings; its lifespan opens what it holds."""
    configure_logging(settings, context=_log_context)
    process_metrics = Metrics(VERSION)
    tracing = open_tracing(settings, VERSION)

    app = FastAPI(
        title=TITLE,
        version=VERSION,
        lifespan=_lifespan(settings, process_metrics, tracing, jobs_beside_requests),
        middleware=_middleware(settings, process_metrics),
        telemetry=_telemetry(tracing),
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
        routes=list(_routes()),
    )
    install_exception_handlers(app)
    add_documentation(app, VERSIONS, openapi_document)
    console.mount_console(app)
    install_prefix_dispatch(app.router)
    return app


def create_worker_app(settings: Settings) -> FastAPI:
    """Return what `kingpost worker` serves to operators, while its lifespan runs the jobs."""
    configure_logging(settings, context=_log_context)
    process_metrics = Metrics(VERSION)
    tracing = open_tracing(settings, VERSION)

    app = FastAPI(
        lifespan=_lifespan(settings, process_metrics, tracing, jobs_of_worker),
        middleware=[Middleware(RequestContextMiddleware), Middleware(ErrorBoundary)],
        telemetry=_telemetry(tracing),
        openapi_url=None,
    )
    install_exception_handlers(app)
    for router in (health.router, metrics.router):
        add_routes(app.router, router)
    return app


def _lifespan(
    settings: Settings,
    process_metrics: Metrics,
    tracing: Tracing | None,
    jobs: Callable[[Resources], AbstractAsyncContextManager[None]],
) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with (
            open_resources(settings, process_metrics, tracing) as resources,
            jobs(resources),
        ):
            app.state.resources = resources
            yield

    return lifespan


def _middleware(settings: Settings, process_metrics: Metrics) -> list[Middleware]:
    """Return what stands around every request, the outermost first."""
    v1_dates = {"v1": settings.api_v1_deprecated_at}, {"v1": settings.api_v1_sunset_at}
    deprecated_at, sunset_at = ({k: v for k, v in each.items() if v} for each in v1_dates)
    return [
        # Who is calling, before anything is noted of it.
        Middleware(ProxyHeadersMiddleware, trusted_hosts=list(settings.trusted_proxies)),
        # What is noted of every answer, whoever gives it.
        *([Middleware(TracedRoute)] if settings.otlp_endpoint else []),
        Middleware(RequestContextMiddleware),
        Middleware(SecurityHeaders, hsts_seconds=settings.hsts_seconds),
        Middleware(Draining),
        # What is too much is refused before it costs anything.
        Middleware(Shedding, at_once=settings.max_requests_at_once, metrics=process_metrics),
        Middleware(AccessLog),
        Middleware(RequestMetrics, metrics=process_metrics),
        Middleware(RateLimitHeaders),
        Middleware(
            Cors,
            allow_origins=list(settings.cors_origins),
            allow_credentials=settings.cors_credentials,
            allow_methods=list(METHODS),
            allow_headers=["*"],
            expose_headers=[
                "API-Version",
                "Content-Disposition",
                "Deprecation",
                "ETag",
                "Idempotency-Replayed",
                "Link",
                "Location",
                "RateLimit-Limit",
                "RateLimit-Remaining",
                "RateLimit-Reset",
                "Retry-After",
                "Sunset",
                "X-Request-ID",
            ],
        ),
        Middleware(VersionNegotiation, deprecated_at=deprecated_at, sunset_at=sunset_at),
        # From here on inwards everything that goes wrong becomes a problem.
        Middleware(ErrorBoundary),
        Middleware(
            InputLimits,
            max_body_bytes=settings.max_body_bytes,
            max_query_bytes=settings.max_query_bytes,
            max_header_count=settings.max_header_count,
            max_json_depth=settings.max_json_depth,
            larger_bodies=[
                (files.UPLOAD_PATHS, settings.max_upload_bytes),
                (items_import.IMPORT_PATHS, settings.max_import_bytes),
            ],
        ),
        Middleware(HeadMiddleware),
        Middleware(Compression, unless=files.DOWNLOAD_PATHS, minimum_size=1024, compresslevel=5),
    ]


@cache
def _routes() -> Sequence[BaseRoute]:
    """Return the routes, which know no settings: however many apps a process makes share them."""
    table = APIRouter()
    limited = [Depends(default_limit)]
    camel_case = CamelCase(ChainMap(*(dict(each.successors) for each in RESOURCES)))
    for resource in RESOURCES:
        for router in (*resource.shared, *resource.v1):
            add_routes(table, router, prefix="/api/v1", dependencies=limited)
        for router in (*resource.shared, *resource.v2):
            add_routes(table, router, prefix="/api/v2", dependencies=limited, camel_case=camel_case)
    for router in (health.router, jwks.router, metrics.router, ws.router):
        add_routes(table, router)
    return table.routes


@cache
def openapi_document(prefix: str) -> dict[str, object]:
    """Return the OpenAPI document of what is under a prefix: made once, and shared as the routes.

    Whoever takes it reads it, and changes nothing.
    """
    return describe(_routes(), prefix)


def _log_context() -> dict[str, Any]:
    context, trace_id = current_request.get(), current_trace_id()
    trace = {"trace_id": trace_id} if trace_id else {}
    if context is None:
        return trace
    return {"request_id": context.request_id, "user_id": context.user_id, **trace}


def _telemetry(tracing: Tracing | None) -> TelemetryConfig:
    """Return what FastAPI itself traces: requests and sockets, and neither probes nor scrapes."""
    return {
        "tracing": tracing is not None,
        "tracer_provider": tracing.provider if tracing else None,
        "operation_spans": False,
        "metrics": False,
        "logs": False,
        "auto_configure": False,
        "exclude": lambda scope: scope["path"].startswith(("/health", "/metrics")),
    }


def __getattr__(name: str) -> Any:
    """Make `app` when it is asked for (PEP 562), once."""
    if name != "app":
        raise AttributeError(name)
    globals()["app"] = create_app(Settings())
    # What was made until here stays for the process's life. Looking through all of it for garbage
    # again and again would stop the loop for 50 ms twice a second under load; and looking once, at
    # the start, would take 100 ms to find half a megabyte.
    gc.freeze()
    gc.set_threshold(20_000, 20, 100)  # what a request leaves is rarely cyclic
    return globals()["app"]
