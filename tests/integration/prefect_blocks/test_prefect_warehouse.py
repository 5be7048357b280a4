"""The warehouse block on a real BigQuery interface: rows in pages, statements, loads, both twins, and its travels."""

from __future__ import annotations

import asyncio
import copy
import datetime
import pickle
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from decimal import Decimal
from multiprocessing import get_context
from typing import Any

import pytest
from google.api_core.exceptions import GoogleAPICallError

from carto_auth_integrations.sandbox import Sandbox
from prefect_blocks import CartoCredentials, CartoDataWarehouse

ENDLESS = """
    SELECT COUNT(*) AS n FROM UNNEST(GENERATE_ARRAY(1, 30000)) AS a CROSS JOIN UNNEST(GENERATE_ARRAY(1, 30000)) AS b
    WHERE MOD(a * b, 7) > MOD(a + b, 5)
    """
"""A query of many seconds."""
NUMBERS = "SELECT n FROM UNNEST(GENERATE_ARRAY(1, @last)) AS n ORDER BY n"


def numbers(first: int, last: int) -> list[tuple[int]]:
    return [(number,) for number in range(first, last + 1)]


def test_nothing_is_asked_before_the_first_statement(warehouse: CartoDataWarehouse, carto_sandbox: Sandbox) -> None:
    carto_sandbox.reset()
    with copy.deepcopy(warehouse) as twin:
        twin.get_carto_warehouse()
    assert not carto_sandbox.stats().requests


def test_fetching_goes_on_where_the_last_call_ended(warehouse: CartoDataWarehouse) -> None:
    assert warehouse.fetch_many(NUMBERS, {"last": 10}, size=4) == numbers(1, 4)
    assert warehouse.fetch_one(NUMBERS, {"last": 10}) == (5,)
    assert warehouse.fetch_many(NUMBERS, {"last": 3}) == numbers(1, 3), "other parameters are another result"
    assert warehouse.fetch_all(NUMBERS, {"last": 10}) == numbers(6, 10)
    assert warehouse.fetch_all(NUMBERS, {"last": 10}) == numbers(1, 10), "all were given: the next call begins anew"


def test_after_the_last_row_there_is_none_until_the_cursors_are_reset(warehouse: CartoDataWarehouse) -> None:
    assert warehouse.fetch_one(NUMBERS, {"last": 1}) == (1,)
    assert warehouse.fetch_one(NUMBERS, {"last": 1}) is None
    assert warehouse.fetch_many(NUMBERS, {"last": 1}) == []
    warehouse.reset_cursors()
    assert warehouse.fetch_one(NUMBERS, {"last": 1}) == (1,)


def test_rows_come_in_pages_as_they_are_asked_for(credentials: CartoCredentials, carto_sandbox: Sandbox) -> None:
    warehouse = CartoDataWarehouse(credentials=credentials, fetch_size=100)
    assert warehouse.fetch_many(NUMBERS, {"last": 1000}) == numbers(1, 100)
    before = carto_sandbox.stats().count("bigquery")
    assert warehouse.fetch_many(NUMBERS, {"last": 1000}) == numbers(101, 200)
    assert carto_sandbox.stats().count("bigquery") == before + 1


def test_rows_are_tuples_of_python_values(warehouse: CartoDataWarehouse) -> None:
    sql = "SELECT 1, 'x', NULL, DATE '2026-11-24', NUMERIC '1.5', [1, 2], STRUCT(1 AS a)"
    day = datetime.date(2026, 11, 24)
    assert warehouse.fetch_all(sql) == [(1, "x", None, day, Decimal("1.5"), [1, 2], {"a": 1})]


def test_a_statement_runs_and_says_what_it_changed(warehouse: CartoDataWarehouse, table: str) -> None:
    warehouse.execute(f"CREATE TABLE {table} (id INT64, name STRING)")
    result = warehouse.execute(f"INSERT INTO {table} VALUES (@id, @name)", {"id": 1, "name": "x"})
    assert (result.affected_rows, result.rows) == (1, ())
    assert warehouse.fetch_all(f"SELECT * FROM {table}") == [(1, "x")]


@pytest.mark.parametrize(
    ("statement", "rows"),
    [
        ("(@id, @name) -- @id", [{"id": 1, "name": "@id"}, {"id": 2, "name": None}, {"id": 3, "name": "y"}]),
        ("(?, ?)", [(1, "@id"), (2, None), (3, "y")]),
    ],
    ids=["by name", "by place"],
)
def test_a_statement_runs_for_each_set_of_parameters(
    warehouse: CartoDataWarehouse, carto_sandbox: Sandbox, table: str, statement: str, rows: list[Any]
) -> None:
    warehouse.execute(f"CREATE TABLE {table} (id INT64, name STRING)")
    warehouse.execute_many(f"INSERT INTO {table} VALUES {statement}", rows)
    assert warehouse.fetch_all(f"SELECT * FROM {table} ORDER BY id") == [(1, "@id"), (2, None), (3, "y")]


def test_a_dry_run_has_a_cost_and_no_rows(warehouse: CartoDataWarehouse) -> None:
    assert warehouse.execute(NUMBERS, {"last": 10}, dry_run=True).bytes_processed == 0
    for fetch in (warehouse.fetch_one, warehouse.fetch_many, warehouse.fetch_all):
        with pytest.raises(ValueError, match="no rows to fetch: call execute"):
            fetch(NUMBERS, {"last": 10}, dry_run=True)


