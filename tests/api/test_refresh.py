"""Refresh tokens: rotation, reuse, and the honest clients between (RFC 9700, section 4.14.2)."""

import asyncio
from datetime import timedelta

import pytest
from fastapi import FastAPI
from httpx import AsyncClient, Response
from sqlalchemy import update

from app.clock import now
from app.models.users import sessions
from tests.conftest import MakeApp, MakeClient
from tests.factories import Tokens, expect, new_user

REFRESH = "/api/v1/auth/refresh"


async def refresh(client: AsyncClient, token: str) -> Response:
    return await client.post(REFRESH, json={"refresh_token": token})


async def let_grace_pass(app: FastAPI, tokens: Tokens) -> None:
    async with app.state.resources.db.transaction() as connection:
        mine = sessions.c.user_id == tokens.account.id
        past = now() - timedelta(minutes=1)
        await connection.execute(update(sessions).where(mine).values(rotated_at=past))


async def test_a_refresh_gives_a_new_pair(client: AsyncClient) -> None:
    tokens = await new_user(client)
    answer = await refresh(client, tokens.refresh)
    pair = expect(answer, 200)
    assert pair["refresh_token"] != tokens.refresh
    assert answer.headers["cache-control"] == "no-store"
    headers = {"Authorization": f"Bearer {pair['access_token']}"}
    assert (await client.get("/api/v1/users/me", headers=headers)).status_code == 200
    assert (await refresh(client, pair["refresh_token"])).status_code == 200


async def test_a_spent_refresh_token_ends_its_session(client: AsyncClient, app: FastAPI) -> None:
    tokens = await new_user(client)
    pair = expect(await refresh(client, tokens.refresh), 200)
    await let_grace_pass(app, tokens)
    assert expect(await refresh(client, tokens.refresh), 401)["error_code"] == "TOKEN_REUSED"
    assert (await refresh(client, pair["refresh_token"])).status_code == 401
    headers = {"Authorization": f"Bearer {pair['access_token']}"}
    assert (await client.get("/api/v1/users/me", headers=headers)).status_code == 401


async def test_one_that_is_two_turns_old_has_no_grace(client: AsyncClient) -> None:
    tokens = await new_user(client)
    second = expect(await refresh(client, tokens.refresh), 200)["refresh_token"]
    expect(await refresh(client, second), 200)
    assert expect(await refresh(client, tokens.refresh), 401)["error_code"] == "TOKEN_REUSED"


async def test_two_tabs_at_the_same_moment_get_the_same_successor(client: AsyncClient) -> None:
    tokens = await new_user(client)
    answers = await asyncio.gather(*(refresh(client, tokens.refresh) for _ in range(8)))
    successors = {expect(each, 200)["refresh_token"] for each in answers}
    assert len(successors) == 1
    assert (await refresh(client, successors.pop())).status_code == 200


@pytest.mark.only("production")
async def test_two_workers_at_the_same_moment_give_the_same_successor(
    make_app: MakeApp, make_client: MakeClient, client: AsyncClient
) -> None:
    tokens = await new_user(client)
    others = [make_client(await make_app()) for _ in range(2)]
    answers = await asyncio.gather(
        *(refresh(each, tokens.refresh) for each in others for _ in range(4))
    )
    assert len({expect(each, 200)["refresh_token"] for each in answers}) == 1


@pytest.mark.parametrize(
    "token",
    ["", "x", "kpr_1.1", "kpr_1.1.x", "kpr_0.0.0", "kpr_1.1." + "0" * 64, "kpr_²..", "é" * 100],
)
async def test_a_forged_refresh_token_is_invalid(client: AsyncClient, token: str) -> None:
    assert expect(await refresh(client, token), 401)["error_code"] == "INVALID_TOKEN"


async def test_a_changed_refresh_token_is_invalid_and_harms_nobody(client: AsyncClient) -> None:
    tokens = await new_user(client)
    session, _, mac = tokens.refresh.removeprefix("kpr_").split(".")
    last = "0" if mac[-1] != "0" else "1"
    for forged in (
        tokens.refresh[:-1] + last,
        f"kpr_{session}.2.{mac}",
        f"kpr_{session}.1.{mac.upper()}",
        f"kpr_0{session}.1.{mac}",
    ):
        assert forged != tokens.refresh
        assert (await refresh(client, forged)).status_code in (401, 422)
    assert (await refresh(client, tokens.refresh)).status_code == 200


async def test_a_session_ends_when_it_was_not_used_for_long(
    client: AsyncClient, app: FastAPI
) -> None:
    tokens = await new_user(client)
    async with app.state.resources.db.transaction() as connection:
        mine = sessions.c.user_id == tokens.account.id
        past = now() - timedelta(seconds=1)
        await connection.execute(update(sessions).where(mine).values(expires_at=past))
    assert (await refresh(client, tokens.refresh)).status_code == 401


async def test_an_access_token_is_no_refresh_token_and_the_reverse(client: AsyncClient) -> None:
    tokens = await new_user(client)
    assert (await refresh(client, tokens.access)).status_code in (401, 422)
    headers = {"Authorization": f"Bearer {tokens.refresh}"}
    assert (await client.get("/api/v1/users/me", headers=headers)).status_code == 401
