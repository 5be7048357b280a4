"""Run the BigQuery emulator as a child process that starts on first use and ends with its parent."""

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

# Environment variables that are passed on: to find system libraries (and on Windows the system), and for UTF-8.
_ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "SYSTEMROOT", "LANG", "LC_ALL")

# Seconds between checks whether the emulator has started.
POLL = 0.05

# Seconds to wait for the emulator to exit before it is killed.
GRACE = 5

# Seconds for a request to a new emulator, which initializes DuckDB before its first response.
SETUP_TIMEOUT = 60

# Byte that tells the child to exit and leave its files: the parent is alive and removes them.
_EXIT = b"."

# Characters from the end of the log that an error message shows.
TAIL = 2000


class Emulator:
    """A `local-bigquery` server: a child process, or a server that runs already. Safe for use by many threads.

    Args:
        project_id: The BigQuery project.
        datasets: Datasets to create in it.
        url: URL of a server that runs already; None to start a child process.
        start_timeout: Seconds that the child process may take to start.
        strict: Whether the child process refuses what BigQuery refuses.
        python: Returns the Python interpreter of the emulator's environment; may create the environment first.
    """

    def __init__(
        self,
        project_id: str,
        datasets: Sequence[str],
        *,
        url: str | None,
        start_timeout: float,
        strict: bool = True,
        python: Callable[[], Path] = emulator_python,
    ) -> None:
        self._project_id = project_id
        self._datasets = datasets
        self._external_url = url
        self._start_timeout = start_timeout
        self._strict = strict
        self._python = python
        self._lock = threading.Lock()
        self._url: str | None = None
        self._failure: SandboxError | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._home: Path | None = None

    @property
    def pid(self) -> int | None:
        """Process id of the child process, or None if there is none."""
        return None if self._process is None else self._process.pid

    @property
    def log_file(self) -> Path | None:
        """File with the output of the child process, or None if there is no child process."""
        return None if self._home is None else self._home / "emulator.log"

    def url(self) -> str:
        """Return the emulator's URL, after a start if it has not been started yet.

        Raises:
            SandboxError: If the emulator does not start, did not start the last time, or has died.
        """
        with self._lock:
            if self._failure is not None:
                raise self._failure
            url = self._url or self._start()
            if self._has_died():
                raise self._error_with_log("The BigQuery emulator has died")
            return url

    def start(self) -> None:
        """Start the emulator unless it runs, also after an earlier failure or crash.

        Raises:
            SandboxError: If the emulator does not start.
        """
        with self._lock:
            self._failure = None
            if self._has_died():
                self._url = None
                self._discard()
        self.url()

    def stop(self) -> None:
        """Stop the child process and remove its files. Does nothing to a server that ran already."""
        with self._lock:
            self._url = None
            self._discard()

    def _start(self) -> str:
        try:
            url = self._external_url or self._launch()
            for dataset in self._datasets:
                _create_dataset(url, self._project_id, dataset)
        except SandboxError as error:
            self._failure = error
            self._discard()
            raise
        except (OSError, http.client.HTTPException) as error:
            self._failure = self._error_with_log(f"The BigQuery emulator does not answer ({type(error).__name__})")
            self._discard()
            raise self._failure from error
        self._url = url
        return url

    def _launch(self) -> str:
        """Start the child process and return its URL once it listens."""
        python = self._python()
        self._home = Path(tempfile.mkdtemp(prefix="carto-sandbox-"))
        port_file = self._home / "port"
        log_file = self._home / "emulator.log"
        with log_file.open("wb") as log:
            self._process = self._spawn(python, port_file, log)
        deadline = time.monotonic() + self._start_timeout
        while not port_file.exists():
            if self._process.poll() is not None:
                raise self._error_with_log("The BigQuery emulator exited during its start")
            if time.monotonic() > deadline:
                raise self._error_with_log(f"The BigQuery emulator did not start within {self._start_timeout:g} s")
            time.sleep(POLL)
        return f"http://127.0.0.1:{port_file.read_text()}"

    def _spawn(self, python: Path, port_file: Path, log: IO[bytes]) -> subprocess.Popen[bytes]:
        home = str(port_file.parent)
        environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
        environment.update(HOME=home, USERPROFILE=home, TMPDIR=home, TEMP=home, TMP=home)
        arguments = ["--home", home, "--port-file", str(port_file)]
        arguments += ["--parent", str(os.getpid()), "--project", self._project_id]
        arguments += [] if self._strict else ["--lenient"]
        return subprocess.Popen(
            # -I (isolated mode): modules in the folder of the child's file must not shadow those of its environment.
            [str(python), "-I", str(_CHILD), *arguments],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=home,
            env=environment,
            start_new_session=True,  # Ctrl-C in the terminal interrupts only the parent, which then stops the child
        )

    def _has_died(self) -> bool:
        return self._process is not None and self._process.poll() is not None

    def _error_with_log(self, what: str) -> SandboxError:
        tail = ""
        if self.log_file is not None and self.log_file.exists():
            tail = self.log_file.read_text(errors="replace")[-TAIL:].strip()
        return SandboxError(f"{what}. The end of its log:\n{tail or '(empty)'}")

    def _discard(self) -> None:
        """Stop the child process, if there is one, and remove its files."""
        if self._process is not None:
            try:
                self._process.communicate(_EXIT, GRACE)
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
    if response.status not in (200, 409):  # 409: the dataset exists already
        raise SandboxError(
            f"The BigQuery emulator at {url} answered {response.status} to the creation of dataset {dataset}: "
            f"{answer[:TAIL].decode(errors='replace')}"
        )
