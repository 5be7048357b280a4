"""The demo's processes: each with a clean environment and a log, and none of them left when it ends."""

from __future__ import annotations

import os
import secrets as random
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import requests

from .steps import StepFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

MARK = "CARTO_DEMO_RUN"
"""The variable by which a process is known that Ctrl-C caught before its session was written down."""

FOREIGN = ("AIRFLOW", "CARTO_", "PREFECT_")
"""Prefixes of variables that would bring the user's own set-up into the demo."""

# Seconds that a process gets to end before it is killed, that a server may take to start on a slow disk, and
# between two looks.
GRACE = 5
START_TIMEOUT = 120
POLL = 0.2


class Processes:
    """Starts processes, and ends them and all their descendants when the `with` block ends.

    Args:
        home: Where their logs go.
        secrets: What a log must not show.
    """

    def __init__(self, home: Path, secrets: list[str]) -> None:
        self.home = home
        self.secrets = secrets
        self._mark = random.token_hex(8)
        self._sessions: set[int] = set()

    def __enter__(self) -> Processes:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop_all()

    def log(self, name: str) -> Path:
        """Where a process writes what it says."""
        return self.home / f"{name}.log"

    def run(self, name: str, command: list[str], variables: Mapping[str, str], *, timeout: float) -> None:
        """Run a process to its end.

        Args:
            name: What its log is called.
            command: Program of this Python environment, or `python`, and its arguments.
            variables: What its environment holds besides the machine's.
            timeout: Seconds it may take.

        Raises:
            StepFailed: If it takes longer, or ends with an error.
        """
        process = self.start(name, command, variables)
        try:
            code = process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise self.failed(name, f"{name} takes longer than {timeout:g} s.") from None
        if code != 0:
            raise self.failed(name, f"{name} ended with exit code {code}.")

    def start(self, name: str, command: list[str], variables: Mapping[str, str]) -> subprocess.Popen[bytes]:
        """Start a process that goes on; see `run` for the arguments."""
        program = Path(sys.executable).with_name(command[0])
        environment = {key: value for key, value in os.environ.items() if not key.startswith(FOREIGN)}
        with self.log(name).open("ab") as log:
            process = subprocess.Popen(
                [str(program), *command[1:]],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.home,
                env={**environment, **variables, MARK: self._mark},
                start_new_session=True,  # Ctrl-C is for the demo, which then ends them in its own order
            )
        self._sessions.add(process.pid)
        return process

    def wait_until(self, name: str, process: subprocess.Popen[bytes], answers: Callable[[], bool]) -> None:
        """Wait for a server to come up.

        Args:
            name: What its log is called.
            process: The server.
            answers: Tells whether it does.

        Raises:
            StepFailed: If it ends, or takes too long.
        """
        deadline = time.monotonic() + START_TIMEOUT
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise self.failed(name, f"{name} ended while it started.")
            with suppress(requests.RequestException):
                if answers():
                    return
            time.sleep(POLL)
        raise self.failed(name, f"{name} did not start in {START_TIMEOUT} s.")

    def failed(self, name: str, message: str) -> StepFailed:
        """Give the error of a step, with the log of the process that it was about."""
        return StepFailed(message, self.log(name), self.secrets)

    def stop_all(self) -> None:
        """End every process of this run: politely, then not."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            ours = [process for process in psutil.process_iter() if self._is_ours(process)]
            for process in ours:
                with suppress(psutil.Error):
                    process.send_signal(number)
            psutil.wait_procs(ours, GRACE)
        self._sessions.clear()

    def _is_ours(self, process: psutil.Process) -> bool:
        # The session first: Airflow's processes give themselves titles, which overwrite what shows of their variables.
        with suppress(psutil.Error, OSError):
            return os.getsid(process.pid) in self._sessions or process.environ().get(MARK) == self._mark
        return False


def free_port() -> int:
    """Find a port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
