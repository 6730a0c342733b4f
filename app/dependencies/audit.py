"""Which entries of the audit log are asked for, and the cursor of a place in it."""

from dataclasses import asdict
from datetime import datetime
from typing import Annotated

from fastapi import Query
from pydantic import AfterValidator, BaseModel, Field

from app.dependencies.pages import CursorPage, OffsetPage
from app.models.audit import AuditEntry, AuditKind
from app.repositories.audit import AuditFilter, Place
from app.schemas.base import Moment, ResourceId
from app.security.signing import CursorSigner

_LARGEST_ID = 2**63 - 1


def _has_known_id(text: str) -> str:
    if int(text.partition(":")[2] or 1) not in range(1, _LARGEST_ID + 1):
        raise ValueError("An id is a positive 64-bit integer")
    return text


class AuditQuery(BaseModel):
    """The filters of the log."""

    actor_id: ResourceId | None = Field(None, description="Only what this account did.")
    kind: AuditKind | None = Field(None, description="Only acts of this kind.")
    object: (
        Annotated[
            str, Field(pattern=r"^[a-z_]{1,40}(:[0-9]{1,19})?$"), AfterValidator(_has_known_id)
        ]
        | None
    ) = Field(
        None,
        description="Only what was done to objects of this type, or to this one: `user`, `user:7`.",
    )
    since: Moment | None = Field(None, description="Only from this moment on, RFC 3339.")
    until: Moment | None = Field(None, description="Only before this moment, RFC 3339.")

    def filter(self) -> AuditFilter:
        """Return the filter as the repository understands it."""
        object_type, _, object_id = (self.object or "").partition(":")
        return AuditFilter(
            actor_id=self.actor_id,
            kind=self.kind,
            object_type=object_type or None,
            object_id=int(object_id) if object_id else None,
            since=self.since,
            until=self.until,
        )


class AuditOffsetQuery(AuditQuery, OffsetPage):
    """A page of the log by offset."""


class AuditCursorQuery(AuditQuery, CursorPage):
    """A page of the log by cursor."""

    def after(self, signer: CursorSigner) -> Place | None:
        """Return the place after which the page begins.

        Raises:
            InvalidCursor: the cursor was not made by us for this filter.
        """
        if self.cursor is None:
            return None
        payload = signer.decode(self.cursor, _scope(self.filter()))
        return datetime.fromisoformat(payload["t"]), int(payload["i"])

    def cursor_of(self, signer: CursorSigner, entry: AuditEntry) -> str:
        """Return the cursor of the place of an entry."""
        payload = {"t": entry.created_at.isoformat(), "i": entry.id}
        return signer.encode(payload, _scope(self.filter()))


AuditByOffset = Annotated[AuditOffsetQuery, Query()]
AuditByCursor = Annotated[AuditCursorQuery, Query()]


def _scope(wanted: AuditFilter) -> str:
    return f"audit:{sorted((name, str(value)) for name, value in asdict(wanted).items())}"
