"""The BigQuery emulator as a child process: started on first need, watched, and gone with its parent."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from .emulator_env import emulator_python
from .errors import SandboxError

_CHILD = Path(__file__).with_name("emulator_child.py")

# What an emulator needs of our environment: to find system libraries and Windows itself, and to speak UTF-8.
_ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "SYSTEMROOT", "LANG", "LC_ALL")

# Seconds between two looks at whether the emulator is up, and that it gets to end before it is killed.
POLL = 0.05
GRACE = 5

# Seconds for one request to a new emulator, whose first answer waits for DuckDB to set itself up.
SETUP_TIMEOUT = 60

# Tells the child that its parent lives and will clean up.
_FAREWELL = b"."

# How much of the log an error message shows, in characters.
TAIL = 2000


class Emulator:
    """A `local-bigquery`, our own or one that runs already.

    Args:
        project_id: Its project.
        datasets: Datasets to create in it.
        url: One that runs already; None starts our own.
        start_timeout: Seconds our own may take to start.
        python: Finds the interpreter of its environment, making the environment if need be.
    """

    def __init__(
        self,
        project_id: str,
        datasets: Sequence[str],
        *,
        url: str | None,
        start_timeout: float,
        python: Callable[[], Path] = emulator_python,
    ) -> None:
        self._project_id = project_id
        self._datasets = datasets
        self._foreign_url = url
        self._start_timeout = start_timeout
        self._python = python
        self._lock = threading.Lock()
        self._url: str | None = None
        self._failure: SandboxError | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._home: Path | None = None

    @property
    def pid(self) -> int | None:
        """Process id of our own emulator while there is one."""
        return None if self._process is None else self._process.pid

    @property
    def log_file(self) -> Path | None:
        """Where our own emulator writes its output."""
        return None if self._home is None else self._home / "emulator.log"

    def url(self) -> str:
        """Where the emulator answers; starts it if need be.

        Raises:
            SandboxError: It does not start, did not start the last time, or has died.
        """
        with self._lock:
            if self._failure is not None:
                raise self._failure
            url = self._url or self._start()
            if self._has_died():
                raise self._died("The BigQuery emulator has died")
            return url

    def start(self) -> None:
        """Starts the emulator unless it runs; tries again after a failure, and anew after its death.

        Raises:
            SandboxError: It does not start.
        """
        with self._lock:
            self._failure = None
            if self._has_died():
                self._url = None
                self._discard()
        self.url()

    def stop(self) -> None:
        """Ends our own emulator and removes all it wrote."""
        with self._lock:
            self._url = None
            self._discard()

    def _start(self) -> str:
        try:
            url = self._foreign_url or self._launch()
            for dataset in self._datasets:
                _create_dataset(url, self._project_id, dataset)
        except SandboxError as error:
            self._failure = error
            self._discard()
            raise
        except (OSError, http.client.HTTPException) as error:
            self._failure = self._died(f"The BigQuery emulator does not answer ({type(error).__name__})")
            self._discard()
            raise self._failure from error
        self._url = url
        return url

    def _launch(self) -> str:
        """Starts the child and waits for its port."""
        python = self._python()
        self._home = Path(tempfile.mkdtemp(prefix="carto-sandbox-"))
        port_file = self._home / "port"
        log_file = self._home / "emulator.log"
        with log_file.open("wb") as log:
            self._process = self._spawn(python, port_file, log)
        deadline = time.monotonic() + self._start_timeout
        while not port_file.exists():
            if self._process.poll() is not None:
                raise self._died("The BigQuery emulator ended while it started")
            if time.monotonic() > deadline:
                raise self._died(f"The BigQuery emulator did not start in {self._start_timeout:g} s")
            time.sleep(POLL)
        return f"http://127.0.0.1:{port_file.read_text()}"

    def _spawn(self, python: Path, port_file: Path, log: IO[bytes]) -> subprocess.Popen[bytes]:
        home = str(port_file.parent)
        environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
        environment.update(HOME=home, USERPROFILE=home, TMPDIR=home, TEMP=home, TMP=home)
        arguments = ["--home", home, "--port-file", str(port_file)]
        arguments += ["--parent", str(os.getpid()), "--project", self._project_id]
        return subprocess.Popen(
            # Isolated: the modules beside the child's own file must not shadow others.
            [str(python), "-I", str(_CHILD), *arguments],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=home,
            env=environment,
            start_new_session=True,  # a Ctrl-C in the terminal is for the parent, which then stops the child
        )

    def _has_died(self) -> bool:
        return self._process is not None and self._process.poll() is not None

    def _died(self, what: str) -> SandboxError:
        tail = ""
        if self.log_file is not None and self.log_file.exists():
            tail = self.log_file.read_text(errors="replace")[-TAIL:].strip()
        return SandboxError(f"{what}. The end of its log:\n{tail or '(empty)'}")

    def _discard(self) -> None:
        if self._process is not None:
            try:
                self._process.communicate(_FAREWELL, GRACE)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        if self._home is not None:
            shutil.rmtree(self._home, ignore_errors=True)
        self._process = self._home = None


def _create_dataset(url: str, project_id: str, dataset: str) -> None:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=SETUP_TIMEOUT)
    try:
        connection.request(
            "POST",
            f"/bigquery/v2/projects/{project_id}/datasets",
            body=json.dumps({"datasetReference": {"projectId": project_id, "datasetId": dataset}}),
            headers={"Content-Type": "application/json"},
        )
        response = connection.getresponse()
        answer = response.read()
    finally:
        connection.close()
    if response.status not in (200, 409):  # 409: it is there already
        raise SandboxError(
            f"The BigQuery emulator at {url} answered {response.status} when asked for dataset {dataset}: "
            f"{answer[:TAIL].decode(errors='replace')}"
        )
