"""The block in Prefect's own pages: its type, the form in which it is made, and what a saved one shows."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from carto_auth_integrations.account.fields import FIELDS
from tests.support.core import SECRET

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

    from tests.support.prefect_site import PrefectSite

pytest_plugins = ["tests.support.prefect_site"]

pytestmark = pytest.mark.needs_program("chromium")

IMAGES = Path(__file__).parents[2] / "docs/images"

PATIENCE = 60_000
"""Milliseconds for a page to show what it is to show, on a busy machine."""
SIZE = {"width": 1280, "height": 1660}
"""Pixels: the whole form, for the picture."""
ALONE = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
"""Chromium as root in a container, and without a word to anyone but the server."""
BLANK = '<svg xmlns="http://www.w3.org/2000/svg"/>'


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    """A page of a real browser."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=ALONE)
        page = browser.new_page(viewport=SIZE)
        page.set_default_timeout(PATIENCE)
        # The block's logo is the one thing that is not on this machine.
        page.route("https://**", lambda route: route.fulfill(body=BLANK, content_type="image/svg+xml"))
        yield page
        browser.close()


@pytest.fixture
def form(page: Page, prefect_site: PrefectSite, registered_blocks: str) -> Page:
    """The page with the empty form."""
    page.goto(f"{prefect_site.url}/blocks/catalog/carto-credentials/create")
    page.get_by_text("Block Name").wait_for()
    return page


def below(page: Page, description: str) -> Locator:
    """Find the field that a description stands above."""
    return page.get_by_text(description, exact=True).locator("xpath=following::textarea[1]")


def picture(page: Page, name: str) -> None:
    """Take the picture that the documentation shows, where that is wanted."""
    if os.environ.get("CARTO_TEST_PICTURES"):
        IMAGES.mkdir(exist_ok=True)
        page.screenshot(path=IMAGES / name)


def test_the_type_has_a_page_with_an_example(page: Page, prefect_site: PrefectSite, registered_blocks: str) -> None:
    page.goto(f"{prefect_site.url}/blocks/catalog/carto-credentials")
    page.get_by_text("CARTO Credentials").first.wait_for()
    page.get_by_text("CartoCredentials.load").wait_for()
    assert page.get_by_role("link", name="Documentation").get_attribute("href").startswith("https://docs.carto.com")


def test_the_form_has_every_field_and_says_what_it_is_for(form: Page) -> None:
    from playwright.sync_api import expect

    for field in FIELDS.values():
        expect(form.get_by_text(field.description, exact=True)).to_be_visible(timeout=PATIENCE)


def test_what_the_form_saves_shows_no_secret_and_loads(form: Page, prefect_site: PrefectSite) -> None:
    form.get_by_text("Block Name").locator("xpath=following::input[1]").fill("prod")
    below(form, FIELDS["api_base_url"].description).fill("https://gcp-us-east1.api.carto.com")
    below(form, FIELDS["client_id"].description).fill("jLsaXn3bGkTqPz0R")
    picture(form, "prefect-block-form.png")
    below(form, FIELDS["client_secret"].description).fill(SECRET)
    form.get_by_role("button", name="Create").click()

    form.get_by_text("Paste this snippet").wait_for()
    form.get_by_text("jLsaXn3bGkTqPz0R").wait_for()
    assert form.get_by_text("********").is_visible()
    assert SECRET not in form.content()
    picture(form, "prefect-block.png")
    script = "from prefect_blocks import CartoCredentials; print(CartoCredentials.load('prod').client_id)"
    assert "jLsaXn3bGkTqPz0R" in prefect_site.run("load-prod", ["python", "-c", script])
