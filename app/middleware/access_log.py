"""Writes one line a request."""

import logging
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.middleware.request_context import context_of

logger = logging.getLogger("kingpost.access")

_QUIET = ("/health", "/metrics")  # probes and scrapes would drown the rest


class AccessLog:
    """Logs method, path, route, status, time and size; never the query, which may hold a ticket."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status, size = 0, 0

        async def counting(message: Message) -> None:
            nonlocal status, size
            if message["type"] == "http.response.start":
                status = message["status"]
            elif message["type"] == "http.response.body":
                size += len(message.get("body", b""))
            await send(message)

        try:
            await self._app(scope, receive, counting)
        finally:
            self._write(scope, status, size)

    def _write(self, scope: Scope, status: int, size: int) -> None:
        level = logging.DEBUG if scope["path"].startswith(_QUIET) else logging.INFO
        if not logger.isEnabledFor(level):
            return
        context = context_of(scope)
        client = scope.get("client")
        route = scope.get("route")
        fields = {
            "method": scope["method"],
            "path": scope["path"],
            "route": getattr(route, "path", None),
            "status": status or 499,  # nginx's number for a client that hung up
            "duration_ms": round((time.perf_counter() - context.started_at) * 1000, 2)
            if context
            else None,
            "bytes": size,
            "client": client[0] if client else None,
        }
        if context and context.error_code:
            fields["error_code"] = context.error_code
            if context.cause:
                fields["cause"] = context.cause
        logger.log(level, "request", extra={"fields": fields})
