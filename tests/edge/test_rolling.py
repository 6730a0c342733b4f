"""Reloads and rolling updates under load: nobody outside notices."""

import asyncio
import signal
import subprocess
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest

from tests.edge.conftest import Edge
from tests.factories import new_user
from tests.processes import Service, start_on

pytestmark = [pytest.mark.system, pytest.mark.only("production")]

RELOADS, HANDOVERS = 5, 10


@asynccontextmanager
async def visited(edge: Edge) -> AsyncIterator[Counter[str]]:
    """Read and write through the edge while the block runs; count what comes of it."""
    seen: Counter[str] = Counter()
    stop = asyncio.Event()
    async with edge.client() as client:
        headers = (await new_user(client)).headers

    async def visit(method: str, pause: float) -> None:
        body = {"name": "Visited", "price": 1} if method == "POST" else None
        async with edge.client() as client:
            client.timeout = httpx.Timeout(60)  # of a busy machine
            while not stop.is_set():
                try:
                    answer = await client.request(
                        method, "/api/v1/items", json=body, headers=headers
                    )
                    seen[f"{method} {answer.status_code}"] += 1
                except httpx.TransportError as error:
                    seen[f"{method} {type(error).__name__}"] += 1
                await asyncio.sleep(pause)

    async with asyncio.TaskGroup() as tasks:
        for method in ("GET", "GET", "GET", "POST"):
            tasks.create_task(visit(method, 0.002))
        try:
            yield seen
        finally:
            stop.set()


async def two_more_have_started(service: Service, before: int) -> None:
    """Wait until two workers serve: one that still loads has nothing to finish."""
    async with asyncio.timeout(90):
        while starts(service) < before + 2:
            await asyncio.sleep(0.05)


def starts(service: Service) -> int:
    return service.log().count("Application startup complete")


async def is_used(edge: Edge, port: int) -> None:
    """Wait until the edge sends requests to an instance again: it leaves one out for a while."""
    read_until = edge.log.stat().st_size
    async with asyncio.timeout(20):
        while f'"upstream":"127.0.0.1:{port}"' not in edge.log.read_text()[read_until:]:
            await asyncio.sleep(0.1)


async def test_five_reloads_under_load_fail_no_request(edge: Edge) -> None:
    async with visited(edge) as seen:
        for number in range(RELOADS):
            service = edge.services[number % 2]
            old, before = set(service.workers), starts(service)
            service.process.send_signal(signal.SIGHUP)
            await two_more_have_started(service, before)
            async with asyncio.timeout(60):
                while old & set(service.workers):
                    await asyncio.sleep(0.05)
    assert set(seen) == {"GET 200", "POST 201"}, seen
    assert seen.total() > 100 * RELOADS


async def test_ten_handovers_under_load_fail_no_request(edge: Edge) -> None:
    serving = [service.process for service in edge.services]
    started: list[subprocess.Popen[bytes]] = []
    try:
        async with visited(edge) as seen:
            for number in range(HANDOVERS):
                service = edge.services[number % 2]
                old, before = serving[number % 2], starts(service)
                old.send_signal(signal.SIGTERM)
                assert await asyncio.to_thread(old.wait, 45) == 0
                new = start_on(service.port, "app.main:app", edge.variables, service.output)
                started.append(new)
                serving[number % 2] = new
                await two_more_have_started(service, before)
                await is_used(edge, service.port)
        assert set(seen) == {"GET 200", "POST 201"}, seen
        assert seen.total() > 100 * HANDOVERS
    finally:
        for process in started:
            process.terminate()
            process.wait(45)
