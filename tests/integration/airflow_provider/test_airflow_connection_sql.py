"""Airflow's own SQL operators on `conn_id="carto_default"`, in a DAG that a real Airflow runs."""

from __future__ import annotations

import enum
import json
import uuid
from pathlib import Path
from typing import Any

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


TYPES = """
    CREATE TABLE {table} (id INT64, tags ARRAY<STRING>, at STRUCT<lon FLOAT64, notes ARRAY<STRING>>, price NUMERIC,
      wide BIGNUMERIC, more JSON, hour TIME, stops ARRAY<STRUCT<n INT64>>)
    """


def test_arrays_structs_and_nulls_are_inserted_with_their_columns_types(
    connection: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from datetime import time
    from decimal import Decimal

    monkeypatch.setenv(VARIABLE, connection)
    hook, table = CartoHook(log_sql=False), f"shared.t_{uuid.uuid4().hex[:12]}"
    hook.run(TYPES.format(table=table))
    full = (1, ["a"], {"lon": 1.5, "notes": ["x"]}, Decimal("0.1"), Decimal("1.5"), {"a": 1}, time(1, 2), [{"n": 1}])
    empty = (2, [], {"lon": None, "notes": []}, None, None, None, None, [])
    hook.insert_rows(table, [full, (2, [], {}, None, None, None, None, [])])
    assert hook.get_records(f"SELECT * FROM {table} ORDER BY id") == [full, empty]
    hook.insert_rows(table, [([], 3), (["b"], 4)], target_fields=["tags", "id"])
    assert hook.get_records(f"SELECT id, tags FROM {table} WHERE id > 2 ORDER BY id") == [(3, []), (4, ["b"])]


def test_a_row_that_does_not_fit_is_refused_and_none_of_its_statement_is_inserted(
    connection: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, connection)
    hook, table = CartoHook(log_sql=False), f"shared.t_{uuid.uuid4().hex[:12]}"
    hook.run(f"CREATE TABLE {table} (id INT64)")
    with pytest.raises(TypeError, match="Row 2, column id"):
        hook.insert_rows(table, [(1,), (b"x",)])
    assert hook.get_first(f"SELECT count(*) FROM {table}") == (0,)


def test_parameters_of_sql_operators_may_be_enums_sets_and_arrays(
    connection: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Colour(str, enum.Enum):
        RED = "red"

    monkeypatch.setenv(VARIABLE, connection)
    hook, given = CartoHook(log_sql=False), {"colour": Colour.RED, "ids": {2, 1}}
    assert hook.get_first("SELECT %(colour)s AS colour, %(ids)s AS ids", parameters=given) == ("red", [1, 2])
    frame = hook.get_df("SELECT %s AS n", parameters=[Colour.RED])
    assert list(frame["n"]) == ["red"]


LARGE = 9007199254740993


@pytest.mark.parametrize("kind", ["pandas", "polars"])
def test_frames_lose_nothing(connection: str, monkeypatch: pytest.MonkeyPatch, kind: Any) -> None:
    from decimal import Decimal

    monkeypatch.setenv(VARIABLE, connection)
    hook = CartoHook(log_sql=False)
    sql = "SELECT %(id)s AS id, TRUE AS ok, NUMERIC '0.1' AS price UNION ALL SELECT NULL, NULL, NULL ORDER BY 1 DESC"
    frame = hook.get_df(sql, parameters={"id": LARGE}, df_type=kind)
    assert (frame["id"][0], frame["ok"][0], frame["price"][0]) == (LARGE, True, Decimal("0.1"))
    by_position = hook.get_df("SELECT %s AS number", parameters=[LARGE], df_type=kind)
    assert by_position["number"][0] == LARGE
    if kind == "pandas":
        assert [str(each) for each in frame.dtypes] == ["Int64", "boolean", "object"]
        assert hook.get_df("SELECT 7 AS number, 'a' AS letter", index_col="letter").to_dict() == {"number": {"a": 7}}
    else:
        assert frame.rows()[1] == (None, None, None)


@pytest.mark.parametrize("kind", ["pandas", "polars"])
def test_frames_come_in_chunks_of_the_size_that_is_asked_for(
    connection: str, monkeypatch: pytest.MonkeyPatch, kind: Any
) -> None:
    monkeypatch.setenv(VARIABLE, connection)
    hook = CartoHook(log_sql=False)
    sql = "SELECT * FROM UNNEST(GENERATE_ARRAY(1, %(most)s)) AS number ORDER BY number"
    chunks = list(hook.get_df_by_chunks(sql, parameters={"most": 5}, chunksize=2, df_type=kind))
    assert [list(chunk["number"]) for chunk in chunks] == [[1, 2], [3, 4], [5]]
    (nothing,) = hook.get_df_by_chunks("SELECT 1 AS x FROM UNNEST([1]) WHERE FALSE", chunksize=2, df_type=kind)
    assert (len(nothing), list(nothing.columns)) == (0, ["x"])


EVERY_TYPE = """
    SELECT 1 AS i, 1.5 AS f, CAST('nan' AS FLOAT64) AS nan, TRUE AS b, 'Köln' AS s, b'abc' AS raw,
      NUMERIC '1.50' AS n, BIGNUMERIC '0.00000000000000000001' AS big, DATE '2024-02-29' AS d, TIME '10:00:00' AS t,
      DATETIME '2024-02-29T01:02:03' AS dt, TIMESTAMP '2024-02-29 01:02:03+00' AS ts,
      [STRUCT(b'x' AS raw, DATE '2024-02-29' AS d)] AS l, STRUCT(TIME '10:00:00' AS t, [1] AS l) AS r,
      MAKE_INTERVAL(1, 2, 3, 4, 5, 6) AS span, ST_GEOGPOINT(1, 2) AS g, JSON '{"a": [1, null]}' AS j,
      CAST(NULL AS INT64) AS nothing
    """


def test_rows_of_sql_operators_are_the_plain_json_that_the_query_operator_returns(
    connection: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow.providers.common.sql.operators.sql import SQLExecuteQueryOperator

    monkeypatch.setenv(VARIABLE, connection)
    operator = SQLExecuteQueryOperator(task_id="read", conn_id="carto_default", sql=EVERY_TYPE)
    (row,) = json.loads(json.dumps(operator.execute({}), allow_nan=False))
    (expected,) = CartoHook().get_carto_warehouse().query(EVERY_TYPE).rows
    assert dict(zip(expected, row, strict=True)) == json.loads(json.dumps(expected))

    ranged = SQLExecuteQueryOperator(
        task_id="ranged", conn_id="carto_default", sql="SELECT RANGE(DATE '2024-01-01', NULL) AS x"
    )
    assert ranged.execute({}) == [({"start": "2024-01-01", "end": None},)]


def test_the_hooks_own_methods_return_pythons_types(connection: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from datetime import time
    from decimal import Decimal

    monkeypatch.setenv(VARIABLE, connection)
    hook, sql = CartoHook(log_sql=False), "SELECT b'abc', TIME '10:00:00', NUMERIC '1.5'"
    assert hook.get_first(sql) == (b"abc", time(10), Decimal("1.5"))
    assert hook.get_records(sql) == [(b"abc", time(10), Decimal("1.5"))]
    assert hook.get_first("SELECT 1 FROM UNNEST([1]) WHERE FALSE") is None


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
