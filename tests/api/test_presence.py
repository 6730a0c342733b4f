"""Who is in a room: people and not sockets, right over several workers, whatever dies."""

import asyncio
import json
import os
import random
import secrets
import signal
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from fastapi import FastAPI
from httpx import AsyncClient

from app.adapters.redis import RedisLink, open_redis
from app.events import presence
from app.events.presence import Count, Presence
from app.settings import Settings
from tests.api.live import Socket, listening
from tests.backends import Place
from tests.conftest import MakeApp
from tests.factories import Tokens, new_user
from tests.faults.conftest import producing
from tests.live_server import LiveServer, serving
from tests.patience import PATIENCE
from tests.processes import Service

GONE_WITHIN = presence.LIFE_SECONDS + presence.HEARTBEAT_SECONDS
MARGIN = 20.0  # seconds; the machine may be busy with other tests


async def told(live: Socket) -> tuple[str, int | None, int]:
    """Return who came or went next, and how many there were then."""
    async with asyncio.timeout(PATIENCE):
        while True:
            message = json.loads(await live.raw.recv())
            if message["type"] == "presence":
                return message["action"], message["user_id"], message["count"]


async def first_left(live: Socket, *, within: float) -> tuple[str, int | None, int]:
    """Return who left first; from another worker it may be told late who came."""
    async with asyncio.timeout(within):
        while (news := await told(live))[0] != "left":
            pass
    return news


async def test_a_person_is_counted_once_however_many_sockets(
    server: LiveServer, client: AsyncClient
) -> None:
    one, other = await new_user(client), await new_user(client)
    room = f"room:p{one.account.id}"
    async with listening(server, one) as first:
        assert await first.join(room) == 1
        async with listening(server, other) as second:
            assert await second.join(room) == 2
            async with listening(server, other) as third:
                assert await third.join(room) == 2
                await third.send(action="unsubscribe", channel=room)
                await third.until("unsubscribed")
            assert await told(first) == ("joined", other.account.id, 2)
            assert await first.is_quiet()  # of the second socket nothing was told
        assert await told(first) == ("left", other.account.id, 1)


@pytest.mark.only("production")
async def test_who_reconnects_to_another_worker_is_counted_once(
    make_app: MakeApp, client: AsyncClient
) -> None:
    one, other = await new_user(client), await new_user(client)
    room = f"room:p{one.account.id}"
    async with (
        serving(await make_app()) as here,
        serving(await make_app()) as there,
        listening(here, one) as watcher,
    ):
        await watcher.join(room)
        async with listening(here, other) as before:
            assert await before.join(room) == 2
            assert await told(watcher) == ("joined", other.account.id, 2)
            async with listening(there, other) as after:  # the old socket is not gone yet
                assert await after.join(room) == 2
                await before.send(action="unsubscribe", channel=room)
                await before.until("unsubscribed")
                assert await watcher.is_quiet()
        assert await told(watcher) == ("left", other.account.id, 1)


async def test_of_two_counts_the_later_is_told_whichever_comes_first(
    app: FastAPI, server: LiveServer, client: AsyncClient
) -> None:
    tokens = await new_user(client)
    room = f"room:p{tokens.account.id}"
    hub = app.state.resources.hub
    async with listening(server, tokens) as live:
        await live.join(room)
        moment = 2**52
        for number, people in ((2, 7), (1, 6)):
            counted = Count(people, 1, moment + number)
            await hub._announce(room, counted, "joined", number)
        assert await told(live) == ("joined", 2, 7)
        assert await told(live) == ("joined", 1, 7)


@pytest.fixture
async def links(settings: Settings) -> AsyncIterator[list[RedisLink]]:
    """Three ways to the test's Redis, as three workers have them."""
    found = [link for link in (open_redis(settings) for _ in range(3)) if link]
    yield found
    for link in found:
        await link.close()


@pytest.fixture
def room() -> str:
    return f"room:{secrets.token_hex(6)}"


@pytest.mark.only("production")
async def test_counts_are_exact_whoever_comes_and_goes_at_once(
    links: list[RedisLink], room: str
) -> None:
    workers = [Presence(link) for link in links]
    stay: Counter[tuple[int, int]] = Counter()

    async def come_and_go(number: int) -> None:
        worker, user = random.randrange(len(workers)), random.randrange(1, 30)
        await workers[worker].change(room, user, +1)
        await asyncio.sleep(random.random() * 0.05)
        if number % 3:
            await workers[worker].change(room, user, -1)
        else:
            stay[worker, user] += 1

    await asyncio.gather(*(come_and_go(number) for number in range(600)))
    people = {user for _, user in stay}
    count = await workers[0].change(room, 99, +1)
    assert count.people == len(people | {99})
    for worker, user in list(stay.elements()):
        await workers[worker].change(room, user, -1)
    assert (await workers[0].change(room, 99, -1)).people == 0


