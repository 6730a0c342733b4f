"""Signing in by a provider, linking and unlinking one, in a real Chromium."""

import json
import time
from collections.abc import AsyncIterator, Iterator

import pyotp
import pytest
from playwright.async_api import Browser, Page, expect

from tests.oidc_provider import CLIENT_ID, CLIENT_SECRET, OidcProvider, running_provider
from tests.system.browser import Service, watched_page
from tests.system.console import (
    answer_with_code,
    dialog,
    is_signed_in,
    set_up_factor,
    sign_in,
    sign_out,
    sign_up,
    to_account,
)

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
async def running() -> AsyncIterator[OidcProvider]:
    async with running_provider() as provider:
        yield provider


@pytest.fixture
def provider(running: OidcProvider) -> OidcProvider:
    running.reset()
    return running


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, running: OidcProvider) -> Iterator[Service]:
    client = {"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}
    house = {**client, "issuer": running.url, "label": "The House"}
    folder = tmp_path_factory.mktemp("console-identities")
    with Service(folder, OIDC_PROVIDERS=json.dumps({"house": house})) as service:
        yield service


async def come_by_the_house(page: Page) -> None:
    await page.locator("#sign-in-open").click()
    await dialog(page).get_by_role("link", name="Continue with The House").click()


async def test_somebody_comes_by_a_provider_and_keeps_their_last_way_in(
    browser: Browser, service: Service, provider: OidcProvider
) -> None:
    async with watched_page(browser, service.origin) as watched:
        page = watched.page
        await come_by_the_house(page)
        username = provider.person["preferred_username"]
        await is_signed_in(page, username)
        assert "#" not in page.url
        assert "sign_in_code" not in await page.evaluate("JSON.stringify(history.state)")
        await page.locator("#who").click()
        identities = page.get_by_role("list", name="Linked identities").get_by_role("listitem")
        await expect(identities).to_contain_text(provider.person["email"])
        await identities.get_by_role("button", name="Unlink The House").click()
        await dialog(page).get_by_role("button", name="Unlink").click()
        await expect(dialog(page).get_by_role("alert")).to_contain_text("password")
        await dialog(page).get_by_role("button", name="Cancel").click()
        await expect(identities).to_have_count(1)
        await sign_out(page)
        await come_by_the_house(page)
        await is_signed_in(page, username)
        watched.forgive(f"foreign: {provider.url}", "status of 409")


async def test_an_identity_is_linked_used_and_unlinked(
    browser: Browser, service: Service, provider: OidcProvider
) -> None:
    async with watched_page(browser, service.origin) as watched:
        page = watched.page
        await to_account(page, "ada")
        await page.get_by_role("button", name="Link The House").click()
        await expect(page.get_by_text("You can sign in by The House from now on.")).to_be_visible()
        identities = page.get_by_role("list", name="Linked identities").get_by_role("listitem")
        await expect(identities).to_have_count(1)
        await sign_out(page)
        await come_by_the_house(page)
        await is_signed_in(page, "ada")
        await page.locator("#who").click()
        await identities.get_by_role("button", name="Unlink The House").click()
        await dialog(page).get_by_role("button", name="Unlink").click()
        await expect(page.get_by_text("None is linked yet.")).to_be_visible()
        await expect(page.get_by_role("heading", name="Sign-in by others")).to_be_focused()
        watched.forgive(f"foreign: {provider.url}")


async def test_a_provider_asks_for_the_second_factor_too(
    browser: Browser, service: Service, provider: OidcProvider
) -> None:
    async with watched_page(browser, service.origin) as watched:
        page = watched.page
        await to_account(page, "grace")
        await page.get_by_role("button", name="Link The House").click()
        await expect(page.get_by_text("You can sign in by The House")).to_be_visible()
        secret, _ = await set_up_factor(page)
        await sign_out(page)
        await come_by_the_house(page)
        await expect(dialog(page).get_by_role("heading", name="Second factor")).to_be_visible()
        await answer_with_code(page, "000000")
        await expect(dialog(page).get_by_role("alert")).to_be_visible()
        fresh = pyotp.TOTP(secret).at(int(time.time()) + 30)  # the one of now was spent above
        await answer_with_code(page, fresh)
        await is_signed_in(page, "grace")
        watched.forgive(f"foreign: {provider.url}", "status of 401")


async def test_what_went_wrong_at_the_provider_is_told(
    browser: Browser, service: Service, provider: OidcProvider
) -> None:
    async with watched_page(browser, service.origin) as watched:
        page = watched.page
        await sign_up(page, "barbara")
        await sign_out(page)
        provider.vouch_for(email="barbara@example.com")  # which barbara has not confirmed
        await come_by_the_house(page)
        told = page.locator("#toast")
        await expect(told).to_contain_text("There is an account with this e-mail address")
        await sign_in(page, "barbara")
        await is_signed_in(page, "barbara")
        await page.goto("/#sign_in_error=SIGN_IN_EXPIRED")
        await expect(told).to_contain_text("took too long")
        assert "#" not in page.url
        watched.forgive(f"foreign: {provider.url}")
