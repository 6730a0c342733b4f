"""Refuses what a process cannot get to in time, so that what it takes is served quickly."""

import logging
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.context import RequestContext
from app.errors import Overloaded
from app.observability.metrics import Metrics
from app.problem_details import MEDIA_TYPE, encoded, problem_of

logger = logging.getLogger("kingpost.overload")

_ALWAYS_SERVED = ("/health", "/metrics")  # whoever looks why it is slow must get an answer
_SECONDS_BETWEEN_LINES = 1.0
_REFUSAL = Overloaded()
_HEADERS = [
    (b"content-type", MEDIA_TYPE.encode()),
    *((name.lower().encode(), value.encode()) for name, value in _REFUSAL.headers.items()),
]
# A path is percent-encoded and an id has no quotes: neither needs to be escaped.
_BEFORE_PATH, _BEFORE_ID, _AFTER = encoded(
    problem_of(_REFUSAL, instance="{}", request_id="{}")
).split(b"{}")


class Shedding:
    """Answers 503 at once while the process works on as many requests as it may.

    A request counts from its head until its answer begins, and not while its body is waited for:
    slow clients, streams and downloads take nobody's place. Stands before the log and the metrics,
    so that a refusal costs a tenth of a request; it has a counter and a line a second instead.
    """

    def __init__(self, app: ASGIApp, *, at_once: int, metrics: Metrics) -> None:
        self._app = app
        self._at_once = at_once
        self._metrics = metrics
        self.working = 0
        self._refused = 0
        self._said_at = 0.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith(_ALWAYS_SERVED):
            await self._app(scope, receive, send)
            return
        if self.working >= self._at_once:
            self._note_refusal()
            await _refuse(scope, send)
            return
        place = _Place(self)

        async def receive_uncounted() -> Message:
            place.leave()
            try:
                return await receive()
            finally:
                place.come_back()

        async def send_counted(message: Message) -> None:
            place.give_up()
            await send(message)

        try:
            await self._app(scope, receive_uncounted, send_counted)
        finally:
            place.give_up()

    def _note_refusal(self) -> None:
        self._metrics.shed.inc()
        self._refused += 1
        now = time.monotonic()
        if now - self._said_at >= _SECONDS_BETWEEN_LINES:
            logger.warning("overloaded: %d requests refused since the last line", self._refused)
            self._said_at, self._refused = now, 0


async def _refuse(scope: Scope, send: Send) -> None:
    """Send the problem without building it each time: only a path and an id are its own."""
    context: RequestContext = scope["state"]["context"]
    parts = (_BEFORE_PATH, context.path.encode(), _BEFORE_ID, context.request_id.encode(), _AFTER)
    body = b"".join(parts)
    headers = [(b"content-length", b"%d" % len(body)), *_HEADERS]
    await send({"type": "http.response.start", "status": _REFUSAL.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class _Place:
    """One request among those that are worked on."""

    __slots__ = ("_is_held", "_is_over", "_shedding")

    def __init__(self, shedding: Shedding) -> None:
        shedding.working += 1
        self._shedding = shedding
        self._is_held = True
        self._is_over = False

    def leave(self) -> None:
        if self._is_held:
            self._is_held = False
            self._shedding.working -= 1

    def come_back(self) -> None:
        # A stream listens for its client's end from before its first byte on.
        if not self._is_held and not self._is_over:
            self._is_held = True
            self._shedding.working += 1

    def give_up(self) -> None:
        self._is_over = True
        self.leave()
