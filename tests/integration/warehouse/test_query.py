"""Queries against the sandbox: results, parameters, and one query for each key."""

from __future__ import annotations

import asyncio
import base64
import datetime
import enum
import json
import pickle
import re
import threading
import time
import uuid
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import shapely
from google.api_core.exceptions import BadRequest, GoogleAPICallError, NotFound
from google.cloud import bigquery

from carto_auth_integrations import CartoAuth
from carto_auth_integrations.sandbox import Sandbox
from carto_auth_integrations.waiting import Pool
from carto_auth_integrations.warehouse import CartoWarehouse, JobProgress, JobReference, RunKey
from tests.support.accounts import auth_for
from tests.support.processes import run_processes
from tests.support.threads import Outcome, until

UTC = datetime.timezone.utc
ENDLESS = """
    SELECT COUNT(*) AS n FROM UNNEST(GENERATE_ARRAY(1, 30000)) AS a CROSS JOIN UNNEST(GENERATE_ARRAY(1, 30000)) AS b
    WHERE MOD(a * b, 7) > MOD(a + b, 5)
    """
"""A query of many seconds."""


def job_of(auth: CartoAuth, job_id: str) -> Any:
    return auth.get_carto_dw_client().get_job(job_id)


def rows_in(warehouse: CartoWarehouse, table: str) -> int:
    count: int = warehouse.query(f"SELECT COUNT(*) AS n FROM `{table}`").rows[0]["n"]
    return count


def test_a_query_gives_its_rows_as_plain_values(warehouse: CartoWarehouse) -> None:
    result = warehouse.query(
        """
        SELECT 1 AS whole, 1.5 AS real, TRUE AS yes, 'Köln' AS text, b'x' AS raw, NUMERIC '1.50' AS exact,
          DATE '2024-02-29' AS day, TIME '01:02:03' AS hour, DATETIME '2024-02-29T01:02:03' AS local,
          TIMESTAMP '2024-02-29 01:02:03+00' AS moment, ST_GEOGPOINT(1, 2) AS at, [1, 2] AS list,
          STRUCT(1 AS a, 'x' AS b) AS record, CAST(NULL AS STRING) AS nothing
        """
    )
    (row,) = json.loads(json.dumps(result.rows, allow_nan=False))
    assert (row["whole"], row["real"], row["yes"], row["text"], row["nothing"]) == (1, 1.5, True, "Köln", None)
    assert Decimal(row["exact"]) == Decimal("1.5")
    assert (row["day"], row["hour"], row["local"]) == ("2024-02-29", "01:02:03", "2024-02-29T01:02:03")
    assert row["moment"] == "2024-02-29T01:02:03+00:00"
    assert (row["list"], row["record"], row["raw"]) == ([1, 2], {"a": 1, "b": "x"}, "eA==")
    assert row["at"].replace(" (", "(") == "POINT(1 2)"
    assert (result.statement_type, result.location, result.total_rows) == ("SELECT", "US", 1)
    assert not result.reattached
    assert not result.truncated


def test_more_rows_than_the_cap_are_counted_but_not_fetched(warehouse: CartoWarehouse) -> None:
    result = warehouse.query("SELECT * FROM UNNEST(GENERATE_ARRAY(1, 2500)) AS x", max_rows=7)
    assert (len(result.rows), result.total_rows, result.truncated) == (7, 2500, True)
    assert result.to_arrow().num_rows == 2500
    assert len(result.to_dataframe()) == 2500


@pytest.mark.parametrize(("max_rows", "held", "truncated"), [(0, 0, True), (3, 3, False), (4, 3, False), (2, 2, True)])
def test_the_cap_is_exact(warehouse: CartoWarehouse, max_rows: int, held: int, truncated: bool) -> None:
    result = warehouse.query("SELECT * FROM UNNEST([1, 2, 3]) AS x", max_rows=max_rows)
    assert (len(result.rows), result.total_rows, result.truncated) == (held, 3, truncated)


def test_a_thousand_rows_come_back_unless_the_caller_says_otherwise(warehouse: CartoWarehouse) -> None:
    result = warehouse.query("SELECT * FROM UNNEST(GENERATE_ARRAY(1, 1001)) AS x")
    assert (len(result.rows), result.total_rows) == (1000, 1001)


