"""A real Prefect for tests: a server of its own on 127.0.0.1, served flows, and the API as anyone may ask it."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
from requests.adapters import HTTPAdapter
from urllib3 import Retry

from examples.demo.processes import Processes, free_port

ROOT = Path(__file__).parents[2]
FLOWS = Path(__file__).with_name("prefect_flows.py")

PATIENCE = 180
"""Seconds after which a process or a run counts as hung; far above what any of them takes on a busy machine."""
GRACE = 30
"""Seconds in which a served flow that is told to end pauses its deployment, and ends."""
POLL = 0.2
"""Seconds between two questions to the server."""
BUSY = Retry(8, connect=0, read=0, status_forcelist=[503], backoff_factor=0.2, allowed_methods=None)
"""The server says 503 while its database is locked; Prefect's own clients ask again as well."""
PAGE = 200
"""Items that the server gives at a time, its own limit."""
ENDED = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}

SAVE = """
import json, os, sys
from prefect_blocks import CartoCredentials
CartoCredentials(**json.loads(os.environ["ACCOUNT"])).save(sys.argv[1], overwrite=True)
"""


@dataclass(frozen=True)
class Served:
    """A flow that is served: the id of its deployment, and what its process and its runs say."""

    deployment: str
    log: Path


class PrefectSite:
    """A Prefect server and the processes that talk to it.

    Args:
        processes: Who starts and ends them.
    """

    def __init__(self, processes: Processes) -> None:
        self.processes = processes
        self.home = processes.home
        self.url = f"http://127.0.0.1:{free_port()}"
        self.settings = {
            "HOME": str(self.home),
            "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))),
            "PREFECT_HOME": str(self.home / "prefect"),
            "PREFECT_API_URL": f"{self.url}/api",
            "PREFECT_SERVER_UI_API_URL": f"{self.url}/api",  # the pages would ask at port 4200
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
            # Whatever is written at all is to be there when a test looks for secrets in it.
            "PREFECT_RESULTS_PERSIST_BY_DEFAULT": "true",
            "PREFECT_LOGGING_LEVEL": "DEBUG",
            "PREFECT_LOGGING_SERVER_LEVEL": "DEBUG",
            # Nobody waits ten seconds for the next look at the schedule.
            "PREFECT_RUNNER_POLL_FREQUENCY": "1",
        }
        self._numbers = itertools.count(1)
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.headers["Connection"] = "close"  # the server closes an idle connection, maybe just as it is used
        self._session.mount(self.url, HTTPAdapter(max_retries=BUSY))

    def start(self) -> None:
        """Start the server and wait until it answers."""
        port = self.url.rpartition(":")[2]
        command = ["prefect", "server", "start", "--host", "127.0.0.1", "--port", port]
        server = self.processes.start("server", command, self.settings)
        self.processes.wait_until("server", server, lambda: self._session.get(f"{self.url}/api/health", timeout=1).ok)

    def run(self, name: str, command: list[str], **variables: str) -> str:
        """Run a program of this Python environment to its end, and give all that it has said so far under its name.

        Args:
            name: What its log is called.
            command: Program or `python`, and its arguments.
            variables: Environment variables beside those that lead to this server.
        """
        process = self.processes.start(name, command, {**self.settings, **variables})
        code = process.wait(PATIENCE)
        said = self.processes.log(name).read_text()
        assert code == 0, said
        return said

    def save_block(self, name: str, account: dict[str, str]) -> None:
        """Save an account as a block, in a process of its own."""
        self.run("save", ["python", "-c", SAVE, name], ACCOUNT=json.dumps(account))

    @contextmanager
    def serving(self, flow: str, **variables: str) -> Iterator[Served]:
        """Serve a flow of `prefect_flows.py` for a block, as a new deployment.

        Args:
            flow: The flow.
            variables: Environment variables of its process, and so of its runs.
        """
        # A name of its own each time: Prefect pauses a deployment when its server ends, and keeps it paused.
        name = f"{flow}-{next(self._numbers)}"
        process = self.processes.start(name, ["python", str(FLOWS), flow, name], {**self.settings, **variables})
        try:
            self.processes.wait_until(name, process, lambda: self._deployment(flow, name) is not None)
            yield Served(self._deployment(flow, name)["id"], self.processes.log(name))
        finally:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):  # it hangs where its server is gone, and the site's end kills it
                process.wait(GRACE)

    def begin_run(self, served: Served, **parameters: Any) -> str:
        """Ask for a run of a deployment, as soon as may be, and give its id."""
        body = {"parameters": parameters, "state": {"type": "SCHEDULED"}}
        return self.ask("POST", f"/deployments/{served.deployment}/create_flow_run", body)["id"]

    def flow_run(self, flow_run: str) -> dict[str, Any]:
        """Give what the server knows of a run."""
        return self.ask("GET", f"/flow_runs/{flow_run}")

    def ended(self, flow_run: str) -> dict[str, Any]:
        """Wait for the end of a run, and give what the server knows of it."""
        return self.wait_for(lambda: self.flow_run(flow_run), lambda run: run["state_type"] in ENDED)

    def all_ended(self, flow_runs: list[str]) -> list[dict[str, Any]]:
        """Wait for the end of runs, and give what the server knows of them."""
        return [self.ended(flow_run) for flow_run in flow_runs]

    def wait_for(self, look: Callable[[], Any], is_it: Callable[[Any], Any]) -> Any:
        """Look until it is so, and give what was seen last."""
        deadline = time.monotonic() + PATIENCE
        while not is_it(seen := look()):
            assert time.monotonic() < deadline, seen
            time.sleep(POLL)
        return seen

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """Ask the API, and give its answer."""
        answer = self._session.request(method, f"{self.url}/api{path}", json=body, timeout=PATIENCE)
        assert answer.ok, f"{path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    def all_of(self, kind: str, **body: Any) -> list[Any]:
        """Give everything of a kind, such as `logs` or `artifacts`."""
        if kind == "events":
            return self._events(body)
        found: list[Any] = []
        while page := self.ask("POST", f"/{kind}/filter", {"limit": PAGE, "offset": len(found), **body}):
            found += page
        return found

    def _events(self, body: dict[str, Any]) -> list[Any]:
        page = self.ask("POST", "/events/filter", body)
        found = page["events"]
        while page["next_page"]:
            page = self.ask("GET", page["next_page"].removeprefix(f"{self.url}/api"))
            found += page["events"]
        return found

    def _deployment(self, flow: str, name: str) -> Any:
        answer = self._session.get(f"{self.url}/api/deployments/name/{flow}/{name}", timeout=PATIENCE)
        return answer.json() if answer.ok else None


@contextmanager
def prefect_site_in(home: Path) -> Iterator[PrefectSite]:
    """Run a Prefect for a block, with a folder for all that it writes, and leave no process behind."""
    with Processes(home, secrets=[]) as processes:
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
    """The blocks on that server, and what `prefect block register` says of them."""
    return prefect_site.run("register", ["prefect", "block", "register", "-m", "prefect_blocks"])
