"""HTTP as Uvicorn speaks it, with an end to what comes before the app is asked."""

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from app.errors import HeadersTooLarge
from app.middleware.problems import problem_response

MAX_HEAD = 64 * 1024  # bytes of a request's line and header fields; nginx lets 64 KiB through


class HttpProtocol(HttpToolsProtocol):
    """Uvicorn's HTTP, which also bounds what is kept of a request before the app is asked.

    Uvicorn's own keeps header fields without end, those behind a chunked body too, and its parser
    a single value that never ends.
    """

    _unread = 0  # bytes that are no body, since a request began or the last of its body came

    def data_received(self, data: bytes) -> None:
        """Take in what came; a head that has become too large is answered and over."""
        self._unread += len(data)
        super().data_received(data)
        if self._unread > MAX_HEAD and not self.transport.is_closing():
            self.send_400_response("")

    def on_headers_complete(self) -> None:
        """Begin with a request, unless its head was too large."""
        # What came may be a short head and a long body: only then, and never else, is it counted.
        if self._unread > MAX_HEAD and self._head_size() > MAX_HEAD:
            raise HeadersTooLarge  # which Uvicorn answers by the method below
        self._unread = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take in a part of a body, which the app bounds."""
        self._unread = 0
        super().on_body(body)

    def send_400_response(self, msg: str) -> None:
        """Refuse what cannot be read, or is too large to be."""
        if self._unread <= MAX_HEAD:
            super().send_400_response(msg)
            return
        if self._may_answer():
            self.transport.write(_head_too_large())
        if self.cycle is not None:
            self.cycle.disconnected = True  # nothing is written behind it
        self.transport.close()

    def _may_answer(self) -> bool:
        """Tell whether an answer would be this request's, and not one within or before another."""
        cycle = self.cycle
        if cycle is None or cycle.response_complete:
            return True
        return cycle.scope is self.scope and not cycle.response_started and not self.pipeline

    def _head_size(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)


def _head_too_large() -> bytes:
    error = HeadersTooLarge(f"The head of a request may have at most {MAX_HEAD} bytes")
    refusal = problem_response(error, {"type": "http", "path": ""})
    lines = [STATUS_LINE[refusal.status_code]]
    lines += [b"%s: %s\r\n" % header for header in refusal.raw_headers]
    return b"".join([*lines, b"connection: close\r\n\r\n", bytes(refusal.body)])
