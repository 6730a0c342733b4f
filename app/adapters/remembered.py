"""A document of somebody else's, remembered for a while and fetched by one caller for all."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from app.errors import ProviderFailed

T = TypeVar("T")
_PAUSE = 30.0  # seconds before a document that could not be renewed is asked for again


class Remembered(Generic[T]):
    """What `fetch` returned last; while it fails, what it returned before goes on to serve."""

    def __init__(self, fetch: Callable[[], Awaitable[T]], life_seconds: float) -> None:
        self._fetch = fetch
        self._life = life_seconds
        self._value: T | None = None
        self._fresh_until = 0.0
        self._flight: asyncio.Task[T] | None = None

    async def get(self) -> T:
        """Return the document.

        Raises:
            ProviderFailed: there is none yet, and it cannot be had.
        """
        if self._value is not None and time.monotonic() < self._fresh_until:
            return self._value
        try:
            return await self.renewed()
        except ProviderFailed:
            if self._value is None:
                raise
            self._fresh_until = time.monotonic() + _PAUSE
            return self._value

    async def renewed(self) -> T:
        """Return the document as it is now; all who ask meanwhile wait for the same answer.

        Raises:
            ProviderFailed: it cannot be had.
        """
        if self._flight is None:
            self._flight = asyncio.create_task(self._renew())
        return await asyncio.shield(self._flight)

    async def close(self) -> None:
        """End a fetch that is under way."""
        if self._flight is not None:
            self._flight.cancel()
            await asyncio.gather(self._flight, return_exceptions=True)

    async def _renew(self) -> T:
        try:
            self._value = await self._fetch()
        finally:
            self._flight = None
        self._fresh_until = time.monotonic() + self._life
        return self._value
