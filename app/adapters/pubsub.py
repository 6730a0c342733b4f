"""Messages between the processes of the service: through Redis, or within the one without it.

At most once: what is published while Redis is away reaches only this process, and the truth is
read elsewhere (events have their poll, rooms keep nothing). A publisher's own process is served
first and directly, so it neither waits for Redis nor depends on it.
"""

import asyncio
import contextlib
import logging
import random
import secrets
from collections.abc import Callable
from typing import Any, Protocol

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import RedisError

from app.adapters.redis import CONNECT_SECONDS, Deadline, RedisAway, RedisLink

logger = logging.getLogger(__name__)

CHANNEL_PREFIX = "kingpost:"
ORIGIN_BYTES = 8
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 2.0  # seconds between attempts to reconnect
QUIET_SECONDS = 10.0  # then a PING: a cut network shows no end of the connection
CONFIRM_SECONDS = 0.2
WAKE_UP_SPACING = 0.005  # seconds: the first goes at once, those right behind it as one

Callback = Callable[[bytes], None]


class PubSub(Protocol):
    """What events and rooms need; callbacks run on the loop and must not wait."""

    async def publish(self, channel: str, message: bytes) -> None:
        """Deliver a message to every subscriber, here before returning. Never fails."""

    def notify(self, channel: str) -> None:
        """Wake every subscriber with an empty message; several at once may arrive as one."""

    async def subscribe(self, channel: str, callback: Callback) -> None:
        """Call back for each message from now on; later for others' while Redis is away.

        Who asks for it twice is called once.
        """

    async def unsubscribe(self, channel: str, callback: Callback) -> None:
        """Stop calling back."""

    async def run(self) -> None:
        """Receive until cancelled or closed; owned by a task group."""

    async def wait_ready(self) -> None:
        """Wait until what others publish arrives here."""

    async def close(self) -> None:
        """Make `run` return."""


class LocalPubSub:
    """Within one process; also the half of the other one that needs no Redis."""

    def __init__(self) -> None:
        self._callbacks: dict[str, list[Callback]] = {}
        self._closed = asyncio.Event()

    def deliver(self, channel: str, message: bytes) -> None:
        """Call the subscribers of this process; one that raises does not harm the others."""
        for callback in tuple(self._callbacks.get(channel, ())):
            try:
                callback(message)
            except Exception:
                logger.exception("a subscriber failed")

    async def publish(self, channel: str, message: bytes) -> None:
        """Deliver a message to every subscriber before returning."""
        self.deliver(channel, message)

    def notify(self, channel: str) -> None:
        """Wake every subscriber with an empty message."""
        self.deliver(channel, b"")

    async def subscribe(self, channel: str, callback: Callback) -> None:
        """Call back for each message from now on."""
        callbacks = self._callbacks.setdefault(channel, [])
        if callback not in callbacks:
            callbacks.append(callback)

    async def unsubscribe(self, channel: str, callback: Callback) -> None:
        """Stop calling back."""
        callbacks = self._callbacks.get(channel, [])
        if callback in callbacks:
            callbacks.remove(callback)
        if not callbacks:
            self._callbacks.pop(channel, None)

    async def run(self) -> None:
        """Wait until cancelled or closed."""
        await self._closed.wait()

    async def wait_ready(self) -> None:
        """Return: this process always hears itself."""

    async def close(self) -> None:
        """Make `run` return."""
        self._closed.set()

    def channels(self) -> list[str]:
        """Return what has subscribers here."""
        return list(self._callbacks)


