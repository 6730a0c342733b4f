"""Compresses answers, but for the content of files."""

import re

from starlette.datastructures import Headers
from starlette.middleware.gzip import GZipMiddleware, GZipResponder, IdentityResponder
from starlette.types import ASGIApp, Receive, Scope, Send

_REFUSED = re.compile(r"q\s*=\s*0(\.0*)?")


class Compression(GZipMiddleware):
    """Leaves some paths as they are: ranges and entity tags count the bytes that a file has."""

    def __init__(
        self, app: ASGIApp, *, unless: re.Pattern[str], minimum_size: int, compresslevel: int
    ) -> None:
        super().__init__(app, minimum_size, compresslevel)
        self._unless = unless

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or self._unless.match(scope["path"]):
            await self.app(scope, receive, send)
            return
        responder = IdentityResponder(self.app, self.minimum_size)
        if takes_gzip(Headers(scope=scope).get("accept-encoding", "")):
            responder = GZipResponder(self.app, self.minimum_size, self.compresslevel)
        await responder(scope, receive, send)


def takes_gzip(accept_encoding: str) -> bool:
    """Tell whether gzip is among what a client takes, with a weight above 0 (RFC 9110, 12.5.3)."""
    if accept_encoding in ("", "identity"):
        return False
    weights: dict[str, bool] = {}
    for entry in accept_encoding.lower().split(","):
        coding, _, parameters = entry.partition(";")
        weights[coding.strip()] = not _REFUSED.fullmatch(parameters.strip())
    named = (weights.get(name) for name in ("gzip", "x-gzip", "*"))
    return next((taken for taken in named if taken is not None), False)
