"""Gives each request its id and its record, and says how long it took."""

import re
import secrets
import time
from urllib.parse import quote

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.context import RequestContext, current_request

_ACCEPTABLE = re.compile(rb"[A-Za-z0-9._-]{1,128}")


class RequestContextMiddleware:
    """Echoes `X-Request-ID` or makes one; it is on every answer and in every log line."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        request_id = _given_id(scope) or secrets.token_hex(16)
        context = RequestContext(
            request_id,
            time.perf_counter(),
            client=scope.get("client"),
            headers=scope["headers"],
            raw_path=scope.get("raw_path") or quote(scope["path"]).encode(),
        )
        scope.setdefault("state", {})["context"] = context
        current_request.set(context)
        id_header = (b"x-request-id", request_id.encode())

        async def send_with_id(message: Message) -> None:
            if message["type"] in ("http.response.start", "websocket.accept"):
                headers = message.setdefault("headers", [])
                headers = message["headers"] = list(headers)
                headers.append(id_header)
                elapsed = (time.perf_counter() - context.started_at) * 1000
                headers.append((b"server-timing", b"app;dur=%.1f" % elapsed))
            await send(message)

        await self._app(scope, receive, send_with_id)


def context_of(scope: Scope) -> RequestContext | None:
    """Return the record of a request, if it passed through here."""
    context: RequestContext | None = scope.get("state", {}).get("context")
    return context


def _given_id(scope: Scope) -> str | None:
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            return value.decode() if _ACCEPTABLE.fullmatch(value) else None
    return None
