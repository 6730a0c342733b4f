"""Messages between processes: delivery, coming back after a loss, and the clean end."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from app.adapters import pubsub as module
from app.adapters.pubsub import LocalPubSub, PubSub, RedisPubSub, open_pubsub
from app.adapters.redis import RedisLink
from tests.patience import PATIENCE, within

from .conftest import MARGIN, ROUNDS, TIMEOUT, RedisServer, eventually, impatient


@asynccontextmanager
async def running(link: RedisLink | None) -> AsyncIterator[PubSub]:
    """Run a pub/sub as the lifespan does."""
    pubsub = open_pubsub(link)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(pubsub.run())
        async with asyncio.timeout(PATIENCE):
            await pubsub.wait_ready()
        yield pubsub
        await pubsub.close()


@asynccontextmanager
async def worker(server: RedisServer) -> AsyncIterator[PubSub]:
    """Run the pub/sub of one more process."""
    link = RedisLink(server.url, timeout=PATIENCE)
    async with running(link) as pubsub:
        yield pubsub
    await link.close()


@pytest.fixture
async def pair(redis_server: RedisServer) -> AsyncIterator[tuple[PubSub, PubSub]]:
    async with AsyncExitStack() as stack:
        one = await stack.enter_async_context(worker(redis_server))
        other = await stack.enter_async_context(worker(redis_server))
        yield one, other


async def test_within_one_process_messages_arrive_before_publish_returns() -> None:
    async with running(None) as pubsub:
        assert isinstance(pubsub, LocalPubSub)
        got: list[bytes] = []
        await pubsub.subscribe("room:a", got.append)
        await pubsub.publish("room:a", b"1")
        pubsub.notify("room:a")
        await pubsub.publish("room:b", b"2")
        assert got == [b"1", b""]
        await pubsub.unsubscribe("room:a", got.append)
        await pubsub.publish("room:a", b"3")
        assert got == [b"1", b""]


async def test_every_process_gets_each_message_once_and_in_order(
    pair: tuple[PubSub, PubSub],
) -> None:
    got: list[list[bytes]] = [[], []]
    for pubsub, received in zip(pair, got, strict=True):
        await pubsub.subscribe("room:a", received.append)
    for number in range(100):
        await pair[0].publish("room:a", b"%d" % number)
    expected = [b"%d" % number for number in range(100)]
    assert got[0] == expected
    await eventually(lambda: len(got[1]) == 100)
    await pair[1].publish("room:a", b"back")
    await eventually(lambda: got[0][-1] == b"back")
    assert got == [[*expected, b"back"]] * 2


async def test_through_a_unix_socket_too(redis_server: RedisServer) -> None:
    link = RedisLink(redis_server.socket_url, timeout=TIMEOUT)
    got: list[bytes] = []
    async with worker(redis_server) as other, running(link) as pubsub:
        await pubsub.subscribe("room:a", got.append)
        await other.publish("room:a", b"1")
        await eventually(lambda: got == [b"1"])
    await link.close()


async def test_one_that_unsubscribed_gets_no_more_and_others_do(
    pair: tuple[PubSub, PubSub],
) -> None:
    first: list[bytes] = []
    second: list[bytes] = []
    await pair[1].subscribe("room:a", first.append)
    await pair[1].subscribe("room:a", second.append)
    await pair[1].unsubscribe("room:a", first.append)
    await pair[0].publish("room:a", b"1")
    await eventually(lambda: second == [b"1"])
    await pair[1].unsubscribe("room:a", second.append)
    await pair[1].subscribe("room:a", second.append)
    await pair[0].publish("room:a", b"2")
    await eventually(lambda: second == [b"1", b"2"])
    assert first == []


async def test_many_wake_ups_at_once_are_few_messages(pair: tuple[PubSub, PubSub]) -> None:
    got: list[bytes] = []
    await pair[1].subscribe("events", got.append)
    for _ in range(1000):
        pair[0].notify("events")
    await eventually(lambda: bool(got))
    await pair[0].publish("events", b"end")
    await eventually(lambda: got[-1] == b"end")
    assert len(got) <= 3


async def test_a_subscriber_that_raises_does_not_harm_the_others() -> None:
    got: list[bytes] = []

    def fail(_: bytes) -> None:
        raise RuntimeError("no")

    pubsub = LocalPubSub()
    await pubsub.subscribe("a", fail)
    await pubsub.subscribe("a", got.append)
    await pubsub.publish("a", b"1")
    assert got == [b"1"]


async def test_after_a_restart_of_redis_subscriptions_are_there_again(
    pair: tuple[PubSub, PubSub], redis_server: RedisServer
) -> None:
    got: list[bytes] = []
    own: list[bytes] = []
    await pair[1].subscribe("room:a", got.append)
    await pair[0].subscribe("room:a", own.append)
    redis_server.kill()
    await pair[0].publish("room:a", b"lost to others")
    late: list[bytes] = []
    await pair[1].subscribe("room:late", late.append)
    assert own == [b"lost to others"]
    redis_server.start()
    async with asyncio.timeout(PATIENCE):
        await pair[1].wait_ready()
        while not (got and late):
            await pair[0].publish("room:a", b"again")
            await pair[0].publish("room:late", b"new")
            await asyncio.sleep(0.05)
    assert set(got) == {b"again"}


async def test_a_frozen_redis_holds_nobody_up_and_goes_on_afterwards(
    pair: tuple[PubSub, PubSub], redis_server: RedisServer
) -> None:
    got: list[bytes] = []
    await pair[1].subscribe("room:a", got.append)
    redis_server.freeze()
    assert isinstance(pair[0], RedisPubSub)
    loop = asyncio.get_running_loop()
    took = []
    with impatient(pair[0]._link):
        for _ in range(ROUNDS):
            pair[0]._link.breaker.succeeded()
            started = loop.time()
            for _ in range(10):
                await pair[0].publish("room:a", b"meanwhile")
            took.append(loop.time() - started)
    assert min(took) < TIMEOUT + MARGIN
    redis_server.thaw()
    async with asyncio.timeout(PATIENCE):
        while b"again" not in got:
            await pair[0].publish("room:a", b"again")
            await asyncio.sleep(0.05)


async def test_subscribing_waits_for_redis_but_not_for_a_frozen_one(
    pair: tuple[PubSub, PubSub], redis_server: RedisServer
) -> None:
    got: list[bytes] = []
    redis_server.freeze()
    loop = asyncio.get_running_loop()
    started = loop.time()
    async with within(module.CONFIRM_SECONDS + 2):
        await pair[1].subscribe("room:a", got.append)
    assert loop.time() - started > module.CONFIRM_SECONDS * 0.9
    redis_server.thaw()
    async with asyncio.timeout(PATIENCE):
        while not got:
            await pair[0].publish("room:a", b"1")
            await asyncio.sleep(0.05)


async def test_a_connection_that_has_gone_silent_is_replaced(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "QUIET_SECONDS", 0.1)
    async with worker(redis_server) as pubsub:
        assert isinstance(pubsub, RedisPubSub)
        first = pubsub._connection
        await asyncio.sleep(0.35)
        assert pubsub._connection is first, "a PING is answered, so it is kept"
        redis_server.freeze()
        await eventually(lambda: pubsub._connection is not first)
        redis_server.thaw()
        async with asyncio.timeout(PATIENCE):
            await pubsub.wait_ready()


async def test_closing_ends_the_run_also_while_redis_is_away(redis_server: RedisServer) -> None:
    link = RedisLink(redis_server.url, timeout=TIMEOUT)
    redis_server.kill()
    pubsub = open_pubsub(link)
    run = asyncio.create_task(pubsub.run())
    await asyncio.sleep(0.05)
    await pubsub.close()
    async with within(1):
        await run
    await link.close()
