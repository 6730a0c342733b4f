"""The console's place of one's own account, in a real Chromium."""

import json
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, expect

from tests.system.browser import Service, watched_page
from tests.system.console import (
    NEW_PASSWORD,
    PASSWORD,
    answer_with_code,
    create,
    dialog,
    is_signed_in,
    kept,
    set_up_factor,
    sign_in,
    sign_out,
    sign_up,
    to_account,
)

pytestmark = pytest.mark.system


async def reads_by_key(page: Page, secret: str) -> bool:
    answer = await page.request.get("/api/v1/users/me", headers={"X-API-Key": secret})
    assert answer.status in (200, 401, 403)
    return answer.status != 401


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


async def test_a_session_elsewhere_is_seen_and_ended(browser: Browser, service: Service) -> None:
    async with (
        watched_page(browser, service.origin) as here,
        watched_page(browser, service.origin) as there,
    ):
        await to_account(here.page, "grace")
        await sign_in(there.page, "grace")
        await is_signed_in(there.page, "grace")
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


async def test_a_rotated_key_works_beside_the_old_one_for_a_while(
    browser: Browser, service: Service
) -> None:
    async with watched_page(browser, service.origin) as watched:
        page = watched.page
        await to_account(page, "lise")
        await page.get_by_role("button", name="New key").click()
        await page.get_by_role("button", name="Create").click()
        await expect(dialog(page).get_by_label("Name")).to_be_focused()  # it has none yet
        await dialog(page).get_by_label("Name").fill("Robot")
        await page.get_by_role("button", name="Create").click()
        old = await kept(page)
        key = page.get_by_role("list", name="API keys").get_by_role("listitem")
        await key.get_by_role("button", name="Rotate Robot").click()
        await dialog(page).get_by_role("button", name="Rotate").click()
        new = await kept(page)
        await expect(key).to_contain_text("old secret ends")
        await expect(page.get_by_role("heading", name="API keys")).to_be_focused()
        assert [await reads_by_key(page, each) for each in (old, new)] == [True, True]
        await key.get_by_role("button", name="Rotate Robot").click()
        await dialog(page).get_by_label("The old secret").select_option("0")
        await dialog(page).get_by_role("button", name="Rotate").click()
        newest = await kept(page)
        await expect(key).not_to_contain_text("old secret ends")
        assert [await reads_by_key(page, each) for each in (old, new, newest)] == [
            False,
            False,
            True,
        ]
        watched.forgive("status of 422")


async def test_a_recovery_code_works_once_and_another_turns_the_factor_off(
    browser: Browser, service: Service
) -> None:
    async with watched_page(browser, service.origin) as watched:
        page = watched.page
        await to_account(page, "hedy")
        _, codes = await set_up_factor(page)
        assert len(codes) == 10
        await sign_out(page)
        await sign_in(page, "hedy")
        await answer_with_code(page, codes[0])
        await is_signed_in(page, "hedy")
        await sign_out(page)
        await sign_in(page, "hedy")
        await answer_with_code(page, codes[0])
        await expect(dialog(page).get_by_role("alert")).to_be_visible()
        await expect(dialog(page).get_by_label("Code")).to_have_value(codes[0])
        await answer_with_code(page, codes[1])
        await is_signed_in(page, "hedy")
        await page.locator("#who").click()
        await expect(page.get_by_text("8 recovery codes left")).to_be_visible()
        await page.get_by_role("button", name="Turn off").click()
        await dialog(page).get_by_label("Your password").fill(PASSWORD)
        await dialog(page).get_by_label("Code").fill(codes[2])
        await dialog(page).get_by_role("button", name="Turn off").click()
        await expect(page.get_by_text("The second factor is off.")).to_be_visible()
        await expect(page.get_by_role("button", name="Set up")).to_be_visible()
        watched.forgive("status of 401")


async def test_ones_own_data_is_taken_and_the_account_deleted(
    browser: Browser, service: Service, tmp_path: Path
) -> None:
    async with watched_page(browser, service.origin) as watched:
        page = watched.page
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


async def test_who_came_without_a_password_or_forgot_it_gets_a_link_by_mail(
    browser: Browser, service: Service
) -> None:
    async with watched_page(browser, service.origin) as watched:
        page = watched.page
        await to_account(page, "rosa")
        await page.get_by_role("button", name="I do not know it").click()
        await expect(page.get_by_text("a mail is on its way")).to_be_visible()
