"""Where the content of files is kept: one interface, on the local disk or in S3.

What is stored has a name that we make, never one that a client gave. Nobody sees a name until its
file's row is committed, so that storing comes first and costs nothing where the commit fails: what
no row knows is swept.
"""

import re
from collections.abc import AsyncIterator, Collection
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from app.settings import Settings

BLOCK_BYTES = 256 * 1024  # read and written at once: few hops to a thread, little memory
INCOMING = "incoming/"  # what clients send into the storage by themselves, before it is confirmed
THUMBNAIL = ".thumbnail"

_NAME = re.compile(r"(incoming/)?[0-9a-f]{32}(\.thumbnail)?")


class Sink(Protocol):
    """Takes in the content of one file."""

    async def write(self, block: bytes) -> None:
        """Take the next bytes."""


@dataclass(frozen=True, slots=True)
class Announced:
    """What a client says that it is going to upload."""

    content_type: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class SignedUpload:
    """An address that takes an announced file, and the headers that it insists on."""

    url: str
    headers: dict[str, str]


class Storage(Protocol):
    """A place for contents, each written once and never changed.

    Every method raises `StorageUnavailable` where the place cannot be reached.
    """

    async def open(self) -> None:
        """Get ready before anybody waits for it; what prevents that, the other methods tell."""

    def create(self, name: str) -> AbstractAsyncContextManager[Sink]:
        """Write a content: whole at the end of the block, without a trace where it raises.

        Raises:
            InsufficientStorage: the disk is full.
        """

    def read(
        self, name: str, start: int = 0, length: int | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Read a content, or a part of it, in blocks.

        Raises:
            NotFound: there is none of this name.
        """

    async def delete(self, names: Collection[str]) -> None:
        """Delete contents; names that there are none of do not matter."""

    def older_than(self, moment: datetime) -> AsyncIterator[list[str]]:
        """List, in pages, the names of what was written before a moment."""

    async def discard_unfinished(self, moment: datetime) -> int:
        """Delete what processes that crashed left half written before a moment; return how many."""

    async def upload_url(
        self, name: str, announced: Announced, lifetime: timedelta
    ) -> SignedUpload | None:
        """Return where a client can send a content by itself; None where it must come to us."""

    async def download_url(
        self, name: str, headers: dict[str, str], lifetime: timedelta
    ) -> str | None:
        """Return where a client can fetch a content by itself; None where it must come to us."""

    async def check(self) -> None:
        """Find out whether the place can be used."""

    async def close(self) -> None:
        """Give up what is held."""


def open_storage(settings: Settings) -> Storage:
    """Return the storage that the settings name."""
    if settings.s3_bucket is not None:
        from app.adapters.storage_s3 import S3Storage

        return S3Storage(settings, settings.s3_bucket)
    from app.adapters.storage_local import LocalStorage

    return LocalStorage(settings.files_dir or settings.data_dir / "files")


def checked(name: str) -> str:
    """Return a name of ours as it is.

    Raises:
        ValueError: we never made it.
    """
    if not _NAME.fullmatch(name):
        raise ValueError("not a name of the storage")
    return name
