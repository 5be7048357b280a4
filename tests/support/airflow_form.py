"""Airflow's page of connections and its form, driven in Chromium."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, expect

from tests.support.chromium import browser_page

PATIENCE = 120_000
"""Milliseconds after which the page counts as hung."""
WIDTH, HEIGHT = 1000, 1000
"""Pixels of the page; its height grows with the form for a screenshot."""


class ConnectionsPage:
    """The page that lists Airflow's connections.

    Args:
        page: A page of the browser.
        url: Where Airflow is.
    """

    def __init__(self, page: Page, url: str) -> None:
        self._page = page
        page.goto(f"{url}/connections")

    def reload(self) -> None:
        """Load the page again."""
        self._page.reload()

    def add(self, conn_id: str, connection_type: str) -> ConnectionForm:
        """Open the form for a new connection."""
        self._page.get_by_role("button", name="Add Connection").click()
        form = self._form()
        form.dialog.get_by_label("Connection ID").fill(conn_id)
        form.dialog.get_by_role("combobox").fill(connection_type)
        self._page.get_by_role("option", name=connection_type, exact=True).click()
        return form

    def edit(self, conn_id: str) -> ConnectionForm:
        """Open the form of a saved connection."""
        self._row(conn_id).get_by_role("button", name="Edit Connection").click()
        return self._form()

    def test(self, conn_id: str) -> str:
        """Press Test, and return the message that appears."""
        self._row(conn_id).get_by_role("button", name="Test Connection").click()
        answer = self._page.get_by_role("status").filter(has_text="Test Connection")
        expect(answer).to_be_visible(timeout=PATIENCE)
        return answer.inner_text()

    def _row(self, conn_id: str) -> Any:
        return self._page.get_by_role("row").filter(has_text=conn_id)

    def _form(self) -> ConnectionForm:
        return ConnectionForm(self._page)


class ConnectionForm:
    """The form of one connection.

    Args:
        page: The page that shows it.
    """

    def __init__(self, page: Page) -> None:
        self.dialog = page.get_by_role("dialog")
        self._page = page

    def show_extra_fields(self) -> None:
        """Open the section with the fields of the connection type."""
        self.dialog.get_by_role("button", name="Extra Fields", exact=True).click()

    def text(self) -> str:
        """Return the text of the form, without the values of its inputs."""
        return self.dialog.inner_text()

    def fill(self, **values: str) -> None:
        """Fill in values by the names of the inputs."""
        for name, value in values.items():
            self._input(name).fill(value)

    def value(self, name: str) -> str:
        """Return the value of an input."""
        return self._input(name).input_value()

    def is_masked(self, name: str) -> bool:
        """Whether an input shows dots instead of its value."""
        return self._input(name).get_attribute("type") == "password"

    def save(self) -> None:
        """Save, and wait until the form has closed."""
        self.dialog.get_by_role("button", name="Save").click()
        expect(self.dialog).to_be_hidden(timeout=PATIENCE)

    def screenshot(self, file: Path) -> None:
        """Save a picture of the whole form."""
        box = self.dialog.bounding_box()
        assert box is not None
        self._page.set_viewport_size({"width": WIDTH, "height": int(box["height"]) + 200})
        file.parent.mkdir(parents=True, exist_ok=True)
        self.dialog.screenshot(path=file, animations="disabled")

    def _input(self, name: str) -> Any:
        return self.dialog.locator(f"[name={name}]")


@contextmanager
def connections_page(url: str) -> Iterator[ConnectionsPage]:
    """Open the page in a new browser, while the `with` block runs."""
    with browser_page(WIDTH, HEIGHT, PATIENCE) as page:
        yield ConnectionsPage(page, url)
