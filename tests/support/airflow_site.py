"""A real Airflow for tests and benchmarks: `airflow standalone` on 127.0.0.1, driven through its REST API."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import requests

from examples.demo.processes import Processes
from tests.support.processes import free_port

DAGS = Path(__file__).parents[1] / "e2e" / "airflow" / "dags"
"""The DAG files of these tests."""
MODULES = DAGS.parent / "modules"
"""What these import beside packages."""

PATIENCE = 1800
"""Seconds after which a DAG run counts as hung; far above what any of them takes on a busy machine."""
ANSWER_TIMEOUT = 60
"""Seconds for one answer of the API server, which shares two cores with eight tasks."""
POLL = 0.5
"""Seconds between two looks, which cost the API server something."""
PAGE = 100
"""Objects the API server gives at once, at most."""
STANDARD_FIELDS = {"host": "api_base_url", "login": "client_id", "password": "client_secret"}
"""Airflow's own fields of a connection, and the account's fields that they hold; the rest are extras."""


@dataclass(frozen=True)
class Run:
    """A DAG run that has ended.

    Attributes:
        path: Where the REST API shows it.
        state: `success` or `failed`.
        tasks: Its task instances, as the REST API shows them.
    """

    path: str
    state: str
    tasks: list[dict[str, Any]]

    def states(self, task_id: str) -> Counter[str]:
        """Count the states of a task's instances."""
        return Counter(task["state"] for task in self.tasks if task["task_id"] == task_id)


class AirflowSite:
    """An Airflow below one directory: scheduler with LocalExecutor, DAG processor, triggerer and API server.

    Args:
        processes: Who runs it, and ends it.
        parallelism: Tasks that run at the same time, at most.
        settings: Further options of Airflow's configuration, `SECTION__OPTION`.
    """

    def __init__(self, processes: Processes, *, parallelism: int = 8, **settings: str) -> None:
        self.home = processes.home / "airflow"
        self.database = self.home / "airflow.db"
        self.url = f"http://127.0.0.1:{free_port()}"
        self.variables = _variables(self.home, self.url, parallelism, settings)
        self._processes = processes
        self._api = requests.Session()
        self._api.trust_env = False
        self._standalone: Any = None
        self._added: list[Any] = []  # components that were started beside it

    def start(self) -> None:
        """Start it without any DAG."""
        (self.home / "dags").mkdir(parents=True)
        self._standalone = self._processes.start("standalone", ["airflow", "standalone"], self.variables)
        until(self._is_up, "Airflow does not answer")
        self._api.headers["Authorization"] = f"Bearer {self.get('/auth/token')['access_token']}"
        until(self._is_healthy, "Airflow is not healthy")
        # Its first request makes the API that tasks talk to, for half a minute on a busy machine: not at a task's cost.
        self._api.get(f"{self.url}/execution/health", timeout=PATIENCE)

    def add_dags(self, *files: Path) -> None:
        """Put DAG files into its folder, and wait until it has read them."""
        for file in files:
            shutil.copy(file, self.home / "dags")
        until(lambda: self._has_parsed(files), "the DAG files were not parsed")

    def get(self, path: str, **parameters: Any) -> Any:
        """Give what the REST API answers to GET."""
        return self.call("GET", path, params=parameters)

    def call(self, method: str, path: str, **content: Any) -> Any:
        """Give what the REST API answers to a request, read from JSON."""
        answer = self._api.request(method, f"{self.url}{path}", timeout=ANSWER_TIMEOUT, **content)
        assert answer.ok, f"{method} {path} was answered {answer.status_code}: {answer.text}"
        return answer.json() if answer.content else None

    def all(self, path: str, key: str) -> list[dict[str, Any]]:
        """Give all objects of a list that the REST API gives page by page."""
        objects: list[dict[str, Any]] = []
        while True:
            page = self.get(path, limit=PAGE, offset=len(objects))
            objects += page[key]
            if len(objects) >= page["total_entries"] or not page[key]:
                return objects

    def save_connection(self, conn_id: str, account: Mapping[str, str], **fields: str) -> None:
        """Save an account of the sandbox as a connection, as the form of Airflow's own pages does."""
        account = {**account, **fields}
        standard = {own: account[name] for own, name in STANDARD_FIELDS.items()}
        extras = {name: value for name, value in account.items() if name not in STANDARD_FIELDS.values()}
        connection = {"connection_id": conn_id, "conn_type": "carto", **standard, "extra": json.dumps(extras)}
        self.call("POST", "/api/v2/connections", json=connection)

    def begin(self, dag_id: str, /, **conf: Any) -> str:
        """Trigger a DAG, and give the path of the run."""
        runs = f"/api/v2/dags/{dag_id}/dagRuns"
        run = self.call("POST", runs, json={"logical_date": None, "conf": conf})["dag_run_id"]
        return f"{runs}/{run}"

    def end(self, path: str) -> Run:
        """Wait for the end of a run."""
        until(lambda: self.get(path)["state"] in ("success", "failed"), f"{path} does not end")
        return Run(path, self.get(path)["state"], self.tasks(path))

    def run(self, dag_id: str, /, **conf: Any) -> Run:
        """Trigger a DAG, and wait for the end of the run."""
        return self.end(self.begin(dag_id, **conf))

    def tasks(self, path: str) -> list[dict[str, Any]]:
        """Give the task instances of a run."""
        return self.all(f"{path}/taskInstances", "task_instances")

    def count(self, path: str, state: str) -> int:
        """Count the task instances of a run that are in a state."""
        count: int = self.get(f"{path}/taskInstances", state=state, limit=1)["total_entries"]
        return count

    def xcom(self, run: Run, task_id: str, map_index: int = -1, key: str = "return_value") -> Any:
        """Give what a task returned, or left under another key."""
        path = f"{run.path}/taskInstances/{task_id}/xcomEntries/{key}"
        return self.get(path, map_index=map_index, deserialize="false")["value"]

    def logs(self, run: Run) -> Iterator[str]:
        """Give the logs of all tries of all tasks of a run, as the REST API shows them."""
        for task in run.tasks:
            for number in range(1, task["try_number"] + 1):
                path = f"{run.path}/taskInstances/{task['task_id']}/logs/{number}"
                yield json.dumps(self.get(path, map_index=task["map_index"], full_content="true"))

    def files(self) -> list[Path]:
        """Give all that Airflow wrote: its database, logs of the components, of the DAG files and of the tasks."""
        return [path for path in self._processes.home.rglob("*") if path.is_file()]

    def component_logs(self) -> list[Path]:
        """Give what the components themselves wrote to their standard output."""
        return list(self._processes.home.glob("*.log"))

    def processes(self, component: str) -> list[psutil.Process]:
        """Give the processes of a component, `scheduler` or another, and of what it started."""
        started = [psutil.Process(process.pid) for process in self._added if process.poll() is None]
        started += psutil.Process(self._standalone.pid).children()
        found = []
        for process in started:
            with suppress(psutil.Error):
                if component in " ".join(process.cmdline()):
                    found += [process, *process.children(recursive=True)]
        return found

    def kill(self, component: str) -> None:
        """End a component at once, as a crash does."""
        killed = self.processes(component)
        for process in killed:
            process.kill()
        until(lambda: all(map(_has_ended, killed)), f"{component} lives on")

    def start_component(self, component: str) -> None:
        """Start a component beside those of `airflow standalone`."""
        self._added.append(self._processes.start(component, ["airflow", component], self.variables))

    def _is_up(self) -> bool:
        assert self._standalone.poll() is None, self._processes.log("standalone").read_text()
        with suppress(requests.RequestException):
            return self._api.get(f"{self.url}/api/v2/version", timeout=ANSWER_TIMEOUT).ok
        return False

    def _is_healthy(self) -> bool:
        health = self.get("/api/v2/monitor/health")
        return all(health[name]["status"] == "healthy" for name in ("scheduler", "dag_processor", "triggerer"))

    def _has_parsed(self, files: tuple[Path, ...]) -> bool:
        parsed = {dag["relative_fileloc"] for dag in self.all("/api/v2/dags", "dags")}
        parsed |= {error["filename"] for error in self.all("/api/v2/importErrors", "import_errors")}
        return {file.name for file in files} <= {Path(name).name for name in parsed}


