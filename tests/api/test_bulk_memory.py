"""How much memory a real process takes while very many items leave and enter it."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import httpx
import pytest

from app.settings import Settings
from tests.api.test_production_start import environment
from tests.conftest import MakeSettings
from tests.factories import Tokens, expect, new_user
from tests.processes import Service, gunicorn

# A database of its own: the shared app would run these jobs, and its files are elsewhere.
pytestmark = [pytest.mark.only("production"), pytest.mark.usefixtures("clean_database")]

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


@pytest.fixture
def variables(make_settings: MakeSettings, tmp_path: Path) -> dict[str, str]:
    return environment(make_settings()) | {"DATA_DIR": str(tmp_path), "RUN_JOBS": "inline"}


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
    return httpx.AsyncClient(base_url=f"http://127.0.0.1:{service.port}", timeout=120)


async def fill(settings: Settings, owner: Tokens, count: int) -> None:
    assert settings.database_url
    connection = await asyncpg.connect(settings.database_url.get_secret_value())
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
    settings: Settings, variables: dict[str, str], count: int
) -> None:
    with gunicorn("kingpost", "app.main:app", variables, workers=1) as service:
        async with client_of(service) as client:
            owner, other = await new_user(client), await new_user(client)
            await fill(settings, other, 2000)
            await fill(settings, owner, count)
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
    variables: dict[str, str], count: int, atomic: str
) -> None:
    with gunicorn("kingpost", "app.main:app", variables, workers=1) as service:
        async with client_of(service) as client:
            owner = await new_user(client)
            await import_all(client, owner, 5000, atomic)  # what is allocated once
            before = reset_peak(service)
            await import_all(client, owner, count, atomic)
            assert peak(service) - before < ALLOWED_MB
