"""Refreshing against thieves, hostile bodies and bad luck, beyond what `test_refresh` holds."""

import asyncio
from datetime import timedelta

import pytest
from fastapi import FastAPI
from httpx import AsyncClient, Response
from sqlalchemy import update

from app.clock import now
from app.models.users import sessions
from app.services.sessions import REFRESH_GRACE
from tests.api.live import listening
from tests.conftest import SECRET_KEY, MakeApp, MakeClient
from tests.factories import Tokens, admin, expect, new_user, sign_in
from tests.live_server import LiveServer
from tests.patience import no_longer

REFRESH = "/api/v1/auth/refresh"
ME = "/api/v1/users/me"
OTHER_SECRET = "tests-only-1d5b0a9e4c7f48e2a6d3905b7c1e8f24"


async def refresh(client: AsyncClient, token: str) -> Response:
    return await client.post(REFRESH, json={"refresh_token": token})


async def let_grace_pass(app: FastAPI, tokens: Tokens, passed: timedelta) -> None:
    async with app.state.resources.db.transaction() as connection:
        mine = sessions.c.user_id == tokens.account.id
        await connection.execute(update(sessions).where(mine).values(rotated_at=now() - passed))


async def test_a_lost_answer_is_given_again(client: AsyncClient, app: FastAPI) -> None:
    tokens = await new_user(client)
    lost = expect(await refresh(client, tokens.refresh), 200)
    await let_grace_pass(app, tokens, REFRESH_GRACE - timedelta(seconds=3))
    again = expect(await refresh(client, tokens.refresh), 200)
    assert again["refresh_token"] == lost["refresh_token"]
    assert (await refresh(client, again["refresh_token"])).status_code == 200


async def test_the_grace_is_short(client: AsyncClient, app: FastAPI) -> None:
    assert timedelta(seconds=30) >= REFRESH_GRACE
    tokens = await new_user(client)
    expect(await refresh(client, tokens.refresh), 200)
    await let_grace_pass(app, tokens, REFRESH_GRACE + timedelta(seconds=1))
    assert expect(await refresh(client, tokens.refresh), 401)["error_code"] == "TOKEN_REUSED"


@pytest.mark.only("production")
async def test_a_family_dies_on_every_worker_within_a_second(
    make_app: MakeApp, make_client: MakeClient, client: AsyncClient, app: FastAPI
) -> None:
    elsewhere = make_client(await make_app())
    tokens = await new_user(client)
    pair = expect(await refresh(client, tokens.refresh), 200)
    headers = {"Authorization": f"Bearer {pair['access_token']}"}
    assert (await elsewhere.get(ME, headers=headers)).status_code == 200
    other_device = await sign_in(client, tokens.account)
    await let_grace_pass(app, tokens, timedelta(minutes=1))
    assert expect(await refresh(client, tokens.refresh), 401)["error_code"] == "TOKEN_REUSED"

    async def still() -> bool:
        return (await elsewhere.get(ME, headers=headers)).status_code == 200

    await no_longer(still, than=1)
    assert (await refresh(elsewhere, pair["refresh_token"])).status_code == 401
    # Another sign-in of the same person is another family.
    assert (await elsewhere.get(ME, headers=other_device.headers)).status_code == 200


async def test_a_socket_dies_with_its_family(
    client: AsyncClient, app: FastAPI, server: LiveServer
) -> None:
    tokens = await new_user(client)
    expect(await refresh(client, tokens.refresh), 200)
    await let_grace_pass(app, tokens, timedelta(minutes=1))
    async with listening(server, tokens, "me") as live:
        assert (await refresh(client, tokens.refresh)).status_code == 401
        assert await live.close_code() == 1008


async def test_thieves_and_the_owner_at_once_leave_no_session(
    client: AsyncClient, app: FastAPI
) -> None:
    tokens = await new_user(client)
    pair = expect(await refresh(client, tokens.refresh), 200)
    await let_grace_pass(app, tokens, timedelta(minutes=1))
    spent = [tokens.refresh] * 4 + [pair["refresh_token"]] * 4
    answers = await asyncio.gather(*(refresh(client, each) for each in spent))
    assert {each.status_code for each in answers} <= {200, 401}
    for answer in answers:
        if answer.status_code == 200:
            last = answer.json()
            headers = {"Authorization": f"Bearer {last['access_token']}"}
            assert (await client.get(ME, headers=headers)).status_code == 401
            assert (await refresh(client, last["refresh_token"])).status_code == 401


async def test_an_ended_session_says_no_more_than_that(client: AsyncClient) -> None:
    tokens = await new_user(client)
    pair = expect(await refresh(client, tokens.refresh), 200)
    await client.post("/api/v1/auth/logout", headers=tokens.headers)
    for token in (tokens.refresh, pair["refresh_token"]):
        assert expect(await refresh(client, token), 401)["error_code"] == "INVALID_TOKEN"


