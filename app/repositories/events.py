"""All SQL of the outbox: reading it in order, and forgetting what is old."""

from collections.abc import Sequence
from datetime import datetime
from functools import cache

from sqlalchemy import Integer, Select, and_, bindparam, case, delete, func, or_, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.adapters.driver import fetch
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


# Whoever inserts an event locks the table so before the event takes its id, and until all of the
# transaction is visible or undone. Snapshots tell less: their xmax is only behind what has ended,
# and their xmin waits for transactions of strangers, of other databases too.
_WRITERS = text(
    "SELECT virtualtransaction FROM pg_locks "
    "WHERE locktype = 'relation' AND mode = 'RowExclusiveLock' AND granted "
    "AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) "
    "AND relation = 'events'::regclass"
)


class EventRepository:
    """Events, by a connection that somebody else opened."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection
        self._is_postgres = connection.dialect.name == "postgresql"

    async def after(self, position: int, limit: int) -> list[Event]:
        """Return the visible events beyond an id, in the order of their ids."""
        rows = await fetch(self._connection, _after(), {"position": position, "limit": limit})
        return [Event._make(row) for row in rows]

    async def between(
        self,
        since: datetime,
        until: datetime,
        *,
        kinds: Sequence[str],
        of_owner: int | None,
        limit: int,
    ) -> list[Event]:
        """Return the visible events of a time that may be for an account; no kinds mean every kind.

        With `of_owner` only public ones and their own.
        """
        statement = _readable().where(
            events.c.created_at >= since,
            events.c.created_at < until,
            events.c.audience != Audience.INTERNAL.value,
        )
        if kinds:
            statement = statement.where(events.c.kind.in_(kinds))
        if of_owner is not None:
            is_public = events.c.audience == Audience.PUBLIC.value
            statement = statement.where(or_(is_public, events.c.owner_id == of_owner))
        statement = statement.order_by(events.c.id).limit(limit)
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

    async def writers(self) -> frozenset[str]:
        """Return the transactions that may have taken an id; none on SQLite, with one writer."""
        if not self._is_postgres:
            return frozenset()
        return frozenset(row[0] for row in await fetch(self._connection, _WRITERS, {}))

    async def delete_before(self, moment: datetime) -> int:
        """Forget events older than a moment, but for the newest; return how many.

        The newest says how far it all had come, also to a process that starts afterwards.
        """
        newest = select(func.max(events.c.id)).scalar_subquery()
        statement = delete(events).where(events.c.created_at < moment, events.c.id < newest)
        return (await self._connection.execute(statement)).rowcount


@cache
def _after() -> Select[tuple[object, ...]]:
    return (
        _readable()
        .where(events.c.id > bindparam("position"))
        .order_by(events.c.id)
        .limit(bindparam("limit", type_=Integer))
    )


def _readable() -> Select[tuple[object, ...]]:
    columns = [_AUDIENCE if column.name == "audience" else column for column in events.c]
    joined = events.outerjoin(
        items, and_(events.c.subject == "item", items.c.id == events.c.subject_id)
    )
    return select(*columns).select_from(joined)
