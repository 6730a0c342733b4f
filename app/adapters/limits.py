"""Rate limits that never block the event loop: counted in Redis, or in the process without it.

The algorithm is the sliding-window counter of the `limits` library: two windows are counted, and
the previous one weighs as much as it still reaches into the last `seconds`. Keys and counters in
Redis are the library's own; what is added is one script that answers with the counts as well, so
that a hit and its `RateLimit-*` headers cost one round trip instead of two.

A key that hits again and again gets several hits counted at once, which this process then spends by
itself: no more than the limit are ever admitted, and while much is left a hit costs no round trip.
"""

import hashlib
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

from limits import RateLimitItem, parse_many
from limits.aio.storage import RedisStorage

from app.adapters.redis import RedisAway, RedisLink

KEY_PREFIX = "kingpost:limits"
MEMORY_KEYS = 20_000  # about 8 MB; beyond it the key that was made first is forgotten
MAX_LEASE = 32  # hits
LEASE_SECONDS = 1.0  # what is not spent by then is lost to the key, so it is kept small
_CLOCKS_APART = 0.5  # seconds, of ours and of Redis; a window that has turned is further away
SHARE_OF_REST = 64  # of the hits that are left, a process takes at most this part at once
MAX_KEY_LENGTH = 128  # longer keys are digested, so that nobody fills Redis with long names

Limits = tuple[RateLimitItem, ...]


class Window(NamedTuple):
    """The counters of one limit and key: the previous window, the current one and its end."""

    previous: int
    current: int
    ends_in: float  # seconds


class Decision(NamedTuple):
    """Whether a hit is allowed, and what the client is told. All times in whole seconds."""

    allowed: bool
    limit: int
    remaining: int
    reset_seconds: int
    retry_after: int  # 0 when allowed; after this long one more hit would be allowed


@lru_cache(maxsize=256)
def parse_limits(text: str) -> Limits:
    """Return the limits of slowapi's notation, such as `20/minute` or `5/second;100/hour`.

    Raises:
        ValueError: the text is not in that notation.
    """
    return tuple(parse_many(text))


def used(window: Window, seconds: float) -> int:
    """Return how many hits count now: the current ones, and the previous ones by their share."""
    return math.floor(window.previous * window.ends_in / seconds) + window.current


def seconds_until_free(item: RateLimitItem, window: Window) -> float:
    """Return in how many seconds a full limit has room for one more hit."""
    seconds = item.get_expiry()
    free = item.amount - window.current
    if free > 0:  # the share of the previous window has to fall below what is free
        return max(0.0, window.ends_in - free * seconds / max(window.previous, 1))
    return window.ends_in + seconds * (1 - item.amount / max(window.current, 1))


def decide(items: Limits, windows: Sequence[Window], *, allowed: bool) -> Decision:
    """Return the decision of the limit that is nearest to its end, or that refuses the longest."""
    if allowed:
        return min(map(_admission, items, windows), key=lambda decision: decision.remaining)
    pairs = list(zip(items, windows, strict=True))
    # Redis counts in milliseconds: at the very edge only it may see that a limit is full.
    full = [(i, w) for i, w in pairs if used(w, i.get_expiry()) >= i.amount] or pairs
    return max((_refusal(i, w) for i, w in full), key=lambda decision: decision.retry_after)


def _admission(item: RateLimitItem, window: Window) -> Decision:
    remaining = max(0, item.amount - used(window, item.get_expiry()))
    return Decision(True, item.amount, remaining, math.ceil(window.ends_in), 0)


def _refusal(item: RateLimitItem, window: Window) -> Decision:
    wait = math.floor(seconds_until_free(item, window)) + 1  # at the very instant it is still full
    return Decision(False, item.amount, 0, wait, wait)


@dataclass(slots=True)
class _Counter:
    """One limit's counters of one key, with the end of its current window on the clock."""

    previous: int
    current: int
    ends_at: float

    def window(self, seconds: float, now: float) -> Window:
        """Turn to the window that `now` falls in, and return it."""
        if now >= self.ends_at:
            passed = (now - self.ends_at) // seconds
            self.previous = 0 if passed else self.current
            self.current = 0
            self.ends_at += (passed + 1) * seconds
        # The sum was rounded: what is left must not be more than the window is long.
        return Window(self.previous, self.current, min(seconds, self.ends_at - now))


