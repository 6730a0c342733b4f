"""HEAD wherever GET works (RFC 9110, section 9.3.2)."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class HeadMiddleware:
    """Runs HEAD as GET and keeps the headers only."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return

        async def send_head(message: Message) -> None:
            if message["type"] != "http.response.start":
                return
            # Uvicorn looks here: of a GET whose body is missing it resets the connection.
            scope["method"] = "HEAD"
            await send(message)
            # At once: a stream of events has no end, and learns by this that nobody listens.
            await send({"type": "http.response.body", "body": b""})

        scope.setdefault("state", {})["is_head"] = True  # for whoever can spare itself the body
        scope["method"] = "GET"  # in place: those outside look at the route that is found
        try:
            await self._app(scope, receive, send_head)
        finally:
            scope["method"] = "HEAD"