def test_a_query_without_rows_has_none(warehouse: CartoWarehouse) -> None:
    result = warehouse.query("SELECT 1 AS x FROM UNNEST([1]) WHERE FALSE")
    assert (result.rows, result.total_rows, result.truncated) == ((), 0, False)
    assert result.to_arrow().num_rows == 0


def test_dml_says_how_many_rows_it_changed(warehouse: CartoWarehouse, table: str) -> None:
    made = warehouse.query(f"CREATE TABLE `{table}` AS SELECT * FROM UNNEST([1, 2, 3]) AS x")
    assert (made.statement_type, made.affected_rows, made.rows) == ("CREATE_TABLE_AS_SELECT", None, ())
    assert warehouse.query(f"INSERT INTO `{table}` VALUES (4), (5)").affected_rows == 2
    assert warehouse.query(f"UPDATE `{table}` SET x = 0 WHERE x < 3").affected_rows == 2
    deleted = warehouse.query(f"DELETE FROM `{table}` WHERE x = 9")
    assert (deleted.statement_type, deleted.affected_rows, deleted.total_rows) == ("DELETE", 0, 0)


def test_a_script_runs_to_its_end(warehouse: CartoWarehouse, table: str) -> None:
    result = warehouse.query(f"CREATE TABLE `{table}` (x INT64); INSERT INTO `{table}` VALUES (1); SELECT 7 AS y;")
    assert (result.statement_type, result.rows) == ("SCRIPT", ({"y": 7},))


def test_rows_go_into_a_table_that_is_named(warehouse: CartoWarehouse, table: str) -> None:
    result = warehouse.query("SELECT 1 AS x", destination=table)
    assert result.destination == f"carto-dw-ac-sandbox.{table}"
    warehouse.query("SELECT 2 AS x", destination=table, write_disposition="WRITE_APPEND")
    assert rows_in(warehouse, table) == 2
    warehouse.query("SELECT 3 AS x", destination=table)
    assert rows_in(warehouse, table) == 1
    with pytest.raises(GoogleAPICallError, match=r"(?i)already exists"):
        warehouse.query("SELECT 4 AS x", destination=table, write_disposition="WRITE_EMPTY")


@pytest.mark.parametrize("bad", [{"destination": "a`b.c"}, {"destination": "a.b", "write_disposition": "REPLACE"}])
def test_a_bad_destination_is_refused_before_anything_runs(warehouse: CartoWarehouse, bad: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"is not a table name|write_disposition"):
        warehouse.query("SELECT 1", **bad)


VALUES: list[Any] = [
    True,
    7,
    1.5,
    "Köln; DROP TABLE x",
    b"\x00\xff",
    Decimal("1.500000001"),
    datetime.date(2024, 2, 29),
    datetime.time(1, 2, 3),
    datetime.datetime(2024, 2, 29, 1, 2, 3),
    datetime.datetime(2024, 2, 29, 1, 2, 3, tzinfo=UTC),
    datetime.datetime(2024, 2, 29, 3, 2, 3, tzinfo=datetime.timezone(datetime.timedelta(hours=2))),
    [1, 2, 3],
    ("a", "b"),
    [datetime.date(2024, 2, 29)],
]


def in_json(value: Any) -> Any:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, (list, tuple)):
        return [in_json(item) for item in value]
    if isinstance(value, Decimal):
        return str(value)
    if getattr(value, "tzinfo", None):
        return value.astimezone(UTC).isoformat()
    return value.isoformat() if hasattr(value, "isoformat") else value


@pytest.mark.parametrize("placed", [False, True], ids=["named", "placed"])
def test_parameters_of_each_type_arrive_as_they_are(warehouse: CartoWarehouse, placed: bool) -> None:
    names = [f"p{number}" for number in range(len(VALUES))]
    asked = ", ".join(f"{'?' if placed else '@' + name} AS {name}" for name in names)
    parameters: Any = VALUES if placed else dict(zip(names, VALUES, strict=True))

    (row,) = warehouse.query(f"SELECT {asked}", parameters=parameters).rows

    for name, value in zip(names, VALUES, strict=True):
        assert row[name] == in_json(value)


