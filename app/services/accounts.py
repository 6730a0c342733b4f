"""The life of an account: signing up, proving who one is, changing and leaving."""

import asyncio
import unicodedata
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any

from app.adapters.database import Connection, Database
from app.clock import now
from app.errors import AccountLocked, InvalidCredentials, LastAdmin, NotFound, Unprocessable
from app.models.users import LoginFailures, User
from app.repositories.items import ItemRepository
from app.repositories.login_failures import LoginFailureRepository
from app.repositories.sessions import SessionRepository
from app.repositories.users import UserRepository
from app.schemas.auth import PasswordChangeIn, RegisterIn
from app.schemas.users import ProfilePatch, UserPatch
from app.security.opaque import keyed_digest
from app.security.password_rules import weakness
from app.security.passwords import PasswordHasher
from app.security.principal import Principal, Role
from app.security.signing import derive_key
from app.services.sessions import Device, network_of

# From one neighbourhood: five free guesses, then a wait that doubles from a second.
_FREE_FAILURES = 5
_LONGEST_LOCK = timedelta(minutes=15)
# From anywhere: ten in a quarter of an hour. The owner gets in all the same, from a neighbourhood
# that signed in to this account before; or a stranger could lock people out for good.
_FREE_FAILURES_ANYWHERE = 10
_FAILURES_FORGOTTEN = timedelta(minutes=15)
_NEIGHBOURHOOD_KNOWN = timedelta(days=30)


