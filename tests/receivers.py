"""A receiver of webhooks on the loopback interface: keeps what it gets, answers as it is told."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from standardwebhooks import Webhook

from tests.patience import PATIENCE

DEADLINE = PATIENCE


@dataclass(frozen=True)
class Received:
    """One request, as it came."""

    path: str
    headers: dict[str, str]
    body: bytes
    at: float

    @property
    def message(self) -> dict[str, Any]:
        """The body."""
        parsed: dict[str, Any] = json.loads(self.body)
        return parsed

    def verified_by(self, secret: str) -> dict[str, Any]:
        """Return the message as the public library verifies it, or raise."""
        message: dict[str, Any] = Webhook(secret).verify(self.body, self.headers)
        return message


Answer = Callable[[Received, asyncio.StreamWriter], Awaitable[None]]


def answering(status: int, *headers: str, body: bytes = b"") -> Answer:
    """Return an answer of this status."""
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}", *headers, "", ""]

    async def answer(_: Received, writer: asyncio.StreamWriter) -> None:
        writer.write("\r\n".join(lines).encode() + body)
        await writer.drain()

    return answer


@dataclass
class Receiver:
    """What was received, and what is answered: the next of `plan`, then `answer`."""

    port: int = 0
    got: list[Received] = field(default_factory=list)
    plan: list[Answer] = field(default_factory=list)
    answer: Answer = field(default_factory=lambda: answering(204))
    at_once: int = 0
    most_at_once: int = 0

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}/hook"

    def of(self, subject: str) -> list[dict[str, Any]]:
        """Return the messages about a subject, in the order in which they came."""
        return [each.message for each in self.got if each.message["subject"] == subject]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take requests of a connection until it ends."""
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                request = await _read(reader)
                self.at_once += 1
                self.most_at_once = max(self.most_at_once, self.at_once)
                self.got.append(request)
                answer = self.plan.pop(0) if self.plan else self.answer
                try:
                    await answer(request, writer)
                finally:
                    self.at_once -= 1
        writer.close()


async def _read(reader: asyncio.StreamReader) -> Received:
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    first, *lines = head.strip().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (x.partition(":") for x in lines)}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return Received(first.split(" ")[1], headers, body, asyncio.get_running_loop().time())


@asynccontextmanager
async def receiving(**options: Any) -> AsyncIterator[Receiver]:
    """Receive until the end of the block; `ssl=` makes it speak TLS."""
    receiver = Receiver()
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", 0, **options)
    receiver.port = server.sockets[0].getsockname()[1]
    try:
        yield receiver
    finally:
        server.close()


async def until(condition: Callable[[], Any]) -> Any:
    """Return what a condition says, once it says something."""
    async with asyncio.timeout(DEADLINE):
        while not (found := condition()):
            await asyncio.sleep(0.01)
    return found


async def until_answer(ask: Callable[[], Awaitable[Any]]) -> Any:
    """Return what a question gives, once it gives something."""
    async with asyncio.timeout(DEADLINE):
        while not (found := await ask()):
            await asyncio.sleep(0.02)
    return found
