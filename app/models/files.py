"""Files of items: what is known of them. Their content is in the storage, under `key`."""

from datetime import datetime
from typing import NamedTuple

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    String,
    Table,
    UniqueConstraint,
    false,
    text,
)

from app.models.base import Id, UtcDateTime, metadata

_AWAITED = text("expires_at IS NOT NULL")

files = Table(
    "files",
    metadata,
    Column("id", Id, primary_key=True),
    Column("item_id", Id, ForeignKey("items.id", ondelete="CASCADE"), nullable=False),
    Column("owner_id", Id, ForeignKey("users.id"), nullable=False),
    Column("key", String(32), nullable=False),
    Column("name", String(255), nullable=False),
    Column("content_type", String(100), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("has_thumbnail", Boolean, nullable=False, server_default=false()),
    Column("created_at", UtcDateTime, nullable=False),
    Column("expires_at", UtcDateTime),
    UniqueConstraint("key"),
    CheckConstraint("size >= 0", name="size_not_negative"),
    Index("ix_files_item_id_id", "item_id", "id"),
    Index("ix_files_owner_id", "owner_id"),
    Index("ix_files_expires_at", "expires_at", postgresql_where=_AWAITED, sqlite_where=_AWAITED),
    sqlite_autoincrement=True,
)


class File(NamedTuple):
    """A row of `files`. One with `expires_at` is announced and awaited until then, not there yet.

    `owner_id` is the item's owner: it is their quota that the file counts against.
    """

    id: int
    item_id: int
    owner_id: int
    key: str
    name: str
    content_type: str
    size: int
    sha256: str
    has_thumbnail: bool
    created_at: datetime
    expires_at: datetime | None

    @property
    def thumbnail_url(self) -> str | None:
        """Where its small picture is, if it has one."""
        return f"/api/files/{self.id}/thumbnail" if self.has_thumbnail else None