class RedisPubSub:
    """Over all processes. One connection listens; publishing goes through the link's pool.

    redis-py's own PubSub reconnects in whichever task happens to touch it; here only `run` does.
    """

    def __init__(self, link: RedisLink) -> None:
        self._link = link
        self._local = LocalPubSub()
        self._origin = secrets.token_bytes(ORIGIN_BYTES)
        self._connection: AbstractConnection | None = None
        self._confirmed: dict[str, asyncio.Event] = {}
        self._ready = asyncio.Event()
        self._closed = asyncio.Event()
        self._pending: dict[str, None] = {}
        self._has_pending = asyncio.Event()

    async def publish(self, channel: str, message: bytes) -> None:
        """Deliver a message here, then to the other processes if Redis can be reached."""
        self._local.deliver(channel, message)
        with contextlib.suppress(RedisAway):
            await self._send(channel, message)

    def notify(self, channel: str) -> None:
        """Wake every subscriber: here at once, elsewhere by `run`, several at once as one."""
        self._local.deliver(channel, b"")
        self._pending[channel] = None
        self._has_pending.set()

    async def subscribe(self, channel: str, callback: Callback) -> None:
        """Call back for each message from now on; for others' once Redis has confirmed."""
        await self._local.subscribe(channel, callback)
        if channel not in self._confirmed:
            self._confirmed[channel] = asyncio.Event()
            await self._command("SUBSCRIBE", channel)
        if self._connection is not None and not self._link.breaker.is_open:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CONFIRM_SECONDS):
                    await self._confirmed[channel].wait()

    async def unsubscribe(self, channel: str, callback: Callback) -> None:
        """Stop calling back."""
        await self._local.unsubscribe(channel, callback)
        if channel not in self._local.channels() and channel in self._confirmed:
            del self._confirmed[channel]
            await self._command("UNSUBSCRIBE", channel)

    async def run(self) -> None:
        """Listen and send wake-ups until cancelled or closed, reconnecting after every loss."""
        async with asyncio.TaskGroup() as tasks:
            workers = (tasks.create_task(self._listen()), tasks.create_task(self._send_pending()))
            await self._closed.wait()
            for worker in workers:
                worker.cancel()

    async def wait_ready(self) -> None:
        """Wait until Redis has confirmed every subscription."""
        await self._ready.wait()

    async def close(self) -> None:
        """Make `run` return."""
        self._closed.set()

    async def _send(self, channel: str, message: bytes) -> None:
        await self._link.run(
            lambda client: client.publish(CHANNEL_PREFIX + channel, self._origin + message)
        )

    async def _send_pending(self) -> None:
        while True:
            await self._has_pending.wait()
            self._has_pending.clear()
            channels, self._pending = self._pending, {}
            for channel in channels:
                with contextlib.suppress(RedisAway):
                    await self._send(channel, b"")
            await asyncio.sleep(WAKE_UP_SPACING)

    async def _listen(self) -> None:
        pause = FIRST_PAUSE
        while True:
            try:
                await self._listen_once()
            except (RedisError, OSError, TimeoutError) as error:
                if self._ready.is_set():
                    pause = FIRST_PAUSE
                    logger.warning("lost the redis listener: %s", type(error).__name__)
            finally:
                await self._disconnect()
            await asyncio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311 - jitter, no secret
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _listen_once(self) -> None:
        """Connect, subscribe to everything wanted, and receive until the connection is lost."""
        connection = self._link.new_listener()
        async with asyncio.timeout(CONNECT_SECONDS):
            await connection.connect()  # type: ignore[no-untyped-call]
        self._connection = connection
        await self._command("SUBSCRIBE", *self._confirmed)
        pinged = False
        while True:
            if not self._ready.is_set() and all(e.is_set() for e in self._confirmed.values()):
                self._ready.set()
            response = await connection.read_response(
                timeout=QUIET_SECONDS, disconnect_on_error=False
            )
            if response is None:
                if pinged:
                    raise TimeoutError("no answer to a PING")
                await connection.send_command("PING", check_health=False)
            pinged = response is None
            self._receive(response)

    def _receive(self, response: Any) -> None:
        match response:
            case [b"message", bytes(name), bytes(frame)]:
                if not frame.startswith(self._origin):
                    channel = name.decode().removeprefix(CHANNEL_PREFIX)
                    self._local.deliver(channel, frame[ORIGIN_BYTES:])
            case [b"subscribe", bytes(name), _]:
                confirmed = self._confirmed.get(name.decode().removeprefix(CHANNEL_PREFIX))
                if confirmed:
                    confirmed.set()

    async def _command(self, command: str, *channels: str) -> None:
        """Send on the listening connection, if there is one; else `_listen_once` catches up."""
        connection = self._connection
        if connection is None or not connection.is_connected or not channels:
            return
        names = [CHANNEL_PREFIX + channel for channel in channels]
        with contextlib.suppress(RedisError, OSError):  # the listener notices by itself
            async with Deadline(CONFIRM_SECONDS):
                await connection.send_command(command, *names, check_health=False)

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        self._ready.clear()
        for confirmed in self._confirmed.values():
            confirmed.clear()
        if connection is not None:
            with contextlib.suppress(RedisError, OSError):
                await connection.disconnect(nowait=True)


def open_pubsub(link: RedisLink | None) -> PubSub:
    """Return the messages between processes where there is Redis, else within this one."""
    return RedisPubSub(link) if link else LocalPubSub()
