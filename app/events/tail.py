"""Reads the outbox, in every process, exactly in the order of the events' ids (see `gaps`)."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Sequence

from app.adapters.database import Database
from app.adapters.pubsub import PubSub
from app.errors import DatabaseUnavailable, DomainError
from app.events.gaps import Gap, SettledReader
from app.models.events import Event
from app.repositories.events import EventRepository

logger = logging.getLogger(__name__)

CHANNEL = "events"
_BATCH = 500
_SLICE = 50  # handed on at once: a transaction of thousands must not overrun a reader's queue
_FRESH_SECONDS = 1.0  # how soon a change must bite everywhere
_SPACING = 0.01  # seconds between reads: under load they bring many events, and cost little each
_GAP_PAUSE = 0.01  # seconds between looks at a gap: transactions are short
_LONGEST_START = 5.0  # seconds; then a transaction that still runs is left behind
_LONGEST_PAUSE = 2.0  # seconds between attempts while the database is away

Listener = Callable[[Sequence[Event]], None]


class EventTail:
    """Hands every event to the listeners, once and in order, from the start of the process on."""

    def __init__(self, db: Database, pubsub: PubSub, *, poll_seconds: float) -> None:
        self._db = db
        self._pubsub = pubsub
        self._poll_seconds = poll_seconds
        self._listeners: list[Listener] = []
        self._early: list[Listener] = []
        self._woken = asyncio.Event()
        self._position = 0
        self._has_begun = False
        self._confirmed_at = float("-inf")
        self._settled = SettledReader(is_postgres=db.is_postgres)

    @property
    def position(self) -> int:
        """The id of the last event that was handed on; everything up to it is settled."""
        return self._position

    @property
    def has_begun(self) -> bool:
        """False while there is no position: the database was away at the start, and still is."""
        return self._has_begun

    def listen(self, listener: Listener) -> None:
        """Call a function with each batch of events, in order."""
        self._listeners.append(listener)

    def listen_early(self, listener: Listener) -> None:
        """Call a function as soon as events are visible, even behind a gap, maybe repeatedly."""
        self._early.append(listener)

    def is_fresh(self) -> bool:
        """Tell whether all that was committed until a second ago has been seen."""
        return time.monotonic() - self._confirmed_at < _FRESH_SECONDS

    def wake(self, _message: bytes = b"") -> None:
        """Look for new events now."""
        self._woken.set()

    def announce(self) -> None:
        """Make every process look for new events now; called after each commit."""
        self._pubsub.notify(CHANNEL)

    async def start(self) -> None:
        """Take the place from which on events are handed on; `run` does, if the database is away.

        Whoever starts while it is away would otherwise end, and Gunicorn with all workers.
        """
        await self._pubsub.subscribe(CHANNEL, self.wake)
        with contextlib.suppress(DatabaseUnavailable, TimeoutError):
            async with asyncio.timeout(_LONGEST_START + 1):
                await self._take_place()

    async def _take_place(self) -> None:
        """Begin at the newest event that is settled."""
        started_at = time.monotonic()
        async with self._db.read() as connection:
            repository = EventRepository(connection)
            self._position = await repository.head()
            # An id below may be taken and not yet visible: wait for who may have taken it.
            below = await Gap.noticed(repository, self._position)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LONGEST_START):
                    while not await below.has_ended(repository):  # noqa: ASYNC110
                        await asyncio.sleep(_GAP_PAUSE)
        self._confirmed_at = started_at  # nothing is remembered yet that could be out of date
        self._has_begun = True

    async def run(self) -> None:
        """Read until cancelled; while the database is away, keep trying."""
        pause, read_at = self._poll_seconds, 0.0
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._woken.wait()
            await asyncio.sleep(max(0.0, read_at + _SPACING - time.monotonic()))
            self._woken.clear()
            read_at = time.monotonic()
            try:
                caught_up = await self._read()
                pause = self._poll_seconds if caught_up else _GAP_PAUSE
            except DomainError as error:
                if pause != _LONGEST_PAUSE:
                    logger.warning("events cannot be read: %s", error.title)
                pause = _LONGEST_PAUSE

    async def _read(self) -> bool:
        """Hand on what is settled; tell whether nothing is left to wait for."""
        while True:
            started_at = time.monotonic()
            if not self._has_begun:
                await self._take_place()
            async with self._db.read() as connection:
                repository = EventRepository(connection)
                batch, settled = await self._settled.read(repository, self._position, _BATCH)
            await self._hand_on(batch, settled)
            if len(batch) < _BATCH:
                self._confirmed_at = started_at
            if len(settled) < len(batch):
                return False
            if len(batch) < _BATCH:
                return True

    async def _hand_on(self, visible: Sequence[Event], settled: Sequence[Event]) -> None:
        if visible:
            for listener in self._early:
                listener(visible)
        for start in range(0, len(settled), _SLICE):
            events = settled[start : start + _SLICE]
            self._position = events[-1].id
            for listener in self._listeners:
                listener(events)
            await asyncio.sleep(0)
