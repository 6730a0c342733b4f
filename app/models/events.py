"""The outbox: every committed change, in order, for whoever listens."""

from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple

from sqlalchemy import Column, Index, String, Table

from app.models.base import Id, JsonObject, UtcDateTime, metadata


class EventKind(StrEnum):
    """What can happen. Kinds of `INTERNAL` audience are for the processes, never for clients."""

    ITEM_CREATED = "item.created"
    ITEM_UPDATED = "item.updated"
    ITEM_DELETED = "item.deleted"
    ITEM_RESTORED = "item.restored"
    FILE_ADDED = "file.added"
    FILE_REMOVED = "file.removed"
    USER_UPDATED = "user.updated"
    JOB_PROGRESS = "job.progress"
    JOB_FINISHED = "job.finished"
    SESSION_ENDED = "session.ended"
    WEBHOOK_DISABLED = "webhook.disabled"
    API_KEY_CHANGED = "api_key.changed"


INTERNAL_KINDS = frozenset({EventKind.SESSION_ENDED, EventKind.API_KEY_CHANGED})


class Audience(StrEnum):
    """Who may receive an event: anyone, its owner and admins, or only our own processes."""

    PUBLIC = "public"
    OWNER = "owner"
    INTERNAL = "internal"


events = Table(
    "events",
    metadata,
    Column("id", Id, primary_key=True),
    Column("kind", String(40), nullable=False),
    Column("subject", String(60), nullable=False),
    Column("subject_id", Id, nullable=False),
    Column("owner_id", Id),
    Column("audience", String(16), nullable=False),
    Column("data", JsonObject, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("traceparent", String(55)),
    Index("ix_events_created_at", "created_at"),
    sqlite_autoincrement=True,  # an id is never used twice, or `since` would skip its successor
)


class Event(NamedTuple):
    """A row of `events`; `subject` is its name such as `item`, `owner_id` whose thing it is.

    `traceparent` is what it was written in, where that was traced.
    """

    id: int
    kind: str
    subject: str
    subject_id: int
    owner_id: int | None
    audience: str
    data: dict[str, Any]
    created_at: datetime
    traceparent: str | None = None
