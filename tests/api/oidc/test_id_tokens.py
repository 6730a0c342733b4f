"""ID tokens that a provider, or somebody who plays it, should not have made (RFC 8725)."""

import base64
import hmac
import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from httpx import AsyncClient
from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey

from tests.api.oidc.steps import code_of, come_back, signed_in, to_callback
from tests.factories import expect
from tests.oidc_provider import CLIENT_ID, CLIENT_SECRET, OidcProvider

pytestmark = pytest.mark.only("embedded")  # none of it comes to the database

Claims = dict[str, Any]


async def refused(client: AsyncClient, provider: OidcProvider) -> str:
    """Come back with what the provider made; return the problem's code."""
    answer = await come_back(client, provider)
    assert answer.status_code == 401, answer.text
    assert "set-cookie" not in answer.headers
    for secret in (provider.person["sub"], CLIENT_SECRET, provider.url):
        assert secret not in answer.text
    return code_of(answer)


@pytest.mark.parametrize(
    "claims",
    [
        pytest.param({"nonce": "another"}, id="wrong nonce"),
        pytest.param({"nonce": None}, id="no nonce"),
        pytest.param({"nonce": ""}, id="empty nonce"),
        pytest.param({"aud": "another-client"}, id="wrong audience"),
        pytest.param({"aud": None}, id="no audience"),
        pytest.param({"aud": []}, id="empty audience"),
        pytest.param({"aud": {"x": CLIENT_ID}}, id="audience of another form"),
        pytest.param({"aud": [CLIENT_ID, "another"]}, id="two audiences and no azp"),
        pytest.param({"azp": "another-client"}, id="wrong azp"),
        pytest.param({"iss": "https://evil.example"}, id="wrong issuer"),
        pytest.param({"iss": None}, id="no issuer"),
        pytest.param({"exp": 1}, id="expired long ago"),
        pytest.param({"exp": int(time.time()) - 120}, id="expired"),
        pytest.param({"exp": None}, id="no end"),
        pytest.param({"exp": "tomorrow"}, id="end of another form"),
        pytest.param({"iat": int(time.time()) + 3600}, id="made in the future"),
        pytest.param({"nbf": int(time.time()) + 3600}, id="not yet good"),
        pytest.param({"iat": None}, id="no beginning"),
        pytest.param({"sub": None}, id="nobody"),
        pytest.param({"sub": 7}, id="subject of another form"),
        pytest.param({"at_hash": "AAAAAAAAAAAAAAAAAAAAAA"}, id="another access token"),
        pytest.param({"at_hash": 7}, id="hash of another form"),
    ],
)
async def test_what_was_not_said_to_us_for_this_sign_in_is_refused(
    client: AsyncClient, provider: OidcProvider, claims: Claims
) -> None:
    provider.claims = claims
    assert await refused(client, provider) == "INVALID_ID_TOKEN"


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": [CLIENT_ID]},
        {"aud": [CLIENT_ID, "another"], "azp": CLIENT_ID},
        {"at_hash": None},
    ],
)
async def test_what_the_standard_allows_is_accepted(
    client: AsyncClient, provider: OidcProvider, claims: Claims
) -> None:
    provider.claims = claims
    expect(await come_back(client, provider), 200)


async def test_clocks_may_differ_by_some_seconds(
    client: AsyncClient, provider: OidcProvider
) -> None:
    moment = int(time.time())
    provider.claims = {"exp": moment - 10, "iat": moment - 80}
    expect(await come_back(client, provider), 200)


def part(value: object) -> str:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def unsigned(provider: OidcProvider, claims: Claims) -> str:
    return f"{part({'alg': 'none', 'kid': provider.key.kid})}.{part(claims)}."


def by_hmac(secret: bytes, header: dict[str, Any], claims: Claims) -> str:
    """Sign by hand: libraries refuse to make these forgeries."""
    message = f"{part({'alg': 'HS256', **header})}.{part(claims)}"
    return f"{message}.{part(hmac.digest(secret, message.encode(), 'sha256'))}"


def hmac_by_public_key(provider: OidcProvider, claims: Claims) -> str:
    return by_hmac(provider.key.as_pem(private=False), {"kid": provider.key.kid}, claims)


def hmac_by_client_secret(provider: OidcProvider, claims: Claims) -> str:
    return by_hmac(CLIENT_SECRET.encode(), {"kid": provider.key.kid}, claims)


def hmac_by_published_key(provider: OidcProvider, claims: Claims) -> str:
    return by_hmac(b"\0\0\0", {"kid": "published"}, claims)


