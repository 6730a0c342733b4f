"""One's own account under hostile input, and what others must not learn of it."""

import asyncio
from typing import Any

import pytest
from fastapi import FastAPI
from httpx import AsyncClient

from tests.factories import Tokens, admin, analyst, create_item, expect, new_user, register, sign_in

USERS = "/api/v1/users"
ME = f"{USERS}/me"
PUBLIC = {"id", "username", "full_name", "created_at"}


async def test_an_account_as_its_owner_sees_it(client: AsyncClient) -> None:
    me = await new_user(client)
    answer = await client.get(ME, headers=me.headers)
    assert set(expect(answer, 200)) == PUBLIC | {
        "email",
        "roles",
        "is_active",
        "is_verified",
        "suspended_for",
        "version",
        "updated_at",
    }
    assert "cache-control" in answer.headers
    assert answer.headers["cache-control"].split(",")[0] in ("no-store", "private")


async def test_v2_says_the_same_in_camel_case(client: AsyncClient) -> None:
    me = await new_user(client)
    user = expect(await client.get("/api/v2/users/me", headers=me.headers), 200)
    assert {"fullName", "isActive", "isVerified", "createdAt", "updatedAt"} <= set(user)
    for name in ("fullName", "full_name"):
        answer = await client.patch("/api/v2/users/me", json={name: name}, headers=me.headers)
        assert expect(answer, 200)["fullName"] == name


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("full_name", '"CANARY\\u0000"'),
        ("full_name", '"CANARY\\ud800"'),
        ("full_name", '"CANARY\\nsecond line"'),
        ("full_name", f'"CANARY{"x" * 100}"'),
        ("full_name", f'"CANARY{"x" * 100_000}"'),
        ("full_name", "2147483648"),
        ("full_name", "9223372036854775808"),
        ("full_name", "9" * 400),
        ("full_name", "NaN"),
        ("full_name", "1e999"),
        ("full_name", "true"),
        ("full_name", '{"CANARY": 1}'),
        ("username", '""'),
        ("username", '"CANARY CANARY"'),
        ("username", '"CANARY@example.com"'),
        ("username", '"../CANARY"'),
        ("username", '"CANARY\\u0000"'),
        ("username", '"\\udfffCANARY"'),
        ("username", '"\\u202eCANARY"'),
        ("username", "9223372036854775808"),
        ("username", "null"),
        ("roles", '["admin"]'),
        ("is_active", "true"),
        ("is_verified", "true"),
        ("email", '"CANARY@example.com"'),
        ("password", '"CANARY"'),
        ("password_hash", '"CANARY"'),
        ("deleted_at", "null"),
        ("version", "1e999"),
        ("id", "9223372036854775808"),
    ],
)
async def test_what_cannot_be_is_refused_by_field_and_changes_nothing(
    client: AsyncClient, somebody: Tokens, field: str, value: str
) -> None:
    before = (await client.get(ME, headers=somebody.headers)).json()
    text = f'{{"{field}":{value}}}'
    headers = {"Content-Type": "application/json", **somebody.headers}
    answer = await client.patch(ME, content=text.encode(), headers=headers)
    assert [each["field"] for each in expect(answer, 422)["errors"]] == [field]
    assert "CANARY" not in answer.text
    assert (await client.get(ME, headers=somebody.headers)).json() == before


async def test_one_bad_field_keeps_the_good_ones_out_too(client: AsyncClient) -> None:
    me = await new_user(client)
    body = {"full_name": "Good", "username": "not good"}
    assert (await client.patch(ME, json=body, headers=me.headers)).status_code == 422
    assert expect(await client.get(ME, headers=me.headers), 200)["full_name"] is None


async def test_an_empty_change_changes_nothing(client: AsyncClient) -> None:
    me = await new_user(client)
    before = (await client.get(ME, headers=me.headers)).json()
    assert expect(await client.patch(ME, json={}, headers=me.headers), 200) == before


async def test_a_renamed_account_signs_in_by_its_new_name(client: AsyncClient) -> None:
    me = await new_user(client)
    new = f"New.{me.account.username}"
    body = {"username": new}
    assert expect(await client.patch(ME, json=body, headers=me.headers), 200)["username"] == new
    for name, status in ((me.account.username, 401), (new.upper(), 200)):
        form = {"username": name, "password": me.account.password}
        assert (await client.post("/api/v1/auth/token", data=form)).status_code == status
    # The old name is free for somebody else.
    await register(client, username=me.account.username)


