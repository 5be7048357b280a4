"""The Chromium of this machine, for tests of the orchestrators' own pages."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Page, ViewportSize, sync_playwright

OPTIONS = (
    "--no-sandbox",  # in a container, where CI is root
    "--disable-gpu",
    "--disable-quic",
    # No requests but those of the page:
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)


@contextmanager
def browser_page(width: int, height: int, patience: float) -> Iterator[Page]:
    """Open a page in a new browser, while the `with` block runs.

    Args:
        width: Of the page, pixels.
        height: Of the page, pixels.
        patience: Milliseconds that the page may take for anything.
    """
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=OPTIONS)
        try:
            page = browser.new_page(viewport=ViewportSize(width=width, height=height), locale="en-US")
            page.set_default_timeout(patience)
            yield page
        finally:
            browser.close()
