"""Contents in a folder of the local disk; every call of the file system is made in a thread."""

import errno
import os
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime, timedelta
from functools import partial
from io import FileIO
from itertools import islice
from pathlib import Path
from typing import TypeVar

from anyio import CancelScope, CapacityLimiter, to_thread

from app.adapters.storage import BLOCK_BYTES, INCOMING, Announced, SignedUpload, checked
from app.errors import InsufficientStorage, NotFound, StorageUnavailable

_THREADS = 16  # a disk gains nothing from more at once
_PAGE = 500
_PARTIAL = "partial"
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})

T = TypeVar("T")


class LocalStorage:
    """Files under `root`: two letters of the name, then the name; half written ones in `partial`.

    A content is written whole under another name, brought to the disk for good, and renamed.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._limiter = CapacityLimiter(_THREADS)

    async def open(self) -> None:
        """Do nothing: a folder is always ready."""

    @asynccontextmanager
    async def create(self, name: str) -> AsyncIterator["_FileSink"]:
        """Write a content: whole at the end of the block, without a trace where it raises."""
        path = self._path(name)
        partial_path = self._root / _PARTIAL / f"{path.name}-{secrets.token_hex(4)}"
        file = await self._run(_open_new, partial_path)
        try:
            yield _FileSink(file, self._run)
            await self._run(_finish, file, partial_path, path)
        except BaseException:
            with CancelScope(shield=True):
                await self._run(_discard, file, partial_path)
            raise

    @asynccontextmanager
    async def read(
        self, name: str, start: int = 0, length: int | None = None
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """Read a content, or a part of it, in blocks."""
        with await self._run(FileIO, self._path(name)) as file:  # closing it waits for nothing
            yield self._blocks(file, start, length)

    async def delete(self, names: Collection[str]) -> None:
        """Delete contents; names that there are none of do not matter."""
        await self._run(_delete, [self._path(name) for name in names])

    async def older_than(self, moment: datetime) -> AsyncIterator[list[str]]:
        """List, in pages, the names of what was written before a moment."""
        found = _older(self._root, moment.timestamp())
        while page := await self._run(lambda: list(islice(found, _PAGE))):
            yield page

    async def discard_unfinished(self, moment: datetime) -> int:
        """Delete what processes that crashed left half written before a moment."""
        return await self._run(_discard_older, self._root / _PARTIAL, moment.timestamp())

    async def upload_url(
        self, name: str, announced: Announced, lifetime: timedelta
    ) -> SignedUpload | None:
        """Return None: clients come to us."""
        return None

    async def download_url(
        self, name: str, headers: dict[str, str], lifetime: timedelta
    ) -> str | None:
        """Return None: clients come to us."""
        return None

    async def check(self) -> None:
        """Find out whether the folder can be written to."""
        await self._run(_probe, self._root / _PARTIAL)

    async def close(self) -> None:
        """Hold nothing."""

    def _path(self, name: str) -> Path:
        checked(name)
        if name.startswith(INCOMING):
            return self._root / name
        return self._root / name[:2] / name

    async def _blocks(self, file: FileIO, start: int, length: int | None) -> AsyncIterator[bytes]:
        left = length
        while left is None or left > 0:
            wanted = BLOCK_BYTES if left is None else min(left, BLOCK_BYTES)
            block = await self._run(os.pread, file.fileno(), wanted, start)
            if not block:
                return
            yield block
            start += len(block)
            left = None if left is None else left - len(block)

    async def _run(self, function: Callable[..., T], *arguments: object) -> T:
        with _told():
            return await to_thread.run_sync(partial(function, *arguments), limiter=self._limiter)


class _FileSink:
    def __init__(self, file: FileIO, run: Callable[..., Awaitable[None]]) -> None:
        self._file = file
        self._run = run

    async def write(self, block: bytes) -> None:
        await self._run(_write, self._file, block)


@contextmanager
def _told() -> Iterator[None]:
    """Say in the words of the domain what went wrong with the disk."""
    try:
        yield
    except FileNotFoundError as error:
        raise NotFound("The content of the file is gone") from error
    except OSError as error:
        if error.errno in _FULL:
            raise InsufficientStorage from error
        raise StorageUnavailable from error


def _open_new(path: Path) -> FileIO:
    try:
        return FileIO(path, "x", opener=_open_private)
    except FileNotFoundError:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return FileIO(path, "x", opener=_open_private)


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _write(file: FileIO, block: bytes) -> None:
    view = memoryview(block)
    while view:  # a nearly full disk takes a part, and refuses the next call
        view = view[file.write(view) :]


def _finish(file: FileIO, partial_path: Path, path: Path) -> None:
    os.fsync(file.fileno())
    file.close()
    if not path.parent.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _sync_folder(path.parent.parent)
    partial_path.replace(path)
    _sync_folder(path.parent)


def _sync_folder(path: Path) -> None:
    """Bring a folder's entries to the disk: until then a crash can undo a rename."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _discard(file: FileIO, path: Path) -> None:
    file.close()
    path.unlink(missing_ok=True)


def _delete(paths: list[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)


def _older(root: Path, moment: float) -> Iterator[str]:
    for folder in sorted(root.glob("*/")):
        if folder.name == _PARTIAL:
            continue
        prefix = INCOMING if f"{folder.name}/" == INCOMING else ""
        with os.scandir(folder) as entries:
            for entry in entries:
                if _is_older(Path(entry.path), moment):
                    yield prefix + entry.name


def _is_older(path: Path, moment: float) -> bool:
    try:
        return path.stat().st_mtime < moment
    except FileNotFoundError:  # deleted or renamed while we look
        return False


def _discard_older(folder: Path, moment: float) -> int:
    if not folder.exists():
        return 0
    old = [path for path in folder.iterdir() if _is_older(path, moment)]
    _delete(old)
    return len(old)


def _probe(folder: Path) -> None:
    path = folder / f"probe-{time.monotonic_ns()}"
    _discard(_open_new(path), path)