def own_key(provider: OidcProvider, claims: Claims) -> str:
    header = {"alg": "RS256", "kid": provider.key.kid}
    return jwt.encode(header, claims, RSAKey.generate_key(2048))


def own_key_in_header(provider: OidcProvider, claims: Claims) -> str:
    key = RSAKey.generate_key(2048)
    header = {"alg": "RS256", "kid": provider.key.kid, "jwk": key.as_dict(private=False)}
    return jwt.encode(header, claims, key)


def own_key_of_another_type(provider: OidcProvider, claims: Claims) -> str:
    header = {"alg": "ES256", "kid": provider.key.kid}
    return jwt.encode(header, claims, ECKey.generate_key("P-256"))


def unknown_key(provider: OidcProvider, claims: Claims) -> str:
    return jwt.encode({"alg": "RS256", "kid": "unknown"}, claims, RSAKey.generate_key(2048))


def critical_header(provider: OidcProvider, claims: Claims) -> str:
    token = provider.signed(claims).split(".")
    header = {"alg": "RS256", "kid": provider.key.kid, "crit": ["b64"], "b64": False}
    token[0] = part(header)
    return ".".join(token)


def changed_claims(provider: OidcProvider, claims: Claims) -> str:
    token = provider.signed(claims).split(".")
    token[1] = part(claims | {"email": "admin@example.com"})
    return ".".join(token)


@pytest.mark.parametrize(
    "sign",
    [
        unsigned,
        hmac_by_public_key,
        hmac_by_client_secret,
        hmac_by_published_key,
        own_key,
        own_key_in_header,
        own_key_of_another_type,
        unknown_key,
        critical_header,
        changed_claims,
        pytest.param(lambda provider, claims: "", id="empty"),
        pytest.param(lambda provider, claims: "a.b.c", id="no JSON"),
        pytest.param(lambda provider, claims: "." * 1000, id="dots"),
        pytest.param(lambda provider, claims: "A" * 200_000, id="long"),
        pytest.param(
            lambda provider, claims: f"{part(b'[' * 9000)}.e30.e30",
            id="deep",
        ),
        pytest.param(lambda provider, claims: 7, id="a number"),
        pytest.param(lambda provider, claims: None, id="nothing"),
    ],
)
async def test_what_the_provider_did_not_sign_is_refused(
    client: AsyncClient, provider: OidcProvider, sign: Callable[[OidcProvider, Claims], str]
) -> None:
    provider.sign = sign
    assert await refused(client, provider) == "INVALID_ID_TOKEN"


async def test_new_keys_are_fetched_when_a_token_names_one(
    client: AsyncClient, provider: OidcProvider
) -> None:
    await signed_in(client, provider)
    provider.asked.clear()
    provider.vouch_for()
    provider.rotate()
    await signed_in(client, provider)
    assert provider.asked["/jwks"] == 1
    provider.vouch_for()
    await signed_in(client, provider)
    assert provider.asked["/jwks"] == 1
    assert provider.asked["/.well-known/openid-configuration"] == 0


async def test_a_key_that_is_no_longer_published_signs_nothing(
    client: AsyncClient, provider: OidcProvider
) -> None:
    old = provider.key
    await signed_in(client, provider)
    provider.rotate()
    provider.vouch_for()
    await signed_in(client, provider)
    provider.vouch_for()
    provider.sign = lambda provider, claims: jwt.encode(
        {"alg": "RS256", "kid": old.kid}, claims, old
    )
    assert await refused(client, provider) == "INVALID_ID_TOKEN"


async def test_a_callback_from_another_issuer_is_refused(
    client: AsyncClient, provider: OidcProvider
) -> None:
    """Mix-up (RFC 9207): the provider says in its callbacks who it is, so each of them must."""
    for change in ("https://evil.example", None):
        callback = (await to_callback(client, provider)).copy_remove_param("iss")
        if change:
            callback = callback.copy_set_param("iss", change)
        answer = await client.get(callback)
        assert (answer.status_code, code_of(answer)) == (401, "INVALID_ID_TOKEN")
    assert provider.asked["/token"] == 0


async def test_an_address_that_only_the_user_info_tells_is_believed(
    client: AsyncClient, provider: OidcProvider
) -> None:
    provider.claims = {"email": None, "email_verified": None}
    tokens = await signed_in(client, provider)
    assert tokens.account.email == provider.person["email"]
    assert provider.asked["/userinfo"] == 1


async def test_user_info_of_somebody_else_is_refused(
    client: AsyncClient, provider: OidcProvider
) -> None:
    provider.claims = {"email": None, "email_verified": None, "sub": "somebody-else"}
    assert await refused(client, provider) == "INVALID_ID_TOKEN"
