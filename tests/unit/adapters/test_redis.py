"""The link to Redis: its deadline, its breaker, and what it costs when Redis is away."""

import asyncio
import time

import pytest

from app.adapters.redis import Breaker, Deadline, RedisAway, RedisLink, open_redis
from app.settings import Settings
from tests.patience import PATIENCE

from .conftest import MARGIN, ROUNDS, TIMEOUT, RedisServer, busy_loop, impatient


class Clock:
    """A clock that stands still until it is moved."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_closed_breaker_admits_everyone() -> None:
    breaker = Breaker()
    assert all(breaker.admits() for _ in range(3))
    assert not breaker.is_open


def test_an_open_breaker_admits_one_probe_a_second_until_one_succeeds() -> None:
    clock = Clock()
    breaker = Breaker(open_seconds=1.0, clock=clock)
    breaker.failed()
    assert breaker.is_open
    assert not breaker.admits()
    clock.now += 1.0
    assert [breaker.admits() for _ in range(3)] == [True, False, False]
    clock.now += 1.0
    assert [breaker.admits() for _ in range(2)] == [True, False]
    breaker.succeeded()
    assert breaker.admits()
    assert not breaker.is_open


def test_a_failed_probe_keeps_it_open_for_another_second() -> None:
    clock = Clock()
    breaker = Breaker(open_seconds=1.0, clock=clock)
    breaker.failed()
    clock.now += 1.5
    assert breaker.admits()
    breaker.failed()
    clock.now += 0.9
    assert not breaker.admits()


async def test_a_deadline_ends_what_takes_too_long() -> None:
    with pytest.raises(TimeoutError):
        async with Deadline(0.01):
            await asyncio.sleep(5)


async def test_a_deadline_leaves_a_cancellation_from_outside_alone() -> None:
    async def wait() -> None:
        async with Deadline(5):
            await asyncio.sleep(5)

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_deadline_does_not_blame_redis_for_a_busy_loop() -> None:
    answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def hold_up_the_loop() -> None:
        time.sleep(0.05)
        asyncio.get_running_loop().call_soon(answer.set_result, "came in the meantime")

    asyncio.get_running_loop().call_soon(hold_up_the_loop)
    async with Deadline(0.02):
        assert await answer == "came in the meantime"


async def test_a_frozen_redis_costs_one_deadline_and_then_nothing(
    link: RedisLink, redis_server: RedisServer
) -> None:
    await link.run(lambda client: client.set("kingpost:a", 1))
    redis_server.freeze()
    firsts, seconds = [], []
    with impatient(link):
        for _ in range(ROUNDS):
            link.breaker.succeeded()
            firsts.append(await timed_failure(link))
            seconds.append(await timed_failure(link))
    assert TIMEOUT <= min(firsts) < TIMEOUT + MARGIN
    assert min(seconds) < TIMEOUT / 10
    redis_server.thaw()
    await comes_back(link)


async def test_forty_callers_at_once_share_the_deadline(
    link: RedisLink, redis_server: RedisServer
) -> None:
    redis_server.freeze()
    longest = []
    with impatient(link):
        for _ in range(ROUNDS):
            link.breaker.succeeded()
            started = time.perf_counter()
            await asyncio.gather(*(timed_failure(link) for _ in range(40)))
            longest.append(time.perf_counter() - started)
    assert min(longest) < TIMEOUT + MARGIN


async def test_a_killed_redis_is_found_again_after_its_restart(
    link: RedisLink, redis_server: RedisServer
) -> None:
    await link.run(lambda client: client.set("kingpost:a", 1))
    redis_server.kill()
    await timed_failure(link)
    assert not await link.is_alive()
    redis_server.start()
    assert await link.is_alive()
    await comes_back(link)


async def test_the_loop_turns_while_redis_is_frozen(
    link: RedisLink, redis_server: RedisServer
) -> None:
    redis_server.freeze()
    gaps: list[float] = []

    async def tick() -> None:
        while True:
            started = time.perf_counter()
            await asyncio.sleep(0.001)
            gaps[-1] = max(gaps[-1], time.perf_counter() - started)

    ticker = asyncio.create_task(tick())
    with impatient(link):
        for _ in range(ROUNDS):
            gaps.append(0.0)
            link.breaker.succeeded()
            await asyncio.gather(*(timed_failure(link) for _ in range(20)))
    ticker.cancel()
    assert 0 < min(gaps) < TIMEOUT / 2


async def test_more_callers_than_connections_wait_for_one(redis_server: RedisServer) -> None:
    patient = RedisLink(redis_server.url, timeout=10)  # how long they wait is no matter here
    counts = await asyncio.gather(
        *(patient.run(lambda client: client.incr("kingpost:n")) for _ in range(200))
    )
    assert sorted(counts) == list(range(1, 201))
    await patient.close()


async def test_connecting_is_not_blamed_for_a_busy_loop(redis_server: RedisServer) -> None:
    link = RedisLink(redis_server.url, timeout=0.02)
    with busy_loop():
        assert await link.run(lambda client: client.incr("kingpost:n")) == 1
    await link.close()


def test_without_a_url_there_is_no_redis() -> None:
    assert open_redis(Settings(redis_url=None)) is None


async def test_the_service_starts_while_redis_is_away() -> None:
    link = open_redis(Settings(redis_url="redis://127.0.0.1:1/0"))
    assert link is not None
    with pytest.raises(RedisAway):
        await link.run(lambda client: client.ping())
    await link.close()


async def timed_failure(link: RedisLink) -> float:
    """Return how long a refused call took, in seconds."""
    started = time.perf_counter()
    with pytest.raises(RedisAway):
        await link.run(lambda client: client.get("kingpost:a"))
    return time.perf_counter() - started


async def comes_back(link: RedisLink) -> None:
    """Call until Redis answers again, before long."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                await link.run(lambda client: client.set("kingpost:b", 1))
            except RedisAway:
                await asyncio.sleep(0.02)
            else:
                return
