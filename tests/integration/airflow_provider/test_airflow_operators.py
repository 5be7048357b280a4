"""The operators on the sandbox: results, retries, cleared tasks and killed tasks."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from datetime import datetime, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import airflow
import pytest
from airflow.providers.common.compat.sdk import AirflowException
from google.api_core.exceptions import BadRequest, GoogleAPICallError, NotFound

from airflow_provider.compat import mask_secret
from airflow_provider.jobs import idempotency_key
from airflow_provider.lineage import asset_of
from airflow_provider.operators.carto import CartoLoadOperator, CartoQueryOperator
from carto_auth_integrations.sandbox import Sandbox
from carto_auth_integrations.warehouse import CartoWarehouse
from tests.support.accounts import auth_for
from tests.support.airflow_tasks import context_of, execute, jobs_named, parse_dag, run_dag
from tests.support.threads import Outcome, until

ENDLESS = """
    SELECT COUNT(*) AS n FROM UNNEST(GENERATE_ARRAY(1, 30000)) AS a CROSS JOIN UNNEST(GENERATE_ARRAY(1, 30000)) AS b
    WHERE MOD(a * b, 7) > MOD(a + b, 5)
    """
"""A query of many seconds."""

needs_store = pytest.mark.skipif(airflow.__version__ < "3.3", reason="tasks remember their jobs from Airflow 3.3 on")


@pytest.fixture
def name() -> str:
    return f"t_{uuid.uuid4().hex[:12]}"


@pytest.fixture
def csv(tmp_path: Path) -> str:
    (tmp_path / "a.csv").write_text("id,name\n1,x\n2,y\n")
    return str(tmp_path / "a.csv")


def job_of(sandbox: Sandbox, tmp_path: Path, job_id: str) -> Any:
    return auth_for(sandbox, tmp_path).get_carto_dw_client().get_job(job_id)


def count_in(warehouse: CartoWarehouse, table: str) -> int:
    count: int = warehouse.query(f"SELECT COUNT(*) AS n FROM `{table}`").rows[0]["n"]
    return count


def test_a_query_returns_plain_json_for_xcom(sandbox: Sandbox, name: str) -> None:
    query = CartoQueryOperator(task_id=name, sql="SELECT @a AS a, DATE '2026-01-01' AS day", parameters={"a": 1})

    result = query.execute(context_of(name))

    assert json.loads(json.dumps(result)) == result
    assert result["rows"] == [{"a": 1, "day": "2026-01-01"}]
    assert (result["total_rows"], result["location"], result["reattached"]) == (1, "US", False)


def test_a_query_takes_what_xcom_and_enums_hold_and_an_empty_list_with_a_type(sandbox: Sandbox, name: str) -> None:
    from google.cloud.bigquery import ArrayQueryParameter

    parameters = {"ids": {3, 1}, "at": {"lon": 1.5}, "none": ArrayQueryParameter("none", "INT64", [])}
    sql = "SELECT @ids AS ids, @at.lon AS lon, 1 IN UNNEST(@none) AS found"
    result = CartoQueryOperator(task_id=name, sql=sql, parameters=parameters).execute(context_of(name))
    assert (result["rows"][0]["ids"], result["rows"][0]["lon"]) == ([1, 3], 1.5)
    assert not result["rows"][0]["found"]


@pytest.mark.parametrize("own", [True, False], ids=["of the task", "of the connection"])
def test_a_query_over_its_limit_fails(
    sandbox: Sandbox, warehouse: CartoWarehouse, name: str, own: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    warehouse.query(f"CREATE TABLE `shared.{name}` AS SELECT 1 AS x")
    if not own:
        monkeypatch.setenv("CARTO_MAXIMUM_BYTES_BILLED", "1")
    limit = {"maximum_bytes_billed": 1} if own else {}
    query = CartoQueryOperator(task_id=name, sql=f"SELECT x FROM `shared.{name}`", **limit)
    with pytest.raises(GoogleAPICallError, match=r"(?i)bytes billed"):
        query.execute(context_of(name))


def test_priority_and_cache_are_told_to_bigquery(sandbox: Sandbox, name: str, tmp_path: Path) -> None:
    query = CartoQueryOperator(task_id=name, sql="SELECT 1", priority="BATCH", use_query_cache=False)
    job = job_of(sandbox, tmp_path, query.execute(context_of(name))["job_id"])
    assert (job.priority, job.use_query_cache) == ("BATCH", False)


def test_no_more_than_max_rows_go_into_xcom(sandbox: Sandbox, name: str) -> None:
    query = CartoQueryOperator(task_id=name, sql="SELECT * FROM UNNEST(GENERATE_ARRAY(1, 500)) AS n")
    result = query.execute(context_of(name))
    assert (len(result["rows"]), result["total_rows"]) == (100, 500)


def test_the_job_has_labels_that_name_the_task(sandbox: Sandbox, name: str, tmp_path: Path) -> None:
    query = CartoQueryOperator(task_id=name, sql="SELECT 1", labels={"Team": "Spatial Data"})
    result = query.execute(context_of(name, run_id="scheduled__2026-01-01T00:00:00+00:00", map_index=3))
    labels = job_of(sandbox, tmp_path, result["job_id"]).labels
    assert {label: value for label, value in labels.items() if not label.startswith("carto-")} == {
        "airflow-dag": "etl",
        "airflow-task": name,
        "airflow-run": "scheduled__2026-01-01t00_00_00_00_00",
        "airflow-map-index": "3",
        "airflow-try": "1",
        "team": "spatial_data",
    }


def test_a_retry_finds_its_job_and_a_cleared_task_runs_again(warehouse: CartoWarehouse, name: str, csv: str) -> None:
    table = f"shared.{name}"
    load = CartoLoadOperator(task_id=name, source=csv, destination=table)
    first = load.execute(context_of(name))

    retry = CartoLoadOperator(task_id=name, source=csv, destination=table)
    again = retry.execute(context_of(name, try_number=2))
    assert (again["job_id"], again["reattached"]) == (first["job_id"], True)
    assert count_in(warehouse, table) == 2

    cleared = CartoLoadOperator(task_id=name, source=csv, destination=table)
    anew = cleared.execute(context_of(name, try_number=2, max_tries=3))
    assert not anew["reattached"]
    assert count_in(warehouse, table) == 4


@pytest.mark.parametrize(
    ("first", "again"),
    [
        (datetime(2026, 1, 1), datetime(2026, 1, 2)),
        (Decimal("1.5"), Decimal("2.5")),
        ("hunter2-masked", "hunter2-also-masked"),
        ("2026-01-01", datetime(2026, 1, 1)),
    ],
    ids=["datetimes", "decimals", "masked values", "other types"],
)
def test_a_retry_with_other_parameters_takes_the_job(
    warehouse: CartoWarehouse, name: str, first: Any, again: Any, caplog: pytest.LogCaptureFixture
) -> None:
    if isinstance(first, str):
        mask_secret(first)
    warehouse.query(f"CREATE TABLE shared.{name} (t STRING)")
    results = []
    for try_number, value in enumerate((first, again), start=1):
        insert = f"INSERT INTO shared.{name} VALUES (CAST(@t AS STRING))"
        query = CartoQueryOperator(task_id=name, sql=insert, parameters={"t": value})
        results.append(query.execute(context_of(name, try_number=try_number)))

    assert results[1] == {**results[0], "reattached": True}
    assert count_in(warehouse, f"shared.{name}") == 1
    assert jobs_named(warehouse, name) == [results[0]["job_id"]]
    assert "this task has already run" in caplog.text
    assert "hunter2" not in caplog.text


def test_a_retry_with_another_source_takes_the_load(
    warehouse: CartoWarehouse, name: str, csv: str, tmp_path: Path
) -> None:
    (tmp_path / "b.csv").write_text("id,name\n3,z\n")
    table, results = f"shared.{name}", []
    for try_number, source in enumerate((csv, tmp_path / "b.csv", [{"id": 4, "name": "v"}]), start=1):
        load = CartoLoadOperator(task_id=name, source=source, destination=table)
        results.append(load.execute(context_of(name, try_number=try_number)))
    assert [result["reattached"] for result in results] == [False, True, True]
    assert jobs_named(warehouse, name) == [results[0]["job_id"]]
    assert count_in(warehouse, table) == 2


def test_another_statement_with_the_users_own_key_is_an_error(sandbox: Sandbox, name: str) -> None:
    first = CartoQueryOperator(task_id=name, sql="SELECT 1", idempotency_key=name).execute(context_of(name))
    other = CartoQueryOperator(task_id=name, sql="SELECT 2", idempotency_key=name)
    with pytest.raises(ValueError, match=first["job_id"]):
        other.execute(context_of(name, try_number=2))


def test_a_key_that_is_rendered_as_a_number_is_a_key(sandbox: Sandbox, name: str) -> None:
    key: Any = int(name[2:], 16)
    result = CartoQueryOperator(task_id=name, sql="SELECT 1", idempotency_key=key).execute(context_of(name))
    assert str(key) in result["job_id"]


@needs_store
def test_a_task_remembers_its_job_until_it_is_cleared(
    warehouse: CartoWarehouse, name: str, csv: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, store = f"shared.{name}", {}

    def load(**context: Any) -> Any:
        operator = CartoLoadOperator(task_id=name, source=csv, destination=table)
        return operator.execute(context_of(name, store=store, **context))

    with monkeypatch.context() as dying:
        dying.setattr(CartoWarehouse, "result", lambda *_, **__: sys.exit("the worker dies"))
        with pytest.raises(SystemExit):
            load()
    ((key, job),) = store.items()
    again = load(try_number=2)
    assert (again["job_id"], again["location"], again["reattached"]) == (job["job_id"], job["location"], True)
    assert load(try_number=3) == again

    store[key] = {"job_id": "carto_nowhere", "location": "US"}
    assert load(try_number=4) == again, "a job is found by its id all the same"
    assert count_in(warehouse, table) == 2

    assert not load(try_number=5, max_tries=6)["reattached"]
    assert count_in(warehouse, table) == 4


@needs_store
def test_a_failed_job_that_a_task_remembers_is_begun_again(sandbox: Sandbox, name: str) -> None:
    store: dict[str, Any] = {}
    for attempt in (1, 2):
        query = CartoQueryOperator(task_id=name, sql="SELECT ERROR('no such thing')")
        with pytest.raises(BadRequest, match="no such thing"):
            query.execute(context_of(name, try_number=attempt, store=store))
        (job,) = store.values()
        assert job["job_id"].endswith(f"_{attempt}")


def test_a_key_of_the_users_own_replaces_that_of_the_run(warehouse: CartoWarehouse, name: str, csv: str) -> None:
    options: dict[str, Any] = {"source": csv, "destination": f"shared.{name}", "idempotency_key": f"{name} of today"}
    CartoLoadOperator(task_id="one", **options).execute(context_of("one"))
    again = CartoLoadOperator(task_id="other", **options).execute(context_of("other", run_id="manual__2"))
    assert again["reattached"]


@pytest.mark.usefixtures("airflow_database", "sandbox")
def test_a_clearing_changes_the_key_and_a_retry_does_not() -> None:
    from airflow.models.taskinstance import clear_task_instances
    from airflow.utils.session import create_session

    run = run_dag(
        parse_dag(
            "fail_and_be_cleared",
            """
            from datetime import datetime, timedelta, timezone
            from airflow.providers.common.compat.sdk import dag, task

            @dag(schedule=None, start_date=datetime(2026, 1, 1, tzinfo=timezone.utc))
            def fail_and_be_cleared():
                @task(retries=1, retry_delay=timedelta(0))
                def tell(ti=None, dag_run=None):
                    from airflow_provider.jobs import idempotency_key
                    print(idempotency_key({"ti": ti, "dag_run": dag_run}))
                    if ti.try_number == 1:
                        raise RuntimeError
                    return idempotency_key({"ti": ti, "dag_run": dag_run})

                tell()

            fail_and_be_cleared()
            """,
        )
    )
    (task,) = run.get_task_instances()
    second = task.xcom_pull(task_ids="tell")
    first = idempotency_key({"ti": context_of("tell", run_id=run.run_id, max_tries=1)["ti"], "dag_run": run})
    assert second == first.replace("etl/", "fail_and_be_cleared/")

    with create_session() as session:
        clear_task_instances(list(session.merge(run).get_task_instances(session=session)), session)
    (cleared,) = run.get_task_instances()
    assert idempotency_key({"ti": cleared, "dag_run": run}) != second


def test_runs_of_one_name_in_two_airflows_have_different_keys() -> None:
    here, there = context_of("load"), context_of("load", start=datetime(2026, 1, 2, tzinfo=timezone.utc))
    assert idempotency_key(here) != idempotency_key(there)


def test_each_index_of_a_mapped_task_is_a_job_of_its_own(warehouse: CartoWarehouse, name: str, csv: str) -> None:
    for index in (0, 1):
        load = CartoLoadOperator(task_id=name, source=csv, destination=f"shared.{name}")
        load.execute(context_of(name, map_index=index))
    assert count_in(warehouse, f"shared.{name}") == 4


def test_rows_of_another_tasks_xcom_are_loaded(warehouse: CartoWarehouse, name: str) -> None:
    rows = [{"id": 1, "at": "POINT(1 2)"}, {"id": 2, "at": None}]
    load = CartoLoadOperator(task_id=name, source=rows, destination=f"shared.{name}", geometry="at")
    assert load.execute(context_of(name))["rows"] == 2


def test_rows_that_do_not_fit_are_in_the_log_the_result_and_the_asset_event(
    sandbox: Sandbox,
    warehouse: CartoWarehouse,
    name: str,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    table = f"carto-dw-ac-sandbox.shared.{name}"
    rows = [{"id": 1, "at": "POINT(1 2)"}, {"id": 2, "at": "LINESTRING (1 1)"}, {"id": 3, "at": "POINT (500 1)"}]
    load = CartoLoadOperator(
        task_id=name, source=rows, destination=table, geometry="at", bad_rows="quarantine", outlets=[asset_of(table)]
    )
    context = context_of(name)
    with caplog.at_level("WARNING"):
        result = load.execute(context)

    assert (result["rows"], result["rejected"], result["rejected_table"]) == (1, 2, f"{table}__rejected")
    written = caplog.text + capfd.readouterr().out
    assert f"2 rows did not fit, and went to {table}__rejected with the reasons." in written
    assert len([message for message in caplog.messages if message.startswith("Row ")]) == 2
    assert count_in(warehouse, f"{table}__rejected") == 2
    extra = context["outlet_events"][load.outlets[0]].extra
    assert (extra["rows"], extra["rejected"], extra["rejected_table"]) == (1, 2, f"{table}__rejected")
    assert "repaired" not in extra


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"source": "/nowhere.csv"}, FileNotFoundError, "nowhere.csv"),
        ({"source": None}, TypeError, "NoneType cannot be loaded"),
        ({"source": []}, ValueError, "no rows"),
        ({"source": [{"id": 1}], "destination": "visits"}, ValueError, "'visits' is not a table"),
        ({"source": [{"id": 1}], "column_types": {"di": "STRING"}}, ValueError, "there is no column di"),
    ],
)
def test_a_bad_field_is_named(
    sandbox: Sandbox, name: str, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    load = CartoLoadOperator(task_id=name, **{"destination": f"shared.{name}", **options})
    with pytest.raises(error, match=message):
        load.execute(context_of(name))


def test_a_wrong_statement_is_bigquerys_own_error(sandbox: Sandbox, name: str) -> None:
    with pytest.raises(BadRequest):
        CartoQueryOperator(task_id=name, sql="SELEC 1").execute(context_of(name))


def test_the_link_to_the_job_is_there_while_it_runs(sandbox: Sandbox, name: str) -> None:
    query, context = CartoQueryOperator(task_id=name, sql=ENDLESS), context_of(name)
    running = Outcome(lambda: execute(query, context))
    until(lambda: context["ti"].xcoms)

    (link,) = context["ti"].xcoms.values()
    assert link.startswith("https://console.cloud.google.com/bigquery?project=carto-dw-ac-sandbox&j=bq:US:carto_etl-")
    assert not isinstance(running._value, dict)

    query.on_kill()
    assert isinstance(running.settled(), Exception)


def test_a_killed_task_cancels_its_query(sandbox: Sandbox, name: str, tmp_path: Path) -> None:
    query, context = CartoQueryOperator(task_id=name, sql=ENDLESS), context_of(name)
    running = Outcome(lambda: execute(query, context))
    until(lambda: context["ti"].xcoms)

    query.on_kill()

    assert isinstance(running.settled(), Exception)
    job = job_of(sandbox, tmp_path, query._watch.job_id)
    assert job.state == "DONE"
    assert "cancelled" in job.error_result["message"].lower()


def test_a_task_killed_during_its_upload_loads_nothing(
    sandbox: Sandbox, warehouse: CartoWarehouse, name: str, csv: str
) -> None:
    sandbox.fault("upload", delay=2, match="^PUT", count=1)
    load = CartoLoadOperator(task_id=name, source=csv, destination=f"shared.{name}")
    running = Outcome(lambda: execute(load, context_of(name)))
    until(lambda: sandbox.stats().count("upload") > 0)  # the POST; the PUT with all bytes is on its way

    load.on_kill()

    error = running.settled()
    assert isinstance(error, AirflowException)
    assert "killed" in str(error)
    again = CartoLoadOperator(task_id=name, source=csv, destination=f"shared.{name}")
    again.execute(context_of(name, try_number=2))
    assert count_in(warehouse, f"shared.{name}") == 2


def test_a_task_can_be_killed_before_it_has_a_job() -> None:
    CartoQueryOperator(task_id="early", sql="SELECT 1").on_kill()


@pytest.fixture
def killed_by_signal() -> Iterator[Any]:
    """Let a signal kill a task as Airflow does: its handler calls `on_kill` between any two instructions."""
    previous = signal.getsignal(signal.SIGUSR1)
    yield lambda operator: signal.signal(signal.SIGUSR1, lambda *_: operator.on_kill())
    signal.signal(signal.SIGUSR1, previous)


@pytest.mark.parametrize("delay", [0.0, 0.02, 0.1, 0.3, 1.0])
def test_a_signal_ends_a_task_at_any_moment(
    sandbox: Sandbox, name: str, delay: float, killed_by_signal: Any, tmp_path: Path
) -> None:
    query = CartoQueryOperator(task_id=name, sql=ENDLESS)
    killed_by_signal(query)

    def kill() -> None:
        until(lambda: query._watch is not None)
        time.sleep(delay)
        os.kill(os.getpid(), signal.SIGUSR1)

    threading.Thread(target=kill, daemon=True).start()
    with pytest.raises(Exception, match=r"(?i)cancel|killed"):
        query.execute(context_of(name))

    try:
        job = job_of(sandbox, tmp_path, query._watch.job_id)
    except NotFound:
        return
    assert job.state == "DONE"
