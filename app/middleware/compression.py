"""Compresses answers, but for the content of files."""

import re

from starlette.datastructures import Headers
from starlette.middleware.gzip import GZipMiddleware, IdentityResponder
from starlette.types import ASGIApp, Receive, Scope, Send

_ACCEPTED = "Accept-Encoding"
# A weight of nothing means: not that one (RFC 9110, section 12.4.2).
_REFUSED = re.compile(r"\bgzip\s*;\s*q=0(?:\.0{0,3})?\s*(?:,|$)", re.IGNORECASE)


class Compression(GZipMiddleware):
    """Leaves some paths as they are: ranges and entity tags count the bytes that a file has."""

    def __init__(
        self, app: ASGIApp, *, unless: re.Pattern[str], minimum_size: int, compresslevel: int
    ) -> None:
        super().__init__(app, minimum_size, compresslevel)
        self._unless = unless

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and self._unless.match(scope["path"]):
            await self.app(scope, receive, send)
            return
        if scope["type"] == "http" and _REFUSED.search(Headers(scope=scope).get(_ACCEPTED, "")):
            await IdentityResponder(self.app, self.minimum_size)(scope, receive, send)
            return
        await super().__call__(scope, receive, send)
