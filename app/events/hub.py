"""Hands events and messages to the sockets and streams of this process."""

import asyncio
import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from app.adapters.database import Database
from app.adapters.pubsub import PubSub
from app.clock import now
from app.errors import BadRequest, EventsExpired, InvalidToken
from app.events.channels import channels_of, event_frame, may_receive
from app.events.presence import Presence
from app.events.tail import EventTail
from app.models.events import Event, EventKind
from app.observability.metrics import Metrics
from app.repositories.events import EventRepository
from app.security.principal import Principal
from app.services.authentication import Authenticator
from app.settings import Settings

_ROOMS = "rooms"
_PAGE = 500

POLICY_VIOLATION, SERVICE_RESTART, TRY_AGAIN_LATER = 1008, 1012, 1013  # RFC 6455, 7.4; IANA

Render = Callable[[str, Event], str]


@dataclass(eq=False, slots=True)
class Subscriber:
    """One socket or stream: who listens, and what waits to be sent to it.

    The queue is bounded: whoever cannot keep up is cut off, and nobody else waits for them.
    """

    principal: Principal | None
    render: Render
    limit: int
    waiting: asyncio.Queue[str | None] = field(init=False)
    close_code: int | None = None
    # channel → the frames that arrived while its backlog was being read, None when live.
    channels: dict[str, list[tuple[int, str]] | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.waiting = asyncio.Queue(self.limit)

    def offer(self, frame: str) -> None:
        """Queue a frame; a full queue ends the connection."""
        try:
            self.waiting.put_nowait(frame)
        except asyncio.QueueFull:
            self.cut_off(TRY_AGAIN_LATER)

    def cut_off(self, code: int) -> None:
        """Let the writer close the connection, ahead of all that waits."""
        if self.close_code is not None:
            return
        self.close_code = code
        while not self.waiting.empty():
            self.waiting.get_nowait()
        self.waiting.put_nowait(None)


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
        self._anonymous: set[Subscriber] = set()
        self._doubtful: asyncio.Queue[int] = asyncio.Queue()
        self.is_closed = False

    def connect(self, principal: Principal | None, render: Render = event_frame) -> Subscriber:
        """Take a new socket or stream in."""
        subscriber = Subscriber(principal, render, self._queue_limit)
        self._of(principal).add(subscriber)
        if self.is_closed:
            subscriber.cut_off(SERVICE_RESTART)
        return subscriber

    async def disconnect(self, subscriber: Subscriber) -> None:
        """Forget a socket or stream."""
        for channel in list(subscriber.channels):
            await self.unsubscribe(subscriber, channel)
        self._of(subscriber.principal).discard(subscriber)
        if subscriber.principal and not self._by_user[subscriber.principal.user_id]:
            del self._by_user[subscriber.principal.user_id]

    def connections_of(self, user_id: int) -> int:
        """Return how many sockets and streams a user has open here."""
        return len(self._by_user.get(user_id, ()))

    @property
    def position(self) -> int:
        """The id of the last event that was handed on."""
        return self._tail.position

    async def subscribe(self, subscriber: Subscriber, channel: str, since: int | None) -> None:
        """Send a channel's events from now on, or from after `since` on, without a gap.

        Raises:
            EventsExpired: events after `since` are not kept any more.
            BadRequest: `since` has not happened yet.
        """
        if since is not None:
            await self._check_since(since)
        if channel not in subscriber.channels and channel.startswith("room:"):
            await self._join(subscriber, channel)
        subscriber.channels[channel] = None if since is None else []
        self._by_channel[channel].add(subscriber)
        if since is not None:
            await self._replay(subscriber, channel, since)

    async def unsubscribe(self, subscriber: Subscriber, channel: str) -> None:
        """Send a channel's events no more."""
        if subscriber.channels.pop(channel, self) is self:
            return
        members = self._by_channel[channel]
        members.discard(subscriber)
        if not members:
            del self._by_channel[channel]
        if channel.startswith("room:"):
            await self._leave(subscriber, channel)

    def deliver(self, events: Sequence[Event]) -> None:
        """Hand a batch of events to everyone who subscribed and may have them."""
        moment = now()
        for event in events:
            self._metrics.events_delivered.inc()
            self._metrics.event_lag.observe(max(0.0, (moment - event.created_at).total_seconds()))
            if event.kind in (EventKind.SESSION_ENDED, EventKind.USER_UPDATED) and event.owner_id:
                self._doubtful.put_nowait(event.owner_id)
            for channel in channels_of(event):
                self._fan_out(channel, event)

    def _fan_out(self, channel: str, event: Event) -> None:
        frames: dict[Render, str] = {}
        members = self._by_channel.get(channel)
        for subscriber in tuple(members or ()):
            if not may_receive(subscriber.principal, channel, event):
                continue
            frame = frames.get(subscriber.render)
            if frame is None:
                frame = frames[subscriber.render] = subscriber.render(channel, event)
            buffer = subscriber.channels.get(channel)
            if buffer is None:
                subscriber.offer(frame)
            else:
                buffer.append((event.id, frame))

    async def publish(self, channel: str, sender: Principal, data: Any) -> None:
        """Send a message to everyone in a room, on every worker."""
        await self._send_out({"room": channel, "from": sender.user_id, "data": data})

    async def direct(self, user_id: int, sender: Principal, data: Any) -> None:
        """Send a message to all sockets of a user, on every worker."""
        await self._send_out({"to": user_id, "from": sender.user_id, "data": data})

    async def run(self) -> None:
        """Take in what other workers send, and check connections that may have lost their right."""
        await self._pubsub.subscribe(_ROOMS, self._take_in)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._presence.run())
            while True:
                await self._recheck(await self._doubtful.get())

    def close(self) -> None:
        """Tell everyone to come back: this process is about to end."""
        self.is_closed = True
        everyone = [*self._anonymous, *(s for group in self._by_user.values() for s in group)]
        for subscriber in everyone:
            subscriber.cut_off(SERVICE_RESTART)

    def _of(self, principal: Principal | None) -> set[Subscriber]:
        return self._anonymous if principal is None else self._by_user[principal.user_id]

    async def _check_since(self, since: int) -> None:
        if since > self._tail.position:
            raise BadRequest("There is no such event yet")
        async with self._db.read() as connection:
            oldest = await EventRepository(connection).oldest()
        kept_from = oldest if oldest is not None else self._tail.position + 1
        if since < min(kept_from, self._tail.position + 1) - 1:
            raise EventsExpired

    async def _replay(self, subscriber: Subscriber, channel: str, since: int) -> None:
        """Send the backlog up to where the live events began, then what arrived meanwhile."""
        until, position = self._tail.position, since
        while position < until:
            async with self._db.read() as connection:
                page = await EventRepository(connection).after(position, _PAGE)
            if not page:
                break
            position = page[-1].id
            for event in page:
                if event.id > until or channel not in channels_of(event):
                    continue
                if may_receive(subscriber.principal, channel, event):
                    # A backlog is as long as it is: wait for the reader, it is its own.
                    await subscriber.waiting.put(subscriber.render(channel, event))
        buffered = subscriber.channels.get(channel) or []
        if channel in subscriber.channels:
            subscriber.channels[channel] = None
        for event_id, frame in buffered:
            if event_id > until:
                subscriber.offer(frame)

    async def _recheck(self, user_id: int) -> None:
        for subscriber in tuple(self._by_user.get(user_id, ())):
            principal = subscriber.principal
            if principal is None:
                continue
            try:
                subscriber.principal = await self._authenticator.principal_of(
                    principal.session_id, principal.user_id
                )
            except InvalidToken:
                subscriber.cut_off(POLICY_VIOLATION)

    async def _join(self, subscriber: Subscriber, channel: str) -> None:
        count = await self._presence.change(channel, +1)
        await self._announce(subscriber, channel, "joined", count)

    async def _leave(self, subscriber: Subscriber, channel: str) -> None:
        count = await self._presence.change(channel, -1)
        await self._announce(subscriber, channel, "left", count)

    async def _announce(
        self, subscriber: Subscriber, channel: str, action: str, count: int
    ) -> None:
        user_id = subscriber.principal.user_id if subscriber.principal else None
        presence = {"room": channel, "presence": action, "user_id": user_id, "count": count}
        await self._send_out(presence)

    async def _send_out(self, message: dict[str, Any]) -> None:
        await self._pubsub.publish(_ROOMS, json.dumps(message, separators=(",", ":")).encode())

    def _take_in(self, raw: bytes) -> None:
        message = json.loads(raw)
        room = message.get("room")
        if room is None:
            receivers = self._by_user.get(message["to"], set())
            frame = {"type": "message", "from": message["from"], "data": message["data"]}
        elif "presence" in message:
            receivers = self._by_channel.get(room, set())
            frame = {
                "type": "presence",
                "channel": room,
                "action": message["presence"],
                "user_id": message["user_id"],
                "count": message["count"],
            }
        else:
            receivers = self._by_channel.get(room, set())
            frame = {
                "type": "message",
                "channel": room,
                "from": message["from"],
                "data": message["data"],
            }
        text = json.dumps(frame, separators=(",", ":"))
        for subscriber in tuple(receivers):
            subscriber.offer(text)
