"""`@task.carto_load`: what a function may return, and when it is called."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG, TaskDeferred

from airflow_provider.decorators.carto import CartoLoadDecoratedOperator, carto_load_task
from carto_auth_integrations.sandbox import Sandbox
from carto_auth_integrations.warehouse import CartoWarehouse
from tests.support.accounts import auth_for
from tests.support.airflow_connection import connection_of, set_connection
from tests.support.airflow_tasks import context_of


@pytest.fixture
def warehouse(carto_sandbox_bigquery: Sandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> CartoWarehouse:
    set_connection(monkeypatch, connection_of(carto_sandbox_bigquery, tmp_path / "tokens.json"))
    return auth_for(carto_sandbox_bigquery, tmp_path).warehouse()


def dicts() -> list[dict[str, int]]:
    return [{"id": 1}, {"id": 2}]


def generator() -> Iterator[dict[str, int]]:
    yield from dicts()


def frame() -> Any:
    import pandas

    return pandas.DataFrame(dicts())


def arrow() -> Any:
    import pyarrow

    return pyarrow.Table.from_pylist(dicts())


def batches() -> Iterator[Any]:
    yield from arrow().to_batches()


def loaded(function: Any, table: str, *, op_kwargs: dict[str, Any] | None = None, **context: Any) -> dict[str, Any]:
    operator = CartoLoadDecoratedOperator(
        task_id=table.rpartition(".")[2], python_callable=function, op_kwargs=op_kwargs, destination=table
    )
    return operator.execute(context_of(operator.task_id, **context))


@pytest.mark.parametrize("function", [dicts, generator, frame, arrow, batches])
def test_data_of_every_kind_is_loaded(warehouse: CartoWarehouse, function: Any, tmp_path: Path) -> None:
    assert loaded(function, f"shared.of_{function.__name__}", run_id=tmp_path.name)["rows"] == 2


def test_the_file_of_a_path_is_loaded(warehouse: CartoWarehouse, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id\n1\n2\n")
    assert loaded(lambda: tmp_path / "a.csv", "shared.of_path", run_id=str(tmp_path))["rows"] == 2


def test_the_function_gets_its_arguments_and_airflows_context(warehouse: CartoWarehouse, tmp_path: Path) -> None:
    def rows(first: int, run_id: str | None = None) -> Iterator[dict[str, Any]]:
        yield {"first": first, "run": run_id}

    result = loaded(rows, "shared.of_context", op_kwargs={"first": 7}, run_id=str(tmp_path))
    (row,) = warehouse.query(f"SELECT * FROM {result['destination']} WHERE run = '{tmp_path}'").rows
    assert row == {"first": 7, "run": str(tmp_path)}


def test_a_retry_that_finds_the_rows_loaded_does_not_run_a_function_that_yields(
    warehouse: CartoWarehouse, tmp_path: Path
) -> None:
    calls = []

    def rows() -> Iterator[dict[str, int]]:
        calls.append(1)
        yield {"id": 1}

    loaded(rows, "shared.of_retry", run_id=str(tmp_path))
    assert loaded(rows, "shared.of_retry", run_id=str(tmp_path), try_number=2)["reattached"]
    assert len(calls) == 1


def test_a_function_that_returns_nothing_is_a_clear_error(warehouse: CartoWarehouse) -> None:
    with pytest.raises(TypeError, match="NoneType cannot be loaded: pass a file"):
        loaded(lambda: None, "shared.of_nothing")


def test_a_function_is_called_once_although_its_load_is_deferred(warehouse: CartoWarehouse, tmp_path: Path) -> None:
    calls = []

    def rows() -> list[dict[str, int]]:
        calls.append(1)
        return dicts()

    def operator() -> CartoLoadDecoratedOperator:
        return CartoLoadDecoratedOperator(
            task_id="of_deferral", python_callable=rows, destination="shared.of_deferral", deferrable=True
        )

    context = context_of("of_deferral", run_id=str(tmp_path))
    with pytest.raises(TaskDeferred) as deferred:
        operator().execute(context)
    trigger = deferred.value.trigger
    event = {"status": "success", "carto_conn_id": "carto_default", "job_id": trigger.job_id, "location": "US"}
    assert operator().execute_complete(context, event, **deferred.value.kwargs)["rows"] == 2
    assert len(calls) == 1


def test_default_args_reach_a_decorated_load() -> None:
    with DAG("etl", schedule=None, default_args={"write_disposition": "WRITE_TRUNCATE", "geometry": "geom"}):
        load = carto_load_task(dicts, destination="shared.a")().operator
    assert (load.write_disposition, load.geometry) == ("WRITE_TRUNCATE", "geom")
