"""Hands events and messages to the sockets and streams of this process."""

import asyncio
import contextlib
import json
import time
from collections import Counter, defaultdict
from collections.abc import AsyncGenerator, Sequence, Set
from typing import Any

from app.adapters.database import Database
from app.adapters.pubsub import PubSub
from app.clock import now
from app.errors import BadRequest, DomainError, EventsExpired, Unauthenticated
from app.events.channels import channels_of, compact, event_frame, may_receive
from app.events.presence import Count, News, Presence
from app.events.subscriber import (
    POLICY_VIOLATION,
    SERVICE_RESTART,
    Render,
    Subscriber,
)
from app.events.tail import EventTail
from app.models.events import Event, EventKind
from app.observability.metrics import Metrics
from app.repositories.events import EventRepository
from app.security.principal import Principal
from app.server import PreparedText
from app.services.authentication import Authenticator
from app.settings import Settings

_ROOMS = "rooms"
_PAGE = 500
# What may take the right away that a connection stands on.
_RIGHTS = frozenset({EventKind.SESSION_ENDED, EventKind.USER_UPDATED, EventKind.API_KEY_CHANGED})
_RECHECK_PAUSE = 0.1  # seconds
_LONGEST_LAG = 1.0  # seconds that one worker may be behind another
_LATELY = 60.0  # seconds, longer than from reading who somebody is to their connection here


