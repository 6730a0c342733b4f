"""Forged and hostile access tokens: always 401, never 500 (RFC 8725)."""

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from typing import Any

import pytest
from fastapi import FastAPI
from httpx import AsyncClient

from app.clock import now
from tests.factories import Tokens, expect, new_user

ME = "/api/v1/users/me"


def b64(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def unb64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def parts_of(token: str) -> tuple[dict[str, Any], dict[str, Any], bytes]:
    header, claims, signature = token.split(".")
    return json.loads(unb64(header)), json.loads(unb64(claims)), unb64(signature)


def compact(header: Any, claims: Any, signature: bytes = b"") -> str:
    return ".".join(
        (b64(json.dumps(header).encode()), b64(json.dumps(claims).encode()), b64(signature))
    )


def signed(app: FastAPI, header: Any, claims: Any) -> str:
    """Sign by the service's own key, so that only the checks of the claims are left."""
    tokens = app.state.resources.authenticator._tokens
    unsigned = compact(header, claims)[:-1]
    key = tokens._keys.signing_key(now()).private
    return f"{unsigned}.{b64(key.sign(unsigned.encode()))}"


async def status(client: AsyncClient, token: str | bytes) -> int:
    raw = token if isinstance(token, bytes) else token.encode()
    answer = await client.get(ME, headers=[(b"Authorization", b"Bearer " + raw)])
    if answer.status_code == 401:
        assert "www-authenticate" in answer.headers
        assert answer.json()["error_code"] in ("INVALID_TOKEN", "UNAUTHENTICATED")
    return answer.status_code


async def test_the_signing_of_these_tests_is_the_services_own(
    client: AsyncClient, app: FastAPI
) -> None:
    header, claims, _ = parts_of((await new_user(client)).access)
    assert await status(client, signed(app, header, claims)) == 200


Forge = Callable[[dict[str, Any], dict[str, Any]], tuple[Any, Any]]

CLAIMS: dict[str, Forge] = {
    **{
        f"no {name}": (lambda h, c, name=name: (h, {k: v for k, v in c.items() if k != name}))  # type: ignore[misc]
        for name in ("iss", "aud", "sub", "sid", "jti", "iat", "nbf", "exp", "roles", "token_use")
    },
    "another issuer": lambda h, c: (h, c | {"iss": "somebody"}),
    "another audience": lambda h, c: (h, c | {"aud": "something"}),
    "several audiences": lambda h, c: (h, c | {"aud": [c["aud"], "something"]}),
    "another use": lambda h, c: (h, c | {"token_use": "refresh"}),
    "an extra claim": lambda h, c: (h, c | {"admin": True}),
    "expired": lambda h, c: (h, c | {"exp": c["iat"] - 3600}),
    "from the future": lambda h, c: (h, c | {"iat": c["iat"] + 600, "nbf": c["iat"] + 600}),
    "not yet": lambda h, c: (h, c | {"nbf": c["nbf"] + 600}),
    "exp as text": lambda h, c: (h, c | {"exp": str(c["exp"])}),
    "exp as a float": lambda h, c: (h, c | {"exp": float(c["exp"])}),
    "exp as infinity": lambda h, c: (h, c | {"exp": float("inf")}),
    "exp without end": lambda h, c: (h, c | {"exp": 10**400}),
    "exp true": lambda h, c: (h, c | {"exp": True}),
    "sub as a number": lambda h, c: (h, c | {"sub": int(c["sub"])}),
    "sub with a sign": lambda h, c: (h, c | {"sub": f"+{c['sub']}"}),
    "sub of another": lambda h, c: (h, c | {"sub": str(int(c["sub"]) + 1)}),
    "sub zero": lambda h, c: (h, c | {"sub": "0"}),
    "sub beyond 64 bits": lambda h, c: (h, c | {"sub": "9" * 19}),
    "sid of nobody": lambda h, c: (h, c | {"sid": str(2**62)}),
    "roles as text": lambda h, c: (h, c | {"roles": "admin"}),
    "roles nested": lambda h, c: (h, c | {"roles": [["admin"]]}),
    "claims a list": lambda h, c: (h, [c]),
    "claims null": lambda h, _: (h, None),
    "typ JWT": lambda h, c: (h | {"typ": "JWT"}, c),
    "no typ": lambda h, c: ({k: v for k, v in h.items() if k != "typ"}, c),
    "no kid": lambda h, c: ({k: v for k, v in h.items() if k != "kid"}, c),
    "unknown kid": lambda h, c: (h | {"kid": "nobody"}, c),
    "kid a path": lambda h, c: (h | {"kid": "../../dev/null"}, c),
    "kid an object": lambda h, c: (h | {"kid": {"a": 1}}, c),
    "alg none": lambda h, c: (h | {"alg": "none"}, c),
    "alg swapped": lambda h, c: (h | {"alg": "HS512"}, c),
    "alg confused": lambda h, c: (h | {"alg": "RS256"}, c),
    "alg in lower case": lambda h, c: (h | {"alg": "hs256"}, c),
    "alg a list": lambda h, c: (h | {"alg": ["HS256"]}, c),
    "a key of its own": lambda h, c: (h | {"jwk": {"kty": "oct", "k": "AAAA"}}, c),
    "a key elsewhere": lambda h, c: (h | {"jku": "https://evil.example/jwks"}, c),
    "a certificate elsewhere": lambda h, c: (h | {"x5u": "https://evil.example/x"}, c),
    "critical": lambda h, c: (h | {"crit": ["exp"]}, c),
    "unencoded": lambda h, c: (h | {"b64": False, "crit": ["b64"]}, c),
    "header a list": lambda h, c: ([h], c),
}


@pytest.mark.parametrize("name", CLAIMS)
async def test_odd_claims_are_refused_although_the_signature_is_right(
    client: AsyncClient, somebody: Tokens, app: FastAPI, name: str
) -> None:
    header, claims, _ = parts_of(somebody.access)
    assert await status(client, signed(app, *CLAIMS[name](header, claims))) == 401


@pytest.mark.parametrize("skew", [-45, 45])
async def test_a_clock_that_is_a_little_off_is_forgiven(
    client: AsyncClient, app: FastAPI, skew: int
) -> None:
    header, claims, _ = parts_of((await new_user(client)).access)
    if skew > 0:
        moved = claims | {"iat": claims["iat"] + skew, "nbf": claims["nbf"] + skew}
    else:
        old = claims["iat"] + skew - 900
        moved = claims | {"iat": old, "nbf": old, "exp": old + 900}
    assert await status(client, signed(app, header, moved)) == 200


async def test_a_signature_by_another_key_is_refused(client: AsyncClient) -> None:
    token = (await new_user(client)).access
    header, claims, signature = parts_of(token)
    unsigned = token.rpartition(".")[0]
    for key in (b"", b"secret", b"kingpost", json.dumps(header).encode()):
        mac = hmac.digest(key, unsigned.encode(), hashlib.sha256)
        assert await status(client, f"{unsigned}.{b64(mac)}") == 401
    for cut in (signature[:-1], signature[:16], b"\x00" * 32, b""):
        assert await status(client, f"{unsigned}.{b64(cut)}") == 401
    promoted = compact(header, claims | {"roles": ["admin"]}, signature)
    assert await status(client, promoted) == 401


async def test_another_spelling_of_a_revoked_token_opens_nothing(client: AsyncClient) -> None:
    tokens: Tokens = await new_user(client)
    header, claims, signature = tokens.access.split(".")
    assert await status(client, tokens.access) == 200
    await client.post("/api/v1/auth/logout", headers=tokens.headers)
    last = signature[-1]
    twins = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    for spelled in (
        tokens.access,
        f"{header}.{claims}.{signature}=",
        f"{header}=.{claims}.{signature}",
        *(f"{header}.{claims}.{signature[:-1]}{twin}" for twin in twins if twin != last),
    ):
        assert await status(client, spelled) == 401


HOSTILE: dict[str, bytes] = {
    "nothing": b"",
    "dots": b"..",
    "many dots": b"." * 5000,
    "a megabyte": b"a" * 1_000_000,
    "a deep header": b64(b"[" * 1500).encode() + b".e30.e30",
    "deep claims": b"e30." + b64(b'{"a":' * 1500).encode() + b".e30",
    "not JSON": b"!!!.???.***",
    "not UTF-8": b"\xff\xfe\xfd",
    "a surrogate": b64(b'{"alg":"\\ud800","kid":"x","typ":"at+jwt"}').encode() + b".e30.e30",
    "a long number": b64(b'{"alg":' + b"9" * 5000 + b"}").encode() + b".e30.e30",
    "NaN": b64(b'{"alg":NaN}').encode() + b".e30.e30",
    "two tokens": b"a.b.c a.b.c",
    "a JWE": b"a.b.c.d.e",
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_hostile_tokens_are_refused_and_no_more(client: AsyncClient, name: str) -> None:
    answered = await status(client, HOSTILE[name])
    assert answered in (401, 431)


@pytest.mark.parametrize(
    "value", ["", "Bearer", "Bearer ", "Basic YTpi", "Token x", "bearer", "Bearer\tx", "x"]
)
async def test_other_credentials_are_refused_also_where_none_are_needed(
    client: AsyncClient, value: str
) -> None:
    for path in (ME, "/api/v1/items"):
        answer = await client.get(path, headers={"Authorization": value})
        assert expect(answer, 401)["error_code"] in ("INVALID_TOKEN", "UNAUTHENTICATED")


async def test_the_scheme_is_read_in_any_case(client: AsyncClient) -> None:
    tokens = await new_user(client)
    answer = await client.get(ME, headers={"Authorization": f"bEaReR {tokens.access}"})
    assert answer.status_code == 200
