"""Uvicorn's HTTP, which answers what it cannot read as a problem, and waits for no endless head."""

import asyncio
import secrets
from urllib.parse import quote

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from app.context import PATH_SAFE
from app.errors import BadRequest, DomainError, HeadersTooLarge, RequestTimeout, UriTooLong
from app.problem_details import API_CSP, MEDIA_TYPE, SAFE_HEADERS, encoded, problem_of

MAX_HEAD_BYTES = 2 * 1024 * 1024  # as much as a body; nginx in front stops at 32 KiB
CLIENT_SECONDS = 8.0  # for a new connection's first byte, a head, and each LEAST_BYTES of a body
LEAST_BYTES = 4096
READER_SECONDS = 30.0  # in which something of an answer has to be taken, once it piles up here
LATE = "body_is_late"  # in a scope's state: nothing, or too little, came for so long
_MAX_URL_BYTES = 65_535  # what httptools can take apart
_LINGER = 1.0  # seconds that one who was refused may go on sending


class HttpProtocol(HttpToolsProtocol):
    """Refuses in the API's own words, where the app never comes to see a request.

    Uvicorn's own says it in plain text, and collects a head of any size, trailers too: 60 MB of one
    header field cost that memory and seconds of the event loop. It also waits for ever for what a
    client has begun, for one that never begins, and for one that does not read its answer.
    """

    url = b""  # of the request that is being read
    _unread = 0  # bytes that have not led to a whole head, a piece of a body or an end
    _is_refused = False
    _deadline: asyncio.TimerHandle | None = None  # while a client is to go on with what it began
    _came = 0  # bytes since it was set
    _unread_deadline: asyncio.TimerHandle | None = None  # while an answer is more than is taken

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for a first byte, as Uvicorn does for that of a later request."""
        super().connection_made(transport)
        self.timeout_keep_alive_task = self.loop.call_later(
            CLIENT_SECONDS, self.timeout_keep_alive_handler
        )

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing any more."""
        super().connection_lost(exc)
        self._end_deadline()
        self._end_unread_deadline()

    def data_received(self, data: bytes) -> None:
        """Take in what came, unless too much came that has led to nothing."""
        if self._is_refused:
            return
        super().data_received(data)
        self._unread += len(data)
        if self._unread > MAX_HEAD_BYTES:
            self.send_400_response("The head of the request is too large")
            return
        cycle = self.cycle
        if cycle is None or cycle.response_complete or cycle.more_body:
            self._wait_for_more(len(data))

    def on_headers_complete(self) -> None:
        """Begin to serve a request."""
        super().on_headers_complete()
        self._unread = 0
        if self._deadline is not None:
            self._end_deadline()

    def on_body(self, body: bytes) -> None:
        """Hand on a piece of a body."""
        super().on_body(body)
        self._unread = 0

    def on_message_complete(self) -> None:
        """End a request."""
        super().on_message_complete()
        self._unread = 0
        if self._deadline is not None:
            self._end_deadline()

    def timeout_keep_alive_handler(self) -> None:
        """End a connection on which nothing came, or no more of what was begun before an answer."""
        if self._is_within_head():
            self._refuse(_late())
        else:
            super().timeout_keep_alive_handler()

    def pause_writing(self) -> None:
        """Hold the app back until the client has read more."""
        super().pause_writing()
        self._wait_for_reader()

    def resume_writing(self) -> None:
        """Let the app go on."""
        super().resume_writing()
        self._end_unread_deadline()

    def _wait_for_reader(self) -> None:
        unsent = self.transport.get_write_buffer_size()
        self._unread_deadline = self.loop.call_later(READER_SECONDS, self._on_unread, unsent)

    def _end_unread_deadline(self) -> None:
        if self._unread_deadline is not None:
            self._unread_deadline.cancel()

    def _on_unread(self, unsent: int) -> None:
        if self.transport.get_write_buffer_size() < unsent:
            self._wait_for_reader()
        else:
            self.transport.abort()

    def _wait_for_more(self, size: int) -> None:
        """Note what came of a head or a body that is not whole yet."""
        if self._deadline is None and self.transport.get_protocol() is self:  # and no WebSocket
            self._came = 0
            self._deadline = self.loop.call_later(CLIENT_SECONDS, self._on_deadline)
        self._came += size

    def _end_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _on_deadline(self) -> None:
        self._deadline = None
        cycle = self.cycle
        if self._is_within_head():
            self._refuse(_late())
        elif self._came >= LEAST_BYTES or self._holds_up():
            self._wait_for_more(0)
        elif cycle is None or cycle.response_complete:
            self.transport.close()
        elif not cycle.response_started:  # the app hears of it by a piece that is empty
            self.scope["state"][LATE] = True
            cycle.message_event.set()

    def _holds_up(self) -> bool:
        """Tell whether it is us that a client has to wait for before it goes on."""
        is_asked_first = self.cycle is not None and self.cycle.waiting_for_100_continue
        return self.flow.read_paused or is_asked_first

    def _is_within_head(self) -> bool:
        return self.scope is not None and "method" not in self.scope

    def send_400_response(self, msg: str) -> None:
        """Refuse what cannot be read, and end the connection."""
        if len(self.url) > _MAX_URL_BYTES:
            self._refuse(UriTooLong(f"A URL may have at most {_MAX_URL_BYTES} bytes"))
        elif self._unread > MAX_HEAD_BYTES:
            self._refuse(HeadersTooLarge(f"A head may have at most {MAX_HEAD_BYTES} bytes"))
        else:
            self._refuse(BadRequest(msg))

    def _refuse(self, error: DomainError) -> None:
        if self._is_refused or self.transport.is_closing():
            return
        self._is_refused = True
        self._end_deadline()
        if self._may_answer():
            self.transport.write(self._refusal(error))
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

    def _refusal(self, error: DomainError) -> bytes:
        path = self.url.partition(b"?")[0] if len(self.url) <= _MAX_URL_BYTES else b""
        request_id = secrets.token_hex(16)
        instance = quote(path, safe=PATH_SAFE)
        body = encoded(problem_of(error, instance=instance, request_id=request_id))
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


def _late() -> DomainError:
    return RequestTimeout(f"A head has to be whole within {CLIENT_SECONDS:g} seconds")
