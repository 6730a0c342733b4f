"""SIGTERM in the middle of slow requests and of a slow upload: each is answered, exit code 0."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from app.settings import Settings
from tests.api.files import FORM_TYPE, form
from tests.factories import create_item, expect, new_user
from tests.faults.conftest import Production

pytestmark = [pytest.mark.system, pytest.mark.only("production")]

REQUESTS = 20
POOL = {"DATABASE_POOL_SIZE": str(REQUESTS)}  # all of them wait in the database, none for it


@pytest.mark.parametrize("own_production", [POOL], indirect=True)
async def test_twenty_requests_in_flight_all_finish(
    own_production: Production, settings: Settings
) -> None:
    engine = create_async_engine(settings.sqlalchemy_url)
    async with own_production.client() as client, engine.connect() as connection:
        tokens = await new_user(client)
        items = [await create_item(client, tokens) for _ in range(REQUESTS)]
        # Whoever changes a row now has to wait for us.
        await connection.execute(
            text("SELECT 1 FROM items WHERE owner_id = :id FOR UPDATE"), {"id": tokens.account.id}
        )
        changes = [
            asyncio.create_task(
                client.patch(
                    f"/api/v1/items/{item['id']}", json={"price": 2}, headers=tokens.headers
                )
            )
            for item in items
        ]
        await asyncio.sleep(1)
        own_production.service.process.send_signal(signal.SIGTERM)
        await asyncio.sleep(2)
        assert not any(change.done() for change in changes)
        await connection.rollback()
        for change in changes:
            assert expect(await change, 200)["price"] == 2
    await engine.dispose()
    assert await asyncio.to_thread(own_production.service.process.wait, 45) == 0


async def test_a_slow_upload_in_flight_finishes(own_production: Production) -> None:
    content = b"%PDF-1.7\n" + os.urandom(1_000_000)
    body = form(content, "plan.pdf")
    told = asyncio.Event()

    async def slowly() -> AsyncIterator[bytes]:
        step = len(body) // 30
        for start in range(0, len(body), step):
            yield body[start : start + step]
            await asyncio.sleep(0.1)
            if start > len(body) // 3:
                told.set()

    async with own_production.client() as client:
        tokens = await new_user(client)
        item = await create_item(client, tokens)
        url = f"/api/v1/items/{item['id']}/files"
        headers = {**tokens.headers, "Content-Type": FORM_TYPE}
        sending = asyncio.create_task(client.post(url, content=slowly(), headers=headers))
        await told.wait()
        own_production.service.process.send_signal(signal.SIGTERM)
        (file,) = expect(await sending, 201)["items"]
        assert file["size"] == len(content)
    assert await asyncio.to_thread(own_production.service.process.wait, 45) == 0
