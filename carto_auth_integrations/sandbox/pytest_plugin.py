"""Pytest fixtures for those who test pipelines: a fresh-looking local CARTO for each test.

Every pytest run of a user loads this module, so it imports nothing until a fixture is used.
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
    """How the sandbox behaves; override it in a `conftest.py` to change that."""
    from .options import SandboxOptions

    return SandboxOptions()


@pytest.fixture(scope="session")
def carto_sandbox_server(carto_sandbox_options: SandboxOptions) -> Iterator[Sandbox]:
    """The one server of the session."""
    from .sandbox import Sandbox

    with Sandbox(carto_sandbox_options) as sandbox:
        yield sandbox


@pytest.fixture
def carto_sandbox(carto_sandbox_server: Sandbox) -> Iterator[Sandbox]:
    """A local CARTO without faults, with empty counts; BigQuery tables stay from test to test."""
    carto_sandbox_server.reset()
    yield carto_sandbox_server
    carto_sandbox_server.reset()


@pytest.fixture
def carto_sandbox_bigquery(carto_sandbox: Sandbox) -> Sandbox:
    """The same with its BigQuery emulator up, so that no query of the test pays for the start."""
    carto_sandbox.start_emulator()
    return carto_sandbox
