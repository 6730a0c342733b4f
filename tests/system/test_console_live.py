"""The console's live connection through a restart of the service, in a real Chromium."""

from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, expect

from tests.system.browser import Service, watched_page
from tests.system.console import create, go, is_live, is_signed_in, sign_in, sign_up

pytestmark = pytest.mark.system

RESTART = ("WebSocket", "ERR_CONNECTION_REFUSED", "ERR_EMPTY", "ERR_CONNECTION_RESET", "of 503")


async def names(page: Page) -> list[str]:
    return await page.locator("#events .subject").all_text_contents()


async def test_what_was_committed_while_a_page_was_away_comes_once_it_is_back(
    browser: Browser, tmp_path: Path
) -> None:
    with Service(tmp_path) as service:
        async with (
            watched_page(browser, service.origin) as here,
            watched_page(browser, service.origin) as away,
            watched_page(browser, service.origin) as stranger,
        ):
            await sign_up(here.page, "margaret")
            await sign_in(away.page, "margaret")
            await is_signed_in(away.page, "margaret")
            await is_live(away.page)
            await create(here.page, "Before")
            for each in (away, stranger):
                await expect(each.page.locator(".item", has_text="Before")).to_be_visible()
            for each in (away, stranger):
                await each.page.context.set_offline(True)
            service.stop()
            for each in (here, away):
                await expect(each.page.locator("#connection")).to_have_text("Reconnecting")
            service.start()
            await is_live(here.page)
            for name in ("First", "Second"):
                await create(here.page, name)
            for each in (away, stranger):
                await each.page.context.set_offline(False)
            for each in (here, away, stranger):
                await is_live(each.page)
                await expect(each.page.locator(".item", has_text="Second")).to_be_visible()
                await expect(each.page.locator("#events .subject")).to_have_count(3)
                assert await names(each.page) == ["Second", "First", "Before"]
            for each in (here, away, stranger):
                each.forgive(*RESTART, "ERR_INTERNET_DISCONNECTED", "ERR_NETWORK_CHANGED")


async def test_a_form_that_is_sent_while_the_service_is_away_keeps_its_text(
    browser: Browser, tmp_path: Path
) -> None:
    with Service(tmp_path) as service:
        async with watched_page(browser, service.origin) as watched:
            page = watched.page
            await sign_up(page, "ida")
            await page.get_by_role("button", name="New item").click()
            await page.locator("#editor-name").fill("Patient chair")
            await page.locator("#editor-price").fill("10")
            service.stop()
            await page.get_by_role("button", name="Save").click()
            told = page.locator("#editor").get_by_role("alert")
            await expect(told).to_contain_text("The service cannot be reached.")
            await expect(page.locator("#editor-name")).to_have_value("Patient chair")
            service.start()
            await page.get_by_role("button", name="Save").click()
            await expect(page.locator("#editor")).to_be_hidden()
            await expect(page.locator(".item", has_text="Patient chair")).to_have_count(1)
            watched.forgive(*RESTART)


async def test_a_catalogue_that_could_not_be_loaded_is_loaded_when_the_service_is_back(
    browser: Browser, tmp_path: Path
) -> None:
    with Service(tmp_path) as service:
        async with watched_page(browser, service.origin) as watched:
            page = watched.page
            await sign_up(page, "lise")
            await create(page, "Only one")
            service.stop()
            await page.get_by_label("Search").fill("only")
            await expect(page.get_by_text("The service cannot be reached.")).to_be_visible()
            service.start()
            await is_live(page)
            await expect(page.get_by_text("The service cannot be reached.")).to_be_hidden()
            await expect(page.locator(".item")).to_have_count(1)
            watched.forgive(*RESTART)


async def test_a_list_that_could_not_be_loaded_is_tried_again_by_hand(
    browser: Browser, service: Service
) -> None:
    async with watched_page(browser, service.origin) as watched:
        page = watched.page
        await sign_up(page, "ruth")
        await page.route("**/api/v2/jobs?*", lambda route: route.abort())
        await go(page, "Jobs")
        await expect(page.get_by_text("The service cannot be reached.")).to_be_visible()
        await page.unroute("**/api/v2/jobs?*")
        await page.get_by_role("button", name="Try again").click()
        await expect(page.get_by_text("No jobs.")).to_be_visible()
        watched.forgive("ERR_FAILED")
