"""Clients that follow live events through every outage, as a careful client does: by resuming."""

import asyncio
import contextlib
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidMessage, InvalidStatus, WebSocketException

from tests.factories import Tokens
from tests.live_server import LiveServer

PAUSE = 0.05  # seconds before coming back


@dataclass
class Listener:
    """What one client has received, by channel, in the order of its coming."""

    url: str
    tokens: Tokens
    channels: Sequence[str]
    since: int
    turns: int  # events after which it moves on, to another worker by chance
    received: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    connections: int = 0
    refusals: list[str] = field(default_factory=list)

    def position(self, channel: str) -> int:
        """Return the last event of a channel, or where it all began."""
        return self.received[channel][-1] if self.received[channel] else self.since


async def follow_stream(listener: Listener) -> None:
    """Read server-sent events until cancelled, going on by `Last-Event-ID`."""
    query = "&".join(f"channel={name}" for name in listener.channels)
    while True:
        with contextlib.suppress(httpx.TransportError, TimeoutError):
            async with LiveServer(listener.url).client(timeout=20) as client:
                await _read_stream(listener, client, f"/api/v1/events?{query}")
        await asyncio.sleep(PAUSE)


async def _read_stream(listener: Listener, client: httpx.AsyncClient, path: str) -> None:
    position = max(listener.position(name) for name in listener.channels)
    headers = {**listener.tokens.headers, "Last-Event-ID": str(position)}
    async with client.stream("GET", path, headers=headers) as answer:
        if answer.status_code != 200:
            await answer.aread()
            if answer.status_code != 503:
                listener.refusals.append(answer.text)
            return
        listener.connections += 1
        read = 0
        async for line in answer.aiter_lines():
            if not line.startswith("data: "):
                continue
            event = json.loads(line[6:])
            subject = event["subject"].partition(":")[0]
            listener.received["jobs" if subject == "job" else "items"].append(int(event["id"]))
            read += 1
            if read == listener.turns:
                return


async def follow_socket(listener: Listener) -> None:
    """Read a WebSocket until cancelled, going on by `since`."""
    url = listener.url.replace("http", "ws", 1) + "/ws"
    while True:
        with contextlib.suppress(OSError, TimeoutError, InvalidMessage, WebSocketException):
            try:
                # Without a bound: with one, this library's close waits for what nobody reads.
                async with connect(
                    url, additional_headers=listener.tokens.headers, max_queue=None
                ) as live:
                    await _read_socket(listener, live)
            except InvalidStatus as error:
                if error.response.status_code != 503:
                    listener.refusals.append(str(error))
        await asyncio.sleep(PAUSE)


async def _read_socket(listener: Listener, live: ClientConnection) -> None:
    listener.connections += 1
    for name in listener.channels:
        since = str(listener.position(name))
        await live.send(json.dumps({"action": "subscribe", "channel": name, "since": since}))
    read = 0
    async for text in live:
        message = json.loads(text)
        if message["type"] == "error":
            if message["error_code"] != "DATABASE_UNAVAILABLE":
                listener.refusals.append(str(text))
            return
        if message["type"] == "event":
            listener.received[message["channel"]].append(int(message["event"]["id"]))
            read += 1
            if read == listener.turns:
                return
