"""PostgreSQL and Redis really ended, frozen and started again, for as long as outages last."""

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest
from alembic import command

from tests.backends import run_alembic
from tests.conftest import MakeSettings
from tests.factories import create_item, expect, new_user
from tests.faults.conftest import Production, loading, producing
from tests.faults.servers import OwnServer, own_postgres, own_redis
from tests.faults.test_outages import is_back
from tests.patience import PATIENCE

pytestmark = [pytest.mark.system, pytest.mark.only("production")]

POSTGRES_AWAY, REDIS_AWAY = 20.0, 30.0
LIMIT = 5  # sign-ins a minute


@pytest.fixture
def postgres() -> Iterator[OwnServer]:
    with own_postgres() as server:
        run_alembic(command.upgrade, server.server.url, "head")
        yield server


@pytest.fixture
def redis() -> Iterator[OwnServer]:
    with own_redis() as server:
        yield server


@pytest.fixture
async def production(
    make_settings: MakeSettings, postgres: OwnServer, redis: OwnServer
) -> AsyncIterator[Production]:
    settings = make_settings(database_url=postgres.server.url, redis_url=redis.server.url)
    async with producing(
        settings,
        RATE_LIMITS_ENABLED="true",
        RATE_LIMIT_DEFAULT="10000000/minute",
        RATE_LIMIT_LOGIN=f"{LIMIT}/minute",
    ) as production:
        yield production


async def test_postgresql_restarted_and_away_is_503_and_heals(
    production: Production, postgres: OwnServer
) -> None:
    async with loading(production, "/api/v1/items") as load:
        await asyncio.sleep(1)
        postgres.end(signal.SIGQUIT)  # PostgreSQL's immediate shutdown
        await asyncio.to_thread(postgres.start)
        await is_back(production, "/api/v1/items", within=15)  # promised: 5 s, of a machine at rest
        postgres.end(signal.SIGQUIT)
        await asyncio.sleep(POSTGRES_AWAY)
        await asyncio.to_thread(postgres.start)
        await is_back(production, "/api/v1/items", within=15)
    assert set(load.statuses) == {200, 503}
    assert load.without_retry_after == 0
    assert load.cut_off == 0
    async with loading(production, "/api/v1/items") as after:
        await asyncio.sleep(2)
    assert set(after.statuses) == {200}
    async with production.client() as client:
        await create_item(client, await new_user(client))


@pytest.mark.parametrize("fault", ["killed", "frozen"])
async def test_without_redis_all_goes_on_and_the_guards_too(
    production: Production, redis: OwnServer, fault: str
) -> None:
    async with production.client() as client:
        tokens = await new_user(client)
        async with loading(production, "/api/v1/items") as load:
            await asyncio.sleep(1)
            if fault == "killed":
                redis.end(signal.SIGKILL)
            else:
                redis.process.send_signal(signal.SIGSTOP)
            async with asyncio.timeout_at(asyncio.get_running_loop().time() + REDIS_AWAY + 60):
                ends_at = asyncio.get_running_loop().time() + REDIS_AWAY
                assert await admitted(production, 8 * LIMIT) <= 2 * LIMIT  # each worker its own
                while asyncio.get_running_loop().time() < ends_at:
                    await create_item(client, tokens)
                    await asyncio.sleep(0.2)
            assert expect(await client.get("/health/ready"), 200)["status"] == "degraded"
            if fault == "killed":
                await asyncio.to_thread(redis.start)
            else:
                redis.process.send_signal(signal.SIGCONT)
            async with asyncio.timeout(PATIENCE):
                while (await client.get("/health/ready")).json()["status"] != "ok":
                    await asyncio.sleep(0.1)
    assert load.share_of_success >= 0.99
    assert load.cut_off == 0
    assert load.slowest[200] < REDIS_AWAY / 3  # a short wait now and then, none for each request


async def admitted(production: Production, times: int) -> int:
    """Return how many of so many guesses of a password were not refused by a limit.

    Each is for another account: one account's own guard counts in the database.
    """

    async def guess(number: int) -> int:
        async with httpx.AsyncClient(base_url=production.url, timeout=20) as client:
            form = {"username": f"nobody-{number}", "password": "wrong-guess"}
            return (await client.post("/api/v1/auth/token", data=form)).status_code

    statuses = [await guess(number) for number in range(times)]
    assert set(statuses) == {401, 429}
    return statuses.count(401)
