"""All SQL of accounts."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import ColumnElement, bindparam, func, insert, literal, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from app.adapters.database import violated_constraint
from app.adapters.driver import fetch
from app.clock import now
from app.errors import EmailTaken, UsernameTaken
from app.events import outbox
from app.events.outbox import EventDraft
from app.models.events import Audience, EventKind
from app.models.users import User, users
from app.repositories.arrays import array_contains
from app.security.principal import Role

_LIVE = users.c.deleted_at.is_(None)
_BY_LOGIN = select(users).where(
    or_(
        users.c.email_key == bindparam("email_key"),
        users.c.username_key == bindparam("username_key"),
    ),
    _LIVE,
)
_UNCHANGED = (
    select(users.c.id)
    .where(
        users.c.id == bindparam("user_id"),
        users.c.is_active,
        users.c.password_hash.is_not_distinct_from(bindparam("password_hash")),
        _LIVE,
    )
    .with_for_update(read=True)
)


class UserRepository:
    """Accounts, by a connection that somebody else opened."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def get(self, user_id: int) -> User | None:
        """Return an account, or None."""
        statement = select(users).where(users.c.id == user_id, _LIVE)
        row = (await self._connection.execute(statement)).first()
        return User._make(row) if row else None

    async def find_by_login(self, email_key: str, username_key: str) -> User | None:
        """Return the account with this e-mail address or username, or None."""
        keys = {"email_key": email_key, "username_key": username_key}
        rows = await fetch(self._connection, _BY_LOGIN, keys)
        return User._make(rows[0]) if rows else None

    async def add(self, values: Mapping[str, Any]) -> User:
        """Create an account.

        Raises:
            EmailTaken, UsernameTaken: another account has it, in whatever case.
        """
        moment = now()
        statement = (
            insert(users)
            .values(version=1, created_at=moment, updated_at=moment, **values)
            .returning(*users.c)
        )
        try:
            row = (await self._connection.execute(statement)).one()
        except IntegrityError as error:
            raise _taken(error) from error
        return User._make(row)

    async def change(self, user_id: int, values: Mapping[str, Any]) -> User | None:
        """Change an account and record that; None where there is none.

        Raises:
            EmailTaken, UsernameTaken: another account has it.
        """
        statement = (
            update(users)
            .where(users.c.id == user_id, _LIVE)
            .values(updated_at=now(), version=users.c.version + 1, **values)
            .returning(*users.c)
        )
        try:
            row = (await self._connection.execute(statement)).first()
        except IntegrityError as error:
            raise _taken(error) from error
        if row is None:
            return None
        user = User._make(row)
        await outbox.record(self._connection, _event(user))
        return user

    async def rehash(self, user: User, password_hash: str) -> None:
        """Keep the same password under a new hash: nothing that anybody needs to know of.

        A password that was changed meanwhile stays changed.
        """
        is_same = users.c.password_hash == user.password_hash
        statement = update(users).where(users.c.id == user.id, is_same)
        await self._connection.execute(statement.values(password_hash=password_hash))

    async def is_unchanged(self, user: User) -> bool:
        """Tell whether the account is as active, and its password the same, until we are done."""
        asked = {"user_id": user.id, "password_hash": user.password_hash}
        return bool(await fetch(self._connection, _UNCHANGED, asked))

    async def hold(self, user_id: int) -> User | None:
        """Return an active account, which nobody else changes until the transaction ends."""
        statement = (
            select(users).where(users.c.id == user_id, users.c.is_active, _LIVE).with_for_update()
        )
        row = (await self._connection.execute(statement)).first()
        return User._make(row) if row else None

    async def lock_active_admins(self) -> list[int]:
        """Return the ids of all active admins, locked so that no two changes both spare the last.

        SQLite has one writer at a time, which is lock enough.
        """
        statement = (
            select(users.c.id)
            .where(
                _LIVE,
                users.c.is_active,
                _has_role(Role.ADMIN),
            )
            .order_by(users.c.id)
            .with_for_update()
        )
        return list((await self._connection.execute(statement)).scalars())

    async def page(
        self,
        *,
        role: Role | None,
        is_active: bool | None,
        q: str | None,
        skip: int = 0,
        limit: int,
        after_id: int = 0,
    ) -> list[User]:
        """Return accounts in the order of their ids, by offset or after an id."""
        statement = (
            select(users)
            .where(users.c.id > after_id, *_conditions(role, is_active, q))
            .order_by(users.c.id)
            .offset(skip)
            .limit(limit)
        )
        return [User._make(row) for row in await self._connection.execute(statement)]

    async def count(self, *, role: Role | None, is_active: bool | None, q: str | None) -> int:
        """Return how many accounts a list has."""
        statement = select(func.count()).select_from(users).where(*_conditions(role, is_active, q))
        return (await self._connection.execute(statement)).scalar_one()


def _conditions(
    role: Role | None, is_active: bool | None, q: str | None
) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = [_LIVE]
    if role is not None:
        found.append(_has_role(role))
    if is_active is not None:
        found.append(users.c.is_active.is_(is_active))
    if q:
        wanted = q.casefold()
        found.append(
            or_(
                users.c.username_key.contains(wanted, autoescape=True),
                users.c.email_key.contains(wanted, autoescape=True),
                func.lower(users.c.full_name).contains(wanted, autoescape=True),
            )
        )
    return found


def _taken(error: IntegrityError) -> Exception:
    match violated_constraint(error):
        case "uq_users_email_key":
            return EmailTaken()
        case "uq_users_username_key":
            return UsernameTaken()
        case _:
            return error


def _event(user: User) -> EventDraft:
    return EventDraft(
        kind=EventKind.USER_UPDATED,
        subject="user",
        subject_id=user.id,
        owner_id=user.id,
        audience=Audience.OWNER,
        data={
            "id": user.id,
            "username": user.username,
            "full_name": user.full_name,
            "roles": list(user.roles),
            "is_active": user.is_active,
            "version": user.version,
        },
    )


def _has_role(role: Role) -> ColumnElement[bool]:
    return array_contains(users.c.roles, literal([role], users.c.roles.type))
