"""Many changes in one request."""

import pytest
from httpx import AsyncClient

from tests.conftest import MakeApp, MakeClient
from tests.factories import Tokens, create_item, register, sign_in


async def signed_in(client: AsyncClient) -> Tokens:
    return await sign_in(client, await register(client))


async def test_bulk_creates_changes_and_deletes(client: AsyncClient) -> None:
    tokens = await signed_in(client)
    kept = await create_item(client, tokens)
    dropped = await create_item(client, tokens)
    answer = await client.post(
        "/api/v1/items/bulk",
        json={
            "operations": [
                {"op": "create", "item": {"name": "New", "price": 1}},
                {"op": "update", "id": kept["id"], "changes": {"price": 2}, "version": 1},
                {"op": "update", "id": kept["id"], "changes": {"price": 3}, "version": 2},
                {"op": "delete", "id": dropped["id"]},
            ]
        },
        headers=tokens.headers,
    )
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert (body["succeeded"], body["failed"]) == (4, 0)
    assert [result["status"] for result in body["results"]] == [201, 200, 200, 204]
    assert (await client.get(f"/api/v1/items/{kept['id']}")).json()["price"] == 3
    assert (await client.get(f"/api/v1/items/{dropped['id']}")).status_code == 404


BAD = [
    {"op": "create", "item": {"name": "Good", "price": 1}},
    {"op": "create", "item": {"name": "", "price": 1}},
    {"op": "update", "id": 2**60, "changes": {"price": 2}},
    {"op": "nonsense"},
]


async def test_all_or_nothing_changes_nothing(client: AsyncClient) -> None:
    tokens = await signed_in(client)
    item = await create_item(client, tokens)
    answer = await client.post(
        "/api/v1/items/bulk", json={"operations": BAD}, headers=tokens.headers
    )
    assert answer.status_code == 422
    problem = answer.json()
    assert problem["error_code"] == "BULK_REFUSED"
    fields = {error["field"] for error in problem["errors"]}
    assert fields == {"operations.1.item.name", "operations.2", "operations.3"}
    page = (await client.get("/api/v1/items", params={"owner_id": item["owner_id"]})).json()
    assert page["total"] == 1


async def test_each_on_its_own_keeps_the_good_ones(client: AsyncClient) -> None:
    tokens = await signed_in(client)
    item = await create_item(client, tokens)
    answer = await client.post(
        "/api/v1/items/bulk?atomic=false", json={"operations": BAD}, headers=tokens.headers
    )
    assert answer.status_code == 200
    body = answer.json()
    assert [result["status"] for result in body["results"]] == [201, 422, 404, 422]
    assert (body["succeeded"], body["failed"]) == (1, 3)
    page = (await client.get("/api/v1/items", params={"owner_id": item["owner_id"]})).json()
    assert page["total"] == 2


async def test_bulk_in_v2_is_camel_case_through_and_through(client: AsyncClient) -> None:
    tokens = await signed_in(client)
    operation = {"op": "create", "item": {"name": "N", "price": 1, "displayName": "D"}}
    answer = await client.post(
        "/api/v2/items/bulk", json={"operations": [operation]}, headers=tokens.headers
    )
    assert answer.status_code == 200, answer.text
    assert answer.json()["results"][0]["item"]["displayName"] == "D"


async def test_bulk_is_bounded(client: AsyncClient) -> None:
    tokens = await signed_in(client)
    for operations in ([], [{"op": "delete", "id": 1}] * 1001):
        answer = await client.post(
            "/api/v1/items/bulk", json={"operations": operations}, headers=tokens.headers
        )
        assert answer.status_code == 422


async def test_bulk_repeats_by_idempotency_key(client: AsyncClient) -> None:
    tokens = await signed_in(client)
    headers = {**tokens.headers, "Idempotency-Key": "bulk-1"}
    body = {"operations": [{"op": "create", "item": {"name": "Once", "price": 1}}]}
    first = await client.post("/api/v1/items/bulk", json=body, headers=headers)
    second = await client.post("/api/v1/items/bulk", json=body, headers=headers)
    assert second.headers["Idempotency-Replayed"] == "true"
    assert second.json() == first.json()


@pytest.mark.parametrize("atomic", ["true", "false"])
async def test_a_missing_connection_is_no_entrys_fault(
    make_app: MakeApp, make_client: MakeClient, atomic: str
) -> None:
    app = await make_app(database_pool_size=1, database_pool_timeout=0.2)
    client = make_client(app)
    tokens = await signed_in(client)
    create = {"op": "create", "item": {"name": "A", "price": 1}}
    async with app.state.resources.db.read():  # the only one
        answer = await client.post(
            f"/api/v1/items/bulk?atomic={atomic}",
            json={"operations": [create, create]},
            headers=tokens.headers,
        )
    assert answer.status_code == 503
    assert answer.json()["error_code"] == "DATABASE_UNAVAILABLE"
