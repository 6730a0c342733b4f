"""Signing in by a provider: from the first redirect to the tokens.

A browser begins, which gives it a cookie; the provider sends it back with a code and the state,
which must be the cookie's, once; the code is exchanged for a proof of who the person is. What has
no browser is answered with tokens; a page gets a code of ours, worth nothing in another browser.
"""

import hmac
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from app.adapters.database import Database
from app.adapters.oidc import Handshake, Provider, Providers
from app.clock import now
from app.errors import (
    AccountSuspended,
    ProviderRefused,
    SignInExpired,
    Unprocessable,
)
from app.models.identities import Identity
from app.models.users import OneTimeToken, User
from app.repositories.identities import IdentityRepository
from app.repositories.one_time_tokens import OneTimeTokenRepository
from app.repositories.users import UserRepository
from app.security.opaque import digest, new_secret
from app.security.principal import Principal
from app.security.redirects import is_safe_redirect
from app.security.sign_ins import SignIn, SignInSigner
from app.services.authentication import Authenticator
from app.services.identities import Identities
from app.settings import Settings

CODE_LIFE = timedelta(seconds=60)  # a page spends it as it loads
_PURPOSE = "social-sign-in"


@dataclass(frozen=True, slots=True)
class Begun:
    """Where the browser goes, and the cookie by which it is known again."""

    url: str
    cookie: str


@dataclass(frozen=True, slots=True)
class Callback:
    """What a provider's redirect brought (RFC 6749, section 4.1.2; RFC 9207)."""

    code: str | None
    state: str | None
    error: str | None
    issuer: str | None


@dataclass(frozen=True, slots=True)
class SignInCode:
    """A code for the page, and what its browser must send along."""

    code: str
    browser: str


class SocialLogin:
    """The rules of signing in by a provider."""

    def __init__(
        self,
        db: Database,
        providers: Providers,
        authenticator: Authenticator,
        settings: Settings,
        secrets: Sequence[bytes],
    ) -> None:
        self._db = db
        self._providers = providers
        self._authenticator = authenticator
        self._signer = SignInSigner(secrets)
        self._origins = frozenset(filter(None, (*settings.cors_origins, settings.public_url)))
        self.identities = Identities(db, providers.names)

    def providers(self) -> list[Provider]:
        """Return whom people may sign in by."""
        return self._providers.listed()

    async def begin(
        self,
        provider_name: str,
        redirect_to: str,
        redirect_uri: str,
        *,
        linking: Principal | None = None,
    ) -> Begun:
        """Begin a sign-in, or linking an identity to the account of somebody who is signed in.

        Raises:
            NotFound: there is no such provider.
            Unprocessable: the browser would be sent to somebody else's page.
            ProviderFailed: the provider does not tell where to go.
        """
        provider = self._providers.get(provider_name)
        if not is_safe_redirect(redirect_to, self._origins):
            raise Unprocessable.field(
                "redirect_to", "It must be a path here, or an address of an allowed origin"
            )
        owner = (linking.user_id, linking.session_id) if linking else None
        sign_in, cookie = self._signer.begin(provider.name, redirect_to, now(), linking=owner)
        url = await provider.authorization_url(_handshake(sign_in, redirect_uri), sign_in.state)
        return Begun(url, cookie)

    def resume(self, provider_name: str, cookie: str | None, state: str | None) -> SignIn:
        """Return the sign-in that a browser comes back from.

        Raises:
            NotFound: there is no such provider.
            SignInExpired: it was not begun in this browser, or too long ago.
        """
        provider = self._providers.get(provider_name)
        sign_in = self._signer.read(cookie, now())
        if sign_in is None or state is None or sign_in.provider != provider.name:
            raise SignInExpired
        if not hmac.compare_digest(sign_in.state.encode(), state.encode()):
            raise SignInExpired
        return sign_in

    async def finish(
        self, sign_in: SignIn, callback: Callback, redirect_uri: str
    ) -> User | Identity:
        """Return the account that was signed in to, or the identity that was linked.

        Raises:
            SignInExpired: it was finished before; one of two at once is.
            ProviderRefused, InvalidIdToken, ProviderFailed: nobody vouches for the person.
            InvalidToken: the session that linked an identity has ended meanwhile.
            DomainError: as `Identities.user_of` and `Identities.link`.
        """
        async with self._db.transaction() as connection:
            expires_at = datetime.fromtimestamp(sign_in.expires_at, UTC)
            await IdentityRepository(connection).spend_sign_in(digest(sign_in.state), expires_at)
        provider = self._providers.get(sign_in.provider)
        if callback.error is not None or not callback.code:
            raise ProviderRefused(provider.refusal(callback.error))
        handshake = _handshake(sign_in, redirect_uri)
        proven = await provider.identify(handshake, callback.code, callback.issuer)
        if sign_in.user_id is None or sign_in.session_id is None:
            return await self.identities.user_of(provider.name, proven)
        owner = await self._authenticator.principal_of(sign_in.session_id, sign_in.user_id)
        return await self.identities.link(owner.user_id, provider.name, proven)

    async def issue_code(self, user: User) -> SignInCode:
        """Return a code that a page exchanges for tokens, in the browser that signed in."""
        made = SignInCode(new_secret("kps"), secrets.token_urlsafe(32))
        async with self._db.transaction() as connection:
            await OneTimeTokenRepository(connection).add(
                OneTimeToken(_digest(made), _PURPOSE, user.id, None, now() + CODE_LIFE)
            )
        return made

    async def spend_code(self, given: SignInCode) -> User:
        """Return the account that a code stands for; the code is then spent.

        Raises:
            SignInExpired: there is no such code for this browser, or its time is over.
            AccountSuspended: the account may not be used.
        """
        async with self._db.transaction() as connection:
            token = await OneTimeTokenRepository(connection).spend(_digest(given), _PURPOSE)
            user = await UserRepository(connection).get(token.user_id) if token else None
        if user is None:
            raise SignInExpired
        if not user.is_active:
            raise AccountSuspended
        return user


def _handshake(sign_in: SignIn, redirect_uri: str) -> Handshake:
    return Handshake(redirect_uri, sign_in.nonce, sign_in.verifier)


def _digest(code: SignInCode) -> str:
    return digest(f"{code.code}.{code.browser}")