@pytest.mark.only("production")
async def test_a_dead_worker_s_people_are_gone_and_nobody_else_s(
    links: list[RedisLink], room: str
) -> None:
    alive, dead, third = [Presence(link) for link in links]
    for worker, user in ((alive, 1), (alive, 2), (dead, 2), (dead, 3), (dead, 3), (third, 4)):
        await worker.change(room, user, +1)
    assert [await worker.beat() for worker in (alive, dead, third)] == [[], [], []]
    long_ago = -2 * presence.LIFE_SECONDS * 1e6
    await links[0].client.zincrby(f"{presence._PREFIX}beats", long_ago, dead._process)
    found = [*await alive.beat(), *await third.beat()]
    # Told once, by one.
    assert [(each.room, each.user_id, each.counted.people) for each in found] == [(room, None, 3)]
    assert [*await alive.beat(), *await third.beat()] == []
    assert (await alive.change(room, 1, -1))[:2] == (2, 0)
    assert (await alive.change(room, 2, -1))[:2] == (1, 0)
    # It was only frozen: what it has stands again with its next beat.
    assert [(each.room, each.counted.people) for each in await dead.beat()] == [(room, 3)]
    assert (await third.change(room, 4, -1)).people == 2


@pytest.mark.only("production")
async def test_what_redis_forgot_is_told_again(
    links: list[RedisLink], room: str, clean_database: Place
) -> None:
    one, other, _ = [Presence(link) for link in links]
    await one.change(room, 1, +1)
    await other.change(room, 2, +1)
    await links[0].client.flushdb()
    assert (await one.change(room, 3, +1)).people == 1
    await one.beat()
    await other.beat()
    assert (await one.change(room, 3, -1)).people == 2


@pytest.mark.only("production")
async def test_who_left_while_redis_was_away_is_gone_with_the_next_beat(
    links: list[RedisLink], room: str
) -> None:
    one, other, _ = [Presence(link) for link in links]
    await one.change(room, 1, +1)
    await other.change(room, 2, +1)
    links[0].breaker.failed()
    assert await one.change(room, 1, -1) == Count(0, 0, 0)
    links[0].breaker.succeeded()
    assert [(each.room, each.user_id) for each in await one.beat()] == [(room, 1)]
    assert (await other.change(room, 3, +1)).people == 2


def worker_of(service: Service, live: Socket) -> int:
    """Return the process id of the worker that a socket is connected to."""
    port = live.raw.transport.get_extra_info("sockname")[1]
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    ends = f":{service.port:04X}", f":{port:04X}"
    inode = next(row[9] for row in rows if row[1].endswith(ends[0]) and row[2].endswith(ends[1]))
    for pid in service.workers:
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            if str(entry.readlink()) == f"socket:[{inode}]":
                return pid
    raise LookupError("no worker has it")


@pytest.mark.system
@pytest.mark.only("production")
@pytest.mark.usefixtures("clean_database")
async def test_a_killed_worker_s_people_are_gone_within_the_promised_time(
    settings: Settings,
) -> None:
    async with (
        producing(settings, workers=3, REDIS_TIMEOUT="5") as production,
        AsyncExitStack() as stack,
    ):
        client = await stack.enter_async_context(production.client())
        server = LiveServer(production.url)
        here: defaultdict[int, list[tuple[Tokens, Socket]]] = defaultdict(list)
        for number in range(24):
            tokens = await new_user(client)
            live = await stack.enter_async_context(listening(server, tokens))
            assert await live.join("room:all") == number + 1
            here[worker_of(production.service, live)].append((tokens, live))
        assert len(here) > 1
        victims = here.pop(next(iter(here)))
        survivors = [live for group in here.values() for _, live in group]
        os.kill(worker_of(production.service, victims[0][1]), signal.SIGKILL)
        news = [await first_left(live, within=GONE_WITHIN + MARGIN) for live in survivors]
        assert set(news) == {("left", None, len(survivors))}
        # Who was on the dead worker comes back, to another: counted once, and nobody is missing.
        for number, (tokens, _) in enumerate(victims, 1):
            again = await stack.enter_async_context(listening(server, tokens))
            assert await again.join("room:all") == len(survivors) + number
