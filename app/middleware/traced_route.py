"""Gives the span of a request the name of its route, which FastAPI's telemetry does not see."""

from opentelemetry.trace import get_current_span  # FastAPI imports it too
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_BEGINNINGS = ("http.response.start", "websocket.accept")


class TracedRoute:
    """Names the span when the answer begins: the route is found by then (routers/dispatch.py)."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return

        async def naming(message: Message) -> None:
            if message["type"] in _BEGINNINGS:
                path = getattr(scope.get("route"), "path", None)
                span = get_current_span()
                if path is not None and span.is_recording():
                    span.set_attribute("http.route", path)
                    span.update_name(f"{scope.get('method', 'WS')} {path}")
            await send(message)

        await self._app(scope, receive, naming)
