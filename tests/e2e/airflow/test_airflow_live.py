"""One real Airflow: many tasks, many deferred queries, killed workers, the connection form, and no secret anywhere."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_provider import example_dags
from airflow_provider.connection import form_fields
from carto_auth_integrations.sandbox import Sandbox, SandboxOptions
from tests.support.airflow_canaries import MARK, finds
from tests.support.airflow_form import ConnectionForm, connections_page
from tests.support.airflow_scenarios import (
    ROWS,
    SLOW,
    defer_many,
    kill_after_the_job,
    kill_while_uploading,
    rows_of,
    write_rows,
)
from tests.support.airflow_site import DAGS, AirflowSite, Run, airflow_site_in

TASKS = int(os.environ.get("CARTO_TEST_AIRFLOW_TASKS", "20"))
"""Mapped tasks and deferred queries; `python -m benchmarks.airflow` takes 200 and 300."""
PICTURES = os.environ.get("CARTO_TEST_PICTURES")
"""Directory for pictures of the form, if set: `docs/images` for the documentation."""
EXAMPLE = {"host": "https://gcp-us-east1.api.carto.com", "login": "my-client-id", "password": "x" * 24}
"""Values of the form in these pictures."""
BROKEN = DAGS / "broken_dag.py"
DAILY = Path(example_dags.__file__).with_name("carto_daily_etl.py")
SECRET = f"{MARK}-client-secret"


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    """A CARTO whose secrets are canaries, with BigQuery."""
    options = SandboxOptions(client_secret=SECRET, api_access_token=f"{MARK}-api-access-token")
    with Sandbox(options) as sandbox:
        sandbox.start_emulator()
        yield sandbox


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of the token stores: outside the searched files, as it holds tokens."""
    return tmp_path_factory.mktemp("stores")


@pytest.fixture(scope="module")
def site(sandbox: Sandbox, stores: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AirflowSite]:
    """The one Airflow of this module, with connections that work and connections that do not."""
    account = {**sandbox.account, "token_store": str(stores / "others.json")}
    with airflow_site_in(tmp_path_factory.mktemp("site")) as site:
        for name in ("default", "mapped", "deferred"):
            site.save_connection(f"carto_{name}", {**account, "token_store": str(stores / f"{name}.json")})
        site.save_connection("carto_rejected", {**account, "client_secret": f"{MARK}-wrong-secret"})
        redis = f"redis://:{MARK}-store-password@127.0.0.1:1/0"
        site.save_connection("carto_redis", {**account, "token_store": redis})
        token = {"auth_mode": "token", "access_token": f"{MARK}-api-access-token"}
        site.save_connection("carto_token", {**account, **token, "client_secret": ""})
        site.add_dags(*(file for file in DAGS.glob("*.py") if file != BROKEN), DAILY)
        yield site


