"""`Idempotency-Key`: a repeat gets the first answer, whatever happens at the same time."""

import asyncio
import hashlib
import json
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
from fastapi import FastAPI
from httpx import AsyncClient

from app.context import current_request
from app.repositories.idempotency import IdempotencyRepository
from tests.factories import Tokens, register, sign_in

BODY = {"name": "Once", "price": 1}


async def signed_in(client: AsyncClient) -> Tokens:
    return await sign_in(client, await register(client))


async def total(client: AsyncClient, owner_id: int) -> int:
    page = await client.get("/api/v1/items", params={"owner_id": owner_id})
    return int(page.json()["total"])


async def test_a_repeat_gets_the_first_answer(client: AsyncClient) -> None:
    tokens = await signed_in(client)
    headers = {**tokens.headers, "Idempotency-Key": "order-1"}
    first = await client.post("/api/v1/items", json=BODY, headers=headers)
    second = await client.post("/api/v1/items", json=BODY, headers=headers)
    assert "Idempotency-Replayed" not in first.headers
    assert second.headers["Idempotency-Replayed"] == "true"
    assert (second.status_code, second.content) == (201, first.content)
    assert second.headers["Location"] == first.headers["Location"]
    assert second.headers["ETag"] == first.headers["ETag"]
    assert await total(client, first.json()["owner_id"]) == 1


async def test_the_key_with_another_body_is_refused(client: AsyncClient) -> None:
    tokens = await signed_in(client)
    headers = {**tokens.headers, "Idempotency-Key": "order-2"}
    await client.post("/api/v1/items", json=BODY, headers=headers)
    answer = await client.post("/api/v1/items", json={**BODY, "price": 2}, headers=headers)
    assert answer.status_code == 422
    assert answer.json()["error_code"] == "IDEMPOTENCY_KEY_REUSED"


async def test_another_user_never_gets_the_answer(client: AsyncClient) -> None:
    one, other = await signed_in(client), await signed_in(client)
    key = {"Idempotency-Key": "order-3"}
    first = await client.post("/api/v1/items", json=BODY, headers={**one.headers, **key})
    second = await client.post("/api/v1/items", json=BODY, headers={**other.headers, **key})
    assert second.status_code == 201
    assert first.json()["id"] != second.json()["id"]


async def test_fifty_at_once_make_one_item_and_one_answer(client: AsyncClient) -> None:
    tokens = await signed_in(client)
    headers = {**tokens.headers, "Idempotency-Key": "order-4"}
    answers = await asyncio.gather(
        *(client.post("/api/v1/items", json=BODY, headers=headers) for _ in range(50))
    )
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.content for answer in answers}) == 1
    assert await total(client, answers[0].json()["owner_id"]) == 1


async def test_a_refused_request_leaves_the_key_free(client: AsyncClient) -> None:
    tokens = await signed_in(client)
    headers = {**tokens.headers, "Idempotency-Key": "order-5"}
    refused = await client.post("/api/v1/items", json={**BODY, "price": 0}, headers=headers)
    assert refused.status_code == 422
    assert (await client.post("/api/v1/items", json=BODY, headers=headers)).status_code == 201


@pytest.mark.parametrize("key", ["", "x" * 256, "tab\there"])
async def test_a_bad_key_is_422(client: AsyncClient, key: str) -> None:
    tokens = await signed_in(client)
    headers = {**tokens.headers, "Idempotency-Key": key}
    assert (await client.post("/api/v1/items", json=BODY, headers=headers)).status_code == 422


async def test_registration_can_be_repeated(client: AsyncClient) -> None:
    name = f"u{uuid4().hex[:12]}"
    body = {
        "email": f"{name}@example.com",
        "username": name,
        "password": "correct horse battery",
        "confirm_password": "correct horse battery",
    }
    headers = {"Idempotency-Key": name}
    first = await client.post("/api/v1/auth/register", json=body, headers=headers)
    second = await client.post("/api/v1/auth/register", json=body, headers=headers)
    assert first.status_code == second.status_code == 201, second.text
    assert first.json() == second.json()


async def test_what_is_kept_of_a_registration_helps_nobody_to_guess_its_password(
    client: AsyncClient, app: FastAPI
) -> None:
    path, name = "/api/v1/auth/register", f"u{uuid4().hex[:12]}"
    password = "correct horse battery"
    fields = {"email": f"{name}@example.com", "username": name}
    body = json.dumps(fields | {"password": password, "confirm_password": password}).encode()
    headers = {"Idempotency-Key": name, "Content-Type": "application/json"}
    assert (await client.post(path, content=body, headers=headers)).status_code == 201
    async with app.state.resources.db.read() as connection:
        stored = await IdempotencyRepository(connection).find("anonymous", name)
    assert stored is not None
    # A digest without a key would be a fast hash of the password.
    guess = hashlib.sha256(f"POST {path}?\n".encode() + body).hexdigest()
    assert stored.fingerprint != guess
    assert guess.encode() not in stored.body


async def test_many_changes_at_once_with_one_key_are_made_once(client: AsyncClient) -> None:
    tokens = await signed_in(client)
    headers = {**tokens.headers, "Idempotency-Key": "order-6"}
    body = {"operations": [{"op": "create", "item": BODY}, {"op": "create", "item": BODY}]}
    answers = await asyncio.gather(
        *(client.post("/api/v1/items/bulk", json=body, headers=headers) for _ in range(20))
    )
    assert {answer.status_code for answer in answers} == {200}, answers[-1].text
    assert len({answer.content for answer in answers}) == 1
    assert await total(client, tokens.account.id) == 2


@pytest.mark.only("production")
async def test_a_key_costs_four_round_trips_more(
    client: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[str] = []

    def note(name: str) -> None:
        original = getattr(asyncpg.Connection, name)

        async def noting(self: asyncpg.Connection, sql: str, *arguments: Any, **more: Any) -> Any:
            if current_request.get() is not None:  # the app's own tasks ask as well
                sent.append(sql)
            return await original(self, sql, *arguments, **more)

        monkeypatch.setattr(asyncpg.Connection, name, noting)

    tokens = await signed_in(client)
    await client.post("/api/v1/items", json=BODY, headers=tokens.headers)  # warms what is kept
    note("fetch")
    note("execute")

    async def statements(**headers: str) -> list[str]:
        sent.clear()
        answer = await client.post(
            "/api/v1/items", json=BODY, headers={**tokens.headers, **headers}
        )
        assert answer.status_code == 201
        return [sql[:12] for sql in sent]

    assert await statements() == ["WITH changed"]
    assert await statements(**{"Idempotency-Key": "order-7"}) == [
        "SELECT idemp",
        "BEGIN; SELEC",
        "WITH changed",
        "INSERT INTO ",
        "COMMIT",
    ]
