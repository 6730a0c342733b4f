"""Many new items at once, each with its event: by COPY on PostgreSQL, by inserts on SQLite.

The ids are taken first, so that items and events are written without waiting for one another.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from pydantic_core import to_json
from sqlalchemy import insert, text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.events import outbox
from app.events.outbox import EventDraft
from app.models.items import items
from app.observability.tracing import TRACEPARENT, current_traceparent
from app.repositories.items import new_item

_EVENT_COLUMNS = (
    "kind",
    "subject",
    "subject_id",
    "owner_id",
    "audience",
    "data",
    "created_at",
    TRACEPARENT,
)
_HELD = "held_events"
_LONGEST = 600.0  # seconds that writing the events of a whole import may take
_NEXT_IDS = text("SELECT nextval('items_id_seq') FROM generate_series(1, :count)")
_LAST_ID = text("SELECT seq FROM sqlite_sequence WHERE name = 'items'")


@dataclass(frozen=True, slots=True)
class NewItem:
    """An item before it has an id: its columns, and the event that tells of it."""

    columns: dict[str, Any]
    event: EventDraft


def prepared(owner_id: int, values: Mapping[str, Any], moment: datetime) -> NewItem:
    """Return a new item of an owner, ready to be written; pure work, for a thread."""
    _, columns, event = new_item(owner_id, values, moment)
    return NewItem(columns, event)


class ItemBatches:
    """Writes batches of items in one transaction, by a connection that somebody else opened.

    An event's id is taken when the event is written, and whoever reads events waits for the
    transactions that have taken ids. One that goes on for minutes therefore holds its events back
    and writes them all at its end (`hold_events`, `release_events`).
    """

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection
        self._is_postgres = connection.dialect.name == "postgresql"
        self._events = "events"

    async def hold_events(self) -> None:
        """Keep the events aside until `release_events`; SQLite, with one writer, needs no aside."""
        if not self._is_postgres:
            return
        columns = ", ".join(_EVENT_COLUMNS)
        await self._connection.exec_driver_sql(
            f"CREATE TEMPORARY TABLE {_HELD} ON COMMIT DROP AS "  # noqa: S608 - constants
            f"SELECT {columns} FROM events WITH NO DATA"
        )
        self._events = _HELD

    async def release_events(self) -> None:
        """Write the events that were held back, in the order of their items."""
        if not self._is_postgres:
            return
        columns = ", ".join(_EVENT_COLUMNS)
        await self._connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
        driver = await self._driver()
        await driver.execute(
            f"INSERT INTO events ({columns}) SELECT {columns} FROM {_HELD} "  # noqa: S608
            "ORDER BY subject_id",
            timeout=_LONGEST,
        )

    async def write(self, batch: Sequence[NewItem]) -> None:
        """Add items and the record of each."""
        if not batch:
            return
        ids = await self._ids(len(batch))
        if self._is_postgres:
            await self._copy(batch, ids)
            return
        rows = [{"id": i, **new.columns} for i, new in zip(ids, batch, strict=True)]
        await self._connection.execute(insert(items), rows)
        drafts = [replace(new.event, subject_id=i) for i, new in zip(ids, batch, strict=True)]
        await outbox.record(self._connection, *drafts)

    async def _ids(self, count: int) -> Sequence[int]:
        if self._is_postgres:
            found = await self._connection.execute(_NEXT_IDS, {"count": count})
            return sorted(found.scalars())
        last = (await self._connection.execute(_LAST_ID)).scalar() or 0
        return range(last + 1, last + 1 + count)

    async def _copy(self, batch: Sequence[NewItem], ids: Sequence[int]) -> None:
        driver, traceparent = await self._driver(), current_traceparent()
        columns = list(batch[0].columns)
        await driver.copy_records_to_table(
            "items",
            columns=["id", *columns],
            records=[
                (i, *_as_driver(new.columns).values()) for i, new in zip(ids, batch, strict=True)
            ],
        )
        await driver.copy_records_to_table(
            self._events,
            columns=_EVENT_COLUMNS,
            records=[_event_row(i, new, traceparent) for i, new in zip(ids, batch, strict=True)],
        )

    async def _driver(self) -> Any:
        return (await self._connection.get_raw_connection()).driver_connection


def _as_driver(columns: Mapping[str, Any]) -> dict[str, Any]:
    return {**columns, "metadata": _json(columns["metadata"])}


def _event_row(item_id: int, new: NewItem, traceparent: str | None) -> tuple[Any, ...]:
    event = new.event
    return (
        event.kind,
        event.subject,
        item_id,
        event.owner_id,
        event.audience,
        _json(event.data),
        new.columns["created_at"],
        traceparent,
    )


def _json(value: Mapping[str, Any]) -> str:
    return to_json(value).decode()  # the driver's codec takes JSON as text
