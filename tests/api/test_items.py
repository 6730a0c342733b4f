"""The catalogue over HTTP: one item's life, who may see and change it, and conditional requests."""

import asyncio
import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest
from fastapi import FastAPI
from httpx import AsyncClient
from sqlalchemy import update

from app.clock import now
from app.models.items import Item, items
from app.repositories.items import ItemRepository
from tests.factories import Tokens, admin, create_item, expect, new_user, register, sign_in


async def signed_in(client: AsyncClient) -> Tokens:
    return await sign_in(client, await register(client))


async def test_a_created_item_can_be_read_where_location_says(client: AsyncClient) -> None:
    tokens = await signed_in(client)
    body = {"name": " Oak desk ", "price": 349.5, "discount_percent": 15, "tags": ["wood", "wood"]}
    answer = await client.post("/api/v1/items", json=body, headers=tokens.headers)
    assert answer.status_code == 201
    item = answer.json()
    assert item["name"] == "Oak desk"
    assert item["price"] == 349.5
    assert item["discounted_price"] == 297.08  # 297.075, half up
    assert item["on_sale"] is True
    assert item["tags"] == ["wood"]
    assert item["visibility"] == "public"
    assert item["version"] == 1
    assert item["created_at"].endswith("Z")
    assert answer.headers["ETag"] == '"1"'
    read = await client.get(answer.headers["Location"])
    assert read.status_code == 200
    assert read.json() == item


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": "x" * 101}, "name"),
        ({"name": "nul \u0000"}, "name"),
        ({"name": "\ud800"}, "name"),
        ({"description": "x" * 2001}, "description"),
        ({"description": "nul \u0000"}, "description"),
        ({"price": 0}, "price"),
        ({"price": -1}, "price"),
        ({"price": 1.999}, "price"),
        ({"price": "1e999"}, "price"),
        ({"price": 10**30}, "price"),
        ({"price": None}, "price"),
        ({"discount_percent": 101}, "discount_percent"),
        ({"discount_percent": -1}, "discount_percent"),
        ({"tags": ["x"] * 21}, "tags"),
        ({"tags": ["x" * 41]}, "tags.0"),
        ({"tags": "wood"}, "tags"),
        ({"visibility": "secret"}, "visibility"),
        ({"owner_id": 1}, "owner_id"),
        ({"version": 7}, "version"),
    ],
)
async def test_bad_input_names_its_field(
    client: AsyncClient, somebody: Tokens, change: dict[str, object], field: str
) -> None:
    body = json.dumps({"name": "Oak desk", "price": 1, **change})  # ASCII: httpx refuses surrogates
    headers = {**somebody.headers, "Content-Type": "application/json"}
    answer = await client.post("/api/v1/items", content=body, headers=headers)
    assert answer.status_code == 422, answer.text
    problem = answer.json()
    assert problem["error_code"] == "VALIDATION_ERROR"
    assert field in {error["field"] for error in problem["errors"]}


