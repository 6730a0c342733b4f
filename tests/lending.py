"""What the tests of a module take turns at: to start a service takes more CPU than most tests."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Generic, TypeVar

import httpx
import pytest

from tests.live_server import LiveServer
from tests.patience import PATIENCE
from tests.processes import Service

T = TypeVar("T")
SURE = 10  # new connections in a row; that all came to one of two workers: 1 of 512 cases


async def is_well(service: Service) -> bool:
    """Wait until each worker is ready and misses nothing; False if the service has ended."""
    anew = httpx.Limits(max_keepalive_connections=0)
    in_a_row = 0
    async with LiveServer(service.url).client(limits=anew) as client, asyncio.timeout(PATIENCE):
        while in_a_row < SURE or len(service.workers) < service.size:
            if service.process.poll() is not None:
                return False
            try:
                said = (await client.get("/health/ready")).json()
                in_a_row = in_a_row + 1 if said["status"] == "ok" else 0
            except httpx.TransportError:  # a worker that is gone
                in_a_row = 0
            await asyncio.sleep(0.01)
    return True


class Lending(Generic[T]):
    """What runs is lent again while it can be made well, and else started anew.

    What a failed test leaves is ended, whatever its state.
    """

    def __init__(
        self,
        start: Callable[[], AbstractAsyncContextManager[T]],
        make_well: Callable[[T], Awaitable[bool]],
    ) -> None:
        self._start, self._make_well = start, make_well
        self._stack = AsyncExitStack()
        self._running: T | None = None

    @asynccontextmanager
    async def turn(self, session: pytest.Session) -> AsyncIterator[T]:
        """Lend it to one test."""
        if self._running is None:
            self._running = await self._stack.enter_async_context(self._start())
        failed, can_go_on = session.testsfailed, False
        yield self._running
        try:
            can_go_on = session.testsfailed == failed and await self._make_well(self._running)
        finally:
            if not can_go_on:
                await self.end()

    async def end(self) -> None:
        """End it, if it runs."""
        self._running = None
        await self._stack.aclose()


@asynccontextmanager
async def lending(
    start: Callable[[], AbstractAsyncContextManager[T]],
    make_well: Callable[[T], Awaitable[bool]],
) -> AsyncIterator[Lending[T]]:
    """Lend what `start` gives, until the end of the block."""
    lent = Lending(start, make_well)
    try:
        yield lent
    finally:
        await lent.end()
