"""Work that outlives a request: the table is the truth, whoever runs it."""

from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple

from sqlalchemy import (
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    String,
    Table,
    Text,
    false,
    text,
)

from app.models.base import Id, JsonObject, UtcDateTime, metadata


class JobStatus(StrEnum):
    """Where a job stands. `failed` for good is what others call a dead letter."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


_UNFINISHED = text("status IN ('queued', 'running')")
_QUEUED = text("status = 'queued'")
_RUNNING = text("status = 'running'")

jobs = Table(
    "jobs",
    metadata,
    Column("id", Id, primary_key=True),
    Column("kind", String(60), nullable=False),
    Column("arguments", JsonObject, nullable=False),
    Column("owner_id", Id, ForeignKey("users.id", ondelete="SET NULL")),
    Column("key", String(200)),
    Column("status", String(16), nullable=False),
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    Column("forgiven", Integer, nullable=False, server_default=text("0")),
    Column("progress", Float, nullable=False, server_default=text("0")),
    Column("detail", JsonObject),
    Column("result", JsonObject),
    Column("error", Text),
    Column("is_cancelling", Boolean, nullable=False, server_default=false()),
    Column("run_after", UtcDateTime, nullable=False),
    Column("leased_until", UtcDateTime),
    Column("created_at", UtcDateTime, nullable=False),
    Column("started_at", UtcDateTime),
    Column("finished_at", UtcDateTime),
    # One unfinished job of a key.
    Index(
        "uq_jobs_key", "key", unique=True, postgresql_where=_UNFINISHED, sqlite_where=_UNFINISHED
    ),
    Index("ix_jobs_run_after", "run_after", postgresql_where=_QUEUED, sqlite_where=_QUEUED),
    Index("ix_jobs_leased_until", "leased_until", postgresql_where=_RUNNING, sqlite_where=_RUNNING),
    Index("ix_jobs_owner_id_id", "owner_id", "id"),
    Index("ix_jobs_status_id", "status", "id"),
    Index("ix_jobs_kind_id", "kind", "id"),
    Index("ix_jobs_finished_at", "finished_at"),
    sqlite_autoincrement=True,
)


class Job(NamedTuple):
    """A row of `jobs`. `attempts` counts every start, also those `forgiven`: cut off by a stop."""

    id: int
    kind: str
    arguments: dict[str, Any]
    owner_id: int | None
    key: str | None
    status: str
    attempts: int
    forgiven: int
    progress: float
    detail: dict[str, Any] | None
    result: dict[str, Any] | None
    error: str | None
    is_cancelling: bool
    run_after: datetime
    leased_until: datetime | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
