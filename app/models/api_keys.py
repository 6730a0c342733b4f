"""The table of API keys."""

from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Column, ForeignKey, Index, String, Table

from app.models.base import Id, StringList, UtcDateTime, metadata

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", Id, primary_key=True),
    Column("user_id", Id, ForeignKey("users.id", ondelete="CASCADE"), nullable=False),
    Column("name", String(100), nullable=False),
    Column("prefix", String(32), nullable=False),
    Column("digest", String(64), nullable=False, unique=True),
    Column("previous_digest", String(64), unique=True),
    Column("previous_ends_at", UtcDateTime),
    Column("scopes", StringList, nullable=False),
    Column("expires_at", UtcDateTime),
    Column("last_used_at", UtcDateTime),
    Column("rotated_at", UtcDateTime),
    Column("created_at", UtcDateTime, nullable=False),
    Index("ix_api_keys_user_id_id", "user_id", "id"),
    sqlite_autoincrement=True,  # an id is never used twice: rate limits and logs name keys by it
)


class ApiKey(NamedTuple):
    """A row of `api_keys`; the secrets are kept as digests only.

    `previous_digest` is that of the secret before the last rotation, good until
    `previous_ends_at`.
    """

    id: int
    user_id: int
    name: str
    prefix: str
    digest: str
    previous_digest: str | None
    previous_ends_at: datetime | None
    scopes: list[str]
    expires_at: datetime | None
    last_used_at: datetime | None
    rotated_at: datetime | None
    created_at: datetime
