"""The tasks in real flow runs: what they give, and that retries of task and flow load nothing twice."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from google.api_core.exceptions import BadRequest, GoogleAPICallError
from prefect import flow, get_client, task, unmapped
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.task_runners import ProcessPoolTaskRunner

from prefect_blocks import CartoCredentials, CartoDataWarehouse, acarto_load, acarto_query, carto_load, carto_query
from tests.support.prefect_runs import eventually, result_of, run

ROWS = [{"id": 1}, {"id": 2}]

load_at_once = carto_load.with_options(retry_delay_seconds=0)


def count_in(warehouse: CartoDataWarehouse, table: str) -> Any:
    return warehouse.get_carto_warehouse().query(f"SELECT COUNT(*) AS n FROM {table}").rows[0]["n"]


def fails_once(body: Callable[[], Any]) -> Callable[[], Any]:
    """Give a flow that does all it does, and fails then, the first time."""
    tries: list[int] = []

    def twice() -> Any:
        done = body()
        tries.append(1)
        if len(tries) == 1:
            raise RuntimeError("the flow fails after its loads")
        return done

    return twice


def pandas_rows() -> Any:
    import pandas

    return pandas.DataFrame(ROWS)


def test_a_load_gives_counts_and_the_job_as_plain_json(warehouse: CartoDataWarehouse, table: str) -> None:
    result = result_of(run(lambda: carto_load(warehouse, ROWS, table)))
    assert (result["rows"], result["reattached"]) == (2, False)
    assert result["destination"].endswith(f".{table}")
    assert json.loads(json.dumps(result)) == result
    assert warehouse.credentials.get_carto_dw_client().get_job(result["job_id"]).output_rows == 2


def test_a_query_gives_counts_and_the_first_rows_as_plain_json(warehouse: CartoDataWarehouse) -> None:
    sql = "SELECT n, DATE '2026-11-24' AS day FROM UNNEST(GENERATE_ARRAY(1, @last)) AS n ORDER BY n"
    result = result_of(run(lambda: carto_query(warehouse, sql, {"last": 5}, max_rows=2)))
    assert (result["total_rows"], len(result["rows"])) == (5, 2)
    assert result["rows"][0] == {"n": 1, "day": "2026-11-24"}
    assert json.loads(json.dumps(result)) == result


def test_a_dry_run_leaves_its_key_to_the_query_and_a_retry_with_another_limit_finds_the_job(
    warehouse: CartoDataWarehouse, table: str
) -> None:
    carto_load.fn(warehouse, ROWS, table)
    sql, limits = f"SELECT * FROM {table}", [10**12, 10**11]

    @flow(retries=1)
    def looked_at() -> Any:
        looked = carto_query(warehouse, sql, dry_run=True)
        done = carto_query(warehouse, sql, maximum_bytes_billed=limits.pop(), priority="BATCH")
        if limits:
            raise RuntimeError(done["job_id"])
        return looked, done

    looked, done = looked_at()
    assert (looked["job_id"], looked["rows"], looked["reattached"]) == ("", [], False)
    assert looked["bytes_processed"] > 0
    assert (done["reattached"], done["total_rows"]) == (True, 2)


def test_a_query_over_its_limit_fails_at_once(warehouse: CartoDataWarehouse, table: str) -> None:
    carto_load.fn(warehouse, ROWS, table)
    with pytest.raises(GoogleAPICallError, match=r"(?i)bytes billed"):
        result_of(run(lambda: carto_query(warehouse, f"SELECT * FROM {table}", maximum_bytes_billed=1)))


def test_the_coroutines_do_what_their_twins_do(warehouse: CartoDataWarehouse, table: str) -> None:
    @flow
    async def both() -> Any:
        loaded = await acarto_load(warehouse, ROWS, table)
        queries = [acarto_query(warehouse, f"SELECT COUNT(*) + {n} AS n FROM {table}") for n in range(10)]
        return loaded, await asyncio.gather(*queries)

    loaded, queries = asyncio.run(both())
    assert loaded["rows"] == 2
    assert [query["rows"] for query in queries] == [[{"n": 2 + n}] for n in range(10)]


@pytest.mark.parametrize("given", ["prod", "carto-credentials/prod", "carto-data-warehouse/prod"])
def test_a_saved_block_is_given_by_name(warehouse: CartoDataWarehouse, given: str) -> None:
    warehouse.save("prod", overwrite=True)
    assert result_of(run(lambda: carto_query(given, "SELECT 1 AS one")))["rows"] == [{"one": 1}]

    @flow
    async def named() -> Any:
        return await acarto_query(given, "SELECT 1 AS one")

    assert asyncio.run(named())["rows"] == [{"one": 1}]


def test_credentials_do_for_a_warehouse(credentials: CartoCredentials) -> None:
    assert result_of(run(lambda: carto_query(credentials, "SELECT 1 AS one")))["rows"] == [{"one": 1}]


def test_anything_else_is_refused(credentials: CartoCredentials) -> None:
    with pytest.raises(TypeError, match="CartoDataWarehouse, CartoCredentials or a block's name"):
        carto_query.fn(object(), "SELECT 1")


def test_the_tasks_function_works_outside_of_prefect(warehouse: CartoDataWarehouse, table: str) -> None:
    assert carto_load.fn(warehouse, ROWS, table)["rows"] == 2
    assert carto_load.fn(warehouse, ROWS, table)["reattached"] is False


def test_jobs_bear_the_names_of_flow_and_task(warehouse: CartoDataWarehouse, table: str) -> None:
    @flow(name="Nightly ETL")
    def nightly() -> Any:
        return carto_load(warehouse, ROWS, table, labels={"team": "Maps"})

    result = nightly()
    labels = warehouse.credentials.get_carto_dw_client().get_job(result["job_id"]).labels
    assert (labels["prefect-flow"], labels["prefect-task"], labels["team"]) == ("nightly_etl", "carto-load", "maps")
    assert labels["prefect-run"] in result["job_id"]


def test_a_transient_failure_is_tried_again(warehouse: CartoDataWarehouse, table: str) -> None:
    tries: list[int] = []

    def rows() -> Any:
        tries.append(1)
        if len(tries) < 3:
            raise ConnectionError("the source is away for a moment")
        return ROWS

    assert result_of(run(lambda: load_at_once(warehouse, rows, table)))["rows"] == 2
    assert len(tries) == 3


@pytest.mark.parametrize(("sql", "error"), [("SELEC 1", BadRequest), ("SELECT 1 FROM shared.no_such_table", Exception)])
def test_a_failure_that_stays_is_not_tried_again(
    warehouse: CartoDataWarehouse, sql: str, error: type[Exception]
) -> None:
    state = run(lambda: carto_query(warehouse, sql))
    with pytest.raises(error):
        result_of(state)
    with get_client(sync_client=True) as client:
        runs = FlowRunFilter(id=FlowRunFilterId(any_=[state.state_details.flow_run_id]))
        eventually(lambda: [each.run_count for each in client.read_task_runs(flow_run_filter=runs)] == [1])


def test_a_flow_that_is_tried_again_finds_its_jobs(warehouse: CartoDataWarehouse, table: str) -> None:
    def body() -> Any:
        carto_query(warehouse, f"CREATE TABLE IF NOT EXISTS {table} (id INT64)")
        carto_query(warehouse, f"INSERT INTO {table} VALUES (@id)", {"id": 0})
        return [carto_load(warehouse, rows, table) for rows in (ROWS, ROWS, iter(ROWS), pandas_rows())]

    results = result_of(run(fails_once(body), retries=1))
    assert [result["reattached"] for result in results] == [True] * 4
    assert len({result["job_id"] for result in results}) == 4, "equal loads of one run are loads of their own"
    assert count_in(warehouse, table) == 1 + 4 * 2


def test_another_run_of_the_flow_loads_again(warehouse: CartoDataWarehouse, table: str) -> None:
    for _ in range(2):
        run(lambda: carto_load(warehouse, ROWS, table))
    assert count_in(warehouse, table) == 4


def test_loads_that_run_at_once_keep_their_jobs_in_any_order(warehouse: CartoDataWarehouse, table: str) -> None:
    parts = [[{"id": number}] for number in range(6)]
    order = iter([parts, parts[::-1]])

    def body() -> Any:
        return carto_load.map(unmapped(warehouse), next(order), table).result()

    assert all(result["reattached"] for result in result_of(run(fails_once(body), retries=1)))
    assert count_in(warehouse, table) == 6


def test_a_subflow_that_is_run_anew_finds_its_jobs(warehouse: CartoDataWarehouse, table: str) -> None:
    tries: list[int] = []

    @flow
    def inner() -> Any:
        done = carto_load(warehouse, ROWS, table)
        tries.append(1)
        if len(tries) == 1:
            raise RuntimeError("the subflow fails after its load")
        return done

    assert result_of(run(lambda: inner(), retries=1))["reattached"] is True
    assert count_in(warehouse, table) == 2


def test_a_key_of_ones_own_holds_across_runs(warehouse: CartoDataWarehouse, table: str) -> None:
    results = [
        result_of(run(lambda: carto_load(warehouse, ROWS, table, idempotency_key=f"day/{table}"))) for _ in range(2)
    ]
    assert [result["reattached"] for result in results] == [False, True]


def test_rows_that_come_once_are_not_loaded_in_part(warehouse: CartoDataWarehouse, table: str) -> None:
    def rows() -> Iterator[Any]:
        yield {"id": 1}
        raise ConnectionError("the source is away for a moment")

    with pytest.raises(ValueError, match="can be read only once: pass a function"):
        result_of(run(lambda: load_at_once(warehouse, rows(), table)))


def test_a_task_of_ones_own_may_make_equal_calls(warehouse: CartoDataWarehouse, table: str) -> None:
    @task
    def twice() -> None:
        for _ in range(2):
            carto_load.fn(warehouse, ROWS, table)

    run(lambda: twice())
    assert count_in(warehouse, table) == 4


def test_another_process_finds_the_jobs_too(warehouse: CartoDataWarehouse, table: str) -> None:
    parts: list[Any] = [[{"id": 0}], [{"id": 1}], partial(list, [{"id": 2}]), partial(list, [{"id": 3}])]

    def body() -> Any:
        return carto_load.map(unmapped(warehouse), parts, table).result()

    results = result_of(run(fails_once(body), retries=1, task_runner=ProcessPoolTaskRunner(max_workers=2)))
    assert all(result["reattached"] for result in results)
    assert count_in(warehouse, table) == 4