@pytest.mark.parametrize("raw", ["NaN", "Infinity", "-Infinity", "1e999"])
async def test_numbers_beyond_json_are_422(client: AsyncClient, somebody: Tokens, raw: str) -> None:
    answer = await client.post(
        "/api/v1/items",
        content=f'{{"name": "x", "price": {raw}}}',
        headers={**somebody.headers, "Content-Type": "application/json"},
    )
    assert answer.status_code in (400, 422)
    assert answer.headers["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize("path_id", ["0", "-1", "abc", str(2**63), "1.5", "9" * 40])
async def test_an_id_that_cannot_be_is_422(client: AsyncClient, path_id: str) -> None:
    answer = await client.get(f"/api/v1/items/{path_id}")
    assert answer.status_code == 422


async def test_an_unknown_item_is_404(client: AsyncClient) -> None:
    answer = await client.get(f"/api/v1/items/{2**63 - 1}")
    assert answer.status_code == 404
    assert answer.json()["error_code"] == "NOT_FOUND"


async def test_creating_needs_a_sign_in(client: AsyncClient) -> None:
    answer = await client.post("/api/v1/items", json={"name": "x", "price": 1})
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


async def test_a_private_item_does_not_exist_for_others(client: AsyncClient, app: FastAPI) -> None:
    owner, stranger = await signed_in(client), await signed_in(client)
    boss = await admin(client, app)
    item = await create_item(client, owner, visibility="private")
    url = f"/api/v1/items/{item['id']}"
    unknown = f"/api/v1/items/{2**62}"
    for headers in ({}, stranger.headers):
        hidden = await client.get(url, headers=headers)
        missing = await client.get(unknown, headers=headers)
        assert hidden.status_code == missing.status_code == 404
        same = ("type", "title", "status", "detail", "error_code")
        assert [hidden.json()[k] for k in same] == [missing.json()[k] for k in same]
    for method in ("PATCH", "PUT", "DELETE"):
        body = None if method == "DELETE" else {"name": "x", "price": 1}
        answer = await client.request(method, url, json=body, headers=stranger.headers)
        assert answer.status_code == 404
    assert (await client.get(url, headers=owner.headers)).status_code == 200
    assert (await client.get(url, headers=boss.headers)).status_code == 200


async def test_only_the_owner_or_an_admin_changes_an_item(
    client: AsyncClient, app: FastAPI
) -> None:
    owner, stranger = await signed_in(client), await signed_in(client)
    boss = await admin(client, app)
    item = await create_item(client, owner)
    url = f"/api/v1/items/{item['id']}"
    for method in ("PATCH", "PUT", "DELETE"):
        body = None if method == "DELETE" else {"name": "x", "price": 1}
        answer = await client.request(method, url, json=body, headers=stranger.headers)
        assert answer.status_code == 403
    answer = await client.patch(url, json={"name": "By admin"}, headers=boss.headers)
    assert answer.status_code == 200
    assert answer.json()["owner_id"] == item["owner_id"]


async def test_put_replaces_and_patch_merges(client: AsyncClient) -> None:
    tokens = await signed_in(client)
    item = await create_item(client, tokens, description="old", discount_percent=10, tags=["a"])
    url = f"/api/v1/items/{item['id']}"
    patched = await client.patch(
        url,
        json={"description": None, "price": 5.25},
        headers={**tokens.headers, "Content-Type": "application/merge-patch+json"},
    )
    assert patched.status_code == 200, patched.text
    assert patched.json()["description"] is None
    assert patched.json()["price"] == 5.25
    assert patched.json()["tags"] == ["a"]
    assert patched.json()["version"] == 2
    replaced = await client.put(url, json={"name": "New", "price": 1}, headers=tokens.headers)
    assert replaced.json()["discount_percent"] == 0
    assert replaced.json()["tags"] == []
    assert replaced.headers["ETag"] == '"3"'
    assert (await client.get(url)).json() == replaced.json()


async def test_removing_what_an_item_needs_is_422(client: AsyncClient) -> None:
    tokens = await signed_in(client)
    item = await create_item(client, tokens)
    url = f"/api/v1/items/{item['id']}"
    answer = await client.patch(url, json={"name": None}, headers=tokens.headers)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "name"


async def test_a_json_patch_is_another_media_type(client: AsyncClient) -> None:
    tokens = await signed_in(client)
    item = await create_item(client, tokens)
    url = f"/api/v1/items/{item['id']}"
    headers = {**tokens.headers, "Content-Type": "application/json-patch+json"}
    steps = b'[{"op": "replace", "path": "/name", "value": "New"}]'
    refused = expect(await client.patch(url, content=steps, headers=headers), 415)
    assert refused["error_code"] == "UNSUPPORTED_MEDIA_TYPE"
    headers["Content-Type"] = "application/merge-patch+json"
    expect(await client.patch(url, content=b'{"name": "New"}', headers=headers), 200)


async def test_what_is_no_etag_lets_nobody_write(client: AsyncClient) -> None:
    tokens = await signed_in(client)
    url = f"/api/v1/items/{(await create_item(client, tokens))['id']}"
    for given in ("1", "stale", ""):
        headers = {**tokens.headers, "If-Match": given}
        refused = expect(await client.patch(url, json={"name": "New"}, headers=headers), 412)
        assert "quoted string" in refused["detail"]


async def test_a_known_etag_is_answered_304(client: AsyncClient) -> None:
    item = await create_item(client, await signed_in(client))
    url = f"/api/v1/items/{item['id']}"
    for known in ('"1"', 'W/"1"', '"7", "1"', "*"):
        answer = await client.get(url, headers={"If-None-Match": known})
        assert answer.status_code == 304
        assert answer.content == b""
        assert answer.headers["ETag"] == '"1"'
    assert (await client.get(url, headers={"If-None-Match": '"2"'})).status_code == 200
    assert (await client.get(url, headers={"If-None-Match": "1"})).status_code == 200


async def test_of_racing_writers_with_one_if_match_one_wins(client: AsyncClient) -> None:
    tokens = await signed_in(client)
    item = await create_item(client, tokens)
    url = f"/api/v1/items/{item['id']}"
    headers = {**tokens.headers, "If-Match": '"1"'}
    answers = await asyncio.gather(
        *(client.patch(url, json={"name": f"Writer {n}"}, headers=headers) for n in range(20))
    )
    assert sorted(answer.status_code for answer in answers) == [200] + [412] * 19
    winner = next(answer for answer in answers if answer.status_code == 200)
    assert (await client.get(url)).json() == winner.json()


async def test_racing_patches_of_different_fields_are_both_kept(client: AsyncClient) -> None:
    tokens = await signed_in(client)
    item = await create_item(client, tokens)
    url = f"/api/v1/items/{item['id']}"
    answers = await asyncio.gather(
        client.patch(url, json={"name": "Renamed"}, headers=tokens.headers),
        client.patch(url, json={"price": 77}, headers=tokens.headers),
    )
    assert [answer.status_code for answer in answers] == [200, 200]
    final = (await client.get(url)).json()
    assert (final["name"], final["price"], final["version"]) == ("Renamed", 77, 3)


async def test_a_stale_delete_is_refused(client: AsyncClient) -> None:
    tokens = await signed_in(client)
    item = await create_item(client, tokens)
    url = f"/api/v1/items/{item['id']}"
    await client.patch(url, json={"name": "New"}, headers=tokens.headers)
    stale = await client.delete(url, headers={**tokens.headers, "If-Match": '"1"'})
    assert stale.status_code == 412
    assert stale.json()["error_code"] == "PRECONDITION_FAILED"


async def test_a_deleted_item_is_gone_until_it_is_restored(client: AsyncClient) -> None:
    owner, stranger = await signed_in(client), await signed_in(client)
    item = await create_item(client, owner)
    url = f"/api/v1/items/{item['id']}"
    gone = await client.delete(url, headers=owner.headers)
    assert (gone.status_code, gone.content) == (204, b"")
    assert (await client.get(url, headers=owner.headers)).status_code == 404
    assert (await client.delete(url, headers=owner.headers)).status_code == 404
    assert (await client.post(f"{url}/restore", headers=stranger.headers)).status_code == 404
    restored = await client.post(f"{url}/restore", headers=owner.headers)
    assert restored.status_code == 200
    assert restored.json()["version"] == 3
    assert (await client.get(url)).json() == restored.json()
    assert (await client.post(f"{url}/restore", headers=owner.headers)).status_code == 409


async def test_v2_speaks_camel_case_and_keeps_metadata(client: AsyncClient) -> None:
    tokens = await signed_in(client)
    body = {
        "name": "Desk",
        "price": 10,
        "discountPercent": 50,
        "displayName": "The desk",
        "metadata": {"a": {"b": 1, "c": 2}},
    }
    made = await client.post("/api/v2/items", json=body, headers=tokens.headers)
    assert made.status_code == 201, made.text
    item = made.json()
    assert item["discountedPrice"] == 5
    assert item["displayName"] == "The desk"
    assert item["ownerId"] > 0
    assert made.headers["Location"].startswith("/api/v2/items/")
    url = f"/api/v2/items/{item['id']}"
    patched = await client.patch(
        url, json={"metadata": {"a": {"b": None, "d": 3}}}, headers=tokens.headers
    )
    assert patched.json()["metadata"] == {"a": {"c": 2, "d": 3}}
    snake = await client.patch(url, json={"display_name": None}, headers=tokens.headers)
    assert snake.json()["displayName"] == "Desk"
    old = await client.put(
        f"/api/v1/items/{item['id']}", json={"name": "Old", "price": 1}, headers=tokens.headers
    )
    assert "metadata" not in old.json()
    assert (await client.get(url)).json()["metadata"] == {"a": {"c": 2, "d": 3}}


async def test_metadata_may_speak_of_what_it_must_not_contain(client: AsyncClient) -> None:
    tokens = await new_user(client)
    metadata = {"pool": "Infinity edge", "NaN": "is a bread", "escape": "\\u0000"}
    body = {"name": "Desk", "price": 10, "metadata": metadata}
    answer = await client.post("/api/v2/items", json=body, headers=tokens.headers)
    assert answer.status_code == 201
    assert answer.json()["metadata"] == metadata


@pytest.mark.parametrize(
    "metadata", [{"x": "y" * 5000}, {"x": "\u0000"}, [1], "text", {"\u0000": 1}]
)
async def test_metadata_is_a_small_json_object(
    client: AsyncClient, somebody: Tokens, metadata: object
) -> None:
    body = {"name": "Desk", "price": 10, "metadata": metadata}
    answer = await client.post("/api/v2/items", json=body, headers=somebody.headers)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "metadata"


async def test_a_patch_that_is_overtaken_each_time_is_a_conflict_and_changes_nothing(
    client: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = await signed_in(client)
    item = await create_item(client, tokens)
    replace = ItemRepository.replace

    async def overtaken(self: ItemRepository, read: Item, values: Mapping[str, Any]) -> Item | None:
        assert await replace(self, read, {**values, "name": "by a faster one"})
        return await replace(self, read, values)

    monkeypatch.setattr(ItemRepository, "replace", overtaken)
    url = f"/api/v1/items/{item['id']}"
    answer = await client.patch(url, json={"name": "too late"}, headers=tokens.headers)
    assert expect(answer, 409)["error_code"] == "CONFLICT"
    assert expect(await client.get(url), 200)["name"] == "by a faster one"


@pytest.mark.parametrize(("days", "status"), [(29, 200), (31, 404)])
async def test_a_deleted_item_can_be_restored_for_thirty_days(
    app: FastAPI, client: AsyncClient, days: int, status: int
) -> None:
    tokens = await signed_in(client)
    item = await create_item(client, tokens)
    url = f"/api/v1/items/{item['id']}"
    assert (await client.delete(url, headers=tokens.headers)).status_code == 204
    long_ago = {"deleted_at": now() - timedelta(days=days)}
    async with app.state.resources.db.transaction() as connection:
        await connection.execute(update(items).where(items.c.id == item["id"]).values(**long_ago))
    expect(await client.post(f"{url}/restore", headers=tokens.headers), status)
    assert (await client.get(url)).status_code == status
