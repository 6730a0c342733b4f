"""Records a change as an event, in the change's own transaction: both are kept or neither is."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Select, bindparam, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.dml import ReturningInsert, ReturningUpdate

from app.clock import now
from app.models.events import Audience, events
from app.observability.tracing import TRACEPARENT, current_traceparent


@dataclass(frozen=True, slots=True)
class EventDraft:
    """An event before it has an id: what happened to which thing, and who may know."""

    kind: str
    subject: str
    subject_id: int
    owner_id: int | None
    audience: Audience
    data: Mapping[str, Any]


async def record(connection: AsyncConnection, *drafts: EventDraft) -> None:
    """Write events beside the change that they tell of, in its transaction."""
    shared = {"created_at": now(), TRACEPARENT: current_traceparent()}
    rows = [{**asdict(draft), **shared} for draft in drafts]
    await connection.execute(insert(events), rows)


def recorded(change: ReturningInsert[tuple[int]] | ReturningUpdate[tuple[int]]) -> Select[Any]:
    """Return a change and the record of its event as one statement, for PostgreSQL.

    The change returns the subject's id; the event is written only if it returns one, and after it,
    as its id comes from there. The result is that id; `parameters` gives the event's own values.
    """
    changed = change.cte("changed")
    names = ("kind", "subject", "owner_id", "audience", "data", "created_at", TRACEPARENT)
    values = [bindparam(f"event_{name}", type_=events.c[name].type) for name in names]
    event = (
        insert(events)
        .from_select([*names, "subject_id"], select(*values, changed.c.id))
        .cte("recorded")
    )
    return select(changed.c.id).add_cte(event)


def parameters(draft: EventDraft) -> dict[str, Any]:
    """Return the values of an event for `recorded`."""
    return {
        "event_kind": draft.kind,
        "event_subject": draft.subject,
        "event_owner_id": draft.owner_id,
        "event_audience": draft.audience,
        "event_data": draft.data,
        "event_created_at": now(),
        "event_traceparent": current_traceparent(),
    }
