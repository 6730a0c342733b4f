"""Writes down when sessions were last used: beside the requests, and rarely."""

import asyncio
import logging

from app.adapters.database import Database
from app.clock import now
from app.errors import DomainError
from app.repositories.sessions import SessionRepository
from app.services.authentication import Authenticator

logger = logging.getLogger(__name__)

_PAUSE = 20.0  # seconds
_AT_ONCE = 1000


async def note(db: Database, authenticator: Authenticator) -> None:
    """Write down which sessions were used since the last call."""
    moment = now()
    used = sorted(authenticator.take_used())
    for at in range(0, len(used), _AT_ONCE):
        async with db.transaction() as connection:
            await SessionRepository(connection).touch(used[at : at + _AT_ONCE], moment)


async def run(db: Database, authenticator: Authenticator) -> None:
    """Write it down every 20 seconds until cancelled."""
    while True:
        await asyncio.sleep(_PAUSE)
        try:
            await note(db, authenticator)
        except DomainError as error:
            logger.warning("the use of sessions was not noted: %s", error.title)
