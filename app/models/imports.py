"""Imports of items: what was sent, how far it is, and which lines were refused."""

from typing import Any, NamedTuple

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    String,
    Table,
    false,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from app.models.base import Id, metadata

_Count = BigInteger
_ZERO = text("0")
_List = JSONB().with_variant(JSON(), "sqlite")

imports = Table(
    "imports",
    metadata,
    Column("job_id", Id, ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("owner_id", Id, ForeignKey("users.id", ondelete="CASCADE"), nullable=False),
    Column("key", String(64)),  # of its content in the storage; null once it is not kept any more
    Column("size", _Count, nullable=False),
    Column("format", String(8), nullable=False),
    Column("is_v2", Boolean, nullable=False),
    Column("is_atomic", Boolean, nullable=False),
    Column("is_dry_run", Boolean, nullable=False),
    Column("columns", _List),  # what the header of a CSV file names, once it was read
    Column("position", _Count, nullable=False, server_default=_ZERO),
    Column("next_line", _Count, nullable=False, server_default=text("1")),
    Column("accepted", _Count, nullable=False, server_default=_ZERO),
    Column("rejected", _Count, nullable=False, server_default=_ZERO),
    Column("is_finished", Boolean, nullable=False, server_default=false()),
    Index("ix_imports_owner_id_key", "owner_id", "key"),
    Index("ix_imports_key", "key"),
)

import_rejections = Table(
    "import_rejections",
    metadata,
    Column("job_id", Id, ForeignKey("imports.job_id", ondelete="CASCADE"), primary_key=True),
    Column("line", BigInteger, primary_key=True, autoincrement=False),
    Column("errors", _List, nullable=False),
)


class Import(NamedTuple):
    """A row of `imports`. All before the byte `position`, where `next_line` begins, is settled."""

    job_id: int
    owner_id: int
    key: str | None
    size: int
    format: str
    is_v2: bool
    is_atomic: bool
    is_dry_run: bool
    columns: list[Any] | None
    position: int
    next_line: int
    accepted: int
    rejected: int
    is_finished: bool
