"""Ends tasks that run beside everything else, however often they have to be told."""

import asyncio
from typing import Any

_AGAIN_SECONDS = 2.0  # a task that was told and has things to put away is given so long


async def ended(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks until each has ended; what one failed with is left in it.

    Once may not do: `asyncio.wait_for` of Python 3.11 loses a cancellation that comes when what it
    waits for has just ended, and redis-py and aiosmtplib send and read by it.
    """
    left = {task for task in tasks if not task.done()}
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=_AGAIN_SECONDS)
    for task in tasks:
        if not task.cancelled():
            task.exception()  # looked at, or asyncio would complain of it at some later time
