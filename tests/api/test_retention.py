"""What has had its time is forgotten, and nothing else."""

import asyncio
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from fastapi import FastAPI
from httpx import AsyncClient
from sqlalchemy import func, select, update

from app.clock import now
from app.models.events import events
from app.models.idempotency import idempotency_keys
from app.models.items import items
from app.models.jobs import jobs
from app.models.users import login_failures, one_time_tokens, sessions
from app.repositories.items import ItemRepository
from app.repositories.jobs import JobRepository
from app.schemas.items import ItemIn
from app.services.items import stored_values
from app.services.retention import sweep
from tests.factories import create_item, expect, new_user, register
from tests.patience import PATIENCE

A_DAY = timedelta(days=1)


async def count(app: FastAPI, table: Any) -> int:
    async with app.state.resources.db.read() as connection:
        number: int = (
            await connection.execute(select(func.count()).select_from(table))
        ).scalar_one()
    return number


async def age(app: FastAPI, column: Any, by: timedelta) -> None:
    """Make every row of a table older."""
    async with app.state.resources.db.transaction() as connection:
        await connection.execute(update(column.table).values({column.name: now() - by}))


@pytest.mark.usefixtures("clean_database")
async def test_each_kind_goes_when_its_time_has_come(client: AsyncClient, app: FastAPI) -> None:
    db = app.state.resources.db
    tokens = await new_user(client)
    headers = {**tokens.headers, "Idempotency-Key": "k"}
    await client.post("/api/v1/items", json={"name": "A", "price": 1}, headers=headers)
    gone = await create_item(client, tokens)
    await client.delete(f"/api/v1/items/{gone['id']}", headers=tokens.headers)
    await client.post("/api/v1/auth/ws-ticket", headers=tokens.headers)
    wrong = {"username": (await register(client)).username, "password": "wrong"}
    await client.post("/api/v1/auth/token", data=wrong)
    assert set((await sweep(db, A_DAY, A_DAY)).values()) == {0}
    await age(app, events.c.created_at, A_DAY)
    await age(app, idempotency_keys.c.created_at, A_DAY)
    await age(app, login_failures.c.last_failed_at, 2 * A_DAY)
    await age(app, one_time_tokens.c.expires_at, timedelta(seconds=1))
    swept = await sweep(db, A_DAY, A_DAY)
    assert swept["events"] >= 2
    assert {**swept, "events": 0, "failures": 0} == {
        "events": 0,
        "answers": 1,
        "failures": 0,
        "sessions": 0,
        "tokens": 3,  # the ticket, and the links that two registrations sent
        "email_changes": 0,
        "items": 0,
        "ownerless": 0,
        "audit": 0,
        "jobs": 0,
        "deliveries": 0,
    }
    assert swept["failures"] == 2
    for table in (idempotency_keys, login_failures, one_time_tokens):
        assert await count(app, table) == 0
    assert await count(app, events) == 1  # the newest says how far it all had come
    async with db.transaction() as connection:
        old = {"deleted_at": now() - 31 * A_DAY}
        await connection.execute(update(items).where(items.c.id == gone["id"]).values(old))
    assert (await sweep(db, A_DAY, A_DAY))["items"] == 1
    assert await count(app, items) == 1


@pytest.mark.usefixtures("clean_database")
async def test_a_session_in_use_stays(client: AsyncClient, app: FastAPI) -> None:
    tokens = await new_user(client)
    await age(app, sessions.c.last_used_at, 40 * A_DAY)
    db = app.state.resources.db
    assert (await sweep(db, A_DAY, A_DAY))["sessions"] == 0
    expect(await client.get("/api/v1/users/me", headers=tokens.headers), 200)
    await client.post("/api/v1/auth/logout", headers=tokens.headers)
    assert (await sweep(db, A_DAY, A_DAY))["sessions"] == 1


@pytest.mark.usefixtures("clean_database")
async def test_finished_jobs_go_in_a_week_and_dead_letters_in_a_month(app: FastAPI) -> None:
    db = app.state.resources.db
    async with db.transaction() as connection:
        repository = JobRepository(connection)
        for _ in range(3):
            await repository.enqueue("test.none", run_after=now() + A_DAY)
        for job_id, status in {1: "succeeded", 2: "failed"}.items():
            change = {"status": status, "finished_at": now() - 8 * A_DAY}
            await connection.execute(update(jobs).where(jobs.c.id == job_id).values(change))
    assert (await sweep(db, A_DAY, A_DAY))["jobs"] == 1
    async with db.transaction() as connection:
        old = {"finished_at": now() - 31 * A_DAY}
        await connection.execute(update(jobs).where(jobs.c.id == 2).values(old))
    assert (await sweep(db, A_DAY, A_DAY))["jobs"] == 1
    async with db.read() as connection:
        assert await JobRepository(connection).count(owner_id=None) == 1


async def test_the_sweep_runs_as_a_job(app: FastAPI) -> None:
    db = app.state.resources.db
    async with db.transaction() as connection:
        job_id = await JobRepository(connection).enqueue("retention.sweep")
    async with asyncio.timeout(PATIENCE):
        while True:
            async with db.read() as connection:
                job = await JobRepository(connection).get(job_id)
            if job and job.status == "succeeded":
                break
            await asyncio.sleep(0.01)
    assert "events" in (job.result or {})


async def test_what_was_made_while_its_owner_was_deleted_goes_with_the_owner(
    client: AsyncClient, app: FastAPI
) -> None:
    db = app.state.resources.db
    late, other = await new_user(client), await new_user(client)
    kept = await create_item(client, other)
    await client.delete("/api/v1/users/me", headers=late.headers)
    async with db.transaction() as connection:  # as a request that had asked who comes before
        body = stored_values(ItemIn(name="Late", price=Decimal(1)))
        item = await ItemRepository(connection).add(late.account.id, body)
    url = f"/api/v1/items/{item.id}"
    assert (await client.get(url)).status_code == 200
    assert (await sweep(db, A_DAY, A_DAY))["ownerless"] >= 1
    assert (await client.get(url)).status_code == 404
    assert (await client.get(f"/api/v1/items/{kept['id']}")).status_code == 200
    assert (await sweep(db, A_DAY, A_DAY))["ownerless"] == 0
