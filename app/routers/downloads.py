"""Answers with the content of a file: streamed, inert in a browser, at constant memory."""

import re
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from email.utils import format_datetime
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Send

from app.dependencies.ranges import Extent
from app.models.files import File

Open = Callable[[], AbstractAsyncContextManager[AsyncIterator[bytes]]]

# Whoever opens it in a browser gets a download, without scripts and without a guess at its type.
_INERT = "sandbox; default-src 'none'; frame-ancestors 'none'"
_UNSAFE = re.compile(r"[^A-Za-z0-9 ._()-]")


def content_disposition(name: str) -> str:
    """Return `attachment` with a name: plain for old clients, exact for all others (RFC 6266)."""
    plain = _UNSAFE.sub("_", name)
    exact = quote(name, safe="", encoding="utf-8", errors="replace")
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{exact}"


def content_headers(file: File) -> dict[str, str]:
    """Return what every answer says of a file's content, a 304 too."""
    return {
        "ETag": f'"{file.sha256}"',
        "Last-Modified": format_datetime(file.created_at, usegmt=True),
        # Who may read it can change at any time: a browser keeps it, but asks.
        "Cache-Control": "private, no-cache",
    }


def described(file: File) -> dict[str, str]:
    """Return the headers that tell what a file's content is, and keep it from being run."""
    is_text = file.content_type.startswith("text/")
    return {
        "Content-Type": f"{file.content_type}; charset=utf-8" if is_text else file.content_type,
        "Content-Disposition": content_disposition(file.name),
        "Content-Security-Policy": _INERT,
        "Accept-Ranges": "bytes",
    }


def download(request: Request, file: File, extent: Extent | None, opened: Open) -> Response:
    """Return the answer that brings a file's content, or a part of it."""
    headers = content_headers(file) | described(file)
    length = file.size
    if extent is not None:
        last = extent.start + extent.length - 1
        headers["Content-Range"] = f"bytes {extent.start}-{last}/{file.size}"
        length = extent.length
    headers["Content-Length"] = str(length)
    status = 200 if extent is None else 206
    if request.scope["state"].get("is_head"):
        return Response(status_code=status, headers=headers)
    return Content(opened, status, headers)


class Content(StreamingResponse):
    """Opens the storage when the answer begins, and closes it however it ends."""

    def __init__(self, opened: Open, status_code: int, headers: dict[str, str]) -> None:
        super().__init__((), status_code, headers)
        self._opened = opened

    async def stream_response(self, send: Send) -> None:
        """Send the content block by block, as fast as the client takes it."""
        async with self._opened() as blocks:
            self.body_iterator = blocks
            await super().stream_response(send)
