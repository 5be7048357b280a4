"""Processes of the demo and of the end-to-end tests: each has a clean environment and a log, and none is left."""

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
from typing import TYPE_CHECKING, TypeVar

import psutil
import requests

from .steps import StepFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType

T = TypeVar("T")

MARK = "CARTO_DEMO_RUN"
"""The environment variable that marks the processes of a run: Ctrl-C may come before their session is recorded."""

FOREIGN = ("AIRFLOW", "CARTO_", "PREFECT_")
"""Prefixes of the user's environment variables that the processes do not inherit."""

# Seconds that a process gets to end before it is killed, that anything may take on a slow disk, and between two polls.
GRACE = 5
TIMEOUT = 120
POLL = 0.5


class Processes:
    """Starts processes, and stops them and all their descendants when the `with` block ends.

    Args:
        home: Their home and working directory, which also holds their logs.
        secrets: Values to mask in errors.
        timeout: Seconds after which a process, or what is waited for, counts as hung.
    """

    def __init__(self, home: Path, *, secrets: Sequence[str] = (), timeout: float = TIMEOUT) -> None:
        self.home = home
        self.started: dict[str, subprocess.Popen[bytes]] = {}
        self._secrets = secrets
        self._timeout = timeout
        self._mark = random.token_hex(8)
        self._sessions: set[int] = set()

    def __enter__(self) -> Processes:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop_all()

    def log(self, name: str) -> Path:
        """Return the file with the output of the processes of this name."""
        return self.home / f"{name}.log"

    def run(self, name: str, command: list[str], variables: Mapping[str, str]) -> str:
        """Run a process to its end, and return the content of its log.

        Args:
            name: The name of the process, and of its log.
            command: A program of this Python environment, or `python`, and its arguments.
            variables: Environment variables besides those of this machine.

        Raises:
            StepFailed: If the process takes too long, or ends with an error.
        """
        process = self.start(name, command, variables)
        try:
            code = process.wait(self._timeout)
        except subprocess.TimeoutExpired:
            raise self.failed(f"{name} takes longer than {self._timeout:g} s.", self.log(name)) from None
        if code != 0:
            raise self.failed(f"{name} ended with exit code {code}.", self.log(name))
        return self.log(name).read_text()

    def start(self, name: str, command: list[str], variables: Mapping[str, str]) -> subprocess.Popen[bytes]:
        """Start a process and return at once; see `run` for the arguments."""
        program = Path(sys.executable).with_name(command[0])
        environment = {key: value for key, value in os.environ.items() if not key.startswith(FOREIGN)}
        with self.log(name).open("ab") as log:
            process = subprocess.Popen(
                [str(program), *command[1:]],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.home,
                env={**environment, "HOME": str(self.home), **variables, MARK: self._mark},
                start_new_session=True,  # Ctrl-C must reach only the demo, which then stops the processes itself
            )
        self._sessions.add(process.pid)
        self.started[name] = process
        return process

    def wait_for(self, name: str, condition: Callable[[], T | None], failure: str) -> T:
        """Call a function until it returns something true, and return that; a server may be unreachable meanwhile.

        Args:
            name: The process that is to make the condition true.
            condition: The function.
            failure: The error's message, without a full stop.

        Raises:
            StepFailed: If the process ends first, or it takes too long.
        """
        deadline = time.monotonic() + self._timeout
        while True:
            with suppress(requests.RequestException):
                if result := condition():
                    return result
            if self.started[name].poll() is not None:
                raise self.failed(f"{failure}: {name} has ended.", self.log(name))
            if time.monotonic() > deadline:
                raise self.failed(f"{failure} after {self._timeout:g} s.", self.log(name))
            time.sleep(POLL)

    def failed(self, message: str, log: Path) -> StepFailed:
        """Return an error with the end of a log, secrets masked."""
        return StepFailed(message, log, self._secrets)

    def stop_all(self) -> None:
        """Terminate every process of this run, and kill those that do not end."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            ours = [process for process in psutil.process_iter() if self._is_ours(process)]
            for process in ours:
                with suppress(psutil.Error):
                    process.send_signal(number)
            psutil.wait_procs(ours, GRACE)
        self._sessions.clear()

    def _is_ours(self, process: psutil.Process) -> bool:
        # The session first: Airflow's processes set a title, which overwrites the environment that psutil reads.
        with suppress(psutil.Error, OSError):
            return os.getsid(process.pid) in self._sessions or process.environ().get(MARK) == self._mark
        return False


def free_port() -> int:
    """Return a port of 127.0.0.1 on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
