"""Redis behind a deadline and a breaker: losing it costs one short wait, not one per request.

Redis may die or freeze at any time, and everything in it may vanish. Whoever asks it goes through
`RedisLink.run`, gets an answer or `RedisAway` within the deadline, and has something to fall back
on. Every key and channel starts with `kingpost:`.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import TypeVar

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from app.adapters.sentinel import open_pool
from app.adapters.spans import End, ended
from app.settings import Settings

logger = logging.getLogger(__name__)

OPEN_SECONDS = 1.0  # long enough that a freeze costs little, short enough to come back unnoticed
POOL_SIZE = 32  # connections of one process; a command takes about 0.1 ms, so few are ever in use
CONNECT_SECONDS = 2.0
GRACE_ROUNDS = 40  # of the loop; asking sentinels, connecting and one command take about thirty

T = TypeVar("T")


class RedisAway(Exception):
    """Redis did not answer in time, refused, or is known to be away; use the fallback."""


class Breaker:
    """Keeps callers away from something that just failed, and lets one of them try again.

    Closed: everyone may call. After a failure it is open for `open_seconds`. Then each caller that
    asks `admits` as the first within another such span is the probe; a success closes it. A probe
    that is cancelled and never reports needs no clean-up: the next span has its own.
    """

    def __init__(
        self, *, open_seconds: float = OPEN_SECONDS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._open_seconds = open_seconds
        self._clock = clock
        self._probe_at: float | None = None

    @property
    def is_open(self) -> bool:
        """True from a failure to the next success."""
        return self._probe_at is not None

    def admits(self) -> bool:
        """Tell whether the caller may try; while open, one caller per span may."""
        if self._probe_at is None:
            return True
        now = self._clock()
        if now < self._probe_at:
            return False
        self._probe_at = now + self._open_seconds
        return True

    def succeeded(self) -> None:
        """Close."""
        self._probe_at = None

    def failed(self) -> None:
        """Open, or stay open for another span."""
        self._probe_at = self._clock() + self._open_seconds


class Deadline:
    """`asyncio.timeout` that does not blame the other side for a busy event loop.

    With many requests in turn on the loop, each step of a command (send, read, wake) waits for
    all of them, and an answer may lie in the socket unread although the time is over. When it is,
    the loop therefore goes round `GRACE_ROUNDS` times more first: microseconds while it is idle,
    time enough for every step while it is busy. Otherwise a burst of work would open the breaker,
    and limits would be counted per process for a second.
    """

    __slots__ = ("_cancelling", "_expired", "_loop", "_rounds", "_seconds", "_task", "_timer")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._expired = False
        self._rounds = GRACE_ROUNDS

    async def __aenter__(self) -> None:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a deadline needs a task")
        self._task = task
        self._cancelling = task.cancelling()
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.Handle = self._loop.call_later(self._seconds, self._expire)

    def _expire(self) -> None:
        if self._rounds:
            self._rounds -= 1
            self._timer = self._loop.call_soon(self._expire)
        else:
            self._expired = True
            self._task.cancel()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._timer.cancel()
        if not self._expired:
            return
        only_ours = self._task.uncancel() <= self._cancelling
        if only_ours and kind is asyncio.CancelledError:
            raise TimeoutError from error


class RedisLink:
    """The one way to Redis of a process: a pooled client, a deadline, a breaker.

    The deadline is the one clock of a command, from the wait for a connection to the answer. The
    client has no read timeout of its own (redis-py would start a task for every command sent, a
    quarter of the command's cost), so it must not be used outside `run`.
    """

    def __init__(self, url: str, *, timeout: float) -> None:
        retry = Retry(NoBackoff(), 0)  # a command may have been executed: never send it twice
        # lib_name, lib_version: without them two round trips less for each new connection.
        self.pool = open_pool(
            BlockingConnectionPool,
            url,
            max_connections=POOL_SIZE,
            timeout=None,
            socket_timeout=None,
            socket_connect_timeout=CONNECT_SECONDS,
            retry=retry,
            lib_name=None,
            lib_version=None,
        )
        self.client: Redis = Redis.from_pool(self.pool)
        self.timeout = timeout
        self.trace: Callable[[Callable[..., object]], End | None] | None = None
        self.breaker = Breaker()

    async def run(self, operation: Callable[[Redis], Awaitable[T]]) -> T:
        """Return what the operation returns, within the deadline.

        Raises:
            RedisAway: it failed or took too long, or the breaker is open (then at once).
        """
        if not self.breaker.admits():
            raise RedisAway("the breaker is open")
        if self.trace is None:
            return await self._run(operation)
        with ended(self.trace(operation)):
            return await self._run(operation)

    async def _run(self, operation: Callable[[Redis], Awaitable[T]]) -> T:
        try:
            async with Deadline(self.timeout):
                result = await operation(self.client)
        except (RedisError, OSError, TimeoutError) as error:
            if not self.breaker.is_open:
                logger.warning("redis is away: %s", type(error).__name__)
            self.breaker.failed()
            raise RedisAway(type(error).__name__) from error
        if self.breaker.is_open:
            logger.warning("redis is back")
            self.breaker.succeeded()
        return result

    async def is_alive(self) -> bool:
        """Tell whether Redis answers a PING within the deadline; past the breaker, for health."""
        try:
            async with Deadline(self.timeout):
                await self.client.ping()
        except (RedisError, OSError, TimeoutError):
            return False
        return True

    def new_listener(self) -> AbstractConnection:
        """Return an unopened connection without a read timeout, to be owned by the caller."""
        connection: AbstractConnection = self.pool.make_connection()  # type: ignore[no-untyped-call]
        return connection

    async def close(self) -> None:
        """Close every pooled connection."""
        await self.client.aclose()


def open_redis(settings: Settings) -> RedisLink | None:
    """Return the link to the Redis of the settings, or None where the service is embedded.

    Nothing is sent yet: the service starts also while Redis is away.
    """
    if settings.redis_url is None:
        return None
    return RedisLink(settings.redis_url.get_secret_value(), timeout=settings.redis_timeout)
