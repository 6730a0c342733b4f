"""Compresses answers, but for the content of files."""

import re

from starlette.middleware.gzip import GZipMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send


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
        await super().__call__(scope, receive, send)
