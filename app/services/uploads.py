"""Brings contents into the storage while they arrive: measured, hashed, told by their content."""

import asyncio
import hashlib
import unicodedata
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from uuid import uuid4

from anyio import CancelScope, to_thread

from app.adapters.storage import BLOCK_BYTES, Announced, Sink, Storage
from app.errors import (
    BadRequest,
    ChecksumMismatch,
    DomainError,
    FileTooLarge,
    FileTypeNotAllowed,
    RequestTimeout,
    Unavailable,
    Unprocessable,
)
from app.schemas.files import MAX_NAME
from app.services.file_types import HEAD_BYTES, content_type
from app.services.multipart import PartBegins, PartEnds, read_parts

FIELDS = ("file", "files")
PATIENCE_SECONDS = 30.0  # a client that sends nothing for so long has gone
LONGEST_SECONDS = 3600.0  # the sweep spares what is younger than twice that
_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})  # would make a name look like another


@dataclass(frozen=True, slots=True)
class Limits:
    """What may be uploaded."""

    file_bytes: int
    files: int
    types: frozenset[str]


@dataclass(frozen=True, slots=True)
class Stored:
    """A content that is in the storage, and what was found of it."""

    key: str
    name: str
    content_type: str
    size: int
    sha256: str


def new_key() -> str:
    """Return what a content is stored under: it says nothing of the content."""
    return uuid4().hex


def clean_name(name: str) -> str:
    """Return a file's name as people may see it: no folders, nothing that hides, 255 characters."""
    last = name.replace("\\", "/").rpartition("/")[2]
    cleaned = "".join(c for c in unicodedata.normalize("NFC", last) if _is_seen(c)).strip()
    if not cleaned.strip("."):
        return "file"
    stem, dot, ending = cleaned.rpartition(".")
    if len(cleaned) > MAX_NAME and dot and len(ending) <= 16:
        return stem[: MAX_NAME - len(ending) - 1] + dot + ending
    return cleaned[:MAX_NAME]


def require_type(kind: str, limits: Limits) -> None:
    """Let a content pass whose type is accepted.

    Raises:
        FileTypeNotAllowed: it is not.
    """
    if kind not in limits.types:
        raise FileTypeNotAllowed(f"The content is {kind}, which is not accepted")


