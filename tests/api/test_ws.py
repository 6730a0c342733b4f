"""`WS /ws`: who gets in, what they receive, and when they are shown out."""

import asyncio
import contextlib
import time
from typing import Any

import pytest
from fastapi import FastAPI
from httpx import AsyncClient
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.api.live import listening, socket
from tests.conftest import MakeApp
from tests.factories import Tokens, admin, create_item, new_user, sign_in
from tests.live_server import LiveServer, serving
from tests.patience import PATIENCE


async def test_a_header_a_ticket_or_a_first_message_signs_in(
    server: LiveServer, client: AsyncClient
) -> None:
    tokens = await new_user(client)
    async with socket(server, tokens) as live:
        welcome = await live.receive()
        assert (welcome["type"], welcome["user_id"]) == ("welcome", tokens.account.id)
    async with socket(server) as live:
        assert (await live.ask(action="authenticate", token=tokens.access))["type"] == "welcome"
    answer = await client.post("/api/v1/auth/ws-ticket", headers=tokens.headers)
    ticket = answer.json()["ticket"]
    async with socket(server, query=f"?ticket={ticket}") as live:
        assert (await live.receive())["type"] == "welcome"
    async with socket(server, query=f"?ticket={ticket}") as live:
        assert await live.close_code() == 1008


@pytest.mark.parametrize(
    "message",
    ['{"action":"authenticate","token":"x"}', '{"action":"ping"}', "garbage", "[]", '{"action":1}'],
)
async def test_who_does_not_sign_in_is_closed(server: LiveServer, message: str) -> None:
    async with socket(server) as live:
        await live.raw.send(message)
        assert await live.close_code() == 1008


async def test_a_bad_token_in_the_header_is_closed(server: LiveServer) -> None:
    async with socket(server, headers={"Authorization": "Bearer nonsense"}) as live:
        assert await live.close_code() == 1008


async def test_a_foreign_page_cannot_connect(server: LiveServer, client: AsyncClient) -> None:
    tokens = await new_user(client)
    with pytest.raises(InvalidStatus):
        async with socket(server, tokens, origin="https://evil.example"):
            pass
    async with socket(server, tokens, origin=server.url) as live:
        assert (await live.receive())["type"] == "welcome"


async def test_changes_of_an_item_arrive_in_order(server: LiveServer, client: AsyncClient) -> None:
    tokens = await new_user(client)
    async with listening(server, tokens, "items") as live:
        item = await create_item(client, tokens, name="First")
        url = f"/api/v1/items/{item['id']}"
        await client.patch(url, json={"price": 7}, headers=tokens.headers)
        await client.delete(url, headers=tokens.headers)
        await client.post(f"{url}/restore", headers=tokens.headers)
        mine: list[dict[str, Any]] = []
        while len(mine) < 4:
            message = await live.until("event")
            if message["event"]["subject"] == f"item:{item['id']}":
                mine.append(message)
    assert [each["event"]["type"] for each in mine] == [
        "item.created",
        "item.updated",
        "item.deleted",
        "item.restored",
    ]
    assert mine[0]["channel"] == "items"
    assert mine[0]["event"]["data"] == item
    ids = [int(each["event"]["id"]) for each in mine]
    assert ids == sorted(set(ids))


async def test_one_item_can_be_watched(server: LiveServer, client: AsyncClient) -> None:
    tokens = await new_user(client)
    watched, other = await create_item(client, tokens), await create_item(client, tokens)
    async with listening(server, tokens, f"item:{watched['id']}") as live:
        for each in (other, watched):
            await client.patch(
                f"/api/v1/items/{each['id']}", json={"price": 3}, headers=tokens.headers
            )
        event = (await live.until("event"))["event"]
        assert event["subject"] == f"item:{watched['id']}"


