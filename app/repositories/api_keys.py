"""All SQL of API keys."""

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import ColumnElement, and_, delete, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.clock import now
from app.events import outbox
from app.events.outbox import EventDraft
from app.models.api_keys import ApiKey, api_keys
from app.models.events import Audience, EventKind
from app.models.users import users
from app.repositories.second_factor import has_second_factor


class KeyStanding(NamedTuple):
    """What a secret may do right now, and until when."""

    key_id: int
    user_id: int
    roles: list[str]
    scopes: list[str]
    ends_at: datetime | None
    has_second_factor: bool


class ApiKeyRepository:
    """API keys, by a connection that somebody else opened."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def count_for_update(self, user_id: int) -> int:
        """Return how many keys a user has; until the transaction ends, nobody adds another."""
        owner = select(users.c.id).where(users.c.id == user_id)
        await self._connection.execute(owner.with_for_update(key_share=True))
        statement = select(func.count()).where(api_keys.c.user_id == user_id)
        return (await self._connection.execute(statement)).scalar_one()

    async def add(
        self,
        *,
        user_id: int,
        name: str,
        prefix: str,
        digest: str,
        scopes: list[str],
        expires_at: datetime | None,
    ) -> ApiKey:
        """Create a key."""
        statement = (
            insert(api_keys)
            .values(
                user_id=user_id,
                name=name,
                prefix=prefix,
                digest=digest,
                scopes=scopes,
                expires_at=expires_at,
                created_at=now(),
            )
            .returning(*api_keys.c)
        )
        return ApiKey._make((await self._connection.execute(statement)).one())

    async def get(self, user_id: int, key_id: int) -> ApiKey | None:
        """Return one of a user's keys, or None."""
        statement = select(api_keys).where(_is(user_id, key_id))
        row = (await self._connection.execute(statement)).first()
        return ApiKey._make(row) if row else None

    async def of_user(self, user_id: int) -> list[ApiKey]:
        """Return a user's keys, the newest first."""
        statement = (
            select(api_keys).where(api_keys.c.user_id == user_id).order_by(api_keys.c.id.desc())
        )
        return [ApiKey._make(row) for row in await self._connection.execute(statement)]

    async def rename(self, user_id: int, key_id: int, name: str) -> ApiKey | None:
        """Give a key another name; None where there is none."""
        statement = update(api_keys).where(_is(user_id, key_id)).values(name=name)
        row = (await self._connection.execute(statement.returning(*api_keys.c))).first()
        return ApiKey._make(row) if row else None

    async def rotate(
        self, user_id: int, key_id: int, *, prefix: str, digest: str, overlap: timedelta
    ) -> ApiKey | None:
        """Give a key another secret and record that; None where there is none.

        The one it had stays good for the overlap; the one before that ends at once.
        """
        moment = now()
        statement = (
            update(api_keys)
            .where(_is(user_id, key_id))
            .values(
                prefix=prefix,
                digest=digest,
                previous_digest=api_keys.c.digest if overlap else None,
                previous_ends_at=moment + overlap if overlap else None,
                rotated_at=moment,
            )
            .returning(*api_keys.c)
        )
        row = (await self._connection.execute(statement)).first()
        if row is None:
            return None
        await outbox.record(self._connection, _changed(key_id, user_id))
        return ApiKey._make(row)

    async def delete(self, user_id: int, key_id: int) -> bool:
        """Revoke a key and record that; tell whether there was one."""
        gone = (
            await self._connection.execute(delete(api_keys).where(_is(user_id, key_id)))
        ).rowcount
        if gone:
            await outbox.record(self._connection, _changed(key_id, user_id))
        return bool(gone)

    async def delete_all_of(self, user_id: int) -> None:
        """Revoke every key of a user who goes; the change of the account tells of it."""
        await self._connection.execute(delete(api_keys).where(api_keys.c.user_id == user_id))

    async def standing(self, digest: str) -> KeyStanding | None:
        """Return what a secret may do right now; None where it is unknown, over, or its owner is.

        Looked up by its digest: how long that takes tells nothing of the secret.
        """
        moment = now()
        is_previous = and_(
            api_keys.c.previous_digest == digest, api_keys.c.previous_ends_at > moment
        )
        statement = (
            select(api_keys, users.c.roles, has_second_factor(users.c.id))
            .join(users, users.c.id == api_keys.c.user_id)
            .where(
                or_(api_keys.c.digest == digest, is_previous),
                or_(api_keys.c.expires_at.is_(None), api_keys.c.expires_at > moment),
                users.c.is_active,
                users.c.deleted_at.is_(None),
            )
        )
        row = (await self._connection.execute(statement)).first()
        if row is None:
            return None
        *columns, roles, has_factor = row
        key = ApiKey._make(columns)
        ends = [key.expires_at, key.previous_ends_at if key.digest != digest else None]
        ends_at = min((each for each in ends if each), default=None)
        return KeyStanding(key.id, key.user_id, roles, key.scopes, ends_at, has_factor)

    async def note_use(self, key_ids: Collection[int], *, every: timedelta) -> None:
        """Keep that keys were used now, where that was not kept within the time given."""
        moment = now()
        is_due = or_(api_keys.c.last_used_at.is_(None), api_keys.c.last_used_at <= moment - every)
        statement = update(api_keys).where(api_keys.c.id.in_(key_ids), is_due)
        await self._connection.execute(statement.values(last_used_at=moment))


def _is(user_id: int, key_id: int) -> ColumnElement[bool]:
    return and_(api_keys.c.id == key_id, api_keys.c.user_id == user_id)


def _changed(key_id: int, user_id: int) -> EventDraft:
    return EventDraft(
        kind=EventKind.API_KEY_CHANGED,
        subject="api_key",
        subject_id=key_id,
        owner_id=user_id,
        audience=Audience.INTERNAL,
        data={},
    )
