"""What a page gets of a sign-in: a code for its own browser, and no way to a stranger's page."""

import asyncio
from datetime import timedelta

import pytest
from fastapi import FastAPI
from httpx import AsyncClient
from sqlalchemy import select, update

from app.clock import now
from app.models.users import one_time_tokens
from tests.api.oidc.steps import (
    AUTH,
    begin,
    code_of,
    come_back,
    fragment,
    profile,
    with_cookies_of,
)
from tests.conftest import MakeClient
from tests.factories import Account, Tokens, expect
from tests.oidc_provider import OidcProvider

EXCHANGE = f"{AUTH}/oidc/exchange"
COOKIE = "kingpost_sign_in"


async def test_a_page_gets_a_code_and_no_token_in_any_address(
    browser: AsyncClient, provider: OidcProvider
) -> None:
    answer = await come_back(browser, provider)
    assert answer.headers["location"].startswith("/#sign_in_code=kps_")
    assert answer.headers["cache-control"] == "no-store"
    assert answer.content == b""
    code = fragment(answer)["sign_in_code"]
    exchanged = await browser.post(EXCHANGE, json={"code": code})
    pair = expect(exchanged, 200)
    assert exchanged.headers["cache-control"] == "no-store"
    me = await profile(browser, Tokens(pair["access_token"], "", Account(0, "", "", "")))
    assert me["email"] == provider.person["email"]


async def test_a_pages_code_works_once(
    app: FastAPI, browser: AsyncClient, make_client: MakeClient, provider: OidcProvider
) -> None:
    code = fragment(await come_back(browser, provider))["sign_in_code"]
    same = make_client(app, headers=with_cookies_of(browser))
    answers = await asyncio.gather(*(same.post(EXCHANGE, json={"code": code}) for _ in range(5)))
    assert sorted(each.status_code for each in answers) == [200, 400, 400, 400, 400]


async def test_a_pages_code_is_worth_nothing_in_another_browser(
    app: FastAPI, browser: AsyncClient, make_client: MakeClient, provider: OidcProvider
) -> None:
    code = fragment(await come_back(browser, provider))["sign_in_code"]
    stolen = await make_client(app).post(EXCHANGE, json={"code": code})
    assert (stolen.status_code, code_of(stolen)) == (400, "SIGN_IN_EXPIRED")
    # Nor can an attacker sign somebody else in as themselves by a link with their own code.
    victim = make_client(app)
    await begin(victim)
    pushed = await victim.post(EXCHANGE, json={"code": code})
    assert (pushed.status_code, code_of(pushed)) == (400, "SIGN_IN_EXPIRED")
    expect(await browser.post(EXCHANGE, json={"code": code}), 200)


@pytest.mark.only("embedded")
@pytest.mark.parametrize("code", ["", "kps_", "x" * 200, "kps_é"])
async def test_a_code_that_is_none_is_refused(client: AsyncClient, code: str) -> None:
    answer = await client.post(EXCHANGE, json={"code": code})
    assert (answer.status_code, code_of(answer)) == (400, "SIGN_IN_EXPIRED")


@pytest.mark.only("embedded")
@pytest.mark.parametrize(
    "target", ["/", "/?tab=mine", "/console/x", "https://app.example.com/in?a=b"]
)
async def test_the_browser_ends_where_it_asked_to(
    browser: AsyncClient, provider: OidcProvider, target: str
) -> None:
    callback = await provider.consent(await begin(browser, redirect_to=target))
    answer = await browser.get(callback)
    assert answer.headers["location"].partition("#")[0] == target


@pytest.mark.only("embedded")
@pytest.mark.parametrize(
    "target",
    [
        "//evil.example",
        "https://evil.example",
        "https://app.example.com.evil.example/",
        "https://app.example.com@evil.example/",
        "https://evil.example@app.example.com/",
        "http://app.example.com/",
        "https://app.example.com:444/",
        "/\\evil.example",
        "\\\\evil.example",
        "/\t/evil.example",
        "https:/\\app.example.com",
        "javascript:alert(1)",
        "data:text/html,x",
        "evil.example",
        "",
        "https://[::1",
        "/a#sign_in_code=x",
        "/" + "a" * 1000,
    ],
)
async def test_nobody_is_sent_to_a_strangers_page(client: AsyncClient, target: str) -> None:
    answer = await client.get(f"{AUTH}/oidc/house/login", params={"redirect_to": target})
    assert answer.status_code == 422, answer.headers.get("location")
    assert code_of(answer) == "VALIDATION_ERROR"
    assert "location" not in answer.headers


async def test_v2_asks_in_camel_case(browser: AsyncClient, provider: OidcProvider) -> None:
    answer = await browser.get("/api/v2/auth/oidc/house/login", params={"redirectTo": "/?v=2"})
    callback = await provider.consent(answer.headers["location"])
    assert (await browser.get(callback)).headers["location"].startswith("/?v=2#sign_in_code=")


async def test_a_page_is_told_of_a_refusal_where_it_is(
    browser: AsyncClient, provider: OidcProvider
) -> None:
    callback = await provider.consent(await begin(browser, redirect_to="/?from=here"))
    answer = await browser.get(callback.copy_add_param("error", "access_denied"))
    assert answer.headers["location"] == "/?from=here#sign_in_error=PROVIDER_REFUSED"


async def test_a_pages_code_ends_after_a_minute(
    app: FastAPI, browser: AsyncClient, provider: OidcProvider
) -> None:
    code = fragment(await come_back(browser, provider))["sign_in_code"]
    async with app.state.resources.db.transaction() as connection:
        pages = update(one_time_tokens).where(one_time_tokens.c.purpose == "social-sign-in")
        await connection.execute(pages.values(expires_at=now() - timedelta(seconds=1)))
    answer = await browser.post(EXCHANGE, json={"code": code})
    assert (answer.status_code, code_of(answer)) == (400, "SIGN_IN_EXPIRED")


async def test_what_is_kept_opens_nothing(
    app: FastAPI, browser: AsyncClient, provider: OidcProvider
) -> None:
    code = fragment(await come_back(browser, provider))["sign_in_code"]
    async with app.state.resources.db.read() as connection:
        kept = list(await connection.execute(select(one_time_tokens)))
    assert kept
    assert code not in str(kept)
    assert browser.cookies[COOKIE] not in str(kept)


async def test_who_goes_back_to_a_callback_ends_on_our_own_page(
    browser: AsyncClient, provider: OidcProvider
) -> None:
    callback = await provider.consent(await begin(browser, redirect_to="/?from=here"))
    await browser.get(callback)
    again = await browser.get(callback)
    assert again.headers["location"] == "/#sign_in_error=SIGN_IN_EXPIRED"
