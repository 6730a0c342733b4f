"""What tests of live events share: a socket that is signed in, and waiting with a deadline."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.factories import Tokens
from tests.live_server import LiveServer
from tests.patience import PATIENCE

DEADLINE = PATIENCE


class Socket:
    """A WebSocket that speaks JSON and never waits for ever."""

    def __init__(self, connection: ClientConnection, user_id: int | None = None) -> None:
        self.raw = connection
        self._user_id = user_id

    async def send(self, **message: Any) -> None:
        await self.raw.send(json.dumps(message))

    async def receive(self) -> dict[str, Any]:
        async with asyncio.timeout(DEADLINE):
            message: dict[str, Any] = json.loads(await self.raw.recv())
        return message

    async def until(self, kind: str) -> dict[str, Any]:
        """Return the next message of a type, passing over others."""
        while True:
            message = await self.receive()
            if message["type"] == kind:
                return message

    async def join(self, room: str) -> int:
        """Enter a room; return the count that was told with it, past what is told of others."""
        await self.send(action="subscribe", channel=room)
        await self.until("subscribed")
        while True:
            told = await self.until("presence")
            if told["user_id"] == self._user_id:
                return int(told["count"])

    async def until_event(self) -> dict[str, Any]:
        """Return the next event, as streams have it."""
        event: dict[str, Any] = (await self.until("event"))["event"]
        return event

    async def ask(self, **message: Any) -> dict[str, Any]:
        await self.send(**message)
        return await self.receive()

    async def is_quiet(self) -> bool:
        """Tell whether nothing waited: what was sent before a ping comes before its pong."""
        return bool((await self.ask(action="ping"))["type"] == "pong")

    async def close_code(self) -> int | None:
        """Return the code that the server closes with."""
        async with asyncio.timeout(DEADLINE):
            while True:
                try:
                    await self.raw.recv()
                except ConnectionClosed as closed:
                    return closed.rcvd.code if closed.rcvd else None


@asynccontextmanager
async def socket(
    server: LiveServer, tokens: Tokens | None = None, query: str = "", **options: Any
) -> AsyncIterator[Socket]:
    headers = {**(tokens.headers if tokens else {}), **options.pop("headers", {})}
    async with connect(
        f"{server.ws_url}/ws{query}", additional_headers=headers, max_size=None, **options
    ) as raw:
        yield Socket(raw, tokens.account.id if tokens else None)


@asynccontextmanager
async def listening(
    server: LiveServer, tokens: Tokens, *channels: str, since: Any = None
) -> AsyncIterator[Socket]:
    """A socket that is welcome and subscribed."""
    async with socket(server, tokens) as live:
        assert (await live.receive())["type"] == "welcome"
        for channel in channels:
            await live.send(action="subscribe", channel=channel, since=since)
            if since is None:
                await live.until("subscribed")
        yield live
