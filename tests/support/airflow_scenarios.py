"""Scenarios in a real Airflow: a triggerer with many jobs, and loads whose worker is killed."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from carto_auth_integrations import CartoAuth
from carto_auth_integrations.sandbox import Sandbox
from tests.support.airflow_site import AirflowSite, Run

SLOW = 2.0
"""Seconds that the token endpoint takes while a triggerer with many jobs needs a token."""
STUCK = 120.0
"""Seconds by which a request of a load is delayed, so that its worker is killed meanwhile."""
ROWS = 5_000
"""Rows of a load whose worker is killed: few enough for one request, since BigQuery creates the job with the last."""


@dataclass(frozen=True)
class Deferral:
    """A triggerer that was started on many jobs at once.

    Attributes:
        run: The DAG run of the queries.
        milliseconds: The longest pauses of the event loop: `pause` between two ticks, `made here` by any thread of the
            triggerer, `ours` by one callback of a trigger of the queries, and `ours computing` its CPU time.
        token_requests: Requests to the token endpoint between the revocation of the tokens and the last event.
        exchanges: DW tokens that were issued meanwhile.
    """

    run: Run
    milliseconds: dict[str, float]
    token_requests: int
    exchanges: int


def defer_many(site: AirflowSite, sandbox: Sandbox, count: int, *, dag_id: str = "deferred_queries") -> Deferral:
    """Defer queries while there is no triggerer, revoke all tokens, and start a triggerer with a slow token endpoint.

    Args:
        site: The Airflow.
        sandbox: The CARTO of its connection.
        count: How many queries.
        dag_id: The DAG; each index of its task `ask` is deferred once.
    """
    end = site.home / f"{dag_id}-{time.time()}.end"
    site.kill("triggerer")
    watch = site.begin("watch_loop", dag_id=dag_id, until=str(end))
    site.wait_for(lambda: site.count(watch, "deferred") == 1, "The watch was not deferred")
    queries = site.begin(dag_id, count=count)
    site.wait_for(lambda: site.count(queries, "deferred") == count, "Not all tasks were deferred")
    for kind in ("dw", "carto"):
        sandbox.revoke(kind)
    before = sandbox.stats()
    sandbox.fault("token", delay=SLOW)
    site.start_component("triggerer")
    site.wait_for(lambda: site.count(queries, "deferred") == 0, "Not all tasks were resumed")
    after = sandbox.stats()
    end.touch()
    run = site.end(queries)
    sandbox.clear_faults()
    return Deferral(
        run=run,
        milliseconds=site.xcom(site.end(watch), "watch"),
        token_requests=after.count("token") - before.count("token"),
        exchanges=after.issued["dw"] - before.issued["dw"],
    )


def kill_while_uploading(site: AirflowSite, sandbox: Sandbox, file: Path, table: str) -> str:
    """Begin a load, kill its worker during the upload, and return the path of the DAG run."""
    sandbox.fault("upload", delay=STUCK, match="^PUT", count=1)
    before = sandbox.stats().count("upload")
    path = site.begin("killed_loads", loads=[{"source": str(file), "destination": table}])
    return _killed(site, path, lambda: sandbox.stats().count("upload") > before)


def kill_after_the_job(site: AirflowSite, sandbox: Sandbox, file: Path, table: str) -> str:
    """Begin a load, kill its worker after the job but before it knows of it, and return the path of the DAG run."""
    sandbox.fault("upload", cut="after", match="^PUT", count=1)
    sandbox.fault("bigquery", delay=STUCK, match="^GET .*/jobs/carto_killed_loads", skip=1, count=1)
    path = site.begin("killed_loads", loads=[{"source": str(file), "destination": table}])
    return _killed(site, path, lambda: rows_of(sandbox, table) == ROWS)


def write_rows(file: Path) -> Path:
    """Write the file of a load whose worker is to be killed, and return its path."""
    file.write_text("number,text\n" + "".join(f"{number},row {number}\n" for number in range(ROWS)))
    return file


def rows_of(sandbox: Sandbox, table: str) -> int:
    """Return the number of rows of a table, 0 if there is no such table."""
    from google.api_core.exceptions import NotFound

    warehouse = CartoAuth.from_mapping({**sandbox.account, "token_store": "memory:"}).warehouse()
    try:
        rows: int = warehouse.query(f"SELECT COUNT(*) AS n FROM {table}").rows[0]["n"]
    except NotFound:
        return 0
    return rows


def _killed(site: AirflowSite, path: str, is_time: Callable[[], bool]) -> str:
    site.wait_for(is_time, "The load did not get far enough")
    (load,) = [task for task in site.tasks(path) if task["task_id"] == "load"]
    workers = [
        process for process in site.component_processes("scheduler") if load["id"] in " ".join(_cmdline(process))
    ]
    assert len(workers) == 2, f"the supervisor of the task, and the task: {workers}"
    for process in workers:
        process.send_signal(signal.SIGKILL)
    return path


def _cmdline(process: psutil.Process) -> list[str]:
    with suppress(psutil.Error):
        return process.cmdline()
    return []
