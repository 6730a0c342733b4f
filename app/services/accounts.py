"""The life of an account: signing up, proving who one is, changing and leaving."""

from collections.abc import Callable
from typing import Any

from app.adapters.database import Connection, Database
from app.clock import now
from app.errors import Forbidden, InvalidCredentials, LastAdmin, NotFound, Unprocessable
from app.mail.letters import Letter
from app.models.audit import AuditKind
from app.models.users import User
from app.repositories.api_keys import ApiKeyRepository
from app.repositories.audit import Act, record
from app.repositories.email_changes import EmailChangeRepository
from app.repositories.identities import IdentityRepository
from app.repositories.items import ItemRepository
from app.repositories.second_factor import SecondFactorRepository
from app.repositories.sessions import SessionRepository
from app.repositories.users import UserRepository
from app.repositories.webhooks import WebhookRepository
from app.schemas.auth import PasswordChangeIn, RegisterIn
from app.schemas.users import ProfilePatch, UserPatch
from app.security.names import folded
from app.security.password_rules import weakness
from app.security.passwords import PasswordHasher
from app.security.principal import Principal, Role
from app.services import one_time_tokens
from app.services.addresses import end_change, send_verification
from app.services.guesses import Guess, Guesses
from app.services.one_time_tokens import Purpose
from app.services.post import Post, said_time
from app.services.sessions import Device


class Accounts:
    """The rules of accounts."""

    def __init__(
        self,
        db: Database,
        passwords: PasswordHasher,
        secret: bytes,
        *,
        post: Post | None = None,
        on_change: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._db = db
        self._post = post  # none on the command line: whoever is made there needs no mail
        self._on_change = on_change  # told here at once; other workers hear of it by the event
        self._passwords = passwords
        self._guesses = Guesses(db, secret)

    async def register(self, body: RegisterIn, roles: tuple[Role, ...] = (Role.USER,)) -> User:
        """Create an account, and send a link that confirms its address.

        Raises:
            EmailTaken, UsernameTaken: another account has it, in whatever case.
        """
        password_hash = await self._passwords.hash(body.password)
        post = self._post
        # Not counted with what else asks for this letter: who fails to register with somebody's
        # address must not keep their mails away.
        is_written_to = post is not None and await post.has_room("register", body.email)
        async with self._db.transaction() as connection:
            user = await UserRepository(connection).add(
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
            detail = {"roles": list(user.roles)}
            await record(connection, Act(AuditKind.REGISTERED, "user", user.id, detail=detail))
            if post is not None and is_written_to:
                await send_verification(connection, post, user)
            return user

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
        guess = Guess(user.id if user else None, name, device)
        async with self._guesses.turn(guess):
            verification = await self._passwords.verify(
                password, user.password_hash if user else None
            )
            is_right = user is not None and user.is_active and verification.ok
            await self._guesses.settle(guess, is_right=is_right)
        if user is None or not is_right:
            raise InvalidCredentials
        if verification.new_hash is None:
            return user
        async with self._db.transaction() as connection:
            await UserRepository(connection).rehash(user, verification.new_hash)
        return user._replace(password_hash=verification.new_hash)

    async def change_password(
        self, principal: Principal, body: PasswordChangeIn, device: Device
    ) -> None:
        """Set a new password and end every other session.

        Raises:
            Unprocessable: the current password is wrong, or the new one is weak.
            AccountLocked: too many guesses before, here or at signing in.
        """
        user = await self.prove_again(
            principal.user_id, body.current_password, device, field="current_password"
        )
        found = weakness(body.new_password, user.username, user.email)
        if found:
            raise Unprocessable.field("new_password", found)
        password_hash = await self._passwords.hash(body.new_password)
        async with self._db.transaction() as connection:
            await UserRepository(connection).change(user.id, {"password_hash": password_hash})
            await SessionRepository(connection).end(user.id, but=principal.session_id)
            await one_time_tokens.revoke(connection, user.id, [Purpose.RESET])
            await end_change(connection, user.id)
            if self._post is not None:
                facts = {"time": said_time()}
                await self._post.put(connection, Letter.PASSWORD_CHANGED, user.email, **facts)
            await record(connection, Act(AuditKind.PASSWORD_CHANGED, "user", user.id))
        self._on_change(user.id)

    async def prove_again(
        self, user_id: int, password: str, device: Device, *, field: str = "password"
    ) -> User:
        """Return an account whose owner gives the password once more, in a field of the body.

        Raises:
            Unprocessable: it is wrong.
            AccountLocked: too many guesses before, here or at signing in.
        """
        user = await self.get(user_id)
        guess = Guess(user.id, user.username_key, device, failure=AuditKind.PASSWORD_REFUSED)
        async with self._guesses.turn(guess):
            verification = await self._passwords.verify(password, user.password_hash)
            await self._guesses.settle(guess, is_right=verification.ok)
        if not verification.ok:
            raise Unprocessable.field(field, "The current password is wrong")
        return user

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

    async def change(self, user_id: int, patch: ProfilePatch, caller: Principal) -> User:
        """Change an account.

        Raises:
            NotFound: there is none.
            UsernameTaken: another account has the username.
            LastAdmin: nobody could administer the service any more.
            Forbidden: the caller is no admin any more.
        """
        values = _columns(patch)
        return await self._change(user_id, values, caller) if values else await self.get(user_id)

    async def suspend(self, user_id: int, reason: str, caller: Principal) -> User:
        """Keep an account out: all its sessions end, and signing in is as with a wrong password.

        Raises:
            NotFound, LastAdmin, Forbidden: as in `change`.
        """
        return await self._change(user_id, {"is_active": False, "suspended_for": reason}, caller)

    async def unsuspend(self, user_id: int, caller: Principal) -> User:
        """Let an account in again.

        Raises:
            NotFound, Forbidden: as in `change`.
        """
        return await self._change(user_id, {"is_active": True, "suspended_for": None}, caller)

    async def _change(self, user_id: int, values: dict[str, Any], caller: Principal) -> User:
        async with self._db.transaction() as connection:
            if "roles" in values or "is_active" in values:
                loses_admin = Role.ADMIN not in values.get("roles", [Role.ADMIN])
                is_lost = loses_admin or values.get("is_active") is False
                await _hold_admins(connection, caller, lost=user_id if is_lost else None)
            repository = UserRepository(connection)
            before = await repository.get(user_id)
            user = await repository.change(user_id, values)
            if before is None or user is None:
                raise NotFound("There is no such user")
            if not user.is_active:
                await SessionRepository(connection).end(user_id)
            acts = _acts(before, user)
            if acts:
                await record(connection, *acts)
        self._on_change(user_id)
        return user

    async def delete(self, user_id: int, caller: Principal) -> None:
        """Delete an account with its items and webhooks: its sessions end, its name is free.

        The row stays without any personal data, as what it once owned refers to it.

        Raises:
            NotFound, LastAdmin, Forbidden: as in `change`.
        """
        async with self._db.transaction() as connection:
            await _hold_admins(connection, caller, lost=user_id)
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
                    "suspended_for": None,
                    "deleted_at": now(),
                },
            )
            if user is None:
                raise NotFound("There is no such user")
            await SessionRepository(connection).end(user_id)
            await SecondFactorRepository(connection).remove(user_id)
            await IdentityRepository(connection).remove(user_id)
            await ApiKeyRepository(connection).delete_all_of(user_id)
            await ItemRepository(connection).delete_all_of(user_id)
            await WebhookRepository(connection).delete_all_of(user_id)
            await one_time_tokens.revoke(connection, user_id)
            await EmailChangeRepository(connection).forget(user_id)
            await record(connection, Act(AuditKind.DELETED, "user", user_id))
        self._on_change(user_id)