async def test_private_things_reach_their_owner_and_admins_alone(
    server: LiveServer, client: AsyncClient, app: FastAPI
) -> None:
    owner, stranger = await new_user(client), await new_user(client)
    boss = await admin(client, app)
    async with (
        listening(server, owner, "items") as mine,
        listening(server, stranger, "items") as theirs,
        listening(server, boss, "items") as ours,
    ):
        secret = await create_item(client, owner, name="Secret", visibility="private")
        public = await create_item(client, owner, name="Public")
        subject = f"item:{secret['id']}"
        for live, sees in ((mine, True), (ours, True), (theirs, False)):
            seen = []
            while f"item:{public['id']}" not in seen:
                seen.append((await live.until("event"))["event"]["subject"])
            assert (subject in seen) is sees


async def test_an_item_that_cannot_be_read_cannot_be_watched(
    server: LiveServer, client: AsyncClient
) -> None:
    owner, stranger = await new_user(client), await new_user(client)
    secret = await create_item(client, owner, visibility="private")
    async with listening(server, stranger) as live:
        hidden = await live.ask(action="subscribe", channel=f"item:{secret['id']}")
        missing = await live.ask(action="subscribe", channel=f"item:{2**62}")
        assert hidden == missing
        assert hidden["error_code"] == "NOT_FOUND"


async def test_me_tells_of_ones_own_account(
    server: LiveServer, client: AsyncClient, app: FastAPI
) -> None:
    tokens, boss = await new_user(client), await admin(client, app)
    async with listening(server, tokens, "me") as live:
        url = f"/api/v1/users/{tokens.account.id}"
        await client.patch(url, json={"full_name": "Ada"}, headers=boss.headers)
        event = (await live.until("event"))["event"]
        assert event["type"] == "user.updated"
        assert event["data"]["full_name"] == "Ada"
        assert "email" not in event["data"]


async def test_a_resumed_channel_misses_nothing(server: LiveServer, client: AsyncClient) -> None:
    tokens = await new_user(client)
    async with listening(server, tokens, "items") as live:
        await create_item(client, tokens, name="Seen")
        seen = (await live.until("event"))["event"]["id"]
    made = [await create_item(client, tokens, name=f"Missed {n}") for n in range(5)]
    async with listening(server, tokens, "items", since=seen) as live:
        late = await create_item(client, tokens, name="Late")
        wanted = [f"item:{each['id']}" for each in (*made, late)]
        got: list[str] = []
        while wanted[-1] not in got:
            got.append((await live.until("event"))["event"]["subject"])
    assert [subject for subject in got if subject in wanted] == wanted


async def test_an_event_id_that_cannot_be_is_an_error(
    server: LiveServer, client: AsyncClient
) -> None:
    tokens = await new_user(client)
    async with listening(server, tokens) as live:
        impossible: tuple[object, ...] = ("abc", -1, True, [], 1.5, "9" * 40)
        for since in impossible:
            answer = await live.ask(action="subscribe", channel="items", since=since)
            assert answer["error_code"] == "INVALID_EVENT_ID", since
        future = await live.ask(action="subscribe", channel="items", since=10**17)
        assert future["type"] == "error"


async def test_rooms_carry_messages_and_presence(server: LiveServer, client: AsyncClient) -> None:
    one, other = await new_user(client), await new_user(client)
    room = f"room:r{one.account.id}"
    async with listening(server, one) as first:
        await first.send(action="subscribe", channel=room)
        joined = await first.until("presence")
        assert (joined["action"], joined["count"]) == ("joined", 1)
        async with listening(server, other) as second:
            await second.send(action="subscribe", channel=room)
            assert (await first.until("presence"))["count"] == 2
            await second.until("subscribed")
            await second.send(action="publish", channel=room, data={"hello": 1})
            message = await first.until("message")
            assert message["from"] == other.account.id
            assert message["data"] == {"hello": 1}
        left = await first.until("presence")
        assert (left["action"], left["count"], left["user_id"]) == ("left", 1, other.account.id)


