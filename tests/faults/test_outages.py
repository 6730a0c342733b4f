"""PostgreSQL or Redis away, frozen or exhausted, under load, against Gunicorn with two workers."""

import asyncio
import os
import signal
import time

import httpx
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from app.settings import Settings
from tests import patience
from tests.factories import create_item, expect, new_user, register
from tests.faults.conftest import STARTED, Production, loading
from tests.patience import PATIENCE

pytestmark = pytest.mark.only("production")

_REFUSED = '"error_code":"DATABASE_UNAVAILABLE"'
AWAY = 3.0  # seconds; `make test-system` waits for longer


async def is_back(production: Production, path: str, *, within: float) -> None:
    """Wait until a path answers 200 again."""
    async with production.client() as client, patience.within(within):
        while (await client.get(path)).status_code != 200:
            await asyncio.sleep(0.05)


async def test_postgresql_away_is_503_and_heals_by_itself(production: Production) -> None:
    said_before = len(production.service.log())
    async with loading(production, "/api/v1/items") as load:
        await load.has_seen(200, 10)
        production.postgres.cut()
        await load.has_seen(503)
        await asyncio.sleep(AWAY)
        production.postgres.heal()
        await is_back(production, "/api/v1/items", within=15)  # promised: 5 s, of a machine at rest
    assert set(load.statuses) == {200, 503}
    assert load.without_retry_after == 0
    log = production.service.log()[said_before:]
    refused = [line for line in log.splitlines() if _REFUSED in line]
    assert refused
    assert all('"cause":' in line for line in refused)
    async with loading(production, "/api/v1/items") as after:
        await asyncio.sleep(1)
    assert set(after.statuses) == {200}


async def test_backends_that_postgresql_ends_are_replaced(
    production: Production, settings: Settings
) -> None:
    engine = create_async_engine(settings.sqlalchemy_url)
    ended = text(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
        "WHERE application_name = 'kingpost' AND datname = current_database()"
    )
    async with loading(production, "/api/v1/items") as load:
        for _ in range(3):
            await asyncio.sleep(0.3)
            async with engine.connect() as connection:
                await connection.execute(ended)
    await engine.dispose()
    assert set(load.statuses) <= {200, 503}
    assert load.share_of_success > 0.5
    async with production.client() as client:
        assert (await client.get("/api/v1/items")).status_code == 200


async def test_an_exhausted_pool_is_answered_and_the_rest_goes_on(production: Production) -> None:
    async with production.client() as client:
        tokens = await new_user(client)
        production.postgres.freeze()
        waiting = [asyncio.create_task(client.get("/api/v1/items")) for _ in range(40)]
        await asyncio.sleep(0.2)
        for method, path, headers in (
            ("GET", "/health/live", {}),
            ("OPTIONS", "/api/v1/items", {"Origin": "x", "Access-Control-Request-Method": "GET"}),
            ("GET", "/api/v1/users/me", {"Authorization": "Bearer nonsense"}),
            ("GET", "/nowhere", {}),
        ):
            async with patience.within(1.5):  # promised: 100 ms, of a machine at rest
                answer = await client.request(method, path, headers=headers)
            assert answer.status_code < 500, path
        async with patience.within(5):  # promised: 3 s
            first = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        answer = next(iter(first[0])).result()
        assert expect(answer, 503)["error_code"] == "DATABASE_UNAVAILABLE"
        assert answer.headers["retry-after"]
        production.postgres.heal()
        await asyncio.gather(*waiting)
        await is_back(production, "/api/v1/items", within=25)
        await create_item(client, tokens)


@pytest.mark.parametrize("fault", ["cut", "freeze"])
async def test_redis_away_only_degrades(production: Production, fault: str) -> None:
    async with production.client() as client:
        tokens = await new_user(client)
        async with loading(production, "/api/v1/items") as load:
            await load.has_seen(200, 10)
            getattr(production.redis, fault)()
            item = await create_item(client, tokens)
            assert expect(await client.get(f"/api/v1/items/{item['id']}"), 200) == item
            await asyncio.sleep(AWAY)
            readiness = expect(await client.get("/health/ready"), 200)
            assert readiness["status"] == "degraded"
            production.redis.heal()
            async with asyncio.timeout(PATIENCE):
                while (await client.get("/health/ready")).json()["status"] != "ok":
                    await asyncio.sleep(0.05)
    assert load.share_of_success >= 0.99
    assert load.cut_off == 0
    # Each worker may try once a second, and each try costs one short wait.
    assert load.slowest[200] < AWAY


async def test_a_change_bites_also_while_redis_is_away(production: Production) -> None:
    async with production.client() as client, production.client() as other:
        tokens = await new_user(client)
        production.redis.cut()
        await client.post("/api/v1/auth/logout", headers=tokens.headers)
        refused, ended_at = 0, time.monotonic()
        while refused < 20:  # in a row, so that both workers have been asked
            asked = time.monotonic()
            answer = await other.get("/api/v1/users/me", headers=tokens.headers)
            refused = refused + 1 if answer.status_code == 401 else 0
            assert refused or asked - ended_at < 1


async def test_a_network_gone_silent_under_open_connections_is_503(production: Production) -> None:
    async with production.client() as client:
        tokens = await new_user(client)
        item = {"name": "Lost", "price": 1}
        for _ in range(8):  # so that both workers have connections that have just been used
            await client.post("/api/v1/items", json=item, headers=tokens.headers)
            await client.get("/api/v1/items")
        production.postgres.freeze()
        answers = await asyncio.gather(
            *(client.get("/api/v1/items") for _ in range(4)),
            *(client.post("/api/v1/items", json=item, headers=tokens.headers) for _ in range(4)),
            *(register(client) for _ in range(2)),
            return_exceptions=True,
        )
        refused = [each.status_code for each in answers if isinstance(each, httpx.Response)]
        assert refused == [503] * 8
        assert all("DATABASE_UNAVAILABLE" in str(each) for each in answers[8:])
        production.postgres.heal()
        await is_back(production, "/api/v1/items", within=15)
        async with loading(production, "/api/v1/items") as after:
            await asyncio.sleep(1)
        assert set(after.statuses) == {200}
        await create_item(client, tokens)


async def test_a_worker_that_starts_while_postgresql_is_away_waits_for_it(
    production: Production,
) -> None:
    service = production.service
    starts = service.log().count(STARTED)
    async with asyncio.timeout(60):
        production.postgres.cut()
        os.kill(service.workers[0], signal.SIGKILL)
        while service.log().count(STARTED) == starts:
            assert service.process.poll() is None, "Gunicorn has ended with its other worker"
            await asyncio.sleep(0.05)
    async with production.client() as client:
        answer = await client.get("/api/v1/items")
        assert expect(answer, 503)["error_code"] == "DATABASE_UNAVAILABLE"
        production.postgres.heal()
        await is_back(production, "/api/v1/items", within=15)
        await create_item(client, await new_user(client))
    async with loading(production, "/api/v1/items") as after:
        await asyncio.sleep(1)
    assert set(after.statuses) == {200}
