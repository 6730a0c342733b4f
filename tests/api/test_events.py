"""`GET /events`: the same events as a stream, and the exact order of the outbox."""

import asyncio
import contextlib
import itertools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
from fastapi import FastAPI
from httpx import AsyncClient
from sqlalchemy import delete, text

from app.adapters.database import Database
from app.clock import now
from app.events.outbox import EventDraft, record
from app.models.events import Audience, Event, EventKind, events
from tests.api.live import DEADLINE
from tests.factories import create_item, new_user
from tests.live_server import LiveServer
from tests.patience import PATIENCE


class Stream:
    """Server-sent events, parsed, with a deadline."""

    def __init__(self, lines: AsyncIterator[str]) -> None:
        self._lines = lines

    async def next(self) -> dict[str, Any]:
        fields: dict[str, str] = {}
        async with asyncio.timeout(DEADLINE):
            async for line in self._lines:
                if not line and "data" in fields:
                    break
                name, separator, value = line.partition(": ")
                if separator:
                    fields[name] = value
        event: dict[str, Any] = json.loads(fields["data"])
        assert fields["id"] == event["id"]
        assert fields["event"] == event["type"]
        return event


@asynccontextmanager
async def stream(server: LiveServer, query: str, **headers: str) -> AsyncIterator[Stream]:
    async with (
        server.client(timeout=DEADLINE) as client,
        client.stream("GET", f"/api/v1/events?{query}", headers=headers) as answer,
    ):
        assert answer.status_code == 200, await answer.aread()
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        assert "Content-Encoding" not in answer.headers
        assert answer.headers["Cache-Control"] == "no-cache"
        lines = answer.aiter_lines()
        assert (await anext(lines)).startswith("retry")
        yield Stream(lines)


async def test_anyone_may_listen_to_public_items(server: LiveServer, client: AsyncClient) -> None:
    tokens = await new_user(client)
    async with stream(server, "channel=items") as live:
        await create_item(client, tokens, visibility="private")
        item = await create_item(client, tokens)
        event = await live.next()
        while event["data"]["owner_id"] != tokens.account.id:
            event = await live.next()
        assert event["data"] == item


async def test_a_stream_goes_on_after_the_last_event(
    server: LiveServer, client: AsyncClient
) -> None:
    tokens = await new_user(client)
    async with stream(server, "channel=items", **tokens.headers) as live:
        await create_item(client, tokens)
        seen = (await live.next())["id"]
    missed = [await create_item(client, tokens) for _ in range(3)]
    headers = {**tokens.headers, "Last-Event-ID": seen}
    async with stream(server, "channel=items", **headers) as live:
        late = await create_item(client, tokens)
        wanted = [each["id"] for each in (*missed, late)]
        got: list[int] = []
        while wanted[-1] not in got:
            event = await live.next()
            got.append(event["data"]["id"])
    assert [each for each in got if each in wanted] == wanted


async def test_a_ticket_opens_a_stream(server: LiveServer, client: AsyncClient) -> None:
    tokens = await new_user(client)
    answer = await client.post("/api/v1/auth/ws-ticket", headers=tokens.headers)
    async with stream(server, f"channel=me&ticket={answer.json()['ticket']}") as live:
        await client.patch("/api/v1/users/me", json={"full_name": "Ada"}, headers=tokens.headers)
        assert (await live.next())["type"] == "user.updated"


@pytest.mark.parametrize(
    ("query", "headers", "status"),
    [
        ("", {}, 422),
        ("channel=nonsense", {}, 422),
        ("channel=room:x", {}, 422),
        ("channel=me", {}, 401),
        ("channel=jobs", {}, 401),
        (f"channel=item:{2**62}", {}, 404),
        ("channel=items", {"Last-Event-ID": "x"}, 422),
        ("channel=items", {"Last-Event-ID": str(10**17)}, 400),
        ("channel=items&ticket=nonsense", {}, 401),
    ],
)
async def test_what_cannot_be_streamed_is_refused(
    client: AsyncClient, query: str, headers: dict[str, str], status: int
) -> None:
    answer = await client.get(f"/api/v1/events?{query}", headers=headers)
    assert answer.status_code == status
    assert answer.headers["Content-Type"] == "application/problem+json"


@pytest.mark.usefixtures("clean_database")
async def test_events_beyond_retention_are_gone(client: AsyncClient, app: FastAPI) -> None:
    tokens = await new_user(client)
    for _ in range(3):
        await create_item(client, tokens)
    db = app.state.resources.db
    async with db.transaction() as connection:
        await connection.execute(delete(events).where(events.c.id <= 2))
    async with asyncio.timeout(PATIENCE):  # nothing is forgotten in earnest before it was read
        while app.state.resources.tail.position < 3:
            await asyncio.sleep(0.01)
    answer = await client.get("/api/v1/events?channel=items", headers={"Last-Event-ID": "1"})
    assert answer.status_code == 410
    assert answer.json()["error_code"] == "EVENTS_EXPIRED"