class Hub:
    """Knows every subscriber of the process, by channel and by user."""

    def __init__(
        self,
        db: Database,
        pubsub: PubSub,
        tail: EventTail,
        authenticator: Authenticator,
        presence: Presence,
        settings: Settings,
        metrics: Metrics,
    ) -> None:
        self._db = db
        self._pubsub = pubsub
        self._tail = tail
        self._authenticator = authenticator
        self._presence = presence
        self._queue_limit = settings.websocket_queue
        self._metrics = metrics
        self._by_channel: defaultdict[str, set[Subscriber]] = defaultdict(set)
        self._by_user: defaultdict[int, set[Subscriber]] = defaultdict(set)
        self._by_address: Counter[str] = Counter()
        self._counts: dict[str, Count] = {}  # of the rooms that somebody here is in
        self._anonymous: set[Subscriber] = set()
        self._doubtful: asyncio.Queue[int] = asyncio.Queue()
        self._changed: dict[int, float] = {}  # users whose rights changed lately, and when
        self.is_closed = False

    def connect(self, principal: Principal | None, render: Render = event_frame) -> Subscriber:
        """Take a new socket or stream in."""
        subscriber = Subscriber(principal, render, self._queue_limit)
        self._of(principal).add(subscriber)
        self._end_with_key(subscriber)
        if principal is not None and self._has_changed(principal.user_id):
            subscriber.hold()  # who it is may have been read before that
            self._doubtful.put_nowait(principal.user_id)
        if self.is_closed:
            subscriber.cut_off(SERVICE_RESTART)
        return subscriber

    def become(self, subscriber: Subscriber, principal: Principal) -> None:
        """Go on with what the same user may do now, or by other credentials."""
        subscriber.principal = principal
        self._end_with_key(subscriber)

    async def disconnect(self, subscriber: Subscriber) -> None:
        """Forget a socket or stream."""
        if subscriber.key_ends is not None:
            subscriber.key_ends.cancel()
        for channel in list(subscriber.channels):
            await self.unsubscribe(subscriber, channel)
        self._of(subscriber.principal).discard(subscriber)
        if subscriber.principal and not self._by_user[subscriber.principal.user_id]:
            del self._by_user[subscriber.principal.user_id]

    def connections_of(self, user_id: int) -> int:
        """Return how many sockets and streams a user has open here."""
        return len(self._by_user.get(user_id, ()))

    def arrive(self, address: str) -> int:
        """Count a socket of an address in; return how many it has open here."""
        self._by_address[address] += 1
        return self._by_address[address]

    def leave(self, address: str) -> None:
        """Count it out again."""
        self._by_address[address] -= 1
        if not self._by_address[address]:
            del self._by_address[address]

    @property
    def position(self) -> int:
        """The id of the last event that was handed on."""
        return self._tail.position

    @property
    def is_ready(self) -> bool:
        """False while it is not known which event is the next: nobody can be served from there."""
        return self._tail.has_begun

    async def subscribe(self, subscriber: Subscriber, channel: str) -> Count | None:
        """Send a channel's events from now on; return who is in a room that was just entered."""
        if channel in subscriber.channels:
            return None
        await subscriber.certain()
        self._add(subscriber, channel)
        if not channel.startswith("room:"):
            return None
        return await self._presence.change(channel, _user_id(subscriber), +1)

    async def greet(self, subscriber: Subscriber, room: str, count: Count) -> None:
        """Tell a room of somebody who has entered it."""
        user_id = _user_id(subscriber)
        if count.sockets <= 1:
            await self._announce(room, count, "joined", user_id)
        else:  # the others know; this socket does not
            people = self._newest(room, count)
            subscriber.offer(compact(_presence(room, people, "joined", user_id)))

    async def resume(
        self, subscriber: Subscriber, channels: Set[str], since: int
    ) -> AsyncGenerator[str, None]:
        """Yield the frames of channels' events after `since`; then subscribe to them, gaplessly.

        The caller sends each before it asks for the next: a backlog is as long as it is, and waits
        for its own reader alone.

        Raises:
            EventsExpired: events after `since` are not kept any more.
            BadRequest: `since` has not happened yet.
        """
        await self.check_since(since)
        position = since
        while position < (until := self._tail.position):
            async with self._db.read() as connection:
                page = await EventRepository(connection).after(position, _PAGE)
            position = page[-1].id if len(page) == _PAGE and page[-1].id < until else until
            for event in page:
                await subscriber.certain()
                if subscriber.closing.done():
                    return
                for channel in channels & set(channels_of(event)):
                    if event.id <= position and may_receive(subscriber.principal, channel, event):
                        yield subscriber.render(channel, event)
        # Nothing was awaited since the comparison: the next event that is handed on is the next.
        for channel in channels:
            self._add(subscriber, channel)

    async def unsubscribe(self, subscriber: Subscriber, channel: str) -> None:
        """Send a channel's events no more."""
        if channel not in subscriber.channels:
            return
        subscriber.channels.discard(channel)
        members = self._by_channel[channel]
        members.discard(subscriber)
        if not members:
            del self._by_channel[channel]
            self._counts.pop(channel, None)
        if channel.startswith("room:"):
            await self._leave(subscriber, channel)

    def deliver(self, events: Sequence[Event]) -> None:
        """Hand a batch of events to everyone who subscribed and may have them."""
        moment = now()
        for event in events:
            self._metrics.events_read.inc()
            self._metrics.event_lag.observe(max(0.0, (moment - event.created_at).total_seconds()))
            if event.kind in _RIGHTS and event.owner_id:
                self._doubt(event.owner_id)
            for channel in channels_of(event):
                self._fan_out(channel, event)

    def _fan_out(self, channel: str, event: Event) -> None:
        frames: dict[Render, str] = {}
        members = self._by_channel.get(channel)
        for subscriber in tuple(members or ()):
            if subscriber.held is not None:
                subscriber.hold_back(channel, event)
                continue
            if not may_receive(subscriber.principal, channel, event):
                continue
            frame = frames.get(subscriber.render)
            if frame is None:
                frame = PreparedText(subscriber.render(channel, event))
                frames[subscriber.render] = frame
            subscriber.offer(frame)

    async def publish(self, channel: str, sender: Principal, data: Any) -> None:
        """Send a message to everyone in a room, on every worker."""
        await self._send_out({"room": channel, "from": sender.user_id, "data": data})

    async def direct(self, user_id: int, sender: Principal, data: Any) -> None:
        """Send a message to all sockets of a user, on every worker."""
        await self._send_out({"to": user_id, "from": sender.user_id, "data": data})

    async def run(self) -> None:
        """Take in what other workers send, and check connections that may have lost their right."""
        await self._pubsub.subscribe(_ROOMS, self._take_in)
        while True:
            user_id = await self._doubtful.get()
            try:
                await self._recheck(user_id)
            except Exception as error:  # they are held until it is known
                self._doubtful.put_nowait(user_id)
                if not isinstance(error, DomainError):
                    raise
                await asyncio.sleep(_RECHECK_PAUSE)  # the database is away

    async def keep_count(self) -> None:
        """Keep the count of who is in which room, and tell the rooms of whom a crash took away."""
        await self._presence.run(self._tell)

    def close(self) -> None:
        """Tell everyone to come back: this process is about to end."""
        self.is_closed = True
        everyone = [*self._anonymous, *(s for group in self._by_user.values() for s in group)]
        for subscriber in everyone:
            subscriber.cut_off(SERVICE_RESTART)

    def _of(self, principal: Principal | None) -> set[Subscriber]:
        return self._anonymous if principal is None else self._by_user[principal.user_id]

    def _end_with_key(self, subscriber: Subscriber) -> None:
        if subscriber.key_ends is not None:
            subscriber.key_ends.cancel()
            subscriber.key_ends = None
        key = subscriber.principal.key if subscriber.principal else None
        if key is not None and key.ends_at is not None:
            remaining = (key.ends_at - now()).total_seconds()
            loop = asyncio.get_running_loop()
            subscriber.key_ends = loop.call_later(remaining, subscriber.cut_off, POLICY_VIOLATION)

    def _add(self, subscriber: Subscriber, channel: str) -> None:
        subscriber.channels.add(channel)
        self._by_channel[channel].add(subscriber)

    async def check_since(self, since: int) -> None:
        """Refuse to go on after an event that cannot be gone on after.

        Raises:
            EventsExpired: events after `since` are not kept any more.
            BadRequest: `since` has not happened yet.
        """
        # Another worker may have been the first to read it, and told the client of it.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LONGEST_LAG):
                while since > self._tail.position:  # noqa: ASYNC110 - the tail sets no event
                    await asyncio.sleep(0.01)
        if since > self._tail.position:
            raise BadRequest("There is no such event yet")
        async with self._db.read() as connection:
            oldest = await EventRepository(connection).oldest()
        kept_from = oldest if oldest is not None else self._tail.position + 1
        if since < min(kept_from, self._tail.position + 1) - 1:
            raise EventsExpired

    def _doubt(self, user_id: int) -> None:
        """Hand a user nothing more until it is known what they may do now."""
        moment = time.monotonic()
        self._changed.pop(user_id, None)  # the dictionary is in the order of the changes
        self._changed[user_id] = moment
        while self._changed[oldest := next(iter(self._changed))] < moment - _LATELY:
            del self._changed[oldest]
        for subscriber in self._by_user.get(user_id, ()):
            subscriber.hold()
        self._doubtful.put_nowait(user_id)

    def _has_changed(self, user_id: int) -> bool:
        return time.monotonic() - self._changed.get(user_id, float("-inf")) < _LATELY

    async def _recheck(self, user_id: int) -> None:
        for subscriber in tuple(self._by_user.get(user_id, ())):
            principal, doubts = subscriber.principal, subscriber.doubts
            if principal is None or subscriber.held is None:
                continue
            renewed: Principal | None
            try:
                renewed = await self._authenticator.again(principal)
            except Unauthenticated:
                renewed = None
            if subscriber not in self._by_user.get(user_id, ()):
                continue  # it has gone meanwhile
            if subscriber.principal is not principal:
                self._doubtful.put_nowait(user_id)  # it has renewed itself, by what was read when?
            elif renewed is None:
                subscriber.cut_off(POLICY_VIOLATION)
            else:
                self.become(subscriber, renewed)
                if subscriber.doubts == doubts:  # else one more check is on its way
                    subscriber.release()

    async def _leave(self, subscriber: Subscriber, channel: str) -> None:
        user_id = _user_id(subscriber)
        count = await self._presence.change(channel, user_id, -1)
        if count.sockets <= 0:
            await self._announce(channel, count, "left", user_id)

    async def _tell(self, news: News) -> None:
        action = "joined" if news.counted.sockets > 0 else "left"
        await self._announce(news.room, news.counted, action, news.user_id)

    async def _announce(self, channel: str, count: Count, action: str, user_id: int | None) -> None:
        presence = {"room": channel, "presence": action, "user_id": user_id}
        await self._send_out({**presence, "count": count.people, "moment": count.moment})

    def _newest(self, room: str, count: Count) -> int:
        """Return how many are in a room: what two workers tell may come in the wrong order."""
        if not count.moment or room not in self._by_channel:
            return count.people
        self._counts[room] = max(self._counts.get(room, count), count, key=lambda each: each.moment)
        return self._counts[room].people

    async def _send_out(self, message: dict[str, Any]) -> None:
        await self._pubsub.publish(_ROOMS, compact(message).encode())

    def _take_in(self, raw: bytes) -> None:
        message = json.loads(raw)
        room = message.get("room")
        if room is None:
            receivers = self._by_user.get(message["to"], set())
            frame = {"type": "message", "from": message["from"], "data": message["data"]}
        elif "presence" in message:
            receivers = self._by_channel.get(room, set())
            people = self._newest(room, Count(message["count"], 0, message.get("moment", 0)))
            frame = _presence(room, people, message["presence"], message["user_id"])
        else:
            receivers = self._by_channel.get(room, set())
            frame = {
                "type": "message",
                "channel": room,
                "from": message["from"],
                "data": message["data"],
            }
        text = PreparedText(compact(frame))
        for subscriber in tuple(receivers):
            subscriber.offer(text)


def _presence(room: str, people: int, action: str, user_id: int | None) -> dict[str, Any]:
    return {
        "type": "presence",
        "channel": room,
        "action": action,
        "user_id": user_id,
        "count": people,
    }


def _user_id(subscriber: Subscriber) -> int:
    return subscriber.principal.user_id if subscriber.principal else 0
