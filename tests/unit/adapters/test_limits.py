"""Rate limits: the sliding window, exactness over processes, and life without Redis."""

import asyncio
import multiprocessing
import time
from collections.abc import AsyncIterator
from functools import partial
from multiprocessing.pool import Pool
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from redis.asyncio import Redis

from app.adapters.limits import (
    MAX_LEASE,
    MemoryWindows,
    RateLimiter,
    SharedWindows,
    Window,
    decide,
    parse_limits,
    seconds_until_free,
    used,
)
from app.adapters.redis import RedisLink
from tests.patience import PATIENCE, within

from .conftest import ROUNDS, TIMEOUT, RedisServer, impatient
from .test_redis import Clock, comes_back

TEN = parse_limits("10/minute")


@pytest.fixture(params=["memory", "redis"])
async def limiter(
    request: pytest.FixtureRequest, redis_server: RedisServer
) -> AsyncIterator[RateLimiter]:
    if request.param == "memory":
        yield RateLimiter(None)
        return
    link = RedisLink(redis_server.url, timeout=PATIENCE)
    yield RateLimiter(link)
    await link.close()


def test_the_notation_is_that_of_slowapi() -> None:
    several = parse_limits("5/second; 100 per 2 hour")
    assert [(item.amount, item.get_expiry()) for item in several] == [(5, 1), (100, 7200)]
    with pytest.raises(ValueError, match="couldn't parse"):
        parse_limits("often")


async def test_exactly_the_limit_is_admitted(limiter: RateLimiter) -> None:
    decisions = [await limiter.hit("login", TEN, "a") for _ in range(25)]
    assert [d.allowed for d in decisions] == [True] * 10 + [False] * 15
    assert [d.remaining for d in decisions[:10]] == list(range(9, -1, -1))
    assert all(d.limit == 10 and 1 <= d.reset_seconds <= 61 for d in decisions)
    assert all(1 <= d.retry_after <= 61 for d in decisions[10:])


async def test_keys_and_names_are_counted_apart(limiter: RateLimiter) -> None:
    one = parse_limits("1/minute")
    assert (await limiter.hit("login", one, "a")).allowed
    assert (await limiter.hit("login", one, "b")).allowed
    assert (await limiter.hit("register", one, "a")).allowed
    assert not (await limiter.hit("login", one, "a")).allowed


async def test_of_several_limits_the_nearest_one_is_told_and_a_refusal_counts_for_none(
    limiter: RateLimiter,
) -> None:
    both = parse_limits("2/minute;5/hour")
    told = [await limiter.hit("x", both, "a") for _ in range(3)]
    assert [(d.allowed, d.limit, d.remaining) for d in told] == [
        (True, 2, 1),
        (True, 2, 0),
        (False, 2, 0),
    ]
    hours = parse_limits("5/hour")
    if limiter._shared:  # the hour's counter is the one that `5/hour` alone has in Redis
        assert (await limiter.hit("x", hours, "a")).remaining == 2


async def test_after_retry_after_one_more_is_admitted(limiter: RateLimiter) -> None:
    limits = parse_limits("3/second")
    while (decision := await limiter.hit("x", limits, "a")).allowed:
        pass
    await asyncio.sleep(decision.retry_after + 0.005)  # uvloop's timers fire up to 1 ms early
    assert (await limiter.hit("x", limits, "a")).allowed


async def test_a_very_long_key_is_kept_short(link: RedisLink) -> None:
    await RateLimiter(link).hit("x", TEN, "k" * 100_000)
    keys = await link.run(lambda client: client.keys("kingpost:limits:*"))
    assert len(keys) == 1
    assert len(keys[0]) < 200


async def test_a_refusal_is_counted_by_name() -> None:
    refusals: list[str] = []
    limiter = RateLimiter(None, on_refusal=refusals.append)
    for _ in range(12):
        await limiter.hit("login", TEN, "a")
    assert refusals == ["login", "login"]


