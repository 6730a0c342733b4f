"""All SQL of the files of items."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.clock import now
from app.events import outbox
from app.events.outbox import EventDraft
from app.models.events import Audience, EventKind
from app.models.files import File, files
from app.models.items import Visibility, items
from app.models.users import users
from app.schemas.files import FileOut

_IS_THERE = files.c.expires_at.is_(None)


class Home(NamedTuple):
    """The live item that a file belongs to, as far as its files follow it."""

    owner_id: int
    visibility: str


class Usage(NamedTuple):
    """What an owner's files take, and how many of them the item in question has."""

    size: int
    number: int


class FileRepository:
    """Files, by a connection that somebody else opened."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def get(self, file_id: int) -> File | None:
        """Return a file that is there, and its item too, or None."""
        return await self._one(files.c.id == file_id, _IS_THERE)

    async def awaited(self, file_id: int, item_id: int | None = None) -> File | None:
        """Return a file that is announced, of an item if one is named, or None."""
        of_item = [files.c.item_id == item_id] if item_id is not None else []
        return await self._one(files.c.id == file_id, files.c.expires_at > now(), *of_item)

    async def of_item(self, item_id: int) -> list[File]:
        """Return the files of an item, the oldest first."""
        statement = select(files).where(files.c.item_id == item_id, _IS_THERE).order_by(files.c.id)
        return [File._make(row) for row in await self._connection.execute(statement)]

    async def lock_home(self, item_id: int, owner_id: int) -> Home | None:
        """Hold an owner's files and their live item still until the transaction ends.

        Whatever is added meanwhile waits: so that a quota is exact, and an event is told to
        whoever may see the item at that very moment.
        """
        owner = select(users.c.id).where(users.c.id == owner_id).with_for_update(key_share=True)
        await self._connection.execute(owner)
        item = (
            select(items.c.owner_id, items.c.visibility)
            .where(items.c.id == item_id, items.c.deleted_at.is_(None))
            .with_for_update(read=True)
        )
        row = (await self._connection.execute(item)).first()
        return Home._make(row) if row else None

    async def usage(self, owner_id: int, item_id: int) -> Usage:
        """Return what an owner's files take, announced ones included, and an item's number."""
        statement = select(
            func.coalesce(func.sum(files.c.size), 0),
            func.count().filter(files.c.item_id == item_id),
        ).where(files.c.owner_id == owner_id)
        taken, count = (await self._connection.execute(statement)).one()
        return Usage(int(taken), count)

    async def add(self, rows: Sequence[dict[str, Any]]) -> list[File]:
        """Write files as they are given."""
        added = []
        for row in rows:
            written = await self._connection.execute(insert(files).values(row).returning(*files.c))
            added.append(File._make(written.one()))
        return added

    async def confirm(self, file_id: int, key: str, content_type: str) -> File | None:
        """Make an announced file one that is there; None where it is not awaited any more."""
        moment = now()
        statement = (
            update(files)
            .where(files.c.id == file_id, files.c.expires_at > moment)
            .values(expires_at=None, created_at=moment, key=key, content_type=content_type)
            .returning(*files.c)
        )
        row = (await self._connection.execute(statement)).first()
        return File._make(row) if row else None

    async def remove(self, file_id: int, *, awaited: bool = False) -> File | None:
        """Delete a file that is there, or one that is awaited; None where there is none."""
        state = files.c.expires_at.is_not(None) if awaited else _IS_THERE
        statement = delete(files).where(files.c.id == file_id, state).returning(*files.c)
        row = (await self._connection.execute(statement)).first()
        return File._make(row) if row else None

    async def set_thumbnail(self, file_id: int) -> bool:
        """Note that a file has a thumbnail; False where the file is gone."""
        statement = update(files).where(files.c.id == file_id).values(has_thumbnail=True)
        return (await self._connection.execute(statement)).rowcount == 1

    async def known(self, keys: Collection[str]) -> set[str]:
        """Return which of these keys belong to a file, there or announced."""
        statement = select(files.c.key).where(files.c.key.in_(keys))
        return set((await self._connection.execute(statement)).scalars())

    async def delete_expired(self, moment: datetime) -> int:
        """Forget what was announced and never confirmed; return how many files that were."""
        statement = delete(files).where(files.c.expires_at <= moment)
        return (await self._connection.execute(statement)).rowcount

    async def record(self, kind: EventKind, home: Home, *changed: File) -> None:
        """Record what happened to files, for whoever may see their item."""
        is_public = home.visibility == Visibility.PUBLIC.value
        drafts = [
            EventDraft(
                kind=kind,
                subject="item",
                subject_id=file.item_id,
                owner_id=home.owner_id,
                audience=Audience.PUBLIC if is_public else Audience.OWNER,
                data=FileOut.model_validate(file).model_dump(mode="json"),
            )
            for file in changed
        ]
        await outbox.record(self._connection, *drafts)

    async def _one(self, *conditions: Any) -> File | None:
        statement = (
            select(files)
            .join(items, items.c.id == files.c.item_id)
            .where(items.c.deleted_at.is_(None), *conditions)
        )
        row = (await self._connection.execute(statement)).first()
        return File._make(row) if row else None
