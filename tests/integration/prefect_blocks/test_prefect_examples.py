"""The example flows, each as a user starts it: a process of its own, against a real Prefect server and the sandbox."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import airportsdata
import pytest
from prefect import get_client
from prefect.settings import get_current_settings

from carto_auth_integrations.sandbox import Sandbox
from prefect_blocks import CartoCredentials

EXAMPLES = Path(__file__).parents[3] / "examples"
ENDED = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}
PATIENCE = 300
"""Seconds after which an example counts as hung; the longest takes twenty alone."""


def start_example(name: str, **variables: str) -> subprocess.Popen[str]:
    """Start an example beside this test's Prefect server."""
    settings = get_current_settings().to_environment_variables(exclude_unset=True)
    return subprocess.Popen(
        [sys.executable, str(EXAMPLES / f"{name}.py")],
        env={**os.environ, **settings, **variables},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def run_example(name: str, **variables: str) -> str:
    process = start_example(name, **variables)
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, output
    return output


def counts(credentials: CartoCredentials, sql: str) -> Any:
    return {row["name"]: row["n"] for row in credentials.get_carto_warehouse().query(sql).rows}


def test_the_account_of_the_environment_is_saved(prefect_server: None, carto_sandbox: Sandbox) -> None:
    output = run_example("prefect_save_credentials", **carto_sandbox.environment())
    assert carto_sandbox.options.client_secret not in output
    assert CartoCredentials.load("prod").client_id == carto_sandbox.options.client_id


def test_the_etl_loads_every_airport_and_sums_them_up(credentials: CartoCredentials) -> None:
    run_example("prefect_etl")
    by_country = Counter(airport["country"] for airport in airportsdata.load().values())
    found = counts(credentials, "SELECT country AS name, airports AS n FROM shared.airports_by_country_prefect")
    assert found == by_country


@pytest.fixture
def served(credentials: CartoCredentials) -> Iterator[Any]:
    """The deployment of the scheduled example while it is served."""
    process = start_example("prefect_scheduled", SCHEDULE="0 6 * * *", PREFECT_RUNNER_POLL_FREQUENCY="1")
    try:
        with get_client(sync_client=True) as client:
            deadline = time.monotonic() + PATIENCE
            while not (found := client._client.post("/deployments/filter", json={}).json()):
                assert process.poll() is None, process.communicate()[0]
                assert time.monotonic() < deadline, "it is not served"
                time.sleep(0.2)
        yield found[0]
    finally:
        process.terminate()
        process.communicate(timeout=PATIENCE)


def test_the_scheduled_etl_has_its_schedule_and_runs(served: Any) -> None:
    assert [each["schedule"]["cron"] for each in served["schedules"]] == ["0 6 * * *"]
    with get_client(sync_client=True) as client:
        run = client.create_flow_run_from_deployment(served["id"])
        deadline = time.monotonic() + PATIENCE
        while (state := client.read_flow_run(run.id).state) is None or state.type.value not in ENDED:
            assert time.monotonic() < deadline, state
            time.sleep(0.2)
    assert state.is_completed(), state


@pytest.mark.skipif(not find_spec("prefect_dask"), reason="needs prefect-dask, which the sessions of nox have")
def test_the_parallel_loads_load_every_airport_once(credentials: CartoCredentials) -> None:
    run_example("prefect_parallel")
    by_continent = Counter(airport["tz"].partition("/")[0] for airport in airportsdata.load().values())
    sql = "SELECT continent AS name, COUNT(*) AS n FROM shared.airports_parallel GROUP BY continent"
    assert counts(credentials, sql) == by_continent


def test_no_example_names_a_secret() -> None:
    for path in EXAMPLES.glob("prefect_*.py"):
        assert "client_secret" not in json.dumps(path.read_text())
