"""Calls to the REST API of a server that the demo or a test runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import requests
from requests.adapters import HTTPAdapter
from urllib3 import Retry

if TYPE_CHECKING:
    from .processes import Processes

ANSWER_TIMEOUT = 60
"""Seconds for one answer: the server may share two cores with eight tasks."""

BUSY = Retry(8, connect=0, read=0, status_forcelist=[503], backoff_factor=0.2, allowed_methods=None)
"""Prefect's server answers 503 while its database is locked; Prefect's own clients retry too."""


class Api:
    """A client of one server.

    Args:
        processes: Runs the server.
        name: The server's process, whose log is shown when a call fails.
        url: What all paths are appended to.
    """

    def __init__(self, processes: Processes, name: str, url: str) -> None:
        self._processes = processes
        self._name = name
        self._url = url
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.headers["Connection"] = "close"  # a server closes idle connections, maybe just as one is used
        self._session.mount(url, HTTPAdapter(max_retries=BUSY))

    def authorize(self, token: str) -> None:
        """Send a bearer token with every call from now on."""
        self._session.headers["Authorization"] = f"Bearer {token}"

    def find(self, path: str) -> Any:
        """Return the answer to a GET request, or None if it is an error."""
        answer = self._session.get(f"{self._url}{path}", timeout=ANSWER_TIMEOUT)
        return answer.json() if answer.ok else None

    def get(self, path: str, **parameters: Any) -> Any:
        """Return the answer to a GET request; see `call`."""
        return self.call("GET", path, **parameters)

    def call(self, method: str, path: str, body: Any = None, **parameters: Any) -> Any:
        """Return the answer to a request, or None if it is empty.

        Args:
            method: The HTTP method.
            path: Where.
            body: Sent as JSON.
            parameters: The query string.

        Raises:
            StepFailed: If the answer is an error.
        """
        url = f"{self._url}{path}"
        answer = self._session.request(method, url, json=body, params=parameters, timeout=ANSWER_TIMEOUT)
        if not answer.ok:
            message = f"{method} {path} was answered {answer.status_code}: {answer.text}"
            raise self._processes.failed(message, self._processes.log(self._name))
        return answer.json() if answer.content else None
