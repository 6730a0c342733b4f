"""Accounts, their sessions and the one-time tokens handed to them."""

from datetime import datetime
from typing import NamedTuple

from sqlalchemy import (
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    String,
    Table,
    Text,
    false,
    text,
    true,
)

from app.models.base import Id, StringList, UtcDateTime, metadata

users = Table(
    "users",
    metadata,
    Column("id", Id, primary_key=True),
    Column("email", String(320), nullable=False),
    Column("email_key", String(640), nullable=False, unique=True),
    Column("username", String(50), nullable=False),
    Column("username_key", String(200), nullable=False, unique=True),
    Column("full_name", String(100)),
    Column("password_hash", Text),
    Column("roles", StringList, nullable=False),
    Column("is_active", Boolean, nullable=False, server_default=true()),
    Column("is_verified", Boolean, nullable=False, server_default=false()),
    Column("version", Integer, nullable=False, server_default=text("1")),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    Column("deleted_at", UtcDateTime),
    Column("suspended_for", String(300)),
    sqlite_autoincrement=True,
)


class User(NamedTuple):
    """A row of `users`. `email_key` and `username_key` are the forms that must be unique."""

    id: int
    email: str
    email_key: str
    username: str
    username_key: str
    full_name: str | None
    password_hash: str | None
    roles: list[str]
    is_active: bool
    is_verified: bool
    version: int
    created_at: datetime
    updated_at: datetime
    deleted_at: datetime | None
    suspended_for: str | None


login_failures = Table(
    "login_failures",
    metadata,
    Column("account_key", String(64), primary_key=True),
    Column("failures", Integer, nullable=False),
    Column("locked_until", UtcDateTime),
    Column("last_failed_at", UtcDateTime, nullable=False),
)


class LoginFailures(NamedTuple):
    """Failed sign-ins in a row for one account name and one address range, known or not."""

    account_key: str
    failures: int
    locked_until: datetime | None
    last_failed_at: datetime


sessions = Table(
    "sessions",
    metadata,
    Column("id", Id, primary_key=True),
    Column("user_id", Id, ForeignKey("users.id", ondelete="CASCADE"), nullable=False),
    Column("seed", String(64), nullable=False),
    Column("generation", Integer, nullable=False),
    Column("rotated_at", UtcDateTime, nullable=False),
    Column("user_agent", String(300)),
    Column("address", String(64)),
    Column("created_at", UtcDateTime, nullable=False),
    Column("last_used_at", UtcDateTime, nullable=False),
    Column("expires_at", UtcDateTime, nullable=False),
    Column("ended_at", UtcDateTime),
    Index("ix_sessions_user_id_open", "user_id", postgresql_where=text("ended_at IS NULL")),
    Index("ix_sessions_expires_at", "expires_at"),
    Index("ix_sessions_user_id_last_used_at", "user_id", "last_used_at"),
    sqlite_autoincrement=True,
)


class Session(NamedTuple):
    """A sign-in on one device.

    Its refresh tokens are derived, not stored: token number `generation` is a keyed hash of
    `seed` and that number, so that a copy of this table alone opens nothing.
    """

    id: int
    user_id: int
    seed: str
    generation: int
    rotated_at: datetime
    user_agent: str | None
    address: str | None
    created_at: datetime
    last_used_at: datetime
    expires_at: datetime
    ended_at: datetime | None


one_time_tokens = Table(
    "one_time_tokens",
    metadata,
    Column("digest", String(64), primary_key=True),
    Column("purpose", String(32), nullable=False),
    Column("user_id", Id, ForeignKey("users.id", ondelete="CASCADE"), nullable=False),
    Column("session_id", Id, ForeignKey("sessions.id", ondelete="CASCADE")),
    Column("expires_at", UtcDateTime, nullable=False),
    Index("ix_one_time_tokens_expires_at", "expires_at"),
    Index("ix_one_time_tokens_user_id", "user_id"),
)


class OneTimeToken(NamedTuple):
    """A secret that works once, for one purpose; only its digest is kept."""

    digest: str
    purpose: str
    user_id: int
    session_id: int | None
    expires_at: datetime
