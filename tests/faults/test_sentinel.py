"""The primary of Redis killed, frozen and asked to step back under two workers and a job worker."""

import asyncio
import signal
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass

import httpx
import pytest
from fastapi import FastAPI

from app.doctor.peers import WORKER_KEY
from tests.api.live import Socket, socket
from tests.api.test_production_start import environment
from tests.conftest import MakeApp, MakeSettings
from tests.factories import new_user
from tests.faults.conftest import loading
from tests.faults.servers import OwnServer
from tests.faults.test_jobs import enqueue, number_of, tables, worker
from tests.live_server import LiveServer
from tests.processes import gunicorn
from tests.sentinels import Watched, watched_redis

pytestmark = [
    pytest.mark.system,
    pytest.mark.only("production"),
    pytest.mark.usefixtures("clean_database"),
]

LIMIT = 10  # exports an hour, of each user
SOCKETS = 8  # in one room; that all were on one of the two workers happens in 1 of 128 cases
JOBS = 200  # around each failover
BACK_WITHIN = 60.0  # seconds, of a busy machine
PATIENT = {"REDIS_TIMEOUT": "0.25"}


@dataclass
class Served:
    """The service on a Redis that is watched."""

    url: str
    redis: Watched

    def client(self) -> httpx.AsyncClient:
        """Return a client to use in `async with`."""
        return httpx.AsyncClient(base_url=self.url, timeout=20)


@pytest.fixture
def redis() -> Iterator[Watched]:
    with watched_redis(replicas=2, down_after_ms=1000) as watched:
        yield watched


@pytest.fixture
def served(make_settings: MakeSettings, redis: Watched) -> Iterator[Served]:
    settings = make_settings(redis_url=redis.url)
    variables = environment(settings) | {
        "RATE_LIMITS_ENABLED": "true",
        "RATE_LIMIT_DEFAULT": "10000000/minute",
        "RATE_LIMIT_REGISTER": "10000/minute",
        "RATE_LIMIT_LOGIN": "10000/minute",
        "RATE_LIMIT_EXPORT": f"{LIMIT}/hour",
    }
    with (
        worker(settings, **PATIENT, SECRET_KEY=variables["SECRET_KEY"]),
        gunicorn("kingpost", "app.main:app", variables | PATIENT) as service,
    ):
        yield Served(f"http://127.0.0.1:{service.port}", redis)


@pytest.fixture
async def app(make_app: MakeApp, redis: Watched) -> FastAPI:
    """One more process that queues jobs."""
    return await make_app(run_jobs="worker", redis_url=redis.url, redis_timeout=0.25)


@pytest.fixture
async def room(served: Served) -> AsyncIterator[list[Socket]]:
    """Sockets of one room, on both workers."""
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(served.client())
        tokens = await new_user(client)
        sockets = []
        for _ in range(SOCKETS):
            live = await stack.enter_async_context(socket(LiveServer(served.url), tokens))
            await live.send(action="subscribe", channel="room:a")
            await live.until("subscribed")
            sockets.append(live)
        yield sockets


async def test_failovers_are_not_noticed_and_all_comes_back(
    served: Served, app: FastAPI, room: list[Socket]
) -> None:
    written: Counter[int] = Counter()
    async with tables(app), loading(served, "/api/v1/items", pause=0.02) as load:
        writing = asyncio.create_task(write(served, written))
        await works_as_one(served, room)
        for number, fault in enumerate(("killed", "frozen", "asked")):
            queueing = asyncio.create_task(queue_jobs(app, first=number * JOBS))
            await asyncio.sleep(0.5)
            old = served.redis.primary
            fails(served, fault, old)
            new = await served.redis.has_moved_from(old)
            async with asyncio.timeout(BACK_WITHIN):
                await works_as_one(served, room)
                while not served.redis.ask(new, "EXISTS", WORKER_KEY):
                    await asyncio.sleep(0.1)
                await comes_back_as_a_replica(served, fault, old)
                await works_as_one(served, room)
            await queueing
            await each_job_had_its_effect(app, (number + 1) * JOBS)
        writing.cancel()
    assert set(load.statuses) == {200}, load.statuses
    assert load.cut_off == 0
    assert set(written) == {201}, written


def fails(served: Served, fault: str, primary: OwnServer) -> None:
    match fault:
        case "killed":
            primary.end(signal.SIGKILL)
        case "frozen":  # as if its machine had vanished: nothing closes the connections to it
            primary.process.send_signal(signal.SIGSTOP)
        case _:
            served.redis.fail_over()


async def comes_back_as_a_replica(served: Served, fault: str, old: OwnServer) -> None:
    if fault == "killed":
        await asyncio.to_thread(old.start)
    elif fault == "frozen":
        old.process.send_signal(signal.SIGCONT)
    while served.redis.role(old) != "slave":
        await asyncio.sleep(0.1)


async def works_as_one(served: Served, room: list[Socket]) -> None:
    """Wait until the workers hear and count together; what only Redis can do."""
    await all_hear(room)
    while await exports_admitted(served) != LIMIT:
        pass


async def all_hear(room: list[Socket]) -> None:
    """Send to the room until all others hear it within a second: some are on the other worker."""
    number = 0
    while True:
        number += 1
        await room[0].send(action="publish", channel="room:a", data=number)
        try:
            async with asyncio.timeout(1):
                await asyncio.gather(*(hears(live, number) for live in room[1:]))
        except TimeoutError:
            continue
        return


async def hears(live: Socket, number: int) -> None:
    while (await live.until("message"))["data"] != number:
        pass


async def exports_admitted(served: Served) -> int:
    """Return how often a new user may export, asking on a new connection each time."""
    statuses: Counter[int] = Counter()
    anew = httpx.Limits(max_keepalive_connections=0)
    async with httpx.AsyncClient(base_url=served.url, timeout=20, limits=anew) as client:
        user = await new_user(client)
        path = f"/api/v1/items/export?format=csv&owner_id={user.account.id}"
        for _ in range(3 * LIMIT):
            answer = await client.get(path, headers=user.headers)
            statuses[answer.status_code] += 1
    assert set(statuses) == {200, 429}
    return statuses[200]


async def write(served: Served, statuses: Counter[int]) -> None:
    """Create items until cancelled."""
    async with served.client() as client:
        tokens = await new_user(client)
        while True:
            item = {"name": "New", "price": 1}
            answer = await client.post("/api/v1/items", json=item, headers=tokens.headers)
            statuses[answer.status_code] += 1
            await asyncio.sleep(0.05)


async def queue_jobs(app: FastAPI, *, first: int) -> None:
    """Queue jobs before the failover, in the middle of it and after it."""
    for number in range(first, first + JOBS):
        await enqueue(app, "test.count", number=number)
        await asyncio.sleep(0.02)


async def each_job_had_its_effect(app: FastAPI, jobs: int) -> None:
    unfinished = "SELECT count(*) FROM jobs WHERE kind = 'test.count' AND status <> 'succeeded'"
    async with asyncio.timeout(60):
        while await number_of(app, unfinished):
            await asyncio.sleep(0.05)
    assert await number_of(app, "SELECT count(*) FROM marks") == jobs
