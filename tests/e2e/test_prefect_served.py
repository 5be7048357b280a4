"""Served deployments on a real Prefect server: each run is a new process, and all of them share one token."""

from __future__ import annotations

import os
import re
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from carto_auth_integrations.sandbox import Sandbox
from tests.support.accounts import auth_for

if TYPE_CHECKING:
    from tests.support.prefect_site import PrefectSite

pytest_plugins = ["tests.support.prefect_site"]

RUNS = int(os.environ.get("CARTO_TEST_FLOW_RUNS", "6"))
"""`python -m benchmarks.prefect served` does the same a hundred times."""
INTERVAL = 4
"""Seconds between scheduled runs."""
SCHEDULED = 2
"""Scheduled runs to wait for."""
ROWS = 1000
LATE = 3.0
"""Seconds by which the last part of an upload is delayed, while its process is killed."""


def save_block(site: PrefectSite, sandbox: Sandbox, folder: Path) -> str:
    """Save the sandbox's account under a new name and with a new token store; return the name."""
    name = f"block-{uuid4().hex[:8]}"
    site.save_block(name, {**sandbox.account, "token_store": str(folder / "tokens.json")})
    return name


def test_runs_in_processes_of_their_own_share_one_token(
    prefect_site: PrefectSite, carto_sandbox_bigquery: Sandbox, tmp_path: Path
) -> None:
    block = save_block(prefect_site, carto_sandbox_bigquery, tmp_path)

    with prefect_site.serving("one-query") as served:
        ended = prefect_site.all_ended([prefect_site.begin_run(served, block=block) for _ in range(RUNS)])

    assert [run["state_type"] for run in ended] == ["COMPLETED"] * RUNS
    logs = prefect_site.all_of("logs", logs={"flow_run_id": {"any_": [run["id"] for run in ended]}})
    assert len({log["message"] for log in logs if log["message"].startswith("process ")}) == RUNS
    assert carto_sandbox_bigquery.stats().count("token") == 1
    assert carto_sandbox_bigquery.stats().count("dw_token") == 1


def test_a_deployment_with_a_schedule_runs_by_itself(
    prefect_site: PrefectSite, carto_sandbox_bigquery: Sandbox, tmp_path: Path
) -> None:
    block = save_block(prefect_site, carto_sandbox_bigquery, tmp_path)

    with prefect_site.serving("one-query", BLOCK=block, INTERVAL=str(INTERVAL)) as served:
        filters = {
            "deployments": {"id": {"any_": [served.deployment]}},
            "flow_runs": {"state": {"type": {"any_": ["COMPLETED", "FAILED", "CRASHED"]}}},
        }

        def scheduled_runs() -> list[dict[str, Any]]:
            return [run for run in prefect_site.all_of("flow_runs", **filters) if run["auto_scheduled"]]

        prefect_site.wait_for(lambda: len(scheduled_runs()) >= SCHEDULED, "The deployment does not run")
        runs = scheduled_runs()

    assert {run["state_type"] for run in runs} == {"COMPLETED"}
    assert carto_sandbox_bigquery.stats().count("token") == 1


def test_a_run_that_was_killed_and_is_retried_loads_its_rows_once(
    prefect_site: PrefectSite, carto_sandbox_bigquery: Sandbox, tmp_path: Path
) -> None:
    block = save_block(prefect_site, carto_sandbox_bigquery, tmp_path)
    table = f"shared.{block.replace('-', '_')}"
    carto_sandbox_bigquery.fault("upload", delay=LATE, match="^PUT", count=1)

    with prefect_site.serving("load-rows") as served:
        run = prefect_site.begin_run(served, block=block, table=table, rows=ROWS)
        prefect_site.wait_for(lambda: carto_sandbox_bigquery.stats().count("upload"), "The upload did not begin")
        time.sleep(LATE / 3)  # it has begun its upload; now it sends the rest
        os.kill(int(re.search(r"process (\d+)", served.log.read_text())[1]), signal.SIGKILL)
        assert prefect_site.ended(run)["state_type"] == "CRASHED"
        prefect_site.run("retry", ["prefect", "flow-run", "retry", run])
        retried = prefect_site.ended(run)

    assert (retried["state_type"], retried["run_count"]) == ("COMPLETED", 2)
    sql = f"SELECT COUNT(*) AS n, COUNT(DISTINCT id) AS ids FROM {table}"
    assert auth_for(carto_sandbox_bigquery, tmp_path).warehouse().query(sql).rows == ({"n": ROWS, "ids": ROWS},)
