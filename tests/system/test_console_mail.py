"""What the console does with the links in mails: addresses and passwords, in a real Chromium."""

import asyncio

import pytest
from playwright.async_api import Browser, Page, expect

from tests.system.browser import Service, watched_page
from tests.system.console import (
    NEW_PASSWORD,
    PASSWORD,
    dialog,
    fill_in,
    is_signed_in,
    link_of_mail,
    sign_up,
    to_account,
)

pytestmark = pytest.mark.system


async def ask_for_another_address(page: Page, email: str, password: str = PASSWORD) -> None:
    await page.get_by_role("button", name="Change e-mail").click()
    await dialog(page).get_by_label("New e-mail").fill(email)
    await dialog(page).get_by_label("Your password").fill(password)
    await page.keyboard.press("Enter")


async def agree(page: Page, link: str) -> None:
    await page.goto(link)
    await page.get_by_role("button", name="Agree").click()


async def test_an_address_changes_when_both_have_agreed(browser: Browser, service: Service) -> None:
    async with watched_page(browser, service.origin) as watched:
        page = watched.page
        await to_account(page, "ada")
        await ask_for_another_address(page, "countess@example.com", "wrong")
        await expect(dialog(page).get_by_label("Your password")).to_have_attribute(
            "aria-invalid", "true"
        )
        await dialog(page).get_by_label("Your password").fill(PASSWORD)
        await page.keyboard.press("Enter")
        await expect(page.get_by_text("Both addresses get a mail")).to_be_visible()
        await expect(dialog(page)).to_have_count(0)
        await agree(page, await link_of_mail(service, "confirm-email-change", "ada@"))
        await expect(page.get_by_text("The other address has to agree too.")).to_be_visible()
        assert "#" not in page.url
        await agree(page, await link_of_mail(service, "confirm-email-change", "countess@"))
        await expect(page.get_by_text("The e-mail address is changed.")).to_be_visible()
        await page.locator("#who").click()
        address = page.locator(".address")
        await expect(address).to_contain_text("countess@example.com")
        await expect(address.locator(".badge")).to_have_text("confirmed")
        watched.forgive("status of 422")


async def test_an_address_on_show_changes_in_front_of_its_owner(
    browser: Browser, service: Service
) -> None:
    async with (
        watched_page(browser, service.origin) as here,
        watched_page(browser, service.origin) as phone,
    ):
        await to_account(here.page, "emmy")
        await ask_for_another_address(here.page, "noether@example.com")
        for to in ("emmy@", "noether@"):
            await agree(phone.page, await link_of_mail(service, "confirm-email-change", to))
            await expect(dialog(phone.page)).to_have_count(0)
        await expect(here.page.locator(".address")).to_contain_text("noether@example.com")


async def test_a_change_of_address_is_stopped_by_the_old_one(
    browser: Browser, service: Service
) -> None:
    async with watched_page(browser, service.origin) as watched:
        page = watched.page
        await to_account(page, "grace")
        await ask_for_another_address(page, "thief@example.com")
        await expect(dialog(page)).to_have_count(0)
        await page.goto(await link_of_mail(service, "cancel-email-change", "grace@"))
        await page.get_by_role("button", name="Stop the change").click()
        await expect(page.get_by_text("The change is stopped.")).to_be_visible()
        await agree(page, await link_of_mail(service, "confirm-email-change", "thief@"))
        await expect(dialog(page).get_by_role("alert")).to_be_visible()
        await page.keyboard.press("Escape")
        await page.locator("#who").click()
        await expect(page.locator(".address")).to_contain_text("grace@example.com")
        watched.forgive("status of 400")


async def test_a_confirmation_is_sent_again_and_its_link_works_once(
    browser: Browser, service: Service
) -> None:
    async with watched_page(browser, service.origin) as watched:
        page = watched.page
        await to_account(page, "hedy")
        await expect(page.get_by_text("not confirmed")).to_be_visible()
        first = await link_of_mail(service, "verify-email", "hedy@")
        await page.get_by_role("button", name="Send the confirmation again").click()
        await expect(page.get_by_text("a mail is on its way")).to_be_visible()
        again = first
        async with asyncio.timeout(30):
            while again == first:
                again = await link_of_mail(service, "verify-email", "hedy@")
        await page.goto(again)
        await page.get_by_role("button", name="Confirm", exact=True).click()
        await expect(page.get_by_text("Your e-mail address is confirmed.")).to_be_visible()
        assert "#" not in page.url
        await page.locator("#who").click()
        await expect(page.locator(".address .badge")).to_have_text("confirmed")
        await expect(page.get_by_role("button", name="Send the confirmation")).to_have_count(0)
        await page.goto(again)
        await page.get_by_role("button", name="Confirm", exact=True).click()
        await expect(dialog(page).get_by_role("alert")).to_be_visible()
        watched.forgive("status of 400")


async def test_a_forgotten_password_is_set_anew_and_ends_every_session(
    browser: Browser, service: Service
) -> None:
    async with (
        watched_page(browser, service.origin) as there,
        watched_page(browser, service.origin) as here,
    ):
        await sign_up(there.page, "mary")
        page = here.page
        for email in ("nobody@example.com", "mary@example.com"):  # answered alike
            await page.locator("#sign-in-open").click()
            await page.locator("#account-username").fill(email)
            await page.get_by_role("button", name="I forgot my password").click()
            await expect(dialog(page).get_by_label("E-mail")).to_have_value(email)
            await page.get_by_role("button", name="Send the link").click()
            await expect(page.get_by_text("If there is such an account")).to_be_visible()
            await expect(dialog(page)).to_have_count(0)
        link = await link_of_mail(service, "reset-password", "mary@")
        await page.goto(link)
        await dialog(page).get_by_label("New password", exact=True).fill(NEW_PASSWORD)
        await dialog(page).get_by_label("New password again").fill("something else entirely")
        await page.get_by_role("button", name="Set it").click()
        await expect(dialog(page).locator("[aria-invalid=true]")).to_be_focused()
        await dialog(page).get_by_label("New password again").fill(NEW_PASSWORD)
        await page.get_by_role("button", name="Set it").click()
        await expect(page.get_by_text("Your password is set.")).to_be_visible()
        await expect(there.page.locator("#sign-in-open")).to_be_visible()
        await fill_in(page, "mary", NEW_PASSWORD)
        await is_signed_in(page, "mary")
        await page.goto(link)
        for label in ("New password", "New password again"):
            await dialog(page).get_by_label(label, exact=True).fill(PASSWORD)
        await page.get_by_role("button", name="Set it").click()
        await expect(dialog(page).get_by_role("alert")).to_be_visible()
        here.forgive("status of 422", "status of 400")
        there.forgive("status of 401", "WebSocket")
