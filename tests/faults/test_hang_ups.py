"""Uploads that are cut off, and a disk that is full: nothing is left behind, and it goes on."""

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import httpx
import pytest

from app.settings import Settings
from tests.api.files import FORM_TYPE, form, upload
from tests.conftest import MakeSettings
from tests.factories import Tokens, create_item, expect, new_user
from tests.faults.conftest import Production, producing
from tests.patience import PATIENCE

pytestmark = pytest.mark.only("production")

IDLE_IN_TRANSACTION = """
    SELECT count(*) FROM pg_stat_activity
     WHERE datname = current_database() AND state LIKE 'idle in transaction%'
"""
MB = 1024 * 1024


@pytest.fixture
async def storing(make_settings: MakeSettings, tmp_path: Path) -> AsyncIterator[Production]:
    """A production whose files are in a folder of this test."""
    files = str(tmp_path / "files")
    async with producing(make_settings(), workers=1, FILES_DIR=files) as production:
        yield production


def stored(folder: Path) -> list[Path]:
    """Return every file, half written ones too."""
    return [path for path in folder.rglob("*") if path.is_file()]


async def no_connection_in_use(client: httpx.AsyncClient) -> None:
    async with asyncio.timeout(PATIENCE):
        while "db_pool_in_use 0.0" not in (await client.get("/metrics")).text:
            await asyncio.sleep(0.05)


async def nobody_idles_in_a_transaction(settings: Settings) -> None:
    assert settings.database_url
    connection = await asyncpg.connect(settings.database_url.get_secret_value())
    try:
        async with asyncio.timeout(PATIENCE):
            while await connection.fetchval(IDLE_IN_TRANSACTION):
                await asyncio.sleep(0.05)
    finally:
        await connection.close()


async def begin(port: int, tokens: Tokens, url: str, number: int) -> asyncio.StreamWriter:
    """Send the head of an upload and more or less of its file."""
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    body = form(bytes(200_000))
    head = [f"POST {url} HTTP/1.1", "Host: x", f"Authorization: Bearer {tokens.access}"]
    head += [f"Content-Type: {FORM_TYPE}", f"Content-Length: {len(body)}"]
    writer.write("\r\n".join([*head, "", ""]).encode())
    writer.write(body[: 200 + number * 3970 % (len(body) - 200)])
    return writer


@pytest.mark.parametrize("aborts", [100, pytest.param(500, marks=pytest.mark.system)])
async def test_uploads_that_are_cut_off_leave_nothing_behind(
    storing: Production, settings: Settings, tmp_path: Path, aborts: int
) -> None:
    async with storing.client() as client:
        tokens = await new_user(client)
        item = await create_item(client, tokens)
        url = f"/api/v1/items/{item['id']}/files"
        for start in range(0, aborts, 50):
            writers = [
                await begin(storing.service.port, tokens, url, number)
                for number in range(start, start + 50)
            ]
            # Every other round at once; else when half of them are being written.
            async with asyncio.timeout(PATIENCE):
                while start % 100 and len(stored(tmp_path / "files")) < 25:
                    await asyncio.sleep(0.02)
            for writer in writers:
                writer.transport.abort()
        await no_connection_in_use(client)
        await nobody_idles_in_a_transaction(settings)
        async with asyncio.timeout(PATIENCE):
            while stored(tmp_path / "files"):
                await asyncio.sleep(0.05)
        assert not expect(await client.get(url, headers=tokens.headers), 200)["items"]
        expect(await upload(client, tokens, item["id"], b"whole"), 201)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of four megabytes."""
    if os.geteuid() != 0:
        pytest.skip("a small disk can be mounted by root alone: run this test as root")
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {mounted.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.mark.system
async def test_a_full_disk_is_said_leaves_nothing_behind_and_is_got_over(
    make_settings: MakeSettings, small_disk: Path
) -> None:
    async with (
        producing(make_settings(), FILES_DIR=str(small_disk)) as production,
        production.client() as client,
    ):
        tokens = await new_user(client)
        item = await create_item(client, tokens)
        first = expect(await upload(client, tokens, item["id"], b"a" * MB), 201)["items"][0]
        too_many = await asyncio.gather(
            *(upload(client, tokens, item["id"], b"b" * 3 * MB + b"c" * MB) for _ in range(6))
        )
        assert {each.status_code for each in too_many} <= {503, 507}
        assert len(stored(small_disk)) == 1
        await no_connection_in_use(client)
        assert (await client.get(f"/api/v1/files/{first['id']}")).content == b"a" * MB
        assert expect(await client.get("/health/ready"), 200)["status"] == "ok"
        expect(await upload(client, tokens, item["id"], b"d" * 2 * MB), 201)
        # Not one byte free: ready all the same, without files.
        (small_disk / "filler").write_bytes(
            b"\0" * (os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_bsize)
        )
        refused = await upload(client, tokens, item["id"], b"e" * 100_000)
        assert refused.status_code in (503, 507)
        (small_disk / "filler").unlink()
        expect(await upload(client, tokens, item["id"], b"e" * 100_000), 201)
