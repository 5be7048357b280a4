"""Pytest fixtures that give each test a local CARTO without faults and with empty statistics.

Pytest loads this module in every run where the package is installed, so it imports the sandbox only when a fixture is
used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .options import SandboxOptions
    from .sandbox import Sandbox


@pytest.fixture(scope="session")
def carto_sandbox_options() -> SandboxOptions:
    """Return the options of the sandbox. Override this fixture in a `conftest.py` to change them."""
    from .options import SandboxOptions

    return SandboxOptions()


@pytest.fixture(scope="session")
def carto_sandbox_server(carto_sandbox_options: SandboxOptions) -> Iterator[Sandbox]:
    """Yield the sandbox that all tests of the session share."""
    from .sandbox import Sandbox

    with Sandbox(carto_sandbox_options) as sandbox:
        yield sandbox


@pytest.fixture
def carto_sandbox(carto_sandbox_server: Sandbox) -> Iterator[Sandbox]:
    """Yield a local CARTO without faults and with empty statistics. BigQuery tables persist between tests."""
    carto_sandbox_server.reset()
    yield carto_sandbox_server
    carto_sandbox_server.reset()


@pytest.fixture
def carto_sandbox_bigquery(carto_sandbox: Sandbox) -> Sandbox:
    """Return `carto_sandbox` with its BigQuery emulator started, so that no query in the test waits for the start."""
    carto_sandbox.start_emulator()
    return carto_sandbox
