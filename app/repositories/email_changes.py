"""All SQL of changes of an e-mail address."""

from datetime import datetime

from sqlalchemy import delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.clock import now
from app.models.email_changes import EmailChange, email_changes


class EmailChangeRepository:
    """Changes that wait, by a connection that somebody else opened.

    Whoever writes here has locked the account first: an account has one change at most.
    """

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def start(self, change: EmailChange) -> None:
        """Keep a change, instead of the one that the account had before."""
        await self.forget(change.user_id)
        await self._connection.execute(insert(email_changes).values(change._asdict()))

    async def agree(self, user_id: int, *, at_old: bool) -> EmailChange | None:
        """Note that one of the two addresses has confirmed; None where nothing waits for that."""
        column = email_changes.c.old_confirmed_at if at_old else email_changes.c.new_confirmed_at
        statement = (
            update(email_changes)
            .where(email_changes.c.user_id == user_id, email_changes.c.expires_at > now())
            .values({column: now()})
            .returning(*email_changes.c)
        )
        row = (await self._connection.execute(statement)).first()
        return EmailChange._make(row) if row else None

    async def find(self, user_id: int) -> EmailChange | None:
        """Return the change that waits, if there is one."""
        statement = select(email_changes).where(
            email_changes.c.user_id == user_id, email_changes.c.expires_at > now()
        )
        row = (await self._connection.execute(statement)).first()
        return EmailChange._make(row) if row else None

    async def forget(self, user_id: int) -> None:
        """Drop the account's change."""
        statement = delete(email_changes).where(email_changes.c.user_id == user_id)
        await self._connection.execute(statement)

    async def delete_before(self, moment: datetime) -> int:
        """Drop the changes that ran out before a moment; return how many."""
        statement = delete(email_changes).where(email_changes.c.expires_at < moment)
        return (await self._connection.execute(statement)).rowcount
