"""The cache: one computation for many, one write to forget, no harm when Redis is away."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from app.adapters.cache import Cache, MemoryBackend, Outcome, entity_tag, open_cache
from app.adapters.redis import RedisLink
from tests.patience import PATIENCE, within

from .conftest import TIMEOUT, RedisServer, eventually, impatient
from .test_redis import Clock, comes_back


class Computation:
    """Counts its runs; each answers with the run's number, once it is let go."""

    def __init__(self) -> None:
        self.runs = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self) -> bytes:
        self.runs += 1
        run = self.runs
        await self.gate.wait()
        return b"run %d" % run


@pytest.fixture
def compute() -> Computation:
    return Computation()


@pytest.fixture(params=["memory", "redis"])
async def cache(request: pytest.FixtureRequest, redis_server: RedisServer) -> AsyncIterator[Cache]:
    link = RedisLink(redis_server.url, timeout=PATIENCE) if request.param == "redis" else None
    cache = open_cache(link)
    yield cache
    await cache.close()
    if link:
        await link.close()


async def test_the_second_call_is_a_hit_with_the_same_entity_tag(
    cache: Cache, compute: Computation
) -> None:
    outcomes: list[tuple[str, Outcome]] = []
    cache._on_lookup = lambda namespace, outcome: outcomes.append((namespace, outcome))
    first = await cache.get_or_compute("stats", "a", 30, compute)
    second = await cache.get_or_compute("stats", "a", 30, compute)
    assert first == second == (b"run 1", entity_tag(b"run 1"))
    assert first.etag.startswith('"')
    assert outcomes == [("stats", "miss"), ("stats", "hit")]


async def test_any_bytes_come_back_as_they_were(cache: Cache) -> None:
    body = b'{"a":1}\n\x00\xff"' * 3

    async def compute() -> bytes:
        return body

    for _ in range(2):
        assert (await cache.get_or_compute("n", "k", 30, compute)).body == body


async def test_thirty_misses_at_once_compute_once(cache: Cache, compute: Computation) -> None:
    entries = await asyncio.gather(
        *(cache.get_or_compute("stats", "a", 30, compute) for _ in range(30))
    )
    assert compute.runs == 1
    assert len(set(entries)) == 1


async def test_a_miss_that_was_seen_just_before_the_entry_was_stored_is_not_computed_again(
    compute: Computation,
) -> None:
    asked, answer = asyncio.Event(), asyncio.Event()

    class SlowToAnswerTheFirst(MemoryBackend):
        async def get_both(self, first: str, second: str) -> tuple[bytes | None, bytes | None]:
            found = await super().get_both(first, second)
            if not asked.is_set():
                asked.set()
                await answer.wait()
            return found

    backend = SlowToAnswerTheFirst()
    await backend.set("kingpost:cache-version:n", b"v" * 16)
    cache = Cache(backend)
    slow = asyncio.create_task(cache.get_or_compute("n", "a", 30, compute))
    await asked.wait()
    quick = await cache.get_or_compute("n", "a", 30, compute)
    answer.set()
    assert await slow == quick
    assert compute.runs == 1


async def test_keys_and_namespaces_are_apart(cache: Cache, compute: Computation) -> None:
    bodies = {
        (await cache.get_or_compute(namespace, key, 30, compute)).body
        for namespace in ("n", "m")
        for key in ("a", "b", "a:b")
    }
    assert len(bodies) == 6


async def test_an_invalidated_namespace_is_computed_again_and_others_are_not(
    cache: Cache, compute: Computation
) -> None:
    await cache.get_or_compute("n", "a", 30, compute)
    kept = await cache.get_or_compute("m", "a", 30, compute)
    await cache.invalidate("n")
    assert (await cache.get_or_compute("n", "a", 30, compute)).body == b"run 3"
    assert await cache.get_or_compute("m", "a", 30, compute) == kept


async def test_what_was_being_computed_before_an_invalidation_is_neither_served_nor_kept(
    cache: Cache, compute: Computation
) -> None:
    compute.gate.clear()
    early = asyncio.create_task(cache.get_or_compute("n", "a", 30, compute))
    await eventually(lambda: compute.runs == 1)
    await cache.invalidate("n")
    late = asyncio.create_task(cache.get_or_compute("n", "a", 30, compute))
    await eventually(lambda: compute.runs == 2)
    compute.gate.set()
    assert (await early).body == b"run 1"
    assert (await late).body == b"run 2"
    assert (await cache.get_or_compute("n", "a", 30, compute)).body == b"run 2"


async def test_a_client_that_hangs_up_does_not_end_the_computation(
    cache: Cache, compute: Computation
) -> None:
    compute.gate.clear()
    first = asyncio.create_task(cache.get_or_compute("n", "a", 30, compute))
    second = asyncio.create_task(cache.get_or_compute("n", "a", 30, compute))
    await eventually(lambda: compute.runs == 1)
    first.cancel()
    compute.gate.set()
    assert (await second).body == b"run 1"
    assert compute.runs == 1


