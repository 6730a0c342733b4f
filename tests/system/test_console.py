"""The console and the documentation pages in a real Chromium."""

from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, expect

from tests.system.browser import Service, watched_page
from tests.system.console import PASSWORD, create, is_live, is_signed_in, sign_out, sign_up

pytestmark = pytest.mark.system


async def test_a_person_signs_up_creates_edits_searches_and_deletes(
    browser: Browser, service: Service
) -> None:
    async with watched_page(browser, service.origin) as watched:
        page = watched.page
        await sign_up(page, "ada")
        await create(page, "Oak desk", "349.50", tags="wood, office", discount="10")
        row = page.locator(".item", has_text="Oak desk")
        await expect(row.locator("strong")).to_have_text("314.55")
        await expect(row.locator(".tags li")).to_have_text(["wood", "office"])
        await row.get_by_role("button", name="Edit Oak desk").click()
        await page.get_by_label("Name", exact=True).fill("Oak desk, large")
        await page.get_by_role("button", name="Save").click()
        await expect(page.get_by_role("heading", name="Oak desk, large")).to_be_visible()
        await create(page, "Blue lamp")
        await page.get_by_label("Search").fill("oak lar")
        await expect(page.locator(".item")).to_have_count(1)
        await page.get_by_label("Search").fill("zebra")
        await expect(page.get_by_text("Nothing matches.")).to_be_visible()
        await page.get_by_label("Search").fill("")
        await page.get_by_role("button", name="Edit Blue lamp").click()
        await page.get_by_role("button", name="Delete").click()
        await expect(page.locator(".item", has_text="Blue lamp")).to_have_count(0)
        await page.get_by_role("button", name="Undo").click()
        await expect(page.locator(".item", has_text="Blue lamp")).to_have_count(1)
        await page.reload()
        await is_signed_in(page, "ada")
        await sign_out(page)
        await expect(page.get_by_role("button", name="Sign in")).to_be_visible()
        await expect(page.get_by_role("button", name="Edit Oak desk, large")).to_be_hidden()


async def test_a_refused_form_says_what_is_wrong_beside_the_field(
    browser: Browser, service: Service
) -> None:
    async with watched_page(browser, service.origin) as watched:
        page = watched.page
        await page.get_by_role("button", name="Sign up").click()
        await page.get_by_label("E-mail", exact=True).fill("nobody")
        await page.get_by_label("Username", exact=True).fill("grace")
        await page.get_by_label("Password", exact=True).fill("password1")
        await page.get_by_label("Password again").fill("password2")
        await page.get_by_role("dialog").get_by_role("button", name="Sign up").click()
        for field in ("email", "password"):
            await expect(page.locator(f"#account-{field}")).to_have_attribute(
                "aria-invalid", "true"
            )
            await expect(page.locator(f"#account-{field}-error")).not_to_be_empty()
        await expect(page.locator("#account-email")).to_be_focused()
        await page.keyboard.press("Escape")
        await page.get_by_role("button", name="Sign in").click()
        await page.get_by_label("Username or e-mail").fill("grace")
        await page.get_by_label("Password", exact=True).fill("wrong")
        await page.keyboard.press("Enter")
        await expect(page.locator("#account .problem")).to_have_text("Wrong username or password")
        watched.forgive("status of 4")


async def test_what_one_person_changes_another_sees_at_once(
    browser: Browser, service: Service
) -> None:
    async with (
        watched_page(browser, service.origin) as here,
        watched_page(browser, service.origin) as there,
        watched_page(browser, service.origin) as stranger,
    ):
        await sign_up(here.page, "barbara")
        await sign_up(there.page, "grete")
        await is_live(stranger.page)
        await create(here.page, "Steel shelf")
        for each in (there, stranger):  # one by WebSocket, one by server-sent events
            await expect(each.page.locator(".item", has_text="Steel shelf")).to_be_visible()
            await expect(each.page.locator("#events")).to_contain_text("Steel shelf")


