"""API keys: made, shown once, rotated, revoked, and never more than their owner."""

import asyncio
import logging
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from fastapi import FastAPI
from httpx import AsyncClient
from sqlalchemy import select, update

from app.clock import now
from app.models.api_keys import api_keys
from app.models.idempotency import idempotency_keys
from app.security.api_keys import is_well_formed
from tests.api.api_keys import EVERYTHING, KEYS, ME, Key, new_key, rotated, works
from tests.conftest import MakeApp, MakeClient
from tests.factories import Tokens, admin, create_item, expect, new_user
from tests.patience import PATIENCE, no_longer

SOON = PATIENCE  # for what happens beside the requests


async def rows(app: FastAPI, table: Any) -> Sequence[Any]:
    async with app.state.resources.db.read() as connection:
        found: Sequence[Any] = (await connection.execute(select(table))).all()
    return found


async def test_a_key_acts_for_its_owner(client: AsyncClient) -> None:
    owner = await new_user(client)
    key = await new_key(client, owner)
    me = expect(await client.get(ME, headers=key.headers), 200)
    assert me["id"] == owner.account.id
    made = await client.post("/api/v1/items", json={"name": "A", "price": 1}, headers=key.headers)
    assert expect(made, 201)["owner_id"] == owner.account.id
    assert made.headers["cache-control"] == "no-store"


async def test_the_secret_is_shown_once_and_kept_nowhere(
    client: AsyncClient, app: FastAPI, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    owner = await new_user(client)
    body = {"name": " Import ", "scopes": ["users:read", "items:read", "users:read"]}
    answer = await client.post(KEYS, json=body, headers=owner.headers)
    made = expect(answer, 201)
    secret = made.pop("secret")
    assert is_well_formed(secret)
    assert answer.headers["location"] == f"{KEYS}/{made['id']}"
    assert answer.headers["cache-control"] == "no-store"
    assert made["prefix"] == secret[:14]
    assert made["scopes"] == ["items:read", "users:read"]
    assert (made["name"], made["expires_at"], made["last_used_at"]) == ("Import", None, None)
    one = await client.get(answer.headers["location"], headers=owner.headers)
    every = await client.get(KEYS, headers=owner.headers)
    assert expect(one, 200) == made
    assert expect(every, 200)["items"] == [made]
    await works(client, Key(made["id"], secret, owner))
    kept = repr([*await rows(app, api_keys), *await rows(app, idempotency_keys)])
    assert secret not in one.text + every.text + kept + caplog.text
    assert secret[20:40] not in kept + caplog.text


async def test_v2_speaks_camel_case(client: AsyncClient) -> None:
    owner = await new_user(client)
    body = {"name": "A", "scopes": ["items:read"], "expiresAt": "2999-01-01T00:00:00+02:00"}
    made = await client.post("/api/v2/auth/api-keys", json=body, headers=owner.headers)
    assert expect(made, 201)["expiresAt"] == "2998-12-31T22:00:00Z"
    listed = await client.get("/api/v2/items", headers={"X-API-Key": made.json()["secret"]})
    assert listed.status_code == 200


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", ""),
        ("name", "x" * 101),
        ("name", "a\x00b"),
        ("scopes", []),
        ("scopes", ["items:delete"]),
        ("scopes", ["*"]),
        ("scopes", ["items:read"] * 6),
        ("scopes", "items:read"),
        ("expires_at", "2020-01-01T00:00:00Z"),
        ("expires_at", "2999-01-01T00:00:00"),
        ("expires_at", "9999-12-31T23:59:59-23:59"),
        ("expires_at", "9999-12-31T23:59:59.999999Z"),  # PostgreSQL's infinity has no time zone
        ("expires_at", 1e300),
        ("user_id", 1),
        ("secret", "kp_live_mine"),
    ],
)
async def test_what_cannot_be_a_key_names_its_field(
    client: AsyncClient, somebody: Tokens, field: str, value: object
) -> None:
    body = {"name": "A", "scopes": ["items:read"], field: value}
    answer = expect(await client.post(KEYS, json=body, headers=somebody.headers), 422)
    assert answer["errors"][0]["field"].split(".")[0] == field


