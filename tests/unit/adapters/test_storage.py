"""Both storages, by the same tests: on the disk, and in S3 against a real server."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from app.adapters.storage import BLOCK_BYTES, Storage, open_storage
from app.adapters.storage_local import LocalStorage
from app.clock import now
from app.errors import NotFound, StorageUnavailable
from app.settings import Settings
from tests.s3 import Bucket, new_bucket, s3_server

LATER = timedelta(hours=1)


@pytest.fixture(scope="module")
def s3_url() -> Iterator[str]:
    with s3_server() as url:
        yield url


def settings_of(folder: Path, **over: Any) -> Settings:
    return Settings(_env_file=None, data_dir=folder, secret_key="x" * 32, **over)


@pytest.fixture(scope="module")
def shared_bucket(s3_url: str) -> Bucket:
    return new_bucket(s3_url)


@pytest.fixture(scope="module")
async def s3_storage(
    shared_bucket: Bucket, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Storage]:
    opened = open_storage(settings_of(tmp_path_factory.mktemp("s3"), **shared_bucket.settings))
    yield opened
    await opened.close()


@pytest.fixture
def bucket(shared_bucket: Bucket) -> Bucket:
    shared_bucket.clear()
    return shared_bucket


@pytest.fixture(params=["local", "s3"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    if request.param == "local":
        return open_storage(settings_of(tmp_path))
    request.getfixturevalue("bucket")
    opened: Storage = request.getfixturevalue("s3_storage")
    return opened


def new_name(prefix: str = "") -> str:
    return f"{prefix}{uuid4().hex}"


async def write(storage: Storage, name: str, *blocks: bytes) -> None:
    async with storage.create(name) as sink:
        for block in blocks:
            await sink.write(block)


async def content(storage: Storage, name: str, *extent: int) -> bytes:
    async with storage.read(name, *extent) as blocks:
        return b"".join([block async for block in blocks])


async def names(storage: Storage) -> set[str]:
    found: set[str] = set()
    async for page in storage.older_than(now() + LATER):
        found.update(page)
    return found


@pytest.mark.parametrize("prefix", ["", "incoming/"])
async def test_what_is_written_is_read_whole_and_in_parts(storage: Storage, prefix: str) -> None:
    name = new_name(prefix)
    await write(storage, name, b"0123", b"", b"456789")
    assert await content(storage, name) == b"0123456789"
    assert await content(storage, name, 3, 4) == b"3456"
    assert await content(storage, name, 8, 2) == b"89"
    assert await content(storage, name, 0, 0) == b""
    assert await names(storage) == {name}


async def test_large_contents_come_in_blocks(storage: Storage) -> None:
    name = new_name()
    await write(storage, name, bytes(3 * BLOCK_BYTES))
    async with storage.read(name) as blocks:
        sizes = [len(block) async for block in blocks]
    assert max(sizes) <= BLOCK_BYTES
    assert sum(sizes) == 3 * BLOCK_BYTES


async def test_nothing_is_there_before_the_end_and_nothing_after_a_failure(
    storage: Storage,
) -> None:
    name = new_name()

    async def fail() -> None:
        async with storage.create(name) as sink:
            await sink.write(bytes(6 * 1024 * 1024))
            with pytest.raises(NotFound):
                await content(storage, name)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    with pytest.raises(NotFound):
        await content(storage, name)
    assert await names(storage) == set()
    assert await storage.discard_unfinished(now() + LATER) == 0


async def test_a_cancelled_write_leaves_nothing(storage: Storage) -> None:
    started = asyncio.Event()

    async def stall() -> None:
        async with storage.create(new_name()) as sink:
            await sink.write(bytes(6 * 1024 * 1024))
            started.set()
            await asyncio.sleep(60)

    task = asyncio.create_task(stall())
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await names(storage) == set()
    assert await storage.discard_unfinished(now() + LATER) == 0


async def test_what_is_deleted_is_gone_and_deleting_again_does_not_matter(
    storage: Storage,
) -> None:
    kept, gone = new_name(), new_name()
    for name in (kept, gone):
        await write(storage, name, b"a")
    await storage.delete([gone, new_name()])
    await storage.delete([gone])
    await storage.delete([])
    assert await names(storage) == {kept}
    with pytest.raises(NotFound):
        await content(storage, gone)


async def test_only_what_is_older_is_listed(storage: Storage) -> None:
    await write(storage, new_name(), b"a")
    async for page in storage.older_than(now() - LATER):
        assert page == []


@pytest.mark.parametrize("name", ["../x", "a/b", "", "x" * 32, f"{'a' * 32}/..", "incoming/../a"])
async def test_only_names_of_ours_reach_the_place(storage: Storage, name: str) -> None:
    with pytest.raises(ValueError, match="not a name"):
        await write(storage, name, b"a")
    with pytest.raises(ValueError, match="not a name"):
        await content(storage, name)
    with pytest.raises(ValueError, match="not a name"):
        await storage.delete([name])


async def test_a_storage_that_is_there_passes_its_check(storage: Storage) -> None:
    await storage.check()


async def test_half_written_files_of_a_crash_are_discarded(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    half = tmp_path / "partial" / "half"
    half.parent.mkdir()
    half.touch()
    assert await storage.discard_unfinished(now() - LATER) == 0
    assert await storage.discard_unfinished(now() + LATER) == 1
    assert not half.exists()


async def test_uploads_in_parts_of_a_crash_are_aborted(s3_storage: Storage, bucket: Bucket) -> None:
    bucket.begin_upload(new_name())  # in 2010, says moto
    assert await s3_storage.discard_unfinished(datetime(2010, 1, 1, tzinfo=UTC)) == 0
    assert await s3_storage.discard_unfinished(now() + LATER) == 1
    assert bucket.unfinished() == 0


async def test_a_folder_that_cannot_be_written_to_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "files").write_text("no folder")
    storage = LocalStorage(tmp_path / "files")
    with pytest.raises(StorageUnavailable):
        await storage.check()
    with pytest.raises(StorageUnavailable):
        await write(storage, new_name(), b"a")


async def test_files_are_for_the_service_alone(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path / "files")
    await write(storage, new_name(), b"a")
    for path in (tmp_path / "files").rglob("*"):
        assert path.stat().st_mode & 0o077 == 0


def test_heavy_libraries_are_imported_by_who_uses_them_alone() -> None:
    script = "import sys, app.main; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert not {"aiobotocore", "botocore", "PIL", "filetype"} & set(done.stdout.decode().split())
