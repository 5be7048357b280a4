"""`@task.carto_load`: what a function may give, and when it is called."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_provider.decorators.carto import CartoLoadDecoratedOperator
from carto_auth_integrations.sandbox import Sandbox
from carto_auth_integrations.warehouse import CartoWarehouse
from tests.support.airflow_connection import connection_of, set_connection
from tests.support.airflow_tasks import context_of
from tests.support.core import auth_for


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


def test_a_function_that_gives_nothing_is_told_what_to_give(warehouse: CartoWarehouse) -> None:
    with pytest.raises(TypeError, match="NoneType cannot be loaded: give a file"):
        loaded(lambda: None, "shared.of_nothing")


def test_a_path_is_remembered_while_the_load_is_deferred() -> None:
    operator = CartoLoadDecoratedOperator(task_id="load", python_callable=dicts, destination="shared.a")
    operator.source = Path("/data/a.csv")
    assert operator._rendered()["source"] == "/data/a.csv"
    operator.source = ["gs://bucket/a.csv"]
    assert operator._rendered()["source"] == ["gs://bucket/a.csv"]
    operator.source = dicts()
    assert "source" not in operator._rendered()
