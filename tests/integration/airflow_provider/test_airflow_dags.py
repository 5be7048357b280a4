"""The example DAGs, and DAGs whose tasks fail or render differently, each run to its end by Airflow itself."""

from __future__ import annotations

import uuid
from pathlib import Path

import airflow
import pytest

import airflow_provider.example_dags
from carto_auth_integrations.sandbox import Sandbox
from carto_auth_integrations.warehouse import CartoWarehouse
from tests.support.airflow_tasks import jobs_named, parse_dag, results_of, run_dag, states_of

EXAMPLES = Path(airflow_provider.example_dags.__file__).parent

pytestmark = pytest.mark.usefixtures("airflow_database", "sandbox")


def test_the_daily_etl_checks_what_it_loads_and_adds_it_to_the_other_days(warehouse: CartoWarehouse) -> None:
    run = run_dag(parse_dag("carto_daily_etl", EXAMPLES / "carto_daily_etl.py"))

    assert set(states_of(run).values()) == {"success"}
    assert results_of(run, "load_visits")["rows"] == 3
    assert results_of(run, "add_visits")["destination"].endswith(".shared.example_visits")
    (total,) = warehouse.query("SELECT SUM(visits) AS visits FROM shared.example_visits_by_city").rows
    assert total == {"visits": 330}


def test_mapped_loads_load_each_file_once() -> None:
    run = run_dag(parse_dag("carto_mapped_loads", EXAMPLES / "carto_mapped_loads.py"))

    assert set(states_of(run).values()) == {"success"}
    loads = results_of(run, "load_files")
    assert sorted(load["rows"] for load in loads) == [1, 2, 3]
    assert len({load["job_id"] for load in loads}) == 3
    assert [row["days"] for row in results_of(run, "look")["rows"]] == [2, 1, 3]


def test_a_deferred_transformation_passes_its_rows_on(sandbox: Sandbox) -> None:
    run = run_dag(parse_dag("carto_deferrable", EXAMPLES / "carto_deferrable.py"))

    assert set(states_of(run).values()) == {"success"}
    assert not results_of(run, "transform")["reattached"]
    assert results_of(run, "report") == "1429 points in cell 1"
    assert results_of(run, "transform", "carto_job_link").startswith("https://console.cloud.google.com/bigquery?")
    assert sandbox.stats().count("token") == 1


def test_a_retry_finds_the_load_of_the_earlier_try_and_rows_are_there_once(warehouse: CartoWarehouse) -> None:
    dag = parse_dag(
        "load_and_fail",
        """
        from datetime import datetime, timedelta, timezone
        from airflow.providers.common.compat.sdk import dag, task

        def fail_once(context, result=None):
            if context["ti"].try_number == 1:
                raise RuntimeError("after the load")

        @dag(schedule=None, start_date=datetime(2026, 1, 1, tzinfo=timezone.utc))
        def load_and_fail():
            @task.carto_load(
                destination="shared.load_and_fail", retries=1, retry_delay=timedelta(0), post_execute=fail_once
            )
            def load(ti=None):
                if ti.try_number > 1:
                    raise RuntimeError("it need not run again")
                yield {"id": 1}
                yield {"id": 2}

            load()

        load_and_fail()
        """,
    )
    before = _count(warehouse, "shared.load_and_fail")

    run = run_dag(dag)

    assert states_of(run) == {"load": "success"}
    assert results_of(run, "load")["reattached"]
    assert _count(warehouse, "shared.load_and_fail") - before == 2


@pytest.mark.parametrize(
    ("native", "beside", "options"),
    [
        pytest.param(True, "", "deferrable=True", id="deferred, rendered as native objects"),
        pytest.param(False, '"n": Decimal("1.5")', "deferrable=True", id="deferred, with a value that is not JSON"),
        pytest.param(False, "", "deferrable=True", id="deferred, as text"),
        pytest.param(True, "", "retries=1", id="retried, rendered as native objects"),
        pytest.param(False, '"n": Decimal("1.5")', "retries=1", id="retried, with a value that is not JSON"),
        pytest.param(False, "", "retries=1, durable=False", id="retried, without the store of Airflow 3.3"),
    ],
)
def test_a_statement_whose_template_renders_differently_each_time_runs_once(
    warehouse: CartoWarehouse, native: bool, beside: str, options: str
) -> None:
    if "durable" in options and airflow.__version__ < "3.3":
        pytest.skip("older versions have no store")
    name = f"t_{uuid.uuid4().hex[:12]}"
    columns, values = ("t, n", "CAST(@t AS STRING), @n") if beside else ("t, n", "CAST(@t AS STRING), 0")
    warehouse.query(f"CREATE TABLE shared.{name} (t STRING, n NUMERIC)")
    dag = parse_dag(
        name,
        f"""
        from datetime import datetime, timedelta, timezone
        from decimal import Decimal
        from airflow.providers.common.compat.sdk import DAG
        from airflow_provider.operators.carto import CartoQueryOperator

        def fail_once(context, result=None):
            if context["ti"].try_number == 1 and context["task"].retries:
                raise RuntimeError("after the statement")

        with DAG(
            "{name}",
            schedule=None,
            start_date=datetime(2026, 1, 1, tzinfo=timezone.utc),
            render_template_as_native_obj={native},
        ):
            CartoQueryOperator(
                task_id="add",
                sql="INSERT INTO shared.{name} ({columns}) VALUES ({values})",
                parameters={{"t": "{{{{ macros.datetime.now() }}}}", {beside}}},
                retry_delay=timedelta(0),
                post_execute=fail_once,
                {options},
            )
        """,
    )

    run = run_dag(dag)

    assert states_of(run) == {"add": "success"}
    result = results_of(run, "add")
    assert (result["affected_rows"], result["reattached"]) == (1, "retries" in options)
    assert _count(warehouse, f"shared.{name}") == 1
    assert jobs_named(warehouse, name) == [result["job_id"]]


@pytest.mark.parametrize("deferrable", [False, True])
def test_an_error_of_bigquery_is_the_error_of_the_task(deferrable: bool, tmp_path: Path) -> None:
    name, noted = f"ask_for_nothing_{deferrable}", tmp_path / "error.txt"
    dag = parse_dag(
        name,
        f"""
        from contextlib import contextmanager
        from datetime import datetime, timezone
        from pathlib import Path
        from airflow.providers.common.compat.sdk import DAG
        from airflow_provider.operators.carto import CartoQueryOperator

        @contextmanager
        def noted():  # Airflow 3.1 does not hand the error to callbacks of a run like this
            try:
                yield
            except Exception as error:
                Path("{noted}").write_text(repr(error))
                raise

        class Query(CartoQueryOperator):
            def execute(self, context):
                with noted():
                    return super().execute(context)

            def execute_complete(self, context, event, **kwargs):
                with noted():
                    return super().execute_complete(context, event, **kwargs)

        with DAG("{name}", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=timezone.utc)):
            Query(task_id="ask", sql="SELECT ERROR('no such thing')", deferrable={deferrable})
        """,
    )

    run = run_dag(dag)

    assert states_of(run) == {"ask": "failed"}
    assert noted.read_text().startswith("BadRequest(")
    assert "no such thing" in noted.read_text()


def _count(warehouse: CartoWarehouse, table: str) -> int:
    from google.api_core.exceptions import NotFound

    try:
        count: int = warehouse.query(f"SELECT COUNT(*) AS n FROM {table}").rows[0]["n"]
    except NotFound:
        return 0
    return count
