"""What runs beside the requests ends when it is told to, also where a library loses the word."""

import asyncio
import contextlib
from collections.abc import Coroutine, Iterable
from typing import Any

import pytest
from redis.asyncio.connection import Connection

from app.jobs.queue import consume
from app.jobs.running import beside
from app.settings import Settings
from tests.patience import PATIENCE


async def loses_one_cancellation() -> None:
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.sleep(PATIENCE)
    await asyncio.sleep(PATIENCE)


async def has_ended(leaving: Coroutine[Any, Any, None]) -> bool:
    """Tell whether something ends by itself; a deadline would be one more cancellation."""
    task = asyncio.create_task(leaving)
    _, late = await asyncio.wait({task}, timeout=PATIENCE / 4)
    for each in late:
        each.cancel()
    await task
    return not late


async def test_a_task_that_loses_a_cancellation_ends_all_the_same() -> None:
    async def leave() -> None:
        async with beside(loses_one_cancellation()):
            await asyncio.sleep(0)

    assert await has_ended(leave())


async def test_what_it_failed_with_is_told() -> None:
    async def fail() -> None:
        raise LookupError

    with pytest.raises(LookupError):
        async with beside(fail()):
            await asyncio.sleep(0)


@pytest.mark.only("production")
async def test_the_queue_is_left_also_in_the_middle_of_a_command(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """redis-py sends by `asyncio.wait_for`; Python 3.11's loses what comes while that ends."""
    assert settings.redis_url
    url = settings.redis_url.get_secret_value()
    is_sent = asyncio.Event()
    send = Connection._send_packed_command

    async def sending(self: Connection, command: Iterable[bytes]) -> None:
        await send(self, command)
        is_sent.set()

    monkeypatch.setattr(Connection, "_send_packed_command", sending)

    async def run(_job_id: int) -> None:
        raise AssertionError("nothing is queued")

    async def leave() -> None:
        async with beside(consume(url, run, at_once=1)):
            await is_sent.wait()

    assert await has_ended(leave())
