"""Signing in by a provider, from the first redirect to the tokens."""

import asyncio
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from fastapi import FastAPI
from httpx import AsyncClient

from tests.api.oidc.steps import (
    AUTH,
    begin,
    code_of,
    come_back,
    profile,
    signed_in,
    to_callback,
    with_cookies_of,
)
from tests.conftest import MakeApp, MakeClient
from tests.factories import expect
from tests.oidc_provider import CLIENT_SECRET, OidcProvider

EXCHANGE = f"{AUTH}/oidc/exchange"
COOKIE = "kingpost_sign_in"


async def test_the_providers_are_listed_without_their_secrets(client: AsyncClient) -> None:
    answer = await client.get(f"{AUTH}/oidc/providers")
    assert expect(answer, 200)["items"] == [
        {"name": "house", "label": "The House", "login_path": f"{AUTH}/oidc/house/login"},
        {"name": "facebook", "label": "Facebook", "login_path": f"{AUTH}/oidc/facebook/login"},
    ]
    v2 = expect(await client.get("/api/v2/auth/oidc/providers"), 200)["items"][0]
    assert v2["loginPath"] == "/api/v2/auth/oidc/house/login"


async def test_the_browser_is_sent_with_pkce_state_and_nonce(
    client: AsyncClient, provider: OidcProvider
) -> None:
    sent = urlsplit(await begin(client))
    asked = {name: values[0] for name, values in parse_qs(sent.query).items()}
    assert f"{sent.scheme}://{sent.netloc}{sent.path}" == f"{provider.url}/authorize"
    assert asked["response_type"] == "code"
    assert asked["code_challenge_method"] == "S256"
    assert asked["redirect_uri"] == "http://testserver/api/auth/oidc/house/callback"
    assert {len(asked[name]) >= 43 for name in ("state", "nonce", "code_challenge")} == {True}
    again = parse_qs(urlsplit(await begin(client)).query)
    for name in ("state", "nonce", "code_challenge"):
        assert again[name] != [asked[name]]


async def test_somebody_new_gets_a_verified_account_and_tokens(
    client: AsyncClient, provider: OidcProvider
) -> None:
    answer = await come_back(client, provider)
    pair = expect(answer, 200)
    assert set(pair) == {
        "access_token",
        "refresh_token",
        "token_type",
        "expires_in",
        "refresh_expires_in",
    }
    assert answer.headers["cache-control"] == "no-store"
    me = expect(
        await client.get(
            "/api/v1/users/me", headers={"Authorization": f"Bearer {pair['access_token']}"}
        ),
        200,
    )
    assert me["email"] == provider.person["email"]
    assert me["username"] == provider.person["preferred_username"]
    assert me["full_name"] == provider.person["name"]
    assert (me["is_verified"], me["roles"]) == (True, ["user"])


async def test_the_tokens_are_tokens_like_any_other(
    client: AsyncClient, provider: OidcProvider
) -> None:
    tokens = await signed_in(client, provider)
    renewed = await client.post(f"{AUTH}/refresh", json={"refresh_token": tokens.refresh})
    expect(renewed, 200)
    assert (await client.post(f"{AUTH}/logout", headers=tokens.headers)).status_code == 204
    assert (await client.get("/api/v1/users/me", headers=tokens.headers)).status_code == 401


async def test_the_same_person_comes_back_to_the_same_account(
    client: AsyncClient, provider: OidcProvider
) -> None:
    first = await signed_in(client, provider)
    provider.vouch_for(sub=provider.person["sub"], email="moved@example.com", email_verified=False)
    again = await signed_in(client, provider)
    assert again.account.id == first.account.id
    assert again.account.email == first.account.email


@pytest.mark.only("embedded")
async def test_the_cookie_is_kept_from_scripts_and_other_sites(
    app: FastAPI, make_client: MakeClient
) -> None:
    plain = await make_client(app).get(f"{AUTH}/oidc/house/login")
    cookie = plain.headers["set-cookie"]
    assert cookie.startswith(f"{COOKIE}=")
    assert {"HttpOnly", "SameSite=lax", "Path=/", "Max-Age=600"} <= set(cookie.split("; "))
    assert "Secure" not in cookie


