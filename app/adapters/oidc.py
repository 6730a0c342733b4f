"""The providers that people may sign in by: OpenID Connect, or OAuth 2 with user info.

Authlib speaks the protocol; what answers may be like (late, large, nonsense) is bounded here.
"""

import asyncio
import logging
import re
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from app.adapters.id_tokens import Expected, UnknownKey, key_set, verified_claims
from app.adapters.remembered import Remembered
from app.errors import InvalidIdToken, NotFound, ProviderFailed, ProviderRefused
from app.settings import Settings
from app.settings.identity_providers import PRESETS, OAuthEndpoints, Preset, ProviderSettings

if TYPE_CHECKING:  # 6 MB and 0.1 s that a service without providers does not need
    from joserfc.jwk import KeySet

    from app.adapters.bounded_http import BoundedTransport

logger = logging.getLogger(__name__)

_DOCUMENT_LIFE = 3600.0  # seconds; an unknown key renews the keys at once
_SCOPE = "openid email profile"
_MAX_SUBJECT = 255  # OpenID Connect Core 1.0, section 2
_ERROR_CODE = re.compile(r"[a-z_]{1,40}")  # of RFC 6749; all else is not repeated to anybody


@dataclass(frozen=True, slots=True)
class Handshake:
    """What both legs of one sign-in must agree on."""

    redirect_uri: str
    nonce: str
    verifier: str


@dataclass(frozen=True, slots=True)
class Proven:
    """Who somebody is, as a provider vouches."""

    subject: str
    email: str | None
    is_email_verified: bool
    name: str | None
    username: str | None


@dataclass(frozen=True, slots=True)
class _Endpoints:
    authorization: str
    token: str
    userinfo: str | None
    jwks: str | None
    auth_method: str
    names_issuer: bool  # in its callbacks (RFC 9207)