def test_structs_sets_enums_and_typed_nulls_arrive(warehouse: CartoWarehouse) -> None:
    class Colour(str, enum.Enum):
        RED = "red"

    given = {
        "rows": [{"n": 1, "tags": ["a"]}, {"n": 2.5, "tags": []}],
        "one": {"colour": Colour.RED},
        "set": {3, 1, 2},
        "null": bigquery.ScalarQueryParameter(None, "INT64", None),
        "holes": [1, None],
        "id": uuid.UUID(int=1),
    }
    asked = "TO_JSON_STRING(@rows) AS a, @one.colour AS b, @set AS c, @null AS d, TO_JSON_STRING(@holes) AS e, @id AS f"
    (row,) = warehouse.query(f"SELECT {asked}", parameters=given).rows
    assert json.loads(row["a"]) == [{"n": 1.0, "tags": ["a"]}, {"n": 2.5, "tags": []}]
    assert (row["b"], row["c"], row["d"], row["e"], row["f"]) == (
        "red",
        [1, 2, 3],
        None,
        "[1,null]",
        "00000000-0000-0000-0000-000000000001",
    )


def test_a_geometry_is_a_geography(warehouse: CartoWarehouse) -> None:
    box = shapely.box(0, 0, 1, 1)
    (row,) = warehouse.query("SELECT ST_AREA(@box) < 1.3e10 AS small", parameters={"box": box}).rows
    assert row["small"]


def test_frames_of_a_result_lose_nothing(warehouse: CartoWarehouse) -> None:
    result = warehouse.query(
        "SELECT 9007199254740993 AS id, ST_GEOGPOINT(1, 2) AS at UNION ALL SELECT NULL, NULL ORDER BY 1 DESC"
    )
    frame, places, polar = result.to_dataframe(), result.to_geodataframe(), result.to_polars()
    assert (str(frame["id"].dtype), frame["id"][0]) == ("Int64", 9007199254740993)
    assert (list(places.geometry), places.crs.to_epsg()) == ([shapely.Point(1, 2), None], 4326)
    assert polar["id"].to_list() == [9007199254740993, None]


def test_a_dry_run_says_what_would_be_read_and_leaves_the_key_to_the_query(
    warehouse: CartoWarehouse, table: str
) -> None:
    warehouse.query(f"CREATE TABLE `{table}` AS SELECT x FROM UNNEST(GENERATE_ARRAY(1, 1000)) AS x")
    seen: list[JobProgress] = []
    options: dict[str, Any] = {"idempotency_key": f"read/{table}", "on_progress": seen.append}
    looked = warehouse.query(f"SELECT x FROM `{table}`", dry_run=True, **options)
    assert (looked.job_id, looked.rows, looked.total_rows, seen) == ("", (), 0, [])
    assert looked.statement_type == "SELECT"
    assert looked.bytes_processed == 8000
    with pytest.raises(RuntimeError, match="dry run has no rows"):
        looked.to_arrow()
    done = warehouse.query(f"SELECT COUNT(*) AS n FROM `{table}`", **options)
    assert (done.reattached, done.rows) == (False, ({"n": 1000},))
    assert asyncio.run(warehouse.aquery(f"SELECT x FROM `{table}`", dry_run=True)) == looked


def test_a_dry_run_changes_nothing_and_refuses_what_the_query_would(warehouse: CartoWarehouse, table: str) -> None:
    warehouse.query("SELECT 1 AS x", destination=table, dry_run=True)
    with pytest.raises(NotFound):
        warehouse.query(f"SELECT * FROM `{table}`", dry_run=True)
    with pytest.raises(BadRequest):
        warehouse.query("SELEC 1", dry_run=True)


def test_a_query_that_would_bill_more_than_its_limit_fails(
    warehouse: CartoWarehouse, table: str, tmp_path: Path, carto_sandbox: Sandbox
) -> None:
    warehouse.query(f"CREATE TABLE `{table}` AS SELECT x FROM UNNEST(GENERATE_ARRAY(1, 1000)) AS x")
    sql = f"SELECT x FROM `{table}`"
    with pytest.raises(GoogleAPICallError, match=r"(?i)bytes billed"):
        warehouse.query(sql, maximum_bytes_billed=1)
    limited = auth_for(carto_sandbox, tmp_path, maximum_bytes_billed=1).warehouse()
    with pytest.raises(GoogleAPICallError, match=r"(?i)bytes billed"):
        limited.query(sql)
    assert limited.query(sql, maximum_bytes_billed=10**12).total_rows == 1000


