"""What a process does for webhooks beside its requests: dispatch events, take turns, go on."""

import asyncio
import contextlib
import logging
import random
from datetime import datetime

from app.adapters.database import Database
from app.clock import now
from app.errors import DomainError
from app.models.webhooks import WebhookEndpoint
from app.repositories.webhooks import Standing, WebhookRepository
from app.services.webhook_dispatch import Progress, WebhookDispatcher
from app.services.webhook_turns import WebhookTurns
from app.services.webhooks import Webhooks

logger = logging.getLogger(__name__)

_POLL_SECONDS = 1.0  # the net under the wake-ups, and how other processes' work is found
_SPACING = 0.05  # seconds between rounds: under load each brings many events
_WAITING_SECONDS = 0.02  # for a gap, or for who is dispatching
_LONGEST_PAUSE = 2.0  # seconds between attempts while the database is away
# Endpoints served at once by a process. Those that fail get half at most, however many they are:
# they are the slow ones.
_SLOTS = 100
_FAILING_SLOTS = _SLOTS // 2


class WebhookLoop:
    """Runs until cancelled. Where nobody has an endpoint it costs a read a second."""

    def __init__(self, db: Database, webhooks: Webhooks, turns: WebhookTurns) -> None:
        self._db = db
        webhooks.on_change = self.wake
        self._dispatcher = WebhookDispatcher(db)
        self._turns = turns
        self._woken = asyncio.Event()
        self._has_endpoints = True
        self._healthy: set[asyncio.Task[None]] = set()
        self._failing: set[asyncio.Task[None]] = set()

    def wake(self) -> None:
        """Look at once: an endpoint or a delivery was changed here."""
        self._woken.set()

    def events_came(self) -> None:
        """Look at once, if anybody wants events at all."""
        if self._has_endpoints:
            self._woken.set()

    async def run(self) -> None:
        """Dispatch and send until cancelled; while the database is away, keep trying."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                try:
                    pause = await self._round(tasks)
                except DomainError as error:
                    logger.warning("webhooks wait: %s", error.title)
                    pause = _LONGEST_PAUSE
                except Exception:  # which would end the turns as well
                    logger.exception("webhooks could not be looked after")
                    pause = _LONGEST_PAUSE
                await asyncio.sleep(_SPACING)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await self._woken.wait()
                self._woken.clear()

    async def _round(self, tasks: asyncio.TaskGroup) -> float:
        """Do what there is to do; return the seconds after which to look again."""
        standing = await self._standing()
        self._has_endpoints = standing.wanted_after is not None
        progress = Progress.DONE
        if standing.is_behind:
            progress = await self._dispatcher.dispatch()
            standing = await self._standing()
        if standing.next_attempt_at is not None and standing.next_attempt_at <= now():
            await self._start_turns(tasks)
        return _pause(standing.next_attempt_at, progress)

    async def _standing(self) -> Standing:
        async with self._db.read() as connection:
            return await WebhookRepository(connection).standing()

    async def _start_turns(self, tasks: asyncio.TaskGroup) -> None:
        free = _SLOTS - len(self._healthy) - len(self._failing)
        for endpoint in await self._turns.lease(failing=False, limit=free):
            self._start(tasks, endpoint, self._healthy)
        free = min(
            _FAILING_SLOTS - len(self._failing),
            _SLOTS - len(self._healthy) - len(self._failing),
        )
        for endpoint in await self._turns.lease(failing=True, limit=free):
            self._start(tasks, endpoint, self._failing)

    def _start(
        self,
        tasks: asyncio.TaskGroup,
        endpoint: WebhookEndpoint,
        running: set[asyncio.Task[None]],
    ) -> None:
        task = tasks.create_task(self._turns.take(endpoint), name=f"webhook-{endpoint.id}")
        running.add(task)
        task.add_done_callback(running.discard)
        task.add_done_callback(lambda _: self.wake())


def _pause(next_attempt_at: datetime | None, progress: Progress) -> float:
    """Return how long nothing needs to be looked at, as far as is known here."""
    if progress is not Progress.DONE:
        return _WAITING_SECONDS if progress is Progress.WAITING else 0.0
    poll = _POLL_SECONDS * random.uniform(0.8, 1.2)  # noqa: S311 - processes not in step
    if next_attempt_at is None:
        return poll
    wait = (next_attempt_at - now()).total_seconds()
    return min(poll, wait) if wait > 0 else poll  # what is due is on its way, here or elsewhere
