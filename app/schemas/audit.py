"""The audit log on the wire."""

from datetime import datetime
from typing import Any

from pydantic import Field

from app.schemas.base import Output


class AuditEntryOut(Output):
    """One act: who did what to which object, from where, by which request."""

    id: int = Field(examples=[4711])
    kind: str = Field(examples=["user.roles_changed"])
    actor_id: int | None = Field(description="Whose act it was; null where nobody was signed in.")
    credential: str | None = Field(
        description="What the actor had signed in by.", examples=["session:12"]
    )
    object_type: str = Field(examples=["user"])
    object_id: int | None = Field(description="Null where a name was no account's.", examples=[7])
    address: str | None = Field(examples=["203.0.113.7"])
    user_agent: str | None
    request_id: str | None = Field(description="`X-Request-ID` of the answer, and in the logs.")
    detail: dict[str, Any] = Field(examples=[{"from": ["user"], "to": ["admin", "user"]}])
    created_at: datetime


class AuditPage(Output):
    """A page by offset."""

    items: list[AuditEntryOut]
    total: int = Field(description="Counted anew for each page; v2 counts nothing.")
    skip: int
    limit: int


class AuditCursorPage(Output):
    """A page by cursor."""

    items: list[AuditEntryOut]
    next_cursor: str | None
    has_more: bool
