"""All SQL of sessions."""

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import bindparam, delete, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.adapters.driver import fetch
from app.clock import now
from app.events import outbox
from app.events.outbox import EventDraft
from app.models.events import Audience, EventKind
from app.models.users import Session, sessions, users
from app.repositories.second_factor import has_second_factor

_NOTED_EVERY = timedelta(minutes=1)
_STANDING = (
    select(sessions.c.user_id, users.c.roles, has_second_factor(users.c.id))
    .join(users, users.c.id == sessions.c.user_id)
    .where(
        sessions.c.id == bindparam("session_id"),
        sessions.c.ended_at.is_(None),
        sessions.c.expires_at > bindparam("moment"),
        users.c.is_active,
        users.c.deleted_at.is_(None),
    )
)
_ADD = insert(sessions).returning(*sessions.c)
_PLACES = (
    select(sessions.c.address, sessions.c.user_agent, sessions.c.created_at)
    .where(sessions.c.user_id == bindparam("user_id"), sessions.c.last_used_at > bindparam("since"))
    .order_by(sessions.c.last_used_at.desc())
    .limit(200)
)


class Standing(NamedTuple):
    """What a session may do right now."""

    user_id: int
    roles: list[str]
    has_second_factor: bool


class Place(NamedTuple):
    """Where a session was opened, and when."""

    address: str | None
    user_agent: str | None
    created_at: datetime


class SessionRepository:
    """Sessions, by a connection that somebody else opened."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def add(
        self,
        *,
        user_id: int,
        seed: str,
        user_agent: str | None,
        address: str | None,
        expires_at: datetime,
    ) -> Session:
        """Open a session."""
        moment = now()
        values = {
            "user_id": user_id,
            "seed": seed,
            "generation": 1,
            "rotated_at": moment,
            "user_agent": user_agent,
            "address": address,
            "created_at": moment,
            "last_used_at": moment,
            "expires_at": expires_at,
        }
        return Session._make((await self._connection.execute(_ADD, values)).one())

    async def get(self, session_id: int) -> Session | None:
        """Return a session, ended or not."""
        statement = select(sessions).where(sessions.c.id == session_id)
        row = (await self._connection.execute(statement)).first()
        return Session._make(row) if row else None

    async def standing(self, session_id: int) -> Standing | None:
        """Return what a session may do right now; None where it has ended or its user may not."""
        asked = {"session_id": session_id, "moment": now()}
        rows = await fetch(self._connection, _STANDING, asked)
        return Standing(*rows[0]) if rows else None

    async def rotate(self, session: Session, expires_at: datetime) -> Session | None:
        """Spend the session's current refresh token; None where another request was faster."""
        moment = now()
        statement = (
            update(sessions)
            .where(
                sessions.c.id == session.id,
                sessions.c.generation == session.generation,
                sessions.c.ended_at.is_(None),
            )
            .values(
                generation=session.generation + 1,
                rotated_at=moment,
                last_used_at=moment,
                expires_at=expires_at,
            )
            .returning(*sessions.c)
        )
        row = (await self._connection.execute(statement)).first()
        return Session._make(row) if row else None

    async def touch(self, session_ids: Collection[int], moment: datetime) -> None:
        """Note that sessions are in use, each at most once a minute over all workers.

        Whoever else is writing one of them notes it as well, and is not waited for.
        """
        is_due = sessions.c.last_used_at < moment - _NOTED_EVERY
        due = (
            select(sessions.c.id)
            .where(sessions.c.id.in_(session_ids), sessions.c.ended_at.is_(None), is_due)
            .with_for_update(skip_locked=True)
        )
        statement = update(sessions).where(sessions.c.id.in_(due)).values(last_used_at=moment)
        await self._connection.execute(statement)

    async def open_sessions(self, user_id: int) -> list[Session]:
        """Return a user's sessions that have not ended, the last used first."""
        statement = (
            select(sessions)
            .where(
                sessions.c.user_id == user_id,
                sessions.c.ended_at.is_(None),
                sessions.c.expires_at > now(),
            )
            .order_by(sessions.c.last_used_at.desc(), sessions.c.id.desc())
            .limit(100)
        )
        return [Session._make(row) for row in await self._connection.execute(statement)]

    async def end(
        self, user_id: int, *, only: int | None = None, but: int | None = None
    ) -> list[int]:
        """End a user's sessions (only one, or all but one) and record that; return their ids."""
        statement = (
            update(sessions)
            .where(sessions.c.user_id == user_id, sessions.c.ended_at.is_(None))
            .values(ended_at=now())
            .returning(sessions.c.id)
        )
        if only is not None:
            statement = statement.where(sessions.c.id == only)
        if but is not None:
            statement = statement.where(sessions.c.id != but)
        ended = list((await self._connection.execute(statement)).scalars())
        if ended:
            await outbox.record(self._connection, *(_ended(each, user_id) for each in ended))
        return ended

    async def addresses_since(self, user_id: int, since: datetime) -> list[str]:
        """Return the addresses that the user has signed in from."""
        statement = (
            select(sessions.c.address)
            .where(
                sessions.c.user_id == user_id,
                sessions.c.address.is_not(None),
                sessions.c.last_used_at > since,
            )
            .distinct()
            .limit(1000)
        )
        return list((await self._connection.execute(statement)).scalars())

    async def places_since(self, user_id: int, since: datetime) -> list[Place]:
        """Return where the user's sessions of late were opened, the last used first."""
        rows = await fetch(self._connection, _PLACES, {"user_id": user_id, "since": since})
        return [Place._make(row) for row in rows]

    async def delete_unused_since(self, moment: datetime) -> int:
        """Forget sessions that have ended and were not used since a moment; return how many."""
        has_ended = or_(sessions.c.ended_at.is_not(None), sessions.c.expires_at < now())
        statement = delete(sessions).where(sessions.c.last_used_at < moment, has_ended)
        return (await self._connection.execute(statement)).rowcount


def _ended(session_id: int, user_id: int) -> EventDraft:
    return EventDraft(
        kind=EventKind.SESSION_ENDED,
        subject="session",
        subject_id=session_id,
        owner_id=user_id,
        audience=Audience.INTERNAL,
        data={},
    )
