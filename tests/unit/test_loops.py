"""What runs beside the requests goes on after the database was away, and after what nobody knew.

A loop that ended would leave its work undone until the next start, and nobody would hear of it.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from app import resources
from app.adapters.pubsub import LocalPubSub, RedisPubSub
from app.clock import now
from app.concurrency import unending
from app.concurrency.ending import ended
from app.errors import DatabaseUnavailable
from app.events.hub import Hub
from app.events.presence import Presence
from app.events.tail import EventTail
from app.jobs import runner, running
from app.jobs.runner import Runner
from app.observability.metrics import Metrics
from app.security.key_files import write_key
from app.services import session_use, signing_keys, webhook_loop
from app.services.key_uses import KeyUses
from app.services.webhook_loop import WebhookLoop
from tests.conftest import MakeSettings
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


Loop = tuple[Callable[[], Awaitable[None]], Callable[[], None]]
Begin = Callable[[Any], Loop]  # the loop on this database, and what gives it work


def jobs(db: Any) -> Loop:
    """Look for jobs."""
    held: Any = SimpleNamespace(db=db, metrics=Metrics("1"), tracing=None)
    jobs = Runner(held, concurrency=1, lease_seconds=60)
    return jobs.run, jobs.wake


def events(db: Any) -> Loop:
    """Read the outbox."""
    tail = EventTail(db, LocalPubSub(), poll_seconds=SOON)
    return tail.run, tail.wake


def webhooks(db: Any) -> Loop:
    """Dispatch events to endpoints."""
    loop = WebhookLoop(db, SimpleNamespace(), SimpleNamespace())  # type: ignore[arg-type]
    return loop.run, loop.wake


def sessions(db: Any) -> Loop:
    """Note the use of sessions."""
    used: Any = SimpleNamespace(take_used=lambda: {1})
    return partial(session_use.run, db, used), lambda: None


def keys(db: Any) -> Loop:
    """Note the use of API keys."""
    uses, ids = KeyUses(db), iter(range(10**6))
    return uses.run, lambda: uses.note(next(ids))


@pytest.mark.parametrize("error", [DatabaseUnavailable(), LookupError("CANARY")], ids=repr)
@pytest.mark.parametrize("begin", [jobs, events, webhooks, sessions, keys])
async def test_a_loop_goes_on_after_every_failure_and_tells_it(
    begin: Begin,
    error: Exception,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(unending, "_PAUSE", SOON)
    monkeypatch.setattr(runner, "_POLL_SECONDS", SOON)
    monkeypatch.setattr(session_use, "_PAUSE", SOON)
    monkeypatch.setattr(webhook_loop, "_LONGEST_PAUSE", SOON)
    db = Broken(error)
    run, give_work = begin(db)
    loop = asyncio.create_task(unending.unending("a loop", run))
    try:
        with caplog.at_level(logging.WARNING):
            async with asyncio.timeout(PATIENCE):
                while db.asked < 3:
                    give_work()
                    await asyncio.sleep(SOON)
    finally:
        await ended(loop)
    is_known = isinstance(error, DatabaseUnavailable)
    assert {record.levelno for record in caplog.records} == {
        logging.WARNING if is_known else logging.ERROR
    }
    assert ("Traceback" in caplog.text) is not is_known


LOOPS = (
    (RedisPubSub, "run"),
    (EventTail, "run"),
    (Hub, "run"),
    (Presence, "run"),
    (KeyUses, "run"),
    (Runner, "run"),
    (WebhookLoop, "run"),
    (session_use, "run"),
    (signing_keys, "follow"),
    (resources, "_watch_loop"),
    (running, "consume"),
)


@pytest.mark.only("production")
async def test_each_loop_of_a_process_begins_anew_after_it_failed(
    make_settings: MakeSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unending, "_PAUSE", SOON)
    begun: Counter[str] = Counter()

    def failing_at_first(name: str, run: Callable[..., Any]) -> Callable[..., Any]:
        async def begin(*arguments: Any, **named: Any) -> None:
            begun[name] += 1
            if begun[name] == 1:
                raise LookupError(name)
            await run(*arguments, **named)

        return begin

    for owner, attribute in LOOPS:
        name = f"{owner.__name__}.{attribute}"
        failing = failing_at_first(name, getattr(owner, attribute))
        monkeypatch.setattr(owner, attribute, failing)
    write_key(tmp_path, "ES256", now() - timedelta(hours=1))
    settings = make_settings(signing_keys_dir=tmp_path)
    async with (
        resources.open_resources(settings, Metrics("1"), None) as opened,
        running.jobs_of_worker(opened),
        asyncio.timeout(PATIENCE),
    ):
        while len(begun) < len(LOOPS) or min(begun.values()) < 2:
            await asyncio.sleep(SOON)


async def test_what_has_nothing_left_to_run_ends() -> None:
    async with asyncio.timeout(PATIENCE):
        await unending.unending("nothing", partial(asyncio.sleep, 0))
