"""What the console keeps of a session, in a real Chromium: nothing within reach of a script."""

import pytest
from playwright.async_api import Browser, expect

from tests.system.browser import Service, watched_page
from tests.system.console import another_tab, is_signed_in, sign_out, sign_up

pytestmark = pytest.mark.system

IN_REACH = "JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie])"


async def test_no_script_can_read_what_keeps_somebody_signed_in(
    browser: Browser, service: Service
) -> None:
    async with watched_page(browser, service.origin) as watched:
        page = watched.page
        await sign_up(page, "hedy")
        (cookie,) = await page.context.cookies()
        assert (cookie["name"], cookie["path"]) == ("kingpost_refresh", "/api")
        assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
        reach = await page.evaluate(IN_REACH)
        assert cookie["value"] not in reach
        assert "kpr_" not in reach
        assert "eyJ" not in reach  # how every JWT begins
        async with page.expect_response("**/auth/refresh"):  # the name is there before it
            await page.reload()
        await is_signed_in(page, "hedy")
        (renewed,) = await page.context.cookies()
        assert renewed["value"] != cookie["value"]


async def test_tabs_follow_one_another(browser: Browser, service: Service) -> None:
    async with watched_page(browser, service.origin) as watched:
        first = watched.page
        await sign_up(first, "mary")
        second = await another_tab(first)
        await is_signed_in(second, "mary")
        await sign_out(second)
        await expect(first.get_by_role("button", name="Sign in")).to_be_visible()
        assert await first.context.cookies() == []
        await sign_up(first, "wells")
        await is_signed_in(second, "wells")
        watched.forgive("status of 422")  # a tab's socket may learn of it first, and ask again


async def test_another_sites_page_can_neither_use_nor_spend_it(
    browser: Browser, service: Service
) -> None:
    """The same machine by another name is another site to a browser."""
    evil = service.origin.replace("127.0.0.1", "localhost")
    async with watched_page(browser, service.origin) as watched:
        page = watched.page
        await sign_up(page, "evelyn")
        before = await page.context.cookies()
        other = await page.context.new_page()
        await other.route(
            f"{evil}/", lambda route: route.fulfill(body="", content_type="text/html")
        )
        await other.goto(f"{evil}/")
        url = f"{service.origin}/api/v1/auth/refresh"
        await other.evaluate(
            """url => {
                const form = document.createElement("form");
                form.method = "POST";
                form.action = url;
                document.body.append(form);
                form.submit();
            }""",
            url,
        )
        await other.wait_for_url(url)
        assert '"status": 200' not in await other.content()
        assert "access_token" not in await other.content()
        assert await page.context.cookies() == before
        await page.reload()
        await is_signed_in(page, "evelyn")
