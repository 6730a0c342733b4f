"""The console's other places in a real Chromium: account, files, import and export, webhooks."""

import csv
import io
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pyotp
import pytest
from PIL import Image
from playwright.async_api import Browser, Locator, Page, expect

from tests.system.browser import Service, watched_page
from tests.system.test_console import PASSWORD, create, sign_up

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("console-places")
    (folder / ".env").write_text("WEBHOOKS_ALLOW_PRIVATE=true\nWEBHOOKS_PORTS=\n")
    service = Service(folder)
    service.start()
    yield service
    service.stop()


def dialog(page: Page) -> Locator:
    return page.locator("dialog[open]")


async def test_an_api_key_is_shown_once_and_can_be_revoked(
    browser: Browser, service: Service
) -> None:
    async with watched_page(browser, service.origin) as watched:
        page = watched.page
        await page.goto("/")
        await sign_up(page, "keyholder")
        await page.locator("#who").click()
        await page.get_by_role("button", name="New key").click()
        await dialog(page).get_by_label("Name").fill("Robot")
        await dialog(page).get_by_role("checkbox").first.check()
        await dialog(page).get_by_role("button", name=re.compile("Create|Make")).click()
        secret = page.get_by_text(re.compile(r"kp_live_[0-9A-Za-z]{49}"))
        await expect(secret).to_be_visible()
        await dialog(page).get_by_role("button").last.click()
        await expect(page.get_by_text("Robot", exact=True)).to_be_visible()
        await expect(secret).to_have_count(0)
        await page.get_by_role("button", name=re.compile("Revoke")).click()
        await dialog(page).get_by_role("button", name="Revoke").click()
        await expect(page.get_by_text("No keys yet.")).to_be_visible()
        assert watched.errors == []


async def test_a_second_factor_is_set_up_and_asked_for(browser: Browser, service: Service) -> None:
    async with watched_page(browser, service.origin) as watched:
        page = watched.page
        await page.goto("/")
        await sign_up(page, "careful")
        await page.locator("#who").click()
        await page.get_by_role("button", name="Set up").click()
        await dialog(page).get_by_label("password").fill(PASSWORD)
        await dialog(page).get_by_role("button").last.click()
        await expect(dialog(page).get_by_role("img")).to_be_visible()
        await page.get_by_text("I cannot scan it").click()
        told = (await dialog(page).inner_text()).replace(" ", "")
        found = re.search(r"\b[A-Z2-7]{32,}\b", told)
        assert found
        codes = pyotp.TOTP(found[0])
        await dialog(page).get_by_label("Code").fill(codes.now())
        await dialog(page).get_by_role("button", name="Confirm").click()
        recovery = re.compile(r"([0-9A-Z]{4}-){3}[0-9A-Z]{4}")
        await expect(dialog(page)).to_contain_text(recovery)
        spare = recovery.search(await dialog(page).inner_text())
        assert spare
        await dialog(page).get_by_role("button", name="I have kept it").click()
        await page.get_by_role("button", name="Sign out", exact=True).click()
        await page.get_by_role("button", name="Sign in").first.click()
        await page.get_by_label("Username or e-mail").fill("careful")
        await page.get_by_label("Password", exact=True).fill(PASSWORD)
        await page.keyboard.press("Enter")
        await dialog(page).get_by_label("Code").fill(spare[0])
        await page.keyboard.press("Enter")
        await expect(page.locator("#who")).to_have_text("careful")
        watched.forgive("401")  # the answer that asks for the code
        assert watched.errors == []


async def test_files_are_uploaded_seen_and_deleted(
    browser: Browser, service: Service, tmp_path: Path
) -> None:
    picture, text = tmp_path / "desk.png", tmp_path / "plan.txt"
    Image.new("RGB", (300, 200), "teal").save(picture)
    text.write_text("Four legs, one board.")
    async with watched_page(browser, service.origin) as watched:
        page = watched.page
        await page.goto("/")
        await sign_up(page, "filer")
        await create(page, "Filed desk")
        await page.get_by_role("button", name="Files").first.click()
        await page.locator("#file-input").set_input_files([picture, text])
        await expect(dialog(page).get_by_text("desk.png")).to_be_visible()
        await expect(dialog(page).locator("img.thumbnail").first).to_be_visible()
        async with page.expect_download() as download:
            await page.get_by_role("button", name="Download plan.txt").click()
        assert (await (await download.value).path()).read_text() == text.read_text()
        remove = page.get_by_role("button", name="Delete plan.txt")
        await remove.click()
        await dialog(page).last.get_by_role("button", name="Delete", exact=True).click()
        await expect(remove).to_have_count(0)
        assert watched.errors == []


async def test_lines_are_imported_told_and_exported(
    browser: Browser, service: Service, tmp_path: Path
) -> None:
    table = tmp_path / "items.csv"
    table.write_text("name,price\nImported lamp,12.50\nImported chair,-3\n")
    async with watched_page(browser, service.origin) as watched:
        page = watched.page
        await page.goto("/")
        await sign_up(page, "importer")
        await page.get_by_role("button", name="Import").click()
        await dialog(page).locator("input[type=file]").set_input_files(table)
        await dialog(page).get_by_role("button").last.click()
        await expect(dialog(page)).to_contain_text("1 imported, 1 refused")
        await expect(dialog(page)).to_contain_text("Line 3")
        await dialog(page).get_by_role("button", name="Close").click()
        await expect(page.get_by_role("heading", name="Imported lamp")).to_be_visible()
        await page.get_by_label("Search").fill("imported")
        await page.get_by_role("button", name="Export").click()
        async with page.expect_download() as download:
            await dialog(page).get_by_role("button").last.click()
        content = (await (await download.value).path()).read_text()
        assert [row["name"] for row in csv.DictReader(io.StringIO(content))] == ["Imported lamp"]
        await page.goto("/#/jobs")
        await expect(page.get_by_text("items.import").first).to_be_visible()
        assert watched.errors == []


@contextmanager
def receiving() -> Iterator[tuple[str, list[bytes]]]:
    """Have somebody to send webhooks to."""
    bodies: list[bytes] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Receiver) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/hook", bodies
        server.shutdown()
        thread.join()


async def test_a_webhook_is_made_tested_and_its_log_read(
    browser: Browser, service: Service
) -> None:
    with receiving() as (url, bodies):
        async with watched_page(browser, service.origin) as watched:
            page = watched.page
            await page.goto("/")
            await sign_up(page, "hooked")
            await page.get_by_role("link", name="Webhooks").click()
            await page.get_by_role("button", name="New webhook").click()
            await dialog(page).get_by_label("Address").fill(url)
            await dialog(page).get_by_role("button", name="Create").click()
            await expect(dialog(page)).to_contain_text("whsec_")
            await dialog(page).get_by_role("button").last.click()
            await page.get_by_role("button", name="Send a test").click()
            await expect(dialog(page).get_by_text("webhook.test")).to_be_visible()
            await expect(dialog(page).get_by_text("succeeded").last).to_be_visible()
            assert b"webhook.test" in bodies[0]
            assert watched.errors == []