async def _hold_admins(connection: Connection, caller: Principal, *, lost: int | None) -> None:
    """Let no other change of admins pass until this one is committed; spare the last of them.

    Two admins who remove one another at the same moment come here one after the other: the second
    is no admin any more.

    Raises:
        Forbidden: the caller was an admin when the request came, and is none now.
        LastAdmin: the account that would be lost as an admin is the only one.
    """
    admins = await UserRepository(connection).lock_active_admins()
    if caller.user_id not in admins and caller.user_id != lost:
        raise Forbidden
    if admins == [lost]:
        raise LastAdmin


def _acts(before: User, after: User) -> list[Act]:
    """Return what a change of an account was, in the words of the audit log."""
    acts: list[Act] = []
    if set(before.roles) != set(after.roles):
        roles = {"from": list(before.roles), "to": list(after.roles)}
        acts.append(Act(AuditKind.ROLES_CHANGED, "user", after.id, detail=roles))
    was, now_is = ((each.is_active, each.suspended_for) for each in (before, after))
    if was != now_is and not after.is_active:
        reason = {"reason": after.suspended_for}
        acts.append(Act(AuditKind.SUSPENDED, "user", after.id, detail=reason))
    elif was != now_is:
        acts.append(Act(AuditKind.UNSUSPENDED, "user", after.id))
    fields = [f for f in ("username", "full_name") if getattr(before, f) != getattr(after, f)]
    if fields:
        acts.append(Act(AuditKind.USER_CHANGED, "user", after.id, detail={"fields": fields}))
    return acts


def _columns(patch: ProfilePatch) -> dict[str, Any]:
    values = patch.model_dump(exclude_unset=True)
    for field in ("username", "roles", "is_active"):
        if field in values and values[field] is None:
            raise Unprocessable.field(field, "It cannot be removed")
    if "username" in values:
        values["username_key"] = folded(values["username"])
    if isinstance(patch, UserPatch) and patch.roles is not None:
        values["roles"] = sorted({role.value for role in patch.roles})
    if values.get("is_active"):
        values["suspended_for"] = None
    return values
