"""A provider's word replaces the password, never the second factor."""

from fastapi import FastAPI
from httpx import AsyncClient

from tests.api.oidc.steps import AUTH, ME, come_back, fragment, linked
from tests.api.second_factors import Enrolled, answer, code_of, enrol
from tests.factories import expect, new_user
from tests.oidc_provider import OidcProvider

EXCHANGE = f"{AUTH}/oidc/exchange?cookie=true"
OWN = {"Origin": "http://testserver"}


async def with_both(client: AsyncClient, app: FastAPI, provider: OidcProvider) -> Enrolled:
    tokens = await new_user(client)
    assert (await linked(client, provider, tokens)).status_code == 200
    return await enrol(client, app, tokens)


async def test_signing_in_by_a_provider_asks_for_it_too(
    client: AsyncClient, app: FastAPI, provider: OidcProvider
) -> None:
    enrolled = await with_both(client, app, provider)
    problem = expect(await come_back(client, provider), 401)
    assert problem["error_code"] == "SECOND_FACTOR_REQUIRED"
    pair = expect(await answer(client, problem["challenge"], code_of(enrolled.secret)), 200)
    headers = {"Authorization": f"Bearer {pair['access_token']}"}
    assert expect(await client.get(ME, headers=headers), 200)["id"] == enrolled.account.id


async def test_a_pages_code_does_not_lead_around_it(
    browser: AsyncClient, app: FastAPI, provider: OidcProvider
) -> None:
    tokens = await new_user(browser)
    assert (await linked(browser, provider, tokens)).status_code == 303
    await enrol(browser, app, tokens)
    code = fragment(await come_back(browser, provider))["sign_in_code"]
    problem = expect(await browser.post(EXCHANGE, json={"code": code}, headers=OWN), 401)
    assert problem["error_code"] == "SECOND_FACTOR_REQUIRED"


async def test_a_page_may_have_its_refresh_token_as_a_cookie(
    browser: AsyncClient, provider: OidcProvider
) -> None:
    code = fragment(await come_back(browser, provider))["sign_in_code"]
    evil = {"Origin": "https://evil.example"}
    assert (await browser.post(EXCHANGE, json={"code": code}, headers=evil)).status_code == 403
    exchanged = expect(await browser.post(EXCHANGE, json={"code": code}, headers=OWN), 200)
    assert "refresh_token" not in exchanged
    assert (await browser.post(f"{AUTH}/refresh", headers=OWN)).status_code == 200
