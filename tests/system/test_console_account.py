"""The console's place of one's own account, in a real Chromium."""

import asyncio
import re
from email import message_from_bytes, policy
from pathlib import Path

import pyotp
import pytest
from playwright.async_api import Browser, Locator, Page, expect

from tests.system.browser import Service, watched_page
from tests.system.test_console import PASSWORD, sign_up

pytestmark = pytest.mark.system

NEW_PASSWORD = "another long passphrase"


def dialog(page: Page) -> Locator:
    return page.locator("dialog[open]")


async def sign_in(page: Page, username: str, password: str = PASSWORD) -> None:
    await page.locator("#sign-in-open").click()
    await page.locator("#account-username").fill(username)
    await page.locator("#account-password").fill(password)
    await page.keyboard.press("Enter")


async def to_account(page: Page, username: str) -> None:
    await page.goto("/")
    await sign_up(page, username)
    await page.get_by_role("link", name=username).click()
    await expect(page.get_by_role("heading", name="Account", exact=True)).to_be_focused()


async def set_up_factor(page: Page) -> tuple[str, list[str]]:
    """Set up a second factor; return its secret and the recovery codes."""
    await page.get_by_role("button", name="Set up").click()
    await dialog(page).get_by_label("Your password").fill(PASSWORD)
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("img", name="QR code")).to_be_visible()
    await page.get_by_text("I cannot scan it").click()
    secret = (await dialog(page).locator("code").text_content() or "").replace(" ", "")
    await dialog(page).get_by_label("Code").fill(pyotp.TOTP(secret).now())
    await page.get_by_role("button", name="Confirm", exact=True).click()
    codes = (await dialog(page).locator("output").text_content() or "").split()
    await page.get_by_role("button", name="I have kept it").click()
    await expect(page.get_by_text("10 recovery codes left")).to_be_visible()
    return secret, codes


async def link_of_mail(service: Service, action: str, to: str) -> str:
    """Wait for a mail to somebody, and return the link in it."""
    for _ in range(200):
        for path in sorted(service.folder.rglob("*.eml"), reverse=True):
            found = _link(path, action, to)
            if found:
                return found
        await asyncio.sleep(0.05)
    raise AssertionError(f"no mail with #{action} came to {to}")


def _link(path: Path, action: str, to: str) -> str | None:
    mail = message_from_bytes(path.read_bytes(), policy=policy.default)
    body = mail.get_body(("plain",))
    if to not in str(mail["To"]) or body is None:
        return None
    found = re.search(rf"\S+/(#{action}=\S+)", body.get_content())
    return f"/{found[1]}" if found else None


async def test_a_profile_is_changed_and_a_wrong_password_is_told_beside_its_field(
    browser: Browser, service: Service
) -> None:
    async with watched_page(browser, service.origin) as watched:
        page = watched.page
        await to_account(page, "ada")
        await page.get_by_label("Full name").fill("Ada Lovelace")
        await page.get_by_role("button", name="Save profile").click()
        await expect(page.get_by_text("Your profile is saved.")).to_be_visible()
        await page.reload()
        await expect(page.get_by_label("Full name")).to_have_value("Ada Lovelace")
        await page.get_by_label("Current password").fill("wrong")
        for label in ("New password", "New password again"):
            await page.get_by_label(label, exact=True).fill(NEW_PASSWORD)
        await page.get_by_role("button", name="Change password").click()
        await expect(page.get_by_label("Current password")).to_have_attribute(
            "aria-invalid", "true"
        )
        watched.forgive("status of 422")
        await page.get_by_label("Current password").fill(PASSWORD)
        await page.get_by_role("button", name="Change password").click()
        await expect(page.get_by_text("Your password is changed.")).to_be_visible()
        assert watched.errors == []