def test_priority_and_cache_are_on_the_job(warehouse: CartoWarehouse, tmp_path: Path, carto_sandbox: Sandbox) -> None:
    result = warehouse.query("SELECT 1", priority="BATCH", use_query_cache=False)
    job = job_of(auth_for(carto_sandbox, tmp_path), result.job_id)
    assert (job.priority, job.use_query_cache) == ("BATCH", False)


def test_a_retry_with_another_limit_finds_its_job(warehouse: CartoWarehouse, table: str) -> None:
    first = warehouse.query("SELECT 1 AS x", idempotency_key=table)
    again = warehouse.query("SELECT 1 AS x", idempotency_key=table, maximum_bytes_billed=10**12, priority="BATCH")
    assert (again.job_id, again.reattached) == (first.job_id, True)


def test_a_query_that_fails_says_what_bigquery_says(warehouse: CartoWarehouse) -> None:
    with pytest.raises(BadRequest, match="SELEC"):
        warehouse.query("SELEC 1")
    with pytest.raises(NotFound, match="nowhere"):
        warehouse.query("SELECT * FROM shared.nowhere")


def test_a_query_of_the_same_key_runs_once(warehouse: CartoWarehouse, table: str) -> None:
    warehouse.query(f"CREATE TABLE `{table}` (x INT64)")
    insert = f"INSERT INTO `{table}` VALUES (1)"
    first = warehouse.query(insert, idempotency_key=f"run/{table}")
    again = warehouse.query(insert, idempotency_key=f"run/{table}", labels={"try": "2"}, timeout=60, max_rows=1)
    assert (first.reattached, again.reattached) == (False, True)
    assert (again.job_id, again.affected_rows) == (first.job_id, 1)
    assert rows_in(warehouse, table) == 1


def test_without_a_key_it_runs_each_time(warehouse: CartoWarehouse, table: str) -> None:
    warehouse.query(f"CREATE TABLE `{table}` (x INT64)")
    for _ in range(2):
        assert not warehouse.query(f"INSERT INTO `{table}` VALUES (1)").reattached
    assert rows_in(warehouse, table) == 2


@pytest.mark.parametrize("other", ["SELECT 2 AS x", "SELECT 1  AS x"])
def test_the_same_key_with_another_statement_is_an_error_that_names_the_job(
    warehouse: CartoWarehouse, table: str, other: str
) -> None:
    first = warehouse.query("SELECT 1 AS x", idempotency_key=table)
    with pytest.raises(ValueError, match=f"{first.job_id}.*another idempotency_key"):
        warehouse.query(other, idempotency_key=table)
    with pytest.raises(ValueError, match=first.job_id):
        warehouse.begin_query(other, idempotency_key=table)
    with pytest.raises(ValueError, match=first.job_id):
        asyncio.run(warehouse.aquery(other, idempotency_key=table))


def test_the_same_key_with_other_parameters_is_an_error(warehouse: CartoWarehouse, table: str) -> None:
    moment = datetime.datetime(2024, 1, 1)
    result = warehouse.query("SELECT @p AS p", parameters={"p": moment}, idempotency_key=table)
    assert result.rows == ({"p": moment.isoformat()},)
    with pytest.raises(ValueError, match=result.job_id):
        warehouse.query("SELECT @p AS p", parameters={"p": datetime.datetime(2024, 1, 2)}, idempotency_key=table)


def test_parameters_in_another_order_are_the_same_query(warehouse: CartoWarehouse, table: str) -> None:
    sql = "SELECT @a AS a, @b AS b"
    first = warehouse.query(sql, parameters={"a": 1, "b": 2}, idempotency_key=table)
    again = warehouse.query(sql, parameters={"b": 2, "a": 1}, idempotency_key=table)
    assert (again.job_id, again.rows, again.reattached) == (first.job_id, ({"a": 1, "b": 2},), True)


def test_a_connectors_key_with_another_statement_is_a_warning_and_takes_the_first(
    warehouse: CartoWarehouse, table: str, caplog: pytest.LogCaptureFixture
) -> None:
    first = warehouse.query("SELECT 1 AS x", idempotency_key=RunKey(table))
    again = warehouse.query("SELECT 2 AS x", idempotency_key=RunKey(table))
    assert (again.job_id, again.rows, again.reattached) == (first.job_id, ({"x": 1},), True)
    assert first.job_id in caplog.text