async def test_a_key_can_be_renamed_and_nothing_else(client: AsyncClient) -> None:
    key = await new_key(client, await new_user(client), "items:read")
    headers = key.owner.headers
    renamed = await client.patch(key.url, json={"name": "Export"}, headers=headers)
    assert expect(renamed, 200)["name"] == "Export"
    for body in ({}, {"name": None}, {"name": "A", "scopes": ["users:write"]}):
        assert (await client.patch(key.url, json=body, headers=headers)).status_code == 422
    assert expect(await client.get(key.url, headers=headers), 200)["scopes"] == ["items:read"]


async def test_anothers_key_and_none_are_the_same_answer(client: AsyncClient, app: FastAPI) -> None:
    key = await new_key(client, await new_user(client))
    for other in (await new_user(client), await admin(client, app)):
        for method, path, body in (
            ("GET", "", None),
            ("PATCH", "", {"name": "Mine"}),
            ("DELETE", "", None),
            ("POST", "/rotate", {}),
        ):
            theirs, none = [
                expect(
                    await client.request(method, f"{url}{path}", json=body, headers=other.headers),
                    404,
                )["detail"]
                for url in (key.url, f"{KEYS}/{2**62}")
            ]
            assert theirs == none
    assert await works(client, key)


@pytest.mark.parametrize(
    "secret",
    [
        b"",
        b"kp_live_",
        b"nonsense",
        b"kp_live_" + b"0" * 49,
        b"kp_live_" + b"x" * 4000,
        b"kp_live_\xff\xfe",
        b"kp_test_4fQz7bA0sK1mX9cV2nB8lT6wR3yU5eHgJdPiOqZtLkS0a1B2c3D",
    ],
)
async def test_what_is_no_key_is_401(client: AsyncClient, secret: bytes) -> None:
    answer = await client.get("/api/v1/items", headers=[(b"X-API-Key", secret)])
    assert expect(answer, 401)["error_code"] == "INVALID_API_KEY"
    assert answer.headers["www-authenticate"]


async def test_a_key_with_one_letter_changed_is_refused(client: AsyncClient) -> None:
    key = await new_key(client, await new_user(client))
    for place in (8, 30, 56):
        other = "a" if key.secret[place] != "a" else "b"
        forged = Key(key.id, key.secret[:place] + other + key.secret[place + 1 :], key.owner)
        assert not await works(client, forged)
    assert await works(client, key)


async def test_a_key_is_no_token_and_a_token_no_key(client: AsyncClient) -> None:
    key = await new_key(client, await new_user(client))
    bearer = {"Authorization": f"Bearer {key.secret}"}
    assert (await client.get(ME, headers=bearer)).status_code == 401
    for token in (key.owner.access, key.owner.refresh):
        assert (await client.get(ME, headers={"X-API-Key": token})).status_code == 401


async def test_two_credentials_at_once_are_refused(client: AsyncClient) -> None:
    key, other = await new_key(client, await new_user(client)), await new_user(client)
    for tokens in (key.owner, other):
        answer = await client.get(ME, headers={**key.headers, **tokens.headers})
        assert expect(answer, 401)["error_code"] == "INVALID_TOKEN"


async def test_a_key_without_the_scope_is_told_which_it_needs(client: AsyncClient) -> None:
    key = await new_key(client, await new_user(client), "items:read")
    answer = await client.post("/api/v1/items", json={"name": "A", "price": 1}, headers=key.headers)
    problem = expect(answer, 403)
    assert problem["error_code"] == "INSUFFICIENT_SCOPE"
    assert "items:write" in problem["detail"]


async def test_no_spelling_of_the_address_goes_around_the_scope(client: AsyncClient) -> None:
    key = await new_key(client, await new_user(client), "events:read")
    for path in ("/api/v1/items", "/api/v2/items", "/api/items", "/api/v1/users/me"):
        for method in ("GET", "HEAD"):
            answer = await client.request(method, path, headers=key.headers)
            assert answer.status_code == 403, f"{method} {path}"