def folded(name: str) -> str:
    """Return the form in which e-mail addresses and usernames compare."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold()).strip()


class Accounts:
    """The rules of accounts."""

    def __init__(
        self,
        db: Database,
        passwords: PasswordHasher,
        secret: bytes,
        *,
        on_change: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._db = db
        self._on_change = on_change  # told here at once; other workers hear of it by the event
        self._passwords = passwords
        self._key = derive_key(secret, "login-failures")
        self._guessing: dict[str, asyncio.Lock] = {}
        self._waiting: Counter[str] = Counter()

    async def register(self, body: RegisterIn, roles: tuple[Role, ...] = (Role.USER,)) -> User:
        """Create an account.

        Raises:
            EmailTaken, UsernameTaken: another account has it, in whatever case.
        """
        password_hash = await self._passwords.hash(body.password)
        async with self._db.transaction() as connection:
            return await UserRepository(connection).add(
                {
                    "email": body.email,
                    "email_key": folded(body.email),
                    "username": body.username,
                    "username_key": folded(body.username),
                    "full_name": body.full_name,
                    "password_hash": password_hash,
                    "roles": [role.value for role in roles],
                    "is_active": True,
                    "is_verified": False,
                }
            )

    async def prove(self, login: str, password: str, device: Device) -> User:
        """Return the account that a login name and password belong to.

        An unknown account takes the same time and gets the same answers.

        Raises:
            InvalidCredentials: they do not belong together, or the account is not active.
            AccountLocked: too many guesses before; with the time to wait.
        """
        name = folded(login)
        async with self._db.read() as connection:
            user = await UserRepository(connection).find_by_login(name, name)
        account = str(user.id) if user else name
        # One guess at a time: or a burst would be checked before any of it was counted.
        async with self._one_at_a_time(account):
            keys = self._failure_keys(account, device)
            await self._refuse_if_locked(keys, user, device)
            verification = await self._passwords.verify(
                password, user.password_hash if user else None
            )
            if user is None or not verification.ok or not user.is_active:
                await self._count_failure(keys)
                raise InvalidCredentials
            async with self._db.transaction() as connection:
                await LoginFailureRepository(connection).forget(*keys)
                if verification.new_hash:
                    await UserRepository(connection).set_password_hash(
                        user.id, verification.new_hash
                    )
        return user

    async def change_password(self, principal: Principal, body: PasswordChangeIn) -> None:
        """Set a new password and end every other session.

        Raises:
            Unprocessable: the current password is wrong, or the new one is weak.
        """
        user = await self.get(principal.user_id)
        verification = await self._passwords.verify(body.current_password, user.password_hash)
        if not verification.ok:
            raise Unprocessable.field("current_password", "The current password is wrong")
        found = weakness(body.new_password, user.username, user.email)
        if found:
            raise Unprocessable.field("new_password", found)
        password_hash = await self._passwords.hash(body.new_password)
        async with self._db.transaction() as connection:
            await UserRepository(connection).change(user.id, {"password_hash": password_hash})
            await SessionRepository(connection).end(user.id, but=principal.session_id)
        self._on_change(user.id)

    async def get(self, user_id: int) -> User:
        """Return an account.

        Raises:
            NotFound: there is none.
        """
        async with self._db.read() as connection:
            user = await UserRepository(connection).get(user_id)
        if user is None:
            raise NotFound("There is no such user")
        return user

    async def change(self, user_id: int, patch: ProfilePatch) -> User:
        """Change an account.

        Raises:
            NotFound: there is none.
            UsernameTaken: another account has the username.
            LastAdmin: nobody could administer the service any more.
        """
        values = _columns(patch)
        if not values:
            return await self.get(user_id)
        async with self._db.transaction() as connection:
            if "roles" in values or "is_active" in values:
                loses_admin = Role.ADMIN not in values.get("roles", [Role.ADMIN])
                if loses_admin or values.get("is_active") is False:
                    await _spare_last_admin(connection, user_id)
            user = await UserRepository(connection).change(user_id, values)
            if user is None:
                raise NotFound("There is no such user")
            if not user.is_active:
                await SessionRepository(connection).end(user_id)
        self._on_change(user_id)
        return user

    async def delete(self, user_id: int) -> None:
        """Delete an account: its items are deleted with it, its sessions end, its name is free.

        The row stays without any personal data, as what it once owned refers to it.

        Raises:
            NotFound: there is none.
            LastAdmin: nobody could administer the service any more.
        """
        async with self._db.transaction() as connection:
            await _spare_last_admin(connection, user_id)
            gone = f"deleted:{user_id}"
            user = await UserRepository(connection).change(
                user_id,
                {
                    "email": gone,
                    "email_key": gone,
                    "username": gone,
                    "username_key": gone,
                    "full_name": None,
                    "password_hash": None,
                    "roles": [],
                    "is_active": False,
                    "deleted_at": now(),
                },
            )
            if user is None:
                raise NotFound("There is no such user")
            await SessionRepository(connection).end(user_id)
            await ItemRepository(connection).delete_all_of(user_id)
        self._on_change(user_id)

    def _failure_keys(self, account: str, device: Device) -> tuple[str, str]:
        """Return the keys of the guesses from this neighbourhood and from anywhere."""
        near = keyed_digest(self._key, account, network_of(device.address))
        return near, keyed_digest(self._key, account)

    async def _refuse_if_locked(
        self, keys: tuple[str, str], user: User | None, device: Device
    ) -> None:
        near, anywhere = keys
        async with self._db.read() as connection:
            found = await LoginFailureRepository(connection).find(near, anywhere)
        if near in found:
            _refuse_until(found[near].locked_until)
        if anywhere in found and not await self._is_known_place(user, device):
            _refuse_until(found[anywhere].locked_until)

    async def _is_known_place(self, user: User | None, device: Device) -> bool:
        async with self._db.read() as connection:
            return (
                user is not None
                and device.address is not None
                and await SessionRepository(connection).used_from(
                    user.id, device.address, now() - _NEIGHBOURHOOD_KNOWN
                )
            )

    async def _count_failure(self, keys: tuple[str, str]) -> None:
        moment = now()
        async with self._db.transaction() as connection:
            repository = LoginFailureRepository(connection)
            found = await repository.find(*keys)
            for key, lock in zip(keys, (_growing_lock, _flat_lock), strict=True):
                before = found.get(key)
                is_recent = before and before.last_failed_at > moment - _FAILURES_FORGOTTEN
                failures = (before.failures if before and is_recent else 0) + 1
                await repository.store(LoginFailures(key, failures, lock(failures, moment), moment))

    @asynccontextmanager
    async def _one_at_a_time(self, account: str) -> AsyncIterator[None]:
        lock = self._guessing.setdefault(account, asyncio.Lock())
        self._waiting[account] += 1
        try:
            async with lock:
                yield
        finally:
            self._waiting[account] -= 1
            if not self._waiting[account]:
                del self._waiting[account], self._guessing[account]


def _growing_lock(failures: int, moment: datetime) -> datetime | None:
    if failures < _FREE_FAILURES:
        return None
    return moment + min(timedelta(seconds=2 ** (failures - _FREE_FAILURES)), _LONGEST_LOCK)


def _flat_lock(failures: int, moment: datetime) -> datetime | None:
    return moment + _FAILURES_FORGOTTEN if failures >= _FREE_FAILURES_ANYWHERE else None


def _refuse_until(locked_until: datetime | None) -> None:
    if locked_until is not None and locked_until > now():
        raise AccountLocked(retry_after=int((locked_until - now()).total_seconds()) + 1)


async def _spare_last_admin(connection: Connection, user_id: int) -> None:
    admins = await UserRepository(connection).lock_active_admins()
    if admins == [user_id]:
        raise LastAdmin


def _columns(patch: ProfilePatch) -> dict[str, Any]:
    values = patch.model_dump(exclude_unset=True)
    for field in ("username", "roles", "is_active"):
        if field in values and values[field] is None:
            raise Unprocessable.field(field, "It cannot be removed")
    if "username" in values:
        values["username_key"] = folded(values["username"])
    if isinstance(patch, UserPatch) and patch.roles is not None:
        values["roles"] = sorted({role.value for role in patch.roles})
    return values
