"""What a live connection is told first, how it ends, and how a browser goes on after it."""

import asyncio
from typing import Any
from uuid import uuid4

import pytest
from httpx import AsyncClient

from app.routers import events
from tests.api.live import DEADLINE, Socket, listening, socket
from tests.api.test_events import stream
from tests.factories import Tokens, create_item, new_user
from tests.live_server import LiveServer
from tests.raw_socket import connection, request


async def reason_of(live: Socket) -> str:
    """Return what the server's close frame says."""
    assert await live.close_code() == 1008
    return live.raw.close_reason or ""


async def test_subscribed_comes_first_in_a_room(server: LiveServer, client: AsyncClient) -> None:
    tokens = await new_user(client)
    async with listening(server, tokens) as live:
        room = f"room:{uuid4().hex}"
        assert (await live.ask(action="subscribe", channel=room))["type"] == "subscribed"
        presence = await live.receive()
        assert (presence["type"], presence["count"]) == ("presence", 1)


async def test_subscribed_comes_first_when_resuming(
    server: LiveServer, client: AsyncClient
) -> None:
    tokens = await new_user(client)
    async with listening(server, tokens, "items") as live:
        made = [await create_item(client, tokens) for _ in range(3)]
        seen = await live.until_event()
        while seen["data"]["id"] != made[0]["id"]:
            seen = await live.until_event()
    async with listening(server, tokens) as live:
        answer = await live.ask(action="subscribe", channel="items", since=seen["id"])
        assert answer == {"type": "subscribed", "channel": "items", "event_id": seen["id"]}
        found: list[Any] = []
        while len(found) < 2:
            event = await live.until_event()
            found += [event["data"]["id"]] * (event["data"]["owner_id"] == tokens.account.id)
        assert found == [each["id"] for each in made[1:]]


@pytest.mark.parametrize("to", ['"to":1', '"channel":"room:tea"'])
async def test_a_message_without_data_is_refused(
    server: LiveServer, client: AsyncClient, to: str
) -> None:
    action = "direct" if '"to"' in to else "publish"
    async with listening(server, await new_user(client), "room:tea") as live:
        await live.raw.send(f'{{"action":"{action}",{to}}}')
        assert (await live.until("error"))["error_code"] == "INVALID_MESSAGE"


async def test_a_close_frame_says_why(server: LiveServer) -> None:
    async with socket(server, headers={"Authorization": "Bearer nonsense"}) as live:
        assert await reason_of(live) == "INVALID_TOKEN"
    async with socket(server, query="?ticket=nonsense") as live:
        assert await reason_of(live) != ""
    async with socket(server) as live:
        await live.send(action="ping")
        assert await reason_of(live) == "INVALID_TOKEN"


async def test_a_stream_opened_anew_goes_on_by_its_address(
    server: LiveServer, client: AsyncClient
) -> None:
    tokens = await new_user(client)
    private = await create_item(client, tokens, visibility="private")
    channel = f"channel=item:{private['id']}"
    url = f"/api/v1/items/{private['id']}"
    async with stream(server, channel, **tokens.headers) as live:
        for name in ("a", "b", "c"):
            await client.patch(url, json={"name": name}, headers=tokens.headers)
        seen = [await live.next() for _ in range(3)]
    ticket = await ticket_of(client, tokens)
    async with stream(server, f"{channel}&ticket={ticket}&since={seen[0]['id']}") as live:
        assert [await live.next() for _ in range(2)] == seen[1:]
    # A browser that reconnects by itself asks for the first address again.
    last = {"Last-Event-ID": seen[1]["id"]}
    async with stream(server, f"{channel}&since={seen[0]['id']}", **tokens.headers, **last) as live:
        assert await live.next() == seen[2]


async def test_a_browser_without_an_event_resumes_by_the_heartbeat(
    server: LiveServer, client: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "HEARTBEAT_SECONDS", 0.05)
    tokens = await new_user(client)
    query = "/api/v1/events?channel=me"
    async with server.client() as own, own.stream("GET", query, headers=tokens.headers) as answer:
        async with asyncio.timeout(DEADLINE):
            async for line in answer.aiter_lines():
                if line.startswith("id: "):
                    last = line.removeprefix("id: ")
                    break
    renamed = {"full_name": "New"}
    await client.patch("/api/v1/users/me", json=renamed, headers=tokens.headers)
    resumed = tokens.headers | {"Last-Event-ID": last}
    async with stream(server, "channel=me", **resumed) as live:
        assert (await live.next())["type"] == "user.updated"


async def test_an_empty_last_event_id_is_none(server: LiveServer) -> None:
    async with stream(server, "channel=items&since=", **{"Last-Event-ID": ""}):
        pass


async def test_head_of_a_stream_ends_at_once(server: LiveServer) -> None:
    async with asyncio.timeout(DEADLINE), connection(server.url) as raw:
        raw.write(request("/api/v1/events?channel=items", {}, method="HEAD"))
        assert "text/event-stream" in await raw.head()
        raw.write(request("/health/live", {}))
        assert (await raw.head()).startswith("HTTP/1.1 200")


async def ticket_of(client: AsyncClient, tokens: Tokens) -> str:
    answer = await client.post("/api/v1/auth/ws-ticket", headers=tokens.headers)
    ticket: str = answer.json()["ticket"]
    return ticket


async def test_plain_http_is_told_to_upgrade(client: AsyncClient) -> None:
    answer = await client.get("/ws")
    assert answer.status_code == 426
    assert answer.headers["upgrade"] == "websocket"
    assert answer.json()["error_code"] == "UPGRADE_REQUIRED"