@pytest.mark.usefixtures("clean_database")
async def test_an_event_that_another_worker_read_first_is_waited_for(
    server: LiveServer, client: AsyncClient, app: FastAPI
) -> None:
    tokens = await new_user(client)
    tail = app.state.resources.tail
    before = tail.position
    created = [asyncio.create_task(create_item(client, tokens)) for _ in range(3)]
    await asyncio.gather(*created)
    async with stream(server, "channel=items", **{"Last-Event-ID": str(before + 2)}) as live:
        assert int((await live.next())["id"]) == before + 3


def draft(subject_id: int) -> EventDraft:
    return EventDraft(EventKind.ITEM_CREATED, "other", subject_id, None, Audience.PUBLIC, {})


@pytest.mark.only("production")
@pytest.mark.usefixtures("clean_database")
async def test_a_higher_id_that_commits_first_waits_for_the_lower(app: FastAPI) -> None:
    resources = app.state.resources
    seen: list[Event] = []
    resources.tail.listen(seen.extend)
    async with resources.db.transaction() as slow:
        # Its number first, as a change takes it before its event takes an id.
        await slow.execute(text("SELECT pg_current_xact_id()"))
        await record(slow, draft(1))
        async with resources.db.transaction() as quick:
            await record(quick, draft(2))
        await asyncio.sleep(0.2)
        assert seen == []
    await wait_for(seen, 2)
    assert [each.subject_id for each in seen] == [1, 2]


@pytest.mark.only("production")
@pytest.mark.usefixtures("clean_database")
async def test_an_id_that_was_rolled_back_is_passed_over(app: FastAPI) -> None:
    resources = app.state.resources
    seen: list[Event] = []
    resources.tail.listen(seen.extend)
    for number in (1, 2, 3):
        await roll_back_one(resources.db)
        async with resources.db.transaction() as kept:
            await record(kept, draft(number))
    await wait_for(seen, 3)
    assert [each.subject_id for each in seen] == [1, 2, 3]


@pytest.mark.usefixtures("clean_database")
async def test_many_writers_lose_and_double_nothing(client: AsyncClient, app: FastAPI) -> None:
    seen: list[Event] = []
    app.state.resources.tail.listen(seen.extend)
    tokens = await new_user(client)

    async def write(number: int) -> list[int]:
        made = []
        for _ in range(15):
            item = await create_item(client, tokens, name=f"Writer {number}")
            url = f"/api/v1/items/{item['id']}"
            await client.patch(url, json={"price": 2}, headers=tokens.headers)
            made.append(item["id"])
        return made

    each = await asyncio.gather(*(write(number) for number in range(8)))
    made = list(itertools.chain.from_iterable(each))
    await wait_for(seen, len(made) * 2)
    ids = [each.id for each in seen]
    assert ids == sorted(set(ids))
    for item_id in made:
        mine = [each.kind for each in seen if each.subject_id == item_id]
        assert mine == ["item.created", "item.updated"]


@pytest.mark.usefixtures("clean_database")
async def test_a_stale_public_event_of_a_private_item_stays_hidden(
    server: LiveServer, client: AsyncClient
) -> None:
    owner, stranger = await new_user(client), await new_user(client)
    first = await create_item(client, owner, name="Marker")
    item = await create_item(client, owner, name="Was public")
    url = f"/api/v1/items/{item['id']}"
    await client.patch(url, json={"visibility": "private"}, headers=owner.headers)
    last = await create_item(client, owner, name="End")
    headers = {**stranger.headers, "Last-Event-ID": "1"}
    async with stream(server, "channel=items", **headers) as live:
        event = await live.next()
        while event["data"]["id"] != last["id"]:
            assert event["data"]["id"] != item["id"]
            event = await live.next()
    assert first["id"] != last["id"]


async def roll_back_one(db: Database) -> None:
    """Take an id that never becomes visible."""
    with contextlib.suppress(InterruptedError):
        async with db.transaction() as doomed:
            await record(doomed, draft(100))
            raise InterruptedError


async def wait_for(seen: list[Event], count: int) -> None:
    deadline = now() + timedelta(seconds=DEADLINE)
    while len(seen) < count and now() < deadline:
        await asyncio.sleep(0.01)
    assert len(seen) >= count
