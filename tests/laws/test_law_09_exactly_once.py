"""Law 9: a load happens exactly once, whenever its worker dies; `benchmarks.kills` does the same a hundred times."""

from __future__ import annotations

import signal
import time
import uuid
from pathlib import Path
from typing import Any

import pytest

from benchmarks.kills import PATIENCE, ROWS, kill_loaders, load, loader_processes
from carto_auth_integrations.sandbox import Sandbox
from tests.support.accounts import auth_for
from tests.support.threads import until

KILLS = 12

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")


def test_loaders_killed_at_any_moment_and_tried_again_load_their_rows_once(
    carto_sandbox_bigquery: Sandbox, tmp_path: Path
) -> None:
    kills = kill_loaders(carto_sandbox_bigquery, KILLS, tmp_path)

    assert [kill for kill in kills if kill.rows != ROWS] == []
    assert {"before"} < {kill.met for kill in kills}, "some were killed before there was a job, and some later"


LATE = 6.0
"""Seconds by which a request is late that is not to arrive in the loader's lifetime."""


@pytest.mark.parametrize(
    ("fault", "arrives"),
    [
        ({"delay": LATE, "match": "^POST"}, False),
        ({"delay": LATE, "match": "^PUT"}, False),
        ({"delay": 2, "match": "^PUT"}, True),
        ({"cut": "after", "match": "^PUT"}, True),
    ],
    ids=["at the beginning", "before the last byte", "after the last byte was sent", "after the job began"],
)
def test_a_loader_killed_at_a_certain_moment_has_its_rows_loaded_once(
    carto_sandbox_bigquery: Sandbox, tmp_path: Path, fault: dict[str, Any], arrives: bool
) -> None:
    table = f"shared.killed_{uuid.uuid4().hex[:12]}"
    auth = auth_for(carto_sandbox_bigquery, tmp_path)
    client = auth.get_carto_dw_client()
    carto_sandbox_bigquery.fault("upload", count=1, **fault)
    if "cut" in fault:  # a loader whose last response is lost asks how much has arrived
        carto_sandbox_bigquery.fault("upload", match="^PUT", delay=LATE)
    account = {**carto_sandbox_bigquery.account, "token_store": str(tmp_path / "tokens.json")}
    loader = loader_processes().Process(target=load, args=(account, table, 1))
    loader.start()
    if fault["match"] == "^PUT":
        until(lambda: carto_sandbox_bigquery.stats().count("upload") > 0)
    time.sleep(1)
    assert loader.is_alive()
    loader.kill()
    loader.join(PATIENCE)
    carto_sandbox_bigquery.clear_faults()
    if arrives:
        until(lambda: any(table[7:] in job.job_id for job in client.list_jobs(max_results=20)))

    assert load(account, table, 1) is arrives

    sql = f"SELECT COUNT(*) AS n, COUNT(DISTINCT id) AS ids FROM `{table}`"
    assert auth.warehouse().query(sql).rows == ({"n": ROWS, "ids": ROWS},)
