"""The cache of shared, expensive answers: bytes with their ETag, over fastapi-cache2's backends.

Only what is the same for everyone may be put in here, so a key names everything that the answer
depends on. fastapi-cache2's decorator is not used: it leaks between users, stores per worker
ETags, and lets thirty misses compute thirty times. Its backends are.

One round trip reads an entry and its namespace's version; an entry of another version is a miss.
So forgetting a namespace is one write, and nothing that was computed before it can come back.
"""

import asyncio
import contextlib
import hashlib
import secrets
import time
from abc import abstractmethod
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Literal, NamedTuple, TypeVar

from app.adapters.cache_backends import Backend, RedisBackend
from app.adapters.redis import RedisAway, RedisLink

KEY_PREFIX = "kingpost:cache"
VERSION_BYTES = 16
LINGER_SECONDS = 0.25  # so that whoever looked just before the entry was stored finds it too
MEMORY_BYTES = 16 * 1024 * 1024

T = TypeVar("T")
Outcome = Literal["hit", "miss", "bypass"]


class CacheEntry(NamedTuple):
    """A body and its strong entity tag, quoted as it goes into the header.

    Stored as `etag, newline, body`: nothing is executed or trusted when read (never pickle).
    """

    body: bytes
    etag: str

    def stored(self) -> bytes:
        """Return the entry as it is stored."""
        return self.etag.encode() + b"\n" + self.body

    @classmethod
    def of_stored(cls, stored: bytes) -> "CacheEntry":
        """Return a stored entry."""
        etag, _, body = stored.partition(b"\n")
        return cls(body, etag.decode("ascii"))


def entity_tag(body: bytes) -> str:
    """Return the strong ETag of a body: its digest, and so the same on every worker."""
    return f'"{hashlib.blake2b(body, digest_size=16).hexdigest()}"'


class VersionedBackend(Backend):
    """A backend of fastapi-cache2 that also reads two keys at once and sets a key only once."""

    @abstractmethod
    async def get_both(self, first: str, second: str) -> tuple[bytes | None, bytes | None]:
        """Return both values in one round trip."""

    @abstractmethod
    async def get_or_set(self, key: str, value: bytes) -> bytes:
        """Return the key's value, which is the given one if it had none."""


class SharedBackend(RedisBackend, VersionedBackend):
    """Entries in Redis."""

    async def get_both(self, first: str, second: str) -> tuple[bytes | None, bytes | None]:
        """Return both values in one round trip."""
        values = await self.redis.mget(first, second)
        return values[0], values[1]

    async def get_or_set(self, key: str, value: bytes) -> bytes:
        """Return the key's value, which is the given one if it had none."""
        if await self.redis.set(key, value, nx=True):  # NX with GET only came with Redis 7
            return value
        return await self.redis.get(key) or value


