"""The tokens that mails carry: each for one purpose, for a while, once; only digests are kept."""

from collections.abc import Iterable, Mapping
from datetime import timedelta
from enum import StrEnum

from app.adapters.database import Connection
from app.clock import now
from app.errors import InvalidOneTimeToken
from app.models.users import OneTimeToken, User
from app.repositories.one_time_tokens import OneTimeTokenRepository
from app.repositories.users import UserRepository
from app.security.opaque import digest, new_secret


class Purpose(StrEnum):
    """What a token is good for; for anything else it does not exist."""

    VERIFY = "verify"
    RESET = "reset"
    EMAIL_OLD = "email_old"
    EMAIL_NEW = "email_new"
    EMAIL_CANCEL = "email_cancel"


LIVES: Mapping[Purpose, timedelta] = {
    Purpose.VERIFY: timedelta(hours=24),
    Purpose.RESET: timedelta(hours=1),
    Purpose.EMAIL_OLD: timedelta(hours=24),
    Purpose.EMAIL_NEW: timedelta(hours=24),
    Purpose.EMAIL_CANCEL: timedelta(hours=24),
}


async def issue(connection: Connection, user_id: int, purpose: Purpose) -> str:
    """Return a new token; what was issued before for the same purpose ends.

    The caller holds the account: a token must not outlive a change of the address that it goes to.
    """
    repository = OneTimeTokenRepository(connection)
    await repository.revoke(user_id, [purpose])
    token = new_secret("kpm")
    expires_at = now() + LIVES[purpose]
    await repository.add(OneTimeToken(digest(token), purpose, user_id, None, expires_at))
    return token


async def owner(connection: Connection, token: str, *purposes: Purpose) -> User:
    """Return whose token it is, without spending it.

    Raises:
        InvalidOneTimeToken: it is good for none of these purposes (any more).
    """
    found = await _find(connection, token, purposes)
    user = await UserRepository(connection).get(found.user_id)
    if user is None or not user.is_active:
        raise InvalidOneTimeToken
    return user


async def spend(connection: Connection, token: str, *purposes: Purpose) -> tuple[User, Purpose]:
    """End a token, hold its account and return that; whatever it allows joins the transaction.

    Raises:
        InvalidOneTimeToken: it is good for none of these purposes (any more).
    """
    found = await _find(connection, token, purposes)
    # The account first, as whoever issues a token does: so no two wait for each other.
    user = await UserRepository(connection).hold(found.user_id)
    repository = OneTimeTokenRepository(connection)
    spent = await repository.spend(found.digest, found.purpose)
    if user is None or spent is None:
        raise InvalidOneTimeToken
    return user, Purpose(spent.purpose)


async def revoke(
    connection: Connection, user_id: int, purposes: Iterable[Purpose] = tuple(Purpose)
) -> None:
    """End an account's tokens, all of them where no purposes are named."""
    await OneTimeTokenRepository(connection).revoke(user_id, purposes)


async def _find(connection: Connection, token: str, purposes: tuple[Purpose, ...]) -> OneTimeToken:
    found = await OneTimeTokenRepository(connection).find(digest(token))
    if found is None or found.purpose not in purposes:
        raise InvalidOneTimeToken
    return found
