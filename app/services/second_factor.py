"""The second factor: enrolling, proving and losing it."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import NamedTuple, TypeVar

from app.adapters.database import Connection, Database
from app.clock import now
from app.errors import (
    InvalidChallenge,
    InvalidCode,
    NotFound,
    SecondFactorExists,
    Unprocessable,
)
from app.mail.letters import Letter
from app.models.audit import AuditKind
from app.models.second_factor import TotpFactor
from app.models.users import User
from app.repositories.audit import Act, record
from app.repositories.second_factor import SecondFactorRepository
from app.repositories.sessions import SessionRepository
from app.repositories.users import UserRepository
from app.security import totp
from app.security.names import folded
from app.security.opaque import digest
from app.security.principal import Principal
from app.security.sealing import Sealer, Unsealable
from app.services.challenges import CHALLENGE_ATTEMPTS, password_digest
from app.services.guesses import Guess, Guesses, Secret
from app.services.post import Post, said_time
from app.services.sessions import Device

logger = logging.getLogger(__name__)

_RESEALED_AT_ONCE = 500

Found = TypeVar("Found")


class Enrolment(NamedTuple):
    """What an authenticator app needs, shown once: as text, as an address, and as a picture."""

    secret: str
    otpauth_uri: str
    qr_code: str


class Status(NamedTuple):
    """Whether an account has a second factor, and how many recovery codes are left."""

    is_enabled: bool
    recovery_codes_left: int


class SecondFactor:
    """The rules of second factors."""

    def __init__(
        self,
        db: Database,
        secret: bytes,
        sealer: Sealer,
        *,
        issuer: str,
        post: Post | None = None,
        on_change: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._db = db
        self._sealer = sealer
        self._guesses = Guesses(db, secret)
        self._issuer = issuer
        self._post = post
        self._on_change = on_change  # told here at once; other workers hear of it by the event

    async def status(self, user_id: int) -> Status:
        """Return whether an account has a second factor."""
        async with self._db.read() as connection:
            repository = SecondFactorRepository(connection)
            return Status(await repository.is_on(user_id), await repository.codes_left(user_id))

    async def enrol(self, user: User) -> Enrolment:
        """Begin: return what the app needs. It counts for nothing until a code confirms it.

        Raises:
            SecondFactorExists: a confirmed one has to be removed first.
        """
        secret = totp.new_totp_secret()
        async with self._db.transaction() as connection:
            sealed = self._sealer.seal(secret, _place(user.id))
            if not await SecondFactorRepository(connection).start(user.id, sealed):
                raise SecondFactorExists
        uri = totp.otpauth_uri(secret, account=user.username, issuer=self._issuer)
        # Drawing it takes 10 ms, and the loop has others to serve.
        return Enrolment(secret, uri, await asyncio.to_thread(totp.qr_code, uri))

    async def confirm(self, caller: Principal, user: User, code: str, device: Device) -> list[str]:
        """Turn the factor on by a first code; return the recovery codes. Other sessions end.

        Raises:
            NotFound: none was begun.
            SecondFactorExists: it was confirmed before.
            Unprocessable: the code is wrong.
            AccountLocked: too many were wrong before.
        """
        async with self._db.read() as connection:
            factor = await SecondFactorRepository(connection).get(user.id)
        if factor is None:
            raise NotFound("No second factor was begun")
        if factor.confirmed_at is not None:
            raise SecondFactorExists

        async def check() -> int | None:
            return self._matching_step(factor, totp.normalised(code))

        step = await self._judged(user, device, check)
        if step is None:
            raise _wrong_code()
        codes = totp.new_recovery_codes()
        async with self._db.transaction() as connection:
            await self._change(connection, user.id)
            repository = SecondFactorRepository(connection)
            if not await repository.confirm(factor, step):
                raise SecondFactorExists
            await repository.replace_codes(user.id, _digests(user.id, codes))
            await SessionRepository(connection).end(user.id, but=caller.session_id)
            await self._tell(connection, Letter.SECOND_FACTOR_ON, user)
            await record(connection, Act(AuditKind.SECOND_FACTOR_ENABLED, "user", user.id))
        self._on_change(user.id)
        return codes

    async def renew_codes(self, user: User, code: str, device: Device) -> list[str]:
        """Return new recovery codes; the old ones are void.

        Raises:
            NotFound: there is no second factor.
            Unprocessable: the code is wrong.
            AccountLocked: too many were wrong before.
        """
        await self._prove_again(user, code, device)
        codes = totp.new_recovery_codes()
        async with self._db.transaction() as connection:
            await self._change(connection, user.id)
            repository = SecondFactorRepository(connection)
            if not await repository.is_on(user.id):
                raise NotFound("There is no second factor")
            await repository.replace_codes(user.id, _digests(user.id, codes))
            await record(connection, Act(AuditKind.RECOVERY_CODES_RENEWED, "user", user.id))
        return codes

    async def remove(self, caller: Principal, user: User, code: str, device: Device) -> None:
        """Turn the factor off. Other sessions end.

        Raises:
            NotFound: there is none.
            Unprocessable: the code is wrong.
            AccountLocked: too many were wrong before.
        """
        await self._prove_again(user, code, device)
        async with self._db.transaction() as connection:
            await self._change(connection, user.id)
            await SecondFactorRepository(connection).remove(user.id)
            await SessionRepository(connection).end(user.id, but=caller.session_id)
            await self._tell(connection, Letter.SECOND_FACTOR_OFF, user)
            await record(connection, Act(AuditKind.SECOND_FACTOR_DISABLED, "user", user.id))
        self._on_change(user.id)

    async def reset(self, user_id: int) -> None:
        """Turn somebody's factor off, who has lost it; their sessions end.

        Raises:
            NotFound: there is no such user.
        """
        async with self._db.transaction() as connection:
            user = await UserRepository(connection).change(user_id, {})
            if user is None:
                raise NotFound("There is no such user")
            if await SecondFactorRepository(connection).remove(user_id):
                await SessionRepository(connection).end(user_id)
                await self._tell(connection, Letter.SECOND_FACTOR_OFF, user)
                await record(connection, Act(AuditKind.SECOND_FACTOR_RESET, "user", user_id))
        self._on_change(user_id)

    async def owner(self, login: str) -> int:
        """Return the id of the account with this username or e-mail address.

        Raises:
            NotFound: there is none.
        """
        name = folded(login)
        async with self._db.read() as connection:
            user = await UserRepository(connection).find_by_login(name, name)
        if user is None:
            raise NotFound("There is no such user")
        return user.id

    async def prove(self, user: User, code: str, device: Device) -> bool:
        """Check the code that came with a password; tell whether there is a factor to prove.

        Raises:
            InvalidCode: it is wrong or was used before.
            AccountLocked: too many were wrong before.
        """
        if not (await self.status(user.id)).is_enabled:
            return False
        if not await self._spent(user, code, device):
            raise InvalidCode
        return True

    async def answer(self, challenge: str, code: str, device: Device) -> User:
        """Return who a challenge and its code belong to; both are used up.

        Raises:
            InvalidChallenge: it has expired, was used or tried too often, or is none of ours.
            InvalidCode: the code is wrong or was used before.
            AccountLocked: too many were wrong before.
        """
        user = await self._challenged(digest(challenge))

        async def check() -> bool | None:
            async with self._db.transaction() as connection:
                repository = SecondFactorRepository(connection)
                if not await repository.use_attempt(digest(challenge), CHALLENGE_ATTEMPTS):
                    raise InvalidChallenge
                if not await self._spend(connection, user.id, code):
                    return None
                await repository.end_challenge(digest(challenge))
                return True

        if not await self._judged(user, device, check):
            raise InvalidCode
        return user

    async def reseal(self) -> int:
        """Seal what the previous key sealed with the current one; return how many there were."""
        last_id = resealed = 0
        while True:
            async with self._db.read() as connection:
                repository = SecondFactorRepository(connection)
                found = await repository.sealed_otherwise(
                    self._sealer.prefix, after_id=last_id, limit=_RESEALED_AT_ONCE
                )
            for factor in found:
                resealed += await self._reseal(factor)
            if len(found) < _RESEALED_AT_ONCE:
                return resealed
            last_id = found[-1].user_id

    async def _reseal(self, factor: TotpFactor) -> bool:
        secret = self._open(factor)
        if secret is None:
            return False
        async with self._db.transaction() as connection:
            sealed = self._sealer.seal(secret, _place(factor.user_id))
            await SecondFactorRepository(connection).reseal(factor, sealed)
        return True

    async def _challenged(self, challenge_digest: str) -> User:
        async with self._db.read() as connection:
            challenge = await SecondFactorRepository(connection).find_challenge(challenge_digest)
            user = await UserRepository(connection).get(challenge.user_id) if challenge else None
        if challenge is None or user is None or not user.is_active:
            raise InvalidChallenge
        if challenge.password_digest != password_digest(user):
            raise InvalidChallenge
        return user

    async def _prove_again(self, user: User, code: str, device: Device) -> None:
        if not (await self.status(user.id)).is_enabled:
            raise NotFound("There is no second factor")
        if not await self._spent(user, code, device):
            raise _wrong_code()

    async def _spent(self, user: User, code: str, device: Device) -> bool:
        async def check() -> bool | None:
            async with self._db.transaction() as connection:
                return await self._spend(connection, user.id, code) or None

        return await self._judged(user, device, check) is not None

    async def _judged(
        self, user: User, device: Device, check: Callable[[], Awaitable[Found | None]]
    ) -> Found | None:
        """Check a code, None for a wrong one, within what may be guessed."""
        guess = Guess(
            user.id,
            user.username_key,
            device,
            Secret.CODE,
            failure=AuditKind.SECOND_FACTOR_REFUSED,
        )
        async with self._guesses.turn(guess):
            found = await check()
            await self._guesses.settle(guess, is_right=found is not None)
        return found

    async def _spend(self, connection: Connection, user_id: int, code: str) -> bool:
        """Use a code up, of the app or of those on paper; False where it is wrong or was used."""
        repository = SecondFactorRepository(connection)
        given = totp.normalised(code)
        if totp.is_recovery(given):
            is_used = await repository.use_code(user_id, *_digests(user_id, [given]))
            if is_used:
                act = Act(AuditKind.RECOVERY_CODE_USED, "user", user_id, actor_id=user_id)
                await record(connection, act)
            return is_used
        factor = await repository.get(user_id)
        step = self._matching_step(factor, given) if factor else None
        return step is not None and await repository.use_step(user_id, step)

    def _matching_step(self, factor: TotpFactor, code: str) -> int | None:
        secret = self._open(factor) if totp.is_totp(code) else None
        return totp.matching_step(secret, code, now()) if secret else None

    def _open(self, factor: TotpFactor) -> str | None:
        try:
            return self._sealer.open(factor.sealed_secret, _place(factor.user_id))
        except Unsealable:  # recovery codes need no key, and still work
            fields = {"user_id": factor.user_id}
            logger.exception("a second factor cannot be read", extra={"fields": fields})
            return None

    async def _tell(self, connection: Connection, letter: Letter, user: User) -> None:
        if self._post is not None:
            await self._post.put(connection, letter, user.email, time=said_time())

    @staticmethod
    async def _change(connection: Connection, user_id: int) -> None:
        """Let no sign-in begin beside this change, and have every worker look at the user anew."""
        await UserRepository(connection).change(user_id, {})


def _digests(user_id: int, codes: list[str]) -> list[str]:
    return [digest(f"{user_id}:{totp.normalised(code)}") for code in codes]


def _place(user_id: int) -> str:
    return f"totp_factors:{user_id}"


def _wrong_code() -> Unprocessable:
    return Unprocessable.field("code", "The code is wrong or was used before")
