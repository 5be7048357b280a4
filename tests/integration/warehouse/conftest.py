"""A warehouse of the sandbox's account, and tables that no other test has."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from carto_auth_integrations.sandbox import Sandbox
from carto_auth_integrations.warehouse import CartoWarehouse
from tests.support.accounts import auth_for


@pytest.fixture
def warehouse(carto_sandbox_bigquery: Sandbox, tmp_path: Path) -> CartoWarehouse:
    return auth_for(carto_sandbox_bigquery, tmp_path).warehouse()


@pytest.fixture
def table() -> str:
    return f"shared.t_{uuid.uuid4().hex[:12]}"