async def test_the_deactivated_and_the_deleted_stay_out(client: AsyncClient, app: FastAPI) -> None:
    boss = await admin(client, app)
    off, gone = await new_user(client), await new_user(client)
    for tokens, method, body in ((off, "PATCH", {"is_active": False}), (gone, "DELETE", None)):
        url = f"/api/v1/users/{tokens.account.id}"
        answer = await client.request(method, url, json=body, headers=boss.headers)
        assert answer.status_code in (200, 204)
        assert (await refresh(client, tokens.refresh)).status_code == 401
    # Being let in again does not bring the old sessions back.
    url = f"/api/v1/users/{off.account.id}"
    await client.patch(url, json={"is_active": True}, headers=boss.headers)
    assert (await refresh(client, off.refresh)).status_code == 401
    assert (await client.get(ME, headers=off.headers)).status_code == 401
    assert await sign_in(client, off.account)


async def test_a_new_role_is_in_the_next_token(client: AsyncClient, app: FastAPI) -> None:
    boss, tokens = await admin(client, app), await new_user(client)
    url = f"/api/v1/users/{tokens.account.id}"
    await client.patch(url, json={"roles": ["user", "analyst"]}, headers=boss.headers)
    pair = expect(await refresh(client, tokens.refresh), 200)
    headers = {"Authorization": f"Bearer {pair['access_token']}"}
    assert expect(await client.get(ME, headers=headers), 200)["roles"] == ["analyst", "user"]
    assert (await client.get("/api/v1/items/stats", headers=headers)).status_code == 200


async def test_tokens_outlive_one_rotation_of_the_secret_and_no_second(
    make_app: MakeApp, make_client: MakeClient, client: AsyncClient
) -> None:
    one, other = await new_user(client), await new_user(client)
    rotated = make_client(await make_app(secret_key=OTHER_SECRET, secret_key_previous=SECRET_KEY))
    assert (await rotated.get(ME, headers=one.headers)).status_code == 200
    pair = expect(await refresh(rotated, one.refresh), 200)
    later = make_client(await make_app(secret_key=OTHER_SECRET))
    headers = {"Authorization": f"Bearer {pair['access_token']}"}
    assert (await later.get(ME, headers=headers)).status_code == 200
    assert (await refresh(later, pair["refresh_token"])).status_code == 200
    assert (await later.get(ME, headers=other.headers)).status_code == 401
    assert expect(await refresh(later, other.refresh), 401)["error_code"] == "INVALID_TOKEN"


@pytest.mark.parametrize(
    "content",
    [
        b'{"refresh_token": "CANARY\\u0000"}',
        b'{"refresh_token": "CANARY\\ud800"}',
        b'{"refresh_token": "CANARY' + b"x" * 600 + b'"}',
        b'{"refresh_token": "' + b"x" * 1_000_000 + b'"}',
        b'{"refresh_token": 2147483648}',
        b'{"refresh_token": 9223372036854775808}',
        b'{"refresh_token": ' + b"9" * 5000 + b"}",
        b'{"refresh_token": NaN}',
        b'{"refresh_token": 1e999}',
        b'{"refresh_token": null}',
        b'{"refresh_token": ["CANARY"]}',
        b'{"refresh_token": {"CANARY": 1}}',
        b'{"refreshToken": "CANARY"}',
        b'{"refresh_token": "x", "user_id": "CANARY"}',
        b"{}",
        b"[]",
        b'"CANARY"',
        b"null",
    ],
)
async def test_a_hostile_body_is_unprocessable_and_not_echoed(
    client: AsyncClient, content: bytes
) -> None:
    answer = await client.post(
        REFRESH, content=content, headers={"Content-Type": "application/json"}
    )
    assert answer.status_code in (400, 422), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert "CANARY" not in answer.text


@pytest.mark.parametrize(
    "token",
    [
        f"kpr_{2**31}.1.{'0' * 64}",
        f"kpr_{2**63 - 1}.1.{'0' * 64}",
        f"kpr_{2**63}.1.{'0' * 64}",
        f"kpr_{'9' * 400}.1.{'0' * 64}",
        f"kpr_1.{'9' * 18}.{'0' * 64}",
        f"kpr_-1.1.{'0' * 64}",
        f"kpr_٣.1.{'0' * 64}",
        f"kpr_1.1.{'0' * 64}.",
        "kpr_..",
        "kpr_" * 50,
    ],
)
async def test_a_number_that_no_column_holds_is_no_token(client: AsyncClient, token: str) -> None:
    assert expect(await refresh(client, token), 401)["error_code"] == "INVALID_TOKEN"


async def test_v2_accepts_both_spellings_of_the_field(client: AsyncClient) -> None:
    for name in ("refreshToken", "refresh_token"):
        tokens = await new_user(client)
        answer = await client.post("/api/v2/auth/refresh", json={name: tokens.refresh})
        assert "refresh_token" in expect(answer, 200)
