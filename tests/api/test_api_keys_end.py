"""When an API key ends, and what it opens: on every worker, over HTTP, streams and sockets."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
from fastapi import FastAPI
from httpx import AsyncClient
from sqlalchemy import text

from app.clock import now
from app.errors import DatabaseUnavailable
from app.security.opaque import digest
from app.security.principal import Principal
from tests.api.api_keys import KEYS, ME, Key, new_key, rotated, works
from tests.api.live import DEADLINE, socket
from tests.conftest import MakeApp, MakeClient
from tests.factories import admin, create_item, expect, new_user
from tests.live_server import LiveServer
from tests.patience import no_longer

PROMISED = 1  # second
# The first is enough; another one where the machine stood still for all of that.
LIVES = [timedelta(seconds=seconds) for seconds in (1, 8, 60)]
End = Callable[[AsyncClient, FastAPI, Key], Awaitable[Any]]


async def revoke(client: AsyncClient, _app: FastAPI, key: Key) -> None:
    answer = await client.delete(key.url, headers=key.owner.headers)
    assert answer.status_code == 204


async def rotate_after_a_leak(client: AsyncClient, _app: FastAPI, key: Key) -> None:
    await rotated(client, key, 0)


async def suspend(client: AsyncClient, app: FastAPI, key: Key) -> None:
    boss = await admin(client, app)
    url = f"/api/v1/users/{key.owner.account.id}"
    expect(await client.patch(url, json={"is_active": False}, headers=boss.headers), 200)


async def delete_owner(client: AsyncClient, _app: FastAPI, key: Key) -> None:
    answer = await client.delete(ME, headers=key.owner.headers)
    assert answer.status_code == 204


ENDS = [revoke, rotate_after_a_leak, suspend, delete_owner]


@pytest.mark.parametrize("end", ENDS)
async def test_a_key_ends_within_a_second_on_every_worker(
    client: AsyncClient, app: FastAPI, make_app: MakeApp, make_client: MakeClient, end: End
) -> None:
    elsewhere = make_client(await make_app())
    key = await new_key(client, await new_user(client))
    assert await works(elsewhere, key)
    assert await works(client, key)
    await end(client, app, key)
    assert not await works(client, key)
    await no_longer(lambda: works(elsewhere, key), than=PROMISED)


async def test_an_expired_key_ends_by_itself(client: AsyncClient) -> None:
    owner = await new_user(client)
    for life in LIVES:
        ends_at = now() + life
        key = await new_key(client, owner, expires_at=ends_at.isoformat())
        if await works(client, key):
            break
    else:
        pytest.fail("it never worked")
    await no_longer(lambda: works(client, key), than=life.total_seconds())
    assert now() >= ends_at
    new = await rotated(client, key, 60)  # another secret does not make it live longer
    assert not await works(client, new)


async def test_an_overlap_does_not_outlive_the_key(client: AsyncClient) -> None:
    owner = await new_user(client)
    for life in LIVES:
        ends_at = (now() + life).isoformat()
        old = await new_key(client, owner, expires_at=ends_at)
        new = await rotated(client, old, 600)
        if await works(client, old) and await works(client, new):
            break
    else:
        pytest.fail("they never worked")
    for key in (old, new):
        await no_longer(lambda key=key: works(client, key), than=life.total_seconds())  # type: ignore[misc]


async def test_a_role_that_was_taken_is_taken_from_the_key(
    client: AsyncClient, app: FastAPI, make_app: MakeApp, make_client: MakeClient
) -> None:
    elsewhere, third = make_client(await make_app()), make_client(await make_app())
    fallen, boss = await admin(client, app), await admin(client, app)
    key = await new_key(client, fallen)
    for worker in (elsewhere, third):
        assert (await worker.get("/api/v1/users", headers=key.headers)).status_code == 200
    url = f"/api/v1/users/{fallen.account.id}"
    expect(await client.patch(url, json={"roles": ["user"]}, headers=boss.headers), 200)
    # What a role allows to change asks the database: not even within the second.
    gain = await third.patch(url, json={"roles": ["admin"]}, headers=key.headers)
    assert gain.status_code == 403

    async def still() -> bool:
        answer = await elsewhere.get("/api/v1/users", headers=key.headers)
        return answer.status_code != 403

    await no_longer(still, than=PROMISED)


async def test_signing_out_everywhere_leaves_keys_alone(client: AsyncClient) -> None:
    key = await new_key(client, await new_user(client))
    await client.post("/api/v1/auth/logout-all", headers=key.owner.headers)
    assert await works(client, key)


async def test_deleting_an_account_deletes_its_keys(client: AsyncClient, app: FastAPI) -> None:
    key = await new_key(client, await new_user(client))
    await client.delete(ME, headers=key.owner.headers)
    async with app.state.resources.db.read() as connection:
        count = text("SELECT count(*) FROM api_keys WHERE id = :id")
        assert (await connection.execute(count, {"id": key.id})).scalar_one() == 0


async def test_a_known_key_costs_no_question_and_little_time(
    client: AsyncClient, app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = await new_key(client, await new_user(client))
    authenticator = app.state.resources.authenticator
    known = await authenticator.authenticate_key(key.secret)
    monkeypatch.setattr(authenticator, "_tail_is_fresh", lambda: True)
    monkeypatch.setattr(authenticator, "_db", None)
    costs = []
    for _ in range(20):
        started = time.process_time()
        for _ in range(100):
            assert await authenticator.authenticate_key(key.secret) is known
        costs.append((time.process_time() - started) / 100)
    assert min(costs) < 100e-6  # seconds


async def test_while_the_tail_is_behind_the_database_is_asked(
    client: AsyncClient, app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = await new_key(client, await new_user(client))
    authenticator = app.state.resources.authenticator
    known = await authenticator.authenticate_key(key.secret)
    monkeypatch.setattr(authenticator, "_tail_is_fresh", lambda: False)
    assert await authenticator.authenticate_key(key.secret) is not known


@pytest.mark.only("production")
async def test_a_secret_is_looked_up_by_an_index(client: AsyncClient, app: FastAPI) -> None:
    key = await new_key(client, await new_user(client))
    hashed = digest(key.secret)
    query = f"SELECT id FROM api_keys WHERE digest = '{hashed}' OR previous_digest = '{hashed}'"
    async with app.state.resources.db.transaction() as connection:
        await connection.execute(text("SET LOCAL enable_seqscan = off"))
        plan = "\n".join((await connection.execute(text(f"EXPLAIN {query}"))).scalars())
    assert "uq_api_keys_digest" in plan
    assert "uq_api_keys_previous_digest" in plan


async def test_a_stream_opens_with_the_scope_alone_and_ends_with_the_key(
    server: LiveServer, client: AsyncClient
) -> None:
    owner = await new_user(client)
    reader, other = (
        await new_key(client, owner, "events:read"),
        await new_key(client, owner, "items:read"),
    )
    url = "/api/v1/events?channel=me&channel=items"
    async with server.client(timeout=DEADLINE) as http:
        refused = await http.get(url, headers=other.headers)
        assert expect(refused, 403)["error_code"] == "INSUFFICIENT_SCOPE"
        async with http.stream("GET", url, headers=reader.headers) as answer:
            assert answer.status_code == 200
            lines = answer.aiter_lines()
            assert (await anext(lines)).startswith("retry")
            item = await create_item(client, owner, visibility="private")
            async for line in lines:
                if line.startswith("data") and f'"item:{item["id"]}"' in line:
                    break
            await client.delete(reader.url, headers=owner.headers)
            async with asyncio.timeout(DEADLINE):
                assert [line async for line in lines if line.startswith("data")] == []


async def test_a_socket_opens_by_the_header_and_speaks_in_rooms(
    server: LiveServer, client: AsyncClient
) -> None:
    key = await new_key(client, await new_user(client), "events:read")
    async with socket(server, headers=key.headers) as live:
        welcome = await live.receive()
        assert (welcome["type"], welcome["user_id"]) == ("welcome", key.owner.account.id)
        room = f"room:k{key.id}"
        await live.send(action="subscribe", channel=room)
        await live.until("subscribed")
        await live.send(action="publish", channel=room, data=1)
        assert (await live.until("message"))["from"] == key.owner.account.id


async def test_a_socket_without_the_scope_or_with_two_credentials_is_closed(
    server: LiveServer, client: AsyncClient
) -> None:
    key = await new_key(client, await new_user(client), "items:read", "items:write")
    both = await new_key(client, key.owner, "events:read")
    for headers in (
        key.headers,
        {"X-API-Key": "nonsense"},
        {**both.headers, **key.owner.headers},
    ):
        async with socket(server, headers=headers) as live:
            assert await live.close_code() == 1008


@pytest.mark.parametrize("end", ENDS)
async def test_a_socket_ends_with_its_key(
    server: LiveServer, client: AsyncClient, app: FastAPI, end: End
) -> None:
    key = await new_key(client, await new_user(client), "events:read")
    async with socket(server, headers=key.headers) as live:
        await live.receive()
        await end(client, app, key)
        assert await live.close_code() == 1008


async def test_a_socket_ends_with_its_key_although_the_database_was_away_for_a_moment(
    server: LiveServer, client: AsyncClient, app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = await new_key(client, await new_user(client), "events:read")
    authenticator = app.state.resources.authenticator
    outages = iter([DatabaseUnavailable(), DatabaseUnavailable()])
    again = authenticator.again

    async def flaky(principal: Principal) -> Principal:
        for outage in outages:
            raise outage
        known: Principal = await again(principal)
        return known

    monkeypatch.setattr(authenticator, "again", flaky)
    async with socket(server, headers=key.headers) as live:
        await live.receive()
        await client.delete(key.url, headers=key.owner.headers)
        assert await live.close_code() == 1008


async def test_a_socket_outlives_neither_the_key_nor_the_overlap(
    server: LiveServer, client: AsyncClient
) -> None:
    owner = await new_user(client)
    soon = (now() + timedelta(seconds=1)).isoformat()
    expiring = await new_key(client, owner, "events:read", expires_at=soon)
    turned = await new_key(client, owner, "events:read")
    async with (
        socket(server, headers=expiring.headers) as one,
        socket(server, headers=turned.headers) as two,
    ):
        await one.receive()
        await two.receive()
        new = await rotated(client, turned, 1)
        async with socket(server, headers=new.headers) as three:
            await three.receive()
            assert await one.close_code() == 1008
            assert await two.close_code() == 1008
            assert await three.is_quiet()


async def test_a_socket_of_a_key_can_go_on_by_a_token(
    server: LiveServer, client: AsyncClient
) -> None:
    key = await new_key(client, await new_user(client), "events:read")
    stranger = await new_user(client)
    async with socket(server, headers=key.headers) as live:
        await live.receive()
        refused = await live.ask(action="authenticate", token=stranger.access)
        assert refused["error_code"] == "INVALID_TOKEN"
        answer = await live.ask(action="authenticate", token=key.owner.access)
        assert answer["type"] == "authenticated"
        await client.delete(key.url, headers=key.owner.headers)
        await client.post(
            KEYS, json={"name": "A", "scopes": ["items:read"]}, headers=key.owner.headers
        )
        assert await live.is_quiet()
