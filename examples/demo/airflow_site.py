"""A real Airflow of the demo's own: database, API server, scheduler and DAG processor, and the example DAG in it."""

from __future__ import annotations

import json
import secrets
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import requests

from .processes import POLL, Processes, free_port
from .steps import StepFailed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .steps import Steps

DAG_FILE = Path(__file__).parents[1] / "airflow_etl.py"
DAG_ID = "airports"

# Seconds for Airflow's database, for the DAG to be found, for its run, and for one answer of the API server.
MIGRATE_TIMEOUT = 120
FIND_TIMEOUT = 60
RUN_TIMEOUT = 120
ANSWER_TIMEOUT = 20


class Airflow:
    """An Airflow below one directory.

    Args:
        processes: Who runs its components.
    """

    def __init__(self, processes: Processes) -> None:
        self._processes = processes
        self._home = processes.home / "airflow"
        self._url = f"http://127.0.0.1:{free_port()}"
        self._api = requests.Session()
        self._api.trust_env = False
        self._variables = _settings(self._home, self._url)

    def set_up(self) -> None:
        """Make the database and put the DAG in its folder.

        Raises:
            StepFailed: If the database cannot be made.
        """
        dags = self._home / "dags"
        dags.mkdir(parents=True)
        shutil.copy(DAG_FILE, dags)
        self._processes.run("airflow-db", ["airflow", "db", "migrate"], self._variables, timeout=MIGRATE_TIMEOUT)

    def start(self) -> None:
        """Start the components and wait for the API server.

        Raises:
            StepFailed: If it does not come up.
        """
        port = self._url.rpartition(":")[2]
        server = self._start("api-server", "--host", "127.0.0.1", "--port", port, "--workers", "1")
        self._start("scheduler", "--skip-serve-logs")
        self._start("dag-processor")
        self._processes.wait_until(
            "airflow-api-server", server, lambda: self._api.get(f"{self._url}/api/v2/version", timeout=1).ok
        )
        token = self._call("GET", "/auth/token")["access_token"]
        self._api.headers["Authorization"] = f"Bearer {token}"

    def add_connection(self, account: Mapping[str, str]) -> None:
        """Save the account as `carto_default`, as the form of Airflow's own pages does."""
        extras = ("auth_url", "bigquery_endpoint", "token_store")
        connection = {
            "connection_id": "carto_default",
            "conn_type": "carto",
            "host": account["api_base_url"],
            "login": account["client_id"],
            "password": account["client_secret"],
            "extra": json.dumps({name: account[name] for name in extras}),
        }
        self._call("POST", "/api/v2/connections", json=connection)

    def run_dag(self) -> None:
        """Trigger the DAG once Airflow has found it, and wait for its end.

        Raises:
            StepFailed: If it is not found, fails or takes too long.
        """
        self._wait_for_dag()
        run = self._call("POST", f"/api/v2/dags/{DAG_ID}/dagRuns", json={"logical_date": None})["dag_run_id"]
        deadline = time.monotonic() + RUN_TIMEOUT
        state = "queued"
        while state in ("queued", "running"):
            if time.monotonic() > deadline:
                raise self._processes.failed("airflow-scheduler", f"The DAG is still {state} after {RUN_TIMEOUT} s.")
            time.sleep(POLL)
            state = self._call("GET", f"/api/v2/dags/{DAG_ID}/dagRuns/{run}")["state"]
        if state != "success":
            raise self._task_failed(f"The DAG ended as {state}.")

    def _wait_for_dag(self) -> None:
        deadline = time.monotonic() + FIND_TIMEOUT
        while not self._api.get(f"{self._url}/api/v2/dags/{DAG_ID}", timeout=ANSWER_TIMEOUT).ok:
            if time.monotonic() > deadline:
                raise self._processes.failed("airflow-dag-processor", f"The DAG was not found in {FIND_TIMEOUT} s.")
            time.sleep(POLL)

    def _start(self, component: str, *options: str) -> Any:
        return self._processes.start(f"airflow-{component}", ["airflow", component, *options], self._variables)

    def _call(self, method: str, path: str, **content: Any) -> Any:
        answer = self._api.request(method, f"{self._url}{path}", timeout=ANSWER_TIMEOUT, **content)
        if not answer.ok:
            raise self._processes.failed("airflow-api-server", f"{method} {path} was answered {answer.status_code}.")
        return answer.json()

    def _task_failed(self, message: str) -> StepFailed:
        """Give the error with the log of the task attempt that ran last; without one, with the scheduler's."""
        logs = sorted((self._home / "logs").rglob("attempt=*.log"), key=lambda log: log.stat().st_mtime)
        log = logs[-1] if logs else self._processes.log("airflow-scheduler")
        return StepFailed(message, log, self._processes.secrets)


def run_airflow(steps: Steps, processes: Processes, account: Mapping[str, str]) -> None:
    """Set Airflow up, run the example DAG in it, and end Airflow again.

    Args:
        steps: Where this is told.
        processes: Who runs it.
        account: The fields of the CARTO account.

    Raises:
        StepFailed: If a step fails.
    """
    airflow = Airflow(processes)
    with steps.step("Airflow: make a database"):
        airflow.set_up()
    with steps.step("Airflow: start scheduler, DAG processor and API server"):
        airflow.start()
    with steps.step("Airflow: save the connection carto_default"):
        airflow.add_connection(account)
    with steps.step("Airflow: run the DAG of examples/airflow_etl.py"):
        airflow.run_dag()
    with steps.step("Airflow: stop"):
        processes.stop_all()


def _settings(home: Path, url: str) -> dict[str, str]:
    settings = {
        "API__SECRET_KEY": secrets.token_hex(),
        "API_AUTH__JWT_SECRET": secrets.token_hex(),
        "CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "CORE__DAGS_FOLDER": str(home / "dags"),
        "CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
        "CORE__EXECUTOR": "LocalExecutor",
        "CORE__LOAD_EXAMPLES": "False",
        "CORE__PARALLELISM": "1",  # the tasks wait for each other; more workers only cost memory
        "CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        "SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.2",  # seconds between two looks for something to schedule
        "USAGE_DATA_COLLECTION__ENABLED": "False",
    }
    return {"AIRFLOW_HOME": str(home), **{f"AIRFLOW__{name}": value for name, value in settings.items()}}