async def test_only_who_is_in_a_room_speaks_there(server: LiveServer, client: AsyncClient) -> None:
    tokens = await new_user(client)
    async with listening(server, tokens) as live:
        outside = await live.ask(action="publish", channel="room:elsewhere", data=1)
        assert outside["error_code"] == "NOT_SUBSCRIBED"
        items = await live.ask(action="publish", channel="items", data=1)
        assert items["error_code"] == "NOT_A_ROOM"


async def test_a_direct_message_reaches_one_person(server: LiveServer, client: AsyncClient) -> None:
    one, other, third = [await new_user(client) for _ in range(3)]
    async with (
        listening(server, one) as sender,
        listening(server, other) as receiver,
        listening(server, third) as bystander,
    ):
        await sender.send(action="direct", to=other.account.id, data="hi")
        message = await receiver.until("message")
        assert (message["from"], message["data"]) == (one.account.id, "hi")
        assert await bystander.is_quiet()


@pytest.mark.parametrize(
    ("text", "error_code"),
    [
        ("garbage", "INVALID_MESSAGE"),
        ("[]", "INVALID_MESSAGE"),
        ("1", "INVALID_MESSAGE"),
        ('{"action":"ping","x":NaN}', "INVALID_MESSAGE"),
        ('{"x":' + "[" * 20_000 + "]" * 20_000 + "}", "INVALID_MESSAGE"),
        ("{}", "UNKNOWN_ACTION"),
        ('{"action":{}}', "UNKNOWN_ACTION"),
        ('{"action":"subscribe"}', "UNKNOWN_CHANNEL"),
        ('{"action":"subscribe","channel":"item:0"}', "UNKNOWN_CHANNEL"),
        ('{"action":"subscribe","channel":"item:99999999999999999999"}', "UNKNOWN_CHANNEL"),
        ('{"action":"subscribe","channel":["items"]}', "UNKNOWN_CHANNEL"),
        ('{"action":"subscribe","channel":"room:a b"}', "UNKNOWN_CHANNEL"),
        ('{"action":"direct","to":"1","data":1}', "INVALID_MESSAGE"),
        ('{"action":"direct","to":true,"data":1}', "INVALID_MESSAGE"),
    ],
)
async def test_a_bad_message_is_an_error_and_no_more(
    server: LiveServer, client: AsyncClient, somebody: Tokens, text: str, error_code: str
) -> None:
    async with listening(server, somebody) as live:
        await live.raw.send(text)
        answer = await live.receive()
        assert (answer["type"], answer["error_code"]) == ("error", error_code)
        assert await live.is_quiet()


async def test_too_large_a_message_is_closed_1009(server: LiveServer, client: AsyncClient) -> None:
    tokens = await new_user(client)
    for text in ("x" * (64 * 1024 + 1), "é" * (33 * 1024)):
        async with listening(server, tokens) as live:
            await live.raw.send(text)
            assert await live.close_code() == 1009


async def test_bytes_are_closed_1003(server: LiveServer, client: AsyncClient) -> None:
    tokens = await new_user(client)
    async with listening(server, tokens) as live:
        await live.raw.send(b"{}")
        assert await live.close_code() == 1003


async def test_too_many_messages_are_an_error_then_1008(
    server: LiveServer, client: AsyncClient
) -> None:
    tokens = await new_user(client)
    async with listening(server, tokens) as live:
        for _ in range(120):
            await live.raw.send('{"action":"ping"}')
        kinds = []
        code = None
        while code is None:
            try:
                kinds.append((await live.receive()).get("error_code", "pong"))
            except ConnectionClosed:
                code = await live.close_code()
        assert code == 1008
        assert "pong" in kinds


async def test_a_socket_ends_with_its_session(server: LiveServer, client: AsyncClient) -> None:
    tokens = await new_user(client)
    async with listening(server, tokens, "items") as live:
        await client.post("/api/v1/auth/logout", headers=tokens.headers)
        assert await live.close_code() == 1008


