"""The way back in for who has forgotten the password: a link to the account's own address."""

from collections.abc import Callable

from app.adapters.database import Database
from app.errors import Unprocessable
from app.mail.letters import Letter
from app.models.audit import AuditKind
from app.repositories.api_keys import ApiKeyRepository
from app.repositories.audit import Act, record
from app.repositories.email_changes import EmailChangeRepository
from app.repositories.identities import IdentityRepository
from app.repositories.sessions import SessionRepository
from app.repositories.users import UserRepository
from app.schemas.auth import PasswordResetIn
from app.security.names import folded
from app.security.password_rules import weakness
from app.security.passwords import PasswordHasher
from app.services import one_time_tokens
from app.services.one_time_tokens import Purpose
from app.services.post import Post, said_time


class Recovery:
    """Sends links that set a new password, and sets it."""

    def __init__(
        self,
        db: Database,
        passwords: PasswordHasher,
        post: Post,
        *,
        on_change: Callable[[int], None],
    ) -> None:
        self._db = db
        self._passwords = passwords
        self._post = post
        self._on_change = on_change

    async def ask(self, email: str) -> None:
        """Take a request for a link; a job answers it, if there is such an account."""
        if not await self._post.has_room(Letter.RESET, email):
            return
        async with self._db.transaction() as connection:
            await self._post.put_aside(connection, Letter.RESET, email)

    async def answer(self, email: str) -> None:
        """Send a link to the account with this address, if there is one that may sign in."""
        async with self._db.transaction() as connection:
            users = UserRepository(connection)
            found = await users.find_by_login(folded(email), folded(email))
            user = await users.hold(found.id) if found else None
            if user is None or user.email_key != folded(email):
                return
            token = await one_time_tokens.issue(connection, user.id, Purpose.RESET)
            await self._post.put(connection, Letter.RESET, user.email, token=token)

    async def reset(self, body: PasswordResetIn) -> None:
        """Spend a token for a new password; every session and every other token ends with it.

        Raises:
            InvalidOneTimeToken: it is no reset token that is still good.
            Unprocessable: the new password is weak; the token stays good.
        """
        async with self._db.read() as connection:
            user = await one_time_tokens.owner(connection, body.token, Purpose.RESET)
        found = weakness(body.password, user.username, user.email)
        if found:
            raise Unprocessable.field("password", found)
        password_hash = await self._passwords.hash(body.password)
        async with self._db.transaction() as connection:
            user, _ = await one_time_tokens.spend(connection, body.token, Purpose.RESET)
            # Who could read the mail has shown that the address is theirs.
            changes = {"password_hash": password_hash, "is_verified": True}
            await UserRepository(connection).change(user.id, changes)
            await SessionRepository(connection).end(user.id)
            act = Act(AuditKind.PASSWORD_RESET, "user", user.id, actor_id=user.id)
            await record(connection, act)
            if not user.is_verified:
                # Somebody else may have registered with this address, and linked a way in.
                await IdentityRepository(connection).remove(user.id)
                await ApiKeyRepository(connection).delete_all_of(user.id)
            await one_time_tokens.revoke(connection, user.id)
            await EmailChangeRepository(connection).forget(user.id)
            await self._post.put(connection, Letter.PASSWORD_CHANGED, user.email, time=said_time())
        self._on_change(user.id)
