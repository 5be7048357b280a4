"""A real Prefect server for the session, an account saved in it, and tables that no other test has."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect.testing.utilities import prefect_test_harness

from carto_auth_integrations.sandbox import Sandbox
from prefect_blocks import CartoCredentials, CartoDataWarehouse

STARTUP = 180
"""Seconds that the server may take to start on a busy machine; alone it takes ten."""


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[None]:
    """Let Prefect of this process talk to a server of its own."""
    with prefect_test_harness(server_startup_timeout=STARTUP):
        yield


@pytest.fixture
def credentials(prefect_server: None, carto_sandbox_bigquery: Sandbox, tmp_path: Path) -> CartoCredentials:
    """The sandbox's account, saved as `prod`."""
    credentials = CartoCredentials(**carto_sandbox_bigquery.account, token_store=str(tmp_path / "tokens.json"))
    credentials.save("prod", overwrite=True)
    return credentials


@pytest.fixture
def warehouse(credentials: CartoCredentials) -> CartoDataWarehouse:
    """A block that is not connected yet."""
    return CartoDataWarehouse(credentials=credentials)


@pytest.fixture
def table() -> str:
    return f"shared.t_{uuid.uuid4().hex[:12]}"