async def test_a_socket_ends_when_its_user_may_no_longer(
    server: LiveServer, client: AsyncClient, app: FastAPI
) -> None:
    tokens, boss = await new_user(client), await admin(client, app)
    async with listening(server, tokens, "items") as live:
        url = f"/api/v1/users/{tokens.account.id}"
        await client.patch(url, json={"is_active": False}, headers=boss.headers)
        assert await live.close_code() == 1008


async def test_other_sessions_of_the_user_stay(server: LiveServer, client: AsyncClient) -> None:
    tokens = await new_user(client)
    elsewhere = await sign_in(client, tokens.account)
    async with listening(server, tokens, "me") as live:
        await client.post("/api/v1/auth/logout", headers=elsewhere.headers)
        assert await live.is_quiet()


async def test_a_token_that_runs_out_closes_unless_renewed(
    make_app: MakeApp, client: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = await new_user(client)
    app = await make_app()
    authenticator = app.state.resources.authenticator
    async with serving(app) as server:
        monkeypatch.setattr(authenticator, "expires_at", lambda _token: time.time() + 0.5)
        async with listening(server, tokens) as live:
            assert await live.close_code() == 1008
        for life in (0.5, 8.0):  # the second where the machine stood still for all of the first
            ends = time.time() + life
            monkeypatch.setattr(authenticator, "expires_at", lambda _token, ends=ends: ends)
            with contextlib.suppress(ConnectionClosed):
                async with listening(server, tokens) as live:
                    later = time.time() + 600
                    monkeypatch.setattr(authenticator, "expires_at", lambda _token: later)  # noqa: B023
                    answer = await live.ask(action="authenticate", token=tokens.access)
                    assert answer["type"] == "authenticated"
                    await asyncio.sleep(life + 0.2)
                    assert await live.is_quiet()
                    return
    pytest.fail("it ended although it was renewed")


async def test_a_renewal_cannot_change_who_it_is(server: LiveServer, client: AsyncClient) -> None:
    one, other = await new_user(client), await new_user(client)
    async with listening(server, one) as live:
        answer = await live.ask(action="authenticate", token=other.access)
        assert answer["error_code"] == "INVALID_TOKEN"


async def test_another_s_token_does_not_prolong_a_socket(
    make_app: MakeApp, client: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = await new_user(client), await new_user(client)
    app = await make_app()
    ends = {one.access: time.time() + 2, other.access: time.time() + 60}
    monkeypatch.setattr(app.state.resources.authenticator, "expires_at", ends.get)
    async with serving(app) as server, listening(server, one) as live:
        answer = await live.ask(action="authenticate", token=other.access)
        assert answer["error_code"] == "INVALID_TOKEN"
        assert await live.close_code() == 1008


async def test_a_slow_reader_is_closed_and_harms_nobody(
    make_app: MakeApp, client: AsyncClient
) -> None:
    one, other = await new_user(client), await new_user(client)
    app = await make_app(websocket_queue=8, websocket_messages_per_second=100_000)
    room = f"room:s{one.account.id}"
    async with (
        serving(app) as server,
        listening(server, one, room) as slow,
        listening(server, other, room) as quick,
    ):
        slow.raw.transport.pause_reading()
        received = 0
        for _ in range(2000):
            await quick.send(action="publish", channel=room, data="x" * 30_000)
            while (await quick.receive())["type"] != "message":
                pass
            received += 1
            if not app.state.resources.hub.connections_of(one.account.id):
                break
        assert not app.state.resources.hub.connections_of(one.account.id)
        slow.raw.transport.resume_reading()
        assert await slow.close_code() == 1013
        assert received > 0


@pytest.mark.only("production")
async def test_everything_reaches_every_worker(make_app: MakeApp, client: AsyncClient) -> None:
    one, other = await new_user(client), await new_user(client)
    room = f"room:w{one.account.id}"
    async with (
        serving(await make_app()) as server_a,
        serving(await make_app()) as server_b,
        listening(server_a, one, "items") as first,
        listening(server_b, other, "items") as second,
    ):
        item = await create_item(client, one)
        for live in (first, second):
            assert (await live.until("event"))["event"]["data"]["id"] == item["id"]
        assert await first.join(room) == 1
        assert await second.join(room) == 2
        await second.send(action="publish", channel=room, data="hello")
        assert (await first.until("message"))["data"] == "hello"
        await first.send(action="direct", to=other.account.id, data="psst")
        message = await second.until("message")
        while message["data"] == "hello":
            message = await second.until("message")
        assert message["data"] == "psst"
        await client.post("/api/v1/auth/logout", headers=other.headers)
        assert await second.close_code() == 1008


async def test_a_user_has_so_many_sockets_and_others_their_own(
    make_app: MakeApp, client: AsyncClient
) -> None:
    one, other = await new_user(client), await new_user(client)
    app = await make_app(websocket_connections_per_user=2)
    async with serving(app) as server, listening(server, one):
        async with listening(server, one):
            async with socket(server, one) as live:
                assert await live.close_code() == 1013
            async with listening(server, other):
                pass
        await forgotten(app, one.account.id, but=1)
        async with listening(server, one):
            pass


async def test_an_address_has_so_many_sockets_whoever_has_signed_in(
    make_app: MakeApp, client: AsyncClient
) -> None:
    tokens = await new_user(client)
    app = await make_app(websocket_connections_per_address=2)
    crowded = {"X-Forwarded-For": "203.0.113.7"}
    async with serving(app) as server, socket(server, headers=crowded):  # who it is, is not said
        async with socket(server, tokens, headers=crowded) as live:
            assert (await live.receive())["type"] == "welcome"
            async with socket(server, tokens, headers=crowded) as late:
                assert await late.close_code() == 1013
            async with socket(server, tokens, headers={"X-Forwarded-For": "203.0.113.8"}) as live:
                assert (await live.receive())["type"] == "welcome"
        await forgotten(app, tokens.account.id)
        async with socket(server, tokens, headers=crowded) as live:
            assert (await live.receive())["type"] == "welcome"


async def test_an_address_opens_so_many_sockets_in_a_time(
    make_app: MakeApp, client: AsyncClient
) -> None:
    tokens = await new_user(client)
    app = await make_app(rate_limits_enabled=True, rate_limit_default="2/hour")
    hasty = {"X-Forwarded-For": "203.0.113.17"}
    async with serving(app) as server:
        for _ in range(2):
            async with socket(server, tokens, headers=hasty) as live:
                assert (await live.receive())["type"] == "welcome"
        async with socket(server, tokens, headers=hasty) as late:
            assert await late.close_code() == 1013
            assert late.raw.close_reason == "RATE_LIMITED"
        async with socket(server, tokens, headers={"X-Forwarded-For": "203.0.113.18"}) as live:
            assert (await live.receive())["type"] == "welcome"


async def test_a_socket_has_so_many_channels(make_app: MakeApp, client: AsyncClient) -> None:
    tokens = await new_user(client)
    app = await make_app(websocket_messages_per_second=1000)
    async with serving(app) as server, listening(server, tokens) as live:
        for number in range(100):
            await live.send(action="subscribe", channel=f"room:{tokens.account.id}-{number}")
            await live.until("subscribed")
        await live.send(action="subscribe", channel="items")
        refused = await live.until("error")
        assert refused["error_code"] == "TOO_MANY_CHANNELS"


async def forgotten(app: FastAPI, user_id: int, *, but: int = 0) -> None:
    """Wait until the service has seen a user's sockets close."""
    async with asyncio.timeout(PATIENCE):
        while app.state.resources.hub.connections_of(user_id) > but:
            await asyncio.sleep(0.01)
