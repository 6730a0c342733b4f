"""Keeps when API keys were last used, beside the requests and not in their way."""

import asyncio
import logging
import time
from datetime import timedelta

from app.adapters.database import Database
from app.errors import DomainError
from app.repositories.api_keys import ApiKeyRepository

logger = logging.getLogger(__name__)

_EVERY = timedelta(minutes=1)  # per key, over all workers
_GATHER_SECONDS = 0.1  # what comes within is one statement
_MAX_NOTED = 10_000  # keys


class KeyUses:
    """Collects which keys were used, and writes each at most once a minute."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._noted: dict[int, float] = {}
        self._waiting: set[int] = set()
        self._woken = asyncio.Event()

    def note(self, key_id: int) -> None:
        """Remember that a key was just used; costs nothing that a request would feel."""
        moment = time.monotonic()
        if moment - self._noted.get(key_id, float("-inf")) < _EVERY.total_seconds():
            return
        self._noted[key_id] = moment
        self._waiting.add(key_id)
        self._woken.set()

    async def run(self) -> None:
        """Write until cancelled. What cannot be written is lost: it is of use, not of account."""
        while True:
            await self._woken.wait()
            await asyncio.sleep(_GATHER_SECONDS)
            self._woken.clear()
            waiting, self._waiting = self._waiting, set()
            try:
                async with self._db.single_change() as connection:
                    await ApiKeyRepository(connection).note_use(waiting, every=_EVERY)
            except DomainError as error:
                logger.warning("the use of API keys was not kept: %s", error.title)
            self._forget_old()

    def _forget_old(self) -> None:
        if len(self._noted) <= _MAX_NOTED:
            return
        since = time.monotonic() - _EVERY.total_seconds()
        self._noted = {key_id: at for key_id, at in self._noted.items() if at > since}
