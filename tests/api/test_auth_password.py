"""Changing the password: only who knows the old one, only to a good one, told to nobody."""

import asyncio
import json
from typing import Any

import pytest
from fastapi import FastAPI
from httpx import AsyncClient, Response

from app.repositories.users import UserRepository
from tests.api.live import listening
from tests.conftest import MakeApp, MakeClient
from tests.factories import PASSWORD, Account, Tokens, expect, new_user, sign_in
from tests.live_server import LiveServer

CHANGE = "/api/v1/auth/password/change"
ME = "/api/v1/users/me"
NEW = "CANARY a wholly different phrase"
WIDE = "".join(chr(ord(c) + 0xFEE0) for c in "password1")  # the same in full-width letters


async def change(client: AsyncClient, tokens: Tokens, **over: Any) -> Response:
    body = {"current_password": PASSWORD, "new_password": NEW, "confirm_password": NEW} | over
    return await client.post(CHANGE, json=body, headers=tokens.headers)


def with_password(account: Account, password: str) -> Account:
    return Account(account.id, account.email, account.username, password)


async def test_nobody_changes_a_password_without_signing_in(client: AsyncClient) -> None:
    body = {"current_password": PASSWORD, "new_password": NEW, "confirm_password": NEW}
    assert (await client.post(CHANGE, json=body)).status_code == 401


async def test_the_new_password_opens_and_the_old_one_does_not(client: AsyncClient) -> None:
    here = await new_user(client)
    there = await sign_in(client, here.account)
    answer = await change(client, here)
    assert (answer.status_code, answer.content) == (204, b"")
    assert (await client.get(ME, headers=here.headers)).status_code == 200
    refreshed = {"refresh_token": here.refresh}
    assert (await client.post("/api/v1/auth/refresh", json=refreshed)).status_code == 200
    ended = {"refresh_token": there.refresh}
    assert (await client.post("/api/v1/auth/refresh", json=ended)).status_code == 401
    form = {"username": here.account.username, "password": PASSWORD}
    assert (await client.post("/api/v1/auth/token", data=form)).status_code == 401
    assert await sign_in(client, with_password(here.account, NEW))


@pytest.mark.parametrize(
    ("over", "field"),
    [
        ({"current_password": "CANARY-wrong"}, "current_password"),
        ({"current_password": ""}, "current_password"),
        ({"confirm_password": "CANARY-other"}, "confirm_password"),
        ({"new_password": "CANARY", "confirm_password": "CANARY"}, "new_password"),
        ({"new_password": "CANARY" * 22}, "new_password"),
        ({"new_password": "Password1", "confirm_password": "Password1"}, "new_password"),
        ({"new_password": WIDE, "confirm_password": WIDE}, "new_password"),
        ({"user_id": 1}, "user_id"),
        ({"password_hash": "CANARY"}, "password_hash"),
    ],
)
async def test_a_bad_change_is_refused_by_field_and_changes_nothing(
    client: AsyncClient, over: dict[str, Any], field: str
) -> None:
    tokens = await new_user(client)
    there = await sign_in(client, tokens.account)
    answer = await change(client, tokens, **over)
    assert field in [each["field"] for each in expect(answer, 422)["errors"]]
    for secret in ("CANARY", PASSWORD):
        assert secret not in answer.text
    assert (await client.get(ME, headers=there.headers)).status_code == 200
    assert await sign_in(client, tokens.account)


async def test_the_new_password_is_not_the_account_itself(client: AsyncClient) -> None:
    tokens = await new_user(client)
    wide = "".join(chr(ord(c) + 0xFEE0) for c in tokens.account.username)
    for name in (tokens.account.username.upper(), tokens.account.email, wide):
        answer = await change(client, tokens, new_password=name, confirm_password=name)
        assert expect(answer, 422)["errors"][0]["field"] == "new_password"


@pytest.mark.parametrize("field", ["current_password", "new_password", "confirm_password"])
@pytest.mark.parametrize(
    "value",
    [
        '"CANARY\\u0000"',
        '"CANARY\\ud800"',
        f'"CANARY{"x" * 2000}"',
        "2147483648",
        "9223372036854775808",
        "9" * 400,
        "NaN",
        "1e999",
        "null",
        '["CANARY"]',
    ],
)
async def test_what_is_no_password_is_unprocessable_and_not_echoed(
    client: AsyncClient, somebody: Tokens, field: str, value: str
) -> None:
    body = {"current_password": PASSWORD, "new_password": NEW, "confirm_password": NEW}
    fields = {name: json.dumps(each) for name, each in body.items()} | {field: value}
    text = "{" + ",".join(f'"{name}":{each}' for name, each in fields.items()) + "}"
    headers = {"Content-Type": "application/json", **somebody.headers}
    answer = await client.post(CHANGE, content=text.encode(), headers=headers)
    assert field in [each["field"] for each in expect(answer, 422)["errors"]]
    assert "CANARY" not in answer.text


async def test_two_changes_at_once_leave_one_password(client: AsyncClient) -> None:
    here = await new_user(client)
    there = await sign_in(client, here.account)
    wanted = ["the first of two phrases", "the second of two phrases"]
    answers = await asyncio.gather(
        *(
            change(client, tokens, new_password=new, confirm_password=new)
            for tokens, new in zip((here, there), wanted, strict=True)
        )
    )
    assert 204 in {each.status_code for each in answers}
    opened = []
    for password in (*wanted, PASSWORD):
        form = {"username": here.account.username, "password": password}
        opened.append((await client.post("/api/v1/auth/token", data=form)).status_code)
    assert sorted(opened) == [200, 401, 401]
    assert opened[2] == 401
    # Who changed it last is signed in, the other one is not.
    alive = [(await client.get(ME, headers=t.headers)).status_code for t in (here, there)]
    assert alive.count(200) <= 1


async def test_a_slow_rehash_never_brings_an_old_password_back(
    client: AsyncClient, app: FastAPI
) -> None:
    tokens = await new_user(client)
    resources = app.state.resources
    before = await resources.accounts.get(tokens.account.id)
    assert (await change(client, tokens)).status_code == 204
    async with resources.db.transaction() as connection:
        await UserRepository(connection).rehash(before, await resources.passwords.hash(PASSWORD))
    assert await sign_in(client, with_password(tokens.account, NEW))


async def test_the_sockets_of_other_sessions_close_and_ones_own_stays(
    client: AsyncClient, server: LiveServer
) -> None:
    here = await new_user(client)
    there = await sign_in(client, here.account)
    async with listening(server, here, "me") as mine, listening(server, there, "me") as other:
        assert (await change(client, here)).status_code == 204
        assert await other.close_code() == 1008
        await mine.send(action="ping")
        assert await mine.until("pong")


async def test_changes_have_a_limit_of_their_own(
    make_app: MakeApp, make_client: MakeClient
) -> None:
    client = make_client(await make_app(rate_limits_enabled=True, rate_limit_password="3/minute"))
    tokens = await new_user(client)
    for _ in range(3):
        assert (await change(client, tokens, new_password="short")).status_code == 422
    answer = await change(client, tokens, new_password="short")
    assert expect(answer, 429)["error_code"] == "RATE_LIMITED"
    assert int(answer.headers["retry-after"]) >= 1


async def test_v2_speaks_camel_case(client: AsyncClient) -> None:
    tokens = await new_user(client)
    body = {"currentPassword": PASSWORD, "newPassword": NEW, "confirmPassword": NEW}
    answer = await client.post("/api/v2/auth/password/change", json=body, headers=tokens.headers)
    assert answer.status_code == 204
