"""A real Prefect for tests and benchmarks: a server, served flows, and everything that the server stores."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from examples.demo.prefect import Prefect
from examples.demo.processes import Processes
from tests.support.processes import ROOT

FLOWS = Path(__file__).with_name("prefect_flows.py")

PATIENCE = 180
"""Seconds after which a process or a run counts as hung; far above what any of them takes on a busy machine."""
GRACE = 30
"""Seconds in which a terminated process of a served flow pauses its deployment and ends."""
PAGE = 200
"""Items that the server returns at once, at most."""
ENDED = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}

SAVE = """
import json, os, sys
from prefect_blocks import CartoCredentials
CartoCredentials(**json.loads(os.environ["ACCOUNT"])).save(sys.argv[1], overwrite=True)
"""


@dataclass(frozen=True)
class Served:
    """A flow that is served: the id of its deployment, and the log of its process and its runs."""

    deployment: str
    log: Path


class PrefectSite(Prefect):
    """A Prefect server that stores as much as it can, for tests that search for secrets in it.

    Args:
        processes: Starts and stops the server and the processes that use it.
    """

    def __init__(self, processes: Processes) -> None:
        super().__init__(
            processes,
            PYTHONPATH=os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))),
            PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT="false",
            PREFECT_RESULTS_PERSIST_BY_DEFAULT="true",
            PREFECT_LOGGING_LEVEL="DEBUG",
            PREFECT_LOGGING_SERVER_LEVEL="DEBUG",
            PREFECT_RUNNER_POLL_FREQUENCY="1",  # seconds, instead of ten, between two looks at the schedule
        )
        self.home = processes.home
        self._numbers = itertools.count(1)

    def save_block(self, name: str, account: dict[str, str]) -> None:
        """Save an account as a block, in a process of its own."""
        self.run("save", ["python", "-c", SAVE, name], ACCOUNT=json.dumps(account))

    @contextmanager
    def serving(self, flow: str, **variables: str) -> Iterator[Served]:
        """Serve a flow of `prefect_flows.py` as a new deployment, while the `with` block runs.

        Args:
            flow: The flow.
            variables: Environment variables of its process and its runs.
        """
        # A new name each time: Prefect pauses a deployment when its process ends, and keeps it paused.
        name = f"{flow}-{next(self._numbers)}"
        path = f"/deployments/name/{flow}/{name}"
        process = self.start_process(name, ["python", str(FLOWS), flow, name], **variables)
        try:
            deployment = self.processes.wait_for(name, lambda: self.api.find(path), "There is no deployment")
            yield Served(deployment["id"], self.processes.log(name))
        finally:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):  # it hangs if its server is gone, and is killed with all others
                process.wait(GRACE)

    def begin_run(self, served: Served, **parameters: Any) -> str:
        """Schedule a run of a deployment for now, and return its id."""
        body = {"parameters": parameters, "state": {"type": "SCHEDULED"}}
        return self.api.call("POST", f"/deployments/{served.deployment}/create_flow_run", body)["id"]

    def ended(self, flow_run: str) -> dict[str, Any]:
        """Wait for the end of a run, and return it as the API shows it."""
        path = f"/flow_runs/{flow_run}"
        self.wait_for(lambda: self.api.get(path)["state_type"] in ENDED, f"The run {flow_run} does not end")
        return self.api.get(path)

    def all_ended(self, flow_runs: list[str]) -> list[dict[str, Any]]:
        """Wait for the end of runs, and return them as the API shows them."""
        return [self.ended(flow_run) for flow_run in flow_runs]

    def wait_for(self, condition: Callable[[], Any], failure: str) -> Any:
        """Call a function until it returns something true, and return that; see `Processes.wait_for`."""
        return self.processes.wait_for("prefect-server", condition, failure)

    def all_of(self, kind: str, **body: Any) -> list[Any]:
        """Return everything of a kind, such as `logs` or `artifacts`."""
        if kind == "events":
            return self._events(body)
        found: list[Any] = []
        while page := self.api.call("POST", f"/{kind}/filter", {"limit": PAGE, "offset": len(found), **body}):
            found += page
        return found

    def _events(self, body: dict[str, Any]) -> list[Any]:
        page = self.api.call("POST", "/events/filter", body)
        found = page["events"]
        while page["next_page"]:
            page = self.api.get(page["next_page"].removeprefix(f"{self.url}/api"))
            found += page["events"]
        return found


@contextmanager
def prefect_site_in(home: Path) -> Iterator[PrefectSite]:
    """Run a Prefect whose processes write all their files below a directory, while the `with` block runs."""
    with Processes(home, timeout=PATIENCE) as processes:
        site = PrefectSite(processes)
        site.start()
        yield site


@pytest.fixture(scope="session")
def prefect_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrefectSite]:
    """The one Prefect server of the session."""
    with prefect_site_in(tmp_path_factory.mktemp("prefect")) as site:
        yield site


@pytest.fixture(scope="session")
def registered_blocks(prefect_site: PrefectSite) -> str:
    """The output of `prefect block register`, which registers the blocks on that server."""
    return prefect_site.run("register", ["prefect", "block", "register", "-m", "prefect_blocks"])
