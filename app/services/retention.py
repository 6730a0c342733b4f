"""Forgets what has had its time: events, answers, failed sign-ins, sessions, deleted items."""

import asyncio
import logging
import random
from datetime import timedelta

from app.adapters.database import Database
from app.clock import now
from app.errors import DomainError
from app.repositories.events import EventRepository
from app.repositories.idempotency import IdempotencyRepository
from app.repositories.items import RESTORABLE_FOR, ItemRepository
from app.repositories.login_failures import LoginFailureRepository
from app.repositories.second_factor import SecondFactorRepository
from app.repositories.sessions import SessionRepository

logger = logging.getLogger(__name__)

ANSWERS_KEPT_FOR = timedelta(hours=24)
_FAILURES_KEPT_FOR = timedelta(days=1)
_SESSIONS_KEPT_FOR = timedelta(days=30)  # they tell which places an account is used from
_PAUSE = timedelta(hours=1)


async def sweep(db: Database, events_kept_for: timedelta) -> dict[str, int]:
    """Delete what is older than it is kept; return how many rows of each kind went."""
    moment = now()
    gone: dict[str, int] = {}
    async with db.transaction() as connection:
        gone["events"] = await EventRepository(connection).delete_before(moment - events_kept_for)
    async with db.transaction() as connection:
        answers = IdempotencyRepository(connection)
        gone["answers"] = await answers.delete_before(moment - ANSWERS_KEPT_FOR)
    async with db.transaction() as connection:
        failures = LoginFailureRepository(connection)
        gone["failures"] = await failures.delete_before(moment - _FAILURES_KEPT_FOR)
    async with db.transaction() as connection:
        sessions = SessionRepository(connection)
        gone["sessions"] = await sessions.delete_unused_since(moment - _SESSIONS_KEPT_FOR)
        gone["tokens"] = await sessions.delete_tokens_before(moment)
        factors = SecondFactorRepository(connection)
        gone["tokens"] += await factors.delete_challenges_before(moment)
    async with db.transaction() as connection:
        gone["items"] = await ItemRepository(connection).purge(moment - RESTORABLE_FOR)
    return gone


async def run(db: Database, events_kept_for: timedelta) -> None:
    """Sweep every hour until cancelled. Every process may: what one has swept, another leaves."""
    while True:
        await asyncio.sleep(_PAUSE.total_seconds() * random.uniform(0.5, 1.5))  # noqa: S311
        try:
            gone = await sweep(db, events_kept_for)
        except DomainError as error:
            logger.warning("nothing was swept: %s", error.title)
        except Exception:
            logger.exception("the sweep failed")
        else:
            if any(gone.values()):
                logger.info("swept", extra={"fields": gone})
