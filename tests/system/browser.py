"""A real Chromium, and the service as `make run` starts it."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from playwright.async_api import (
    Browser,
    ConsoleMessage,
    Page,
    Request,
    async_playwright,
    expect,
)

from tests.patience import PATIENCE
from tests.services import free_port

_PATIENCE = PATIENCE * 1000  # milliseconds
expect.set_options(timeout=_PATIENCE)
_LEFT = "closed before the connection is established"  # a page was left while its socket connected
_ROOT = Path(__file__).resolve().parents[2]
_PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "chrome")
_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


class BrowserMissing(RuntimeError):
    """There is no Chromium; says what to install."""


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """Start the system's Chromium."""
    program = next(filter(None, map(shutil.which, _PROGRAMS)), None)
    if program is None:
        raise BrowserMissing("These tests need Chromium (Debian: apt-get install chromium)")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=program, args=_FLAGS)
        try:
            yield browser
        finally:
            await browser.close()


@dataclass
class Watched:
    """A page, and everything that went wrong on it or left its own origin."""

    page: Page
    errors: list[str] = field(default_factory=list)

    def forgive(self, *patterns: str) -> None:
        """Drop what a test provokes itself, such as a lost connection or a refused form."""
        self.errors = [e for e in self.errors if not any(re.search(p, e) for p in patterns)]


@asynccontextmanager
async def watched_page(
    browser: Browser, origin: str, *, at: str = "/", **options: Any
) -> AsyncIterator[Watched]:
    """Open a page in a context of its own; fail if errors or foreign requests are left at the end.

    A test forgives those that it provokes.
    """
    context = await browser.new_context(base_url=origin, **options)
    page = await context.new_page()
    watched = Watched(page)

    def on_console(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and _LEFT not in message.text:
            watched.errors.append(f"{message.type}: {message.text}")

    def on_request(request: Request) -> None:
        if not request.url.startswith((origin, origin.replace("http", "ws", 1), "data:", "blob:")):
            watched.errors.append(f"foreign: {request.url}")

    page.on("console", on_console)
    page.on("pageerror", lambda error: watched.errors.append(f"exception: {error}"))
    page.on("request", on_request)
    page.set_default_timeout(_PATIENCE)
    try:
        await page.goto(at)
        yield watched
        assert watched.errors == [], watched.errors
    finally:
        await context.close()


class Service:
    """`kingpost serve` with an embedded database in a folder of its own; runs inside a `with`."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.folder = folder
        self._port = free_port()
        self.origin = f"http://127.0.0.1:{self._port}"
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def _environment(self) -> dict[str, str]:
        plain = {k: v for k, v in os.environ.items() if not k.startswith(("DATABASE_", "REDIS_"))}
        ours = {"PYTHONPATH": str(_ROOT), "PORT": str(self._port), "PUBLIC_URL": self.origin}
        return {**plain, **ours, **self._settings}

    def add_admin(self, username: str, password: str) -> None:
        """Make an admin as an operator does."""
        account = ["--username", username, "--email", f"{username}@example.com"]
        subprocess.run(
            [sys.executable, "-m", "app.cli", "create-admin", *account, "--password-stdin"],
            cwd=self.folder,
            env=self._environment,
            input=password.encode(),
            stdout=subprocess.DEVNULL,
            check=True,
        )

    def start(self) -> None:
        """Start it and wait until it is ready."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "app.cli", "serve"],
            cwd=self.folder,
            env=self._environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            try:
                with urllib.request.urlopen(f"{self.origin}/health/ready", timeout=5):
                    return
            except OSError:
                time.sleep(0.02)
        raise RuntimeError("the service did not start")

    def stop(self) -> None:
        """End it as Ctrl-C does."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(PATIENCE)
            self._process = None
