"""All SQL of second factors, recovery codes and sign-ins that wait for a code."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import (
    ColumnElement,
    Delete,
    Update,
    bindparam,
    delete,
    exists,
    func,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from app.adapters.driver import fetch
from app.clock import now
from app.models.second_factor import (
    Challenge,
    TotpFactor,
    recovery_codes,
    second_factor_challenges,
    totp_factors,
)

_ON = totp_factors.c.confirmed_at.is_not(None)
_IS_ON = select(totp_factors.c.user_id).where(totp_factors.c.user_id == bindparam("user_id"), _ON)


def has_second_factor(user_id: ColumnElement[int]) -> ColumnElement[bool]:
    """Return the condition that a user of another statement has a confirmed factor."""
    return exists().where(totp_factors.c.user_id == user_id, _ON)


class SecondFactorRepository:
    """Second factors, by a connection that somebody else opened."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def get(self, user_id: int) -> TotpFactor | None:
        """Return a user's factor, confirmed or not."""
        statement = select(totp_factors).where(totp_factors.c.user_id == user_id)
        row = (await self._connection.execute(statement)).first()
        return TotpFactor._make(row) if row else None

    async def is_on(self, user_id: int) -> bool:
        """Tell whether a user has a confirmed factor."""
        return bool(await fetch(self._connection, _IS_ON, {"user_id": user_id}))

    async def start(self, user_id: int, sealed_secret: str) -> bool:
        """Keep the secret of a factor to be confirmed; False where a confirmed one exists."""
        is_postgres = self._connection.dialect.name == "postgresql"
        upsert = postgresql.insert if is_postgres else sqlite.insert
        values = {"sealed_secret": sealed_secret, "created_at": now()}
        statement = (
            upsert(totp_factors)
            .values(user_id=user_id, **values)
            .on_conflict_do_update(
                index_elements=["user_id"], set_=values, where=totp_factors.c.confirmed_at.is_(None)
            )
        )
        return (await self._connection.execute(statement)).rowcount == 1

    async def confirm(self, factor: TotpFactor, step: int) -> bool:
        """Turn on this very factor; False where another was started or confirmed meanwhile."""
        return await self._changed(
            update(totp_factors)
            .where(
                totp_factors.c.user_id == factor.user_id,
                totp_factors.c.sealed_secret == factor.sealed_secret,
                totp_factors.c.confirmed_at.is_(None),
            )
            .values(confirmed_at=now(), last_step=step)
        )

    async def use_step(self, user_id: int, step: int) -> bool:
        """Use the code of a time step up; False where it or a later one was used before."""
        is_unused = or_(totp_factors.c.last_step.is_(None), totp_factors.c.last_step < step)
        return await self._changed(
            update(totp_factors)
            .where(totp_factors.c.user_id == user_id, _ON, is_unused)
            .values(last_step=step)
        )

    async def remove(self, user_id: int) -> bool:
        """Forget a user's factor and all that belongs to it; tell whether it was confirmed."""
        for table in (second_factor_challenges, recovery_codes):  # as a sign-in locks them
            await self._connection.execute(delete(table).where(table.c.user_id == user_id))
        statement = (
            delete(totp_factors)
            .where(totp_factors.c.user_id == user_id)
            .returning(totp_factors.c.confirmed_at)
        )
        return (await self._connection.execute(statement)).scalar() is not None

    async def sealed_otherwise(self, prefix: str, *, after_id: int, limit: int) -> list[TotpFactor]:
        """Return factors whose secret was sealed with another key than the current one."""
        is_current = totp_factors.c.sealed_secret.startswith(prefix, autoescape=True)
        statement = (
            select(totp_factors)
            .where(totp_factors.c.user_id > after_id, ~is_current)
            .order_by(totp_factors.c.user_id)
            .limit(limit)
        )
        return [TotpFactor._make(row) for row in await self._connection.execute(statement)]

    async def reseal(self, factor: TotpFactor, sealed_secret: str) -> None:
        """Keep the same secret under another seal, unless it was replaced meanwhile."""
        is_same = totp_factors.c.sealed_secret == factor.sealed_secret
        statement = update(totp_factors).where(totp_factors.c.user_id == factor.user_id, is_same)
        await self._connection.execute(statement.values(sealed_secret=sealed_secret))

    async def replace_codes(self, user_id: int, digests: Sequence[str]) -> None:
        """Make these a user's recovery codes, and no others."""
        await self._connection.execute(
            delete(recovery_codes).where(recovery_codes.c.user_id == user_id)
        )
        rows = [{"user_id": user_id, "digest": digest} for digest in digests]
        await self._connection.execute(insert(recovery_codes), rows)

    async def use_code(self, user_id: int, digest: str) -> bool:
        """Use a recovery code up; False where there is no such code (any more)."""
        return await self._changed(
            delete(recovery_codes).where(
                recovery_codes.c.user_id == user_id, recovery_codes.c.digest == digest
            )
        )

    async def codes_left(self, user_id: int) -> int:
        """Return how many recovery codes a user has not used."""
        statement = select(func.count()).where(recovery_codes.c.user_id == user_id)
        return (await self._connection.execute(statement)).scalar_one()

    async def add_challenge(self, challenge: Challenge) -> None:
        """Keep the digest of a challenge that was handed out."""
        await self._connection.execute(insert(second_factor_challenges).values(challenge._asdict()))

    async def find_challenge(self, digest: str) -> Challenge | None:
        """Return a challenge, good or not."""
        statement = select(second_factor_challenges).where(
            second_factor_challenges.c.digest == digest
        )
        row = (await self._connection.execute(statement)).first()
        return Challenge._make(row) if row else None

    async def use_attempt(self, digest: str, attempts: int) -> bool:
        """Count an attempt and let nobody else try until the transaction ends; False: none left."""
        return await self._changed(
            update(second_factor_challenges)
            .where(
                second_factor_challenges.c.digest == digest,
                second_factor_challenges.c.attempts < attempts,
                second_factor_challenges.c.expires_at > now(),
            )
            .values(attempts=second_factor_challenges.c.attempts + 1)
        )

    async def end_challenge(self, digest: str) -> None:
        """Make a challenge void."""
        await self._connection.execute(
            delete(second_factor_challenges).where(second_factor_challenges.c.digest == digest)
        )

    async def delete_challenges_before(self, moment: datetime) -> int:
        """Forget challenges that ran out before a moment; return how many."""
        statement = delete(second_factor_challenges).where(
            second_factor_challenges.c.expires_at < moment
        )
        return (await self._connection.execute(statement)).rowcount

    async def _changed(self, statement: Update | Delete) -> bool:
        return (await self._connection.execute(statement)).rowcount == 1