class MemoryBackend(VersionedBackend):
    """Entries in this process, the least recently used forgotten beyond `max_bytes`.

    fastapi-cache2's own one has no bound and is shared by all its instances.
    """

    def __init__(
        self, *, max_bytes: int = MEMORY_BYTES, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._entries: OrderedDict[str, tuple[float, bytes]] = OrderedDict()
        self._max_bytes = max_bytes
        self._bytes = 0
        self._clock = clock

    async def get_with_ttl(self, key: str) -> tuple[int, bytes | None]:
        """Return the seconds left and the value, or (0, None)."""
        expires_at, value = self._entries.get(key, (0.0, None))
        left = expires_at - self._clock()
        if value is None:
            return 0, None
        if left <= 0:
            self._drop(key)
            return 0, None
        self._entries.move_to_end(key)
        return int(min(left, 2**31)), value

    async def get(self, key: str) -> bytes | None:
        """Return the value, or None."""
        return (await self.get_with_ttl(key))[1]

    async def set(self, key: str, value: bytes, expire: int | None = None) -> None:
        """Store the value for `expire` seconds; for good without."""
        self._drop(key)
        expires_at = float("inf") if expire is None else self._clock() + expire
        self._entries[key] = (expires_at, value)
        self._bytes += len(value)
        while self._bytes > self._max_bytes:
            self._drop(next(iter(self._entries)))

    async def clear(self, namespace: str | None = None, key: str | None = None) -> int:
        """Forget a key, or all keys that start with the namespace; return how many."""
        prefix = namespace if namespace is not None else key or ""
        found = [k for k in self._entries if k == key or (namespace and k.startswith(prefix))]
        for each in found:
            self._drop(each)
        return len(found)

    async def get_both(self, first: str, second: str) -> tuple[bytes | None, bytes | None]:
        """Return both values."""
        return await self.get(first), await self.get(second)

    async def get_or_set(self, key: str, value: bytes) -> bytes:
        """Return the key's value, which is the given one if it had none."""
        known = await self.get(key)
        if known is None:
            await self.set(key, value)
        return known or value

    def _drop(self, key: str) -> None:
        _, value = self._entries.pop(key, (0.0, b""))
        self._bytes -= len(value)


class _Flight(NamedTuple):
    """What is being computed: two with the same of all these may share the result."""

    namespace: str
    key: str
    version: bytes | None
    generation: int


class Cache:
    """Gets bytes from the cache, or computes them once for everyone who is waiting."""

    def __init__(
        self,
        backend: VersionedBackend,
        link: RedisLink | None = None,
        *,
        on_lookup: Callable[[str, Outcome], None] | None = None,
    ) -> None:
        self._backend = backend
        self._link = link
        self._on_lookup = on_lookup
        self._flights: dict[_Flight, asyncio.Task[CacheEntry]] = {}
        self._generations: dict[str, int] = {}
        self._unsent: set[str] = set()  # namespaces whose invalidation did not reach Redis yet

    async def get_or_compute(
        self, namespace: str, key: str, ttl: int, compute: Callable[[], Awaitable[bytes]]
    ) -> CacheEntry:
        """Return the entry of a key, computed at most once per process at a time.

        `compute` runs in a task of its own, which a hung-up client does not end: it must not use
        what belongs to the request, such as its connection. Its errors reach everyone who waits
        and are not kept. Without Redis every call computes; `ttl` is in seconds.
        """
        address = f"{KEY_PREFIX}:{namespace}:{hashlib.sha256(key.encode()).hexdigest()}"
        version: bytes | None = None
        try:
            version, entry = await self._look_up(namespace, address)
        except RedisAway:
            self._count(namespace, "bypass")
        else:
            self._count(namespace, "hit" if entry else "miss")
            if entry:
                return entry
        # Someone who has just changed something must not be served by an earlier computation.
        flight = _Flight(namespace, key, version, self._generations.get(namespace, 0))
        task = self._flights.get(flight)
        if task is None:
            task = asyncio.create_task(self._fill(address, version, ttl, compute))
            self._flights[flight] = task
            task.add_done_callback(lambda done: self._landed(flight, done))
        return await asyncio.shield(task)

    async def invalidate(self, namespace: str) -> None:
        """Forget everything in a namespace, on every worker, by one write.

        While Redis is away this process goes past the namespace until it could be told.
        """
        self._generations[namespace] = self._generations.get(namespace, 0) + 1
        try:
            await self._renew(namespace)
        except RedisAway:
            self._unsent.add(namespace)

    async def close(self) -> None:
        """End the computations that are still running."""
        tasks = list(self._flights.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _look_up(self, namespace: str, address: str) -> tuple[bytes, CacheEntry | None]:
        if namespace in self._unsent:
            await self._renew(namespace)
        version_key = f"{KEY_PREFIX}-version:{namespace}"
        version, stored = await self._ask(lambda: self._backend.get_both(version_key, address))
        if version is None:
            fresh = secrets.token_bytes(VERSION_BYTES)
            version = await self._ask(lambda: self._backend.get_or_set(version_key, fresh))
            return version, None
        if stored is None or not stored.startswith(version):
            return version, None
        return version, CacheEntry.of_stored(stored[len(version) :])

    async def _renew(self, namespace: str) -> None:
        version_key, fresh = f"{KEY_PREFIX}-version:{namespace}", secrets.token_bytes(VERSION_BYTES)
        await self._ask(lambda: self._backend.set(version_key, fresh))
        self._unsent.discard(namespace)

    async def _fill(
        self,
        address: str,
        version: bytes | None,
        ttl: int,
        compute: Callable[[], Awaitable[bytes]],
    ) -> CacheEntry:
        body = await compute()
        entry = CacheEntry(body, entity_tag(body))
        if version is not None:
            stored = version + entry.stored()
            with contextlib.suppress(RedisAway):
                await self._ask(lambda: self._backend.set(address, stored, ttl))
        return entry

    async def _ask(self, operation: Callable[[], Awaitable[T]]) -> T:
        if self._link is None:
            return await operation()
        return await self._link.run(lambda _: operation())

    def _landed(self, flight: _Flight, task: asyncio.Task[CacheEntry]) -> None:
        failed = task.cancelled() or task.exception() is not None
        if failed or flight.version is None:
            del self._flights[flight]
        else:
            asyncio.get_running_loop().call_later(LINGER_SECONDS, self._flights.pop, flight, None)

    def _count(self, namespace: str, outcome: Outcome) -> None:
        if self._on_lookup:
            self._on_lookup(namespace, outcome)


def open_cache(
    link: RedisLink | None, *, on_lookup: Callable[[str, Outcome], None] | None = None
) -> Cache:
    """Return the cache: in Redis where there is one, else in this process."""
    backend = SharedBackend(link.client) if link else MemoryBackend()
    return Cache(backend, link, on_lookup=on_lookup)
