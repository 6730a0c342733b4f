"""All SQL of identities at other providers, and of the sign-ins from there."""

from datetime import datetime

from sqlalchemy import delete, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from app.clock import now
from app.errors import IdentityTaken, SignInExpired
from app.models.identities import Identity, identities, spent_sign_ins
from app.models.users import users


class IdentityRepository:
    """Identities, by a connection that somebody else opened."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def find(self, provider: str, subject: str) -> Identity | None:
        """Return the identity that a provider knows by a subject, or None."""
        is_it = (identities.c.provider == provider, identities.c.subject == subject)
        row = (await self._connection.execute(select(identities).where(*is_it))).first()
        return Identity._make(row) if row else None

    async def of_user(self, user_id: int) -> list[Identity]:
        """Return a user's identities, the oldest first."""
        statement = (
            select(identities)
            .where(identities.c.user_id == user_id)
            .order_by(identities.c.id)
            .limit(100)
        )
        return [Identity._make(row) for row in await self._connection.execute(statement)]

    async def add(
        self, *, user_id: int, provider: str, subject: str, email: str | None
    ) -> Identity:
        """Link an identity to a user.

        Raises:
            IdentityTaken: it is linked already.
        """
        moment = now()
        statement = (
            insert(identities)
            .values(
                user_id=user_id,
                provider=provider,
                subject=subject,
                email=email,
                created_at=moment,
                last_used_at=moment,
            )
            .returning(*identities.c)
        )
        try:
            row = (await self._connection.execute(statement)).one()
        except IntegrityError as error:
            raise IdentityTaken from error
        return Identity._make(row)

    async def note_use(self, identity: Identity, email: str | None) -> None:
        """Keep when an identity was used last, and its address then."""
        statement = update(identities).where(identities.c.id == identity.id)
        await self._connection.execute(
            statement.values(last_used_at=now(), email=email or identity.email)
        )

    async def hold_owner(self, user_id: int) -> bool:
        """Let nobody else change what a user signs in by until we are done; tell of a password.

        SQLite has one writer at a time, which is lock enough.
        """
        statement = select(users.c.password_hash).where(users.c.id == user_id).with_for_update()
        return (await self._connection.execute(statement)).scalar_one_or_none() is not None

    async def remove(self, user_id: int, *, only: int | None = None) -> None:
        """Unlink a user's identities, or only one."""
        statement = delete(identities).where(identities.c.user_id == user_id)
        if only is not None:
            statement = statement.where(identities.c.id == only)
        await self._connection.execute(statement)

    async def spend_sign_in(self, digest: str, expires_at: datetime) -> None:
        """Remember that a sign-in has come back, until nobody could repeat it any more.

        Raises:
            SignInExpired: it had come back before.
        """
        over = delete(spent_sign_ins).where(spent_sign_ins.c.expires_at < now())
        await self._connection.execute(over)
        statement = insert(spent_sign_ins).values(digest=digest, expires_at=expires_at)
        try:
            await self._connection.execute(statement)
        except IntegrityError as error:
            raise SignInExpired from error
