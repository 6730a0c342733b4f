"""Sends the same requests over keep-alive connections, in a process of its own, and times them."""

import asyncio
import json
import secrets
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import count, cycle
from typing import Any

from tests.apart import Apart

UNIQUE = "{unique}"
"""Stands in a request for what no other request has; a key used twice would only be a replay."""


@dataclass(frozen=True)
class Outcome:
    """What came of one round of load; times in seconds."""

    answers: int
    seconds: float
    p50: float
    p99: float
    statuses: dict[str, int]

    @property
    def per_second(self) -> float:
        """Answers a second."""
        return self.answers / self.seconds


class Generator:
    """A load that runs in another process, so that it can be started beside a second one."""

    def __init__(
        self, port: int, requests: Sequence[bytes], *, seconds: float, connections: int
    ) -> None:
        self._process = Apart(
            __name__,
            port=port,
            requests=[request.decode() for request in requests],
            seconds=seconds,
            connections=connections,
        )

    def outcome(self) -> Outcome:
        """Wait for the end of the round."""
        return Outcome(**self._process.answer())


async def _run(order: dict[str, Any]) -> Outcome:
    times: list[float] = []
    statuses: Counter[str] = Counter()
    requests = _endless([text.encode() for text in order["requests"]])
    started_at = time.perf_counter()
    until = started_at + order["seconds"]

    async def connection() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", order["port"])
        while (sent_at := time.perf_counter()) < until:
            writer.write(next(requests))
            head = await reader.readuntil(b"\r\n\r\n")
            length = _content_length(head)
            if length:
                await reader.readexactly(length)
            times.append(time.perf_counter() - sent_at)
            statuses[head[9:12].decode()] += 1
        writer.close()

    await asyncio.gather(*(connection() for _ in range(order["connections"])))
    times.sort()
    return Outcome(
        answers=len(times),
        seconds=time.perf_counter() - started_at,
        p50=times[len(times) // 2],
        p99=times[min(len(times) - 1, int(len(times) * 0.99))],
        statuses=dict(statuses),
    )


def _endless(requests: Sequence[bytes]) -> Iterator[bytes]:
    """Return the requests over and over, each `UNIQUE` in them a new word."""
    mark, run = UNIQUE.encode(), secrets.token_hex(8).encode()
    if not any(mark in request for request in requests):
        return cycle(requests)
    numbered = zip(cycle(requests), count(), strict=False)
    return (request.replace(mark, b"%s-%d" % (run, number)) for request, number in numbered)


def _content_length(head: bytes) -> int:
    at = head.lower().find(b"content-length:")
    return int(head[at + 15 : head.find(b"\r\n", at)]) if at >= 0 else 0


if __name__ == "__main__":
    print(json.dumps(asdict(asyncio.run(_run(json.load(sys.stdin))))))
