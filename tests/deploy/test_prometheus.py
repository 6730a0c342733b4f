"""The alerts and dashboards in a real Prometheus that scrapes the running service."""

import asyncio
import contextlib
import json
import math
import re
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from websockets.asyncio.client import connect

from app.settings import Settings
from tests.backends import run_statement
from tests.conftest import MakeSettings
from tests.deploy.prometheus import until, watching
from tests.deploy.promql import ROOT, RULES, dashboard_queries
from tests.factories import register, sign_in
from tests.faults.conftest import Production, loading, producing

pytestmark = pytest.mark.system

FOLDER = ROOT / "docker/prometheus"
SHORTER = {
    "1m": "4s",
    "15m": "5s",
    "5m": "5s",
    "30m": "5s",
    "1h": "8s",
    "2h": "8s",
    "6h": "10s",
    "1d": "10s",
    "3d": "12s",
}
SENDS_NO_WEBHOOKS = "webhook_attempt_duration_seconds"  # the load below


@pytest.mark.parametrize(
    "command",
    [
        ("promtool", "check", "rules", "alerts.yml"),
        ("promtool", "check", "config", "prometheus.yml"),
        ("promtool", "test", "rules", "alerts_test.yml"),
        ("amtool", "check-config", "alertmanager.yml"),
    ],
    ids=" ".join,
)
def test_the_shipped_files_pass_their_own_tools(command: tuple[str, ...]) -> None:
    assert shutil.which(command[0]), f"this test needs {command[0]}"
    done = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("severity", ["page", "ticket"])
def test_alertmanager_tells_who_is_to_be_told(severity: str) -> None:
    done = subprocess.run(
        [
            *("amtool", "config", "routes", "test", "--config.file=alertmanager.yml"),
            *(f"severity={severity}", "alertname=KingpostErrorsBurn"),
        ],
        cwd=FOLDER,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [severity]


def shortened(rules: str) -> str:
    """Return the shipped rules with windows of seconds, so that a test sees them fire."""
    rules = re.sub(r"\[(\w+)\]", lambda window: f"[{SHORTER[window[1]]}]", rules)
    return re.sub(r"for: \w+", "for: 1s", rules)


@pytest.mark.only("production")
async def test_an_absent_database_is_alerted_about(make_settings: MakeSettings) -> None:
    rules = shortened(RULES.read_text(encoding="utf-8"))

    async with (
        producing(make_settings()) as production,
        watching(production.service.port, rules) as prometheus,
        loading(production, "/api/v1/items", clients=1),
        loading(production, "/health/ready", clients=1),
    ):

        async def fired() -> set[tuple[str, str]]:
            found = await prometheus.firing()
            return {(each["alertname"], each["severity"]) for each in found}

        async def is_seen() -> bool:
            return bool(await prometheus.query("kingpost:errors:ratio_rate1h"))

        await until(is_seen, seconds=30)
        await asyncio.sleep(5)  # time enough for an alert that should not be there
        assert ("KingpostErrorsBurn", "page") not in await fired()

        production.postgres.cut()

        async def is_alerted() -> bool:
            wanted = {("KingpostErrorsBurn", "page"), ("KingpostNotReady", "page")}
            return wanted <= await fired()

        await until(is_alerted, seconds=60)
        production.postgres.heal()

        async def is_over() -> bool:
            names = {name for name, _ in await fired()}
            return not names & {"KingpostErrorsBurn", "KingpostNotReady"}

        await until(is_over, seconds=60)


@asynccontextmanager
async def everything_in_use(production: Production, settings: Settings) -> AsyncIterator[None]:
    """Read, write, listen, guess and queue jobs while the block runs."""
    stop = asyncio.Event()
    async with production.client() as client, asyncio.TaskGroup() as tasks:
        account = await register(client)
        assert settings.database_url
        await asyncio.to_thread(
            run_statement,
            settings.database_url.get_secret_value(),
            f"UPDATE users SET roles = '{{user,analyst}}' WHERE id = {account.id}",
        )
        user = await sign_in(client, account)
        client.headers.update(user.headers)
        ticket = (await client.post("/api/v1/auth/ws-ticket")).json()["ticket"]
        url = f"ws://127.0.0.1:{production.service.port}/ws?ticket={ticket}"

        async def call() -> None:
            number = 0
            while not stop.is_set():
                number += 1
                body = {"name": f"Lamp {number}", "price": "1.00"}
                await client.post("/api/v1/items", json=body)
                await client.get("/api/v1/items")
                await client.get("/api/v1/items/stats")
                await client.post(
                    "/api/v1/auth/token", data={"username": "nobody", "password": "wrong"}
                )
                await client.get("/api/v1/items", headers={"Authorization": "Bearer wrong"})
                if number % 20 == 0:
                    await register(client)  # sends a mail, by a job
                await asyncio.sleep(0.1)

        async def listen() -> None:
            async with connect(url) as socket:
                await socket.send(json.dumps({"type": "subscribe", "channel": "items"}))
                while not stop.is_set():
                    await socket.send(json.dumps({"type": "ping"}))
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(0.5):
                            async for _ in socket:
                                pass

        async def stream() -> None:
            async with client.stream("GET", "/api/v1/events?channel=items") as answer:
                async for _ in answer.aiter_lines():
                    if stop.is_set():
                        return

        tasks.create_task(call())
        tasks.create_task(listen())
        tasks.create_task(stream())
        try:
            yield
        finally:
            stop.set()


@pytest.mark.only("production")
async def test_every_query_of_the_dashboards_returns_data(make_settings: MakeSettings) -> None:
    settings = make_settings()
    queries = dict(dashboard_queries())
    serving = producing(
        settings, RATE_LIMITS_ENABLED="true", RATE_LIMIT_LOGIN="5/minute", RUN_JOBS="inline"
    )
    async with (
        serving as production,
        watching(production.service.port, RULES.read_text(encoding="utf-8")) as prometheus,
        everything_in_use(production, settings),
    ):

        async def has_data(where: str, query: str) -> bool:
            values = await prometheus.query(query.replace("$__rate_interval", "15s"))
            is_quiet = SENDS_NO_WEBHOOKS in query
            return bool(values) and (is_quiet or any(map(math.isfinite, values)))

        async def missing() -> set[str]:
            return {where for where, query in queries.items() if not await has_data(where, query)}

        async def is_complete() -> bool:
            return not await missing()

        try:
            await until(is_complete, seconds=60)
        except TimeoutError:
            pytest.fail(f"no data: {sorted(await missing())}")
