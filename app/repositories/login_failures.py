"""Failed sign-ins in a row, by a digest of whom they were for."""

from datetime import datetime

from sqlalchemy import bindparam, delete, func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from app.adapters.driver import fetch
from app.models.users import LoginFailures, login_failures

_FIND = select(login_failures).where(
    login_failures.c.account_key.in_((bindparam("near"), bindparam("anywhere")))
)


class LoginFailureRepository:
    """Failures by account key, by a connection that somebody else opened."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def hold(self, account_key: str) -> None:
        """Let nobody else judge this account until the transaction ends.

        SQLite has one writer anyway.
        """
        if self._connection.dialect.name == "postgresql":
            number = int.from_bytes(bytes.fromhex(account_key)[:8], signed=True)
            await self._connection.execute(select(func.pg_advisory_xact_lock(number)))

    async def find(self, near: str, anywhere: str) -> dict[str, LoginFailures]:
        """Return what is known of each of two keys."""
        rows = await fetch(self._connection, _FIND, {"near": near, "anywhere": anywhere})
        return {known.account_key: known for known in map(LoginFailures._make, rows)}

    async def store(self, failures: LoginFailures) -> None:
        """Keep the new count of a key."""
        is_postgres = self._connection.dialect.name == "postgresql"
        insert = postgresql.insert if is_postgres else sqlite.insert
        values = failures._asdict()
        statement = (
            insert(login_failures)
            .values(values)
            .on_conflict_do_update(index_elements=["account_key"], set_=values)
        )
        await self._connection.execute(statement)

    async def forget(self, *account_keys: str) -> None:
        """Start again from none."""
        statement = delete(login_failures).where(login_failures.c.account_key.in_(account_keys))
        await self._connection.execute(statement)

    async def delete_before(self, moment: datetime) -> int:
        """Forget all that happened before a moment; return how many."""
        statement = delete(login_failures).where(login_failures.c.last_failed_at < moment)
        return (await self._connection.execute(statement)).rowcount
