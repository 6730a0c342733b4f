"""The event loop stays free while passwords are hashed, files taken in and lists written out."""

import asyncio
import re
import subprocess
import sys

import httpx
import pytest

from tests.api.files import upload
from tests.conftest import MakeSettings
from tests.factories import Tokens, create_item, new_user
from tests.faults.conftest import Production, producing

pytestmark = [pytest.mark.system, pytest.mark.only("production")]

SECONDS, AT_ONCE = 15.0, 50
LATE = "0.05"
# The same timer in a process that does nothing else: what this machine does to anybody.
CONTROL = """
import asyncio, sys, time
async def watch():
    late = total = 0
    ends_at = time.monotonic() + float(sys.argv[1])
    while time.monotonic() < ends_at:
        due = time.monotonic() + 0.25
        await asyncio.sleep(0.25)
        late += time.monotonic() - due > 0.05
        total += 1
    print(late / total)
asyncio.run(watch())
"""


async def test_fifty_of_each_at_once_leave_the_loop_free(make_settings: MakeSettings) -> None:
    # Dear things only as many as the service takes in at once; all else is answered 429 or 503.
    async with producing(
        make_settings(), RUN_JOBS="inline", MAX_FILES_PER_ITEM="1000"
    ) as production:
        limits = httpx.Limits(max_connections=200)
        async with httpx.AsyncClient(base_url=production.url, timeout=60, limits=limits) as client:
            tokens = await new_user(client)
            item = await create_item(client, tokens)
            operations = [
                {"op": "create", "item": {"name": f"Item {n}", "price": 1}} for n in range(1000)
            ]
            for _ in range(5):
                await client.post(
                    "/api/v1/items/bulk", json={"operations": operations}, headers=tokens.headers
                )
            late_before, total_before = await lateness(production)
            control = await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", CONTROL, str(SECONDS)), stdout=subprocess.PIPE
            )
            statuses = await burden(client, tokens, item["id"])
            late, total = await lateness(production)
        of_anybody = float((await control.communicate())[0])
    share = (late - late_before) / (total - total_before)
    sys.stdout.write(f"late: {share:.3f} of the service's timers, {of_anybody:.3f} of the control")
    assert statuses <= {200, 201, 429, 503}
    assert {200, 201} <= statuses
    # One in a thousand was promised, of a machine at rest; its own threads take CPU here too.
    assert share <= 0.3 + 2 * of_anybody


async def burden(client: httpx.AsyncClient, tokens: Tokens, item_id: int) -> set[int]:
    """Sign in, upload and export for a while, fifty at once of each; return the statuses."""
    statuses: set[int] = set()
    loop = asyncio.get_running_loop()
    ends_at = loop.time() + SECONDS
    form = {"username": tokens.account.username, "password": tokens.account.password}

    async def repeat(kind: int) -> None:
        while loop.time() < ends_at:
            if kind == 0:
                answer = await client.post("/api/v1/auth/token", data=form)
            elif kind == 1:
                answer = await upload(client, tokens, item_id, b"x" * 500_000)
            else:
                answer = await client.get("/api/v1/items/export?format=csv", headers=tokens.headers)
            statuses.add(answer.status_code)
            await asyncio.sleep(0 if answer.is_success else 0.2)

    await asyncio.gather(*(repeat(number % 3) for number in range(3 * AT_ONCE)))
    return statuses


async def lateness(production: Production) -> tuple[float, float]:
    """Return how many of the loops' timers came later than 50 ms, and how many there were."""
    async with production.client() as client:
        text = (await client.get("/metrics")).text

    def bucket(bound: str) -> float:
        name = re.escape(f'event_loop_lag_seconds_bucket{{le="{bound}"}}')
        found = re.search(rf"^{name} (\S+)", text, re.MULTILINE)
        assert found, bound
        return float(found[1])

    return bucket("+Inf") - bucket(LATE), bucket("+Inf")
