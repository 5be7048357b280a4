"""A real Airflow on this machine: API server, scheduler, DAG processor and, for tests, a triggerer."""

from __future__ import annotations

import json
import secrets
import shutil
from functools import partial
from typing import TYPE_CHECKING

from .api import Api
from .processes import free_port

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from .processes import Processes

STANDARD_FIELDS = {"host": "api_base_url", "login": "client_id", "password": "client_secret"}
"""Airflow's own fields of a connection, and the account's fields that they hold; the rest are extras."""


class Airflow:
    """An Airflow with SQLite and LocalExecutor, without any DAG.

    Args:
        processes: Starts and stops its components.
        components: What runs besides the API server.
        variables: Further environment variables of the components.

    Attributes:
        home: Airflow's home directory.
        url: Where its pages are.
        api: Its REST API.
    """

    def __init__(
        self, processes: Processes, components: tuple[str, ...] = ("scheduler", "dag-processor"), **variables: str
    ) -> None:
        self.home = processes.home / "airflow"
        self.url = f"http://127.0.0.1:{free_port()}"
        self.api = Api(processes, "airflow-api-server", self.url)
        self.processes = processes
        self._components = components
        self._dags = self.home / "dags"
        self._variables = {**_settings(self.home, self.url), **variables}

    def make_database(self) -> None:
        """Make the metadata database and an empty DAGs folder.

        Raises:
            StepFailed: If it fails.
        """
        self._dags.mkdir(parents=True)
        self.processes.run("airflow-db", ["airflow", "db", "migrate"], self._variables)

    def start(self) -> None:
        """Start the components, and wait until all are healthy.

        Raises:
            StepFailed: If one of them is not.
        """
        for component in ("api-server", *self._components):
            self.start_component(component)
        self._wait_for_server("/api/v2/version")
        self.api.authorize(self.api.get("/auth/token")["access_token"])
        for component in self._components:
            is_healthy = partial(self._is_healthy, component)
            self.processes.wait_for(f"airflow-{component}", is_healthy, f"The {component} is not healthy")
        # The first request sets up the API that tasks call, which takes up to half a minute; tasks would time out.
        self._wait_for_server("/execution/health")

    def start_component(self, component: str) -> None:
        """Start one component, such as `scheduler`."""
        self.processes.start(f"airflow-{component}", ["airflow", component], self._variables)

    def save_connection(self, conn_id: str, account: Mapping[str, str]) -> None:
        """Save the fields of a CARTO account as a connection, as Airflow's own page does."""
        standard = {own: account[name] for own, name in STANDARD_FIELDS.items()}
        extras = {name: value for name, value in account.items() if name not in STANDARD_FIELDS.values()}
        connection = {"connection_id": conn_id, "conn_type": "carto", **standard, "extra": json.dumps(extras)}
        self.api.call("POST", "/api/v2/connections", connection)

    def add_dags(self, *files: Path) -> None:
        """Copy DAG files into the DAGs folder."""
        for file in files:
            shutil.copy(file, self._dags)

    def begin(self, dag_id: str, /, **conf: object) -> str:
        """Trigger a DAG as soon as Airflow has parsed it.

        Args:
            dag_id: The DAG.
            conf: The configuration of the run.

        Returns:
            The path of the DAG run in the REST API.

        Raises:
            StepFailed: If there is no such DAG.
        """
        dag = f"/api/v2/dags/{dag_id}"
        self.processes.wait_for("airflow-dag-processor", lambda: self.api.find(dag), f"DAG {dag_id} was not found")
        run = self.api.call("POST", f"{dag}/dagRuns", {"logical_date": None, "conf": conf})
        return f"{dag}/dagRuns/{run['dag_run_id']}"

    def wait_for_end(self, path: str) -> str:
        """Wait for the end of a DAG run, and return its state: `success` or `failed`.

        Args:
            path: Its path in the REST API.

        Raises:
            StepFailed: If it takes too long.
        """

        def end_state() -> str | None:
            state: str = self.api.get(path)["state"]
            return state if state in ("success", "failed") else None

        return self.processes.wait_for("airflow-scheduler", end_state, f"{path} does not end")

    def run_dag(self, dag_id: str) -> None:
        """Trigger a DAG, and wait until its run has succeeded.

        Raises:
            StepFailed: If it fails, with the log of the task that ran last.
        """
        if self.wait_for_end(self.begin(dag_id)) == "success":
            return
        logs = sorted((self.home / "logs").rglob("attempt=*.log"), key=lambda log: log.stat().st_mtime)
        log = logs[-1] if logs else self.processes.log("airflow-scheduler")
        raise self.processes.failed(f"The DAG {dag_id} failed.", log)

    def _wait_for_server(self, path: str) -> None:
        self.processes.wait_for("airflow-api-server", lambda: self.api.find(path), "Airflow does not answer")

    def _is_healthy(self, component: str) -> bool:
        health = self.api.get("/api/v2/monitor/health")[component.replace("-", "_")]
        return bool(health["status"] == "healthy")


def _settings(home: Path, url: str) -> dict[str, str]:
    settings = {
        "API__BASE_URL": url,
        "API__HOST": "127.0.0.1",
        "API__PORT": url.rpartition(":")[2],
        "API__SECRET_KEY": secrets.token_hex(),
        "API__WORKERS": "1",
        "API_AUTH__JWT_SECRET": secrets.token_hex(),
        "CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "CORE__DAGS_FOLDER": str(home / "dags"),
        "CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
        "CORE__EXECUTOR": "LocalExecutor",
        "CORE__LOAD_EXAMPLES": "False",
        "CORE__PARALLELISM": "1",  # the demo's tasks run one after the other; more workers only cost memory
        "CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        "DAG_PROCESSOR__REFRESH_INTERVAL": "1",  # seconds between two searches for new files
        "DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home / 'airflow.db'}?timeout=60",  # seconds to wait for a lock
        "LOGGING__TRIGGER_LOG_SERVER_PORT": str(free_port()),
        "LOGGING__WORKER_LOG_SERVER_PORT": str(free_port()),
        "SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.2",  # seconds between two searches for tasks to schedule
        "USAGE_DATA_COLLECTION__ENABLED": "False",
        "WORKERS__EXECUTION_API_TIMEOUT": "120",  # seconds
    }
    return {"AIRFLOW_HOME": str(home), **{f"AIRFLOW__{name}": value for name, value in settings.items()}}
