"""Second factors, the codes that stand in for them, and sign-ins that wait for one."""

from datetime import datetime
from typing import NamedTuple

from sqlalchemy import BigInteger, Column, ForeignKey, Index, Integer, String, Table, Text

from app.models.base import Id, UtcDateTime, metadata

totp_factors = Table(
    "totp_factors",
    metadata,
    Column("user_id", Id, ForeignKey("users.id", ondelete="CASCADE"), primary_key=True),
    Column("sealed_secret", Text, nullable=False),
    Column("last_step", BigInteger),
    Column("created_at", UtcDateTime, nullable=False),
    Column("confirmed_at", UtcDateTime),
)


class TotpFactor(NamedTuple):
    """An authenticator app; it counts once its owner has shown that it works."""

    user_id: int
    sealed_secret: str
    last_step: int | None  # the time step of the last code used; none up to it works again
    created_at: datetime
    confirmed_at: datetime | None


recovery_codes = Table(
    "recovery_codes",
    metadata,
    Column("user_id", Id, ForeignKey("users.id", ondelete="CASCADE"), primary_key=True),
    Column("digest", String(64), primary_key=True),
)

second_factor_challenges = Table(
    "second_factor_challenges",
    metadata,
    Column("digest", String(64), primary_key=True),
    Column("user_id", Id, ForeignKey("users.id", ondelete="CASCADE"), nullable=False),
    Column("password_digest", String(64), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("expires_at", UtcDateTime, nullable=False),
    Index("ix_second_factor_challenges_expires_at", "expires_at"),
    Index("ix_second_factor_challenges_user_id", "user_id"),
)


class Challenge(NamedTuple):
    """A sign-in whose password was right and whose code is awaited; only its digest is kept.

    `password_digest` ties it to the password that was right: with another one it is void.
    """

    digest: str
    user_id: int
    password_digest: str
    attempts: int
    expires_at: datetime
