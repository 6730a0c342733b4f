"""Health and metrics: what an orchestrator and a scraper rely on."""

import asyncio
import re

import pytest
from fastapi import FastAPI
from httpx import AsyncClient
from sqlalchemy import text

from tests.conftest import MakeApp, MakeClient
from tests.factories import create_item, expect, new_user
from tests.patience import PATIENCE


async def test_live_asks_nobody(client: AsyncClient) -> None:
    assert expect(await client.get("/health/live"), 200) == {"status": "alive"}


async def test_ready_tells_of_every_check(client: AsyncClient) -> None:
    body = expect(await client.get("/health/ready"), 200)
    async with asyncio.timeout(PATIENCE):  # a busy machine may read its events late
        while body["status"] != "ok":
            body = expect(await client.get("/health/ready"), 200)
    assert body["uptime_seconds"] >= 0
    assert set(body["checks"]) >= {"database", "redis", "migrations"}
    summary = expect(await client.get("/health"), 200)
    assert summary["version"]


@pytest.mark.only("production")
async def test_without_redis_it_is_degraded_and_still_ready(
    make_app: MakeApp, make_client: MakeClient
) -> None:
    client = make_client(await make_app(redis_url="redis://127.0.0.1:1/0", redis_timeout=0.05))
    body = expect(await client.get("/health/ready"), 200)
    assert body["checks"]["redis"]["status"] == "degraded"
    assert body["status"] == "degraded"
    tokens = await new_user(client)
    await create_item(client, tokens)


@pytest.mark.only("production")
async def test_without_a_database_it_is_not_ready_and_answers_503(
    app: FastAPI, make_app: MakeApp, make_client: MakeClient
) -> None:
    broken = await make_app(database_pool_timeout=0.3)
    client = make_client(broken)
    resources = broken.state.resources
    await resources.db.engine.dispose()
    url = resources.db.engine.url.set(port=1)
    resources.db.engine.sync_engine.pool = resources.db.engine.sync_engine.pool.recreate()
    original = resources.db.engine.sync_engine.pool._creator

    def nowhere(*_: object) -> None:
        raise OSError(f"no server at {url.port}")

    resources.db.engine.sync_engine.pool._creator = nowhere
    answer = await client.get("/health/ready")
    assert expect(answer, 503)["checks"]["database"]["status"] == "failed"
    refused = await client.get("/api/v1/items")
    assert expect(refused, 503)["error_code"] == "DATABASE_UNAVAILABLE"
    assert int(refused.headers["retry-after"]) >= 1
    assert (await client.get("/health/live")).status_code == 200
    resources.db.engine.sync_engine.pool._creator = original
    assert (await client.get("/api/v1/items")).status_code == 200


@pytest.mark.only("production")
async def test_what_starts_without_a_database_is_alive_and_answers_503(
    make_app: MakeApp, make_client: MakeClient
) -> None:
    client = make_client(await make_app(database_url="postgresql://nobody:x@127.0.0.1:1/nothing"))
    expect(await client.get("/health/live"), 200)
    expect(await client.get("/health/ready"), 503)
    for path in ("/api/v1/items", "/api/v1/events?channel=items"):
        refused = await client.get(path)
        assert expect(refused, 503)["error_code"] == "DATABASE_UNAVAILABLE", path


@pytest.mark.usefixtures("clean_database")
async def test_an_old_schema_is_not_ready(client: AsyncClient, app: FastAPI) -> None:
    async with app.state.resources.db.transaction() as connection:
        await connection.execute(text("DELETE FROM alembic_version"))
    body = expect(await client.get("/health/ready"), 503)
    assert body["checks"]["migrations"]["status"] == "failed"


async def test_a_draining_process_is_not_ready_and_still_serves(
    make_app: MakeApp, make_client: MakeClient
) -> None:
    app = await make_app()
    client = make_client(app)
    app.state.resources.drain()
    assert expect(await client.get("/health/ready"), 503)["status"] == "draining"
    assert (await client.get("/health/live")).status_code == 200
    assert (await client.get("/api/v1/items")).status_code == 200


async def test_metrics_count_by_route_template(client: AsyncClient) -> None:
    tokens = await new_user(client)
    item = await create_item(client, tokens)
    for path in (f"/api/v1/items/{item['id']}", "/api/v1/items/4611686018427387904", "/no/such"):
        await client.get(path)
    await client.request("BREW", "/api/v1/items")
    answer = await client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    assert '"/api/v1/items/{item_id}"' in answer.text
    for unbounded in (f'/items/{item["id"]}"', "4611686018427387904", "/no/such", "BREW"):
        assert unbounded not in answer.text


@pytest.mark.parametrize(
    "name",
    [
        "http_requests_total",
        "http_request_duration_seconds_bucket",
        "http_requests_in_progress",
        "db_pool_connections",
        "cache_lookups_total",
        "rate_limit_refusals_total",
        "websocket_connections",
        "websocket_messages_total",
        "event_lag_seconds_bucket",
        "build_info",
    ],
)
async def test_what_operators_watch_is_there(client: AsyncClient, name: str) -> None:
    names = re.findall(r"^# TYPE (\S+)|^(\w+)", (await client.get("/metrics")).text, re.MULTILINE)
    flat = {each for pair in names for each in pair if each}
    base = name.removesuffix("_total").removesuffix("_bucket")
    assert any(each.startswith(("kingpost_" + base, base)) for each in flat), sorted(flat)


@pytest.mark.only("production")
async def test_the_documentation_can_be_closed_in_production(
    make_app: MakeApp, make_client: MakeClient
) -> None:
    app = await make_app(
        environment="production",
        operators_username="ops",
        operators_password="a long pass phrase",
    )
    client = make_client(app)
    for path in ("/docs", "/redoc", "/openapi.json", "/api/v2/docs"):
        assert (await client.get(path)).status_code == 401
        answer = await client.get(path, auth=("ops", "a long pass phrase"))
        assert answer.status_code == 200


async def test_operators_pages_can_be_closed(make_app: MakeApp, make_client: MakeClient) -> None:
    app = await make_app(operators_username="ops", operators_password="a long pass phrase")
    client = make_client(app)
    refused = await client.get("/metrics")
    assert refused.status_code == 401
    assert refused.headers["www-authenticate"].startswith("Basic")
    for credentials in (("ops", "wrong"), ("wrong", "a long pass phrase"), ("", "")):
        assert (await client.get("/metrics", auth=credentials)).status_code == 401
    assert (await client.get("/metrics", auth=("ops", "a long pass phrase"))).status_code == 200
