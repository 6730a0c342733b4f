"""Nobody is shown what they may not read, whatever ends while they are subscribed."""

import asyncio
from typing import Any

import pytest
from fastapi import FastAPI
from httpx import AsyncClient
from sqlalchemy import update
from websockets.exceptions import ConnectionClosed

from app.clock import now
from app.concurrency import unending
from app.errors import DatabaseUnavailable
from app.events.channels import event_frame
from app.models.events import Audience, Event, EventKind
from app.models.users import sessions
from app.security.principal import Principal, Role
from tests.api.live import Socket, listening
from tests.api.test_events import stream
from tests.factories import Account, Tokens, admin, create_item, expect, give_roles, new_user
from tests.live_server import LiveServer

AHEAD = 2**40  # ids that the outbox never comes to: these events are handed to the hub alone


def told(
    number: int, kind: EventKind, owner: Account, audience: Audience = Audience.OWNER
) -> Event:
    """Return an event of somebody's."""
    subject = "item" if kind.startswith("item") else "user"
    return Event(AHEAD + number, kind, subject, 1, owner.id, audience, {"number": number}, now())


async def numbers(live: Socket) -> list[int]:
    """Return which of these events came; who is in doubt subscribes only once that is over."""
    await live.send(action="subscribe", channel="room:certain")
    found: list[int] = []
    while (message := await live.receive())["type"] != "subscribed":
        data: dict[str, Any] = message.get("event", {}).get("data", {})
        found += [data["number"]] if "number" in data else []
    return found


async def test_what_follows_the_end_of_a_role_at_once_is_not_shown(
    server: LiveServer, client: AsyncClient, app: FastAPI
) -> None:
    boss, other = await admin(client, app), await new_user(client)
    hub = app.state.resources.hub
    async with listening(server, boss, "items") as live:
        hub.deliver([told(1, EventKind.ITEM_CREATED, other.account)])
        await give_roles(app, boss.account, Role.USER)
        hub.deliver(
            [
                told(2, EventKind.USER_UPDATED, boss.account),
                told(3, EventKind.ITEM_CREATED, other.account),
                told(4, EventKind.ITEM_CREATED, other.account, Audience.PUBLIC),
                told(5, EventKind.ITEM_CREATED, boss.account),
            ]
        )
        hub.deliver([told(6, EventKind.ITEM_CREATED, other.account)])
        assert await numbers(live) == [1, 4, 5]


async def test_what_follows_the_end_of_a_session_at_once_is_not_shown(
    server: LiveServer, client: AsyncClient, app: FastAPI
) -> None:
    tokens = await new_user(client)
    hub = app.state.resources.hub
    async with listening(server, tokens, "items") as live:
        async with app.state.resources.db.transaction() as connection:
            ended = update(sessions).where(sessions.c.user_id == tokens.account.id)
            await connection.execute(ended.values(ended_at=now()))
        hub.deliver(
            [
                told(1, EventKind.SESSION_ENDED, tokens.account, Audience.INTERNAL),
                told(2, EventKind.ITEM_CREATED, tokens.account),
            ]
        )
        with pytest.raises(ConnectionClosed) as closed:
            pytest.fail(f"came: {await live.receive()}")
        assert closed.value.rcvd
        assert closed.value.rcvd.code == 1008


async def test_who_keeps_the_right_misses_nothing(
    server: LiveServer, client: AsyncClient, app: FastAPI
) -> None:
    tokens = await new_user(client)
    hub = app.state.resources.hub
    async with listening(server, tokens, "items", "me") as live:
        for number in range(1, 9, 2):
            hub.deliver(
                [
                    told(number, EventKind.USER_UPDATED, tokens.account),
                    told(number + 1, EventKind.ITEM_UPDATED, tokens.account),
                ]
            )
            await asyncio.sleep(0.002)
        assert await numbers(live) == list(range(1, 9))


