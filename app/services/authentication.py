"""Who is behind a token or an API key: cached, and never older than the event tail is."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

from app.adapters.database import Database
from app.clock import now
from app.errors import InvalidApiKey, InvalidToken
from app.repositories.api_keys import ApiKeyRepository, KeyStanding
from app.repositories.sessions import SessionRepository, Standing
from app.security.api_keys import is_well_formed
from app.security.opaque import digest
from app.security.principal import KeyGrant, Principal, Role
from app.security.scopes import Scope
from app.security.tokens import TokenIssuer, VerifiedTokens

MAX_PRINCIPALS = 10_000

Name = TypeVar("Name")


class Principals(Generic[Name]):
    """Remembers principals under a name, the session's id or the digest of a key."""

    def __init__(self) -> None:
        self._known: OrderedDict[Name, Principal] = OrderedDict()
        self.generation = 0  # counts what was forgotten, so that an older read is not kept

    def get(self, name: Name) -> Principal | None:
        """Return the principal, if it is known."""
        return self._known.get(name)

    def put(self, name: Name, principal: Principal, *, read_at: int) -> None:
        """Remember a principal, unless something was forgotten since the generation `read_at`."""
        if read_at != self.generation:
            return
        self._known[name] = principal
        if len(self._known) > MAX_PRINCIPALS:
            self._known.popitem(last=False)

    def forget(self, is_meant: Callable[[Principal], bool]) -> None:
        """Forget all principals that are meant."""
        self.generation += 1
        for name in [name for name, each in self._known.items() if is_meant(each)]:
            del self._known[name]

    def forget_one(self, name: Name) -> None:
        """Forget one principal."""
        self.generation += 1
        self._known.pop(name, None)


class Authenticator:
    """Turns access tokens and API keys into principals.

    Roles, the active flag, the session's end and the key's are the database's, not the token's.
    They are remembered and forgotten when the event tail sees a change; while the tail cannot
    confirm that it has seen everything, each request asks the database.
    """

    def __init__(
        self,
        db: Database,
        tokens: TokenIssuer,
        tail_is_fresh: Callable[[], bool],
        *,
        on_key_use: Callable[[int], None],
        admins_need_second_factor: bool,
    ) -> None:
        self._db = db
        self._admins_need_second_factor = admins_need_second_factor
        self._tokens = tokens
        self._tail_is_fresh = tail_is_fresh
        self._on_key_use = on_key_use
        self._verified = VerifiedTokens()
        self._by_session: Principals[int] = Principals()
        self._by_key: Principals[str] = Principals()
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
            known = self._by_session.get(claims.session_id)
            if known is not None and known.user_id == claims.user_id:
                return known
        return await self.principal_of(claims.session_id, claims.user_id)

    async def authenticate_key(self, secret: str, *, fresh: bool = False) -> Principal:
        """Return the principal of an API key; with `fresh`, as the database says it now.

        Raises:
            InvalidApiKey: the key or its owner is not valid (any more).
        """
        hashed = digest(secret)
        principal = None if fresh or not self._tail_is_fresh() else self._by_key.get(hashed)
        if principal is None or _is_over(principal):
            if not is_well_formed(secret):
                raise InvalidApiKey
            principal = await self._principal_of_key(hashed)
        if principal.key is not None:
            self._on_key_use(principal.key.key_id)
        return principal

    async def again(self, principal: Principal) -> Principal:
        """Return the same principal as the database says it now.

        Raises:
            Unauthenticated: its session, key or user is not valid any more.
        """
        if principal.key is not None:
            return await self._principal_of_key(principal.key.digest)
        return await self.principal_of(principal.session_id, principal.user_id)

    async def principal_of(self, session_id: int, user_id: int) -> Principal:
        """Return the principal of a session, as the database says it now.

        Raises:
            InvalidToken: the session or its user is not valid (any more).
        """
        generation = self._by_session.generation
        async with self._db.read() as connection:
            standing = await SessionRepository(connection).standing(session_id)
        if standing is None or standing.user_id != user_id:
            raise InvalidToken
        principal = self._principal(standing, session_id=session_id)
        self._by_session.put(session_id, principal, read_at=generation)
        return principal

    async def _principal_of_key(self, hashed: str) -> Principal:
        generation = self._by_key.generation
        async with self._db.read() as connection:
            standing = await ApiKeyRepository(connection).standing(hashed)
        if standing is None:
            raise InvalidApiKey
        scopes = frozenset(Scope(scope) for scope in standing.scopes)
        grant = KeyGrant(standing.key_id, hashed, scopes, standing.ends_at)
        principal = self._principal(standing, key=grant)
        self._by_key.put(hashed, principal, read_at=generation)
        return principal

    def take_used(self) -> set[int]:
        """Return the ids of the sessions whose tokens came in since the last call."""
        used, self._used = self._used, set()
        return used

    def expires_at(self, token: str) -> int | None:
        """Return when a verified token runs out, in seconds since the epoch."""
        claims = self._verified.get(token, now().timestamp())
        return claims.expires_at if claims else None

    def forget_tokens(self) -> None:
        """Verify every token anew: the keys have changed."""
        self._verified.clear()

    def forget_session(self, session_id: int) -> None:
        """Ask the database when this session is seen next."""
        self._by_session.forget_one(session_id)

    def forget_key(self, key_id: int) -> None:
        """Ask the database when a secret of this key is seen next."""
        self._by_key.forget(lambda each: each.key is not None and each.key.key_id == key_id)

    def forget_user(self, user_id: int) -> None:
        """Ask the database when any session or key of this user is seen next."""
        self._by_session.forget(lambda each: each.user_id == user_id)
        self._by_key.forget(lambda each: each.user_id == user_id)

    def _principal(
        self, standing: Standing | KeyStanding, *, session_id: int = 0, key: KeyGrant | None = None
    ) -> Principal:
        roles = frozenset(Role(role) for role in standing.roles)
        needs_factor = (
            self._admins_need_second_factor
            and Role.ADMIN in roles
            and not standing.has_second_factor
        )
        power = roles - {Role.ADMIN} if needs_factor else roles
        return Principal(standing.user_id, session_id, power, key, needs_factor)


def _is_over(principal: Principal) -> bool:
    ends_at = principal.key.ends_at if principal.key else None
    return ends_at is not None and ends_at <= now()
