"""Counts and times each request, by route template."""

from timeit import default_timer

from prometheus_fastapi_instrumentator.metrics import Info
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.middleware.limits import METHODS
from app.observability.metrics import Metrics

_NO_RESPONSE = Response()


class RequestMetrics:
    """Feeds the instrumentator's metrics.

    Not its own middleware: that looks for the route by trying all of them in line, a second time;
    here the route that was found is taken from the scope.
    """

    def __init__(self, app: ASGIApp, *, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        metrics = self._metrics
        started_at = default_timer()
        status = "499"  # nginx's number for a client that hung up

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = str(message["status"])
            await send(message)

        metrics.in_progress.inc()
        try:
            await self._app(scope, receive, noting)
        finally:
            metrics.in_progress.dec()
            duration = default_timer() - started_at
            route = scope.get("route")
            info = Info(
                request=Request(scope),
                response=_NO_RESPONSE,
                method=scope["method"] if scope["method"] in METHODS else "other",
                modified_handler=getattr(route, "path", "none"),
                modified_status=status,
                modified_duration=duration,
            )
            for instrument in metrics.http:
                instrument(info)
