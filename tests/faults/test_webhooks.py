"""Webhooks under faults: killed workers, transactions that commit late, a database that is away."""

import asyncio
import signal
from functools import partial
from typing import Any

import pytest
from fastapi import FastAPI
from httpx import AsyncClient
from sqlalchemy import text

from tests.api.hooks import hooked
from tests.conftest import SECRET_KEY, MakeApp, MakeClient, MakeSettings
from tests.factories import create_item, new_user
from tests.faults.test_jobs import worker
from tests.receivers import Received, Receiver, answering, receiving, until

pytestmark = pytest.mark.only("production")

SENDING = {
    "SECRET_KEY": SECRET_KEY,
    "WEBHOOKS_ALLOW_HTTP": "true",
    "WEBHOOKS_ALLOW_PRIVATE": "true",
    "WEBHOOKS_WAIT_SCALE": "0.001",
}


async def numbers(app: FastAPI, sql: str) -> list[Any]:
    async with app.state.resources.db.read() as connection:
        return list((await connection.execute(text(sql))).one())


def has_got(receiver: Receiver, count: int) -> bool:
    return len(receiver.got) >= count


@pytest.mark.usefixtures("clean_database")
async def test_however_often_the_worker_is_killed_each_event_arrives(
    make_app: MakeApp, make_client: MakeClient, make_settings: MakeSettings
) -> None:
    app = await make_app(run_jobs="worker")
    client = make_client(app)
    owner = await new_user(client)
    items: list[int] = []

    async def take_a_while(got: Received, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.05)
        await answering(500 if len(receiver.got) % 7 == 0 else 204)(got, writer)

    async with receiving() as receiver, hooked(client, owner, receiver, "item.created") as hook:
        receiver.answer = take_a_while
        with worker(make_settings(), **SENDING) as found:
            for kill in range(1, 4):
                items += [(await create_item(client, owner))["id"] for _ in range(15)]
                await until(partial(has_got, receiver, kill * 10))
                found.end(signal.SIGKILL)
                items.append((await create_item(client, owner))["id"])
                found.start()
            await hook.settled("succeeded", len(items))
        subjects = {got.message["subject"] for got in receiver.got}
        assert subjects == {f"item:{item_id}" for item_id in items}
        counted = "SELECT count(*), count(DISTINCT event_id) FROM webhook_deliveries"
        assert await numbers(app, counted) == [len(items)] * 2


async def test_an_event_that_becomes_visible_late_is_not_passed_by(
    client: AsyncClient, app: FastAPI
) -> None:
    owner = await new_user(client)
    async with receiving() as receiver, hooked(client, owner, receiver, "item.created") as hook:
        async with app.state.resources.db.engine.connect() as late:
            await late.begin()
            statement = text(
                "INSERT INTO events (kind, subject, subject_id, owner_id, audience, data,"
                " created_at) VALUES ('item.created', 'item', 1, :owner, 'owner', '{}', now())"
                " RETURNING id"
            )
            owner_id = owner.account.id
            event_id = (await late.execute(statement, {"owner": owner_id})).scalar_one()
            await create_item(client, owner)
            await asyncio.sleep(0.3)  # nothing happens, and no event tells of that
            assert receiver.got == []
            await late.commit()
        first, second = await until(lambda: receiver.got[1:] and receiver.got)
        assert first.message["id"] == str(event_id)
        assert int(second.message["id"]) > event_id
        await hook.settled("succeeded", 2)


async def test_an_event_that_was_rolled_back_holds_nothing_up(
    client: AsyncClient, app: FastAPI
) -> None:
    owner = await new_user(client)
    async with receiving() as receiver, hooked(client, owner, receiver, "item.created"):
        async with app.state.resources.db.engine.connect() as late:
            await late.execute(text("SELECT nextval('events_id_seq')"))
        item = await create_item(client, owner)
        await until(lambda: receiver.of(f"item:{item['id']}"))