def test_after_a_query_that_failed_the_same_key_begins_anew(warehouse: CartoWarehouse, table: str) -> None:
    sql = f"SELECT x FROM `{table}`"
    with pytest.raises(NotFound):
        warehouse.query(sql, idempotency_key=table)
    warehouse.query(f"CREATE TABLE `{table}` AS SELECT 5 AS x")

    result = warehouse.query(sql, idempotency_key=table)

    assert (result.rows, result.reattached) == (({"x": 5},), False)
    assert result.job_id.endswith("_2")
    assert warehouse.query(sql, idempotency_key=table).reattached


def test_a_query_whose_answer_was_lost_runs_once(warehouse: CartoWarehouse, table: str, carto_sandbox: Sandbox) -> None:
    warehouse.query(f"CREATE TABLE `{table}` (x INT64)")
    for key in ("a-key", None):
        carto_sandbox.fault("bigquery", cut="after", count=1, match="^POST .*/jobs$")
        result = warehouse.query(f"INSERT INTO `{table}` VALUES (1)", idempotency_key=key and table)
        assert result.affected_rows == 1
    assert rows_in(warehouse, table) == 2


def test_a_retry_waits_for_the_query_that_still_runs(
    warehouse: CartoWarehouse, table: str, tmp_path: Path, carto_sandbox: Sandbox
) -> None:
    sql = (
        "SELECT COUNT(*) AS n FROM UNNEST(GENERATE_ARRAY(1, 4000)) AS a CROSS JOIN UNNEST(GENERATE_ARRAY(1, 4000)) AS b"
    )
    first = Outcome(lambda: warehouse.query(sql, idempotency_key=table))
    time.sleep(0.3)
    other = auth_for(carto_sandbox, tmp_path).warehouse()
    second = other.query(sql, idempotency_key=table)
    assert second.rows == ({"n": 16_000_000},)
    assert first.settled().job_id == second.job_id


def test_two_processes_with_the_same_key_run_it_once(
    warehouse: CartoWarehouse, table: str, carto_sandbox: Sandbox
) -> None:
    warehouse.query(f"CREATE TABLE `{table}` (x INT64)")
    carto_sandbox.fault("bigquery", delay=0.7, count=1, match="^POST .*/jobs$")
    outputs = run_processes(
        2,
        f"""
        from carto_auth_integrations import CartoAuth
        result = CartoAuth.from_env().warehouse().query("INSERT INTO `{table}` VALUES (1)", idempotency_key="{table}")
        print(result.affected_rows, result.job_id)
        """,
        **carto_sandbox.environment(),
    )
    assert outputs[0] == outputs[1]
    assert outputs[0].startswith("1 ")
    assert rows_in(warehouse, table) == 1


def test_a_query_over_its_time_is_cancelled(warehouse: CartoWarehouse, tmp_path: Path, carto_sandbox: Sandbox) -> None:
    key = f"slow-{tmp_path}"
    with pytest.raises(TimeoutError, match="cancelled") as error:
        warehouse.query(ENDLESS, timeout=3, idempotency_key=key)
    job_id = str(error.value).split()[1]
    job = job_of(auth_for(carto_sandbox, tmp_path), job_id)
    until(lambda: job.reload() or job.state == "DONE")
    assert job.error_result["reason"] == "stopped"


def test_a_query_is_cancelled_from_elsewhere_and_the_next_try_begins_anew(
    warehouse: CartoWarehouse, table: str
) -> None:
    seen: list[JobProgress] = []
    running = Outcome(lambda: warehouse.query(ENDLESS, idempotency_key=table, on_progress=seen.append))
    until(lambda: len(seen) > 1)
    warehouse.cancel(seen[0].job_id)
    assert "cancelled" in str(running.settled()).lower()

    again: list[JobProgress] = []
    with pytest.raises(TimeoutError):
        warehouse.query(ENDLESS, idempotency_key=table, on_progress=again.append, timeout=2)
    assert (seen[0].job_id[-2:], again[0].job_id[-2:]) == ("_1", "_2")


def test_cancelling_what_has_ended_or_never_was(warehouse: CartoWarehouse) -> None:
    warehouse.cancel(warehouse.query("SELECT 1").job_id)
    with pytest.raises(NotFound):
        warehouse.cancel("never_was")


