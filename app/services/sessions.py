"""Signing in, staying signed in and signing out."""

import hmac
import ipaddress
import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from app.adapters.database import Connection, Database
from app.clock import now
from app.errors import InvalidCredentials, InvalidToken, SecondFactorRequired, TokenReused
from app.models.audit import AuditKind
from app.models.users import OneTimeToken, Session, User
from app.repositories.audit import Act, record
from app.repositories.one_time_tokens import OneTimeTokenRepository
from app.repositories.second_factor import SecondFactorRepository
from app.repositories.sessions import SessionRepository
from app.repositories.users import UserRepository
from app.schemas.auth import TokenPair
from app.security.opaque import digest, keyed_digest, new_secret
from app.security.principal import Principal
from app.security.signing import derive_key
from app.security.tokens import TokenIssuer
from app.services.authentication import Authenticator
from app.services.challenges import CHALLENGE_LIFE, new_challenge

REFRESH_GRACE = timedelta(seconds=10)  # two tabs waking together, or an answer that got lost
TICKET_LIFE = timedelta(seconds=30)
_PREFIX = "kpr_"


@dataclass(frozen=True, slots=True)
class Device:
    """Where a sign-in comes from."""

    address: str | None
    user_agent: str | None


OnOpen = Callable[[Connection, User, Device], Awaitable[None]]


