"""Making pieces ahead: in order, one at most, and given back in peace."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import anyio
import pytest

from app.concurrency.ahead import ahead
from tests.patience import PATIENCE


class Source:
    """Counts what was made, and notes how it ended."""

    def __init__(self, *, fails_at: int | None = None) -> None:
        self.made = 0
        self.is_closed = False
        self._fails_at = fails_at

    async def pieces(self) -> AsyncGenerator[int, None]:
        try:
            while self.made < 10:
                if self.made == self._fails_at:
                    raise LookupError
                self.made += 1
                yield self.made
        finally:
            await asyncio.sleep(0)  # to give something back takes a moment
            await asyncio.sleep(0)
            self.is_closed = True


async def test_every_piece_comes_in_order() -> None:
    assert [piece async for piece in ahead(Source().pieces())] == list(range(1, 11))


async def test_no_more_is_made_than_a_queue_and_a_hand_hold() -> None:
    source = Source()
    async with aclosing(ahead(source.pieces())) as pieces:
        await anext(pieces)
        for _ in range(50):
            await asyncio.sleep(0)
        assert source.made <= 3
    assert source.is_closed


async def test_an_error_comes_after_the_pieces_before_it() -> None:
    source = Source(fails_at=3)
    pieces = ahead(source.pieces())
    assert [await anext(pieces) for _ in range(3)] == [1, 2, 3]
    with pytest.raises(LookupError):
        await anext(pieces)
    assert source.is_closed


async def test_who_is_cancelled_at_each_await_still_leaves_it_closed() -> None:
    source = Source()

    async def read() -> None:
        async with aclosing(ahead(source.pieces())) as pieces:
            async for _ in pieces:
                await asyncio.sleep(60)

    async with anyio.create_task_group() as group:
        group.start_soon(read)
        await asyncio.sleep(0.01)
        group.cancel_scope.cancel()
    async with asyncio.timeout(PATIENCE):
        while not source.is_closed:
            await asyncio.sleep(0)
