"""Webhooks under faults: killed workers, transactions that commit late, a database that is away."""

import asyncio
import logging
import signal
from functools import partial
from typing import Any

import pytest
from fastapi import FastAPI
from httpx import AsyncClient
from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.clock import now
from app.models.webhooks import DeliveryStatus
from app.repositories.webhook_deliveries import WebhookDeliveryRepository
from app.repositories.webhooks import WebhookRepository
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
            for kill in range(1, 3):
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
        got = await until(lambda: receiver.got[1:] and receiver.got)
        ids = {int(each.message["id"]) for each in got}
        assert min(ids) == event_id  # they are of two subjects: either may be there first
        assert len(ids) == 2
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


async def test_endpoints_that_are_deleted_all_the_time_hold_nobody_up(
    client: AsyncClient, app: FastAPI
) -> None:
    owner = await new_user(client)
    logged: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: logged.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("app.services").addHandler(handler)
    try:
        async with receiving() as receiver, hooked(client, owner, receiver, "item.created") as hook:

            async def come_and_go() -> None:
                for _ in range(5):
                    async with hooked(client, owner, receiver, "item.created") as other:
                        await create_item(client, owner)
                        await other.call("test")

            await asyncio.gather(*(come_and_go() for _ in range(4)))
            await hook.settled("succeeded", 20)
    finally:
        logging.getLogger("app.services").removeHandler(handler)
    assert logged == []


async def test_the_queries_of_the_log_and_of_the_turns_use_indexes(
    client: AsyncClient, app: FastAPI
) -> None:
    owner = await new_user(client)
    async with hooked(client, owner, "https://1.1.1.1/", "item.created") as hook:
        await hook.patch(is_active=False)
        async with app.state.resources.db.engine.connect() as connection:
            await connection.begin()  # and rolled back at the end
            await connection.execute(
                text(
                    "INSERT INTO webhook_deliveries (endpoint_id, event_id, message_id, kind,"
                    " subject, grounds, payload, status, next_attempt_at, created_at)"
                    " SELECT :id, n, n, 'item.created', 'item:' || n % 1000, 'own', '{}',"
                    " CASE WHEN n % 100 = 0 THEN 'pending' ELSE 'succeeded' END, now(), now()"
                    " FROM generate_series(1, 30000) AS n"
                ),
                {"id": hook.id},
            )
            await connection.execute(text("ANALYZE webhook_deliveries"))
            plans = await plans_of(connection, hook.id)
    assert len(plans) == 6
    for plan in plans:
        assert "Seq Scan on webhook_deliveries" not in plan, plan


async def plans_of(connection: AsyncConnection, endpoint_id: int) -> list[str]:
    """Return how PostgreSQL answers each question about deliveries."""
    asked: list[tuple[str, Any]] = []

    def note(*call: Any) -> None:
        asked.append((call[2], call[3]))

    sync = connection.sync_connection
    assert sync
    event.listen(sync, "before_cursor_execute", note)
    deliveries, webhooks = WebhookDeliveryRepository(connection), WebhookRepository(connection)
    await deliveries.page(endpoint_id, None, limit=20)
    await deliveries.page(endpoint_id, DeliveryStatus.FAILED, limit=20, before_id=10_000)
    await deliveries.count(endpoint_id, DeliveryStatus.PENDING)
    await deliveries.due(endpoint_id, patience=3, limit=100)
    await webhooks.standing()
    await webhooks.lease("nobody", now(), failing=False, limit=1)
    event.remove(sync, "before_cursor_execute", note)
    plans = []
    for statement, values in asked:
        found = await connection.exec_driver_sql(f"EXPLAIN {statement}", values)
        plans.append("\n".join(found.scalars()))
    return plans
