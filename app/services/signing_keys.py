"""Lets a running process follow the files of its signing keys: a rotation needs no new start."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from app.security.key_files import State, read_keys, state_of
from app.security.keys import KeyRing, SigningKey

logger = logging.getLogger(__name__)

PAUSE = 2.0  # seconds; a folder of a few files is looked at, and read only when it has changed


async def follow(
    folder: Path, ring: KeyRing, of_secrets: Sequence[SigningKey], on_change: Callable[[], None]
) -> None:
    """Keep a ring as its folder is, until cancelled; files that cannot be used change nothing."""
    seen: State | None = None
    complaint: str | None = None
    while True:
        try:
            state = await asyncio.to_thread(state_of, folder)
            if state != seen:
                seen = state
                ring.replace([*of_secrets, *await asyncio.to_thread(read_keys, folder)])
                on_change()
                complaint = None
        except (OSError, ValueError) as error:
            if str(error) != complaint:
                complaint = str(error)
                logger.error("the signing keys stay as they were: %s", error)  # noqa: TRY400
        await asyncio.sleep(PAUSE)