class Provider:
    """One provider: where it sends people, and whom it vouches for."""

    def __init__(
        self,
        name: str,
        settings: ProviderSettings,
        transport: Callable[[], Awaitable["BoundedTransport"]],
        timeout: float,
    ) -> None:
        preset = PRESETS.get(name, Preset(name.capitalize()))
        self.name = name
        self.label = settings.label or preset.label
        self._settings = settings
        self._issuer = settings.issuer or preset.issuer
        self._oauth = preset.oauth
        self._transport = transport
        self._timeout = timeout
        self._endpoints = Remembered(self._find_endpoints, _DOCUMENT_LIFE)
        self._keys = Remembered(self._fetch_keys, _DOCUMENT_LIFE)

    async def authorization_url(self, handshake: Handshake, state: str) -> str:
        """Return where a browser goes to sign in.

        Raises:
            ProviderFailed: the provider's endpoints are not known, and it does not tell them.
        """
        async with self._asking():
            endpoints = await self._endpoints.get()
            client = await self._client(endpoints, handshake)
            nonce = {} if self._oauth else {"nonce": handshake.nonce}
            url, _ = client.create_authorization_url(
                endpoints.authorization, state=state, code_verifier=handshake.verifier, **nonce
            )
        return str(url)

    async def identify(self, handshake: Handshake, code: str, issuer: str | None) -> Proven:
        """Return whom a callback's code stands for; `issuer` is who the callback says it is from.

        Raises:
            ProviderRefused: the code is not good (any more), or not for us.
            InvalidIdToken: what vouches for the person was not made for this sign-in.
            ProviderFailed: the provider is away, late, or talks nonsense.
        """
        async with self._asking():
            endpoints = await self._endpoints.get()
            # A callback from another provider than the one asked (RFC 9207).
            is_named = issuer is not None or endpoints.names_issuer
            if self._issuer is not None and is_named and issuer != self._issuer:
                raise InvalidIdToken
            client = await self._client(endpoints, handshake)
            token = await self._redeem(client, endpoints, code, handshake)
            if self._oauth is not None:
                return _proven(await self._user_info(endpoints, token), self._oauth.subject)
            claims = await self._verified(token, handshake)
            if "email" not in claims and endpoints.userinfo is not None:
                told = await self._user_info(endpoints, token)
                if told.get("sub") != claims["sub"]:  # OpenID Connect Core 1.0, section 5.3.2
                    raise InvalidIdToken
                claims |= told
            return _proven(claims, "sub")

    async def close(self) -> None:
        """End what is under way."""
        await self._endpoints.close()
        await self._keys.close()

    async def _redeem(
        self, client: Any, endpoints: _Endpoints, code: str, handshake: Handshake
    ) -> Mapping[str, Any]:
        from authlib.integrations.base_client import (  # type: ignore[import-untyped]
            OAuthError,
        )

        try:
            token = await client.fetch_token(
                endpoints.token,
                grant_type="authorization_code",
                code=code,
                code_verifier=handshake.verifier,
            )
        except OAuthError as error:
            logger.warning("provider refused a code", extra=self._fields(error))
            raise ProviderRefused(self.refusal(error.error)) from error
        if not isinstance(token["access_token"], str):
            raise TypeError("an access token is text")
        return dict(token)

    async def _verified(self, token: Mapping[str, Any], handshake: Handshake) -> dict[str, Any]:
        expected = Expected(
            issuer=str(self._issuer),
            client_id=self._settings.client_id,
            nonce=handshake.nonce,
            access_token=token["access_token"],
        )
        id_token = token.get("id_token")
        try:
            try:
                return verified_claims(id_token, await self._keys.get(), expected)
            except UnknownKey:
                return verified_claims(id_token, await self._keys.renewed(), expected)
        except (UnknownKey, InvalidIdToken) as error:
            logger.warning("ID token refused", extra=self._fields(error.__cause__ or error))
            raise InvalidIdToken from error

    async def _user_info(self, endpoints: _Endpoints, token: Mapping[str, Any]) -> dict[str, Any]:
        bearer = {"Authorization": f"Bearer {token['access_token']}"}
        return await self._get(str(endpoints.userinfo), bearer)

    async def _find_endpoints(self) -> _Endpoints:
        if self._oauth is not None:
            return _endpoints_of(self._oauth)
        issuer = str(self._issuer)
        async with self._asking():
            document = await self._get(
                f"{issuer.removesuffix('/')}/.well-known/openid-configuration"
            )
            if document.get("issuer") != issuer:  # OpenID Connect Discovery 1.0, section 4.3
                raise ValueError("its discovery document is of another issuer")
            return _discovered(document, is_secure=issuer.startswith("https://"))

    async def _fetch_keys(self) -> "KeySet":
        async with self._asking():
            endpoints = await self._endpoints.get()
            return key_set(await self._get(str(endpoints.jwks)))

    async def _get(self, url: str, headers: Mapping[str, str] | None = None) -> dict[str, Any]:
        import httpx

        async with httpx.AsyncClient(
            transport=await self._transport(), timeout=self._timeout, trust_env=False
        ) as client:
            answer = await client.get(url, headers=headers)
        document = answer.raise_for_status().json()
        if not isinstance(document, dict):
            raise TypeError("not a JSON object")
        return document

    async def _client(self, endpoints: _Endpoints, handshake: Handshake) -> Any:
        """Return a client for one sign-in: it remembers its token, so nobody may share it."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it would rather have httpx2
            from authlib.integrations.httpx_client import (  # type: ignore[import-untyped]
                AsyncOAuth2Client,
            )
        secret = self._settings.client_secret
        return AsyncOAuth2Client(
            self._settings.client_id,
            secret.get_secret_value() if secret else None,
            token_endpoint_auth_method=endpoints.auth_method if secret else "none",
            scope=self._oauth.scope if self._oauth else _SCOPE,
            redirect_uri=handshake.redirect_uri,
            code_challenge_method="S256",
            transport=await self._transport(),
            timeout=self._timeout,
            trust_env=False,
        )

    @asynccontextmanager
    async def _asking(self) -> AsyncIterator[None]:
        """Hold whatever is asked inside to the deadline, and call what goes wrong by one name."""
        try:
            async with asyncio.timeout(self._timeout):
                yield
        except _nonsense() as error:
            logger.warning("provider failed", extra=self._fields(error))
            import httpx

            is_late = isinstance(error, TimeoutError | httpx.TimeoutException)
            how = "did not answer in time" if is_late else "did not answer as it should"
            raise ProviderFailed(f"{self.label} {how}; try again later") from error

    def refusal(self, code: object) -> str:
        """Return the sentence for an error code of RFC 6749."""
        known = isinstance(code, str) and _ERROR_CODE.fullmatch(code)
        return f"{self.label} did not let you sign in ({code if known else 'error'})"

    def _fields(self, error: BaseException) -> dict[str, Any]:
        told = f"{type(error).__name__}: {error}"[:300]
        return {"fields": {"provider": self.name, "error": told}}


class Providers:
    """The providers that settings name, none of which is asked before somebody wants it."""

    def __init__(self, settings: Settings) -> None:
        self._transport: BoundedTransport | None = None
        self._known = {
            name: Provider(name, each, self._shared_transport, settings.oidc_timeout)
            for name, each in settings.oidc_providers.items()
        }

    @property
    def names(self) -> frozenset[str]:
        """The names of all of them."""
        return frozenset(self._known)

    def get(self, name: str) -> Provider:
        """Return a provider.

        Raises:
            NotFound: there is none of this name.
        """
        provider = self._known.get(name)
        if provider is None:
            raise NotFound("There is no such provider")
        return provider

    def listed(self) -> list[Provider]:
        """Return all of them, in the order of the settings."""
        return list(self._known.values())

    async def close(self) -> None:
        """End what is under way."""
        for provider in self._known.values():
            await provider.close()
        if self._transport is not None:
            await self._transport.close()

    async def _shared_transport(self) -> "BoundedTransport":
        if self._transport is None:
            from app.adapters.bounded_http import BoundedTransport

            # Reading the certificates of all authorities takes 15 ms.
            made = await asyncio.to_thread(BoundedTransport)
            self._transport = self._transport or made
        return self._transport


def _nonsense() -> tuple[type[Exception], ...]:
    """Return what talking to a provider may raise."""
    import httpx

    return (
        httpx.HTTPError,
        httpx.InvalidURL,
        httpx.StreamError,
        ValueError,
        TypeError,
        KeyError,
        AttributeError,
        ArithmeticError,
        RecursionError,
        TimeoutError,
    )


def _endpoints_of(oauth: OAuthEndpoints) -> _Endpoints:
    return _Endpoints(
        authorization=oauth.authorization,
        token=oauth.token,
        userinfo=oauth.userinfo,
        jwks=None,
        auth_method="client_secret_post",
        names_issuer=False,
    )


def _discovered(document: Mapping[str, Any], *, is_secure: bool) -> _Endpoints:
    """Read a discovery document (OpenID Connect Discovery 1.0, section 3).

    Raises:
        ValueError, KeyError: it lacks an endpoint, or one would be asked in the clear.
    """

    def address(name: str) -> str:
        url = document[name]
        if not isinstance(url, str) or not url.startswith("https://" if is_secure else "http"):
            raise ValueError(f"its {name} is no address that could be asked")
        return url

    methods = document.get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
    return _Endpoints(
        authorization=address("authorization_endpoint"),
        token=address("token_endpoint"),
        userinfo=address("userinfo_endpoint") if "userinfo_endpoint" in document else None,
        jwks=address("jwks_uri"),
        auth_method=(
            "client_secret_basic" if "client_secret_basic" in methods else "client_secret_post"
        ),
        names_issuer=document.get("authorization_response_iss_parameter_supported") is True,
    )


def _proven(claims: Mapping[str, Any], subject_field: str) -> Proven:
    """Read what a provider says of a person; what is not as it should be was not said.

    Raises:
        ValueError: it does not say who the person is.
    """
    subject = claims.get(subject_field)
    if not isinstance(subject, str) or not subject.isprintable():
        raise ValueError("the subject is no name")
    if not 0 < len(subject) <= _MAX_SUBJECT:
        raise ValueError("the subject is empty or too long")
    return Proven(
        subject=subject,
        email=_line(claims.get("email")),
        is_email_verified=claims.get("email_verified") is True,
        name=_line(claims.get("name")),
        username=_line(claims.get("preferred_username")),
    )


def _line(value: object) -> str | None:
    return value.strip() if isinstance(value, str) and value.isprintable() else None
