"""Documents of others: one fetch for all who ask, and the last one known while none can be had."""

import asyncio

import pytest

from app.adapters.remembered import Remembered
from app.errors import ProviderFailed


class Source:
    """Somebody who is asked for a document, and may fail."""

    def __init__(self) -> None:
        self.asked = 0
        self.fails = False

    async def fetch(self) -> int:
        self.asked += 1
        await asyncio.sleep(0)
        if self.fails:
            raise ProviderFailed
        return self.asked


async def test_all_who_ask_at_once_share_one_fetch() -> None:
    source = Source()
    document = Remembered(source.fetch, 60)
    assert await asyncio.gather(*(document.get() for _ in range(5))) == [1] * 5
    assert await document.get() == 1


async def test_a_failure_is_shared_and_not_remembered() -> None:
    source = Source()
    source.fails = True
    document = Remembered(source.fetch, 60)
    found = await asyncio.gather(*(document.get() for _ in range(3)), return_exceptions=True)
    assert [type(each) for each in found] == [ProviderFailed] * 3
    source.fails = False
    assert await document.get() == 2


async def test_what_was_known_serves_while_it_cannot_be_renewed() -> None:
    source = Source()
    document = Remembered(source.fetch, 0)
    assert [await document.get(), await document.get()] == [1, 2]
    source.fails = True
    assert [await document.get(), await document.get()] == [2, 2]
    assert source.asked == 3  # it is left alone for a while
    with pytest.raises(ProviderFailed):
        await document.renewed()


async def test_who_gives_up_waiting_does_not_end_the_fetch() -> None:
    gate = asyncio.Event()

    async def fetch() -> int:
        await gate.wait()
        return 1

    document = Remembered(fetch, 60)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await document.get()
    waiting = asyncio.create_task(document.get())
    gate.set()
    assert await waiting == 1


async def test_closing_ends_what_is_under_way() -> None:
    document: Remembered[None] = Remembered(asyncio.Event().wait, 60)  # type: ignore[arg-type]
    waiting = asyncio.create_task(document.get())
    await asyncio.sleep(0)
    await document.close()
    with pytest.raises(asyncio.CancelledError):
        await waiting