@pytest.fixture(scope="module")
def killed_loads(site: AirflowSite, sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """DAG runs with a load whose worker is killed, by table; Airflow notices that and retries."""
    file = write_rows(tmp_path_factory.mktemp("killed") / "rows.csv")
    return {
        "shared.killed_uploading": kill_while_uploading(site, sandbox, file, "shared.killed_uploading"),
        "shared.killed_after_the_job": kill_after_the_job(site, sandbox, file, "shared.killed_after_the_job"),
    }


@pytest.fixture(scope="module")
def runs() -> list[Run]:
    """The DAG runs that have ended, for the search at the end."""
    return []


def test_the_scheduler_runs_the_daily_dag_of_the_examples(site: AirflowSite, sandbox: Sandbox, runs: list[Run]) -> None:
    runs_of_any_dag = "/api/v2/dags/~/dagRuns?run_type=scheduled"
    (scheduled,) = site.wait_for(lambda: site.all(runs_of_any_dag, "dag_runs"), "The scheduler has begun no run")
    assert scheduled["dag_id"] == "carto_daily_etl"
    run = site.end(f"/api/v2/dags/carto_daily_etl/dagRuns/{scheduled['dag_run_id']}")
    runs.append(run)
    assert {task["state"] for task in run.tasks} == {"success"}
    assert rows_of(sandbox, "shared.example_visits") == site.xcom(run, "sum_up")["total_rows"]


@pytest.mark.usefixtures("killed_loads")  # Airflow takes a minute to notice; this test runs meanwhile
def test_a_fleet_of_mapped_tasks_costs_one_token_and_one_exchange(
    site: AirflowSite, sandbox: Sandbox, runs: list[Run]
) -> None:
    sandbox.reset()
    run = site.run("mapped_queries", count=TASKS)
    runs.append(run)
    assert run.states("ask") == {"success": TASKS}
    assert sandbox.stats().count("token") == 1
    assert sandbox.stats().count("dw_token") == 1


def test_a_load_whose_worker_is_killed_is_there_once(
    site: AirflowSite, sandbox: Sandbox, runs: list[Run], killed_loads: dict[str, str]
) -> None:
    for table, path in killed_loads.items():
        run = site.end(path)
        runs.append(run)
        (load,) = [task for task in run.tasks if task["task_id"] == "load"]
        assert (load["state"], load["try_number"]) == ("success", 2)
        assert rows_of(sandbox, table) == ROWS


def test_a_full_triggerer_waits_for_one_token_and_goes_on(site: AirflowSite, sandbox: Sandbox, runs: list[Run]) -> None:
    deferral = defer_many(site, sandbox, TASKS)
    runs.append(deferral.run)
    assert deferral.run.states("ask") == {"success": TASKS}
    assert [site.xcom(deferral.run, "ask", number)["rows"] for number in range(3)] == [
        [{"number": number}] for number in range(3)
    ]
    assert (deferral.token_requests, deferral.exchanges) == (1, 1)
    assert deferral.milliseconds["ours"] < SLOW * 900, "a loop that waited for the token would stand still for as long"


@pytest.mark.needs_program("chromium")
def test_the_connection_form_makes_a_connection_that_passes_its_test(
    site: AirflowSite, sandbox: Sandbox, stores: Path
) -> None:
    account = sandbox.account
    with connections_page(site.url) as page:
        form = page.add("carto_default", "CARTO")
        draw(form, "airflow-connection.png", **EXAMPLE)
        form.fill(connection_id="carto_form", host=account["api_base_url"], login=account["client_id"], password=SECRET)
        form.show_extra_fields()
        draw(form, "airflow-connection-extras.png", element_default_dataset="shared", element_location="US")
        shown = form.text()
        for field in form_fields().values():
            assert field["label"] in shown
            assert field["description"] in shown
        form.fill(
            element_auth_url=account["auth_url"],
            element_bigquery_endpoint=account["bigquery_endpoint"],
            element_token_store=str(stores / "form.json"),
        )
        assert all(form.is_masked(name) for name in ("element_access_token", "element_token_store"))
        form.save()
        give_port_zero(site, "carto_form")
        page.reload()
        assert "All 4 stages passed" in page.test("carto_form")
        form = page.edit("carto_form")
        assert form.value("login") == account["client_id"]
        assert (form.value("password"), form.is_masked("password")) == ("***", True)


def draw(form: ConnectionForm, name: str, **example: str) -> None:
    """Save a picture of the form with example values, if pictures are wanted."""
    if PICTURES:
        form.fill(**example)
        form.screenshot(Path(PICTURES) / name)


def give_port_zero(site: AirflowSite, conn_id: str) -> None:
    """Set the port of a connection to 0: Airflow 3.3's page tests a missing port as 0, which the API else refuses."""
    connection = {"connection_id": conn_id, "conn_type": "carto", "port": 0}
    site.api.call("PATCH", f"/api/v2/connections/{conn_id}", connection, update_mask="port")


def test_no_secret_shows_after_runs_that_succeed_and_fail(site: AirflowSite, runs: list[Run]) -> None:
    site.add_dags(BROKEN)
    canaries = site.run("canaries")
    states = {task["task_id"]: task["state"] for task in canaries.tasks}
    assert {name for name, state in states.items() if state == "success"} == {
        "asks_False",
        "asks_True",
        "cannot_reach_its_store",
        "has_a_permanent_token",
        "shows_tokens",
    }
    (error,) = site.wait_for(
        lambda: site.all("/api/v2/importErrors", "import_errors"), "The broken DAG file was not parsed"
    )
    assert "ClientRejected" in error["stack_trace"]
    assert not finds(site, [*runs, canaries])


def test_a_secret_in_a_deferred_statement_does_not_show(site: AirflowSite) -> None:
    run = site.run("secretive_deferral")
    assert run.states("ask") == {"success": 1}
    assert not finds(site, [run])
