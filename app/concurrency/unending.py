"""Runs what goes on beside everything else: should it fail, that is told, and it begins anew."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

logger = logging.getLogger(__name__)

_PAUSE = 2.0  # seconds: what fails each time must not fill the log


async def unending(name: str, run: Callable[[], Awaitable[None]]) -> None:
    """Run until cancelled, or until there is nothing left to run.

    Nobody waits for such a task: its end would go unnoticed, and its work undone until the next
    start, be it the end of what a banned account still has open.
    """
    while True:
        try:
            await run()
        except Exception:
            logger.exception("%s failed, and begins anew", name)
        else:
            return
        await asyncio.sleep(_PAUSE)
