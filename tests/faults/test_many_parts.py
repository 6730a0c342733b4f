"""Requests of very many parts or header fields: over at once, and no memory is taken."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api.files import BOUNDARY, FORM_TYPE
from tests.api.test_files_memory import peak, reset_peak
from tests.api.test_production_start import environment
from tests.conftest import MakeSettings
from tests.factories import create_item, expect, new_user
from tests.faults.test_hang_ups import stored
from tests.live_server import LiveServer
from tests.patience import within
from tests.processes import Service, gunicorn

pytestmark = pytest.mark.only("production")

MANY = 10_000
ALLOWED_MB = 8.0
LONGEST = 3.0  # seconds; promised: one, of a machine at rest
PART = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\na\r\n'
FIELD = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"\r\n\r\na\r\n'
LONG_HEAD = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{"a" * 1_000_000}"\r\n\r\n'
END = f"--{BOUNDARY}--\r\n"
BODIES = {
    "files": PART * MANY + END,
    "fields": FIELD * MANY + END,
    "boundaries": f"--{BOUNDARY}\r\n" * MANY + END,
    "a head without end": LONG_HEAD + END,
}


@pytest.fixture
def service(make_settings: MakeSettings, tmp_path: Path) -> Iterator[Service]:
    variables = environment(make_settings()) | {"DATA_DIR": str(tmp_path)}
    with gunicorn("kingpost", "app.main:app", variables, workers=1) as service:
        yield service


async def test_very_many_parts_or_headers_are_over_at_once(
    service: Service, tmp_path: Path
) -> None:
    async with LiveServer(service.url).client() as client:
        tokens = await new_user(client)
        item = await create_item(client, tokens)
        url = f"/api/v1/items/{item['id']}/files"
        headers = {**tokens.headers, "Content-Type": FORM_TYPE}
        await client.post(url, content=(PART + END).encode(), headers=headers)
        kept = len(stored(tmp_path))
        reset_peak(service)
        before = peak(service)
        for name, body in BODIES.items():
            async with within(LONGEST):
                answer = await client.post(url, content=body.encode(), headers=headers)
            assert 400 <= answer.status_code < 500, name
        assert await status_of_headers(service.port, MANY) == 431
        assert peak(service) - before < ALLOWED_MB
        assert len(stored(tmp_path)) == kept
        assert expect(await client.get(url, headers=tokens.headers), 200)["items"]


async def status_of_headers(port: int, count: int) -> int:
    """Return what is answered to a request with so many header fields."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    fields = "X:1\r\n" * count  # together less than what a head may have in bytes
    async with within(LONGEST):
        writer.write(f"GET /api/v1/items HTTP/1.1\r\nHost: x\r\n{fields}\r\n".encode())
        line = await reader.readline()
    writer.close()
    return int(line.split()[1])
