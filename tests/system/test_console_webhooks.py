"""Webhooks in the console, against a receiver that verifies what it gets, in a real Chromium."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from playwright.async_api import Browser, Page, expect
from standardwebhooks import WebhookVerificationError

from tests.receivers import answering, receiving, until
from tests.system.browser import Service, watched_page
from tests.system.console import create, dialog, go, kept, sign_up

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("console-webhooks")
    with Service(folder, WEBHOOKS_ALLOW_PRIVATE="true") as service:
        yield service


async def new_webhook(page: Page, url: str) -> str:
    await go(page, "Webhooks")
    await page.get_by_role("button", name="New webhook").click()
    await dialog(page).get_by_label("Address").fill(url)
    await dialog(page).get_by_label("item.created").check()
    await page.get_by_role("button", name="Create").click()
    return await kept(page)


async def test_one_that_failed_is_sent_again_and_a_time_is_replayed(
    browser: Browser, service: Service
) -> None:
    async with watched_page(browser, service.origin) as watched, receiving() as receiver:
        page = watched.page
        await sign_up(page, "ada")
        secret = await new_webhook(page, receiver.url)
        receiver.plan = [answering(400)]
        await go(page, "Catalogue")
        await create(page, "Oak desk")
        await until(lambda: receiver.got)
        await go(page, "Webhooks")
        await page.get_by_role("button", name="Deliveries").click()
        rows = dialog(page).get_by_role("list", name="Deliveries").get_by_role("listitem")
        await expect(rows).to_have_count(1)
        await expect(rows).to_contain_text("answered 400")
        await rows.get_by_role("button", name="Send item.created").click()
        await expect(rows.first).to_contain_text("succeeded")
        first, second = receiver.got
        assert first.verified_by(secret) == second.verified_by(secret)
        await expect(dialog(page).get_by_role("heading", level=2)).to_be_focused()
        await dialog(page).get_by_role("button", name="Send a time again").click()
        await page.get_by_role("button", name="Send again", exact=True).last.click()
        await expect(dialog(page).last.get_by_role("alert")).to_have_text("Say from when.")
        since = (datetime.now(UTC).astimezone() - timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M")
        await dialog(page).last.get_by_label("From").fill(since)
        await page.get_by_role("button", name="Send again", exact=True).last.click()
        await expect(page.get_by_text("1 message is sent again.")).to_be_visible()
        await until(lambda: len(receiver.got) == 3)
        await expect(rows).to_contain_text("succeeded")
        assert receiver.got[2].message == first.message


async def test_a_new_secret_signs_beside_the_old_one(browser: Browser, service: Service) -> None:
    async with watched_page(browser, service.origin) as watched, receiving() as receiver:
        page = watched.page
        await sign_up(page, "grace")
        old = await new_webhook(page, receiver.url)
        await page.get_by_role("button", name="New secret").click()
        await page.get_by_role("button", name="Make a new secret").click()
        new = await kept(page)
        assert new != old
        await expect(page.get_by_text("old secret signs until")).to_be_visible()
        await page.get_by_role("button", name="Send a test").click()
        await until(lambda: receiver.got)
        for secret in (old, new):
            receiver.got[0].verified_by(secret)
        with pytest.raises(WebhookVerificationError):
            receiver.got[0].verified_by("whsec_c3RyYW5nZXJzdHJhbmdlcnN0cmFuZ2Vy")


async def test_one_that_is_switched_off_is_sent_nothing_until_it_is_on_again(
    browser: Browser, service: Service
) -> None:
    async with watched_page(browser, service.origin) as watched, receiving() as receiver:
        page = watched.page
        await sign_up(page, "hedy")
        await new_webhook(page, receiver.url)
        await page.get_by_role("button", name="Switch off").click()
        await expect(page.get_by_role("button", name="Switch on")).to_be_visible()
        await go(page, "Catalogue")
        await create(page, "Unheard")
        await go(page, "Webhooks")
        await page.get_by_role("button", name="Switch on").click()
        await page.get_by_role("button", name="Edit").click()
        await dialog(page).get_by_label("item.updated").check()
        await page.get_by_role("button", name="Save").click()
        await expect(page.get_by_text("item.created, item.updated")).to_be_visible()
        await go(page, "Catalogue")
        await create(page, "Heard")
        await until(lambda: receiver.got)
        assert [each.message["data"]["name"] for each in receiver.got] == ["Heard"]


async def test_an_address_that_cannot_be_is_told_beside_its_field(
    browser: Browser, service: Service
) -> None:
    async with watched_page(browser, service.origin) as watched:
        page = watched.page
        await sign_up(page, "joan")
        await go(page, "Webhooks")
        await page.get_by_role("button", name="New webhook").click()
        await dialog(page).get_by_label("Address").fill("ftp://example.com")
        await page.get_by_role("button", name="Create").click()
        await expect(dialog(page).get_by_label("Address")).to_be_focused()
        await expect(dialog(page).get_by_label("Address")).to_have_attribute("aria-invalid", "true")
        watched.forgive("status of 422")


async def test_a_webhook_is_made_tried_and_read_about(browser: Browser, service: Service) -> None:
    async with watched_page(browser, service.origin) as watched:
        page = watched.page
        await sign_up(page, "grete")
        secret = await new_webhook(page, f"{service.origin}/nowhere")
        assert secret.startswith("whsec_")
        await page.get_by_role("button", name="Send a test").click()
        await expect(dialog(page).get_by_text("It answered 404")).to_be_visible()
        await dialog(page).get_by_text("What was sent and answered").click()
        await expect(dialog(page).locator("pre").first).to_contain_text("webhook-signature")
        await dialog(page).get_by_role("button", name="Close").click()
        await page.get_by_role("button", name="Delete").click()
        await dialog(page).get_by_role("button", name="Delete").click()
        await expect(page.get_by_text("No endpoints yet.")).to_be_visible()