async def test_the_page_comes_back_by_itself_and_misses_nothing(
    browser: Browser, tmp_path: Path
) -> None:
    with Service(tmp_path) as service:
        async with watched_page(browser, service.origin) as watched:
            page = watched.page
            await sign_up(page, "margaret")
            await create(page, "Before")
            service.stop()
            await expect(page.locator("#connection")).to_have_text("Reconnecting")
            service.start()
            await is_live(page)
            await create(page, "After")
            await expect(page.locator("#events li")).to_have_count(2)
            watched.forgive("WebSocket", "ERR_CONNECTION_REFUSED", "status of 503")


async def test_the_keyboard_alone_is_enough(browser: Browser, service: Service) -> None:
    async with watched_page(browser, service.origin) as watched:
        page = watched.page
        await page.keyboard.press("Tab")
        await expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
        await page.get_by_role("button", name="Sign up").focus()
        await page.keyboard.press("Enter")
        for text in ("joan@example.com", "joan", PASSWORD, PASSWORD):
            await page.keyboard.type(text)
            await page.keyboard.press("Tab")
        await page.keyboard.press("Shift+Tab")
        await page.keyboard.press("Enter")
        await is_signed_in(page, "joan")
        await expect(page.locator("#who")).to_be_focused()  # the button that led here is gone
        await page.keyboard.press("Tab")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("button", name="Sign in")).to_be_focused()
        await page.keyboard.press("Enter")
        for text in ("joan", PASSWORD):
            await page.keyboard.type(text)
            await page.keyboard.press("Tab")
        await page.keyboard.press("Shift+Tab")
        await page.keyboard.press("Enter")
        await expect(page.locator("#who")).to_be_focused()
        await page.get_by_role("button", name="New item").focus()
        await page.keyboard.press("Enter")
        await page.keyboard.press("Escape")
        await expect(page.get_by_role("button", name="New item")).to_be_focused()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 800, 1280])
async def test_it_fits_every_screen(
    browser: Browser, service: Service, tmp_path: Path, scheme: str, width: int
) -> None:
    options: dict[str, Any] = {"viewport": {"width": width, "height": 800}, "color_scheme": scheme}
    async with watched_page(browser, service.origin, **options) as watched:
        page = watched.page
        await sign_up(page, f"{scheme}{width}")
        await create(page, "A rather long name for an item, " * 3, tags="one, two, three")
        overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert await page.evaluate(overflow) == 0
        await page.screenshot(path=tmp_path / f"{scheme}-{width}.png", full_page=True)
        await page.get_by_role("button", name="New item").click()
        assert await page.evaluate(overflow) == 0
        await page.screenshot(path=tmp_path / f"{scheme}-{width}-editor.png")


@pytest.mark.parametrize("base", ["", "/api/v1", "/api/v2"])
async def test_swagger_shows_the_operations_and_signs_in(
    browser: Browser, service: Service, base: str
) -> None:
    async with watched_page(browser, service.origin, at=f"{base}/docs") as watched:
        page = watched.page
        await expect(page.locator(".opblock").first).to_be_visible()
        assert await page.locator(".opblock").count() > 20
        await page.get_by_role("button", name="Authorize").first.click()
        await expect(page.locator(".auth-container").first).to_be_visible()
        await page.locator("#oauth_username, input[name=username]").first.fill("ada")
        await page.locator("#oauth_password, input[type=password]").first.fill(PASSWORD)
        await page.locator(".auth-btn-wrapper .authorize").first.click()
        await expect(page.get_by_role("button", name="Logout").first).to_be_visible()


@pytest.mark.parametrize("base", ["", "/api/v1", "/api/v2"])
async def test_redoc_shows_the_operations(browser: Browser, service: Service, base: str) -> None:
    async with watched_page(browser, service.origin, at=f"{base}/redoc") as watched:
        page = watched.page
        await expect(page.get_by_role("heading", name="List items").first).to_be_visible()
        # What one came for stands before what is sent to others.
        sections = page.locator("[role=menuitem]:has(> label.-depth1)")
        await expect(sections.first).to_have_attribute("aria-label", "items")
        await expect(sections.last).to_have_attribute("aria-label", "webhook messages")