def test_many_runs_under_one_key_happen_once(warehouse: CartoDataWarehouse, table: str) -> None:
    warehouse.execute(f"CREATE TABLE {table} (id INT64)")
    rows = [{"id": number} for number in range(9)]
    for _ in range(2):
        warehouse.execute_many(f"INSERT INTO {table} VALUES (@id)", rows, idempotency_key=table)
    assert warehouse.fetch_one(f"SELECT COUNT(*), COUNT(DISTINCT id) FROM {table}") == (9, 9)


def test_many_runs_continue_where_one_of_them_failed(warehouse: CartoDataWarehouse, table: str) -> None:
    warehouse.execute(f"CREATE TABLE {table} (id INT64)")
    insert = f"INSERT INTO {table} VALUES (CAST(@id AS INT64))"
    with pytest.raises(GoogleAPICallError):
        warehouse.execute_many(insert, [{"id": "1"}, {"id": "no number"}, {"id": "3"}], idempotency_key=table)
    assert warehouse.fetch_all(f"SELECT id FROM {table}") == [(1,)]
    warehouse.execute_many(insert, [{"id": "1"}, {"id": "2"}, {"id": "3"}], idempotency_key=table)
    assert warehouse.fetch_all(f"SELECT id FROM {table} ORDER BY id") == numbers(1, 3)


def test_a_table_is_loaded(warehouse: CartoDataWarehouse, table: str) -> None:
    result = warehouse.load_table([{"id": 1}, {"id": 2}], table)
    assert result.rows == 2
    assert warehouse.fetch_all(f"SELECT id FROM {table} ORDER BY id") == [(1,), (2,)]


def test_an_error_is_bigquerys_own_and_shows_no_secret(warehouse: CartoDataWarehouse, carto_sandbox: Sandbox) -> None:
    with pytest.raises(GoogleAPICallError) as info:
        warehouse.fetch_all("SELECT no_such_column FROM shared.no_such_table")
    assert "no_such_table" in str(info.value)
    assert carto_sandbox.options.client_secret not in repr(info.value)


def test_the_coroutines_do_what_their_twins_do(credentials: CartoCredentials, table: str) -> None:
    async def use() -> None:
        async with CartoDataWarehouse(credentials=credentials) as warehouse:
            await warehouse.aexecute(f"CREATE TABLE {table} (id INT64)")
            await warehouse.aexecute_many(f"INSERT INTO {table} VALUES (@id)", [{"id": 1}, {"id": 2}])
            assert (await warehouse.aload_table([{"id": 3}], table)).rows == 1
            sql = f"SELECT id FROM {table} ORDER BY id"
            assert await warehouse.afetch_one(sql) == (1,)
            assert await warehouse.afetch_many(sql, size=1) == [(2,)]
            assert await warehouse.afetch_all(sql) == [(3,)]
            assert await warehouse.afetch_all(sql) == numbers(1, 3)

    asyncio.run(use())


def test_coroutines_share_a_block(warehouse: CartoDataWarehouse, carto_sandbox: Sandbox) -> None:
    async def use() -> list[Any]:
        statements = [f"SELECT {number}" for number in range(20)]
        return await asyncio.gather(*(warehouse.afetch_all(statement) for statement in statements))

    assert asyncio.run(use()) == [[(number,)] for number in range(20)]
    assert carto_sandbox.stats().count("token") <= 1


def test_threads_that_share_a_result_get_each_row_once(warehouse: CartoDataWarehouse) -> None:
    warehouse.fetch_many(NUMBERS, {"last": 400}, size=0)
    with ThreadPoolExecutor(8) as threads:
        parts = threads.map(lambda _: warehouse.fetch_many(NUMBERS, {"last": 400}, size=50), range(8))
    assert sorted(row for part in parts for row in part) == numbers(1, 400)


def test_a_closed_block_connects_again(warehouse: CartoDataWarehouse) -> None:
    with warehouse:
        assert warehouse.fetch_one(NUMBERS, {"last": 2}) == (1,)
    assert warehouse.fetch_one(NUMBERS, {"last": 2}) == (1,), "and has no result of before"


def test_a_job_that_takes_too_long_is_cancelled(credentials: CartoCredentials) -> None:
    # The sandbox takes a second to begin this job.
    warehouse = CartoDataWarehouse(credentials=credentials, job_timeout=3)
    with pytest.raises(TimeoutError, match="cancelled"):
        warehouse.execute(ENDLESS)


def by_pickle(block: CartoDataWarehouse) -> CartoDataWarehouse:
    return pickle.loads(pickle.dumps(block))


@pytest.mark.parametrize("travel", [by_pickle, copy.deepcopy, copy.copy], ids=["pickle", "deep copy", "copy"])
def test_a_block_travels_while_it_is_connected(
    warehouse: CartoDataWarehouse, travel: Callable[[CartoDataWarehouse], CartoDataWarehouse]
) -> None:
    assert warehouse.fetch_one(NUMBERS, {"last": 9}) == (1,)
    twin = travel(warehouse)
    assert twin == warehouse
    assert twin.fetch_one("SELECT 2") == (2,)


def test_a_pickle_holds_no_token(warehouse: CartoDataWarehouse) -> None:
    tokens = warehouse.credentials.get_access_token(), warehouse.credentials.get_carto_dw_credentials()[1]
    warehouse.fetch_one("SELECT 1")
    pickled = pickle.dumps(warehouse)
    assert not any(token.encode() in pickled for token in tokens)


def first_of(block: CartoDataWarehouse) -> Any:
    return block.fetch_one("SELECT 'there'")


def test_a_block_works_in_another_process(warehouse: CartoDataWarehouse, carto_sandbox: Sandbox) -> None:
    warehouse.fetch_one("SELECT 1")
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as processes:
        assert processes.submit(first_of, warehouse).result() == ("there",)
    assert carto_sandbox.stats().count("token") == 1
