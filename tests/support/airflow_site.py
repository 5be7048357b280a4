"""A real Airflow for tests and benchmarks: its DAG runs, everything that it writes, and the end of a component."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from examples.demo.airflow import Airflow
from examples.demo.processes import Processes

DAGS = Path(__file__).parents[1] / "e2e" / "airflow" / "dags"
"""The DAG files of the tests."""
MODULES = DAGS.parent / "modules"
"""Modules that the DAG files import."""

PATIENCE = 1800
"""Seconds after which a DAG run counts as hung; far above what any of them takes on a busy machine."""
PAGE = 100
"""Objects that the API server returns at once, at most."""


@dataclass(frozen=True)
class Run:
    """A DAG run that has ended.

    Attributes:
        path: Its path in the REST API.
        state: `success` or `failed`.
        tasks: Its task instances, as the REST API shows them.
    """

    path: str
    state: str
    tasks: list[dict[str, Any]]

    def states(self, task_id: str) -> Counter[str]:
        """Count the states of a task's instances."""
        return Counter(task["state"] for task in self.tasks if task["task_id"] == task_id)


class AirflowSite(Airflow):
    """An Airflow with a triggerer, which runs up to eight tasks at once.

    Args:
        processes: Starts and stops its components.
    """

    def __init__(self, processes: Processes) -> None:
        super().__init__(
            processes,
            components=("scheduler", "dag-processor", "triggerer"),
            PYTHONPATH=str(MODULES),
            AIRFLOW__API__EXPOSE_CONFIG="non-sensitive-only",
            AIRFLOW__CORE__PARALLELISM="8",
            AIRFLOW__CORE__TEST_CONNECTION="Enabled",
            AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT="45",  # seconds of silence of a worker that is dead
        )

    def wait_for(self, condition: Callable[[], Any], failure: str) -> Any:
        """Call a function until it returns something true, and return that; see `Processes.wait_for`."""
        return self.processes.wait_for("airflow-api-server", condition, failure)

    def all(self, path: str, key: str) -> list[dict[str, Any]]:
        """Return all objects of a list that the REST API returns page by page."""
        objects: list[dict[str, Any]] = []
        while True:
            page = self.api.get(path, limit=PAGE, offset=len(objects))
            objects += page[key]
            if len(objects) >= page["total_entries"] or not page[key]:
                return objects

    def end(self, path: str) -> Run:
        """Wait for the end of a DAG run, and return it."""
        return Run(path, self.wait_for_end(path), self.tasks(path))

    def run(self, dag_id: str, /, **conf: Any) -> Run:
        """Trigger a DAG, wait for the end of the run, and return it."""
        return self.end(self.begin(dag_id, **conf))

    def tasks(self, path: str) -> list[dict[str, Any]]:
        """Return the task instances of a run."""
        return self.all(f"{path}/taskInstances", "task_instances")

    def count(self, path: str, state: str) -> int:
        """Count the task instances of a run that are in a state."""
        count: int = self.api.get(f"{path}/taskInstances", state=state, limit=1)["total_entries"]
        return count

    def xcom(self, run: Run, task_id: str, map_index: int = -1, key: str = "return_value") -> Any:
        """Return the result of a task, or what it stored in XCom under another key."""
        path = f"{run.path}/taskInstances/{task_id}/xcomEntries/{key}"
        return self.api.get(path, map_index=map_index, deserialize="false")["value"]

    def logs(self, run: Run) -> Iterator[str]:
        """Yield the logs of all tries of all tasks of a run, as the REST API shows them."""
        for task in run.tasks:
            for number in range(1, task["try_number"] + 1):
                path = f"{run.path}/taskInstances/{task['task_id']}/logs/{number}"
                yield json.dumps(self.api.get(path, map_index=task["map_index"], full_content="true"))

    def files(self) -> list[Path]:
        """Return all files that Airflow wrote: its database, and the logs of components, DAG files and tasks."""
        return [path for path in self.processes.home.rglob("*") if path.is_file()]

    def component_logs(self) -> list[Path]:
        """Return the files with the output of the components."""
        return list(self.processes.home.glob("*.log"))

    def component_processes(self, component: str) -> list[psutil.Process]:
        """Return the process of a component, such as `scheduler`, and all its descendants."""
        process = psutil.Process(self.processes.started[f"airflow-{component}"].pid)
        return [process, *process.children(recursive=True)]

    def kill(self, component: str) -> None:
        """Kill a component, as a crash does."""
        killed = self.component_processes(component)
        for process in killed:
            process.kill()
        self.wait_for(lambda: all(map(_has_ended, killed)), f"The {component} is still alive")


@contextmanager
def airflow_site_in(home: Path) -> Iterator[AirflowSite]:
    """Run an Airflow that writes all its files below a directory, while the `with` block runs."""
    with Processes(home, timeout=PATIENCE) as processes:
        site = AirflowSite(processes)
        site.make_database()
        site.start()
        yield site


def _has_ended(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE  # in a container, nothing may reap orphans
    except psutil.NoSuchProcess:
        return True
