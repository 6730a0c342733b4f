"""Answers kept so that a repeated creating request gets the first one's answer."""

from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Column, Index, Integer, LargeBinary, String, Table

from app.models.base import JsonObject, UtcDateTime, metadata

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("scope", String(100), primary_key=True),
    Column("key", String(255), primary_key=True),
    Column("fingerprint", String(64), nullable=False),
    Column("status", Integer, nullable=False),
    Column("headers", JsonObject, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Index("ix_idempotency_keys_created_at", "created_at"),
)


class StoredAnswer(NamedTuple):
    """The first answer to a creating request, by who asked (`scope`) and their key."""

    scope: str
    key: str
    fingerprint: str
    status: int
    headers: dict[str, str]
    body: bytes
    created_at: datetime
