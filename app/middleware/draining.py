"""Sends clients elsewhere while the process is about to end."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class Draining:
    """Has each connection closed behind its next answer.

    A proxy that keeps connections would else send a request on one of them just when it is closed,
    and may not repeat what is no GET.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["app"].state.resources.is_draining:
            await self._app(scope, receive, send)
            return

        async def send_last(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), (b"connection", b"close")]
            await send(message)

        await self._app(scope, receive, send_last)
