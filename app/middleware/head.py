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

        async def send_without_body(message: Message) -> None:
            # Uvicorn looks here: of a GET whose body is missing it resets the connection.
            scope["method"] = "HEAD"
            if message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        scope.setdefault("state", {})["is_head"] = True  # for whoever can spare itself the body
        scope["method"] = "GET"  # in place: those outside look at the route that is found
        try:
            await self._app(scope, receive, send_without_body)
        finally:
            scope["method"] = "HEAD"