def test_a_query_is_begun_and_waited_for_by_another_object(
    warehouse: CartoWarehouse, table: str, tmp_path: Path, carto_sandbox: Sandbox
) -> None:
    begun = warehouse.begin_query("SELECT 7 AS x", idempotency_key=table)
    elsewhere = auth_for(carto_sandbox, tmp_path).warehouse()
    seen: list[JobProgress] = []
    elsewhere.wait_for(begun.job_id, location=begun.location, on_progress=seen.append)
    done = elsewhere.query("SELECT 7 AS x", idempotency_key=table)

    assert begun == JobReference(done.job_id, "US", reattached=False)
    assert (seen[-1].state, seen[-1].job_id, seen[-1].location) == ("DONE", begun.job_id, "US")
    assert (done.rows, done.reattached) == (({"x": 7},), True)
    assert warehouse.begin_query("SELECT 7 AS x", idempotency_key=table) == JobReference(done.job_id, "US", True)


def test_a_job_that_failed_raises_from_waiting_what_it_raises_from_a_query(
    warehouse: CartoWarehouse, table: str
) -> None:
    sql = f"SELECT CAST('{table}' AS INT64)"
    with pytest.raises(BadRequest) as of_query:
        warehouse.query(sql)
    with pytest.raises(BadRequest) as of_waiting:
        warehouse.wait_for(warehouse.begin_query(sql).job_id)
    first, second = (re.sub(r"carto_\w+", "", error.value.message) for error in (of_query, of_waiting))
    assert first == second


def test_waiting_has_a_time_limit(warehouse: CartoWarehouse) -> None:
    begun = warehouse.begin_query(ENDLESS)
    with pytest.raises(TimeoutError, match=begun.job_id):
        warehouse.wait_for(begun.job_id, timeout=2)


def test_a_job_that_does_not_exist_is_an_error_that_asks_for_its_location(warehouse: CartoWarehouse) -> None:
    with pytest.raises(NotFound, match=r"never_was in the multi-regions US and EU: pass its location"):
        warehouse.wait_for("never_was")
    with pytest.raises(NotFound, match=r"never_was in EU"):
        warehouse.cancel("never_was", location="EU")


def test_begin_wait_and_cancel_have_async_twins(warehouse: CartoWarehouse, table: str) -> None:
    async def use() -> tuple[JobReference, JobReference]:
        done = await warehouse.abegin_query("SELECT 1", idempotency_key=table)
        await warehouse.await_for(done.job_id, location=done.location)
        endless = await warehouse.abegin_query(ENDLESS)
        await warehouse.acancel(endless.job_id)
        with pytest.raises(GoogleAPICallError, match=r"(?i)cancelled"):
            await warehouse.await_for(endless.job_id)
        return done, await warehouse.abegin_query("SELECT 1", idempotency_key=table)

    first, again = asyncio.run(use())
    assert (first.job_id, first.reattached, again.reattached) == (again.job_id, False, True)


def test_the_first_progress_comes_before_the_job(warehouse: CartoWarehouse) -> None:
    def stop(progress: JobProgress) -> None:
        assert progress.state == "PENDING"
        with pytest.raises(NotFound):
            warehouse.cancel(progress.job_id)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        warehouse.query("SELECT 1", on_progress=stop)


def test_progress_is_reported_up_to_the_end(warehouse: CartoWarehouse) -> None:
    seen: list[JobProgress] = []
    result = warehouse.query("SELECT 1", on_progress=seen.append)
    assert seen[-1].state == "DONE"
    assert {progress.job_id for progress in seen} == {result.job_id}
    assert all(progress.seconds >= 0 for progress in seen)


def test_labels_of_any_text_are_on_the_job(warehouse: CartoWarehouse, tmp_path: Path, carto_sandbox: Sandbox) -> None:
    result = warehouse.query("SELECT 1", labels={"DAG Id": "Nightly (v2)", "1": ""})
    labels = dict(job_of(auth_for(carto_sandbox, tmp_path), result.job_id).labels)
    assert re.fullmatch(r"[a-z2-7]{52}", labels.pop("carto-digest"))
    assert labels == {"dag_id": "nightly__v2_", "l_1": ""}


def test_the_job_can_be_found_by_its_key(warehouse: CartoWarehouse, tmp_path: Path, carto_sandbox: Sandbox) -> None:
    result = warehouse.query("SELECT 1", idempotency_key="etl/load/2024")
    assert "etl-load-2024" in result.job_id
    assert job_of(auth_for(carto_sandbox, tmp_path), result.job_id).state == "DONE"


