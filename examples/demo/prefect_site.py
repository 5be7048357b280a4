"""A real Prefect of the demo's own: a server, the saved block, and the example flow in a process that loads it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import requests

from .processes import free_port

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .processes import Processes
    from .steps import Steps

EXAMPLES = Path(__file__).parents[1]

# Seconds for saving the block, and for the flow.
SAVE_TIMEOUT = 60
FLOW_TIMEOUT = 120


def run_prefect(steps: Steps, processes: Processes, account: Mapping[str, str]) -> None:
    """Start a Prefect server, save the account in one process, run the flow in another, and end the server.

    Args:
        steps: Where this is told.
        processes: Who runs it.
        account: The fields of the CARTO account.

    Raises:
        StepFailed: If a step fails.
    """
    url = f"http://127.0.0.1:{free_port()}"
    settings = {
        "PREFECT_API_URL": f"{url}/api",
        "PREFECT_HOME": str(processes.home / "prefect"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_UI_ENABLED": "false",
    }
    with steps.step("Prefect: start a server"):
        _start_server(processes, url, settings)
    with steps.step('Prefect: save the block "prod"'):
        # The environment, unlike arguments, is nobody else's to read; the flow's own has nothing of it.
        fields = {f"CARTO_{name.upper()}": value for name, value in account.items()}
        save = ["python", str(EXAMPLES / "prefect_save_credentials.py")]
        processes.run("prefect-save", save, {**settings, **fields}, timeout=SAVE_TIMEOUT)
    with steps.step("Prefect: run the flow of examples/prefect_etl.py"):
        processes.run("prefect-flow", ["python", str(EXAMPLES / "prefect_etl.py")], settings, timeout=FLOW_TIMEOUT)
    with steps.step("Prefect: stop"):
        processes.stop_all()


def _start_server(processes: Processes, url: str, settings: Mapping[str, str]) -> None:
    port = url.rpartition(":")[2]
    command = ["prefect", "server", "start", "--host", "127.0.0.1", "--port", port]
    server = processes.start("prefect-server", command, settings)
    with requests.Session() as session:
        session.trust_env = False
        processes.wait_until("prefect-server", server, lambda: session.get(f"{url}/api/health", timeout=1).ok)
