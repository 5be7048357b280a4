"""The demo's story: a local CARTO, the DAG in Airflow, the flow in Prefect, and what the warehouse then holds."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType

    from .steps import Steps

ROOT = Path(__file__).parents[2]
MAP = ROOT / "demo-map.png"

# Seconds that tokens live here, instead of a day and an hour: few outlive the task that asked for them.
CARTO_TOKEN_LIFETIME = 10
DW_TOKEN_LIFETIME = 3

AGAIN = 0.5
"""Seconds after which an interruption that had no effect is raised again."""

INTERRUPTED = 128 + signal.SIGINT
"""The exit code of a program that Ctrl-C ended."""


def main() -> int:
    """Tell the story; whatever ends it, no process and no file is left behind but the map."""
    from .steps import StepFailed, Steps

    steps = Steps()
    steps.say("The examples in a real Airflow and a real Prefect, against a local CARTO: about two minutes.")
    try:
        with tempfile.TemporaryDirectory(prefix="carto-demo-", ignore_cleanup_errors=True) as home:
            tell(steps, Path(home))
    except StepFailed as failure:
        steps.show_failure(failure)
        return 1
    except KeyboardInterrupt:
        steps.say("Interrupted; everything the demo started is stopped and removed.")
        return INTERRUPTED
    return 0


def tell(steps: Steps, home: Path) -> None:
    """Run all steps, and show what came of them.

    Args:
        steps: Where they are told.
        home: An empty directory for all files.

    Raises:
        StepFailed: If one fails.
    """
    from carto_auth_integrations.sandbox import Sandbox, SandboxOptions

    from .airflow_site import run_airflow
    from .prefect_site import run_prefect
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


class Interruptible:
    """A block that Ctrl-C or SIGTERM ends, for certain; after it, neither disturbs the tidying up.

    The interruption is raised again until the block ends: some library, somewhere in an import or a destructor, always
    has a bare `except` that swallows the first one.
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
    os.environ["NO_PROXY"] = "127.0.0.1"  # a proxy of this machine has no business with its own servers
    sys.exit(main())