async def test_who_connects_as_what_they_were_a_moment_ago_is_looked_up(
    client: AsyncClient, app: FastAPI
) -> None:
    boss, other = await admin(client, app), await new_user(client)
    hub = app.state.resources.hub
    was = Principal(boss.account.id, await session_of(app, boss), frozenset({Role.ADMIN}))
    await give_roles(app, boss.account, Role.USER)
    hub.deliver([told(1, EventKind.USER_UPDATED, boss.account)])
    subscriber = hub.connect(was, event_frame)
    try:
        await hub.subscribe(subscriber, "items")
        hub.deliver([told(2, EventKind.ITEM_CREATED, other.account)])
        assert subscriber.principal.roles == {Role.USER}
        assert subscriber.waiting.empty()
    finally:
        await hub.disconnect(subscriber)


async def test_whose_rights_could_not_be_looked_up_is_cut_off_all_the_same(
    server: LiveServer, client: AsyncClient, app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    boss, banned = await admin(client, app), await new_user(client)
    authenticator = app.state.resources.authenticator
    again = authenticator.again
    failures = [DatabaseUnavailable(), *[LookupError("CANARY")] * 9]  # more than it is doubted

    async def failing(principal: Principal) -> Principal:
        if principal.user_id == banned.account.id and failures:
            raise failures.pop()
        found: Principal = await again(principal)
        return found

    monkeypatch.setattr(authenticator, "again", failing)
    monkeypatch.setattr(unending, "_PAUSE", 0.01)
    async with listening(server, banned, "items") as live:
        url = f"/api/v1/users/{banned.account.id}"
        answer = await client.patch(url, json={"is_active": False}, headers=boss.headers)
        assert answer.status_code == 200
        assert await live.close_code() == 1008
    assert not failures


async def session_of(app: FastAPI, tokens: Tokens) -> int:
    """Return the id of the session that an access token belongs to."""
    principal = await app.state.resources.authenticator.authenticate(tokens.access)
    return int(principal.session_id)


async def test_an_item_that_turns_private_is_seen_no_more_by_who_watches_it(
    server: LiveServer, client: AsyncClient
) -> None:
    owner, stranger = await new_user(client), await new_user(client)
    item, other = await create_item(client, owner), await create_item(client, owner)
    url, marker = f"/api/v1/items/{item['id']}", f"/api/v1/items/{other['id']}"
    channel = f"item:{item['id']}"
    query = f"channel={channel}&channel=item:{other['id']}"
    async with (
        listening(server, stranger, channel, f"item:{other['id']}") as theirs,
        listening(server, owner, channel) as mine,
        stream(server, query, **stranger.headers) as read,
    ):
        for path, body in (
            (url, {"price": 3}),
            (url, {"visibility": "private"}),
            (url, {"price": 4}),
            (marker, {"price": 5}),
        ):
            expect(await client.patch(path, json=body, headers=owner.headers), 200)
        for _ in range(3):
            assert (await mine.until("event"))["event"]["subject"] == channel
        for next_of in (theirs.until_event, read.next):
            prices: list[float] = []
            while 5 not in prices:
                event = await next_of()  # they may have been made only just before
                prices += [event["data"]["price"]] if event["type"] == "item.updated" else []
            assert prices in ([5], [3, 5])  # 3: if it was read in time


async def test_who_is_no_admin_any_more_sees_no_further_private_item(
    server: LiveServer, client: AsyncClient, app: FastAPI
) -> None:
    boss, other, owner = [await admin(client, app) for _ in range(2)] + [await new_user(client)]
    async with listening(server, boss, "items") as live:
        seen = await create_item(client, owner, visibility="private")
        assert (await live.until("event"))["event"]["data"]["id"] == seen["id"]
        url = f"/api/v1/users/{boss.account.id}"
        body = {"roles": ["user"]}
        expect(await client.patch(url, json=body, headers=other.headers), 200)
        await create_item(client, owner, visibility="private")
        public = await create_item(client, owner)
        assert (await live.until("event"))["event"]["data"]["id"] == public["id"]
