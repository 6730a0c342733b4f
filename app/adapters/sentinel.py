"""Finds the primary that Redis Sentinel names, anew for each connection.

All sentinels are asked at once: in turn, one that hangs would use up the deadline of every command.
Of what they say the latest election counts, so that one that was cut off from the others does not
lead back to the old primary. And whoever a connection then meets must call itself the primary.
"""

import asyncio
import logging
import time
import weakref
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeVar

from redis.asyncio.connection import (
    Connection,
    ConnectionPool,
    RedisSSLContext,
    SSLConnection,
)
from redis.exceptions import (
    AuthenticationError,
    NoPermissionError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError

from app.settings.redis_url import Address, SentinelUrl, sentinel_url

logger = logging.getLogger(__name__)

PATIENCE = 0.01  # seconds: how long the others are waited for after the first that knows
ASK_SECONDS = 2.0

NO_ANSWER = "no sentinel answers"
NOT_ADMITTED = "the sentinels want another password (sentinel_password)"
NOT_KNOWN = "no sentinel knows the service"
IS_DOWN = "the sentinels find the primary down, and have not elected another one yet"

P = TypeVar("P", bound=ConnectionPool)


class NoPrimary(RedisConnectionError):
    """The sentinels name no primary; its text says why."""


class Named(NamedTuple):
    """What a sentinel says; of several the greatest is to be believed."""

    election: int
    is_up: bool
    address: Address


class Sentinels:
    """The sentinels of one service, and the connections to the primary that they named."""

    def __init__(self, url: SentinelUrl, **options: Any) -> None:
        self._service = url.service
        kind = SSLConnection if url.is_tls else Connection
        user, password = url.sentinel_credentials
        options |= {"lib_name": None, "lib_version": None, "decode_responses": True}
        self._sentinels = [
            kind(host=host, port=port, username=user, password=password, **options)
            for host, port in url.sentinels
        ]
        # A TLS context takes 15 ms to make: all have one, and so have the connections to Redis.
        self.tls: RedisSSLContext | None = None
        for sentinel in self._sentinels:
            if isinstance(sentinel, SSLConnection):
                self.tls = sentinel.ssl_context = self.tls or sentinel.ssl_context
        self._lock = asyncio.Lock()
        self._primary: Address | None = None
        self._asked_at = 0.0
        self.connections: weakref.WeakSet[PrimaryConnection] = weakref.WeakSet()

    async def primary(self) -> Address:
        """Return where the primary is. Of many that want to know at once, one asks.

        Raises:
            NoPrimary: nobody can tell.
        """
        wanted_at = time.monotonic()
        async with self._lock:
            if self._primary is None or self._asked_at < wanted_at:
                asked_at = time.monotonic()
                primary = await self._ask_all()
                if primary != self._primary:
                    self._cut_others(primary)
                self._primary, self._asked_at = primary, asked_at
            return self._primary

    def _cut_others(self, primary: Address) -> None:
        """Cut what is connected elsewhere: a machine that has vanished says no goodbye itself."""
        if self._primary is not None:
            logger.warning("redis has another primary")
        for connection in self.connections:
            if (connection.host, connection.port) != primary:
                connection.cut()

    async def _ask_all(self) -> Address:
        asked = [asyncio.create_task(self._ask(sentinel)) for sentinel in self._sentinels]
        said: list[Named | str] = []
        done, waiting = set[asyncio.Task[Named | str]](), set(asked)
        try:
            while waiting:
                patience = PATIENCE if any(isinstance(each, Named) for each in said) else None
                done, waiting = await asyncio.wait(
                    waiting, timeout=patience, return_when=asyncio.FIRST_COMPLETED
                )
                if not done:
                    break
                said += [task.result() for task in done]
        finally:
            for task in asked:
                task.cancel()
            await asyncio.gather(*asked, return_exceptions=True)
        return believed(said)

    async def _ask(self, sentinel: Connection) -> Named | str:
        """Return what one says, or why it says nothing."""
        try:
            async with asyncio.timeout(ASK_SECONDS):
                await sentinel.connect()  # type: ignore[no-untyped-call]
                await sentinel.send_command("SENTINEL", "MASTER", self._service)
                said = await sentinel.read_response()
        except (RedisError, OSError, TimeoutError) as error:
            return _reason(error)
        finally:
            await sentinel.disconnect(nowait=True)
        fields = dict(zip(said[::2], said[1::2], strict=True))
        is_up = not {"s_down", "o_down"} & set(fields["flags"].split(","))
        return Named(int(fields["config-epoch"]), is_up, (fields["ip"], int(fields["port"])))


def _reason(error: Exception) -> str:
    if isinstance(error, AuthenticationError | NoPermissionError):
        return NOT_ADMITTED
    return NOT_KNOWN if "No such master" in str(error) else NO_ANSWER


def believed(said: Sequence[Named | str]) -> Address:
    """Return what is to be believed of what sentinels say, or why they say nothing.

    Raises:
        NoPrimary: none names one that is up.
    """
    named = [each for each in said if isinstance(each, Named)]
    if not named:
        raise NoPrimary(next((each for each in said if each != NO_ANSWER), NO_ANSWER))
    latest = max(named)
    if not latest.is_up:
        raise NoPrimary(IS_DOWN)
    return latest.address


class PrimaryConnection(Connection):
    """A connection to whoever is the primary when it is opened."""

    def __init__(self, *, sentinels: Sentinels, **options: Any) -> None:
        super().__init__(**options)
        self._sentinels = sentinels
        sentinels.connections.add(self)

    async def _connect(self) -> None:
        self.host, self.port = await self._sentinels.primary()
        await super()._connect()  # type: ignore[no-untyped-call]

    async def on_connect(self) -> None:
        """Sign in, and be sure to speak with a primary."""
        await super().on_connect()
        # Not ROLE: that has to be permitted, and HELLO cannot be forbidden.
        await self.send_command("HELLO", 2, check_health=False)
        said = await self.read_response()
        if b"master" not in said and "master" not in said:
            raise RedisConnectionError("not the primary any more")

    async def read_response(self, *arguments: Any, **options: Any) -> Any:
        """Read an answer; the connection is of no more use when that is of a replica."""
        try:
            return await super().read_response(*arguments, **options)
        except ResponseError as error:
            # Of a script, Redis 6 says so within another error.
            if isinstance(error, ReadOnlyError) or "READONLY" in str(error):
                await self.disconnect(nowait=True)
            raise

    def cut(self) -> None:
        """End it as if the other side had: who waits for an answer is told at once."""
        if self._writer is not None:
            self._writer.transport.abort()


class PrimaryTLSConnection(PrimaryConnection, SSLConnection):
    """The same by TLS."""

    def __init__(self, *, sentinels: Sentinels, **options: Any) -> None:
        super().__init__(sentinels=sentinels, **options)
        self.ssl_context = sentinels.tls or self.ssl_context


def open_pool(kind: type[P], url: str, **options: Any) -> P:
    """Return a pool of connections to the Redis of a URL, or to the primary of its sentinels."""
    found = sentinel_url(url)
    if found is None:
        return kind.from_url(url, **options)
    pool = kind.from_url(found.redis, **options)
    of_tls = {name: value for name, value in pool.connection_kwargs.items() if "ssl_" in name}
    pool.connection_class = PrimaryTLSConnection if found.is_tls else PrimaryConnection
    pool.connection_kwargs["sentinels"] = Sentinels(found, **of_tls)
    return pool
