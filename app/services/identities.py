"""Whose account an identity at a provider opens, and which identities an account has."""

import re
import secrets
from collections.abc import Collection

from pydantic import EmailStr, TypeAdapter, ValidationError

from app.adapters.database import Connection, Database
from app.adapters.oidc import Proven
from app.errors import (
    AccountSuspended,
    EmailNeeded,
    EmailTaken,
    IdentityTaken,
    LastWayIn,
    LinkNeeded,
    NotFound,
    UsernameTaken,
)
from app.models.audit import AuditKind
from app.models.identities import Identity
from app.models.users import User
from app.repositories.audit import Act, record
from app.repositories.identities import IdentityRepository
from app.repositories.users import UserRepository
from app.schemas.users import Username
from app.security.names import email_fault, folded
from app.security.principal import Role

_MAX_EMAIL = 254  # as at registration
_MAX_FULL_NAME = 100
_MAX_STEM = 40  # leaves room for what tells two of a name apart
_TRIES = 5
_EMAIL: TypeAdapter[str] = TypeAdapter(EmailStr)
_USERNAME: TypeAdapter[str] = TypeAdapter(Username)


class Identities:
    """Links accounts to identities that a provider has vouched for."""

    def __init__(self, db: Database, providers: Collection[str]) -> None:
        self._db = db
        self._providers = providers

    async def user_of(self, provider: str, proven: Proven) -> User:
        """Return the account that an identity opens; a new person gets one.

        Raises:
            LinkNeeded: an account has the address, but may belong to somebody else.
            EmailNeeded: the person is new, and the provider tells no address.
            AccountSuspended: the account may not be used.
        """
        for attempt in range(_TRIES):
            try:
                async with self._db.transaction() as connection:
                    return await _resolved(connection, provider, proven, attempt)
            except LinkNeeded:
                raise
            except (EmailTaken, UsernameTaken, IdentityTaken):
                continue  # somebody was faster: with the name, or it is the same person twice
        raise UsernameTaken

    async def link(self, user_id: int, provider: str, proven: Proven) -> Identity:
        """Link an identity to the account of somebody who has just proven to have both.

        Raises:
            IdentityTaken: it opens another account.
        """
        async with self._db.transaction() as connection:
            repository = IdentityRepository(connection)
            known = await repository.find(provider, proven.subject)
            if known is None:
                made = await repository.add(
                    user_id=user_id,
                    provider=provider,
                    subject=proven.subject,
                    email=_acceptable_email(proven),
                )
                await record(connection, _linked(made))
                return made
        if known.user_id != user_id:
            raise IdentityTaken
        return known

    async def listed(self, user_id: int) -> list[Identity]:
        """Return a user's identities."""
        async with self._db.read() as connection:
            return await IdentityRepository(connection).of_user(user_id)

    async def unlink(self, user_id: int, identity_id: int) -> None:
        """Unlink an identity, as long as there is another way in.

        Raises:
            NotFound: the user has no such identity.
            LastWayIn: nobody could sign in to the account any more.
        """
        async with self._db.transaction() as connection:
            repository = IdentityRepository(connection)
            has_password = await repository.hold_owner(user_id)
            known = await repository.of_user(user_id)
            if identity_id not in {each.id for each in known}:
                raise NotFound("There is no such identity")
            # One of a provider that settings do not name any more opens nothing.
            others = [
                each
                for each in known
                if each.id != identity_id and each.provider in self._providers
            ]
            if not has_password and not others:
                raise LastWayIn
            await repository.remove(user_id, only=identity_id)
            act = Act(AuditKind.IDENTITY_UNLINKED, "identity", identity_id, actor_id=user_id)
            await record(connection, act)


async def _resolved(connection: Connection, provider: str, proven: Proven, attempt: int) -> User:
    repository, users = IdentityRepository(connection), UserRepository(connection)
    email = _acceptable_email(proven)
    identity = await repository.find(provider, proven.subject)
    if identity is not None:
        user = await users.get(identity.user_id)
        if user is None or not user.is_active:
            raise AccountSuspended
        await repository.note_use(identity, email)
        return user
    if email is None:
        raise EmailNeeded
    user = await users.find_by_login(folded(email), folded(email))
    if user is None:
        user = await users.add(_new_account(proven, email, attempt))
        detail = {"roles": list(user.roles), "provider": provider}
        await record(connection, Act(AuditKind.REGISTERED, "user", user.id, detail=detail))
    elif not _is_same_person(user, proven, email):
        raise LinkNeeded
    elif not user.is_active:
        raise AccountSuspended
    made = await repository.add(
        user_id=user.id, provider=provider, subject=proven.subject, email=email
    )
    await record(connection, _linked(made))
    return user


def _linked(identity: Identity) -> Act:
    """Return the act of linking an identity: its owner's, who has just proven to be it."""
    return Act(
        AuditKind.IDENTITY_LINKED,
        "identity",
        identity.id,
        actor_id=identity.user_id,
        detail={"provider": identity.provider},
    )


def _is_same_person(user: User, proven: Proven, email: str) -> bool:
    """Tell whether both sides have seen that their person reads mail at the very same address.

    One side alone is not enough: whoever registers here, or there, with the address of somebody
    else must not meet them in one account. Nor are names that only compare alike.
    """
    is_verified = user.is_verified and proven.is_email_verified
    return is_verified and user.email.lower() == email.lower()


def _new_account(proven: Proven, email: str, attempt: int) -> dict[str, object]:
    username = _username(proven, attempt)
    return {
        "email": email,
        "email_key": folded(email),
        "username": username,
        "username_key": folded(username),
        "full_name": (proven.name or "")[:_MAX_FULL_NAME].strip() or None,
        "password_hash": None,
        "roles": [Role.USER.value],
        "is_active": True,
        "is_verified": proven.is_email_verified,
    }


def _username(proven: Proven, attempt: int) -> str:
    """Return a name for a new account: the person's own, told apart from others if need be.

    It is public, so nothing of the e-mail address is in it.
    """
    for wanted in (proven.username, proven.name):
        if not wanted or "@" in wanted:
            continue
        stem = re.sub(r"[^\w.-]+", "-", wanted)[:_MAX_STEM].strip("-._")
        name = stem if attempt == 0 else f"{stem}-{secrets.token_hex(3)}"
        try:
            return _USERNAME.validate_python(name)
        except ValidationError:
            continue
    return f"user-{secrets.token_hex(5)}"


def _acceptable_email(proven: Proven) -> str | None:
    """Return the address as an account could have it, None where it could not."""
    if proven.email is None or len(proven.email) > _MAX_EMAIL:
        return None
    try:
        email = _EMAIL.validate_python(proven.email)
    except ValidationError:
        return None
    return None if email_fault(email) else email
