"""Keys, factors and data of one's own account in the console, in a real Chromium."""

import json
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, expect

from tests.system.browser import Service, watched_page
from tests.system.test_console import PASSWORD, create, sign_up
from tests.system.test_console_account import dialog, set_up_factor, sign_in, to_account

pytestmark = pytest.mark.system


async def reads_by_key(page: Page, secret: str) -> bool:
    answer = await page.request.get("/api/v1/users/me", headers={"X-API-Key": secret})
    assert answer.status in (200, 401, 403)
    return answer.status != 401


async def kept_secret(page: Page) -> str:
    secret = await dialog(page).locator("output").text_content()
    await page.get_by_role("button", name="I have kept it").click()
    return secret or ""


async def test_a_rotated_key_works_beside_the_old_one_for_a_while(
    browser: Browser, service: Service
) -> None:
    async with watched_page(browser, service.origin) as watched:
        page = watched.page
        await to_account(page, "ada")
        await page.get_by_role("button", name="New key").click()
        await page.get_by_role("button", name="Create").click()
        await expect(dialog(page).get_by_label("Name")).to_be_focused()  # it has none yet
        await dialog(page).get_by_label("Name").fill("Robot")
        await page.get_by_role("button", name="Create").click()
        old = await kept_secret(page)
        key = page.get_by_role("list", name="API keys").get_by_role("listitem")
        await key.get_by_role("button", name="Rotate Robot").click()
        await dialog(page).get_by_role("button", name="Rotate").click()
        new = await kept_secret(page)
        await expect(key).to_contain_text("old secret ends")
        await expect(page.get_by_role("heading", name="API keys")).to_be_focused()
        assert [await reads_by_key(page, each) for each in (old, new)] == [True, True]
        await key.get_by_role("button", name="Rotate Robot").click()
        await dialog(page).get_by_label("The old secret").select_option("0")
        await dialog(page).get_by_role("button", name="Rotate").click()
        newest = await kept_secret(page)
        await expect(key).not_to_contain_text("old secret ends")
        assert [await reads_by_key(page, each) for each in (old, new, newest)] == [
            False,
            False,
            True,
        ]
        watched.forgive("status of 422")
        assert watched.errors == []


async def test_a_recovery_code_works_once_and_new_ones_void_the_old(
    browser: Browser, service: Service
) -> None:
    async with watched_page(browser, service.origin) as watched:
        page = watched.page
        await to_account(page, "hedy")
        _, codes = await set_up_factor(page)
        for code, is_right in ((codes[0], True), (codes[0], False)):
            await page.get_by_role("button", name="Sign out", exact=True).click()
            await sign_in(page, "hedy")
            await dialog(page).get_by_label("Code").fill(code)
            await page.keyboard.press("Enter")
            if is_right:
                await expect(page.locator("#who")).to_have_text("hedy")
            else:
                await expect(dialog(page).get_by_role("alert")).to_be_visible()
                await expect(dialog(page).get_by_label("Code")).to_have_value(code)
                await dialog(page).get_by_label("Code").fill(codes[1])
                await page.keyboard.press("Enter")
        await page.locator("#who").click()
        await expect(page.get_by_text("8 recovery codes left")).to_be_visible()
        await page.get_by_role("button", name="Turn off").click()
        await dialog(page).get_by_label("Your password").fill(PASSWORD)
        await dialog(page).get_by_label("Code").fill(codes[2])
        await dialog(page).get_by_role("button", name="Turn off").click()
        await expect(page.get_by_text("The second factor is off.")).to_be_visible()
        await expect(page.get_by_role("button", name="Set up")).to_be_visible()
        watched.forgive("status of 401")
        assert watched.errors == []


async def test_ones_own_data_is_taken_and_the_account_deleted(
    browser: Browser, service: Service, tmp_path: Path
) -> None:
    async with watched_page(browser, service.origin) as watched:
        page = watched.page
        await page.goto("/")
        await sign_up(page, "mary")
        await create(page, "Of Mary")
        await page.locator("#who").click()
        async with page.expect_download() as download:
            await page.get_by_role("button", name="Download my data").click()
        await (await download.value).save_as(tmp_path / "mine.json")
        mine = json.loads((tmp_path / "mine.json").read_text())
        assert "mary@example.com" in json.dumps(mine)
        assert "Of Mary" in json.dumps(mine)
        await page.get_by_role("button", name="Delete my account").click()
        await dialog(page).get_by_label("write your username").fill("marie")
        await dialog(page).get_by_role("button", name="Delete my account").click()
        await expect(dialog(page).get_by_role("alert")).to_have_text("That is not your username.")
        await dialog(page).get_by_label("write your username").fill("mary")
        await dialog(page).get_by_role("button", name="Delete my account").click()
        await expect(page.get_by_text("Your account is deleted.")).to_be_visible()
        await expect(page.get_by_role("heading", name="Catalogue")).to_be_visible()
        await expect(page.locator(".item", has_text="Of Mary")).to_have_count(0)
        await sign_in(page, "mary")
        await expect(dialog(page).get_by_role("alert")).to_have_text("Wrong username or password")
        watched.forgive("status of 401", "WebSocket")
        assert watched.errors == []


async def test_who_came_without_a_password_or_forgot_it_gets_a_link_by_mail(
    browser: Browser, service: Service
) -> None:
    async with watched_page(browser, service.origin) as watched:
        page = watched.page
        await to_account(page, "rosa")
        await page.get_by_role("button", name="I do not know it").click()
        await expect(page.get_by_text("a mail is on its way")).to_be_visible()
        assert watched.errors == []
