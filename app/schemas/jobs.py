"""Jobs on the wire."""

from datetime import datetime
from typing import Any

from pydantic import Field

from app.models.jobs import JobStatus
from app.schemas.base import Output


class JobOut(Output):
    """Work that goes on after its request was answered."""

    id: int = Field(examples=[42])
    kind: str = Field(examples=["items.import"])
    status: JobStatus
    progress: float = Field(examples=[0.25], description="From 0 to 1.")
    detail: dict[str, Any] | None = Field(description="What the progress consists of.")
    result: dict[str, Any] | None = Field(description="What came of it, once it succeeded.")
    error: str | None = Field(description="Why the last attempt failed.")
    attempts: int = Field(examples=[1])
    is_cancelling: bool = Field(description="Somebody asked to cancel it while it runs.")
    owner_id: int | None = Field(examples=[7], description="Who asked for it; null: the service.")
    run_after: datetime = Field(description="Not started before.")
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


class JobPage(Output):
    """A page of jobs by offset, the newest first."""

    items: list[JobOut]
    total: int
    skip: int
    limit: int


class JobCursorPage(Output):
    """A page of jobs by cursor, the newest first."""

    items: list[JobOut]
    next_cursor: str | None
    has_more: bool
