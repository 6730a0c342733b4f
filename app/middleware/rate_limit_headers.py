"""Puts `RateLimit-*` on every answer of a limited route, refusals and errors included."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.dependencies.limits import rate_limit_headers


class RateLimitHeaders:
    """Adds the fields of the decision that the route's limit left in the request's state."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_limits(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *rate_limit_headers(scope)]
            await send(message)

        await self._app(scope, receive, send_with_limits)
