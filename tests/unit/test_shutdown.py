"""Hearing of the end before the server does."""

import asyncio
import os
import signal
import threading
from collections.abc import Iterator

import pytest

from app.shutdown import drain_on_signal
from tests.patience import PATIENCE


class Server:
    """What a server does with a signal: here it only notes when it hears of it."""

    def __init__(self, heard: list[str]) -> None:
        self._heard = heard

    def handle_exit(self, _number: int, _frame: object) -> None:
        """Take the signal as Uvicorn does."""
        self._heard.append("server")


@pytest.fixture
def heard() -> Iterator[list[str]]:
    """Set the handlers of a server; collects who heard of the end, in order."""
    heard: list[str] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    server = Server(heard)
    for number in before:
        signal.signal(number, server.handle_exit)
    yield heard
    for number, handler in before.items():
        signal.signal(number, handler)


async def until(heard: list[str], count: int) -> None:
    async with asyncio.timeout(PATIENCE):
        while len(heard) < count:
            await asyncio.sleep(0.001)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_both_hear_of_the_end(heard: list[str], number: signal.Signals) -> None:
    with drain_on_signal(lambda: heard.append("drain"), 0):
        os.kill(os.getpid(), number)
        await until(heard, 2)
    assert sorted(heard) == ["drain", "server"]


async def test_with_a_delay_the_server_hears_of_it_later(heard: list[str]) -> None:
    with drain_on_signal(lambda: heard.append("drain"), 0.05):
        os.kill(os.getpid(), signal.SIGTERM)
        await until(heard, 1)
        assert heard == ["drain"]
        await until(heard, 2)
    assert heard == ["drain", "server"]


async def test_afterwards_the_signals_are_the_servers_again(heard: list[str]) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with drain_on_signal(lambda: heard.append("drain"), 0):
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before
    os.kill(os.getpid(), signal.SIGTERM)
    await until(heard, 1)
    assert heard == ["server"]


async def test_what_the_server_sets_meanwhile_is_left_alone(heard: list[str]) -> None:
    def newer(_number: int, _frame: object) -> None:
        heard.append("newer")

    with drain_on_signal(lambda: heard.append("drain"), 0):
        signal.signal(signal.SIGTERM, newer)
    assert signal.getsignal(signal.SIGTERM) is newer


async def test_outside_the_main_thread_nothing_is_touched(heard: list[str]) -> None:
    before = signal.getsignal(signal.SIGTERM)
    seen: list[object] = []

    async def enter() -> None:
        with drain_on_signal(lambda: heard.append("drain"), 0):
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=lambda: asyncio.run(enter()))
    thread.start()
    await asyncio.to_thread(thread.join)
    assert seen == [before]