def test_async_is_the_same(warehouse: CartoWarehouse, table: str) -> None:
    async def both() -> list[Any]:
        sql = "SELECT @p AS p"
        options: dict[str, Any] = {"parameters": {"p": 1}, "idempotency_key": table}
        return [await warehouse.aquery(sql, **options), await warehouse.aquery(sql, **options)]

    first, second = asyncio.run(both())
    assert (first.rows, first.reattached, second.reattached) == (({"p": 1},), False, True)
    assert warehouse.query("SELECT @p AS p", parameters={"p": 1}, idempotency_key=table).job_id == first.job_id


def test_async_errors_and_time_limits_are_the_same(warehouse: CartoWarehouse) -> None:
    with pytest.raises(BadRequest, match="SELEC"):
        asyncio.run(warehouse.aquery("SELEC 1"))
    with pytest.raises(TimeoutError, match="cancelled"):
        asyncio.run(warehouse.aquery(ENDLESS, timeout=3))


def test_many_queries_wait_on_one_loop_with_few_threads(warehouse: CartoWarehouse) -> None:
    async def many() -> list[Any]:
        return await asyncio.gather(*(warehouse.aquery(f"SELECT {number} AS x") for number in range(10)))

    results = asyncio.run(many())
    assert [result.rows[0]["x"] for result in results] == list(range(10))
    names = [thread.name for thread in threading.enumerate()]
    assert sum(name.startswith("carto-calls") for name in names) <= Pool.CALLS.value


def test_a_coroutine_that_is_cancelled_leaves_a_job_that_the_next_try_takes(
    warehouse: CartoWarehouse, table: str
) -> None:
    sql = (
        "SELECT COUNT(*) AS n FROM UNNEST(GENERATE_ARRAY(1, 6000)) AS a CROSS JOIN UNNEST(GENERATE_ARRAY(1, 6000)) AS b"
    )
    seen: list[JobProgress] = []

    async def cancel() -> None:
        task = asyncio.ensure_future(warehouse.aquery(sql, idempotency_key=table, on_progress=seen.append))
        while len(seen) < 2:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel())
    result = warehouse.query(sql, idempotency_key=table)
    assert (result.job_id, result.reattached) == (seen[0].job_id, True)


def test_a_query_goes_on_after_its_token_was_revoked_between_two_calls(
    carto_sandbox_bigquery: Sandbox, tmp_path: Path
) -> None:
    """Revoked again and again within seconds it would fail: then replacing the token does not help."""
    warehouse = auth_for(carto_sandbox_bigquery, tmp_path).warehouse()
    revoked: list[JobProgress] = []

    def revoke(progress: JobProgress) -> None:
        if len(revoked) < 2:
            revoked.append(progress)
            carto_sandbox_bigquery.revoke("dw")

    assert warehouse.query("SELECT 1 AS x", on_progress=revoke).rows == ({"x": 1},)
    stats = carto_sandbox_bigquery.stats()
    assert stats.count("dw_token") == 3
    assert stats.dw_unauthorized == 2


def test_the_result_of_a_job_is_returned_whoever_began_it(
    warehouse: CartoWarehouse, table: str, tmp_path: Path, carto_sandbox: Sandbox
) -> None:
    begun = warehouse.begin_query("SELECT x FROM UNNEST([1, 2, 3]) AS x ORDER BY x", idempotency_key=table)
    elsewhere = auth_for(carto_sandbox, tmp_path).warehouse()

    result = elsewhere.result(begun.job_id, location=begun.location, max_rows=2)
    again = asyncio.run(elsewhere.aresult(begun))

    assert (result.job_id, result.rows, result.total_rows) == (begun.job_id, ({"x": 1}, {"x": 2}), 3)
    assert (again.rows, again.reattached) == (({"x": 1}, {"x": 2}, {"x": 3}), False)
    loaded = warehouse.load([{"x": 1}], table)
    assert elsewhere.result(loaded.job_id) == loaded
    with pytest.raises(NotFound):
        elsewhere.result(f"{begun.job_id}_of_nobody")


def test_warehouse_and_result_can_be_pickled(warehouse: CartoWarehouse) -> None:
    there = pickle.loads(pickle.dumps(warehouse))
    result = pickle.loads(pickle.dumps(there.query("SELECT 1 AS x")))
    assert result.rows == ({"x": 1},)
    with pytest.raises(RuntimeError, match="where the query ran"):
        result.to_arrow()