def until(condition: Callable[[], bool], otherwise: str) -> None:
    """Wait for something that Airflow brings about."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, otherwise
        time.sleep(POLL)


def _has_ended(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE  # in a container, nobody may take the dead away
    except psutil.NoSuchProcess:
        return True


def _variables(home: Path, url: str, parallelism: int, settings: Mapping[str, str]) -> dict[str, str]:
    port = url.rpartition(":")[2]
    options = {
        "API__BASE_URL": url,
        "API__HOST": "127.0.0.1",
        "API__PORT": port,
        "API__SECRET_KEY": secrets.token_hex(),
        "API__WORKERS": "1",
        "API_AUTH__JWT_SECRET": secrets.token_hex(),
        "CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "CORE__DAGS_FOLDER": str(home / "dags"),
        "CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
        "CORE__EXECUTOR": "LocalExecutor",
        "CORE__FERNET_KEY": _fernet_key(),
        "CORE__LOAD_EXAMPLES": "False",
        "CORE__MAX_ACTIVE_TASKS_PER_DAG": str(parallelism),
        "CORE__PARALLELISM": str(parallelism),
        "CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        "CORE__TEST_CONNECTION": "Enabled",
        "DAG_PROCESSOR__REFRESH_INTERVAL": "1",  # seconds between two looks for new files
        "DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home / 'airflow.db'}?timeout=60",  # seconds to wait for a writer
        "LOGGING__TRIGGER_LOG_SERVER_PORT": str(free_port()),
        "LOGGING__WORKER_LOG_SERVER_PORT": str(free_port()),
        "SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.2",  # seconds between two looks for something to schedule
        "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "45",  # seconds of silence after which a worker is dead
        "USAGE_DATA_COLLECTION__ENABLED": "False",
        "WORKERS__EXECUTION_API_TIMEOUT": "120",  # seconds
        **settings,
    }
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    return {
        "AIRFLOW_HOME": str(home),
        "HOME": str(home),
        "PYTHONPATH": str(MODULES),
        "PATH": path,  # `airflow standalone` starts `airflow scheduler`
        **{f"AIRFLOW__{name}": value for name, value in options.items()},
    }


def _fernet_key() -> str:
    from cryptography.fernet import Fernet

    return Fernet.generate_key().decode()
