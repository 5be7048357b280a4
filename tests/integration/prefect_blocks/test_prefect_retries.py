"""Flow runs that are tried again, in the same process and in another one: each call has one job."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from prefect import flow, task, unmapped
from prefect.settings import get_current_settings
from prefect.task_runners import ProcessPoolTaskRunner

from prefect_blocks import CartoCredentials, CartoDataWarehouse, carto_load, carto_query
from tests.integration.prefect_blocks.retried_flow import NAMES
from tests.support.prefect_runs import result_of, run
from tests.support.processes import ROOT

SCRIPT = Path(__file__).with_name("retried_flow.py")
PATIENCE = 300
"""Seconds after which a process counts as hung; alone it takes twenty."""


def try_flow(seed: str, directory: Path, *arguments: str) -> tuple[list[dict[str, Any]], str]:
    """Try a flow run in a new process; return what its calls returned, and the id of the run."""
    settings = get_current_settings().to_environment_variables(exclude_unset=True)
    process = subprocess.run(
        [sys.executable, str(SCRIPT), *arguments],
        env={**os.environ, **settings, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)},
        cwd=directory,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    *_, results, flow_run = process.stdout.splitlines()
    assert results.startswith("["), process.stderr
    return json.loads(results), flow_run


def count_in(warehouse: CartoDataWarehouse, table: str) -> Any:
    return warehouse.get_carto_warehouse().query(f"SELECT COUNT(*) AS n FROM {table}").rows[0]["n"]


def names_in(warehouse: CartoDataWarehouse, table: str) -> list[str]:
    found = warehouse.get_carto_warehouse().query(f"SELECT name FROM {table} ORDER BY name").rows
    return [row["name"] for row in found]


def test_a_try_in_another_process_finds_every_job(warehouse: CartoDataWarehouse, table: str, tmp_path: Path) -> None:
    places = [tmp_path / "first", tmp_path / "second"]
    for place in places:
        place.mkdir()
        (place / "names.csv").write_text("name\nfrom a file\n")
    warehouse.execute(f"CREATE TABLE {table} (name STRING)")
    first, flow_run = try_flow("1", places[0], table, str(places[0]))
    again, same_run = try_flow("2", places[1], table, str(places[0]), flow_run)
    assert same_run == flow_run
    assert [result["reattached"] for result in first] == [False] * len(first)
    assert [result["job_id"] for result in again] == [result["job_id"] for result in first]
    assert [result["reattached"] for result in again] == [True] * len(first)
    rest = ["first", "iterator", "lambda", "query", "second", "station"]
    assert names_in(warehouse, table) == sorted([*NAMES, *rest])
    assert [count_in(warehouse, f"{table}_{kind}") for kind in "mcf"] == [2, 1, 1]


def in_two_tries(body: Callable[[bool], Any]) -> Callable[[], Any]:
    """Return a flow that fails after its first try; the body is told which one it is."""
    tries: list[int] = []

    def tried() -> Any:
        tries.append(1)
        done = body(len(tries) > 1)
        if len(tries) == 1:
            raise RuntimeError("the flow fails after its calls")
        return done

    return tried


@task
def late_name(table: str, seconds: float) -> str:
    time.sleep(seconds)
    return table


@pytest.mark.parametrize("how", ["submit", "map"])
def test_a_call_that_begins_before_an_earlier_one_keeps_its_own_job(
    warehouse: CartoDataWarehouse, table: str, how: str
) -> None:
    def body(again: bool) -> Any:
        def second() -> Any:
            if not again:
                raise ValueError("only the first call succeeds in the first try")
            return [{"name": "second"}]

        sources = [lambda: [{"name": "first"}], second]
        delays = (2.0, 0.0) if again else (0.0, 2.0)
        if how == "map":  # a call waits for a future among its arguments
            tables = [late_name.submit(table, delay) for delay in delays]
            futures = list(carto_load.map(unmapped(warehouse), sources, tables))
        else:
            futures = [
                carto_load.submit(warehouse, source, table, wait_for=[late_name.submit(table, delay)])
                for source, delay in zip(sources, delays, strict=True)
            ]
        return [future.result(raise_on_failure=again) for future in futures]

    results = result_of(run(in_two_tries(body), retries=1))
    assert [result["reattached"] for result in results] == [True, False]
    assert names_in(warehouse, table) == ["first", "second"]


def test_files_of_one_name_are_loads_of_their_own(warehouse: CartoDataWarehouse, table: str, tmp_path: Path) -> None:
    parts = [tmp_path / day / "part.csv" for day in ("monday", "tuesday")]
    for part in parts:
        part.parent.mkdir()
        part.write_text(f"name\n{part.parent.name}\n")

    def body(_: bool) -> Any:
        return carto_load.map(unmapped(warehouse), parts, table).result()

    assert all(result["reattached"] for result in result_of(run(in_two_tries(body), retries=1)))
    assert names_in(warehouse, table) == ["monday", "tuesday"]


def test_files_keep_their_jobs_in_any_order(warehouse: CartoDataWarehouse, table: str, tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.csv").write_text(f"name\n{name}\n")
    paths = sorted(tmp_path.iterdir())

    def body(again: bool) -> Any:
        return [carto_load(warehouse, path, table)["reattached"] for path in (paths[::-1] if again else paths)]

    assert result_of(run(in_two_tries(body), retries=1)) == [True] * 3


def test_functions_without_a_name_are_told_apart_in_other_processes_too(
    warehouse: CartoDataWarehouse, table: str
) -> None:
    sources = [lambda: [{"name": "a"}], lambda: [{"name": "b"}], partial(list, [{"name": "c"}])]

    def body(_: bool) -> Any:
        return carto_load.map(unmapped(warehouse), sources, table).result()

    state = run(in_two_tries(body), retries=1, task_runner=ProcessPoolTaskRunner(max_workers=2))
    assert all(result["reattached"] for result in result_of(state))
    assert names_in(warehouse, table) == ["a", "b", "c"]


def test_the_options_of_a_task_change_nothing_in_its_identity(warehouse: CartoDataWarehouse, table: str) -> None:
    def body(again: bool) -> Any:
        load = carto_load.with_options(retries=0, name="another") if again else carto_load
        options: Any = {"timeout": 60, "labels": {"try": "second"}, "on_progress": lambda _: None} if again else {}
        return load(warehouse, lambda: [{"name": "x"}], table, **options)

    assert result_of(run(in_two_tries(body), retries=1))["reattached"] is True


def test_a_try_that_would_do_something_else_takes_the_job_with_a_warning(
    credentials: CartoCredentials, table: str, caplog: pytest.LogCaptureFixture
) -> None:
    other = credentials.model_copy(update={"default_dataset": "shared"})

    def body(again: bool) -> Any:
        return carto_query(other if again else credentials, f"CREATE TABLE {table} (id INT64)")

    with caplog.at_level(logging.WARNING):
        assert result_of(run(in_two_tries(body), retries=1))["reattached"] is True
    assert "already exists and does something else than this try would" in caplog.text


def test_another_statement_under_a_key_of_ones_own_is_refused(warehouse: CartoDataWarehouse, table: str) -> None:
    @flow
    def twice() -> None:
        for number in range(2):
            carto_query(warehouse, f"SELECT {number}", idempotency_key=table)

    with pytest.raises(ValueError, match="does something else; use another idempotency_key"):
        twice()
