"""Who a person is elsewhere, and which sign-ins from elsewhere have been spent."""

from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Column, ForeignKey, Index, String, Table, UniqueConstraint

from app.models.base import Id, UtcDateTime, metadata

MAX_SUBJECT = 255  # OpenID Connect Core 1.0, section 2

identities = Table(
    "identities",
    metadata,
    Column("id", Id, primary_key=True),
    Column("user_id", Id, ForeignKey("users.id", ondelete="CASCADE"), nullable=False),
    Column("provider", String(32), nullable=False),
    Column("subject", String(MAX_SUBJECT), nullable=False),
    Column("email", String(320)),
    Column("created_at", UtcDateTime, nullable=False),
    Column("last_used_at", UtcDateTime, nullable=False),
    UniqueConstraint("provider", "subject"),
    Index("ix_identities_user_id", "user_id"),
    sqlite_autoincrement=True,
)


class Identity(NamedTuple):
    """An account at a provider that signs in to an account here.

    `subject` is the provider's own unchanging name for it; `email` only helps people to know it
    again, and never decides anything.
    """

    id: int
    user_id: int
    provider: str
    subject: str
    email: str | None
    created_at: datetime
    last_used_at: datetime


spent_sign_ins = Table(
    "spent_sign_ins",
    metadata,
    Column("digest", String(64), primary_key=True),
    Column("expires_at", UtcDateTime, nullable=False),
    Index("ix_spent_sign_ins_expires_at", "expires_at"),
)
