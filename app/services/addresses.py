"""Whose an e-mail address is: confirming it, and changing it with both addresses' consent."""

from collections.abc import Callable
from datetime import timedelta

from app.adapters.database import Connection, Database
from app.clock import now
from app.errors import InvalidOneTimeToken, NotFound, RateLimited, Unprocessable
from app.mail.letters import Letter
from app.models.audit import AuditKind
from app.models.email_changes import EmailChange
from app.models.users import User
from app.repositories.audit import Act, record
from app.repositories.email_changes import EmailChangeRepository
from app.repositories.users import UserRepository
from app.security.names import folded
from app.services import one_time_tokens
from app.services.one_time_tokens import LIVES, Purpose
from app.services.post import Post

_COME_BACK = timedelta(hours=1)  # when an address has had its mails for now

_OF_A_CHANGE = (Purpose.EMAIL_OLD, Purpose.EMAIL_NEW, Purpose.EMAIL_CANCEL)


class Addresses:
    """Confirms addresses, at first and when they change."""

    def __init__(self, db: Database, post: Post, *, on_change: Callable[[int], None]) -> None:
        self._db = db
        self._post = post
        self._on_change = on_change

    async def verify(self, token: str) -> None:
        """Spend a token: the account's address is confirmed.

        Raises:
            InvalidOneTimeToken: it is no such token that is still good.
        """
        async with self._db.transaction() as connection:
            user, _ = await one_time_tokens.spend(connection, token, Purpose.VERIFY)
            await UserRepository(connection).change(user.id, {"is_verified": True})
            await record(connection, _by_mail(AuditKind.EMAIL_VERIFIED, user))
        self._on_change(user.id)

    async def ask_again(self, email: str) -> None:
        """Take a request for another link; a job answers it, if there is such an account."""
        if not await self._post.has_room(Letter.VERIFY, email):
            return
        async with self._db.transaction() as connection:
            await self._post.put_aside(connection, Letter.VERIFY, email)

    async def answer(self, email: str) -> None:
        """Send a link to the account with this address, if there is one that needs it."""
        async with self._db.transaction() as connection:
            users = UserRepository(connection)
            found = await users.find_by_login(folded(email), folded(email))
            user = await users.hold(found.id) if found else None
            if user is None or user.is_verified or user.email_key != folded(email):
                return
            await send_verification(connection, self._post, user)

    async def change(self, user: User, email: str) -> None:
        """Ask both addresses of an account, which has proven to be it, whether to change.

        Raises:
            NotFound: the account is gone.
            Unprocessable: it is the account's address already.
            RateLimited: one of the two has had too many mails of late.
        """
        if folded(email) == user.email_key:
            raise Unprocessable.field("email", "It is your address already")
        for letter, address in ((Letter.EMAIL_OLD, user.email), (Letter.EMAIL_NEW, email)):
            if not await self._post.has_room(letter, address):
                raise RateLimited(
                    "This address has had too many mails of late",
                    retry_after=int(_COME_BACK.total_seconds()),
                )
        async with self._db.transaction() as connection:
            held = await UserRepository(connection).hold(user.id)
            if held is None or held.email_key != user.email_key:
                raise NotFound("There is no such user")
            await self._ask_both(connection, held, email)
            await record(connection, Act(AuditKind.EMAIL_CHANGE_ASKED, "user", user.id))

    async def confirm(self, token: str) -> bool:
        """Spend the token of one of the two addresses; tell whether both have agreed by now.

        Raises:
            InvalidOneTimeToken: it is no such token that is still good.
            EmailTaken: another account was faster to take the address.
        """
        async with self._db.transaction() as connection:
            user, purpose = await one_time_tokens.spend(
                connection, token, Purpose.EMAIL_OLD, Purpose.EMAIL_NEW
            )
            changes = EmailChangeRepository(connection)
            change = await changes.agree(user.id, at_old=purpose is Purpose.EMAIL_OLD)
            if change is None:
                raise InvalidOneTimeToken
            if change.is_agreed:
                await self._apply(connection, user, change)
        if change.is_agreed:
            self._on_change(user.id)
        return change.is_agreed

    async def cancel(self, token: str) -> None:
        """Spend the token that stops a change.

        Raises:
            InvalidOneTimeToken: it is no such token that is still good.
        """
        async with self._db.transaction() as connection:
            user, _ = await one_time_tokens.spend(connection, token, Purpose.EMAIL_CANCEL)
            await end_change(connection, user.id)

    async def _ask_both(self, connection: Connection, user: User, email: str) -> None:
        key = folded(email)
        holder = await UserRepository(connection).find_by_login(key, key)
        expires_at = now() + LIVES[Purpose.EMAIL_NEW]
        change = EmailChange(user.id, email, key, None, None, expires_at)
        await EmailChangeRepository(connection).start(change)
        at_old, at_new, cancel = [
            await one_time_tokens.issue(connection, user.id, purpose) for purpose in _OF_A_CHANGE
        ]
        facts = {"new_email": email, "token": at_old, "cancel_token": cancel}
        await self._post.put(connection, Letter.EMAIL_OLD, user.email, **facts)
        if holder is not None:  # who is told, at the address as it was registered
            await self._post.put(connection, Letter.EMAIL_TAKEN, holder.email)
        else:
            await self._post.put(connection, Letter.EMAIL_NEW, email, token=at_new)

    async def _apply(self, connection: Connection, user: User, change: EmailChange) -> None:
        values = {"email": change.email, "email_key": change.email_key, "is_verified": True}
        await UserRepository(connection).change(user.id, values)
        await record(connection, _by_mail(AuditKind.EMAIL_CHANGED, user))
        await EmailChangeRepository(connection).forget(user.id)
        await one_time_tokens.revoke(connection, user.id)  # they went to the old address
        await self._post.put(connection, Letter.EMAIL_CHANGED, user.email, new_email=change.email)


def _by_mail(kind: AuditKind, user: User) -> Act:
    """Return the act of whoever has opened a link in an account's mail: its owner's."""
    return Act(kind, "user", user.id, actor_id=user.id)


async def send_verification(connection: Connection, post: Post, user: User) -> None:
    """Send a link that confirms an account's address; the caller holds the account."""
    token = await one_time_tokens.issue(connection, user.id, Purpose.VERIFY)
    await post.put(connection, Letter.VERIFY, user.email, token=token)


async def end_change(connection: Connection, user_id: int) -> None:
    """Drop what waits for two addresses to agree."""
    await EmailChangeRepository(connection).forget(user_id)
    await one_time_tokens.revoke(connection, user_id, _OF_A_CHANGE)
