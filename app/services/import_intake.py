"""Takes in what is to be imported, and tells afterwards which lines were refused."""

import hashlib
from collections.abc import AsyncGenerator, AsyncIterable
from dataclasses import dataclass
from typing import Any

from pydantic_core import to_json

from app.adapters.database import Database
from app.adapters.storage import BLOCK_BYTES, Storage
from app.errors import NotFound, TooManyImports, Unprocessable
from app.models.jobs import Job
from app.repositories.imports import ImportRepository
from app.repositories.jobs import JobRepository
from app.security.principal import Principal
from app.services import jobs
from app.services.item_export import TextFormat
from app.services.uploads import Stored, new_key

MAX_UNFINISHED = 5  # imports of one account that wait or run
_RETRY_AFTER = 30  # seconds
_PAGE = 1000


@dataclass(frozen=True, slots=True)
class Wanted:
    """How a file is to be imported."""

    text_format: TextFormat
    is_v2: bool
    is_atomic: bool
    is_dry_run: bool


async def require_room(db: Database, owner: Principal) -> None:
    """Let an account import that has not too much waiting.

    Raises:
        TooManyImports: it has.
    """
    async with db.read() as connection:
        await _require_room(ImportRepository(connection), owner)


async def receive(storage: Storage, chunks: AsyncIterable[bytes], media_type: str) -> Stored:
    """Bring what arrives into the storage.

    Raises:
        Unprocessable: nothing arrived.
    """
    key, size, digest, gathered = new_key(), 0, hashlib.sha256(), bytearray()
    async with storage.create(key) as sink:
        async for chunk in chunks:
            gathered += chunk
            size += len(chunk)
            digest.update(chunk)  # at most 64 KiB: 40 µs
            if len(gathered) >= BLOCK_BYTES:
                await sink.write(bytes(gathered))
                gathered.clear()
        if size == 0:
            raise Unprocessable.field("body", "The body is empty", "missing")
        if gathered:
            await sink.write(bytes(gathered))
    return Stored(key, "import", media_type, size, digest.hexdigest())


async def start(
    db: Database, owner: Principal, content: Stored, wanted: Wanted
) -> tuple[Job, list[str]]:
    """Queue the import of a content; return its job, and which contents nobody needs any more.

    Those are of the account's imports that failed or were cancelled: until now they could have
    been retried.

    Raises:
        TooManyImports: the account has too many that wait or run.
    """
    async with db.transaction() as connection:
        imports, queue = ImportRepository(connection), JobRepository(connection)
        await _require_room(imports, owner)
        over = await imports.give_up_contents(owner.user_id)
        job_id = await queue.enqueue("items.import", owner_id=owner.user_id)
        await imports.add(
            {
                "job_id": job_id,
                "owner_id": owner.user_id,
                "key": content.key,
                "size": content.size,
                "format": wanted.text_format.value,
                "is_v2": wanted.is_v2,
                "is_atomic": wanted.is_atomic,
                "is_dry_run": wanted.is_dry_run,
            }
        )
        job = await queue.get(job_id)
    if job is None:
        raise NotFound
    return job, over


async def require_import(db: Database, job_id: int, caller: Principal) -> None:
    """Let somebody see what became of an import who may see its job.

    Raises:
        NotFound: there is no such job that the caller may see, or it is no import.
    """
    await jobs.read(db, job_id, caller)
    async with db.read() as connection:
        if await ImportRepository(connection).get(job_id) is None:
            raise NotFound("The job is no import")


async def rejected_lines(db: Database, job_id: int) -> AsyncGenerator[bytes, None]:
    """Yield the refused lines of an import as NDJSON, a page at a time; at least one piece."""
    after, page = 0, None
    while page is None or len(page) == _PAGE:
        async with db.read() as connection:
            page = await ImportRepository(connection).rejections(job_id, after=after, limit=_PAGE)
        after = page[-1][0] if page else after
        yield b"".join([_rejection(line, errors) for line, errors in page])


async def _require_room(imports: ImportRepository, owner: Principal) -> None:
    if await imports.unfinished_of(owner.user_id) >= MAX_UNFINISHED:
        raise TooManyImports(retry_after=_RETRY_AFTER)


def _rejection(line: int, errors: Any) -> bytes:
    return to_json({"line": line, "errors": errors}) + b"\n"
