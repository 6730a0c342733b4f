"""SIGKILL in the middle of imports: every line is imported, and none twice."""

import asyncio
import os
import signal
from pathlib import Path

import httpx
import pytest

from tests.api.test_bulk_memory import lines
from tests.api.test_production_start import environment
from tests.conftest import MakeSettings
from tests.factories import expect, new_user
from tests.processes import gunicorn

# A database of its own: the shared app would run these jobs, and its files are elsewhere.
pytestmark = [pytest.mark.only("production"), pytest.mark.usefixtures("clean_database")]

COUNT = 12_000


@pytest.mark.parametrize("atomic", ["false", "true"])
async def test_an_import_goes_on_after_its_process_was_killed(
    make_settings: MakeSettings, tmp_path: Path, atomic: str
) -> None:
    variables = environment(make_settings()) | {
        "DATA_DIR": str(tmp_path),
        "RUN_JOBS": "inline",
        "JOB_LEASE_SECONDS": "1",
    }
    with gunicorn("kingpost", "app.main:app", variables, workers=1) as service:
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{service.port}",
            timeout=30,
            transport=httpx.AsyncHTTPTransport(retries=10),
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
            kills, killed_at = 0, -1.0
            async with asyncio.timeout(120):
                while True:
                    try:
                        job = (await client.get(url, headers=owner.headers)).json()
                    except httpx.TransportError:  # it was just killed
                        await asyncio.sleep(0.05)
                        continue
                    if job["status"] not in ("queued", "running"):
                        break
                    if kills < 2 and job["progress"] > max(0.0, killed_at):
                        killed_at = job["progress"]
                        kills += 1
                        os.kill(service.workers[0], signal.SIGKILL)
                    await asyncio.sleep(0.05)
            assert kills
            assert job["status"] == "succeeded", job
            assert job["result"]["accepted"] == COUNT
            params: dict[str, str | int] = {"owner_id": owner.account.id, "format": "csv"}
            exported = await client.get("/api/v1/items/export", params=params)
            names = [record.split(",", 2)[1] for record in exported.text.splitlines()[1:]]
            assert names == [f"Item {number}" for number in range(COUNT)]