async def test_many_who_want_one_name_at_once_have_one_winner(client: AsyncClient) -> None:
    people = [await new_user(client) for _ in range(6)]
    name = f"Wanted{people[0].account.id}"
    answers = await asyncio.gather(
        *(
            client.patch(ME, json={"username": name.swapcase()}, headers=each.headers)
            for each in people
        )
    )
    assert sorted(each.status_code for each in answers) == [200] + [409] * 5


async def test_ones_own_name_in_another_case_is_not_taken(client: AsyncClient) -> None:
    me = await new_user(client)
    body = {"username": me.account.username.upper()}
    expect(await client.patch(ME, json=body, headers=me.headers), 200)


async def test_an_address_is_seen_by_its_owner_and_admins_alone(
    client: AsyncClient, app: FastAPI
) -> None:
    one, other = await new_user(client), await new_user(client)
    watcher, boss = await analyst(client, app), await admin(client, app)
    await create_item(client, one)
    seen_by_strangers = [
        await client.get(url, headers=reader.headers)
        for reader in (other, watcher)
        for url in (
            f"{USERS}/{one.account.id}",
            f"/api/v2/users/{one.account.id}",
            f"{USERS}/{one.account.id}/items",
            f"/api/v1/items?owner_id={one.account.id}",
            USERS,
            f"{USERS}?q={one.account.email}",
        )
    ]
    assert {each.status_code for each in seen_by_strangers} == {200, 403}
    for answer in seen_by_strangers:
        assert one.account.email.casefold() not in answer.text.casefold()
    for reader in (one, boss):
        seen = expect(await client.get(f"{USERS}/{one.account.id}", headers=reader.headers), 200)
        assert seen["email"] == one.account.email


async def test_an_inactive_account_and_none_are_the_same_to_strangers(
    client: AsyncClient, app: FastAPI
) -> None:
    boss, off, stranger = await admin(client, app), await new_user(client), await new_user(client)
    await client.patch(f"{USERS}/{off.account.id}", json={"is_active": False}, headers=boss.headers)
    bodies = []
    for user_id in (off.account.id, 2**62):
        answer = await client.get(f"{USERS}/{user_id}", headers=stranger.headers)
        own = ("request_id", "instance")
        bodies.append({k: v for k, v in expect(answer, 404).items() if k not in own})
    assert bodies[0] == bodies[1]


async def test_no_answer_holds_a_hash_or_a_key(client: AsyncClient, app: FastAPI) -> None:
    boss, me = await admin(client, app), await new_user(client)
    account = await app.state.resources.accounts.get(me.account.id)
    assert account.password_hash
    await client.patch(ME, json={"full_name": "A"}, headers=me.headers)
    for reader, url in (
        (me, ME),
        (boss, f"{USERS}/{me.account.id}"),
        (boss, f"{USERS}?q={me.account.username}&include=items"),
        (boss, f"/api/v2/users?q={me.account.username}&include=items"),
        (me, "/api/v1/auth/sessions"),
    ):
        answer = await client.get(url, headers=reader.headers)
        assert answer.status_code == 200
        for secret in (account.password_hash, "argon2", "password", "_key", "seed"):
            assert secret not in answer.text, url
        fields = set(_names(answer.json()))
        assert not {each for each in fields if "hash" in each.lower() or "key" in each.lower()}


async def test_deleting_oneself_leaves_nothing_of_the_person(
    client: AsyncClient, app: FastAPI
) -> None:
    me, boss = await new_user(client, full_name="Someone Real"), await admin(client, app)
    assert (await client.delete(ME, headers=me.headers)).status_code == 204
    gone = await client.get(f"{USERS}/{me.account.id}", headers=boss.headers)
    assert gone.status_code == 404
    listed = await client.get(f"{USERS}?q={me.account.username}", headers=boss.headers)
    assert expect(listed, 200)["total"] == 0
    async with app.state.resources.db.read() as connection:
        rows = (
            await connection.exec_driver_sql(f"SELECT * FROM users WHERE id = {int(me.account.id)}")
        ).all()
    kept = str(rows)
    for trace in (me.account.email, me.account.username, "Someone Real", "argon2"):
        assert trace not in kept


async def test_two_deletions_at_once_are_one(client: AsyncClient) -> None:
    me = await new_user(client)
    answers = await asyncio.gather(*(client.delete(ME, headers=me.headers) for _ in range(4)))
    statuses = [each.status_code for each in answers]
    assert statuses.count(204) == 1
    assert set(statuses) <= {204, 401, 404}
    with pytest.raises(AssertionError):
        await sign_in(client, me.account)


def _names(value: Any) -> list[str]:
    """Return every field name of a document."""
    found: list[str] = []
    if isinstance(value, dict):
        for name, inner in value.items():
            found += [name, *_names(inner)]
    if isinstance(value, list):
        for inner in value:
            found += _names(inner)
    return found