async def test_a_session_elsewhere_is_seen_and_ended(browser: Browser, service: Service) -> None:
    async with (
        watched_page(browser, service.origin) as here,
        watched_page(browser, service.origin) as there,
    ):
        await to_account(here.page, "grace")
        await there.page.goto("/")
        await sign_in(there.page, "grace")
        await expect(there.page.locator("#who")).to_have_text("grace")
        await here.page.reload()
        rows = here.page.get_by_role("list", name="Sessions").get_by_role("listitem")
        await expect(rows).to_have_count(2)
        await rows.get_by_role("button", name="Sign out").click()
        await expect(rows).to_have_count(1)
        await expect(there.page.locator("#sign-in-open")).to_be_visible()
        there.forgive("status of 401", "WebSocket")
        await here.page.get_by_role("button", name="Sign out everywhere").click()
        await dialog(here.page).get_by_role("button", name="Sign out everywhere").click()
        await expect(here.page.locator("#sign-in-open")).to_be_visible()
        here.forgive("status of 401", "WebSocket")
        assert [here.errors, there.errors] == [[], []]


async def test_a_key_is_made_shown_once_rotated_and_revoked(
    browser: Browser, service: Service
) -> None:
    async with watched_page(browser, service.origin) as watched:
        page = watched.page
        await to_account(page, "joan")
        await page.get_by_role("button", name="New key").click()
        await dialog(page).get_by_label("Name").fill("Nightly import")
        await dialog(page).get_by_label("Create, change and delete items").check()
        await page.get_by_role("button", name="Create").click()
        secret = await dialog(page).locator("output").text_content()
        assert secret is not None
        read = await page.request.get("/api/v1/items", headers={"X-API-Key": secret})
        assert read.status == 200
        await page.get_by_role("button", name="I have kept it").click()
        keys = page.get_by_role("list", name="API keys")
        await expect(keys).to_contain_text("items:read, items:write")
        await expect(page.get_by_text(secret)).to_have_count(0)
        await keys.get_by_role("button", name="Rotate").click()
        await dialog(page).get_by_label("The old secret").select_option("0")
        await dialog(page).get_by_role("button", name="Rotate").click()
        await expect(dialog(page).locator("output")).not_to_have_text(secret)
        await page.get_by_role("button", name="I have kept it").click()
        await keys.get_by_role("button", name="Revoke").click()
        await dialog(page).get_by_role("button", name="Revoke").click()
        await expect(page.get_by_text("No keys yet.")).to_be_visible()
        assert watched.errors == []


async def test_a_second_factor_is_set_up_and_asked_for(browser: Browser, service: Service) -> None:
    async with watched_page(browser, service.origin) as watched:
        page = watched.page
        await to_account(page, "hedy")
        _, codes = await set_up_factor(page)
        assert len(codes) == 10
        await page.get_by_role("button", name="Sign out", exact=True).click()
        await expect(page.locator("#who")).to_be_hidden()
        await sign_in(page, "hedy")
        await dialog(page).get_by_label("Code").fill(codes[0])
        await page.keyboard.press("Enter")
        await expect(page.locator("#who")).to_have_text("hedy")
        watched.forgive("status of 401")
        assert watched.errors == []


async def test_a_mail_confirms_the_address_and_another_sets_a_new_password(
    browser: Browser, service: Service
) -> None:
    async with watched_page(browser, service.origin) as watched:
        page = watched.page
        await to_account(page, "mary")
        await expect(page.get_by_text("not confirmed")).to_be_visible()
        await page.goto(await link_of_mail(service, "verify-email", "mary@"))
        await page.get_by_role("button", name="Confirm", exact=True).click()
        await expect(page.get_by_text("Your e-mail address is confirmed.")).to_be_visible()
        assert "#" not in page.url
        await page.get_by_role("button", name="Sign out", exact=True).click()
        await page.locator("#sign-in-open").click()
        await page.get_by_role("button", name="I forgot my password").click()
        await dialog(page).get_by_label("E-mail").fill("mary@example.com")
        await page.get_by_role("button", name="Send the link").click()
        await page.goto(await link_of_mail(service, "reset-password", "mary@"))
        for label in ("New password", "New password again"):
            await dialog(page).get_by_label(label, exact=True).fill(NEW_PASSWORD)
        await page.get_by_role("button", name="Set it").click()
        await page.locator("#account-username").fill("mary")
        await page.locator("#account-password").fill(NEW_PASSWORD)
        await page.keyboard.press("Enter")
        await expect(page.locator("#who")).to_have_text("mary")
        assert watched.errors == []
