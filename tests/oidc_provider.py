"""A real OpenID provider for the tests, which vouches for whom it is told to, truly or falsely.

It checks what a provider checks: the client, the redirect URI, PKCE, and that a code comes once.
"""

import base64
import json
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

import httpx
from authlib.oauth2.rfc7636 import create_s256_code_challenge  # type: ignore[import-untyped]
from authlib.oidc.core.util import create_half_hash  # type: ignore[import-untyped]
from fastapi import FastAPI
from joserfc import jws
from joserfc.jwk import RSAKey
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response

from tests.live_server import serving
from tests.patience import PATIENCE

CLIENT_ID = "kingpost-tests"
CLIENT_SECRET = "tests-only-b1946ac92492d234"
Answer = Callable[[], Awaitable[Response]]
Sign = Callable[["OidcProvider", dict[str, Any]], str]


@dataclass
class _Grant:
    challenge: str
    nonce: str | None
    redirect_uri: str
    person: dict[str, Any]


@dataclass
class OidcProvider:
    """The provider's state. What a test changes, `reset` undoes."""

    url: str = ""
    key: RSAKey = field(default_factory=lambda: _new_key())
    person: dict[str, Any] = field(default_factory=dict)
    claims: dict[str, Any] = field(default_factory=dict)  # put into the ID token; None leaves out
    sign: Sign | None = None
    instead: dict[str, Answer] = field(default_factory=dict)  # answers by path
    asked: Counter[str] = field(default_factory=Counter)
    told: dict[str, str] = field(default_factory=dict)  # what /token was sent last
    _grants: dict[str, _Grant] = field(default_factory=dict)
    _bearers: dict[str, dict[str, Any]] = field(default_factory=dict)

    def reset(self) -> None:
        """Vouch for a new person, truly."""
        self.vouch_for()
        self.claims, self.sign, self.instead = {}, None, {}
        self.asked.clear()

    def vouch_for(self, **over: Any) -> dict[str, Any]:
        """Vouch for a person with a verified address, changed by keywords; None leaves out."""
        number = secrets.token_hex(6)
        person = {
            "sub": f"person-{number}",
            "email": f"person-{number}@example.com",
            "email_verified": True,
            "name": f"Person {number}",
            "preferred_username": f"person{number}",
        }
        self.person = {k: v for k, v in (person | over).items() if v is not None}
        return self.person

    def rotate(self) -> None:
        """Sign with a new key from now on; the old one is no longer published."""
        self.key = _new_key()

    async def consent(self, authorization_url: str) -> httpx.URL:
        """Do what the person does there; return the callback that their browser is sent to."""
        async with httpx.AsyncClient(verify=False, timeout=PATIENCE) as client:
            answer = await client.get(authorization_url)
        assert answer.status_code == 302, answer.text
        return httpx.URL(answer.headers["location"])

    def app(self) -> FastAPI:
        """Return the provider's own service."""
        app = FastAPI()
        for path, methods, endpoint in (
            ("/.well-known/openid-configuration", ["GET"], self._discovery),
            ("/jwks", ["GET"], self._jwks),
            ("/authorize", ["GET"], self._authorize),
            ("/token", ["POST"], self._token),
            ("/userinfo", ["GET"], self._user_info),
        ):
            app.router.add_route(path, self._scripted(path, endpoint), methods=methods)
        return app

    def _scripted(
        self, path: str, endpoint: Callable[[Request], Awaitable[Response]]
    ) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            self.asked[path] += 1
            if path in self.instead:
                return await self.instead[path]()
            return await endpoint(request)

        return answer

    async def _discovery(self, _request: Request) -> Response:
        return JSONResponse(
            {
                "issuer": self.url,
                "authorization_endpoint": f"{self.url}/authorize",
                "token_endpoint": f"{self.url}/token",
                "userinfo_endpoint": f"{self.url}/userinfo",
                "jwks_uri": f"{self.url}/jwks",
                "response_types_supported": ["code"],
                "authorization_response_iss_parameter_supported": True,
            }
        )

    async def _jwks(self, _request: Request) -> Response:
        strange = [
            {"kty": "oct", "kid": "published", "k": "AAAA"},
            {"kty": "lattice", "kid": "1"},
            {"kty": "RSA"},
        ]
        return JSONResponse({"keys": [*strange, self.key.as_dict(private=False)]})

    async def _authorize(self, request: Request) -> Response:
        asked = request.query_params
        assert asked["client_id"] == CLIENT_ID
        assert asked["response_type"] == "code"
        assert asked["code_challenge_method"] == "S256"
        code = secrets.token_urlsafe(16)
        self._grants[code] = _Grant(
            asked["code_challenge"], asked.get("nonce"), asked["redirect_uri"], self.person
        )
        back = urlencode({"code": code, "state": asked["state"], "iss": self.url})
        return RedirectResponse(f"{asked['redirect_uri']}?{back}", 302)

    async def _token(self, request: Request) -> Response:
        form = {k: str(v) for k, v in (await request.form()).items()}
        self.told = dict(form)
        if not _is_our_client(request, form):
            return JSONResponse({"error": "invalid_client"}, 401)
        grant = self._grants.pop(form["code"], None)  # a code comes once
        if grant is None or grant.redirect_uri != form["redirect_uri"]:
            return JSONResponse({"error": "invalid_grant"}, 400)
        if create_s256_code_challenge(form["code_verifier"]) != grant.challenge:
            return JSONResponse({"error": "invalid_grant"}, 400)
        access_token = secrets.token_urlsafe(16)
        self._bearers[access_token] = grant.person
        claims = self._claims(grant, access_token)
        sign = self.sign or OidcProvider.signed
        answer = {"access_token": access_token, "token_type": "Bearer", "expires_in": 60}
        return JSONResponse({**answer, "id_token": sign(self, claims)})

    async def _user_info(self, request: Request) -> Response:
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        person = self._bearers.get(token)
        return JSONResponse(person) if person else JSONResponse({"error": "invalid_token"}, 401)

    def _claims(self, grant: _Grant, access_token: str) -> dict[str, Any]:
        claims = {
            "iss": self.url,
            "aud": CLIENT_ID,
            "iat": int(time.time()),
            "exp": int(time.time()) + 60,
            "nonce": grant.nonce,
            "at_hash": create_half_hash(access_token, "RS256").decode(),
            **grant.person,
            **self.claims,
        }
        return {name: value for name, value in claims.items() if value is not None}

    def signed(self, claims: dict[str, Any], **header: Any) -> str:
        """Return the ID token for claims, as a provider signs it."""
        protected = {"alg": "RS256", "kid": self.key.kid, **header}
        return jws.serialize_compact(protected, json.dumps(claims).encode(), self.key)


@asynccontextmanager
async def running_provider() -> AsyncIterator[OidcProvider]:
    """Serve a provider on a free port."""
    provider = OidcProvider()
    async with serving(provider.app()) as server:
        provider.url = server.url
        yield provider


def _is_our_client(request: Request, form: dict[str, str]) -> bool:
    scheme, _, encoded = request.headers.get("authorization", "").partition(" ")
    if scheme == "Basic":
        return base64.b64decode(encoded).decode() == f"{CLIENT_ID}:{CLIENT_SECRET}"
    return (form.get("client_id"), form.get("client_secret")) == (CLIENT_ID, CLIENT_SECRET)


def _new_key() -> RSAKey:
    return RSAKey.generate_key(2048, auto_kid=True)
