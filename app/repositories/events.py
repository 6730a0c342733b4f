"""All SQL of the outbox: reading it in order, and forgetting what is old."""

from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Select, and_, case, delete, func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.models.events import Audience, Event, events
from app.models.items import Visibility, items

# A public event of an item that has turned private since must not be shown any more.
_AUDIENCE = case(
    (
        and_(
            events.c.audience == Audience.PUBLIC.value,
            events.c.subject == "item",
            func.coalesce(items.c.visibility, Visibility.PRIVATE.value) != Visibility.PUBLIC.value,
        ),
        Audience.OWNER.value,
    ),
    else_=events.c.audience,
).label("audience")


class Horizon(NamedTuple):
    """Which transactions are under way: all below `oldest` have ended, none is beyond `next`."""

    oldest: int
    next: int


class EventRepository:
    """Events, by a connection that somebody else opened."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection
        self._is_postgres = connection.dialect.name == "postgresql"

    async def after(self, position: int, limit: int) -> list[Event]:
        """Return the visible events beyond an id, in the order of their ids."""
        statement = _readable().where(events.c.id > position).order_by(events.c.id).limit(limit)
        return [Event._make(row) for row in await self._connection.execute(statement)]

    async def head(self) -> int:
        """Return the highest visible id, 0 where there is none."""
        statement = select(func.coalesce(func.max(events.c.id), 0))
        head: int = (await self._connection.execute(statement)).scalar_one()
        return head

    async def oldest(self) -> int | None:
        """Return the lowest id that is still kept."""
        statement = select(func.min(events.c.id))
        lowest: int | None = (await self._connection.execute(statement)).scalar_one_or_none()
        return lowest

    async def horizon(self) -> Horizon | None:
        """Return which transactions are under way; None on SQLite, which has one writer."""
        if not self._is_postgres:
            return None
        statement = text(
            "SELECT pg_snapshot_xmin(s)::text::bigint, pg_snapshot_xmax(s)::text::bigint "
            "FROM pg_current_snapshot() AS s"
        )
        return Horizon(*(await self._connection.execute(statement)).one())

    async def delete_before(self, moment: datetime) -> int:
        """Forget events older than a moment; return how many."""
        statement = delete(events).where(events.c.created_at < moment)
        return (await self._connection.execute(statement)).rowcount


def _readable() -> Select[tuple[object, ...]]:
    columns = [_AUDIENCE if column.name == "audience" else column for column in events.c]
    joined = events.outerjoin(
        items, and_(events.c.subject == "item", items.c.id == events.c.subject_id)
    )
    return select(*columns).select_from(joined)
