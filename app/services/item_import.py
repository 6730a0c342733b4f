"""Imports items from a file: checks each line by the rules of POST, writes them in batches.

How far it is stands in `imports`, and moves on in the very transaction that writes a batch: a crash
between any two lines neither loses nor doubles one. An atomic import is checked whole, and then
written in one transaction.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from app.adapters.database import Connection, Database
from app.adapters.storage import Storage
from app.clock import now
from app.concurrency.ahead import ahead
from app.errors import NotFound
from app.models.imports import Import
from app.repositories.imports import ImportRepository, Settled
from app.repositories.item_batches import ItemBatches, NewItem, prepared
from app.repositories.users import UserRepository
from app.schemas.items import ItemIn
from app.services.import_lines import Line, Lines, Records
from app.services.import_parsing import BadHeader, Reader, Rejection
from app.services.item_export import TextFormat
from app.services.items import stored_values

MAX_KEPT_REJECTIONS = 100_000  # the lines refused beyond are counted only

Report = Callable[[float, dict[str, Any]], Awaitable[None]]


class ImportStopped(Exception):
    """The import cannot go on, and would not another time either."""


class Overtaken(Exception):
    """Somebody else is at work on the same import."""


@dataclass(frozen=True, slots=True)
class Batch:
    """A stretch of the file: its items, its refused lines, and where the next one begins."""

    new: list[NewItem]
    rejections: list[Rejection]
    settled: Settled
    columns: list[str] | None  # what the header names, where this stretch has it


@dataclass(slots=True)
class Source:
    """The file of an import, from where it is settled on."""

    imported: Import
    max_depth: int
    only_checked: bool  # its items are not to be written
    at: Settled = field(init=False)
    _lines: Lines = field(init=False)
    _records: Records = field(init=False)
    _columns: Sequence[str] | None = field(init=False)
    _reader: Reader = field(init=False)

    def __post_init__(self) -> None:
        start = self.imported
        self.at = Settled(start.position, start.next_line, 0, 0)
        self._lines = Lines(number=start.next_line, offset=start.position)
        self._records = Records()
        self._columns = start.columns
        is_csv = start.format == TextFormat.CSV
        self._reader = Reader(is_csv=is_csv, is_v2=start.is_v2, max_depth=self.max_depth)

    def take(self, block: bytes) -> Batch | None:
        """Return what a block completes; an empty block is the end. Work for a thread.

        Raises:
            ImportStopped: the header makes no items.
        """
        lines = self._lines.feed(block) if block else self._lines.finish()
        if self._reader.is_csv:
            lines = self._records.join(lines, is_last=not block)
        if not lines:
            return None
        last = lines[-1]
        columns = self._header(lines)
        items, rejections = self._reader.read(lines, self._columns)
        self.at = Settled(last.end, last.last + 1, len(items), len(rejections))
        return Batch(self._prepared(items), rejections, self.at, columns)

    def _header(self, lines: list[Line]) -> list[str] | None:
        """Take the header off the lines, where they begin with it."""
        if not self._reader.is_csv or self._columns is not None:
            return None
        while lines and not lines[0].defect and not lines[0].content.strip():
            del lines[0]
        if not lines:
            return None
        try:
            columns = self._reader.header(lines.pop(0))
        except BadHeader as error:
            raise ImportStopped(str(error)) from error
        self._columns = columns
        return columns

    def _prepared(self, items: list[ItemIn]) -> list[NewItem]:
        if self.only_checked:
            return []
        moment = now()
        return [prepared(self.imported.owner_id, stored_values(item), moment) for item in items]


@dataclass(frozen=True, slots=True)
class Importer:
    """Runs one import to its end, from wherever it is."""

    db: Database
    storage: Storage
    max_depth: int

    async def run(self, job_id: int, report: Report) -> dict[str, Any]:
        """Import what is not imported yet; return what came of it all.

        Raises:
            ImportStopped: it cannot go on, with a sentence that says why.
            Overtaken: somebody else runs it.
        """
        imported = await self._read(job_id)
        if not imported.is_finished:
            if imported.key is None:
                raise ImportStopped("The content is not kept any more; send it again")
            imported = await self._work(imported, report)
            if imported.key is not None:
                await self.storage.delete([imported.key])
        if imported.is_atomic and imported.rejected and not imported.is_dry_run:
            raise ImportStopped(
                f"{imported.rejected} of {imported.accepted + imported.rejected} lines were "
                "refused, so nothing was imported"
            )
        return _result(imported)

    async def _work(self, imported: Import, report: Report) -> Import:
        in_two_steps = imported.is_atomic and not imported.is_dry_run
        only_checked = in_two_steps or imported.is_dry_run
        async with aclosing(ahead(self._batches(imported, only_checked=only_checked))) as batches:
            async for batch in batches:
                imported = await self._settle(imported, batch)
                share = imported.position / imported.size / (2 if in_two_steps else 1)
                await report(share, _counts(imported))
        if in_two_steps and not imported.rejected:
            await self._write_whole(imported, report)
        else:
            await self._finish(imported)
        return imported

    async def _settle(self, imported: Import, batch: Batch) -> Import:
        """Write a batch and move the import on, both or neither."""
        async with self.db.transaction() as connection:
            repository = ImportRepository(connection)
            if not await repository.advance(imported.job_id, imported.position, batch.settled):
                raise Overtaken
            if batch.columns is not None:
                await repository.name_columns(imported.job_id, batch.columns)
            room = max(0, MAX_KEPT_REJECTIONS - imported.rejected)
            refused = [(each.line, each.errors) for each in batch.rejections[:room]]
            await repository.reject(imported.job_id, refused)
            await _require_owner(connection, imported.owner_id)
            await ItemBatches(connection).write(batch.new)
        return imported._replace(
            position=batch.settled.position,
            next_line=batch.settled.next_line,
            accepted=imported.accepted + batch.settled.accepted,
            rejected=imported.rejected + batch.settled.rejected,
            columns=imported.columns if batch.columns is None else batch.columns,
        )

    async def _write_whole(self, imported: Import, report: Report) -> None:
        """Write every item of a file without a refused line, in one transaction."""
        start = imported._replace(position=0, next_line=1, columns=None)
        async with _reporting(report) as tell, self.db.long_transaction() as connection:
            if not await ImportRepository(connection).finish(imported.job_id):
                raise Overtaken
            await _require_owner(connection, imported.owner_id)
            writer = ItemBatches(connection)
            await writer.hold_events()
            async with aclosing(ahead(self._batches(start, only_checked=False))) as batches:
                async for batch in batches:
                    await writer.write(batch.new)
                    if not self.db.is_postgres:  # its one writer is this transaction
                        continue
                    share = 0.5 + batch.settled.position / imported.size / 2
                    tell(min(share, 0.99), _counts(imported))
            await writer.release_events()

    async def _finish(self, imported: Import) -> None:
        async with self.db.transaction() as connection:
            if not await ImportRepository(connection).finish(imported.job_id):
                raise Overtaken

    async def _batches(
        self, imported: Import, *, only_checked: bool
    ) -> AsyncGenerator[Batch, None]:
        """Yield the file in stretches, from where it is settled on."""
        source = Source(imported, self.max_depth, only_checked=only_checked)
        if imported.position >= imported.size:
            return
        try:
            async with self.storage.read(imported.key or "", imported.position) as blocks:
                async for block in blocks:
                    batch = await asyncio.to_thread(source.take, block)
                    if batch:
                        yield batch
        except NotFound as error:
            raise ImportStopped("The content cannot be found; send it again") from error
        batch = await asyncio.to_thread(source.take, b"")
        if batch:
            yield batch

    async def _read(self, job_id: int) -> Import:
        async with self.db.read() as connection:
            imported = await ImportRepository(connection).get(job_id)
        if imported is None:
            raise ImportStopped("There is no such import")
        return imported


@asynccontextmanager
async def _reporting(report: Report) -> AsyncIterator[Callable[[float, dict[str, Any]], None]]:
    """Lend a report that nobody waits for; what comes while one is under way is left out.

    A report takes a connection, and whoever waits for one while holding another may wait for ever.
    """
    under_way: asyncio.Future[None] | None = None

    def tell(share: float, counts: dict[str, Any]) -> None:
        nonlocal under_way
        if under_way is not None and not under_way.done():
            return
        if under_way is not None:
            under_way.result()  # raises what ended it
        under_way = asyncio.ensure_future(report(share, counts))

    try:
        yield tell
    finally:
        if under_way is not None:
            await asyncio.gather(under_way, return_exceptions=True)


async def _require_owner(connection: Connection, owner_id: int) -> None:
    user = await UserRepository(connection).get(owner_id)
    if user is None or not user.is_active:
        raise ImportStopped("The account that sent it is closed")


def _counts(imported: Import) -> dict[str, Any]:
    return {
        "lines": imported.accepted + imported.rejected,
        "accepted": imported.accepted,
        "rejected": imported.rejected,
    }


def _result(imported: Import) -> dict[str, Any]:
    link = f"/api/v1/jobs/{imported.job_id}/rejected" if imported.rejected else None
    return {**_counts(imported), "dry_run": imported.is_dry_run, "rejected_url": link}
