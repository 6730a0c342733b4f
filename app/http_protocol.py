"""HTTP as Uvicorn reads it, but with a problem for an answer to what is none."""

import secrets
import time

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.context import RequestContext
from app.errors import BadRequest
from app.middleware.problems import problem_response
from app.middleware.security_headers import ALWAYS, API_CSP


class HttpProtocol(HttpToolsProtocol):
    """Refuses what it cannot read as everything else is refused (RFC 9457)."""

    def send_400_response(self, msg: str) -> None:
        """Say that this is no HTTP, and end the connection."""
        context = RequestContext(secrets.token_hex(16), time.perf_counter())
        answer = problem_response(BadRequest(msg), {"state": {"context": context}})
        headers = [
            *answer.raw_headers,
            *ALWAYS,
            (b"content-security-policy", API_CSP),
            (b"x-request-id", context.request_id.encode()),
            (b"connection", b"close"),
        ]
        head = [b"HTTP/1.1 400 Bad Request", *(b"%s: %s" % pair for pair in headers), b"", b""]
        self.transport.write(b"\r\n".join(head) + bytes(answer.body))
        self.transport.close()
