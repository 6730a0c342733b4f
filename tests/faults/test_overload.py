"""Three times what the service can do: it does as much as before, and refuses the rest at once."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.api.test_production_start import environment
from tests.bench.load import Generator
from tests.conftest import MakeSettings
from tests.faults.open_loop import OpenLoop
from tests.faults.probed import quantile, timers_of
from tests.processes import Service, gunicorn

pytestmark = [
    pytest.mark.system,
    pytest.mark.only("production"),
    pytest.mark.usefixtures("clean_database"),
]

SECONDS = 60.0
PATHS = (
    "/api/v2/items",
    "/api/v1/items?limit=20",
    "/api/v1/items/5",
    "/api/v2/items?limit=50",
)
REQUESTS = [f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode() for path in PATHS]


@pytest.fixture
def variables(make_settings: MakeSettings, tmp_path: Path) -> dict[str, str]:
    return environment(make_settings()) | {"PROBE_FOLDER": str(tmp_path)}


@pytest.fixture
def service(variables: dict[str, str]) -> Iterator[Service]:
    seed = ("seed", "--in-production", "--users", "20", "--items", "2000")
    subprocess.run(
        [sys.executable, "-m", "app.cli", *seed],
        env={**os.environ, **variables},
        check=True,
        stdout=subprocess.DEVNULL,
    )
    with gunicorn("kingpost", "tests.faults.probed:app", variables) as service:
        yield service


def knee(service: Service, *, seconds: float) -> float:
    """Return how many requests a second are answered when as many ask as can be served well."""
    outcome = Generator(service.port, REQUESTS, seconds=seconds, connections=16).outcome()
    assert set(outcome.statuses) == {"200"}
    return outcome.per_second


async def is_quick_again(service: Service, *, within: float) -> None:
    async with (
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{service.port}") as client,
        asyncio.timeout(within),
    ):
        in_a_row = 0
        while in_a_row < 20:
            asked = time.monotonic()
            status = (await client.get("/api/v1/items")).status_code
            is_quick = status == 200 and time.monotonic() - asked < 0.25
            in_a_row = in_a_row + 1 if is_quick else 0


async def test_three_times_the_knee_is_shed(service: Service, tmp_path: Path) -> None:
    await asyncio.to_thread(knee, service, seconds=2)
    before = await asyncio.to_thread(knee, service, seconds=8)
    load = OpenLoop(service.port, REQUESTS, per_second=3 * before, seconds=SECONDS)
    began = time.monotonic()
    outcome = await asyncio.to_thread(load.outcome)
    ended = time.monotonic()
    await is_quick_again(service, within=5)
    after = await asyncio.to_thread(knee, service, seconds=8)
    service.process.terminate()
    await asyncio.to_thread(service.process.wait, 30)
    timers = timers_of(tmp_path, after=began, before=ended)
    # What the machine ran instead of us while somebody waited, and what a turn of the loop takes.
    machine = quantile((timer.waited for timer in timers), share=0.99)
    worked = quantile(timer.worked for timer in timers)
    sys.stdout.write(f"{machine=:.3f} {worked=:.3f} s; ")
    sys.stdout.write(f"knee {before:.0f}/s before and {after:.0f}/s after; {outcome}")
    assert set(outcome.statuses) == {"200", "503"}
    assert outcome.unanswered == 0
    assert outcome.without_retry_after == 0
    # Others use this machine too: what it could do at the time lies between the two.
    assert outcome.good_per_second >= 0.8 * min(before, after)
    assert outcome.given_up <= 0.1 * sum(outcome.statuses.values())
    assert outcome.p50["503"] < 0.1 + machine
    assert outcome.p99["503"] < 0.3 + 4 * machine
    assert worked < 0.1
    assert outcome.p50["200"] < 1.5
    assert service.log().count("overloaded: ") <= 2 * (SECONDS + 15)