async def test_a_key_makes_no_keys_and_no_tickets(client: AsyncClient) -> None:
    key = await new_key(client, await new_user(client))
    body = {"name": "More", "scopes": EVERYTHING}
    for path in ("api-keys", "ws-ticket", "logout-all"):
        answer = await client.post(f"/api/v1/auth/{path}", json=body, headers=key.headers)
        assert expect(answer, 403)["error_code"] == "INSUFFICIENT_SCOPE"
    sent = {**key.headers, "Idempotency-Key": "more"}
    assert (await client.post(KEYS, json=body, headers=sent)).status_code == 403
    assert await works(client, key)


async def test_a_scope_never_widens(client: AsyncClient, app: FastAPI) -> None:
    secret = await create_item(client, await new_user(client), visibility="private")
    key, boss = await new_key(client, await new_user(client)), await admin(client, app)
    url = f"/api/v1/items/{secret['id']}"
    assert (await client.get(url, headers=key.headers)).status_code == 404
    assert (await client.get("/api/v1/users", headers=key.headers)).status_code == 403
    roles = {"roles": ["admin"]}
    mine = f"/api/v1/users/{key.owner.account.id}"
    assert (await client.patch(mine, json=roles, headers=key.headers)).status_code == 403
    of_admin = await new_key(client, boss, "items:read")
    assert (await client.get(url, headers=of_admin.headers)).status_code == 200
    assert (await client.delete(url, headers=of_admin.headers)).status_code == 403


async def test_what_is_included_needs_its_own_scope(client: AsyncClient, app: FastAPI) -> None:
    boss = await admin(client, app)
    narrow = await new_key(client, boss, "users:read")
    wide = await new_key(client, boss, "users:read", "items:read")
    for version in ("v1", "v2"):
        url = f"/api/{version}/users?include=items"
        refused = await client.get(url, headers=narrow.headers)
        assert expect(refused, 403)["error_code"] == "INSUFFICIENT_SCOPE"
        assert (await client.get(url, headers=wide.headers)).status_code == 200


async def test_both_secrets_work_while_they_overlap(client: AsyncClient) -> None:
    first = await new_key(client, await new_user(client))
    second = await rotated(client, first, 60)
    assert await works(client, first)
    assert await works(client, second)
    shown = expect(await client.get(first.url, headers=first.owner.headers), 200)
    assert shown["prefix"] == second.secret[:14]
    assert shown["previous_ends_at"] > shown["rotated_at"]
    third = await rotated(client, second, 60)  # only ever two
    assert [await works(client, each) for each in (first, second, third)] == [False, True, True]
    fourth = await rotated(client, third, 0)  # after a leak
    assert [await works(client, each) for each in (second, third, fourth)] == [False, False, True]


async def test_the_old_secret_ends_with_the_overlap(client: AsyncClient) -> None:
    owner = await new_user(client)
    for seconds in (1, 8, 60):  # another one where the machine stood still for all of that
        old = await new_key(client, owner)
        new = await rotated(client, old, seconds)
        if await works(client, old):
            break
    else:
        pytest.fail("it never worked")
    await no_longer(lambda: works(client, old), than=seconds)
    assert await works(client, new)


async def test_of_many_rotations_at_once_two_secrets_are_left(client: AsyncClient) -> None:
    first = await new_key(client, await new_user(client))
    made = await asyncio.gather(*(rotated(client, first, 60) for _ in range(5)))
    assert sum([await works(client, each) for each in (first, *made)]) == 2


@pytest.mark.parametrize("overlap", [-1, 604_801, 1.5, "x", None, 10**30])
async def test_an_overlap_that_cannot_be_changes_nothing(
    client: AsyncClient, overlap: object
) -> None:
    key = await new_key(client, await new_user(client))
    body = {"overlap_seconds": overlap}
    answer = await client.post(f"{key.url}/rotate", json=body, headers=key.owner.headers)
    assert answer.status_code == 422
    assert await works(client, key)


