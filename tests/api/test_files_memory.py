"""How much memory a real process takes while large files go through it."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest

from tests.api.files import FORM_TYPE, form
from tests.api.test_production_start import environment
from tests.conftest import MakeSettings
from tests.factories import Tokens, create_item, expect, new_user
from tests.processes import Service, gunicorn
from tests.s3 import new_bucket, s3_server

# A database of its own: the shared app would run these jobs, and its files are elsewhere.
pytestmark = [pytest.mark.only("production"), pytest.mark.usefixtures("clean_database")]

MB = 1024 * 1024
PIECE = bytes(range(32, 96)) * 1024  # 64 KB of text
ALLOWED_MB = 8.0  # for each stream
AT_ONCE = 3


def reset_peak(service: Service) -> None:
    """Let the kernel measure the peak of each worker's memory from here on."""
    for pid in service.workers:
        Path(f"/proc/{pid}/clear_refs").write_text("5")


def peak(service: Service) -> float:
    """Return the most resident memory that a worker took, in MB."""
    lines = [Path(f"/proc/{pid}/status").read_text().splitlines() for pid in service.workers]
    peaks = [next(line for line in each if line.startswith("VmHWM")) for each in lines]
    return max(int(line.split()[1]) / 1024 for line in peaks)


async def pieces(size: int) -> AsyncIterator[bytes]:
    """Yield the multipart body of one file, never whole."""
    start, end = form(b"\0\0").split(b"\0\0")
    yield start
    for _ in range(size // len(PIECE)):
        yield PIECE
    yield end


async def send(client: httpx.AsyncClient, tokens: Tokens, item_id: int, size: int) -> int:
    headers = {**tokens.headers, "Content-Type": FORM_TYPE}
    url = f"/api/v1/items/{item_id}/files"
    answer = await client.post(url, content=pieces(size), headers=headers)
    (file,) = expect(answer, 201)["items"]
    assert file["size"] == size
    return int(file["id"])


async def fetch(client: httpx.AsyncClient, file_id: int, size: int) -> None:
    digest = hashlib.sha256()
    async with client.stream("GET", f"/api/v1/files/{file_id}") as answer:
        async for block in answer.aiter_raw():
            digest.update(block)
    wanted = hashlib.sha256()
    for _ in range(size // len(PIECE)):
        wanted.update(PIECE)
    assert digest.digest() == wanted.digest()


async def through(service: Service, size: int) -> float:
    """Send and fetch files of a size at once; return by how many MB a worker grew at most."""
    async with httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{service.port}", timeout=120
    ) as client:
        owner = await new_user(client)
        item = await create_item(client, owner)
        # What is imported and allocated once is no stream's.
        await fetch(client, await send(client, owner, item["id"], 6 * MB), 6 * MB)
        reset_peak(service)
        before = peak(service)
        sent = [send(client, owner, item["id"], size) for _ in range(AT_ONCE)]
        for file_id in await asyncio.gather(*sent):
            await fetch(client, file_id, size)
        return peak(service) - before


@pytest.fixture(scope="module")
def s3_url() -> Iterator[str]:
    with s3_server() as url:
        yield url


@pytest.mark.parametrize(
    ("place", "size"),
    [
        ("local", 40 * MB),
        pytest.param("local", 200 * MB, marks=pytest.mark.system),
        pytest.param("s3", 200 * MB, marks=pytest.mark.system),
    ],
)
async def test_memory_stays_flat_however_large_a_file_is(
    make_settings: MakeSettings,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    place: str,
    size: int,
) -> None:
    variables = environment(make_settings()) | {
        "DATA_DIR": str(tmp_path),
        "MAX_FILE_BYTES": str(size),
        "MAX_UPLOAD_BYTES": str(size + MB),
    }
    if place == "s3":
        bucket = new_bucket(request.getfixturevalue("s3_url"))
        variables |= {name.upper(): value for name, value in bucket.settings.items()}
    with gunicorn("kingpost", "app.main:app", variables, workers=1) as service:
        assert await through(service, size) < ALLOWED_MB * AT_ONCE
