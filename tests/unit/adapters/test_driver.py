"""The short way to the driver gives what SQLAlchemy's own way gives."""

import asyncio
import contextvars
from datetime import timedelta
from typing import Any

import asyncpg
import pytest
from fastapi import FastAPI
from sqlalchemy import bindparam, insert, select, text

from app.adapters.database import Database
from app.adapters.driver import DirectConnection, LockHeld, fetch
from app.clock import now
from app.errors import DatabaseUnavailable
from app.models.idempotency import idempotency_keys
from app.models.items import items
from app.settings import Settings
from tests.patience import PATIENCE

pytestmark = pytest.mark.only("production")

_KEYS = select(idempotency_keys).where(idempotency_keys.c.scope == bindparam("scope"))
_ADD = (
    insert(idempotency_keys)
    .values({column.name: bindparam(column.name) for column in idempotency_keys.c})
    .returning(idempotency_keys.c.key)
)
_FAILING = select(text("1 / 0"))
_SLEEPING = select(text("pg_sleep(60)"))
_SOON = select(bindparam("moment", type_=items.c.created_at.type), bindparam("kept", 7))


async def test_values_arrive_as_their_types(app: FastAPI) -> None:
    row = {
        "scope": "driver",
        "key": "k",
        "fingerprint": "f",
        "status": 201,
        "headers": {"etag": '"ä"', "n": [1, None]},
        "body": b"\x00\xff",
        "created_at": now(),
    }
    db = app.state.resources.db
    async with db.transaction() as connection:
        await connection.execute(insert(idempotency_keys), row)
        slow = (await connection.execute(_KEYS, {"scope": "driver"})).all()
    async with db.read() as connection:
        assert isinstance(connection, DirectConnection)
        quick = await fetch(connection, _KEYS, {"scope": "driver"})
    assert [tuple(each) for each in quick] == [tuple(each) for each in slow]
    assert quick[0][4] == row["headers"]


async def test_defaults_of_parameters_are_kept(app: FastAPI) -> None:
    moment = now() + timedelta(hours=1)
    async with app.state.resources.db.read() as connection:
        assert [tuple(each) for each in await fetch(connection, _SOON, {"moment": moment})] == [
            (moment, 7)
        ]


async def test_both_ways_go_over_one_connection_and_give_it_back(app: FastAPI) -> None:
    db = app.state.resources.db
    async with db.read() as connection:
        quick = await fetch(connection, select(text("pg_backend_pid()")), {})
        slow = (await connection.execute(text("SELECT pg_backend_pid()"))).scalar_one()
        assert quick[0][0] == slow
    async with db.read() as connection:
        assert (await connection.execute(text("SELECT 1"))).scalar_one() == 1
    assert db.pool_use()[1] == 0


async def test_a_note_on_a_connection_stays_with_it_on_either_way(app: FastAPI) -> None:
    async with app.state.resources.db.read() as connection:
        connection.info["note"] = 1
        assert connection._around is None
        assert connection.sync_connection.info.pop("note") == 1


async def test_a_transaction_that_somebody_left_open_is_ended_first(app: FastAPI) -> None:
    db = app.state.resources.db
    async with db.read() as connection:
        driver = (await connection.get_raw_connection()).driver_connection
        await driver.execute("BEGIN")
    async with db.read() as connection:
        assert (await connection.get_raw_connection()).driver_connection is driver
        assert not driver.is_in_transaction()


async def test_in_a_transaction_both_ways_see_and_undo_the_same(app: FastAPI) -> None:
    db = app.state.resources.db
    row = {"scope": "undone", "fingerprint": "f", "status": 201, "headers": {}, "body": b""}

    async def write_and_fail() -> None:
        async with db.transaction() as connection:
            await fetch(connection, _ADD, {**row, "key": "quick", "created_at": now()})
            slow_row = {**row, "key": "slow", "created_at": now()}
            await connection.execute(insert(idempotency_keys), slow_row)
            slow = (await connection.execute(_KEYS, {"scope": "undone"})).all()
            quick = await fetch(connection, _KEYS, {"scope": "undone"})
            assert [tuple(each) for each in quick] == [tuple(each) for each in slow]
            assert {each[1] for each in quick} == {"slow", "quick"}
            await fetch(connection, _FAILING, {})

    with pytest.raises(asyncpg.DivisionByZeroError):
        await write_and_fail()  # the quick way first: it begins
    async with db.read() as connection:
        assert await fetch(connection, _KEYS, {"scope": "undone"}) == []
    assert db.pool_use()[1] == 0


@pytest.mark.parametrize("has_begun", [True, False])
async def test_a_connection_lost_in_a_transaction_is_an_outage_and_not_lent_again(
    app: FastAPI, *, has_begun: bool
) -> None:
    db = app.state.resources.db
    lost: list[object] = []

    async def lose() -> None:
        async with db.transaction() as connection:
            driver = (await connection.get_raw_connection()).driver_connection
            lost.append(driver)
            if has_begun:
                await fetch(connection, _KEYS, {"scope": "undone"})
            async with db.read() as other:
                end = text(f"SELECT pg_terminate_backend({driver.get_server_pid()})")
                await other.execute(end)
            await fetch(connection, _KEYS, {"scope": "undone"})

    with pytest.raises(DatabaseUnavailable):
        await lose()
    async with db.transaction() as connection:
        assert (await connection.get_raw_connection()).driver_connection not in lost
    async with asyncio.timeout(PATIENCE):  # the app's own tasks borrow one now and then
        while db.pool_use()[1]:
            await asyncio.sleep(0.01)


async def test_a_connection_that_was_ended_at_hand_is_not_lent_again(app: FastAPI) -> None:
    db = app.state.resources.db
    async with db.read() as connection:
        ended = (await connection.get_raw_connection()).driver_connection
    await ended.close()
    async with db.read() as connection:
        assert connection._pooled.driver_connection is not ended
        assert [tuple(row) for row in await fetch(connection, select(text("2")), {})] == [(2,)]


async def test_a_connection_that_has_rested_is_proved_before_it_is_lent(settings: Settings) -> None:
    db: Any = Database(
        settings
    )  # its pool has no other connection, and nobody else borrows this one
    async with db.read() as connection:
        rested = connection._pooled.driver_connection
    asked: list[str] = []
    rested.add_query_logger(lambda record: asked.append(record.query))
    db._at_hand._pooled[-1].info["used_at"] -= 2
    async with db.read() as connection:
        assert connection._pooled.driver_connection is rested
    await asyncio.sleep(0)  # the driver tells its loggers in the loop's next round
    await db.close()
    assert asked == [";"]


async def test_of_two_units_with_one_lock_only_one_begins(app: FastAPI) -> None:
    db = app.state.resources.db
    async with db.unit_of_work(lock=-7) as unit:
        await unit.connection()

        async def second() -> None:
            async with db.unit_of_work(lock=-7) as other:
                await other.connection()

        with pytest.raises(LockHeld):
            await asyncio.create_task(second(), context=contextvars.Context())
    await asyncio.create_task(second(), context=contextvars.Context())


async def test_a_transaction_that_is_cancelled_leaves_nothing_open(app: FastAPI) -> None:
    db = app.state.resources.db
    driver: list[asyncpg.Connection] = []
    under_way = asyncio.Event()

    async def wait() -> None:
        async with db.transaction() as connection:
            driver.append((await connection.get_raw_connection()).driver_connection)
            under_way.set()
            await fetch(connection, _SLEEPING, {})

    task = asyncio.create_task(wait())
    await under_way.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert driver[0].is_closed() or not driver[0].is_in_transaction()
