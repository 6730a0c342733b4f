"""All SQL of one-time tokens."""

from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import delete, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.clock import now
from app.models.users import OneTimeToken, one_time_tokens


class OneTimeTokenRepository:
    """One-time tokens, by a connection that somebody else opened."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def add(self, token: OneTimeToken) -> None:
        """Keep the digest of a token that was handed out."""
        await self._connection.execute(insert(one_time_tokens).values(token._asdict()))

    async def spend(self, digest: str, purpose: str) -> OneTimeToken | None:
        """Return a token that is good for this purpose, and end it; None where there is none."""
        statement = (
            delete(one_time_tokens)
            .where(one_time_tokens.c.digest == digest, one_time_tokens.c.purpose == purpose)
            .returning(*one_time_tokens.c)
        )
        row = (await self._connection.execute(statement)).first()
        token = OneTimeToken._make(row) if row else None
        return token if token and token.expires_at > now() else None

    async def find(self, digest: str) -> OneTimeToken | None:
        """Return a token whose time is not over, without ending it."""
        statement = select(one_time_tokens).where(
            one_time_tokens.c.digest == digest, one_time_tokens.c.expires_at > now()
        )
        row = (await self._connection.execute(statement)).first()
        return OneTimeToken._make(row) if row else None

    async def revoke(self, user_id: int, purposes: Iterable[str]) -> None:
        """End what was handed out to a user for these purposes."""
        statement = delete(one_time_tokens).where(
            one_time_tokens.c.user_id == user_id, one_time_tokens.c.purpose.in_(list(purposes))
        )
        await self._connection.execute(statement)

    async def delete_before(self, moment: datetime) -> int:
        """Forget tokens that ran out before a moment; return how many."""
        statement = delete(one_time_tokens).where(one_time_tokens.c.expires_at < moment)
        return (await self._connection.execute(statement)).rowcount
