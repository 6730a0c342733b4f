"""Uvicorn's HTTP/1.1, which also bounds a request's head, and refuses by the form of our errors."""

import secrets
import time
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.context import RequestContext
from app.errors import BadRequest, DomainError, HeadersTooLarge

# A token of a megabyte is still told that it is none; what is larger is nobody's token.
MAX_HEAD = 2 * 2**20  # bytes of the request line and all header fields
_LINGER = 1.0  # seconds that one who was refused may go on sending


class HttpProtocol(HttpToolsProtocol):
    """What never becomes a request is answered here, before the app: it has no path or headers."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._is_in_head = False
        self._head_bytes = 0
        self._is_refused = False

    def data_received(self, data: bytes) -> None:
        """Take in what came; a head that does not end is over."""
        if self._is_refused:
            return
        super().data_received(data)
        if self._is_in_head and not self._is_refused:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD:
                self._refuse(HeadersTooLarge(f"A head may have at most {MAX_HEAD} bytes"))

    def on_message_begin(self) -> None:
        """Begin to count."""
        super().on_message_begin()
        self._is_in_head = True
        self._head_bytes = 0

    def on_headers_complete(self) -> None:
        """Hand the request on."""
        self._is_in_head = False
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP."""
        self._refuse(BadRequest("This is no valid HTTP request"))

    def _refuse(self, error: DomainError) -> None:
        from app.middleware.problems import problem_response
        from app.middleware.security_headers import ALWAYS, API_CSP

        request_id = secrets.token_hex(16)
        context = RequestContext(request_id, time.perf_counter(), client=self.client, headers=[])
        response = problem_response(error, {"type": "http", "state": {"context": context}})
        headers = [
            *response.raw_headers,
            *ALWAYS,
            (b"content-security-policy", API_CSP),
            (b"x-request-id", request_id.encode()),
            (b"connection", b"close"),
        ]
        lines = [f"HTTP/1.1 {error.status} {HTTPStatus(error.status).phrase}".encode()]
        lines += [name + b": " + value for name, value in headers]
        self._is_refused = True
        self.transport.write(b"\r\n".join([*lines, b"", bytes(response.body)]))
        # To close on bytes that nobody read would be a reset, which takes the answer with it.
        if self.transport.can_write_eof():
            self.transport.write_eof()
            self.loop.call_later(_LINGER, self.transport.close)
        else:
            self.transport.close()
