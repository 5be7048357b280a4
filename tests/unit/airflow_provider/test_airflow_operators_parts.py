"""The operators as a DAG file sees them: templates, defaults, imports; and errors as JSON."""

from __future__ import annotations

import json
from dataclasses import fields
from inspect import getdoc, signature
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowException
from google.api_core.exceptions import BadRequest, TooManyRequests
from google.auth.exceptions import RefreshError, TransportError

from airflow_provider.decorators.carto import carto_load_task
from airflow_provider.jobs import error_as_json, error_from_json
from airflow_provider.operators.carto import CartoLoadOperator, CartoQueryOperator
from carto_auth_integrations import AccountError, ClientRejected, CredentialsError, ServiceUnavailable
from carto_auth_integrations.warehouse import CartoWarehouse, LoadOptions
from tests.laws.test_law_05_light_imports import HEAVY, imported_by


def test_templates_and_sql_files_are_rendered() -> None:
    assert set(CartoQueryOperator.template_fields) >= {"sql", "parameters", "destination", "labels", "idempotency_key"}
    assert set(CartoLoadOperator.template_fields) >= {"source", "destination", "labels", "idempotency_key"}
    assert CartoQueryOperator.template_ext == (".sql",)
    for operator in (CartoQueryOperator, CartoLoadOperator):
        assert set(operator.template_fields_renderers) <= set(operator.template_fields)


EVERY_CALL = {"self", "timeout", "on_progress", "dry_run"}
"""Arguments of the warehouse that tasks do not have: Airflow has `execution_timeout`; `dry_run` is a method of it."""


@pytest.mark.parametrize(
    ("operator", "method"),
    [(CartoQueryOperator, CartoWarehouse.query), (CartoLoadOperator, CartoWarehouse.load)],
)
def test_an_operator_has_the_options_of_the_warehouse_with_the_same_defaults(operator: Any, method: Any) -> None:
    here, there = signature(operator.__init__).parameters, signature(method).parameters
    options = {name: parameter.default for name, parameter in there.items() if name not in EVERY_CALL}
    if "max_rows" in options:
        options["max_rows"] = 100  # Airflow keeps the rows in its database
    assert {name: here[name].default for name in options} == options
    assert here.keys() - options.keys() == {"self", "carto_conn_id", "deferrable", "kwargs"}
    assert {field.name for field in fields(operator.options_class)} <= options.keys() | {"destination"}


def test_a_decorated_load_has_the_defaults_of_the_operator() -> None:
    def rows() -> list[dict[str, int]]:
        return []

    decorated = carto_load_task(rows, destination="shared.a")().operator
    load = CartoLoadOperator(task_id="load", source=None, destination="shared.a")
    for field in fields(LoadOptions):
        assert getattr(decorated, field.name) == getattr(load, field.name) == field.default
    for name in ("labels", "idempotency_key", "carto_conn_id", "deferrable"):
        assert getattr(decorated, name) == getattr(load, name)


@pytest.mark.parametrize(
    "options",
    [
        {"write_disposition": "ANYHOW"},
        {"create_disposition": "NEVER"},
        {"format": "ORC"},
        {"edges": "curved"},
        {"invalid_geometry": "drop"},
        {"bad_rows": "skip"},
        {"column_names": "any"},
    ],
)
def test_an_unknown_choice_is_refused_when_the_dag_file_is_read(options: dict[str, Any]) -> None:
    def rows() -> list[dict[str, int]]:
        return []

    ((name, value),) = options.items()
    with pytest.raises(ValueError, match=f"^{name} must be one of .*, not {value!r}"):
        CartoLoadOperator(task_id="load", source="a.csv", destination="shared.a", **options)
    with pytest.raises(ValueError, match=f"^{name} must be one of .*, not {value!r}"):
        carto_load_task(rows, destination="shared.a", **options)()


@pytest.mark.parametrize("options", [{"priority": "SOON"}, {"write_disposition": "ANYHOW"}])
def test_an_unknown_choice_of_a_query_is_refused_when_the_dag_file_is_read(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be one of"):
        CartoQueryOperator(task_id="ask", sql="SELECT 1", **options)


def test_a_longitude_without_a_latitude_is_refused_when_the_dag_file_is_read() -> None:
    with pytest.raises(ValueError, match="give both"):
        CartoLoadOperator(task_id="load", source="a.csv", destination="shared.a", lon="x")


def test_every_option_of_a_load_is_described_as_in_the_warehouse() -> None:
    described = " ".join((getdoc(CartoLoadOperator) or "").split())
    for line in (getdoc(LoadOptions) or "").partition("Attributes:")[2].replace("\n        ", " ").splitlines():
        assert " ".join(line.split()) in described


def test_both_use_carto_default_and_are_not_deferred_by_default() -> None:
    query = CartoQueryOperator(task_id="ask", sql="SELECT 1")
    load = CartoLoadOperator(task_id="load", source="a.csv", destination="shared.a", deferrable=True)
    assert (query.carto_conn_id, query.deferrable, load.deferrable) == ("carto_default", False, True)


def test_airflows_configuration_is_the_default_of_deferrable() -> None:
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


def limited(error: Any) -> Any:
    """Return an error of google as the warehouse raises it."""
    error.retry_after = 30.0
    return error


@pytest.mark.parametrize(
    "error",
    [
        BadRequest("no such column"),
        TooManyRequests("slow down"),
        ClientRejected("check client_id", status=401),
        ServiceUnavailable("later", status=429, retry_after=30.0),
        AccountError("client_id is missing"),
        TransportError("unreachable"),
        limited(TooManyRequests("slow down")),
        TimeoutError("took too long"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_is_the_same_after_json(error: Exception) -> None:
    again = error_from_json(json.loads(json.dumps(error_as_json(error))))
    assert type(again) is type(error)
    assert str(again) == str(error)
    for name in ("status", "retry_after", "code"):
        assert getattr(again, name, None) == getattr(error, name, None)


def test_an_error_of_this_package_is_kept_although_googles_libraries_wrap_it() -> None:
    error: Any = RefreshError("wrapped")
    error.__cause__ = ClientRejected("check client_id", status=403)
    assert isinstance(error_from_json(error_as_json(error)), ClientRejected)


def test_an_error_of_another_kind_keeps_its_name_and_text() -> None:
    again = error_from_json(error_as_json(KeyError("x")))
    assert isinstance(again, AirflowException)
    assert str(again) == "KeyError: 'x'"
    assert not isinstance(again, CredentialsError)
