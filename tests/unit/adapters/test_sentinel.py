"""A Redis that fails over: three real sentinels, and what a process makes of what they say."""

import asyncio
import signal
import ssl
import time
from collections.abc import AsyncIterator, Iterator

import pytest
from redis.asyncio import BlockingConnectionPool, Redis
from redis.exceptions import RedisError

from app.adapters import sentinel as module
from app.adapters.pubsub import RedisPubSub
from app.adapters.redis import RedisAway, RedisLink
from app.adapters.sentinel import (
    Named,
    NoPrimary,
    PrimaryTLSConnection,
    Sentinels,
    believed,
    open_pool,
)
from app.settings.redis_url import Address, sentinel_url
from tests.sentinels import SERVICE, Watched, watched_redis

from .conftest import TIMEOUT, RedisServer, busy_loop, eventually
from .test_pubsub import running

BACK_WITHIN = 20.0  # seconds; two or three of a machine at rest


@pytest.fixture(scope="module")
def watched() -> Iterator[Watched]:
    with watched_redis() as watched:
        yield watched


@pytest.fixture
async def watched_link(watched: Watched) -> AsyncIterator[RedisLink]:
    link = RedisLink(watched.url, timeout=TIMEOUT)
    yield link
    await link.close()


@pytest.fixture
def next_one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A Redis beside `redis_server`, for it to be a replica of."""
    server = RedisServer(tmp_path_factory.mktemp("next"))
    server.start()
    yield server
    server.kill()


def asker(url: str) -> Sentinels:
    """Return what asks the sentinels of a URL."""
    found = sentinel_url(url)
    assert found
    return Sentinels(found)


async def answers(link: RedisLink) -> float:
    """Call until Redis takes a write; return after how many seconds it did."""
    started = time.monotonic()
    async with asyncio.timeout(BACK_WITHIN):
        while True:
            try:
                await link.run(lambda client: client.incr("kingpost:n"))
            except RedisAway:
                await asyncio.sleep(0.02)
            else:
                return time.monotonic() - started


async def test_a_killed_primary_is_followed_to_the_next_and_so_are_messages(
    watched: Watched, watched_link: RedisLink
) -> None:
    other = RedisLink(watched.url, timeout=TIMEOUT)
    async with running(watched_link) as pubsub, running(other) as listening:
        assert isinstance(listening, RedisPubSub)
        got: list[bytes] = []
        await listening.subscribe("room:a", got.append)
        await answers(watched_link)
        old = watched.primary
        old.end(signal.SIGKILL)
        await answers(watched_link)
        assert await watched.has_moved_from(old) is not old
        async with asyncio.timeout(BACK_WITHIN):
            await listening.wait_ready()
        await pubsub.publish("room:a", b"after")
        await eventually(lambda: got == [b"after"])
    await other.close()


async def test_a_connection_that_finds_itself_on_a_replica_is_dropped(
    redis_server: RedisServer, next_one: RedisServer
) -> None:
    pool = open_pool(BlockingConnectionPool, "redis+sentinel://nobody/main")
    pool.connection_kwargs["sentinels"] = place = Told(("127.0.0.1", redis_server.port))
    client: Redis = Redis.from_pool(pool)
    script = client.register_script("return redis.call('incr', KEYS[1])")
    async with client, Redis(port=redis_server.port) as demoted:
        for write in (lambda: client.incr("n"), lambda: script(["n"]), lambda: piped(client)):
            place.address = ("127.0.0.1", redis_server.port)
            await client.connection_pool.disconnect()
            await client.ping()
            await demoted.slaveof("127.0.0.1", next_one.port)
            try:
                with pytest.raises(RedisError):
                    await write()
                with pytest.raises(RedisError, match="not the primary"):
                    await client.ping()
                place.address = ("127.0.0.1", next_one.port)
                assert await write()
            finally:
                await demoted.slaveof()


async def piped(client: Redis) -> list[int]:
    """Write as arq does."""
    async with client.pipeline(transaction=True) as pipe:
        pipe.incr("n")
        return await pipe.execute()


class Told(Sentinels):
    """Sentinels that say what a test tells them."""

    def __init__(self, address: Address) -> None:
        found = sentinel_url("redis+sentinel://nobody/main")
        assert found
        super().__init__(found)
        self.address = address

    async def _ask_all(self) -> Address:
        return self.address


async def test_connections_elsewhere_are_cut_when_the_primary_has_moved(
    redis_server: RedisServer, next_one: RedisServer
) -> None:
    link = RedisLink("redis+sentinel://nobody/main", timeout=TIMEOUT)
    link.pool.connection_kwargs["sentinels"] = place = Told(("127.0.0.1", redis_server.port))
    listener = link.new_listener()
    await listener.connect()  # type: ignore[no-untyped-call]
    await asyncio.gather(*(link.run(lambda client: client.ping()) for _ in range(8)))
    redis_server.freeze()  # as one whose machine has vanished: no end of any connection
    place.address = ("127.0.0.1", next_one.port)
    reading = asyncio.create_task(listener.read_response())
    with pytest.raises(RedisAway):
        await link.run(lambda client: client.ping())
    link.breaker.succeeded()  # as when its second is over
    assert await link.run(lambda client: client.ping())
    # One connection has cost its deadline; the seven others cost none.
    await asyncio.gather(*(link.run(lambda client: client.ping()) for _ in range(8)))
    with pytest.raises(RedisError):
        async with asyncio.timeout(5):
            await reading
    await link.close()


async def test_a_sentinel_that_hangs_costs_no_deadline(watched: Watched) -> None:
    primary = ("127.0.0.1", watched.primary_port)
    for hanging in watched.sentinels:
        hanging.process.send_signal(signal.SIGSTOP)
        try:
            started = time.monotonic()
            assert await asker(watched.url).primary() == primary
            assert time.monotonic() - started < module.ASK_SECONDS / 2
        finally:
            hanging.process.send_signal(signal.SIGCONT)


async def test_of_many_that_want_to_know_at_once_one_asks(watched: Watched) -> None:
    def asked() -> int:
        return int(watched.info(watched.sentinels[0])["total_connections_received"])

    sentinels = asker(watched.url)
    before = asked()
    await asyncio.gather(*(sentinels.primary() for _ in range(50)))
    # The others came while it asked, and want an answer that was begun after they came: one more.
    assert asked() - before <= 2 + 1  # and who counts


async def test_why_there_is_no_primary_is_told(watched: Watched) -> None:
    url = watched.url
    cases = {
        url.replace(SERVICE, "another"): module.NOT_KNOWN,
        url.partition("?")[0]: module.NOT_ADMITTED,
        f"{url}x": module.NOT_ADMITTED,
        "redis+sentinel://127.0.0.1:1,127.0.0.1:2/main": module.NO_ANSWER,
    }
    for each, reason in cases.items():
        with pytest.raises(NoPrimary, match=reason.partition("(")[0]):
            await asker(each).primary()


def test_by_tls_one_context_serves_them_all() -> None:
    url = "rediss+sentinel://one,two/main?ssl_cert_reqs=none"
    pool = open_pool(BlockingConnectionPool, url)
    one, other = pool.make_connection(), pool.make_connection()  # type: ignore[no-untyped-call]
    assert isinstance(one, PrimaryTLSConnection)
    assert one.ssl_context is other.ssl_context is pool.connection_kwargs["sentinels"].tls
    assert one.ssl_context.cert_reqs == ssl.CERT_NONE


def test_the_latest_election_counts() -> None:
    old, new = ("10.0.0.1", 6379), ("10.0.0.2", 6379)
    assert believed([Named(1, True, old), Named(2, True, new), module.NO_ANSWER]) == new
    assert believed([Named(2, False, new), Named(2, True, new)]) == new
    with pytest.raises(NoPrimary, match="down"):
        believed([Named(1, True, old), Named(2, False, new)])


async def test_connecting_by_sentinels_is_not_blamed_for_a_busy_loop(watched: Watched) -> None:
    link = RedisLink(watched.url, timeout=0.02)
    try:
        with busy_loop():
            assert await link.run(lambda client: client.incr("kingpost:busy")) >= 1
    finally:
        await link.close()
