"""Who is behind a token, as of now: cached, and never older than the event tail is."""

from collections import OrderedDict
from collections.abc import Callable

from app.adapters.database import Database
from app.clock import now
from app.errors import InvalidToken
from app.repositories.sessions import SessionRepository, Standing
from app.security.principal import Principal, Role
from app.security.tokens import TokenIssuer, VerifiedTokens

MAX_PRINCIPALS = 10_000


class Authenticator:
    """Turns access tokens into principals.

    Roles, the active flag and the session's end are the database's, not the token's. They are
    remembered per session and forgotten when the event tail sees a change; while the tail cannot
    confirm that it has seen everything, each request asks the database.
    """

    def __init__(
        self,
        db: Database,
        tokens: TokenIssuer,
        tail_is_fresh: Callable[[], bool],
        *,
        admins_need_second_factor: bool = False,
    ) -> None:
        self._db = db
        self._admins_need_second_factor = admins_need_second_factor
        self._tokens = tokens
        self._tail_is_fresh = tail_is_fresh
        self._verified = VerifiedTokens()
        self._principals: OrderedDict[int, Principal] = OrderedDict()
        self._generation = 0  # counts what was forgotten, so that an older read is not kept
        self._used: set[int] = set()

    async def authenticate(self, token: str, *, fresh: bool = False) -> Principal:
        """Return the principal of an access token; with `fresh`, as the database says it now.

        Raises:
            InvalidToken: the token, its session or its user is not valid (any more).
        """
        moment = now()
        claims = self._verified.get(token, moment.timestamp())
        if claims is None:
            claims = self._tokens.verify(token, moment)
            self._verified.put(token, claims)
        self._used.add(claims.session_id)
        if not fresh and self._tail_is_fresh():
            known = self._principals.get(claims.session_id)
            if known is not None and known.user_id == claims.user_id:
                return known
        return await self.principal_of(claims.session_id, claims.user_id)

    async def principal_of(self, session_id: int, user_id: int) -> Principal:
        """Return the principal of a session, as the database says it now.

        Raises:
            InvalidToken: the session or its user is not valid (any more).
        """
        generation = self._generation
        async with self._db.read() as connection:
            standing = await SessionRepository(connection).standing(session_id)
        if standing is None or standing.user_id != user_id:
            raise InvalidToken
        principal = self._principal(session_id, standing)
        if generation == self._generation:
            self._principals[session_id] = principal
            if len(self._principals) > MAX_PRINCIPALS:
                self._principals.popitem(last=False)
        return principal

    def take_used(self) -> set[int]:
        """Return the ids of the sessions whose tokens came in since the last call."""
        used, self._used = self._used, set()
        return used

    def expires_at(self, token: str) -> int | None:
        """Return when a verified token runs out, in seconds since the epoch."""
        claims = self._verified.get(token, now().timestamp())
        return claims.expires_at if claims else None

    def forget_session(self, session_id: int) -> None:
        """Ask the database when this session is seen next."""
        self._generation += 1
        self._principals.pop(session_id, None)

    def forget_user(self, user_id: int) -> None:
        """Ask the database when any session of this user is seen next."""
        self._generation += 1
        known = [key for key, each in self._principals.items() if each.user_id == user_id]
        for session_id in known:
            del self._principals[session_id]

    def _principal(self, session_id: int, standing: Standing) -> Principal:
        roles = frozenset(Role(role) for role in standing.roles)
        needs_factor = (
            self._admins_need_second_factor
            and Role.ADMIN in roles
            and not standing.has_second_factor
        )
        power = roles - {Role.ADMIN} if needs_factor else roles
        return Principal(standing.user_id, session_id, power, needs_factor)
