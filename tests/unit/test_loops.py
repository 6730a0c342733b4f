"""What runs beside the requests goes on after the database was away, and after what nobody knew.

A loop that ends takes its process with it, or leaves its work undone until the next start.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from app.adapters.pubsub import LocalPubSub
from app.ending import ended
from app.errors import DatabaseUnavailable
from app.events.tail import EventTail
from app.jobs import runner
from app.jobs.runner import Runner
from app.observability.metrics import Metrics
from app.services import session_use, webhook_loop
from app.services.key_uses import KeyUses
from app.services.webhook_loop import WebhookLoop
from tests.patience import PATIENCE

SOON = 0.01  # seconds


class Broken:
    """A database that lends nothing, and remembers how often it was asked."""

    is_postgres = False

    def __init__(self, error: Exception) -> None:
        self.asked = 0
        self._error = error

    @asynccontextmanager
    async def read(self) -> AsyncIterator[None]:
        """Fail."""
        self.asked += 1
        raise self._error
        yield

    transaction = single_change = read


Loop = tuple[Coroutine[Any, Any, None], Callable[[], None]]
Begin = Callable[[Any], Loop]  # the loop on this database, and what gives it work


def jobs(db: Any) -> Loop:
    """Look for jobs."""
    resources: Any = SimpleNamespace(db=db, metrics=Metrics("1"), tracing=None)
    jobs = Runner(resources, concurrency=1, lease_seconds=60)
    return jobs.run(), jobs.wake


def events(db: Any) -> Loop:
    """Read the outbox."""
    tail = EventTail(db, LocalPubSub(), poll_seconds=SOON)
    return tail.run(), tail.wake


def webhooks(db: Any) -> Loop:
    """Dispatch events to endpoints."""
    loop = WebhookLoop(db, SimpleNamespace(), SimpleNamespace())  # type: ignore[arg-type]
    return loop.run(), loop.wake


def sessions(db: Any) -> Loop:
    """Note the use of sessions."""
    used: Any = SimpleNamespace(take_used=lambda: {1})
    return session_use.run(db, used), lambda: None


def keys(db: Any) -> Loop:
    """Note the use of API keys."""
    uses, ids = KeyUses(db), iter(range(10**6))
    return uses.run(), lambda: uses.note(next(ids))


@pytest.mark.parametrize("error", [DatabaseUnavailable(), LookupError("CANARY")], ids=repr)
@pytest.mark.parametrize("begin", [jobs, events, webhooks, sessions, keys])
async def test_a_loop_goes_on_after_every_failure_and_tells_it(
    begin: Begin,
    error: Exception,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(runner, "_POLL_SECONDS", SOON)
    monkeypatch.setattr(session_use, "_PAUSE", SOON)
    monkeypatch.setattr(webhook_loop, "_LONGEST_PAUSE", SOON)
    db = Broken(error)
    coroutine, give_work = begin(db)
    loop = asyncio.create_task(coroutine)
    try:
        with caplog.at_level(logging.WARNING):
            async with asyncio.timeout(PATIENCE):
                while db.asked < 3:
                    assert not loop.done(), loop
                    give_work()
                    await asyncio.sleep(SOON)
    finally:
        await ended(loop)
    expected = isinstance(error, DatabaseUnavailable)
    level = logging.WARNING if expected else logging.ERROR
    assert {record.levelno for record in caplog.records} == {level}
    assert ("Traceback" in caplog.text) is not expected