async def test_an_error_reaches_everyone_and_is_not_kept(
    cache: Cache, compute: Computation
) -> None:
    async def fail() -> bytes:
        await asyncio.sleep(0)
        raise LookupError("no")

    results = await asyncio.gather(
        *(cache.get_or_compute("n", "a", 30, fail) for _ in range(3)), return_exceptions=True
    )
    assert [type(result) for result in results] == [LookupError] * 3
    assert (await cache.get_or_compute("n", "a", 30, compute)).body == b"run 1"


async def test_two_workers_share_entries_tags_and_invalidations(
    link: RedisLink, redis_server: RedisServer, compute: Computation
) -> None:
    other_link = RedisLink(redis_server.url, timeout=PATIENCE)
    one, other = open_cache(link), open_cache(other_link)
    first = await one.get_or_compute("n", "a", 30, compute)
    assert await other.get_or_compute("n", "a", 30, compute) == first
    await other.invalidate("n")
    assert (await one.get_or_compute("n", "a", 30, compute)).body == b"run 2"
    await other_link.close()


async def test_an_entry_expires(link: RedisLink, compute: Computation) -> None:
    await open_cache(link).get_or_compute("n", "a", 30, compute)
    entries = await link.run(lambda client: client.keys("kingpost:cache:*"))
    assert 0 < await link.run(lambda client: client.ttl(entries[0])) <= 30


async def test_a_frozen_redis_costs_one_deadline_and_answers_are_computed(
    link: RedisLink, redis_server: RedisServer, compute: Computation
) -> None:
    cache = open_cache(link)
    await cache.get_or_compute("n", "a", 30, compute)
    redis_server.freeze()
    with impatient(link):
        async with within(TIMEOUT * 10):  # where each look had a deadline, it would be twice that
            for run in range(2, 22):
                entry = await cache.get_or_compute("n", "a", 30, compute)
                assert entry.body == b"run %d" % run


async def test_without_redis_an_earlier_computation_is_not_served_after_an_invalidation(
    link: RedisLink, redis_server: RedisServer, compute: Computation
) -> None:
    redis_server.kill()
    cache = open_cache(link)
    compute.gate.clear()
    early = asyncio.create_task(cache.get_or_compute("n", "a", 30, compute))
    joined = asyncio.create_task(cache.get_or_compute("n", "a", 30, compute))
    await eventually(lambda: compute.runs == 1)
    await cache.invalidate("n")
    late = asyncio.create_task(cache.get_or_compute("n", "a", 30, compute))
    await eventually(lambda: compute.runs == 2)
    compute.gate.set()
    assert [(await task).body for task in (early, joined, late)] == [b"run 1", b"run 1", b"run 2"]


async def test_an_invalidation_that_redis_missed_is_made_up_for(
    link: RedisLink, compute: Computation
) -> None:
    cache = open_cache(link)
    await cache.get_or_compute("n", "a", 30, compute)
    link.breaker.failed()
    await cache.invalidate("n")
    assert (await cache.get_or_compute("n", "a", 30, compute)).body == b"run 2"
    link.breaker.succeeded()
    assert (await cache.get_or_compute("n", "a", 30, compute)).body == b"run 3"


async def test_a_restarted_redis_is_an_empty_cache(
    link: RedisLink, redis_server: RedisServer, compute: Computation
) -> None:
    cache = open_cache(link)
    await cache.get_or_compute("n", "a", 30, compute)
    redis_server.kill()
    assert (await cache.get_or_compute("n", "a", 30, compute)).body == b"run 2"
    redis_server.start()
    await comes_back(link)
    assert (await cache.get_or_compute("n", "a", 30, compute)).body == b"run 3"
    assert (await cache.get_or_compute("n", "a", 30, compute)).body == b"run 3"


async def test_closing_ends_what_is_being_computed(compute: Computation) -> None:
    cache = open_cache(None)
    compute.gate.clear()
    waiting = asyncio.create_task(cache.get_or_compute("n", "a", 30, compute))
    await eventually(lambda: compute.runs == 1)
    await cache.close()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_memory_keeps_what_was_used_last_within_its_bound() -> None:
    backend = MemoryBackend(max_bytes=300)
    for key in ("a", "b", "c"):
        await backend.set(key, b"x" * 100, 60)
    await backend.get("a")
    await backend.set("d", b"x" * 100, 60)
    assert await backend.get_both("a", "d") == (b"x" * 100, b"x" * 100)
    assert await backend.get_both("b", "c") == (None, b"x" * 100)
    await backend.set("huge", b"x" * 1000, 60)
    assert await backend.get("huge") is None


async def test_memory_forgets_what_has_expired() -> None:
    clock = Clock()
    backend = MemoryBackend(clock=clock)
    await backend.set("a", b"1", 10)
    assert await backend.get_with_ttl("a") == (10, b"1")
    clock.now += 10
    assert await backend.get_with_ttl("a") == (0, None)


async def test_memory_clears_by_namespace_or_key() -> None:
    backend = MemoryBackend()
    for key in ("n:a", "n:b", "m:a"):
        await backend.set(key, b"1")
    assert await backend.clear(namespace="n:") == 2
    assert await backend.clear(key="m:a") == 1
    assert await backend.get("m:a") is None
