"""Changes of an e-mail address that wait for both addresses to agree."""

from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Column, ForeignKey, Index, String, Table

from app.models.base import Id, UtcDateTime, metadata

email_changes = Table(
    "email_changes",
    metadata,
    Column(
        "user_id",
        Id,
        ForeignKey("users.id", ondelete="CASCADE"),
        primary_key=True,
        autoincrement=False,
    ),
    Column("email", String(320), nullable=False),
    Column("email_key", String(640), nullable=False),
    Column("old_confirmed_at", UtcDateTime),
    Column("new_confirmed_at", UtcDateTime),
    Column("expires_at", UtcDateTime, nullable=False),
    Index("ix_email_changes_expires_at", "expires_at"),
)


class EmailChange(NamedTuple):
    """The address that an account is to have, and who has agreed so far. One for each account."""

    user_id: int
    email: str
    email_key: str
    old_confirmed_at: datetime | None
    new_confirmed_at: datetime | None
    expires_at: datetime

    @property
    def is_agreed(self) -> bool:
        """True once both addresses have confirmed."""
        return self.old_confirmed_at is not None and self.new_confirmed_at is not None
