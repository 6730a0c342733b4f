"""SIGKILL in the middle of imports: every line is imported, and none twice."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator

import httpx
import pytest

from tests.api.test_bulk_memory import lines, one_worker
from tests.backends import Backend, Foundation, fresh_place
from tests.factories import expect, new_user
from tests.lending import Lending, is_well, lending
from tests.processes import Service

COUNT = 8_000


@pytest.fixture(scope="module")
async def lent_service(
    foundation: Foundation, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Lending[Service]]:
    """One with a database of its own: the shared app would run these jobs."""
    folder = tmp_path_factory.mktemp("imports")
    with fresh_place(Backend.PRODUCTION, foundation, folder, redis_offset=1) as place:
        async with lending(lambda: one_worker(place, JOB_LEASE_SECONDS="1"), is_well) as lent:
            yield lent


@pytest.fixture
async def service(
    lent_service: Lending[Service], request: pytest.FixtureRequest
) -> AsyncIterator[Service]:
    """A service of one worker, which runs its jobs as well."""
    async with lent_service.turn(request.session) as service:
        yield service


@pytest.mark.parametrize("atomic", ["false", "true"])
async def test_an_import_goes_on_after_its_process_was_killed(
    service: Service, atomic: str
) -> None:
    async with httpx.AsyncClient(
        base_url=service.url,
        timeout=30,
        transport=httpx.AsyncHTTPTransport(verify=False, retries=10),
        headers={"Connection": "close"},
    ) as client:
        owner = await new_user(client)
        answer = await client.post(
            "/api/v1/items/import",
            content=lines(COUNT),
            params={"atomic": atomic},
            headers=owner.headers | {"Content-Type": "application/x-ndjson"},
        )
        url = f"/api/v1/jobs/{expect(answer, 202)['id']}"
        killed = False
        async with asyncio.timeout(120):
            while True:
                try:
                    job = (await client.get(url, headers=owner.headers)).json()
                except httpx.TransportError:  # it was just killed
                    await asyncio.sleep(0.05)
                    continue
                if job["status"] not in ("queued", "running"):
                    break
                if not killed and job["progress"] > 0:
                    killed = True
                    os.kill(service.workers[0], signal.SIGKILL)
                await asyncio.sleep(0.03)
        assert killed
        assert job["status"] == "succeeded", job
        assert job["result"]["accepted"] == COUNT
        params: dict[str, str | int] = {"owner_id": owner.account.id, "format": "csv"}
        exported = await client.get("/api/v1/items/export", params=params)
        names = [record.split(",", 2)[1] for record in exported.text.splitlines()[1:]]
        assert names == [f"Item {number}" for number in range(COUNT)]
