"""What admins do to others' accounts, and what those see of it, in a real Chromium."""

from collections.abc import Iterator

import pytest
from playwright.async_api import Browser, Locator, Page, expect

from tests.system.browser import Service, watched_page
from tests.system.console import PASSWORD, dialog, go, is_signed_in, set_up_factor, sign_in, sign_up

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with Service(tmp_path_factory.mktemp("console-admins")) as service:
        service.add_admin("root", PASSWORD)
        yield service


async def find(page: Page, username: str, admin: str = "root") -> Locator:
    """Find somebody among the users, as an admin."""
    await sign_in(page, admin)
    await go(page, "Users")
    await page.get_by_role("searchbox", name="Search").fill(username)
    users = page.get_by_role("list", name="Users").get_by_role("listitem")
    await expect(users).to_have_count(1)
    await expect(users).to_contain_text(f"{username}@example.com")
    return users


async def test_a_role_is_given_and_taken_while_its_owner_looks_on(
    browser: Browser, service: Service
) -> None:
    async with (
        watched_page(browser, service.origin) as admin,
        watched_page(browser, service.origin) as other,
    ):
        await sign_up(other.page, "ada")
        user = await find(admin.page, "ada")
        await user.get_by_role("button", name="Roles of ada").click()
        await dialog(admin.page).get_by_label("Admin").check()
        await dialog(admin.page).get_by_role("button", name="Save").click()
        await expect(user.locator(".badge")).to_have_text(["admin"])
        await go(other.page, "Users")
        everybody = other.page.get_by_role("list", name="Users").get_by_role("listitem")
        await expect(everybody.filter(has_text="root")).to_have_count(1)
        await user.get_by_role("button", name="Roles of ada").click()
        await dialog(admin.page).get_by_label("Admin").uncheck()
        await dialog(admin.page).get_by_role("button", name="Save").click()
        await expect(user.locator(".badge")).to_have_count(0)
        await expect(other.page.get_by_text("This is for admins.")).to_be_visible()
        await expect(other.page.get_by_role("link", name="Users")).to_be_hidden()
        await is_signed_in(other.page, "ada")
        for each in (admin, other):
            each.forgive("WebSocket", "status of 401")


async def test_an_admin_who_gives_the_role_up_leaves_the_admins_places(
    browser: Browser, service: Service
) -> None:
    service.add_admin("caroline", PASSWORD)
    async with watched_page(browser, service.origin) as watched:
        page = watched.page
        user = await find(page, "caroline", "caroline")
        await user.get_by_role("button", name="Roles of caroline").click()
        await dialog(page).get_by_label("Admin").uncheck()
        await dialog(page).get_by_role("button", name="Save").click()
        await expect(page.get_by_text("This is for admins.")).to_be_visible()
        await expect(page.get_by_role("link", name="Users")).to_be_hidden()
        watched.forgive("WebSocket", "status of 40")


async def test_somebody_suspended_is_out_until_they_are_let_in_again(
    browser: Browser, service: Service
) -> None:
    async with (
        watched_page(browser, service.origin) as admin,
        watched_page(browser, service.origin) as other,
    ):
        await sign_up(other.page, "mallory")
        await expect(other.page.get_by_role("link", name="Users")).to_be_hidden()
        user = await find(admin.page, "mallory")
        await user.get_by_role("button", name="Suspend").click()
        await dialog(admin.page).get_by_label("Why").fill("Spam in its items")
        await dialog(admin.page).get_by_role("button", name="Suspend").click()
        await expect(user.locator(".badge")).to_have_text(["suspended"])
        await expect(user).to_contain_text("Spam in its items")
        await expect(other.page.locator("#sign-in-open")).to_be_visible()
        await sign_in(other.page, "mallory")
        told = dialog(other.page).get_by_role("alert")
        await expect(told).to_have_text("Wrong username or password")  # to strangers as well
        await user.get_by_role("button", name="Let mallory in again").click()
        await expect(user.locator(".badge")).to_have_count(0)
        await expect(user.get_by_role("button", name="Suspend mallory")).to_be_visible()
        await other.page.keyboard.press("Enter")
        await is_signed_in(other.page, "mallory")
        await go(admin.page, "Audit log")
        log = admin.page.get_by_role("list", name="Audit log").get_by_role("listitem")
        await expect(log.filter(has_text="user.suspended")).to_have_count(1)
        other.forgive("status of 4", "WebSocket")


async def test_a_lost_second_factor_is_reset(browser: Browser, service: Service) -> None:
    async with (
        watched_page(browser, service.origin) as admin,
        watched_page(browser, service.origin) as other,
    ):
        await sign_up(other.page, "hedy")
        await other.page.locator("#who").click()
        await set_up_factor(other.page)
        user = await find(admin.page, "hedy")
        await user.get_by_role("button", name="Reset the second factor of hedy").click()
        await dialog(admin.page).get_by_role("button", name="Reset it").click()
        await expect(admin.page.get_by_text("signs in by password alone now")).to_be_visible()
        await expect(other.page.locator("#sign-in-open")).to_be_visible()
        await sign_in(other.page, "hedy")
        await is_signed_in(other.page, "hedy")
        other.forgive("status of 401", "WebSocket")
