"""All SQL of imports: what was sent, how far it is, and which lines were refused."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any, NamedTuple

from sqlalchemy import func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.models.imports import Import, import_rejections, imports
from app.models.jobs import JobStatus, jobs

_UNFINISHED = (JobStatus.QUEUED, JobStatus.RUNNING)


class Settled(NamedTuple):
    """What a stretch of the file came to, and where the next one begins."""

    position: int
    next_line: int
    accepted: int
    rejected: int


class ImportRepository:
    """Imports, by a connection that somebody else opened."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def add(self, values: Mapping[str, Any]) -> None:
        """Add an import to its job."""
        await self._connection.execute(insert(imports).values(**values))

    async def get(self, job_id: int) -> Import | None:
        """Return an import, or None."""
        statement = select(imports).where(imports.c.job_id == job_id)
        row = (await self._connection.execute(statement)).first()
        return Import._make(row) if row else None

    async def unfinished_of(self, owner_id: int) -> int:
        """Return how many imports of an account wait or run."""
        statement = (
            select(func.count())
            .select_from(imports.join(jobs))
            .where(imports.c.owner_id == owner_id, jobs.c.status.in_(_UNFINISHED))
        )
        count: int = (await self._connection.execute(statement)).scalar_one()
        return count

    async def give_up_contents(self, owner_id: int) -> list[str]:
        """Forget the contents of an account's imports that do not run any more; return the keys."""
        over = (
            select(imports.c.job_id, imports.c.key)
            .join(jobs)
            .where(
                imports.c.owner_id == owner_id,
                imports.c.key.is_not(None),
                jobs.c.status.not_in(_UNFINISHED),
            )
        )
        found = (await self._connection.execute(over)).all()
        if found:
            ids = [row.job_id for row in found]
            await self._connection.execute(
                update(imports).where(imports.c.job_id.in_(ids)).values(key=None)
            )
        return [row.key for row in found]

    async def known(self, keys: Collection[str]) -> set[str]:
        """Return those of the keys whose content an import may still need."""
        statement = select(imports.c.key).where(imports.c.key.in_(keys))
        return set((await self._connection.execute(statement)).scalars())

    async def name_columns(self, job_id: int, columns: list[str]) -> None:
        """Note what the header of the file names."""
        statement = update(imports).where(imports.c.job_id == job_id).values(columns=columns)
        await self._connection.execute(statement)

    async def advance(self, job_id: int, was_at: int, settled: Settled) -> bool:
        """Add a stretch that begins where the import is; False where somebody else was faster."""
        statement = (
            update(imports)
            .where(
                imports.c.job_id == job_id,
                imports.c.position == was_at,
                imports.c.is_finished.is_(False),
            )
            .values(
                position=settled.position,
                next_line=settled.next_line,
                accepted=imports.c.accepted + settled.accepted,
                rejected=imports.c.rejected + settled.rejected,
            )
        )
        return (await self._connection.execute(statement)).rowcount == 1

    async def finish(self, job_id: int) -> bool:
        """Note that all is done, and that the content is not needed; False if it already was."""
        statement = (
            update(imports)
            .where(imports.c.job_id == job_id, imports.c.is_finished.is_(False))
            .values(is_finished=True, key=None)
        )
        return (await self._connection.execute(statement)).rowcount == 1

    async def reject(self, job_id: int, lines: Iterable[tuple[int, list[dict[str, str]]]]) -> None:
        """Note which lines were refused, and why."""
        rows = [{"job_id": job_id, "line": line, "errors": errors} for line, errors in lines]
        if rows:
            await self._connection.execute(insert(import_rejections), rows)

    async def rejections(self, job_id: int, *, after: int, limit: int) -> list[tuple[int, Any]]:
        """Return the refused lines behind a line, in the file's order, with their reasons."""
        columns = import_rejections.c
        statement = (
            select(columns.line, columns.errors)
            .where(columns.job_id == job_id, columns.line > after)
            .order_by(columns.line)
            .limit(limit)
        )
        return [(line, errors) for line, errors in await self._connection.execute(statement)]
