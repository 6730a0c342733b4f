"""Makes the next piece of a stream while the last one is being used."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TypeVar

T = TypeVar("T")

_running: set[asyncio.Task[None]] = set()  # the loop itself keeps tasks only weakly


async def ahead(pieces: AsyncGenerator[T, None]) -> AsyncGenerator[T, None]:
    """Yield a generator's pieces, which are made in a task of their own, one ahead.

    It also is a shelter: when a client hangs up, its answer is cancelled again at each of its
    awaits. What is made here is cancelled once, and gives back in peace what it holds.
    """
    waiting: asyncio.Queue[tuple[T] | Exception | None] = asyncio.Queue(1)

    async def make() -> None:
        try:
            async with aclosing(pieces):
                async for piece in pieces:
                    await waiting.put((piece,))
        except Exception as error:
            await waiting.put(error)
        else:
            await waiting.put(None)

    task = asyncio.create_task(make())
    _running.add(task)
    task.add_done_callback(_running.discard)
    try:
        while (made := await waiting.get()) is not None:
            if isinstance(made, Exception):
                raise made
            yield made[0]
    finally:
        task.cancel()
        await asyncio.wait([task])
