"""Data under races and hang-ups, over two workers: nothing doubled, overwritten, lost or leaked."""

import asyncio
import re
import statistics
import time
from pathlib import Path

import httpx
import pytest

from tests.factories import create_item, expect, new_user
from tests.faults.conftest import Production
from tests.live_server import LiveServer
from tests.patience import PATIENCE

pytestmark = pytest.mark.only("production")


def many(production: Production) -> httpx.AsyncClient:
    """A client with a connection for each request, so that all workers are asked at once."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
    return LiveServer(production.url).client(limits=limits)


async def test_fifty_at_once_with_one_key_create_one(production: Production) -> None:
    async with many(production) as client:
        tokens = await new_user(client)
        headers = {**tokens.headers, "Idempotency-Key": "once"}
        body = {"name": "Once", "price": 1}

        async def create() -> httpx.Response:
            while True:
                answer = await client.post("/api/v1/items", json=body, headers=headers)
                if answer.status_code not in (409, 503):
                    return answer

        answers = await asyncio.gather(*(create() for _ in range(50)))
        assert {each.status_code for each in answers} == {201}
        assert len({each.text for each in answers}) == 1
        url = f"/api/v1/items?owner_id={tokens.account.id}"
        assert expect(await client.get(url, headers=tokens.headers), 200)["total"] == 1
        stranger = await new_user(client)
        other = await client.post(
            "/api/v1/items", json=body, headers={**headers, **stranger.headers}
        )
        assert expect(other, 201)["owner_id"] == stranger.account.id


async def test_of_a_hundred_writers_with_one_if_match_one_wins(production: Production) -> None:
    async with many(production) as client:
        tokens = await new_user(client)
        item = await create_item(client, tokens)
        headers = {**tokens.headers, "If-Match": '"1"'}

        async def change(number: int) -> int:
            while True:
                answer = await client.patch(
                    f"/api/v1/items/{item['id']}", json={"price": number + 1}, headers=headers
                )
                if answer.status_code != 503:
                    return answer.status_code

        statuses = await asyncio.gather(*(change(number) for number in range(100)))
        assert sorted(statuses) == [200] + [412] * 99


@pytest.mark.parametrize(
    ("rows", "writers"), [(1000, 4), pytest.param(10_000, 20, marks=pytest.mark.system)]
)
async def test_pages_by_cursor_skip_and_repeat_nothing_under_writers(
    production: Production, rows: int, writers: int
) -> None:
    async with production.client() as client:
        tokens = await new_user(client)
        kept: set[int] = set()
        for start in range(0, rows, 1000):
            operations = [
                {"op": "create", "item": {"name": f"Kept {number:05}", "price": 1 + number % 7}}
                for number in range(start, start + 1000)
            ]
            made = await client.post(
                "/api/v1/items/bulk", json={"operations": operations}, headers=tokens.headers
            )
            kept |= {result["item"]["id"] for result in expect(made, 200)["results"]}
        stop = asyncio.Event()

        async def write() -> None:
            while not stop.is_set():
                item = await create_item(client, tokens, name="Passing", price=3)
                await client.delete(f"/api/v1/items/{item['id']}", headers=tokens.headers)
                await asyncio.sleep(0.005)

        limit = min(rows // 40, 100)
        async with asyncio.TaskGroup() as tasks:
            for _ in range(writers):
                tasks.create_task(write())
            for sort in ("id", "-id", "price", "-name"):
                seen: list[int] = []
                url = f"/api/v2/items?owner_id={tokens.account.id}&limit={limit}&sort={sort}"
                while url:
                    answer = await client.get(url)
                    seen += [item["id"] for item in expect(answer, 200)["items"]]
                    url = answer.links.get("next", {}).get("url", "")
                assert len(seen) == len(set(seen)), sort
                assert kept <= set(seen), sort
            stop.set()


async def test_clients_that_hang_up_leave_nothing_behind(production: Production) -> None:
    async with production.client() as client:
        tokens = await new_user(client)

        async def hang_up(number: int) -> None:
            _, writer = await asyncio.open_connection("127.0.0.1", production.service.port)
            head = f"GET /api/v1/items?limit=100&q=a HTTP/1.1\r\nHost: x\r\n{number}: x\r\n\r\n"
            writer.write(head.encode())
            await asyncio.sleep(0.001 * (number % 7))
            writer.transport.abort()

        for start in range(0, 500, 50):
            await asyncio.gather(*(hang_up(number) for number in range(start, start + 50)))
        async with asyncio.timeout(PATIENCE):
            while await _connections_in_use(client):
                await asyncio.sleep(0.05)
        await create_item(client, tokens)


async def _connections_in_use(client: httpx.AsyncClient) -> float:
    text = (await client.get("/metrics")).raise_for_status().text
    return sum(map(float, re.findall(r"^db_pool_in_use(?:\{.*?\})? (\S+)", text, re.MULTILINE)))


async def test_others_are_served_while_many_sign_in(production: Production) -> None:
    async with many(production) as client:
        tokens = await new_user(client)
        form = {"username": tokens.account.username, "password": tokens.account.password}
        alone = []
        for _ in range(3):
            asked = time.monotonic()
            expect(await client.post("/api/v1/auth/token", data=form), 200)
            alone.append(time.monotonic() - asked)
        before = seconds_beside_loops(production)
        signing_in = [
            asyncio.create_task(client.post("/api/v1/auth/token", data=form)) for _ in range(16)
        ]
        waits = []
        while not all(task.done() for task in signing_in):
            asked = time.monotonic()
            assert (await client.get("/health/live")).status_code == 200
            waits.append(time.monotonic() - asked)
            await asyncio.sleep(0.02)
        statuses = [task.result().status_code for task in signing_in]
        assert set(statuses) <= {200, 503}
        assert 200 in statuses
        # A hash takes about 17 ms of a CPU, and beside the loops there is little else to do.
        assert seconds_beside_loops(production) - before > 0.003 * statuses.count(200)
        assert statistics.median(waits) < max(0.25, 2 * statistics.median(alone))


def seconds_beside_loops(production: Production) -> float:
    """Return what the workers' threads have had of a CPU, without those of their loops."""
    threads = [
        thread
        for pid in production.service.workers
        for thread in Path(f"/proc/{pid}/task").iterdir()
        if thread.name != str(pid)
    ]
    return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1e9
