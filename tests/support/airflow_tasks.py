"""Tasks of the provider without a scheduler: an operator with a context, or a whole DAG, in this process."""

from __future__ import annotations

import inspect
import shutil
from datetime import datetime, timezone
from pathlib import Path
from textwrap import dedent
from types import SimpleNamespace
from typing import Any

from carto_auth_integrations.warehouse import CartoWarehouse

try:
    from airflow.sdk.execution_time.context import OutletEventAccessors
except ImportError:  # Airflow 2
    from airflow.utils.context import OutletEventAccessors

START = datetime(2026, 1, 1, tzinfo=timezone.utc)


def context_of(
    task_id: str,
    *,
    run_id: str = "manual__1",
    map_index: int = -1,
    try_number: int = 1,
    max_tries: int = 2,
    start: datetime | None = START,
    store: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the context of an operator; what the operator pushes to XCom is in `context["ti"].xcoms`.

    Args:
        task_id: The task.
        run_id: The DAG run.
        map_index: The index of a mapped task, else -1.
        try_number: The first try is 1.
        max_tries: As Airflow counts: a clearing raises it.
        start: When the run started.
        store: The task's state store, which tries share; None where Airflow has none.
    """
    xcoms: dict[str, Any] = {}
    ti = SimpleNamespace(
        dag_id="etl",
        task_id=task_id,
        run_id=run_id,
        map_index=map_index,
        try_number=try_number,
        max_tries=max_tries,
        xcoms=xcoms,
        stats_tags={},
    )
    ti.xcom_push = lambda key, value: xcoms.update({key: value})
    run = SimpleNamespace(dag_id="etl", run_id=run_id, start_date=start)
    state = None if store is None else SimpleNamespace(get=store.get, set=store.__setitem__)
    outlets = OutletEventAccessors()
    return {"ti": ti, "dag_run": run, "run_id": run_id, "outlet_events": outlets, "task_state_store": state}


def execute(operator: Any, context: dict[str, Any]) -> Any:
    """Execute an operator on any thread, without Airflow's check that its task runner does so."""
    return inspect.unwrap(type(operator).execute)(operator, context)


def parse_dag(dag_id: str, source: Path | str) -> Any:
    """Put a DAG file into Airflow's folder, and return the DAG.

    Args:
        dag_id: Which DAG of the file.
        source: The file, or its text, whose indentation is removed.
    """
    try:
        from airflow.dag_processing.dagbag import DagBag
    except ImportError:
        from airflow.models.dagbag import DagBag
    from airflow.settings import DAGS_FOLDER

    folder = Path(DAGS_FOLDER)
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{dag_id}.py"
    if isinstance(source, Path):
        shutil.copy(source, file)
    else:
        file.write_text(dedent(source))
    bag = DagBag(str(file))
    assert not bag.import_errors, bag.import_errors
    return bag.dags[dag_id]


def run_dag(dag: Any) -> Any:
    """Run a DAG to its end in this process, with retries and triggers, and return the DAG run."""
    return dag.test()


def jobs_named(warehouse: CartoWarehouse, name: str) -> list[str]:
    """Return the ids of all jobs whose id contains a name, such as the task's."""
    from carto_auth_integrations.bigquery.client import make_client

    client = make_client(warehouse._tokens, warehouse._tokens.get().details["project_id"], {})
    return [job.job_id for job in client.list_jobs() if name in job.job_id]


def states_of(run: Any) -> dict[str, str]:
    """Return the state of each task of a run; of a mapped task, of each index."""
    tasks = run.get_task_instances()
    return {
        ti.task_id if ti.map_index < 0 else f"{ti.task_id}[{ti.map_index}]": str(ti.state)
        for ti in sorted(tasks, key=lambda ti: (ti.task_id, ti.map_index))
    }


def results_of(run: Any, task_id: str, key: str = "return_value") -> Any:
    """Return the result of a task, or another key of its XCom; of a mapped task, a list with that of each index."""
    tis = sorted((ti for ti in run.get_task_instances() if ti.task_id == task_id), key=lambda ti: ti.map_index)
    found = [ti.xcom_pull(task_ids=task_id, key=key, map_indexes=ti.map_index) for ti in tis]
    return found[0] if tis[0].map_index < 0 else found