async def patiently(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Pass chunks on, but wait neither for one for ever, nor for all of them.

    Raises:
        RequestTimeout: none came for a while, or they took too long.
    """
    clock = asyncio.get_running_loop().time
    ends_at = clock() + LONGEST_SECONDS
    while True:
        try:
            async with asyncio.timeout_at(min(ends_at, clock() + PATIENCE_SECONDS)):
                chunk = await anext(chunks)
        except StopAsyncIteration:
            return
        except TimeoutError as error:
            raise RequestTimeout("The upload stopped, or took too long") from error
        yield chunk


async def receive_form(
    storage: Storage, chunks: AsyncIterable[bytes], media_type: str, limits: Limits
) -> list[Stored]:
    """Store every file of a multipart body; none stays where one is refused or cut off.

    Raises:
        FileTooLarge, FileTypeNotAllowed, Unprocessable: a file is refused.
        BadRequest, UnsupportedMediaType, PayloadTooLarge: the body is not what it should be.
    """
    stored: list[Stored] = []
    try:
        async with aclosing(_files(storage, chunks, media_type, limits)) as files:
            async for file in files:
                stored.append(file)  # noqa: PERF401 - what came before a failure must be known
    except BaseException:
        await discard(storage, stored)
        raise
    if not stored:
        raise Unprocessable.field("file", "Send at least one file in the field file or files")
    return stored


async def receive_announced(
    storage: Storage, name: str, chunks: AsyncIterable[bytes], announced: Announced
) -> None:
    """Store a content under a name if it is exactly what was announced.

    Raises:
        ChecksumMismatch: its size or its checksum is another.
    """
    async with storage.create(name) as sink:
        intake = _Intake(sink, announced.size)
        try:
            async for chunk in chunks:
                await intake.write(chunk)
        except FileTooLarge as error:
            raise ChecksumMismatch(f"More than the announced {announced.size} bytes") from error
        await intake.flush()
        require_announced(intake.size, intake.sha256, announced)


async def adopt(storage: Storage, source: str, file: Stored, limits: Limits) -> Stored:
    """Store anew, under the file's key, what a client has put into the storage by itself.

    Nobody can write there but us, so that what is looked at here is what stays. Not every S3
    holds an upload to the checksum that was announced.

    Raises:
        NotFound: there is nothing.
        ChecksumMismatch, FileTypeNotAllowed: it is not what was announced.
    """
    async with storage.read(source) as blocks, storage.create(file.key) as sink:
        intake = _Intake(sink, limits.file_bytes)
        async for block in blocks:
            await intake.write(block)
        await intake.flush()
        require_announced(intake.size, intake.sha256, Announced("", file.size, file.sha256))
        kind = content_type(bytes(intake.head), file.name)
        require_type(kind, limits)
    return replace(file, content_type=kind)


def require_announced(size: int, sha256: str, announced: Announced) -> None:
    """Let what arrived pass if it is what was announced.

    Raises:
        ChecksumMismatch: it is not.
    """
    if size != announced.size:
        raise ChecksumMismatch(f"{size} bytes arrived, {announced.size} were announced")
    if sha256 != announced.sha256:
        raise ChecksumMismatch("The SHA-256 of what arrived is not the announced one")


async def discard(storage: Storage, stored: list[Stored]) -> None:
    """Delete contents that no file came of; what cannot be deleted now is swept later."""
    with CancelScope(shield=True):
        if stored:
            await storage.delete([file.key for file in stored])


async def _files(
    storage: Storage, chunks: AsyncIterable[bytes], media_type: str, limits: Limits
) -> AsyncGenerator[Stored, None]:
    async with aclosing(read_parts(chunks, media_type, limits.files)) as events:
        async for event in events:
            if not isinstance(event, PartBegins):  # `_store` reads each part to its end
                raise BadRequest("The multipart body is malformed")
            yield await _store(storage, event, events, limits)


async def _store(
    storage: Storage, part: PartBegins, events: AsyncIterator[object], limits: Limits
) -> Stored:
    if part.field not in FIELDS or part.filename is None:
        raise Unprocessable.field(part.field[:100], "Send files in the field file or files")
    if "\x00" in part.filename:
        raise Unprocessable.field(part.field, "The name of a file has no NUL bytes")
    key, name = new_key(), clean_name(part.filename)
    async with storage.create(key) as sink:
        intake = _Intake(sink, limits.file_bytes)
        async for event in events:
            if isinstance(event, PartEnds):
                break
            if isinstance(event, bytes):
                await intake.write(event)
        await intake.flush()
        # Only now: too large a file is told so, whatever it is.
        kind = content_type(bytes(intake.head), name)
        require_type(kind, limits)
    return Stored(key, name, kind, intake.size, intake.sha256)


class _Intake:
    """One content on its way in, gathered into blocks."""

    def __init__(self, sink: Sink, max_bytes: int) -> None:
        self._sink = sink
        self._max_bytes = max_bytes
        self._digest = hashlib.sha256()
        self._gathered = bytearray()
        self.head = bytearray()
        self.size = 0

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    async def write(self, chunk: bytes) -> None:
        self.size += len(chunk)
        if self.size > self._max_bytes:
            raise FileTooLarge(f"A file may have at most {self._max_bytes} bytes")
        if len(self.head) < HEAD_BYTES:
            self.head += chunk[: HEAD_BYTES - len(self.head)]
        self._gathered += chunk
        if len(self._gathered) >= BLOCK_BYTES:
            await self.flush()

    async def flush(self) -> None:
        block, self._gathered = bytes(self._gathered), bytearray()
        if block:
            await to_thread.run_sync(self._digest.update, block)
            await self._sink.write(block)


def _is_seen(character: str) -> bool:
    return unicodedata.category(character) not in _UNSEEN and character != "\ufffd"


@asynccontextmanager
async def kept_if_added(storage: Storage, stored: list[Stored]) -> AsyncIterator[None]:
    """Delete contents whose files were refused inside the block.

    Only where that is certain: after a commit of which nobody knows whether it took place, the
    sweep finds out.
    """
    try:
        yield
    except Unavailable:
        raise
    except DomainError:
        await discard(storage, stored)
        raise
