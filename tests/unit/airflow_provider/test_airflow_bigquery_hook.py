"""Google's BigQuery hook on a `carto` connection; `nox -s airflow-google` has the provider that it needs."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from carto_auth_integrations.sandbox import Sandbox
from tests.support.airflow_connection import connection_of, set_connection

TABLE = "shared.of_googles_hook"


@pytest.fixture
def google_hook(carto_sandbox_bigquery: Sandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    pytest.importorskip("airflow.providers.google", reason="needs the google provider")
    from airflow_provider.hooks.bigquery import CartoBigQueryHook

    set_connection(monkeypatch, connection_of(carto_sandbox_bigquery, tmp_path / "tokens.json", location="US"))
    return CartoBigQueryHook()


def test_without_the_google_provider_an_import_says_what_to_install() -> None:
    code = """
import sys
sys.modules["airflow.providers.google.cloud.hooks.bigquery"] = None
try:
    import airflow_provider.hooks.bigquery
except ImportError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert "pip install apache-airflow-providers-google" in done.stdout


def test_the_hook_works_on_the_warehouses_project(google_hook, carto_sandbox: Sandbox) -> None:
    assert google_hook.project_id == carto_sandbox.options.project_id
    assert google_hook.get_client().project == carto_sandbox.options.project_id
    assert google_hook.get_uri() == f"bigquery://{carto_sandbox.options.project_id}"


def test_googles_methods_run_in_the_warehouse(google_hook) -> None:
    google_hook.insert_job(
        configuration={"query": {"query": f"CREATE OR REPLACE TABLE {TABLE} AS SELECT 1 AS one", "useLegacySql": False}}
    )
    dataset, table = TABLE.split(".")
    assert google_hook.table_exists(project_id=google_hook.project_id, dataset_id=dataset, table_id=table)
    assert [list(row) for row in google_hook.get_records(f"SELECT one FROM {TABLE}")] == [[1]]
    assert google_hook.get_df(f"SELECT one FROM {TABLE}")["one"].tolist() == [1]
    assert google_hook.get_df(f"SELECT one FROM {TABLE}", df_type="polars")["one"].to_list() == [1]


def test_the_hooks_credentials_renew_themselves(google_hook, carto_sandbox: Sandbox) -> None:
    client = google_hook.get_client()
    assert [tuple(row) for row in client.query_and_wait("SELECT 1")] == [(1,)]
    carto_sandbox.revoke("dw")
    assert [tuple(row) for row in client.query_and_wait("SELECT 2")] == [(2,)]
    assert carto_sandbox.stats().issued["dw"] == 2


def test_reading_the_token_keeps_it(google_hook, carto_sandbox: Sandbox) -> None:
    google_hook.get_records("SELECT 1")
    assert {google_hook._get_access_token() for _ in range(3)} == {google_hook.auth.get_carto_dw_credentials()[1]}
    assert carto_sandbox.stats().issued["dw"] == 1


def test_the_connection_test_is_cartos(google_hook) -> None:
    passed, message = google_hook.test_connection()
    assert passed
    assert "All 4 stages passed" in message


def test_the_async_hook_finds_jobs_and_shares_the_token(google_hook, carto_sandbox: Sandbox) -> None:
    from airflow_provider.hooks.bigquery import CartoBigQueryAsyncHook

    job = google_hook.insert_job(configuration={"query": {"query": "SELECT 3", "useLegacySql": False}})

    async def look() -> tuple[str, str]:
        hook = CartoBigQueryAsyncHook()
        status = await hook.get_job_status(job.job_id, project_id=google_hook.project_id, location=job.location)
        return status["status"], await (await hook.get_token()).get()

    assert asyncio.run(look()) == ("success", google_hook.auth.get_carto_dw_credentials()[1])
    assert carto_sandbox.stats().issued["dw"] == 1


def test_sqlalchemy_and_openlineage_see_the_warehouse(google_hook) -> None:
    pytest.importorskip("sqlalchemy_bigquery", reason="comes with the same session")
    pytest.importorskip("airflow.providers.openlineage", reason="comes with the same session")
    from airflow_provider.hooks.carto import CartoHook

    hook = CartoHook(log_sql=False)
    hook.run(f"CREATE OR REPLACE TABLE {TABLE} AS SELECT 1 AS one, 'a' AS letter")
    with hook.get_sqlalchemy_engine().connect() as connection:
        assert connection.exec_driver_sql(f"SELECT letter FROM {TABLE}").scalar() == "a"
    assert [column["name"] for column in hook.get_table_schema(*reversed(TABLE.split(".")))] == ["one", "letter"]
    assert hook.dialect.get_target_fields(TABLE) == ["one", "letter"]
    info = hook.get_openlineage_database_info(hook.connection)
    assert (info.scheme, info.authority, info.database) == ("bigquery", None, google_hook.project_id)
