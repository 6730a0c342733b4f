"""Bounds on what a request may bring, before anything is done for it."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import (
    BadRequest,
    HeadersTooLarge,
    PayloadTooLarge,
    RequestTimeout,
    Unprocessable,
    UriTooLong,
)
from app.http_protocol import LATE
from app.schemas.json_depth import JsonDepth

METHODS = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")


class InputLimits:
    """Refuses too many headers, too long a query, too large, too deep or too slow a body."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        max_body_bytes: int,
        max_query_bytes: int,
        max_header_count: int,
        max_json_depth: int,
        larger_bodies: Sequence[tuple[re.Pattern[str], int]] = (),
    ) -> None:
        self._app = app
        self._max_body = max_body_bytes
        self._max_query = max_query_bytes
        self._max_headers = max_header_count
        self._max_depth = max_json_depth
        self._larger = tuple(larger_bodies)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        self._check_head(scope)
        if scope["method"] in ("GET", "HEAD", "OPTIONS", "DELETE") and not _has_body(scope):
            await self._app(scope, receive, send)
            return
        larger = self._larger_body_of(scope["path"])
        max_body = self._max_body if larger is None else larger
        _check_length(scope, max_body)
        # A file is no JSON body, whatever its type says: its reader has limits of its own.
        is_file = larger is not None
        depth = JsonDepth(self._max_depth) if _is_json(scope) and not is_file else None
        state = {} if is_file else scope.get("state", {})
        await self._app(scope, _bounded(receive, max_body, depth, state), send)

    def _check_head(self, scope: Scope) -> None:
        if len(scope["headers"]) > self._max_headers:
            raise HeadersTooLarge(f"At most {self._max_headers} header fields are read")
        query: bytes = scope["query_string"]
        if len(query) > self._max_query:
            raise UriTooLong(f"The query may have at most {self._max_query} bytes")
        if "\x00" in scope["path"] or b"%00" in query or b"\x00" in query:
            place = "path" if "\x00" in scope["path"] else "query"
            raise Unprocessable.field(place, "The address must not contain NUL", "nul")

    def _larger_body_of(self, path: str) -> int | None:
        """Return how large a body may be where a path takes in files."""
        return next((size for pattern, size in self._larger if pattern.match(path)), None)


def _bounded(
    receive: Receive, max_body: int, depth: JsonDepth | None, state: Mapping[str, Any]
) -> Receive:
    size = 0

    async def bounded_receive() -> Message:
        nonlocal size
        message = await receive()
        if message["type"] == "http.request":
            chunk = message.get("body", b"")
            size += len(chunk)
            if size > max_body:  # chunked: there was no Content-Length to believe
                raise _too_large(max_body)
            if depth is not None:
                depth.feed(chunk)
            if not chunk and LATE in state and message.get("more_body"):
                raise RequestTimeout("The body stopped, or comes too slowly")
        return message

    return bounded_receive


def _check_length(scope: Scope, max_body: int) -> None:
    for name, value in scope["headers"]:
        if name == b"content-length":
            if not value.isdigit():
                raise BadRequest("Content-Length must be a whole number")
            if int(value) > max_body:
                raise _too_large(max_body)


def _too_large(max_body: int) -> PayloadTooLarge:
    return PayloadTooLarge(f"A body may have at most {max_body} bytes")


def _has_body(scope: Scope) -> bool:
    return any(name in (b"content-length", b"transfer-encoding") for name, _ in scope["headers"])


def _is_json(scope: Scope) -> bool:
    return any(
        name == b"content-type" and b"json" in value.lower() for name, value in scope["headers"]
    )
