"""The block in Prefect's own pages: its type, the form that creates it, and a saved block."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from carto_auth_integrations.account.fields import FIELDS
from tests.support.accounts import SECRET
from tests.support.chromium import browser_page

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

    from tests.support.prefect_site import PrefectSite

pytest_plugins = ["tests.support.prefect_site"]

pytestmark = pytest.mark.needs_program("chromium")

IMAGES = Path(__file__).parents[2] / "docs/images"

PATIENCE = 60_000
"""Milliseconds for a page to show what it is to show, on a busy machine."""
WIDTH, HEIGHT = 1280, 1660
"""Pixels of the page: the whole form is in the picture."""
BLANK = '<svg xmlns="http://www.w3.org/2000/svg"/>'


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    """A page of a real browser."""
    with browser_page(WIDTH, HEIGHT, PATIENCE) as page:
        # The block's logo is the one thing that is not on this machine.
        page.route("https://**", lambda route: route.fulfill(body=BLANK, content_type="image/svg+xml"))
        yield page


@pytest.fixture
def form(page: Page, prefect_site: PrefectSite, registered_blocks: str) -> Page:
    """The page with the empty form."""
    page.goto(f"{prefect_site.url}/blocks/catalog/carto-credentials/create")
    page.get_by_text("Block Name").wait_for()
    return page


def below(page: Page, description: str) -> Locator:
    """Return the input below a description."""
    return page.get_by_text(description, exact=True).locator("xpath=following::textarea[1]")


def picture(page: Page, name: str) -> None:
    """Save a picture for the documentation, if CARTO_TEST_PICTURES is set."""
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
