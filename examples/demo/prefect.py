"""A real Prefect on this machine: a server, and processes that use it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .api import Api
from .processes import free_port

if TYPE_CHECKING:
    from subprocess import Popen

    from .processes import Processes


class Prefect:
    """A Prefect server.

    Args:
        processes: Starts and stops it.
        variables: Further environment variables of the server and of the processes that use it.

    Attributes:
        url: Where its pages are.
        api: Its REST API.
    """

    def __init__(self, processes: Processes, **variables: str) -> None:
        self.url = f"http://127.0.0.1:{free_port()}"
        self.api = Api(processes, "prefect-server", f"{self.url}/api")
        self.processes = processes
        self._variables = {
            "PREFECT_API_URL": f"{self.url}/api",
            "PREFECT_HOME": str(processes.home / "prefect"),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            **variables,
        }

    def start(self) -> None:
        """Start the server, and wait until it answers.

        Raises:
            StepFailed: If it does not.
        """
        port = self.url.rpartition(":")[2]
        self.start_process("prefect-server", ["prefect", "server", "start", "--host", "127.0.0.1", "--port", port])
        self.processes.wait_for("prefect-server", lambda: self.api.find("/health"), "Prefect does not answer")

    def start_process(self, name: str, command: list[str], **variables: str) -> Popen[bytes]:
        """Start a process that uses the server and return at once; see `run` for the arguments."""
        return self.processes.start(name, command, {**self._variables, **variables})

    def run(self, name: str, command: list[str], **variables: str) -> str:
        """Run a process that uses the server to its end, and return the content of its log.

        Args:
            name: The name of the process, and of its log.
            command: A program of this Python environment, or `python`, and its arguments.
            variables: Further environment variables.

        Raises:
            StepFailed: If the process takes too long, or ends with an error.
        """
        return self.processes.run(name, command, {**self._variables, **variables})
