"""The operators as a DAG file sees them: templates, defaults, imports; and errors on their way through JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowException
from google.api_core.exceptions import BadRequest, TooManyRequests
from google.auth.exceptions import RefreshError

from airflow_provider.jobs import error_as_json, error_from_json
from airflow_provider.operators.carto import CartoLoadOperator, CartoQueryOperator
from carto_auth_integrations import AccountError, ClientRejected, CredentialsError, ServiceUnavailable
from tests.laws.test_law_05_light_imports import HEAVY, imported_by


def test_templates_and_sql_files_are_rendered() -> None:
    assert set(CartoQueryOperator.template_fields) >= {"sql", "parameters", "destination", "labels", "idempotency_key"}
    assert set(CartoLoadOperator.template_fields) >= {"source", "destination", "labels", "idempotency_key"}
    assert CartoQueryOperator.template_ext == (".sql",)
    for operator in (CartoQueryOperator, CartoLoadOperator):
        assert set(operator.template_fields_renderers) <= set(operator.template_fields)


def test_both_work_on_carto_default_and_hold_their_worker_unless_told_otherwise() -> None:
    query = CartoQueryOperator(task_id="ask", sql="SELECT 1")
    load = CartoLoadOperator(task_id="load", source="a.csv", destination="shared.a", deferrable=True)
    assert (query.carto_conn_id, query.deferrable, load.deferrable) == ("carto_default", False, True)


def test_airflows_configuration_says_what_deferrable_is() -> None:
    statement = (
        "import os; os.environ['AIRFLOW__OPERATORS__DEFAULT_DEFERRABLE'] = 'True'; "
        "from airflow_provider.operators.carto import CartoQueryOperator; "
        "assert CartoQueryOperator(task_id='ask', sql='SELECT 1').deferrable"
    )
    imported_by(statement)


def test_a_dag_file_with_operators_imports_nothing_heavy_and_no_trigger() -> None:
    statement = (
        "from airflow_provider.operators.carto import CartoLoadOperator; import airflow_provider.triggers.carto; "
        "CartoLoadOperator(task_id='load', source='a.csv', destination='shared.a'); "
        "assert not {'airflow.triggers.base', 'google.cloud', 'google.auth'} & (set(sys.modules) - before)"
    )
    airflow = (
        "import airflow.providers.common.sql.hooks.sql; from airflow.providers.common.compat.sdk import BaseOperator; "
        "BaseOperator(task_id='any')"  # for which Airflow 3.0 imports its triggers
    )
    assert not imported_by(statement, airflow) & HEAVY


@pytest.mark.parametrize(
    "error",
    [
        BadRequest("no such column"),
        TooManyRequests("slow down"),
        ClientRejected("check client_id", status=401),
        ServiceUnavailable("later", status=429, retry_after=30.0),
        AccountError("client_id is missing"),
        TimeoutError("took too long"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_comes_out_of_json_as_it_went_in(error: Exception) -> None:
    again = error_from_json(json.loads(json.dumps(error_as_json(error))))
    assert type(again) is type(error)
    assert str(again) == str(error)
    for name in ("status", "retry_after", "code"):
        assert getattr(again, name, None) == getattr(error, name, None)


def test_an_error_of_googles_libraries_gives_way_to_what_it_was_raised_from() -> None:
    error: Any = RefreshError("wrapped")
    error.__cause__ = ClientRejected("check client_id", status=403)
    assert isinstance(error_from_json(error_as_json(error)), ClientRejected)


def test_an_error_of_another_kind_keeps_its_name_and_text() -> None:
    again = error_from_json(error_as_json(KeyError("x")))
    assert isinstance(again, AirflowException)
    assert str(again) == "KeyError: 'x'"
    assert not isinstance(again, CredentialsError)
