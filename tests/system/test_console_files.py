"""Files, import and export in the console, in a real Chromium."""

from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image
from playwright.async_api import Browser, FilePayload, expect

from tests.system.browser import Service, watched_page
from tests.system.console import create, dialog, go, sign_up

pytestmark = pytest.mark.system


def picture() -> FilePayload:
    content = BytesIO()
    Image.new("RGB", (640, 480), "teal").save(content, "PNG")
    return {"name": "desk.png", "mimeType": "image/png", "buffer": content.getvalue()}


async def test_files_are_added_seen_downloaded_and_deleted(
    browser: Browser, service: Service, tmp_path: Path
) -> None:
    async with watched_page(browser, service.origin) as watched:
        page = watched.page
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


async def test_an_import_tells_the_refused_lines_and_an_export_has_the_rest(
    browser: Browser, service: Service, tmp_path: Path
) -> None:
    async with watched_page(browser, service.origin) as watched:
        page = watched.page
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
