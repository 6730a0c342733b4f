"""How much memory a real process takes while very many items leave and enter it."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import httpx
import pytest

from tests.api.test_production_start import environment, settings_of
from tests.backends import Backend, Foundation, Place, fresh_place
from tests.factories import Tokens, expect, new_user
from tests.lending import Lending, is_well, lending
from tests.live_server import LiveServer
from tests.processes import Service, gunicorn

ALLOWED_MB = 16.0  # of it 8 are what allocators keep; a list of 20,000 items would take 50
SIZES = [20_000, pytest.param(1_000_000, marks=pytest.mark.system)]
LINES_AT_ONCE = 1000
FILL = """
    INSERT INTO items (owner_id, name, description, price_cents, tags, visibility, metadata,
                       created_at, updated_at, search_text)
    SELECT $1, 'Item ' || n, repeat('Something to say. ', 10), 1 + n, '{office,wood}', 'public',
           '{}', now(), now(), 'item'
      FROM generate_series(1, $2::int) n
"""


@pytest.fixture(scope="module")
def place(foundation: Foundation, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A database of this module: the shared app would run its jobs, and has other files."""
    folder = tmp_path_factory.mktemp("bulk")
    with fresh_place(Backend.PRODUCTION, foundation, folder, redis_offset=1) as place:
        yield place


@pytest.fixture(scope="module")
async def lent_service(place: Place) -> AsyncIterator[Lending[Service]]:
    """The one of this module, which `service` lends to its tests."""
    async with lending(lambda: one_worker(place), is_well) as lent:
        yield lent


@pytest.fixture
async def service(
    lent_service: Lending[Service], request: pytest.FixtureRequest
) -> AsyncIterator[Service]:
    """A service of one worker, which runs its jobs as well."""
    async with lent_service.turn(request.session) as service:
        yield service


@asynccontextmanager
async def one_worker(place: Place, **variables: str) -> AsyncIterator[Service]:
    """Serve by one worker, which runs its jobs as well."""
    given = environment(settings_of(place)) | {"RUN_JOBS": "inline"} | variables
    with gunicorn("kingpost", "app.main:app", given, workers=1) as service:
        yield service


def reset_peak(service: Service) -> float:
    """Let the kernel measure the peak of the worker's memory from here on; return it, in MB."""
    (pid,) = service.workers
    Path(f"/proc/{pid}/clear_refs").write_text("5")
    return peak(service)


def peak(service: Service) -> float:
    """Return the most resident memory that the worker took, in MB."""
    (pid,) = service.workers
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024


def client_of(service: Service) -> httpx.AsyncClient:
    return LiveServer(service.url).client(timeout=120)


async def fill(place: Place, owner: Tokens, count: int) -> None:
    connection = await asyncpg.connect(place.database_url)
    await connection.execute(FILL, owner.account.id, count)
    await connection.close()


async def export(client: httpx.AsyncClient, owner: Tokens, text_format: str, coding: str) -> int:
    """Read an export to its end; return how many lines it has."""
    params: dict[str, str | int] = {"owner_id": owner.account.id, "format": text_format}
    headers = {"Accept-Encoding": coding}
    lines = 0
    async with client.stream(
        "GET", "/api/v1/items/export", params=params, headers=headers
    ) as answer:
        assert answer.status_code == 200
        async for piece in answer.aiter_bytes():
            lines += piece.count(b"\n")
    return lines


@pytest.mark.parametrize("count", SIZES)
async def test_an_export_takes_no_more_memory_however_long_it_is(
    service: Service, place: Place, count: int
) -> None:
    async with client_of(service) as client:
        owner, other = await new_user(client), await new_user(client)
        await fill(place, other, 2000)
        await fill(place, owner, count)
        for text_format, coding in (("ndjson", "identity"), ("csv", "gzip")):
            await export(client, other, text_format, coding)  # what is allocated once
            before = reset_peak(service)
            lines = await export(client, owner, text_format, coding)
            assert lines == count + (text_format == "csv")
            assert peak(service) - before < ALLOWED_MB


async def lines(count: int) -> AsyncIterator[bytes]:
    """Yield so many lines, never all."""
    line = '{"name":"Item %d","description":"%s","price":%d.5,"tags":["office","wood"]}\n'
    for start in range(0, count, LINES_AT_ONCE):
        numbers = range(start, min(start + LINES_AT_ONCE, count))
        yield "".join([line % (n, "Something to say. " * 10, n) for n in numbers]).encode()


async def import_all(client: httpx.AsyncClient, owner: Tokens, count: int, atomic: str) -> None:
    headers = owner.headers | {"Content-Type": "application/x-ndjson"}
    answer = await client.post(
        "/api/v1/items/import", content=lines(count), params={"atomic": atomic}, headers=headers
    )
    url = f"/api/v1/jobs/{expect(answer, 202)['id']}"
    async with asyncio.timeout(1800):
        while True:
            job = expect(await client.get(url, headers=owner.headers), 200)
            if job["status"] not in ("queued", "running"):
                break
            await asyncio.sleep(0.1)
    assert job["status"] == "succeeded", job
    assert job["result"]["accepted"] == count


@pytest.mark.parametrize("count", SIZES)
@pytest.mark.parametrize("atomic", ["false", "true"])
async def test_an_import_takes_no_more_memory_however_long_it_is(
    service: Service, count: int, atomic: str
) -> None:
    async with client_of(service) as client:
        owner = await new_user(client)
        await import_all(client, owner, 5000, atomic)  # what is allocated once
        before = reset_peak(service)
        await import_all(client, owner, count, atomic)
        assert peak(service) - before < ALLOWED_MB
