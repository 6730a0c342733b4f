"""Stored answers of creating requests, and which lock lets only one of a kind run."""

import hashlib
from datetime import datetime
from functools import cache

from sqlalchemy import bindparam, delete, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.dml import ReturningInsert

from app.adapters.driver import fetch
from app.errors import IdempotencyInProgress
from app.models.idempotency import StoredAnswer, idempotency_keys

# Building a statement costs more than running it: each is built once.
_FIND = select(idempotency_keys).where(
    idempotency_keys.c.scope == bindparam("scope"), idempotency_keys.c.key == bindparam("key")
)


@cache
def _store(is_postgres: bool) -> ReturningInsert[tuple[str]]:
    columns = idempotency_keys.c
    names = [column.name for column in columns]
    new = (postgresql.insert if is_postgres else sqlite.insert)(idempotency_keys)
    return (
        new.values({name: bindparam(name) for name in names})
        .on_conflict_do_update(
            index_elements=["scope", "key"],
            set_={name: new.excluded[name] for name in names},
            where=columns.created_at < bindparam("replacing_before", type_=columns.created_at.type),
        )
        .returning(columns.key)
    )


def lock_number(scope: str, key: str) -> int:
    """Return the advisory lock that stands for a key: 64 bits of a hash, with their sign."""
    digest = hashlib.sha256(f"{scope}\n{key}".encode()).digest()
    return int.from_bytes(digest[:8], signed=True)


class IdempotencyRepository:
    """Answers by who asked and their key, by a connection that somebody else opened."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection
        self._is_postgres = connection.dialect.name == "postgresql"

    async def find(self, scope: str, key: str) -> StoredAnswer | None:
        """Return the first answer, if there is one."""
        rows = await fetch(self._connection, _FIND, {"scope": scope, "key": key})
        return StoredAnswer._make(rows[0]) if rows else None

    async def store(self, answer: StoredAnswer, *, replacing_before: datetime) -> None:
        """Keep the answer, in the transaction of what it tells of; it may replace an expired one.

        Raises:
            IdempotencyInProgress: another request with this key was committed meanwhile.
        """
        statement = _store(self._is_postgres)
        parameters = {**answer._asdict(), "replacing_before": replacing_before}
        if not await fetch(self._connection, statement, parameters):
            raise IdempotencyInProgress

    async def delete_before(self, moment: datetime) -> int:
        """Forget answers older than a moment; return how many."""
        statement = delete(idempotency_keys).where(idempotency_keys.c.created_at < moment)
        return (await self._connection.execute(statement)).rowcount
