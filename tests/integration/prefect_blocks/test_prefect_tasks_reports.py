"""What a load leaves in Prefect: an asset, a table, its progress, and no secret."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

import pytest
from prefect import flow

from carto_auth_integrations.sandbox import Sandbox
from prefect_blocks import CartoDataWarehouse, _reports, acarto_load, carto_load
from tests.support.prefect_runs import artifacts_of, events_of, result_of, run

ROWS = [{"id": 1}, {"id": 2}]


def test_a_load_leaves_a_table_and_an_asset(warehouse: CartoDataWarehouse, table: str) -> None:
    state = run(lambda: carto_load(warehouse, ROWS, table))
    result = result_of(state)
    ((kind, (row,)),) = artifacts_of(state)
    assert kind == "table"
    assert (row["table"], row["rows"], row["job"]) == (result["destination"], 2, result["job_id"])
    assert row["bytes"] == result["bytes"] > 0
    assert row["seconds"] >= 0
    (event,) = events_of(state)
    assert event["event"] == "prefect.asset.materialization.succeeded"
    assert event["resource"]["prefect.resource.id"] == f"bigquery://{result['destination'].replace('.', '/')}"
    assert (event["payload"]["rows"], event["payload"]["job_id"]) == (2, result["job_id"])


def test_rows_that_do_not_fit_are_in_all_of_it(
    warehouse: CartoDataWarehouse, table: str, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [{"id": 1, "at": "POINT (1 2)"}, {"id": 2, "at": "LINESTRING (1 1)"}]
    with caplog.at_level(logging.WARNING):
        state = run(lambda: carto_load(warehouse, rows, table, geometry="at", bad_rows="quarantine"))
    result = result_of(state)
    assert (result["rows"], result["rejected"]) == (1, 1)
    assert result["rejected_table"] == f"{result['destination']}__rejected"
    ((_, (row,)),) = artifacts_of(state)
    assert (row["rejected"], row["rejected table"]) == (1, result["rejected_table"])
    (event,) = events_of(state)
    assert (event["payload"]["rejected"], event["payload"]["rejected_table"]) == (1, result["rejected_table"])
    assert f"1 row did not fit, and went to {result['rejected_table']} with the reasons." in caplog.text


def test_a_coroutine_leaves_the_same(warehouse: CartoDataWarehouse, table: str) -> None:
    @flow
    async def one_load() -> Any:
        return await acarto_load(warehouse, ROWS, table)

    state = asyncio.run(one_load(return_state=True))
    assert [kind for kind, _ in artifacts_of(state)] == ["table"]
    assert len(events_of(state)) == 1


def test_the_asset_takes_part_in_the_lineage(warehouse: CartoDataWarehouse, table: str) -> None:
    state = run(
        lambda: carto_load.with_options(asset_deps=["s3://bucket/visits.csv"])(warehouse, ROWS, table),
    )
    events = events_of(state, count=2)
    (made,) = [event for event in events if event["event"].endswith("succeeded")]
    assert "s3://bucket/visits.csv" in [related["prefect.resource.id"] for related in made["related"]]


def test_all_of_it_can_be_switched_off(warehouse: CartoDataWarehouse, table: str) -> None:
    state = run(lambda: carto_load(warehouse, ROWS, table, asset=False, table_artifact=False))
    assert artifacts_of(state) == []
    time.sleep(1)
    assert events_of(state, count=0) == []


@pytest.mark.parametrize("load", [carto_load, acarto_load], ids=["sync", "async"])
def test_a_long_load_shows_how_far_it_is(
    warehouse: CartoDataWarehouse, table: str, load: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_reports, "PROGRESS_AFTER", 0.0)
    monkeypatch.setattr(_reports, "PROGRESS_EVERY", 0.0)

    @flow
    async def one_load() -> Any:
        loaded = load(warehouse, ROWS, table, table_artifact=False)
        return await loaded if load is acarto_load else loaded

    assert artifacts_of(asyncio.run(one_load(return_state=True))) == [("progress", 100)]


def test_a_short_load_shows_none(warehouse: CartoDataWarehouse, table: str) -> None:
    state = run(lambda: carto_load(warehouse, ROWS, table, table_artifact=False))
    assert artifacts_of(state) == []


def test_a_load_goes_well_though_its_report_does_not(
    warehouse: CartoDataWarehouse,
    table: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def refused(*_: Any, **__: Any) -> None:
        raise RuntimeError("no artifacts today")

    monkeypatch.setattr(_reports, "acreate_table_artifact", refused)
    with caplog.at_level(logging.WARNING):
        assert result_of(run(lambda: carto_load(warehouse, ROWS, table)))["rows"] == 2
    assert "did not reach Prefect (RuntimeError)" in caplog.text


def test_no_secret_is_in_what_is_left(warehouse: CartoDataWarehouse, table: str, carto_sandbox: Sandbox) -> None:
    state = run(lambda: carto_load(warehouse, ROWS, table))
    tokens = warehouse.credentials.get_access_token(), warehouse.credentials.get_carto_dw_credentials()[1]
    left = f"{result_of(state)} {artifacts_of(state)} {events_of(state)}"
    assert not [secret for secret in (carto_sandbox.options.client_secret, *tokens) if secret in left]
