"""`GET /items/stats`: exact figures, shared and cached."""

import asyncio

import pytest
from fastapi import FastAPI
from httpx import AsyncClient

from tests.conftest import MakeApp, MakeClient
from tests.factories import analyst, create_item, expect, new_user
from tests.patience import PATIENCE

STATS = "/api/v1/items/stats"


@pytest.mark.usefixtures("clean_database")
async def test_the_figures_are_exact(client: AsyncClient, app: FastAPI) -> None:
    reader, owner = await analyst(client, app), await new_user(client)
    await create_item(client, owner, price=10.10, tags=["wood", "new"])
    await create_item(client, owner, price=20.20, tags=["wood"], discount_percent=5)
    await create_item(client, reader, price=0.03, visibility="private")
    gone = await create_item(client, owner, price=999)
    await client.delete(f"/api/v1/items/{gone['id']}", headers=owner.headers)
    stats = expect(await client.get(STATS, headers=reader.headers), 200)
    assert [stats[name] for name in ("total", "public", "private", "on_sale", "owners")] == [
        *(3, 2, 1, 1, 2)
    ]
    assert stats["price"] == {"min": 0.03, "max": 20.2, "sum": 30.33, "average": 10.11}
    assert stats["by_tag"] == [{"tag": "wood", "count": 2}, {"tag": "new", "count": 1}]
    assert [day["count"] for day in stats["by_day"]] == [3]


@pytest.mark.usefixtures("clean_database")
async def test_an_empty_catalogue_has_figures_too(client: AsyncClient, app: FastAPI) -> None:
    reader = await analyst(client, app)
    stats = expect(await client.get(STATS, headers=reader.headers), 200)
    assert (stats["total"], stats["price"]["average"], stats["by_day"]) == (0, None, [])


@pytest.mark.usefixtures("clean_database")
async def test_they_are_kept_for_a_while_and_exact_again_after(
    make_app: MakeApp, make_client: MakeClient
) -> None:
    app = await make_app(stats_cache_seconds=1)
    client = make_client(app)
    reader = await analyst(client, app)
    first = await client.get(STATS, headers=reader.headers)
    await create_item(client, reader)
    assert first.headers["cache-control"] == "private, no-cache"
    known = {**reader.headers, "If-None-Match": first.headers["etag"]}
    same = await client.get(STATS, headers=known)
    assert (same.status_code, same.content) == (304, b"")
    answer = first
    async with asyncio.timeout(PATIENCE):
        while answer.json()["total"] == 0:
            await asyncio.sleep(0.05)
            answer = await client.get(STATS, headers=reader.headers)
    assert answer.json()["total"] == 1
    assert answer.headers["etag"] != first.headers["etag"]


async def test_each_version_spells_them_its_own_way(client: AsyncClient, app: FastAPI) -> None:
    reader = await analyst(client, app)
    v1 = expect(await client.get(STATS, headers=reader.headers), 200)
    v2 = expect(await client.get("/api/v2/items/stats", headers=reader.headers), 200)
    assert {"on_sale", "by_tag"} <= set(v1)
    assert {"onSale", "byTag"} <= set(v2)
