"""A queue for one reader that takes next to nothing while it is empty.

An `asyncio.Queue` takes 3 KiB, mostly for four deques that a connection at rest has no use for;
with two of them to a WebSocket and ten thousand of those that is 60 MB.
"""

import asyncio
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class Mailbox(Generic[T]):
    """Keeps what was put until its one reader gets it, in order."""

    __slots__ = ("_reader", "_waiting")

    def __init__(self) -> None:
        self._waiting: deque[T] | None = None
        self._reader: asyncio.Future[None] | None = None

    def __len__(self) -> int:
        return len(self._waiting) if self._waiting else 0

    def empty(self) -> bool:
        """Tell whether nothing waits."""
        return not self._waiting

    def put_nowait(self, item: T) -> None:
        """Add what the reader gets after all that waits."""
        if self._waiting is None:
            self._waiting = deque()
        self._waiting.append(item)
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    async def get(self) -> T:
        """Return what has waited longest, and wait for it if there is nothing."""
        while not self._waiting:
            self._reader = asyncio.get_running_loop().create_future()
            try:
                await self._reader
            finally:
                self._reader = None
        item = self._waiting.popleft()
        if not self._waiting:
            self._waiting = None
        return item

    def clear(self) -> None:
        """Forget what waits."""
        self._waiting = None