async def test_counters_in_redis_are_those_of_the_limits_library(link: RedisLink) -> None:
    storage = SharedWindows(link)
    for _ in range(4):
        await storage.hit("x", TEN, "a")
    library = SlidingWindowCounterRateLimiter(storage)
    assert (await library.get_window_stats(TEN[0], "x", "a")).remaining == 6
    assert await library.hit(TEN[0], "x", "a", cost=6)
    assert (await storage.hit("x", TEN, "a"))[0] == 0
    await library.clear(TEN[0], "x", "a")
    assert (await storage.hit("x", TEN, "a"))[0] == 1


async def test_of_many_hits_as_many_count_as_there_is_room_for(link: RedisLink) -> None:
    storage = SharedWindows(link)
    assert (await storage.hit("x", TEN, "a", 7))[0] == 7
    granted, windows = await storage.hit("x", TEN, "a", 7)
    assert (granted, windows[0].current) == (3, 10)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many hits Redis was asked for, each time."""
    found: list[int] = []
    shared = SharedWindows.hit

    async def counting(self: SharedWindows, *given: Any) -> tuple[int, list[Window]]:
        found.append(given[-1])
        return await shared(self, *given)

    monkeypatch.setattr(SharedWindows, "hit", counting)
    return found


async def test_who_hits_again_and_again_asks_redis_seldom_and_is_told_the_truth(
    link: RedisLink, asked: list[int]
) -> None:
    limiter, limits = RateLimiter(link), parse_limits("6000/hour")
    remaining = [(await limiter.hit("x", limits, "a")).remaining for _ in range(500)]
    assert remaining == list(range(5999, 5499, -1))
    assert len(asked) < 50
    assert max(asked) == MAX_LEASE
    rest = [await limiter.hit("x", limits, "a") for _ in range(5600)]
    assert sum(each.allowed for each in rest) == 5500


async def test_what_is_taken_ahead_is_not_lost_to_requests_at_once(link: RedisLink) -> None:
    limiter, limits = RateLimiter(link), parse_limits("2000/hour")
    decisions = [
        decision
        for _ in range(150)
        for decision in await asyncio.gather(*(limiter.hit("x", limits, "a") for _ in range(20)))
    ]
    assert 1900 <= sum(each.allowed for each in decisions) <= 2000


async def test_requests_at_once_ask_redis_seldom_too(link: RedisLink, asked: list[int]) -> None:
    limiter, limits = RateLimiter(link), parse_limits("100000/hour")
    for _ in range(50):
        await asyncio.gather(*(limiter.hit("x", limits, "a") for _ in range(10)))
    assert len(asked) < 250
    assert max(asked) == MAX_LEASE


async def test_processes_that_take_hits_ahead_admit_no_more_than_the_limit(
    link: RedisLink,
) -> None:
    limiters = [RateLimiter(link) for _ in range(4)]
    limits = parse_limits("2000/hour")
    decisions = [await limiters[n % 4].hit("x", limits, "a") for n in range(3000)]
    assert 1900 <= sum(each.allowed for each in decisions) <= 2000


async def test_every_key_in_redis_expires(link: RedisLink) -> None:
    limiter = RateLimiter(link)
    limits = parse_limits("5/second")
    for _ in range(ROUNDS):
        await limiter.hit("x", limits, "a")
        started = time.monotonic()
        await asyncio.sleep(1.1)
        await limiter.hit("x", limits, "a")
        keys = await link.run(lambda client: client.keys("kingpost:*"))
        lives = await link.run(partial(_lives, keys=keys))
        if time.monotonic() - started < 1.9:
            break  # else the first has expired meanwhile
    assert len(keys) == 2
    assert all(0 < milliseconds <= 2000 for milliseconds in lives)


async def _lives(client: Redis, keys: list[bytes]) -> list[int]:
    return [await client.pttl(key) for key in keys]


async def test_a_frozen_redis_costs_one_deadline_then_memory_counts_on(
    link: RedisLink, redis_server: RedisServer
) -> None:
    limiter = RateLimiter(link)
    for _ in range(6):
        await limiter.hit("x", TEN, "a")
    redis_server.freeze()
    admitted = 0
    with impatient(link):
        async with within(TIMEOUT * 10):  # where each hit had a deadline, it would be twice that
            for _ in range(20):
                admitted += (await limiter.hit("x", TEN, "a")).allowed
    assert admitted == 4, "the outage goes on from what Redis had counted"

    redis_server.thaw()
    await comes_back(link)
    assert (await limiter.hit("x", TEN, "a")).remaining >= 2, "Redis knows six hits and the probe"


async def test_a_killed_redis_degrades_and_comes_back(
    link: RedisLink, redis_server: RedisServer
) -> None:
    limiter = RateLimiter(link)
    redis_server.kill()
    assert sum([(await limiter.hit("x", TEN, "a")).allowed for _ in range(15)]) == 10
    redis_server.start()
    await comes_back(link)
    await limiter.hit("x", TEN, "c")
    assert await link.run(lambda client: client.keys("kingpost:limits:*x/c*"))


def hits_of_one_process(url: str, count: int) -> int:
    """Return how many of `count` hits were admitted; runs in a process of its own."""

    async def hit() -> int:
        link = RedisLink(url, timeout=PATIENCE)
        limiter = RateLimiter(link)
        limits = parse_limits("200/hour")
        decisions = await asyncio.gather(
            *(limiter.hit("shared", limits, "a") for _ in range(count))
        )
        assert not link.breaker.is_open
        await link.close()
        return sum(d.allowed for d in decisions)

    return asyncio.run(hit())


async def test_four_processes_admit_exactly_the_limit(redis_server: RedisServer) -> None:
    def run(pool: Pool) -> list[int]:
        return pool.starmap(hits_of_one_process, [(redis_server.url, 250)] * 4)

    with multiprocessing.get_context("spawn").Pool(4) as pool:
        admitted = await asyncio.to_thread(run, pool)
    assert sum(admitted) == 200


def test_the_window_in_memory_slides() -> None:
    clock = Clock()
    windows = MemoryWindows(clock=clock)
    for _ in range(10):
        assert windows.hit("x", TEN, "a")[0]
    clock.now += 59.9
    assert not windows.hit("x", TEN, "a")[0]
    clock.now += 30.1  # half of the next window: half of the ten still count
    assert [windows.hit("x", TEN, "a")[0] for _ in range(6)] == [True] * 5 + [False]
    clock.now += 120
    assert windows.hit("x", TEN, "a")[1] == [Window(0, 1, 30.0)]


@given(st.floats(min_value=0, max_value=1e9))
@example(8161.962517661547)
def test_a_window_ends_within_its_own_length(now: float) -> None:
    """The end on a clock, less the clock, may be a little more than was added to it."""
    windows = MemoryWindows(clock=lambda: now)
    for _ in range(2):
        _, [window] = windows.hit("login", TEN, "a")
        assert decide(TEN, [window], allowed=True).reset_seconds == 60


def test_memory_is_bounded_and_forgets_what_is_spent() -> None:
    clock = Clock()
    windows = MemoryWindows(max_keys=100, clock=clock)
    for i in range(1000):
        windows.hit("x", TEN, str(i))
    assert len(windows) == 100
    clock.now += 121
    for i in range(60):
        windows.hit("x", TEN, f"later {i}")
    assert len(windows) == 60


@given(
    amount=st.integers(1, 1000),
    previous=st.integers(0, 1000),
    current=st.integers(0, 1000),
    ends_in=st.floats(0.001, 60),
)
def test_retry_after_is_when_there_is_room(
    amount: int, previous: int, current: int, ends_in: float
) -> None:
    items = parse_limits(f"{amount}/minute")
    window = Window(previous, min(current, amount), ends_in)
    if used(window, 60) < amount:
        return
    wait = decide(items, [window], allowed=False).retry_after
    assert wait - 1 <= seconds_until_free(items[0], window) < wait
    later = ends_in - wait
    then = window._replace(ends_in=later)
    if later <= 0:
        then = Window(window.current, 0, 60 + later) if later > -60 else Window(0, 0, 60)
    assert used(then, 60) < amount


async def test_a_hit_in_memory_takes_a_few_microseconds() -> None:
    limiter = RateLimiter(None)
    limits = parse_limits("1000000/minute")
    best = 1.0
    for _ in range(5):
        started = time.process_time()
        for i in range(2000):
            await limiter.hit("x", limits, f"user:{i % 500}")
        best = min(best, (time.process_time() - started) / 2000)
    assert best < 30e-6, "about 5 µs on the machine it was written on"
