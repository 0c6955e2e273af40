"""Pages in a real browser, each in a fresh profile; where there is none, tests that need it are skipped and say so."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

#: Browsers are slow where others compute.
PATIENCE_MS = 60_000
_OPTIONS = [
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
#: Opens an address; see `opening`.
Open = Callable[..., "Page"]


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start Chromium."""
    pytest.importorskip("axe_playwright_python.sync_playwright", reason="playwright and axe are not installed")
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        pytest.skip("there is no Chromium; apt-get install chromium")
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, chromium_sandbox=False, args=_OPTIONS)
        yield browser
        browser.close()


@contextmanager
def opening(browser: Browser) -> Iterator[Open]:
    """Give what opens pages; afterwards, nothing was asked of others and the console is empty.

    What it takes: an address, what to wait for (`ready`, a selector), and options of Playwright's `new_context`.
    """
    asked: list[str] = []
    said: list[str] = []
    opened: list[Page] = []

    def open_one(url: str, *, ready: str = "main:not([inert])", **options: object) -> Page:
        settings: dict[str, Any] = {"viewport": {"width": 1400, "height": 900}, **options}
        page = browser.new_context(**settings).new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.on("request", lambda request: asked.append(request.url.removeprefix(url)))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("console", lambda message: said.append(message.text) if "status of" not in message.text else None)
        page.goto(url)
        opened.append(page)
        page.wait_for_selector(ready)
        return page

    yield open_one
    for page in opened:
        page.context.close()
    assert not [url for url in asked if "://" in url]
    assert [text for text in said if "ERR_FAILED" not in text] == []


def assert_accessible(page: Page) -> None:
    """Assert that axe finds nothing wrong; the page must have been opened with ``bypass_csp=True`` if it has a CSP."""
    from axe_playwright_python.sync_playwright import Axe

    results = Axe().run(page)
    assert results.violations_count == 0, results.generate_report()
