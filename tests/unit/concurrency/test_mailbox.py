"""The queue of one reader."""

import asyncio

from app.concurrency.mailbox import Mailbox


async def test_what_was_put_is_got_in_order() -> None:
    box: Mailbox[int] = Mailbox()
    for number in range(3):
        box.put_nowait(number)
    assert len(box) == 3
    assert [await box.get() for _ in range(3)] == [0, 1, 2]
    assert box.empty()


async def test_a_reader_who_waits_is_woken_by_several_at_once() -> None:
    box: Mailbox[int] = Mailbox()
    reader = asyncio.create_task(box.get())
    await asyncio.sleep(0)
    box.put_nowait(1)
    box.put_nowait(2)
    assert await reader == 1
    assert await box.get() == 2


async def test_a_reader_who_gives_up_loses_nothing() -> None:
    box: Mailbox[int] = Mailbox()
    reader = asyncio.create_task(box.get())
    await asyncio.sleep(0)
    reader.cancel()
    box.put_nowait(1)
    await asyncio.wait({reader})
    assert reader.cancelled()
    assert await box.get() == 1


async def test_what_was_cleared_is_gone_also_for_a_reader_just_woken() -> None:
    box: Mailbox[int] = Mailbox()
    reader = asyncio.create_task(box.get())
    await asyncio.sleep(0)
    box.put_nowait(1)
    box.clear()
    box.put_nowait(2)
    assert await reader == 2