async def test_with_tls_no_other_host_can_set_the_cookie(
    app: FastAPI, make_client: MakeClient, provider: OidcProvider
) -> None:
    client = make_client(app)
    client.base_url = "https://testserver"
    answer = await client.get(f"{AUTH}/oidc/house/login")
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith(f"__Host-{COOKIE}=")
    assert {"Secure", "HttpOnly", "SameSite=lax", "Path=/"} <= set(cookie.split("; "))
    assert "Domain" not in cookie
    callback = await provider.consent(answer.headers["location"])
    assert callback.scheme == "https"
    expect(await client.get(callback), 200)
    assert not client.cookies


async def test_a_provider_that_is_not_there_is_not_found(client: AsyncClient) -> None:
    for path in ("login", "callback?code=a&state=b"):
        answer = await client.get(f"{AUTH}/oidc/nowhere/{path}")
        assert (answer.status_code, code_of(answer)) == (404, "NOT_FOUND")


async def test_a_callback_works_once(
    app: FastAPI, client: AsyncClient, make_client: MakeClient, provider: OidcProvider
) -> None:
    callback = await to_callback(client, provider)
    same = make_client(app, headers=with_cookies_of(client))
    answers = await asyncio.gather(*(same.get(callback) for _ in range(4)))
    assert sorted(each.status_code for each in answers) == [200, 400, 400, 400]
    refused = [each for each in answers if each.status_code == 400]
    assert {code_of(each) for each in refused} == {"SIGN_IN_EXPIRED"}
    assert provider.asked["/token"] == 1


async def test_a_callback_of_another_browser_is_refused(
    app: FastAPI, client: AsyncClient, make_client: MakeClient, provider: OidcProvider
) -> None:
    callback = await to_callback(client, provider)
    other = make_client(app)
    await begin(other)
    for victim in (make_client(app), other):
        answer = await victim.get(callback)
        assert (answer.status_code, code_of(answer)) == (400, "SIGN_IN_EXPIRED")
    assert provider.asked["/token"] == 0
    expect(await client.get(callback), 200)


async def test_a_callback_is_only_good_for_the_provider_it_was_begun_with(
    client: AsyncClient, provider: OidcProvider
) -> None:
    callback = await to_callback(client, provider)
    crossed = callback.copy_with(path="/api/auth/oidc/facebook/callback")
    answer = await client.get(crossed)
    assert (answer.status_code, code_of(answer)) == (400, "SIGN_IN_EXPIRED")


@pytest.mark.only("embedded")
@pytest.mark.parametrize("state", [None, "", "x", "0" * 43])
async def test_a_callback_without_its_state_is_refused(
    client: AsyncClient, provider: OidcProvider, state: str | None
) -> None:
    callback = await to_callback(client, provider)
    forged = callback.copy_remove_param("state")
    if state is not None:
        forged = forged.copy_set_param("state", state)
    answer = await client.get(forged)
    assert (answer.status_code, code_of(answer)) == (400, "SIGN_IN_EXPIRED")


@pytest.mark.only("embedded")
@pytest.mark.parametrize("cookie", ["", "x", "AAAA", "A" * 5000, "é", "…"])
async def test_a_forged_cookie_is_refused(
    app: FastAPI, make_client: MakeClient, client: AsyncClient, provider: OidcProvider, cookie: str
) -> None:
    callback = await to_callback(client, provider)
    forger = make_client(app, headers=[(b"Cookie", f"{COOKIE}={cookie}".encode())])
    answer = await forger.get(callback)
    assert (answer.status_code, code_of(answer)) == (400, "SIGN_IN_EXPIRED")


@pytest.mark.only("embedded")
async def test_no_letter_of_the_cookie_can_be_changed(
    app: FastAPI, make_client: MakeClient, client: AsyncClient, provider: OidcProvider
) -> None:
    callback = await to_callback(client, provider)
    genuine = client.cookies[COOKIE]
    for place in range(0, len(genuine), 7):
        letter = "A" if genuine[place] != "A" else "B"
        changed = genuine[:place] + letter + genuine[place + 1 :]
        answer = await make_client(app, cookies={COOKIE: changed}).get(callback)
        assert (answer.status_code, code_of(answer)) == (400, "SIGN_IN_EXPIRED")


@pytest.mark.only("embedded")
@pytest.mark.parametrize(
    ("told", "said"),
    [
        ("access_denied", "The House did not let you sign in (access_denied)"),
        ("<script>alert(1)</script>", "The House did not let you sign in (error)"),
    ],
)
async def test_who_declines_is_told_so(
    client: AsyncClient, provider: OidcProvider, told: str, said: str
) -> None:
    callback = await to_callback(client, provider)
    declined = callback.copy_remove_param("code").copy_set_param("error", told)
    answer = await client.get(declined)
    assert expect(answer, 403)["error_code"] == "PROVIDER_REFUSED"
    assert answer.json()["detail"] == said
    assert provider.asked["/token"] == 0


