"""A real browser for tests: Debian's Chromium, driven by Playwright, which calls nobody but the page."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from playwright.async_api import Browser, Page, async_playwright, expect

CHROMIUM: Final = Path("/usr/bin/chromium")
FLAGS: Final = (
    "--no-sandbox",  # Chromium's own sandbox does not run as root
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-domain-reliability",
    "--disable-sync",
    "--no-first-run",
    "--disable-quic",
)
SHOWS_WITHIN_MS: Final = 60_000
"""A page needs much less; a busy machine needs more than Playwright's 5 s."""
WIDTH_PX: Final = 1120
HEIGHT_PX: Final = 920

expect.set_options(timeout=SHOWS_WITHIN_MS)


class BrowserMissing(Exception):
    """There is no Chromium; the message says how to get it."""


@asynccontextmanager
async def running_browser() -> AsyncIterator[Browser]:
    """Start Chromium without a window and end it afterwards; raises BrowserMissing."""
    if not CHROMIUM.exists():
        raise BrowserMissing(f"{CHROMIUM} is not there: run `python3 -m local_cluster chromium`")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        try:
            yield browser
        finally:
            await browser.close()


@asynccontextmanager
async def open_page(url: str, color_scheme: str = "light") -> AsyncIterator[Page]:
    """Show `url` in a fresh browser; fails when a script on the page threw something or broke its own policy."""
    failures: list[str] = []
    async with running_browser() as browser:
        page = await browser.new_page(
            viewport={"width": WIDTH_PX, "height": HEIGHT_PX},
            color_scheme="dark" if color_scheme == "dark" else "light",
        )
        page.on("pageerror", lambda error: failures.append(str(error)))
        page.on(
            "console",
            lambda message: failures.append(message.text) if "Content Security Policy" in message.text else None,
        )
        await page.goto(url)
        yield page
        assert not failures, failures