async def test_a_repeat_brings_the_key_back_without_its_secret(
    client: AsyncClient, app: FastAPI
) -> None:
    owner = await new_user(client)
    headers = {**owner.headers, "Idempotency-Key": "once"}
    body = {"name": "A", "scopes": ["items:read"]}
    answers = await asyncio.gather(
        *(client.post(KEYS, json=body, headers=headers) for _ in range(5))
    )
    made = [expect(each, 201) for each in answers]
    (secret,) = [each["secret"] for each in made if each["secret"]]
    assert len({each["id"] for each in made}) == 1
    replays = [each for each in answers if "idempotency-replayed" in each.headers]
    assert len(replays) == 4
    assert {each.headers["location"] for each in answers} == {f"{KEYS}/{made[0]['id']}"}
    key = Key(made[0]["id"], secret, owner)
    assert await works(client, key)
    headers["Idempotency-Key"] = "again"
    rotations = [
        await client.post(f"{key.url}/rotate", json={"overlap_seconds": 0}, headers=headers)
        for _ in range(2)
    ]
    newest, none = [expect(each, 200)["secret"] for each in rotations]
    assert none is None
    assert await works(client, Key(key.id, newest, owner))
    kept = repr(await rows(app, idempotency_keys))
    assert secret not in kept
    assert newest not in kept


async def test_nobody_has_more_than_fifty(client: AsyncClient) -> None:
    owner = await new_user(client)
    for _ in range(47):
        last = await new_key(client, owner)
    body = {"name": "A", "scopes": ["items:read"]}
    # Each on a connection of its own from the start, or they would come one after the other.
    await asyncio.gather(*(client.get(KEYS, headers=owner.headers) for _ in range(20)))
    answers = await asyncio.gather(
        *(client.post(KEYS, json=body, headers=owner.headers) for _ in range(6))
    )
    assert sorted(each.status_code for each in answers) == [201] * 3 + [409] * 3
    refused = next(each for each in answers if each.status_code == 409)
    assert refused.json()["error_code"] == "TOO_MANY_API_KEYS"
    await client.delete(last.url, headers=owner.headers)
    await new_key(client, owner)


async def test_the_last_use_is_kept_once_a_minute(client: AsyncClient, app: FastAPI) -> None:
    key = await new_key(client, await new_user(client))

    async def last_use() -> str | None:
        shown = expect(await client.get(key.url, headers=key.owner.headers), 200)
        at: str | None = shown["last_used_at"]
        return at

    assert await last_use() is None
    await works(client, key)
    async with asyncio.timeout(SOON):
        while not (first := await last_use()):
            await asyncio.sleep(0.02)
    uses = app.state.resources.key_uses
    uses._noted.clear()  # another worker has not seen it used either
    await works(client, key)
    other = await new_key(client, key.owner)
    await works(client, other)  # written together with it, or after it
    async with asyncio.timeout(SOON):
        while not expect(await client.get(other.url, headers=key.owner.headers), 200)[
            "last_used_at"
        ]:
            await asyncio.sleep(0.02)
    assert await last_use() == first
    async with app.state.resources.db.transaction() as connection:
        past = {"last_used_at": now() - timedelta(seconds=61)}
        await connection.execute(update(api_keys).where(api_keys.c.id == key.id).values(past))
    uses._noted.clear()
    await works(client, key)
    async with asyncio.timeout(SOON):
        while (await last_use() or "") <= first:
            await asyncio.sleep(0.02)


@pytest.mark.usefixtures("clean_database")
async def test_each_key_has_a_limit_of_its_own(make_app: MakeApp, make_client: MakeClient) -> None:
    limits = {"rate_limit_default": "10/minute", "rate_limit_api_keys": "2/minute"}
    app = await make_app(rate_limits_enabled=True, **limits)
    client = make_client(app)
    owner = await new_user(make_client(app, address="203.0.113.9"))
    one, other = await new_key(client, owner), await new_key(client, owner)
    body = {"name": "A", "scopes": ["items:read"]}
    refused = await client.post(KEYS, json=body, headers=owner.headers)
    assert expect(refused, 429)["error_code"] == "RATE_LIMITED"
    answers = [await client.get("/api/v1/items", headers=one.headers) for _ in range(11)]
    assert [each.status_code for each in answers] == [200] * 10 + [429]
    assert await works(client, other)
    assert (await client.get(ME, headers=owner.headers)).status_code == 200
