"""Deadlines on a machine that is slow, shared with strangers, and may stand still for seconds.

A wait for something that will come has a deadline that nobody ever meets: `PATIENCE`. A promise of
so many seconds is kept or broken by what the service does, so it is judged by when a question was
asked (`no_longer`), or by a clock that stands still while the machine does (`within`).
"""

import asyncio
import functools
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import ParamSpec

PATIENCE = 60.0  # seconds for what takes some hundredths
_STEP = 0.01  # seconds
_ROUNDS = 5
_P = ParamSpec("_P")


class LoopClock:
    """Seconds by the steps of this loop: it stands still while the machine does."""

    def __init__(self) -> None:
        self.seconds = 0.0

    async def run(self) -> None:
        """Go on until cancelled."""
        while True:
            await asyncio.sleep(_STEP)
            self.seconds += _STEP


@asynccontextmanager
async def within(seconds: float) -> AsyncIterator[None]:
    """End what takes longer, as `asyncio.timeout` does, by a clock of this loop's own steps.

    A machine that stands still for two seconds costs one step, and a slow one makes slow steps.
    """

    async def run_out(deadline: asyncio.Timeout) -> None:
        for _ in range(math.ceil(seconds / _STEP)):
            await asyncio.sleep(_STEP)
        deadline.reschedule(asyncio.get_running_loop().time())

    async with asyncio.timeout(None) as deadline:
        clock = asyncio.create_task(run_out(deadline))
        try:
            yield
        finally:
            clock.cancel()


async def no_longer(still: Callable[[], Awaitable[bool]], *, than: float) -> None:
    """Ask until something is so no longer; fail if it still was when asked after so many seconds.

    However late an answer comes, it is judged by when it was asked for.
    """
    started = time.monotonic()
    while True:
        asked = time.monotonic()
        if not await still():
            return
        assert asked - started < than, f"still so after {asked - started:.1f} s"
        await asyncio.sleep(_STEP)


def in_some_round(test: Callable[_P, Awaitable[None]]) -> Callable[_P, Awaitable[None]]:
    """Try a test of who is in time again: a machine that stood still makes anybody late."""

    @functools.wraps(test)
    async def rounds(*arguments: _P.args, **named: _P.kwargs) -> None:
        for _ in range(_ROUNDS - 1):
            with suppress(AssertionError, EOFError, ConnectionError):
                return await test(*arguments, **named)
        return await test(*arguments, **named)

    return rounds
