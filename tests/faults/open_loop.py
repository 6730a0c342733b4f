"""A load that does not wait for answers: so many requests a second, however slow they become.

In a process of its own; an answer's time is counted from when its request was due, so that what
waits for a free connection is not forgotten.
"""

import asyncio
import json
import sys
from collections import Counter, defaultdict, deque
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import cycle
from typing import Any

import uvloop

from tests.apart import Apart

_TICK = 0.002
_CONNECTIONS = 1000


@dataclass
class Outcome:
    """What came of it; times in seconds, by status."""

    seconds: float
    statuses: dict[str, int] = field(default_factory=dict)
    p50: dict[str, float] = field(default_factory=dict)
    p99: dict[str, float] = field(default_factory=dict)
    unanswered: int = 0
    without_retry_after: int = 0
    given_up: int = 0  # 503, but not at once: taken in, and then not got to in time

    @property
    def good_per_second(self) -> float:
        """Answers of success a second."""
        good = (count for status, count in self.statuses.items() if status.startswith("2"))
        return sum(good) / self.seconds


class OpenLoop:
    """The running load; `outcome()` waits for its end."""

    def __init__(
        self, port: int, requests: Sequence[bytes], *, per_second: float, seconds: float
    ) -> None:
        self._process = Apart(
            __name__,
            port=port,
            requests=[request.decode() for request in requests],
            per_second=per_second,
            seconds=seconds,
        )

    def outcome(self) -> Outcome:
        """Wait for the end of the load."""
        return Outcome(**self._process.answer())


class _Load:
    def __init__(self, port: int, requests: Iterator[bytes]) -> None:
        self.port, self.requests = port, requests
        self.loop = asyncio.get_running_loop()
        self.idle: list[_Connection] = []
        self.due: deque[float] = deque()  # requests that wait for a connection
        self.open = 0
        self.unanswered = 0
        self.without_retry_after = 0
        self.given_up = 0
        self.times: dict[str, list[float]] = defaultdict(list)

    def ask(self, due_at: float) -> None:
        if self.idle:
            self.idle.pop().ask(due_at)
            return
        self.due.append(due_at)
        if self.open < _CONNECTIONS:
            self.open += 1
            self.loop.create_task(self._connect())

    async def _connect(self) -> None:
        try:
            await self.loop.create_connection(lambda: _Connection(self), "127.0.0.1", self.port)
        except OSError:
            self.open -= 1
            self.unanswered += 1

    def is_free(self, connection: "_Connection") -> None:
        if self.due:
            connection.ask(self.due.popleft())
        else:
            self.idle.append(connection)


class _Connection(asyncio.Protocol):
    def __init__(self, load: _Load) -> None:
        self._load = load
        self._asked_at: float | None = None
        self._buffer = b""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._load.is_free(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._load.open -= 1
        self._load.unanswered += self._asked_at is not None
        if self in self._load.idle:
            self._load.idle.remove(self)

    def ask(self, due_at: float) -> None:
        self._asked_at = due_at
        self._transport.write(next(self._load.requests))

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0 or len(self._buffer) < end + 4 + _content_length(self._buffer[:end]):
            return
        assert self._asked_at is not None
        status = self._buffer[9:12].decode()
        if status == "503" and b'"OVERLOADED"' not in self._buffer:
            self._load.given_up += 1
        else:
            self._load.times[status].append(self._load.loop.time() - self._asked_at)
        self._load.without_retry_after += (
            status == "503" and b"retry-after: " not in self._buffer[:end].lower()
        )
        self._buffer, self._asked_at = b"", None
        self._load.is_free(self)


def _content_length(head: bytes) -> int:
    found = head.lower().partition(b"content-length: ")[2]
    return int(found.partition(b"\r\n")[0] or 0)


async def _run(order: dict[str, Any]) -> Outcome:
    loop = asyncio.get_running_loop()
    load = _Load(order["port"], cycle([text.encode() for text in order["requests"]]))
    started, sent, wanted = loop.time(), 0, int(order["seconds"] * order["per_second"])
    while sent < wanted:
        for number in range(sent, int((loop.time() - started) * order["per_second"])):
            load.ask(started + number / order["per_second"])
            sent = number + 1
        await asyncio.sleep(_TICK)
    seconds = loop.time() - started
    in_time = {status: list(times) for status, times in load.times.items()}
    await asyncio.sleep(5)  # what is left may still be answered, and does not count as goodput
    answered = sum(map(len, load.times.values())) + load.given_up
    return Outcome(
        seconds=seconds,
        statuses=dict(Counter({status: len(times) for status, times in in_time.items()})),
        p50={status: sorted(times)[len(times) // 2] for status, times in in_time.items()},
        p99={status: sorted(times)[len(times) * 99 // 100] for status, times in in_time.items()},
        unanswered=sent - answered,
        without_retry_after=load.without_retry_after,
        given_up=load.given_up,
    )


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asdict(uvloop.run(_run(json.load(sys.stdin))))))
