"""What somebody is writing in the console is never lost, in a real Chromium."""

import pytest
from playwright.async_api import Browser, Locator, Page, expect

from tests.system.browser import Service, watched_page
from tests.system.console import (
    PASSWORD,
    another_tab,
    create,
    dialog,
    fill_in,
    is_signed_in,
    sign_in,
    sign_out,
    sign_up,
    to_account,
)

pytestmark = pytest.mark.system


async def end_every_session(page: Page, username: str) -> None:
    """End them from elsewhere, as somebody does whose device was stolen."""
    form: dict[str, str | float | bool] = {"username": username, "password": PASSWORD}
    pair = await (await page.request.post("/api/v2/auth/token", form=form)).json()
    headers = {"Authorization": f"Bearer {pair['access_token']}"}
    assert (await page.request.post("/api/v2/auth/logout-all", headers=headers)).ok


def field(page: Page, name: str) -> Locator:
    return page.locator(f"#editor-{name}")


async def test_the_second_of_two_tabs_is_told_and_keeps_what_it_wrote(
    browser: Browser, service: Service
) -> None:
    async with watched_page(browser, service.origin) as watched:
        first = watched.page
        await sign_up(first, "frances")
        await create(first, "Round table", "50")
        second = await another_tab(first)
        for each in (first, second):
            await each.get_by_role("button", name="Edit Round table").click()
        await field(first, "description").fill("Of oak.")
        await field(first, "price").fill("99")
        await first.get_by_role("button", name="Save").click()
        await expect(first.locator("#editor")).to_be_hidden()
        await expect(first.get_by_role("button", name="Edit Round table")).to_be_focused()
        await field(second, "name").fill("Square table")
        await field(second, "description").fill("Of beech.")
        await second.get_by_role("button", name="Save").click()
        told = second.locator("#editor").get_by_role("alert")
        await expect(told).to_contain_text("Somebody else")
        await expect(told).to_contain_text("description, price")
        await expect(field(second, "name")).to_have_value("Square table")
        await expect(field(second, "description")).to_have_value("Of beech.")
        await expect(field(second, "description")).to_be_focused()
        await expect(field(second, "price")).to_have_value("99")
        await expect(second.locator("#editor .error")).to_have_text(["They made it: Of oak."])
        await second.get_by_role("button", name="Save").click()
        for each in (first, second):
            row = each.locator(".item", has_text="Square table")
            await expect(row).to_contain_text("Of beech.")
            await expect(row).to_contain_text("99.00")
        await expect(second.get_by_role("button", name="Edit Square table")).to_be_focused()
        watched.forgive("status of 412")


async def test_a_deletion_in_another_tab_leaves_the_text(
    browser: Browser, service: Service
) -> None:
    async with watched_page(browser, service.origin) as watched:
        first = watched.page
        await sign_up(first, "jean")
        await create(first, "Old stool")
        second = await another_tab(first)
        await second.get_by_role("button", name="Edit Old stool").click()
        await field(second, "description").fill("A long story.")
        await first.get_by_role("button", name="Edit Old stool").click()
        await first.get_by_role("button", name="Delete").click()
        await expect(first.get_by_role("heading", name="Catalogue")).to_be_focused()
        await second.get_by_role("button", name="Save").click()
        await expect(second.locator("#editor").get_by_role("alert")).to_contain_text("deleted")
        await expect(field(second, "description")).to_have_value("A long story.")
        watched.forgive("status of 404")


async def test_a_session_that_ends_while_somebody_writes_loses_nothing(
    browser: Browser, service: Service
) -> None:
    async with watched_page(browser, service.origin) as watched:
        page = watched.page
        await sign_up(page, "joan")
        await page.get_by_role("button", name="New item").click()
        await field(page, "name").fill("Long work")
        await field(page, "description").fill("Written for an hour.")
        await field(page, "price").fill("5")
        await end_every_session(page, "joan")
        await expect(page.locator("#who")).to_be_hidden()
        await expect(page.get_by_text("Your session has ended.", exact=True)).to_be_visible()
        await expect(field(page, "description")).to_have_value("Written for an hour.")
        await page.get_by_role("button", name="Save").click()
        await expect(page.get_by_text("what you have written is still there")).to_be_visible()
        await expect(page.locator("#account-username")).to_have_value("joan")
        await expect(page.locator("#account-password")).to_be_focused()
        await page.keyboard.press("Escape")
        told = page.locator("#editor").get_by_role("alert")
        await expect(told).to_contain_text("You are signed out")
        await page.get_by_role("button", name="Save").click()
        await page.locator("#account-password").fill(PASSWORD)
        await page.keyboard.press("Enter")
        await is_signed_in(page, "joan")
        await expect(page.locator(".item", has_text="Long work")).to_have_count(1)
        await expect(page.locator("#editor")).to_be_hidden()
        watched.forgive("status of 401", "status of 422", "WebSocket")


async def test_a_place_keeps_what_is_written_until_the_same_person_is_back(
    browser: Browser, service: Service
) -> None:
    async with watched_page(browser, service.origin) as watched:
        page = watched.page
        await to_account(page, "mary")
        await page.get_by_label("Full name").fill("Mary Somerville")
        await end_every_session(page, "mary")
        await expect(page.locator("#who")).to_be_hidden()
        await page.get_by_role("button", name="Save profile").click()
        await page.locator("#account-password").fill(PASSWORD)
        await page.keyboard.press("Enter")
        await expect(page.get_by_text("Your profile is saved.")).to_be_visible()
        await expect(page.get_by_label("Full name")).to_have_value("Mary Somerville")
        await end_every_session(page, "mary")
        await expect(page.get_by_text("Sign in to see this.")).to_be_visible()
        watched.forgive("status of 401", "status of 422", "WebSocket")


async def test_somebody_else_does_not_send_what_another_has_written(
    browser: Browser, service: Service
) -> None:
    async with watched_page(browser, service.origin) as watched:
        page = watched.page
        for name in ("rosa", "ruth"):
            await sign_up(page, name)
            await sign_out(page)
        await sign_in(page, "ruth")
        await page.get_by_role("button", name="New item").click()
        await field(page, "name").fill("Of Ruth")
        await field(page, "price").fill("5")
        await end_every_session(page, "ruth")
        await expect(page.locator("#who")).to_be_hidden()
        await page.get_by_role("button", name="Save").click()
        await fill_in(page, "rosa")
        await is_signed_in(page, "rosa")
        await expect(dialog(page).get_by_role("alert")).to_contain_text("You are signed out")
        await expect(page.locator(".item", has_text="Of Ruth")).to_have_count(0)
        watched.forgive("status of 401", "status of 422", "WebSocket")