class MemoryWindows:
    """The counters in process memory, bounded; also the mirror that a Redis outage falls back on.

    `limits.aio.storage.MemoryStorage` is not used: each of its hits starts a task that walks over
    all keys, and what it keeps has no bound.
    """

    def __init__(
        self, *, max_keys: int = MEMORY_KEYS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._max_keys = max_keys
        self._clock = clock
        self._counters: OrderedDict[tuple[str, str, Limits], list[_Counter]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._counters)

    def hit(self, name: str, items: Limits, key: str) -> tuple[bool, list[Window]]:
        """Count one hit if every limit has room, and return whether, with the counters."""
        now = self._clock()
        counters = self._counters.get((name, key, items))
        if counters is None:
            counters = [_Counter(0, 0, now + item.get_expiry()) for item in items]
            self._remember((name, key, items), counters, now)
        windows = []
        allowed = True
        for item, counter in zip(items, counters, strict=True):
            seconds = item.get_expiry()
            window = counter.window(seconds, now)
            allowed = allowed and used(window, seconds) < item.amount
            windows.append(window)
        if not allowed:
            return False, windows
        for counter in counters:
            counter.current += 1
        return True, [Window(w.previous, w.current + 1, w.ends_in) for w in windows]

    def mirror(self, name: str, items: Limits, key: str, windows: Sequence[Window]) -> None:
        """Take over the counters that Redis knows, so that an outage goes on from them."""
        now = self._clock()
        counters = [_Counter(w.previous, w.current, now + w.ends_in) for w in windows]
        self._remember((name, key, items), counters, now)

    def _remember(self, key: tuple[str, str, Limits], counters: list[_Counter], now: float) -> None:
        is_new = key not in self._counters
        self._counters[key] = counters
        if is_new:
            self._forget_spent(now)

    def _forget_spent(self, now: float) -> None:
        """Look at the two oldest keys for each new one: all get their turn, at no cost in bulk."""
        for _ in range(2):
            oldest, counters = next(iter(self._counters.items()))
            pairs = zip(oldest[2], counters, strict=True)
            if all(counter.ends_at + item.get_expiry() <= now for item, counter in pairs):
                del self._counters[oldest]
            else:
                self._counters.move_to_end(oldest)
        while len(self._counters) > self._max_keys:
            self._counters.popitem(last=False)


class SharedWindows(RedisStorage):
    """The counters in Redis, kept as `limits` keeps them, hit and read in one round trip."""

    # After acquire_sliding_window.lua of limits 5.8, for several limits at once: either all of
    # them count the hits or none does, and the counters are returned. Of the hits that are wanted
    # it counts as many as there is room for. Times in milliseconds.
    HIT = """
    local granted, counters = tonumber(ARGV[#ARGV]), {}
    for i = 1, #KEYS, 2 do
      local previous_key, current_key = KEYS[i], KEYS[i + 1]
      local limit, expiry = tonumber(ARGV[i]), tonumber(ARGV[i + 1]) * 1000
      local ttl = redis.call('pttl', current_key)
      local previous, current = 0, 0
      if ttl > 0 and ttl < expiry then
        redis.call('rename', current_key, previous_key)
        ttl = ttl + expiry
        redis.call('set', current_key, 0, 'px', ttl)
        previous = tonumber(redis.call('get', previous_key))
      elseif ttl > 0 then
        previous = tonumber(redis.call('get', previous_key)) or 0
        current = tonumber(redis.call('get', current_key))
      else
        ttl = 2 * expiry
      end
      local ends_in = ttl - expiry
      local room = limit - math.floor(previous * ends_in / expiry) - current
      granted = math.max(0, math.min(granted, room))
      counters[#counters + 1] = previous
      counters[#counters + 1] = current
      counters[#counters + 1] = ends_in
    end
    if granted > 0 then
      for i = 1, #KEYS, 2 do
        local j = (i - 1) / 2 * 3 + 2
        counters[j] = counters[j] + granted
        if redis.call('incrby', KEYS[i + 1], granted) == granted then
          redis.call('pexpire', KEYS[i + 1], counters[j + 1] + ARGV[i + 1] * 1000)
        end
      end
    end
    return {granted, unpack(counters)}
    """

    def __init__(self, link: RedisLink) -> None:
        # The library makes its own client of the address; the pool says where Redis really is.
        pool: Any = link.pool
        super().__init__(
            "async+redis://", implementation="redispy", key_prefix=KEY_PREFIX, connection_pool=pool
        )
        self._link = link
        self._hit = link.client.register_script(self.HIT)

    async def hit(
        self, name: str, items: Limits, key: str, wanted: int = 1
    ) -> tuple[int, list[Window]]:
        """Count hits as far as every limit has room, and return how many, with the counters.

        Raises:
            RedisAway: Redis did not answer in time.
        """
        keys: list[str] = []
        arguments: list[int] = []
        for item in items:
            item_key = item.key_for(name, key)
            keys.append(self.bridge.prefixed_key(self._previous_window_key(item_key)))
            keys.append(self.bridge.prefixed_key(self._current_window_key(item_key)))
            arguments += (item.amount, item.get_expiry())
        arguments.append(wanted)
        granted, *numbers = await self._link.run(lambda _: self._hit(keys, arguments))
        windows = [
            Window(numbers[i], numbers[i + 1], numbers[i + 2] / 1000)
            for i in range(0, len(numbers), 3)
        ]
        return granted, windows


@dataclass(slots=True)
class _Lease:
    """Hits that Redis has counted for this process before they come."""

    windows: list[Window]
    taken: int
    left: int
    begins_at: float

    def use(self, now: float) -> list[Window] | None:
        """Take one hit out, and return the counters as if it had just been counted."""
        passed = now - self.begins_at
        if not self.left or passed > min(LEASE_SECONDS, *(w.ends_in for w in self.windows)):
            return None
        self.left -= 1
        return [Window(w.previous, w.current - self.left, w.ends_in - passed) for w in self.windows]

    def left_for(self, windows: Sequence[Window], now: float) -> int:
        """Return the hits that are left and may be spent in these, later windows too."""
        passed = now - self.begins_at
        has_turned = any(
            later.ends_in > known.ends_in - passed + _CLOCKS_APART
            for later, known in zip(windows, self.windows, strict=True)
        )
        return 0 if has_turned or passed > LEASE_SECONDS else self.left

    def next_size(self, now: float) -> int:
        """Return how many hits are worth taking next: twice as many where these went quickly."""
        return 1 if self.left or now - self.begins_at > LEASE_SECONDS else 2 * self.taken


class RateLimiter:
    """Counts hits against limits: over all processes with Redis, in this one without it."""

    def __init__(
        self, link: RedisLink | None, *, on_refusal: Callable[[str], None] | None = None
    ) -> None:
        self._shared = SharedWindows(link) if link else None
        self._memory = MemoryWindows()
        self._leases: OrderedDict[tuple[str, str, Limits], _Lease] = OrderedDict()
        self._taking: set[tuple[str, str, Limits]] = set()
        self._on_refusal = on_refusal

    async def hit(self, limit_name: str, limits: Limits, key: str) -> Decision:
        """Count one hit of a key. Never fails, and waits for Redis one deadline at most."""
        if len(key) > MAX_KEY_LENGTH:
            key = hashlib.sha256(key.encode()).hexdigest()
        allowed, windows = await self._count(limit_name, limits, key)
        if not allowed and self._on_refusal:
            self._on_refusal(limit_name)
        return decide(limits, windows, allowed=allowed)

    async def _count(self, name: str, items: Limits, key: str) -> tuple[bool, list[Window]]:
        if self._shared is None:
            return self._memory.hit(name, items, key)
        now, whose = time.monotonic(), (name, key, items)
        lease = self._leases.get(whose)
        windows = lease.use(now) if lease else None
        if windows is not None:
            return True, windows
        # Of requests at once, one takes hits ahead; the others ask for the one that each is.
        is_taking = lease is not None and whose not in self._taking
        if lease is None or not is_taking:
            wanted = 1
        else:
            wanted = max(1, min(MAX_LEASE, lease.next_size(now), _spare(items, lease.windows)))
            self._taking.add(whose)
        try:
            granted, windows = await self._shared.hit(name, items, key, wanted)
        except RedisAway:
            return self._memory.hit(name, items, key)
        finally:
            if is_taking:
                self._taking.discard(whose)
        self._memory.mirror(name, items, key, windows)
        now = time.monotonic()
        earlier = self._leases.get(whose)
        left = earlier.left_for(windows, now) if earlier else 0
        # Who asked for one beside the one who took many does not make the next taking small.
        taken = granted if is_taking or earlier is None else max(granted, earlier.taken)
        latest = _Lease(windows, taken, granted + left, now)
        self._remember(whose, latest)
        counted = latest.use(now)
        return counted is not None, counted or windows

    def _remember(self, key: tuple[str, str, Limits], lease: _Lease) -> None:
        self._leases[key] = lease
        self._leases.move_to_end(key)
        if len(self._leases) > MEMORY_KEYS:
            self._leases.popitem(last=False)


def _spare(items: Limits, windows: Sequence[Window]) -> int:
    """Return how many hits may be taken at once: few where few are left, for others want some."""
    pairs = zip(items, windows, strict=True)
    return min((i.amount - used(w, i.get_expiry())) // SHARE_OF_REST for i, w in pairs)
