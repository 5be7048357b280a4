"""Airflow's database, created once, and the sandbox's account as `carto_default`."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from carto_auth_integrations.sandbox import Sandbox
from carto_auth_integrations.warehouse import CartoWarehouse
from tests.support.accounts import auth_for
from tests.support.airflow_connection import connection_of, set_connection


@pytest.fixture(scope="session")
def airflow_database() -> None:
    from airflow.utils.db import initdb

    Path(os.environ["AIRFLOW_HOME"]).mkdir(parents=True, exist_ok=True)  # Airflow 3.0 does not make it itself
    initdb()


@pytest.fixture
def sandbox(carto_sandbox_bigquery: Sandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Sandbox:
    set_connection(monkeypatch, connection_of(carto_sandbox_bigquery, tmp_path / "tokens.json"))
    return carto_sandbox_bigquery


@pytest.fixture
def warehouse(sandbox: Sandbox, tmp_path: Path) -> CartoWarehouse:
    return auth_for(sandbox, tmp_path).warehouse()
