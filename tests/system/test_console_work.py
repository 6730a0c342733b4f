"""The console's files, import and export, jobs, webhooks and admins' places, in a real Chromium."""

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image
from playwright.async_api import Browser, FilePayload, Page, expect

from tests.system.browser import Service, watched_page
from tests.system.test_console import PASSWORD, create, sign_up
from tests.system.test_console_account import dialog, sign_in

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("console-places")
    service = Service(folder, WEBHOOKS_ALLOW_PRIVATE="true")
    service.start()
    service.add_admin("root", PASSWORD)
    yield service
    service.stop()


def picture() -> FilePayload:
    content = BytesIO()
    Image.new("RGB", (640, 480), "teal").save(content, "PNG")
    return {"name": "desk.png", "mimeType": "image/png", "buffer": content.getvalue()}


async def go(page: Page, place: str) -> None:
    await page.get_by_role("navigation", name="Places").get_by_role("link", name=place).click()
    await expect(page.get_by_role("heading", name=place, exact=True)).to_be_focused()


async def test_files_are_added_seen_downloaded_and_deleted(
    browser: Browser, service: Service, tmp_path: Path
) -> None:
    async with watched_page(browser, service.origin) as watched:
        page = watched.page
        await page.goto("/")
        await sign_up(page, "ada")
        await create(page, "Oak desk")
        await page.get_by_role("button", name="Files of Oak desk").click()
        notes: FilePayload = {"name": "notes.txt", "mimeType": "text/plain", "buffer": b"Oiled."}
        await page.locator("#file-input").set_input_files([picture(), notes])
        files = page.get_by_role("list", name="Files")
        await expect(files.get_by_role("listitem")).to_have_count(2)
        await expect(files.locator("img")).to_have_count(2)
        await expect(files.locator("img:visible")).to_have_count(1)
        async with page.expect_download() as download:
            await page.get_by_role("button", name="Download notes.txt").click()
        await (await download.value).save_as(tmp_path / "notes.txt")
        assert (tmp_path / "notes.txt").read_bytes() == b"Oiled."
        await page.get_by_role("button", name="Delete notes.txt").click()
        await dialog(page).last.get_by_role("button", name="Delete", exact=True).click()
        await expect(files.get_by_role("listitem")).to_have_count(1)
        assert watched.errors == []


async def test_an_import_tells_the_refused_lines_and_an_export_has_the_rest(
    browser: Browser, service: Service, tmp_path: Path
) -> None:
    async with watched_page(browser, service.origin) as watched:
        page = watched.page
        await page.goto("/")
        await sign_up(page, "barbara")
        lines = b"name,price\r\nImported lamp,20\r\nBad,oops\r\nImported shelf,30\r\n"
        file: FilePayload = {"name": "items.csv", "mimeType": "text/csv", "buffer": lines}
        for dry_run, outcome in ((True, "Nothing was imported"), (False, "Done: 2 imported")):
            await page.get_by_role("button", name="Import").click()
            await dialog(page).get_by_label("File").set_input_files(file)
            await dialog(page).get_by_label("Only check").set_checked(dry_run)
            await page.get_by_role("button", name="Start").click()
            await expect(dialog(page).get_by_text(outcome)).to_be_visible()
            await expect(dialog(page).get_by_text("Line 3")).to_be_visible()
            await dialog(page).get_by_role("button", name="Close").click()
        await page.get_by_label("Search").fill("imported")
        await expect(page.locator(".item")).to_have_count(2)
        await page.get_by_role("button", name="Export").click()
        async with page.expect_download() as download:
            await dialog(page).get_by_role("button", name="Download").click()
        await (await download.value).save_as(tmp_path / "items.csv")
        assert (tmp_path / "items.csv").read_text().count("\n") == 3
        await go(page, "Jobs")
        jobs = page.get_by_role("list", name="Jobs").get_by_role("listitem")
        await expect(jobs.filter(has_text="items.import")).to_have_count(2)
        await page.get_by_label("Status").select_option("failed")
        await expect(page.get_by_text("No jobs.")).to_be_visible()
        assert watched.errors == []


async def test_a_webhook_is_made_tried_and_read_about(browser: Browser, service: Service) -> None:
    async with watched_page(browser, service.origin) as watched:
        page = watched.page
        await page.goto("/")
        await sign_up(page, "grete")
        await go(page, "Webhooks")
        await page.get_by_role("button", name="New webhook").click()
        await dialog(page).get_by_label("Address").fill(f"{service.origin}/nowhere")
        await dialog(page).get_by_label("item.created").check()
        await page.get_by_role("button", name="Create").click()
        await expect(dialog(page).locator("output")).to_contain_text("whsec_")
        await page.get_by_role("button", name="I have kept it").click()
        await page.get_by_role("button", name="Send a test").click()
        await expect(dialog(page).get_by_text("It answered 404")).to_be_visible()
        await dialog(page).get_by_text("What was sent and answered").click()
        await expect(dialog(page).locator("pre").first).to_contain_text("webhook-signature")
        await dialog(page).get_by_role("button", name="Close").click()
        await page.get_by_role("button", name="Delete").click()
        await dialog(page).get_by_role("button", name="Delete").click()
        await expect(page.get_by_text("No endpoints yet.")).to_be_visible()
        assert watched.errors == []


async def test_an_admin_suspends_somebody_and_reads_of_it(
    browser: Browser, service: Service
) -> None:
    async with (
        watched_page(browser, service.origin) as admin,
        watched_page(browser, service.origin) as other,
    ):
        await other.page.goto("/")
        await sign_up(other.page, "mallory")
        await expect(other.page.get_by_role("link", name="Users")).to_be_hidden()
        page = admin.page
        await page.goto("/")
        await sign_in(page, "root")
        await go(page, "Users")
        await page.get_by_role("searchbox", name="Search").fill("mallory")
        users = page.get_by_role("list", name="Users").get_by_role("listitem")
        await expect(users).to_have_count(1)
        await users.get_by_role("button", name="Suspend").click()
        await dialog(page).get_by_label("Why").fill("Spam in its items")
        await dialog(page).get_by_role("button", name="Suspend").click()
        await expect(users).to_contain_text("Spam in its items")
        await expect(other.page.locator("#sign-in-open")).to_be_visible()
        await go(page, "Audit log")
        log = page.get_by_role("list", name="Audit log").get_by_role("listitem")
        await expect(log.filter(has_text="user.suspended")).to_have_count(1)
        other.forgive("status of 401", "WebSocket")
        assert [admin.errors, other.errors] == [[], []]
