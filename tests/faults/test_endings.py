"""How processes end: what is in flight finishes, readiness goes first, frozen ones go."""

import asyncio
import contextlib
import importlib.util
import os
import signal
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from app.settings import Settings
from tests.api.test_production_start import environment
from tests.conftest import MakeSettings
from tests.factories import create_item, expect, new_user
from tests.faults.conftest import Production
from tests.lending import SURE, is_well
from tests.live_server import LiveServer
from tests.patience import PATIENCE, within
from tests.processes import gunicorn

pytestmark = pytest.mark.only("production")

WAITING = """
    SELECT count(*) FROM pg_stat_activity
     WHERE datname = current_database() AND wait_event_type = 'Lock'
"""


@pytest.mark.parametrize("own_production", [{"DRAIN_SECONDS": "8"}], indirect=True)
async def test_readiness_goes_first_and_what_is_in_flight_finishes_last(
    own_production: Production, settings: Settings
) -> None:
    process = own_production.service.process
    engine = create_async_engine(settings.sqlalchemy_url)
    async with own_production.client() as client, engine.connect() as connection:
        tokens = await new_user(client)
        item = await create_item(client, tokens)
        # Whoever changes the row now has to wait for us.
        await connection.execute(text("SELECT 1 FROM items WHERE id = :id FOR UPDATE"), item)
        change = asyncio.create_task(
            client.patch(f"/api/v1/items/{item['id']}", json={"price": 2}, headers=tokens.headers)
        )
        async with asyncio.timeout(PATIENCE), engine.connect() as other:
            while not (await other.execute(text(WAITING))).scalar_one():
                await asyncio.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        async with within(3):  # promised: one, of a machine at rest; it serves on for eight
            await stops_being_ready(own_production)
        await closes(own_production)
        await asyncio.sleep(1)
        assert not change.done()
        await connection.rollback()
        assert expect(await change, 200)["price"] == 2
    await engine.dispose()
    assert await asyncio.to_thread(process.wait, PATIENCE) == 0


async def stops_being_ready(production: Production) -> None:
    """Wait until no worker is ready, while each still serves who comes."""
    in_a_row = 0
    while in_a_row < SURE:
        async with production.client() as client:  # each time a new connection
            is_ready = (await client.get("/health/ready")).status_code == 200
            served = await client.get("/api/v1/items")
        assert served.status_code == 200
        in_a_row = 0 if is_ready else in_a_row + 1
        await asyncio.sleep(0.05)
    assert served.headers["connection"] == "close"  # a proxy shall not send another one on it


async def closes(production: Production) -> None:
    """Wait until nobody can come any more."""
    async with asyncio.timeout(PATIENCE):
        with contextlib.suppress(OSError):
            while True:
                _, writer = await asyncio.open_connection("127.0.0.1", production.service.port)
                writer.close()
                await asyncio.sleep(0.1)


async def test_a_frozen_worker_is_replaced_and_says_where_it_hung(
    make_settings: MakeSettings,
) -> None:
    variables = environment(make_settings()) | {"GUNICORN_CMD_ARGS": "--timeout 2"}
    with gunicorn("blocking", "tests.faults.blocking:app", variables, workers=1) as service:
        before = service.workers
        async with LiveServer(service.url).client() as client:
            with pytest.raises(httpx.TransportError):
                await client.get("/hold")
        async with within(20):
            while not service.workers or service.workers == before:
                await asyncio.sleep(0.05)
        assert await is_well(service)  # one that loads may take as long as it likes
        (stopped,) = service.workers
        os.kill(stopped, signal.SIGSTOP)
        async with asyncio.timeout(PATIENCE):
            while not service.workers or service.workers == [stopped]:
                await asyncio.sleep(0.05)
        assert "hold_the_loop" in service.log()


def test_each_outer_deadline_is_longer_than_the_inner() -> None:
    root = Path(__file__).resolve().parents[2]
    spec = importlib.util.spec_from_file_location("gunicorn_conf", root / "gunicorn.conf.py")
    assert spec
    assert spec.loader
    shipped: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(shipped)
    from app.worker import KingpostWorker

    worker = KingpostWorker.CONFIG_KWARGS["timeout_graceful_shutdown"]
    defaults = Settings(_env_file=None)
    statement = defaults.database_statement_timeout
    assert defaults.redis_timeout < defaults.database_pool_timeout < statement
    assert statement < worker < shipped.graceful_timeout < 60
    assert shipped.timeout > statement