class Sessions:
    """Opens, continues and ends sessions."""

    def __init__(
        self,
        db: Database,
        tokens: TokenIssuer,
        authenticator: Authenticator,
        *,
        secrets: Sequence[bytes],
        idle_life: timedelta,
        longest_life: timedelta,
        on_open: OnOpen,
    ) -> None:
        self._db = db
        self._tokens = tokens
        self._authenticator = authenticator
        self._keys = [derive_key(each, "refresh-token") for each in secrets]
        self._idle_life = idle_life
        self._longest_life = longest_life
        self._on_open = on_open

    async def open(
        self, user: User, device: Device, *, has_proven_factor: bool = False
    ) -> TokenPair:
        """Open a session for a user who has proven to be it, by whatever way in.

        Raises:
            InvalidCredentials: the proof no longer holds; the password was just changed, say.
            SecondFactorRequired: the account has a second factor, which was not proven yet.
        """
        challenge = None
        async with self._db.transaction() as connection:
            # A change that ends all sessions must not miss this one.
            if not await UserRepository(connection).is_unchanged(user):
                raise InvalidCredentials
            factors = SecondFactorRepository(connection)
            if not has_proven_factor and await factors.is_on(user.id):
                challenge, kept = new_challenge(user)
                await factors.add_challenge(kept)
            else:
                session = await self._add(connection, user, device)
                proof = {"second_factor": True} if has_proven_factor else {}
                signed_in = Act(
                    AuditKind.SIGNED_IN, "session", session.id, actor_id=user.id, detail=proof
                )
                await record(connection, signed_in)
        if challenge is not None:
            seconds = int(CHALLENGE_LIFE.total_seconds())
            raise SecondFactorRequired(challenge, expires_in=seconds)
        return await self._pair(session)

    async def refresh(self, refresh_token: str) -> TokenPair:
        """Spend a refresh token for a new pair (RFC 9700, section 4.14.2).

        Raises:
            InvalidToken: it is not one of ours, or its session has ended.
            TokenReused: it was spent before; its session has been ended.
        """
        session, generation = await self._session_of(refresh_token)
        await self._authenticator.principal_of(session.id, session.user_id)
        current = session
        if generation == session.generation:
            async with self._db.transaction() as connection:
                rotated = await SessionRepository(connection).rotate(
                    session, self._end_of(session.created_at)
                )
            current = rotated or await self._current(session.id)
        is_within_grace = now() - current.rotated_at <= REFRESH_GRACE
        if generation == current.generation - 1 and is_within_grace and current.ended_at is None:
            return await self._pair(current)
        if current.ended_at is None:
            await self._end(session.user_id, session.id, AuditKind.TOKEN_REUSED)
        raise TokenReused

    async def end(self, principal: Principal) -> None:
        """End the session that a request came with."""
        await self._end(principal.user_id, principal.session_id, AuditKind.SIGNED_OUT)

    async def end_one(self, user_id: int, session_id: int) -> bool:
        """End one of a user's sessions; tell whether there was one."""
        return await self._end(user_id, session_id, AuditKind.SESSION_ENDED)

    async def _end(self, user_id: int, session_id: int, kind: AuditKind) -> bool:
        async with self._db.transaction() as connection:
            ended = await SessionRepository(connection).end(user_id, only=session_id)
            if ended:
                await record(connection, Act(kind, "session", session_id, actor_id=user_id))
        self._authenticator.forget_session(session_id)  # other workers hear of it by the event
        return bool(ended)

    async def end_all(self, user_id: int) -> None:
        """End every session of a user."""
        async with self._db.transaction() as connection:
            await SessionRepository(connection).end(user_id)
            await record(connection, Act(AuditKind.SIGNED_OUT_EVERYWHERE, "user", user_id))
        self._authenticator.forget_user(user_id)

    async def listed(self, user_id: int) -> list[Session]:
        """Return a user's open sessions."""
        async with self._db.read() as connection:
            return await SessionRepository(connection).open_sessions(user_id)

    async def issue_ticket(self, principal: Principal) -> str:
        """Return a ticket that opens one WebSocket or event stream within 30 seconds."""
        ticket = new_secret("kpt")
        async with self._db.transaction() as connection:
            await OneTimeTokenRepository(connection).add(
                OneTimeToken(
                    digest(ticket),
                    "ws",
                    principal.user_id,
                    principal.session_id,
                    now() + TICKET_LIFE,
                )
            )
        return ticket

    async def spend_ticket(self, ticket: str) -> tuple[int, int]:
        """Return the session id and user id of a ticket, which is then spent.

        Raises:
            InvalidToken: there is no such ticket, or its time is over.
        """
        async with self._db.transaction() as connection:
            token = await OneTimeTokenRepository(connection).spend(digest(ticket), "ws")
        if token is None or token.session_id is None:
            raise InvalidToken
        return token.session_id, token.user_id

    async def _add(self, connection: Connection, user: User, device: Device) -> Session:
        await self._on_open(connection, user, device)
        return await SessionRepository(connection).add(
            user_id=user.id,
            seed=secrets.token_urlsafe(32),
            user_agent=(device.user_agent or "")[:300] or None,
            address=device.address,
            expires_at=self._end_of(now()),
        )

    def _end_of(self, opened_at: datetime) -> datetime:
        """Return when a session that is used now ends, if it is not used again."""
        return min(now() + self._idle_life, opened_at + self._longest_life)

    async def _pair(self, session: Session) -> TokenPair:
        principal = await self._authenticator.principal_of(session.id, session.user_id)
        moment = now()
        life = min(self._tokens.lifetime, session.expires_at - moment)
        roles = tuple(sorted(principal.roles))
        return TokenPair(
            access_token=self._tokens.issue(session.user_id, session.id, roles, moment, life),
            refresh_token=self._refresh_token(self._keys[0], session, session.generation),
            expires_in=int(life.total_seconds()),
            refresh_expires_in=int((session.expires_at - moment).total_seconds()),
        )

    async def _session_of(self, refresh_token: str) -> tuple[Session, int]:
        """Return the session and number of a genuine refresh token, spent or not."""
        parts = refresh_token.removeprefix(_PREFIX).split(".")
        if not refresh_token.startswith(_PREFIX) or len(parts) != 3:
            raise InvalidToken
        if not all(each.isascii() and each.isdigit() and len(each) < 19 for each in parts[:2]):
            raise InvalidToken
        session_id, generation = int(parts[0]), int(parts[1])
        session = await self._current(session_id)
        genuine = (self._refresh_token(key, session, generation) for key in self._keys)
        if not any(hmac.compare_digest(refresh_token.encode(), each.encode()) for each in genuine):
            raise InvalidToken
        return session, generation

    async def _current(self, session_id: int) -> Session:
        async with self._db.read() as connection:
            session = await SessionRepository(connection).get(session_id)
        if session is None:
            raise InvalidToken
        return session

    @staticmethod
    def _refresh_token(key: bytes, session: Session, generation: int) -> str:
        mac = keyed_digest(key, str(session.id), str(generation), session.seed)
        return f"{_PREFIX}{session.id}.{generation}.{mac}"


def network_of(address: str | None) -> str:
    """Return the neighbourhood of an address that one person may well have: /24 or /64."""
    try:
        parsed = ipaddress.ip_address(address or "")
    except ValueError:
        return "unknown"
    bits = 24 if parsed.version == 4 else 64
    return str(ipaddress.ip_network(f"{parsed}/{bits}", strict=False))
