"""Airflow's own SQL operators on `conn_id="carto_default"`, in a DAG that a real Airflow runs."""

from __future__ import annotations

import json
import uuid
from pathlib import Path

import airflow
import pytest

from airflow_provider.hooks.carto import CartoHook
from carto_auth_integrations.sandbox import Sandbox
from tests.support.airflow_connection import VARIABLE, connection_of
from tests.support.airflow_home import AirflowHome

DAG = '''
"""Every SQL operator of common-sql, one after the other."""

import json
from datetime import datetime

from airflow.providers.common.compat.sdk import dag, task
from airflow.providers.common.sql.operators.sql import (
    BranchSQLOperator,
    SQLCheckOperator,
    SQLColumnCheckOperator,
    SQLExecuteQueryOperator,
    SQLInsertRowsOperator,
    SQLIntervalCheckOperator,
    SQLTableCheckOperator,
    SQLThresholdCheckOperator,
    SQLValueCheckOperator,
)
from airflow.providers.common.sql.sensors.sql import SqlSensor

TABLE = "{table}"


@dag(start_date=datetime(2026, 1, 1), schedule=None, default_args={{"conn_id": "carto_default"}})
def carto_sql():
    create = SQLExecuteQueryOperator(
        task_id="create",
        sql=f"CREATE TABLE {{TABLE}} (id INT64, name STRING, price NUMERIC); SELECT 1;",
        split_statements=True,
    )
    insert = SQLInsertRowsOperator(
        task_id="insert", table_name=TABLE, columns=["id", "name", "price"], rows=[(1, "a", 1.5), (2, "100%", None)]
    )
    wait = SqlSensor(task_id="wait", sql=f"SELECT count(*) > 1 FROM {{TABLE}}", poke_interval=1, timeout=30)
    columns = SQLColumnCheckOperator(
        task_id="columns",
        table=TABLE,
        column_mapping={{"id": {{"null_check": {{"equal_to": 0}}, "max": {{"leq_to": 2}}}}}},
    )
    rows = SQLTableCheckOperator(
        task_id="rows", table=TABLE, checks={{"row_count_check": {{"check_statement": "COUNT(*) = 2"}}}}
    )
    check = SQLCheckOperator(task_id="check", sql=f"SELECT count(*) FROM {{TABLE}}")
    value = SQLValueCheckOperator(task_id="value", sql=f"SELECT max(id) FROM {{TABLE}}", pass_value=2)
    threshold = SQLThresholdCheckOperator(
        task_id="threshold", sql=f"SELECT count(*) FROM {{TABLE}}", min_threshold=1, max_threshold=5
    )
    branch = BranchSQLOperator(
        task_id="branch",
        sql=f"SELECT count(*) = 2 FROM {{TABLE}}",
        follow_task_ids_if_true="read",
        follow_task_ids_if_false="never",
    )
    read = SQLExecuteQueryOperator(
        task_id="read",
        sql=f"SELECT id, name FROM {{TABLE}} WHERE id >= %(least)s ORDER BY id",
        parameters={{"least": 1}},
    )
    never = SQLExecuteQueryOperator(task_id="never", sql="SELECT 1")
    create >> insert >> wait >> columns >> rows >> check >> value >> threshold >> branch >> [read, never]


pipeline = carto_sql()
if __name__ == "__main__":
    run = pipeline.test()
    states = {{instance.task_id: str(instance.state) for instance in run.get_task_instances()}}
    print("\\n" + json.dumps(states))
'''


@pytest.fixture
def connection(carto_sandbox_bigquery: Sandbox, tmp_path: Path) -> str:
    return json.dumps(connection_of(carto_sandbox_bigquery, tmp_path / "tokens.json"))


def without_mask_requests(printed: str) -> str:
    """Remove the lines of `dag.test()` of Airflow 3.0 that print each secret with the request to mask it."""
    if not airflow.__version__.startswith("3.0."):
        return printed
    return "\n".join(line for line in printed.splitlines() if "msg=MaskSecret(" not in line)


def test_every_sql_operator_runs_on_the_connection(
    connection: str, carto_sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = AirflowHome(tmp_path / "airflow")
    table = f"shared.t_{uuid.uuid4().hex[:12]}"
    file = home.dags / "carto_sql.py"
    file.write_text(DAG.format(table=table))
    printed = home.python("-W", "ignore", str(file), **{VARIABLE: connection})
    states = json.loads(printed.strip().splitlines()[-1])
    assert states.pop("never").endswith("skipped"), printed
    assert {state.rpartition(".")[2] for state in states.values()} == {"success"}, printed

    monkeypatch.setenv(VARIABLE, connection)
    assert CartoHook().get_records(f"SELECT id, name, price FROM {table} ORDER BY id")[1] == (2, "100%", None)
    assert carto_sandbox.stats().count("token") == 1
    for secret in (json.loads(connection)["password"], CartoHook().get_access_token()):
        assert secret not in without_mask_requests(printed)


def test_inserted_rows_are_read_back_as_they_are(connection: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from datetime import date, datetime, timezone
    from decimal import Decimal

    monkeypatch.setenv(VARIABLE, connection)
    hook, table = CartoHook(log_sql=False), f"shared.t_{uuid.uuid4().hex[:12]}"
    hook.run(f"CREATE TABLE {table} (id INT64, name STRING, price NUMERIC, day DATE, at TIMESTAMP, ok BOOL, raw BYTES)")
    rows = [
        (1, "a", Decimal("1.5"), date(2026, 1, 2), datetime(2026, 1, 2, 3, tzinfo=timezone.utc), True, b"x"),
        (2, "%s", None, None, None, None, None),
    ]
    hook.insert_rows(table, rows, commit_every=1)
    assert hook.get_records(f"SELECT * FROM {table} ORDER BY id") == rows
    assert hook.get_first(f"SELECT count(*) FROM {table} WHERE price = %s", parameters=[Decimal("1.5")]) == (1,)


def test_frames_come_from_the_same_connection(connection: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, connection)
    hook = CartoHook(log_sql=False)
    frame = hook.get_df("SELECT %(number)s AS number, 'a' AS letter", parameters={"number": 7})
    assert frame.to_dict("records") == [{"number": 7, "letter": "a"}]
    chunks = hook.get_df_by_chunks("SELECT * FROM UNNEST([1, 2, 3]) AS number", chunksize=2)
    assert [len(chunk) for chunk in chunks] == [2, 1]


def test_sql_through_the_hook_returns_plain_tuples(connection: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, connection)
    hook = CartoHook(log_sql=False)
    assert hook.get_records("SELECT 1 AS one, 'a' AS letter UNION ALL SELECT 2, 'b' ORDER BY 1") == [(1, "a"), (2, "b")]
    assert hook.get_first("SELECT %(number)s AS number", parameters={"number": 7}) == (7,)
    assert type(hook.run("SELECT 1 AS one", handler=lambda cursor: cursor.fetchone())) is tuple
    assert hook.run("SELECT 1 AS one", handler=lambda cursor: cursor.rowcount) == 1
    assert hook.run("CREATE OR REPLACE TABLE shared.from_hook AS SELECT 1 AS one") is None


def test_replacing_rows_says_what_to_do_instead(connection: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, connection)
    with pytest.raises(NotImplementedError, match="MERGE"):
        CartoHook().insert_rows("shared.any", [(1,)], replace=True)
