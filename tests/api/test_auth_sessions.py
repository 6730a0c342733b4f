"""One's own sessions: seen, ended one by one or all, and nobody else's."""

import asyncio
from datetime import timedelta

import pytest
from fastapi import FastAPI
from httpx import AsyncClient
from sqlalchemy import update

from app.clock import now
from app.models.users import sessions
from tests.api.live import socket
from tests.conftest import MakeClient
from tests.factories import Tokens, expect, new_user, sign_in
from tests.live_server import LiveServer

AUTH = "/api/v1/auth"
SESSIONS = f"{AUTH}/sessions"
ME = "/api/v1/users/me"


async def listed(client: AsyncClient, tokens: Tokens) -> list[dict[str, object]]:
    answer = await client.get(SESSIONS, headers=tokens.headers)
    found: list[dict[str, object]] = expect(answer, 200)["items"]
    return found


async def current(client: AsyncClient, tokens: Tokens) -> object:
    return next(each["id"] for each in await listed(client, tokens) if each["is_current"])


async def test_a_session_tells_where_it_is_and_nothing_that_opens_it(
    app: FastAPI, make_client: MakeClient
) -> None:
    agent = "Käse/1.0 " + "x" * 400
    phone = make_client(app, address="203.0.113.77", headers=[(b"User-Agent", agent.encode())])
    tokens = await new_user(phone)
    answer = await phone.get(SESSIONS, headers=tokens.headers)
    (mine,) = expect(answer, 200)["items"]
    assert set(mine) == {
        "id",
        "user_agent",
        "address",
        "created_at",
        "last_used_at",
        "expires_at",
        "is_current",
    }
    assert (mine["address"], mine["is_current"]) == ("203.0.113.77", True)
    assert len(mine["user_agent"]) == 300
    assert (
        "no-store" in answer.headers["cache-control"]
        or "private" in answer.headers["cache-control"]
    )


async def test_the_last_used_comes_first(client: AsyncClient) -> None:
    first = await new_user(client)
    second = await sign_in(client, first.account)
    ids = [await current(client, each) for each in (first, second)]
    assert [each["id"] for each in await listed(client, first)] == ids[::-1]
    expect(await client.post(f"{AUTH}/refresh", json={"refresh_token": first.refresh}), 200)
    assert [each["id"] for each in await listed(client, second)] == ids


async def test_what_has_ended_or_run_out_is_not_listed(client: AsyncClient, app: FastAPI) -> None:
    here = await new_user(client)
    ended, run_out = await sign_in(client, here.account), await sign_in(client, here.account)
    run_out_id = await current(client, run_out)
    await client.post(f"{AUTH}/logout", headers=ended.headers)
    async with app.state.resources.db.transaction() as connection:
        old = update(sessions).where(sessions.c.id == run_out_id)
        await connection.execute(old.values(expires_at=now() - timedelta(seconds=1)))
    assert [each["is_current"] for each in await listed(client, here)] == [True]


async def test_ending_the_current_session_is_signing_out(client: AsyncClient) -> None:
    tokens = await new_user(client)
    url = f"{SESSIONS}/{await current(client, tokens)}"
    assert (await client.delete(url, headers=tokens.headers)).status_code == 204
    assert (await client.get(ME, headers=tokens.headers)).status_code == 401
    refused = await client.post(f"{AUTH}/refresh", json={"refresh_token": tokens.refresh})
    assert refused.status_code == 401


async def test_anothers_session_and_none_are_the_same_answer(client: AsyncClient) -> None:
    owner, stranger = await new_user(client), await new_user(client)
    bodies = []
    for session_id in (await current(client, owner), 2**63 - 1):
        answer = await client.delete(f"{SESSIONS}/{session_id}", headers=stranger.headers)
        own = ("request_id", "instance")
        bodies.append({k: v for k, v in expect(answer, 404).items() if k not in own})
    assert bodies[0] == bodies[1]
    assert (await client.get(ME, headers=owner.headers)).status_code == 200


@pytest.mark.parametrize(
    "session_id",
    ["0", "-1", "1.5", "NaN", "1e999", "abc", "%00", "²", "%ED%A0%80", str(2**63), "9" * 400],
)
async def test_an_id_that_cannot_be_is_unprocessable(
    client: AsyncClient, somebody: Tokens, session_id: str
) -> None:
    answer = await client.delete(f"{SESSIONS}/{session_id}", headers=somebody.headers)
    assert expect(answer, 422)["error_code"] == "VALIDATION_ERROR"


@pytest.mark.parametrize("session_id", [2**31, 2**32 + 1, 2**63 - 1])
async def test_an_id_past_32_bits_is_not_found(
    client: AsyncClient, somebody: Tokens, session_id: int
) -> None:
    answer = await client.delete(f"{SESSIONS}/{session_id}", headers=somebody.headers)
    assert expect(answer, 404)["error_code"] == "NOT_FOUND"


@pytest.mark.parametrize("path", ["logout", "logout-all"])
async def test_signing_out_many_times_at_once_is_signing_out(
    client: AsyncClient, path: str
) -> None:
    tokens = await new_user(client)
    answers = await asyncio.gather(
        *(client.post(f"{AUTH}/{path}", headers=tokens.headers) for _ in range(8))
    )
    assert {each.status_code for each in answers} <= {204, 401}
    assert 204 in {each.status_code for each in answers}
    assert (await client.post(f"{AUTH}/{path}", headers=tokens.headers)).status_code == 401


async def test_signing_out_everywhere_leaves_other_people_alone(client: AsyncClient) -> None:
    one, other = await new_user(client), await new_user(client)
    assert (await client.post(f"{AUTH}/logout-all", headers=one.headers)).status_code == 204
    assert (await client.get(ME, headers=other.headers)).status_code == 200
    again = await sign_in(client, one.account)
    assert len(await listed(client, again)) == 1


async def test_a_ticket_dies_with_its_session(client: AsyncClient, server: LiveServer) -> None:
    tokens = await new_user(client)
    answer = await client.post(f"{AUTH}/ws-ticket", headers=tokens.headers)
    ticket = expect(answer, 200)["ticket"]
    assert answer.headers["cache-control"] == "no-store"
    await client.post(f"{AUTH}/logout", headers=tokens.headers)
    async with socket(server, query=f"?ticket={ticket}") as live:
        assert await live.close_code() == 1008


async def test_a_ticket_is_no_token_and_a_token_no_ticket(
    client: AsyncClient, server: LiveServer
) -> None:
    tokens = await new_user(client)
    answer = await client.post(f"{AUTH}/ws-ticket", headers=tokens.headers)
    ticket = expect(answer, 200)["ticket"]
    crossed = await client.get(ME, headers={"Authorization": f"Bearer {ticket}"})
    assert crossed.status_code == 401
    body = {"refresh_token": ticket}
    assert (await client.post(f"{AUTH}/refresh", json=body)).status_code == 401
    for wrong in (tokens.access, tokens.refresh):
        async with socket(server, query=f"?ticket={wrong}") as live:
            assert await live.close_code() == 1008


async def test_v2_lists_in_camel_case(client: AsyncClient) -> None:
    tokens = await new_user(client)
    answer = await client.get("/api/v2/auth/sessions", headers=tokens.headers)
    (mine,) = expect(answer, 200)["items"]
    assert {"userAgent", "lastUsedAt", "isCurrent", "expiresAt", "createdAt"} <= set(mine)
