"""How often a password or code may be guessed: few times, without locking its owner out."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from app.adapters.database import Connection, Database
from app.clock import now
from app.errors import AccountLocked
from app.models.audit import AuditKind
from app.models.users import LoginFailures
from app.repositories.audit import Act, record
from app.repositories.login_failures import LoginFailureRepository
from app.repositories.sessions import SessionRepository
from app.security.opaque import keyed_digest
from app.security.signing import derive_key
from app.services.sessions import Device, network_of

# From one neighbourhood: five free guesses, then a wait that grows fourfold from a second, so that
# the tenth is followed by a quarter of an hour.
_FREE_FAILURES = 5
_GROWTH = 4
_LONGEST_LOCK = timedelta(minutes=15)
# From anywhere: ten in a quarter of an hour. The owner gets in all the same, from a neighbourhood
# that signed in to this account before; or a stranger could lock people out for good.
_FREE_FAILURES_ANYWHERE = 10
_FAILURES_FORGOTTEN = timedelta(minutes=15)
_NEIGHBOURHOOD_KNOWN = timedelta(days=30)


class Secret(StrEnum):
    """What is guessed at; each is counted by itself."""

    PASSWORD = "password"  # noqa: S105 - the name of a kind
    CODE = "code"

    @property
    def forgotten_after(self) -> timedelta:
        """After what time without another failure the count starts anew.

        Three of a million codes are right at a time: whoever has the password already must not
        get ten more guesses every quarter of an hour, but one.
        """
        return _FAILURES_FORGOTTEN if self is Secret.PASSWORD else timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Guess:
    """One attempt: whose secret, or under which name that nobody has, and from where."""

    user_id: int | None
    name: str
    device: Device
    secret: Secret = Secret.PASSWORD
    failure: AuditKind = AuditKind.SIGN_IN_FAILED  # what it is remembered as, if it is wrong

    @property
    def account(self) -> str:
        """Whom the guess counts against; a name that is a number is nobody's id."""
        if self.secret is Secret.CODE:
            return f"code:{self.user_id}"
        return f"name:{self.name}" if self.user_id is None else f"user:{self.user_id}"


class Guesses:
    """Counts wrong guesses, the same for all workers."""

    def __init__(self, db: Database, secret: bytes) -> None:
        self._db = db
        self._key = derive_key(secret, "login-failures")
        self._turns: dict[str, asyncio.Lock] = {}
        self._waiting: Counter[str] = Counter()

    @asynccontextmanager
    async def turn(self, guess: Guess) -> AsyncIterator[None]:
        """Check a guess inside, then settle it; a process checks one at a time for each account.

        Raises:
            AccountLocked: too many were wrong before; with the time to wait.
        """
        async with self._one_at_a_time(guess.account):
            async with self._db.read() as connection:
                await self._refuse_if_locked(connection, guess)
            yield

    async def settle(self, guess: Guess, *, is_right: bool) -> None:
        """Count a guess that was wrong; forget the neighbourhood's, not all others', if right.

        Whatever the guess was, nobody learns it if other workers have let too many pass meanwhile.

        Raises:
            AccountLocked: they have.
        """
        near, anywhere = self._keys(guess)
        async with self._db.transaction() as connection:
            repository = LoginFailureRepository(connection)
            await repository.hold(anywhere)
            counted = await self._refuse_if_locked(connection, guess)
            if is_right and near in counted:
                await repository.forget(near)
            elif not is_right:
                locks = await _count(repository, near, anywhere, guess.secret)
                kinds = [guess.failure, *([AuditKind.LOCKED_OUT] if locks else [])]
                # Not the name: what nobody is called may be a password in the wrong field.
                await record(connection, *(Act(kind, "user", guess.user_id) for kind in kinds))

    def _keys(self, guess: Guess) -> tuple[str, str]:
        """Return the keys of the guesses from this neighbourhood and from anywhere."""
        near = keyed_digest(self._key, guess.account, network_of(guess.device.address))
        return near, keyed_digest(self._key, guess.account)

    async def _refuse_if_locked(
        self, connection: Connection, guess: Guess
    ) -> Mapping[str, LoginFailures]:
        """Return what is counted by now, or say how long to wait."""
        near, anywhere = self._keys(guess)
        found = await LoginFailureRepository(connection).find(near, anywhere)
        if near in found:
            _refuse_until(found[near].locked_until)
        if anywhere in found and not await _is_known_place(connection, guess):
            _refuse_until(found[anywhere].locked_until)
        return found

    @asynccontextmanager
    async def _one_at_a_time(self, account: str) -> AsyncIterator[None]:
        # A burst would be hashed to its end before any of it was counted.
        lock = self._turns.setdefault(account, asyncio.Lock())
        self._waiting[account] += 1
        try:
            async with lock:
                yield
        finally:
            self._waiting[account] -= 1
            if not self._waiting[account]:
                del self._waiting[account], self._turns[account]


async def _count(
    repository: LoginFailureRepository, near: str, anywhere: str, secret: Secret
) -> bool:
    """Count one more; tell whether the next has to wait."""
    moment, locks = now(), False
    found = await repository.find(near, anywhere)
    for key, lock in ((near, _growing_lock), (anywhere, _flat_lock)):
        before = found.get(key)
        is_recent = before and before.last_failed_at > moment - secret.forgotten_after
        failures = (before.failures if before and is_recent else 0) + 1
        until = lock(failures, moment)
        locks |= until is not None
        await repository.store(LoginFailures(key, failures, until, moment))
    return locks


async def _is_known_place(connection: Connection, guess: Guess) -> bool:
    since = now() - _NEIGHBOURHOOD_KNOWN
    # Asked for accounts that do not exist as well, so that they take the same time.
    used = await SessionRepository(connection).addresses_since(guess.user_id or 0, since)
    return guess.device.address is not None and network_of(guess.device.address) in {
        network_of(address) for address in used
    }


def _growing_lock(failures: int, moment: datetime) -> datetime | None:
    if failures < _FREE_FAILURES:
        return None
    wait = _GROWTH ** (failures - _FREE_FAILURES)
    return moment + timedelta(seconds=min(wait, _LONGEST_LOCK.total_seconds()))


def _flat_lock(failures: int, moment: datetime) -> datetime | None:
    return moment + _FAILURES_FORGOTTEN if failures >= _FREE_FAILURES_ANYWHERE else None


def _refuse_until(locked_until: datetime | None) -> None:
    if locked_until is not None and locked_until > now():
        raise AccountLocked(retry_after=int((locked_until - now()).total_seconds()) + 1)
