"""Uvicorn's HTTP, which answers what it cannot read as a problem, and reads no endless head."""

import secrets
from urllib.parse import quote

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from app.context import PATH_SAFE
from app.errors import BadRequest, DomainError, HeadersTooLarge, UriTooLong
from app.problem_details import API_CSP, MEDIA_TYPE, SAFE_HEADERS, encoded, problem

MAX_HEAD_BYTES = 2 * 1024 * 1024  # as much as a body; nginx in front stops at 32 KiB
_MAX_URL_BYTES = 65_535  # what httptools can take apart
_LINGER = 1.0  # seconds that one who was refused may go on sending


class HttpProtocol(HttpToolsProtocol):
    """Refuses in the API's own words, where the app never comes to see a request.

    Uvicorn's own says it in plain text, and collects a head of any size, trailers too: 60 MB of one
    header field cost that memory and seconds of the event loop.
    """

    url = b""  # of the request that is being read
    _unread = 0  # bytes that have not led to a whole head, a piece of a body or an end
    _is_refused = False

    def data_received(self, data: bytes) -> None:
        """Take in what came, unless too much came that has led to nothing."""
        if self._is_refused:
            return
        super().data_received(data)
        self._unread += len(data)
        if self._unread > MAX_HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response("The head of the request is too large")

    def on_headers_complete(self) -> None:
        """Begin to serve a request."""
        super().on_headers_complete()
        self._unread = 0

    def on_body(self, body: bytes) -> None:
        """Hand on a piece of a body."""
        super().on_body(body)
        self._unread = 0

    def on_message_complete(self) -> None:
        """End a request."""
        super().on_message_complete()
        self._unread = 0

    def send_400_response(self, msg: str) -> None:
        """Refuse what cannot be read, and end the connection."""
        if self._is_refused:
            return
        self._is_refused = True
        if self._may_answer():
            self.transport.write(self._refusal(msg))
        if self.cycle is not None:
            self.cycle.disconnected = True  # nothing is written behind it
        # To close on bytes that nobody read would be a reset, which takes the answer with it.
        if self.transport.can_write_eof():
            self.transport.write_eof()
            self.loop.call_later(_LINGER, self.transport.close)
        else:
            self.transport.close()

    def _may_answer(self) -> bool:
        """Tell whether an answer would be this request's, and not one within or before another."""
        cycle = self.cycle
        if cycle is None or cycle.response_complete:
            return True
        return cycle.scope is self.scope and not cycle.response_started and not self.pipeline

    def _refusal(self, msg: str) -> bytes:
        error: DomainError = BadRequest(msg)
        if len(self.url) > _MAX_URL_BYTES:
            error = UriTooLong(f"A URL may have at most {_MAX_URL_BYTES} bytes")
        elif self._unread > MAX_HEAD_BYTES:
            error = HeadersTooLarge(f"A head may have at most {MAX_HEAD_BYTES} bytes")
        path = self.url.partition(b"?")[0] if len(self.url) <= _MAX_URL_BYTES else b""
        request_id = secrets.token_hex(16)
        body = encoded(
            problem(
                error.status,
                error.error_code,
                error.title,
                error.detail,
                instance=quote(path, safe=PATH_SAFE),
                request_id=request_id,
            )
        )
        headers = (
            (b"content-type", MEDIA_TYPE.encode()),
            (b"content-length", b"%d" % len(body)),
            *SAFE_HEADERS,
            (b"content-security-policy", API_CSP),
            (b"x-request-id", request_id.encode()),
            (b"server-timing", b"app;dur=0.0"),
            (b"connection", b"close"),
        )
        lines = b"".join(b"%s: %s\r\n" % header for header in headers)
        return STATUS_LINE[error.status] + lines + b"\r\n" + body