async def test_a_code_that_was_used_before_is_refused_by_the_provider(
    client: AsyncClient, provider: OidcProvider
) -> None:
    used = await to_callback(client, provider)
    expect(await client.get(used), 200)
    fresh = await to_callback(client, provider)
    replayed = fresh.copy_set_param("code", used.params["code"])
    answer = await client.get(replayed)
    assert (answer.status_code, code_of(answer)) == (403, "PROVIDER_REFUSED")
    assert "invalid_grant" in answer.json()["detail"]


async def test_a_code_for_another_browser_lacks_its_verifier(
    app: FastAPI, client: AsyncClient, make_client: MakeClient, provider: OidcProvider
) -> None:
    """An attacker injects a code that they saw into a sign-in of their own (RFC 9700, 4.5)."""
    seen = await to_callback(client, provider)
    attacker = make_client(app)
    own = await to_callback(attacker, provider)
    answer = await attacker.get(own.copy_set_param("code", seen.params["code"]))
    assert (answer.status_code, code_of(answer)) == (403, "PROVIDER_REFUSED")


async def test_facebook_vouches_by_its_user_info(
    client: AsyncClient, provider: OidcProvider
) -> None:
    provider.vouch_for(id="1008", sub=None, email_verified=None, preferred_username=None)
    tokens = await signed_in(client, provider, "facebook")
    me = await profile(client, tokens)
    assert me["email"] == provider.person["email"]
    assert me["is_verified"] is False
    assert me["username"] == provider.person["name"].replace(" ", "-")
    assert provider.told["client_id"] == "kingpost-tests"
    assert provider.asked["/userinfo"] == 1


@pytest.mark.only("embedded")
async def test_the_public_address_wins_over_what_a_request_says(
    make_app: MakeApp,
    make_client: MakeClient,
    oidc_settings: dict[str, Any],
    provider: OidcProvider,
) -> None:
    app = await make_app(**oidc_settings, public_url="https://api.example.org")
    browser = make_client(app, headers={"Host": "evil.example"})
    answer = await browser.get(
        f"{AUTH}/oidc/house/login", params={"redirect_to": "https://api.example.org/in"}
    )
    asked = parse_qs(urlsplit(answer.headers["location"]).query)
    assert asked["redirect_uri"] == ["https://api.example.org/api/auth/oidc/house/callback"]
    assert answer.headers["set-cookie"].startswith(f"__Host-{COOKIE}=")


async def test_beginning_without_end_is_limited(
    make_app: MakeApp,
    make_client: MakeClient,
    oidc_settings: dict[str, Any],
    provider: OidcProvider,
) -> None:
    limits = {"rate_limits_enabled": True, "rate_limit_login": "2/minute"}
    client = make_client(await make_app(**oidc_settings, **limits), address="203.0.113.91")
    paths = ["login", "callback?code=a&state=b"]
    answers = [await client.get(f"{AUTH}/oidc/house/{path}") for path in (*paths, *paths)]
    assert [each.status_code for each in answers] == [302, 400, 429, 429]
    assert (await client.post(EXCHANGE, json={"code": "x"})).status_code == 429


async def test_no_secret_reaches_a_log(
    client: AsyncClient, provider: OidcProvider, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    callback = await to_callback(client, provider)
    cookie = client.cookies[COOKIE]
    pair = expect(await client.get(callback), 200)
    verifier = provider.told["code_verifier"]
    provider.claims = {"nonce": "another"}
    refused = await to_callback(client, provider)
    assert (await client.get(refused)).status_code == 401
    assert (await client.get(refused.copy_set_param("state", "x"))).status_code == 400
    ours = [each for each in caplog.records if each.name.startswith(("app.", "kingpost."))]
    logged = "\n".join(f"{each.getMessage()} {getattr(each, 'fields', '')}" for each in ours)
    assert "ID token refused" in logged
    secrets = (cookie, verifier, CLIENT_SECRET, pair["access_token"], pair["refresh_token"])
    for secret in (*secrets, callback.params["code"], refused.params["code"], "code="):
        assert secret not in logged
