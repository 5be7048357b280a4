"""Run the demo: a local CARTO, the DAG in Airflow, the flow in Prefect, and the tables that they have loaded."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import FrameType

    from .processes import Processes
    from .steps import Steps

EXAMPLES = Path(__file__).parents[1]
MAP = EXAMPLES.parent / "demo-map.png"

# Seconds that tokens live here, instead of a day and an hour: most expire during the task that requested them.
CARTO_TOKEN_LIFETIME = 10
DW_TOKEN_LIFETIME = 3

AGAIN = 0.5
"""Seconds after which KeyboardInterrupt is raised again if it had no effect."""

INTERRUPTED = 128 + signal.SIGINT
"""The exit code of a program that Ctrl-C ended."""


def main() -> int:
    """Run the demo and return its exit code; it always stops its processes and removes its files, except the map."""
    from .steps import StepFailed, Steps

    steps = Steps()
    steps.say("The examples in a real Airflow and a real Prefect, against a local CARTO: about two minutes.")
    try:
        with tempfile.TemporaryDirectory(prefix="carto-demo-", ignore_cleanup_errors=True) as home:
            run_demo(steps, Path(home))
    except StepFailed as failure:
        steps.show_failure(failure)
        return 1
    except KeyboardInterrupt:
        steps.say("Interrupted; everything the demo started is stopped and removed.")
        return INTERRUPTED
    return 0


def run_demo(steps: Steps, home: Path) -> None:
    """Run all steps, and show the results.

    Args:
        steps: Prints them.
        home: An empty directory for all files.

    Raises:
        StepFailed: If one fails.
    """
    from carto_auth_integrations.sandbox import Sandbox, SandboxOptions

    from .processes import Processes
    from .report import draw_map, read_back, show_results

    options = SandboxOptions(carto_token_lifetime=CARTO_TOKEN_LIFETIME, dw_token_lifetime=DW_TOKEN_LIFETIME)
    sandbox = Sandbox(options)
    with Processes(home, secrets=[options.client_secret]) as processes:
        try:
            with Interruptible():
                with steps.step("Start a local CARTO: login, API and BigQuery"):
                    sandbox.start()
                    sandbox.start_emulator()
                account = {**sandbox.account, "token_store": str(home / "tokens.json")}
                run_airflow(steps, processes, account)
                run_prefect(steps, processes, account)
                with steps.step("Read both tables back"):
                    results = read_back(account)
                with steps.step("Draw the map"):
                    draw_map(results, MAP)
                show_results(steps, results, sandbox.stats(), options, MAP)
        finally:
            sandbox.stop()


def run_airflow(steps: Steps, processes: Processes, account: Mapping[str, str]) -> None:
    """Start Airflow, run the example DAG in it, and stop Airflow."""
    from .airflow import Airflow

    airflow = Airflow(processes)
    with steps.step("Airflow: make a database"):
        airflow.make_database()
    with steps.step("Airflow: start scheduler, DAG processor and API server"):
        airflow.start()
    with steps.step("Airflow: save the connection carto_default"):
        airflow.save_connection("carto_default", account)
    with steps.step("Airflow: run the DAG of examples/airflow_etl.py"):
        airflow.add_dags(EXAMPLES / "airflow_etl.py")
        airflow.run_dag("airports")
    with steps.step("Airflow: stop"):
        processes.stop_all()


def run_prefect(steps: Steps, processes: Processes, account: Mapping[str, str]) -> None:
    """Start a Prefect server, save the account in one process, run the flow in another, and stop the server."""
    from .prefect import Prefect

    prefect = Prefect(processes, PREFECT_SERVER_UI_ENABLED="false")
    with steps.step("Prefect: start a server"):
        prefect.start()
    with steps.step('Prefect: save the block "prod"'):
        # In the environment, since all users can read the arguments of a process; the flow's environment has none.
        fields = {f"CARTO_{name.upper()}": value for name, value in account.items()}
        prefect.run("prefect-save", ["python", str(EXAMPLES / "prefect_save_credentials.py")], **fields)
    with steps.step("Prefect: run the flow of examples/prefect_etl.py"):
        prefect.run("prefect-flow", ["python", str(EXAMPLES / "prefect_etl.py")])
    with steps.step("Prefect: stop"):
        processes.stop_all()


class Interruptible:
    """A block that Ctrl-C or SIGTERM always ends; afterwards both are ignored, so that the cleanup is not disturbed.

    KeyboardInterrupt is raised again until the block ends, as the first one may be swallowed by a bare `except` of some
    library, in an import or a destructor.
    """

    def __enter__(self) -> None:
        self._over = False
        for each in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM):
            signal.signal(each, self._interrupt)

    def __exit__(self, *error: object) -> None:
        self._over = True
        signal.setitimer(signal.ITIMER_REAL, 0)

    def _interrupt(self, _number: int, _frame: FrameType | None) -> None:
        if self._over:
            return
        signal.setitimer(signal.ITIMER_REAL, AGAIN)
        raise KeyboardInterrupt


if __name__ == "__main__":
    os.environ["NO_PROXY"] = "127.0.0.1"  # the servers are on this machine: no proxy
    sys.exit(main())
