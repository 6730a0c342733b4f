"""The event loop stays free while passwords are hashed, files taken in and lists written out."""

import asyncio
import sys
import time
from pathlib import Path

import httpx
import pytest

from tests.api.files import upload
from tests.conftest import MakeSettings
from tests.factories import Tokens, create_item, new_user
from tests.faults.conftest import producing
from tests.faults.probed import quantile, timers_of

pytestmark = [pytest.mark.system, pytest.mark.only("production")]

SECONDS, AT_ONCE = 15.0, 50
# Of 999 timers in a thousand, in seconds. The first is what the loop's own thread did before it got
# to one: a hash takes it 17 ms, a look at all garbage 100. The second is promised to be 0.05, but
# also has what threads held the interpreter for while the machine ran somebody else.
MOST_WORKED, MOST_HELD = 0.02, 0.1


async def test_fifty_of_each_at_once_leave_the_loop_free(
    make_settings: MakeSettings, tmp_path: Path
) -> None:
    # Dear things only as many as the service takes in at once; all else is answered 429 or 503.
    async with (
        producing(
            make_settings(),
            app="tests.faults.probed:app",
            RUN_JOBS="inline",
            MAX_FILES_PER_ITEM="1000",
            PROBE_FOLDER=str(tmp_path),
        ) as production,
        httpx.AsyncClient(
            base_url=production.url, timeout=60, limits=httpx.Limits(max_connections=200)
        ) as client,
    ):
        tokens = await new_user(client)
        item = await create_item(client, tokens)
        operations = [
            {"op": "create", "item": {"name": f"Item {n}", "price": 1}} for n in range(1000)
        ]
        for _ in range(5):
            await client.post(
                "/api/v1/items/bulk", json={"operations": operations}, headers=tokens.headers
            )
        began = time.monotonic()
        statuses = await burden(client, tokens, item["id"])
        ended = time.monotonic()
    timers = timers_of(tmp_path, after=began, before=ended)
    late, held, worked = (
        quantile(getattr(timer, name) for timer in timers) for name in ("late", "held", "worked")
    )
    sys.stdout.write(f"p99.9 of {len(timers)}: {late=:.3f} {held=:.3f} {worked=:.3f} s")
    assert statuses <= {200, 201, 429, 503}
    assert {200, 201} <= statuses
    assert len(timers) > 1000
    assert worked <= MOST_WORKED
    assert held <= MOST_HELD


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
