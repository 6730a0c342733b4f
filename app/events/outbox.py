"""Records a change as an event, in the change's own transaction: both are kept or neither is."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from app.clock import now
from app.models.events import Audience, EventKind, events


@dataclass(frozen=True, slots=True)
class EventDraft:
    """An event before it has an id: what happened to which thing, and who may know."""

    kind: EventKind
    subject: str
    subject_id: int
    owner_id: int | None
    audience: Audience
    data: Mapping[str, Any]


async def record(connection: AsyncConnection, *drafts: EventDraft) -> None:
    """Write events beside the change that they tell of.

    Call it after the change's own statement in the same transaction: the transaction then has its
    number before the event takes an id, which is what lets the tail know that a gap is final.
    """
    moment = now()
    await connection.execute(
        insert(events),
        [
            {
                "kind": draft.kind,
                "subject": draft.subject,
                "subject_id": draft.subject_id,
                "owner_id": draft.owner_id,
                "audience": draft.audience,
                "data": draft.data,
                "created_at": moment,
            }
            for draft in drafts
        ],
    )
