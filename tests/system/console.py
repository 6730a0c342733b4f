"""What somebody does in the console, as the tests of it begin."""

import asyncio
import re
from email import message_from_bytes, policy
from pathlib import Path

import pyotp
from playwright.async_api import Locator, Page, expect

from tests.system.browser import Service

PASSWORD = "a long enough passphrase"
NEW_PASSWORD = "another long passphrase"


def dialog(page: Page) -> Locator:
    """Return the dialogs that are open."""
    return page.locator("dialog[open]")


async def is_live(page: Page) -> None:
    """Wait until the page hears of changes."""
    await expect(page.locator("#connection")).to_have_text("Live")


async def sign_up(page: Page, username: str) -> None:
    """Register, which signs in."""
    await page.get_by_role("button", name="Sign up").click()
    await page.get_by_label("E-mail", exact=True).fill(f"{username}@example.com")
    await page.get_by_label("Username", exact=True).fill(username)
    await page.get_by_label("Password", exact=True).fill(PASSWORD)
    await page.get_by_label("Password again").fill(PASSWORD)
    await dialog(page).get_by_role("button", name="Sign up").click()
    await is_signed_in(page, username)
    await is_live(page)


async def sign_in(page: Page, username: str, password: str = PASSWORD) -> None:
    """Ask to be signed in, whatever comes of it."""
    await page.locator("#sign-in-open").click()
    await fill_in(page, username, password)


async def fill_in(page: Page, username: str, password: str = PASSWORD) -> None:
    """Fill in the open form for signing in, and send it."""
    await page.locator("#account-username").fill(username)
    await page.locator("#account-password").fill(password)
    await page.keyboard.press("Enter")


async def is_signed_in(page: Page, username: str) -> None:
    """Wait until the page is somebody's."""
    await expect(page.locator("#who")).to_have_text(username)


async def sign_out(page: Page) -> None:
    """Sign out here."""
    await page.get_by_role("button", name="Sign out", exact=True).click()


async def another_tab(page: Page) -> Page:
    """Open the console in a second tab of the same browser."""
    other = await page.context.new_page()
    await other.goto("/")
    return other


async def go(page: Page, place: str) -> None:
    """Go to one of the places."""
    await page.get_by_role("navigation", name="Places").get_by_role("link", name=place).click()
    await expect(page.get_by_role("heading", name=place, exact=True)).to_be_focused()


async def to_account(page: Page, username: str) -> None:
    """Sign up and go to one's account."""
    await sign_up(page, username)
    await page.locator("#who").click()
    await expect(page.get_by_role("heading", name="Account", exact=True)).to_be_focused()


async def create(page: Page, name: str, price: str = "12.50", **more: str) -> None:
    """Create an item."""
    await page.get_by_role("button", name="New item").click()
    for field, text in {"name": name, "price": price, **more}.items():
        await page.locator(f"#editor-{field}").fill(text)
    await page.get_by_role("button", name="Save").click()
    await expect(page.locator("#editor")).to_be_hidden()


async def kept(page: Page) -> str:
    """Take what is shown once."""
    shown = await dialog(page).locator("output").text_content()
    await page.get_by_role("button", name="I have kept it").click()
    return shown or ""


async def set_up_factor(page: Page) -> tuple[str, list[str]]:
    """Set up a second factor; return its secret and the recovery codes."""
    await page.get_by_role("button", name="Set up").click()
    await dialog(page).get_by_label("Your password").fill(PASSWORD)
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("img", name="QR code")).to_be_visible()
    await page.get_by_text("I cannot scan it").click()
    secret = (await dialog(page).locator("code").text_content() or "").replace(" ", "")
    await dialog(page).get_by_label("Code").fill(pyotp.TOTP(secret).now())
    await page.get_by_role("button", name="Confirm", exact=True).click()
    codes = (await kept(page)).split()
    await expect(page.get_by_text("10 recovery codes left")).to_be_visible()
    return secret, codes


async def answer_with_code(page: Page, code: str) -> None:
    """Answer the question for the second factor."""
    await dialog(page).get_by_label("Code").fill(code)
    await page.keyboard.press("Enter")


async def link_of_mail(service: Service, action: str, to: str) -> str:
    """Wait for a mail to somebody, and return the link in it."""
    for _ in range(200):
        for path in sorted(service.folder.rglob("*.eml"), reverse=True):
            found = _link(path, action, to)
            if found:
                return found
        await asyncio.sleep(0.05)
    raise AssertionError(f"no mail with #{action} came to {to}")


def _link(path: Path, action: str, to: str) -> str | None:
    mail = message_from_bytes(path.read_bytes(), policy=policy.default)
    body = mail.get_body(("plain",))
    if to not in str(mail["To"]) or body is None:
        return None
    found = re.search(rf"\S+/(#{action}=\S+)", body.get_content())
    return f"/{found[1]}" if found else None
