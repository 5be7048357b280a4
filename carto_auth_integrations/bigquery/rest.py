"""BigQuery's REST API for jobs, in its own JSON: to wait for a job takes none of google's libraries."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from random import random
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

from ..http import CONNECT_TIMEOUT, READ_TIMEOUT, REPLACEMENTS, USER_AGENT, why
from ..warehouse.transient import is_transient

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import requests

    from ..auth import CartoAuth
    from ..tokens.token import Token
    from ..warehouse.steps import Steps

T = TypeVar("T")

CONNECTIONS = 16
"""Connections that are kept for the next call: as many as there are threads that make calls, and some to spare."""
FIRST_PAUSE, LONGEST_PAUSE, PATIENCE = 1.0, 60.0, 600.0
"""Seconds before a call is made again, doubled each time, and for how long: as google's own client has it."""


@dataclass(frozen=True)
class Job:
    """A job as BigQuery tells of it.

    Attributes:
        job_id: Its id, without project and location.
        location: Where it runs.
        state: `PENDING`, `RUNNING` or `DONE`.
        failed: Whether it came to nothing; a job that was cancelled has failed too.
        text: All that was told, in JSON as it came: with its objects, a thousand jobs that are waited for would keep
            the garbage collector busy. https://cloud.google.com/bigquery/docs/reference/rest/v2/Job
    """

    job_id: str
    location: str | None
    state: str
    failed: bool
    text: bytes

    @classmethod
    def of(cls, response: requests.Response) -> Job:
        """Read an answer.

        Raises:
            google.api_core.exceptions.GoogleAPICallError: If it is a refusal, or no JSON.
        """
        resource = content_of(response)
        reference, status = resource["jobReference"], resource["status"]
        failed = bool(status.get("errorResult"))
        return cls(reference["jobId"], reference.get("location"), status["state"], failed, response.content)

    @property
    def resource(self) -> dict[str, Any]:
        """All that was told."""
        resource: dict[str, Any] = json.loads(self.text)
        return resource

    def configured(self, kind: str) -> Mapping[str, Any]:
        """Give what it was told to do; empty if it is not a `query`, a `load` or whatever kind this is."""
        told: Mapping[str, Any] = self.resource["configuration"].get(kind, {})
        return told

    def statistics(self, kind: str) -> Mapping[str, Any]:
        """Give what it counted."""
        counted: Mapping[str, Any] = self.resource.get("statistics", {}).get(kind, {})
        return counted


class JobsApi:
    """Makes the calls of https://cloud.google.com/bigquery/docs/reference/rest/v2/jobs with an account's DW token.

    Each raises `google.api_core.exceptions.GoogleAPICallError` if BigQuery refuses, `google.auth.exceptions`'
    `TransportError` if it cannot be reached, and `CredentialsError` if there is no token to be had. Google's modules
    are imported for errors alone: they take a second, and hold an event loop for tens of milliseconds at a time.

    Args:
        auth: Whose warehouse.
    """

    def __init__(self, auth: CartoAuth) -> None:
        self._auth = auth
        self._made: tuple[int, requests.Session] | None = None

    def project(self) -> str:
        """Give the warehouse's BigQuery project."""
        project: str = self._auth.carto_dw_token().details["project_id"]
        return project

    def reference(self, job_id: str, location: str | None) -> dict[str, str]:
        """Name a job as BigQuery does."""
        place = {"location": location} if location else {}
        return {"projectId": self.project(), "jobId": job_id, **place}

    def insert(self, job_id: str, location: str | None, configuration: Mapping[str, Any]) -> Job:
        """Begin a job.

        Args:
            job_id: Its id.
            location: Where it is to run; None to let BigQuery decide.
            configuration: What it is to do.
        """
        resource = {"jobReference": self.reference(job_id, location), "configuration": configuration}
        return Job.of(self._answer("POST", "jobs", {}, resource))

    def get(self, job_id: str, location: str | None) -> Job | None:
        """Look at a job; None if there is none in that place."""
        response = self._answer("GET", f"jobs/{quote(job_id, safe='')}", {"location": location})
        return None if response.status_code == 404 else Job.of(response)

    def cancel(self, job_id: str, location: str | None) -> bool:
        """Ask for the end of a job, and tell whether there is one in that place."""
        response = self._answer("POST", f"jobs/{quote(job_id, safe='')}/cancel", {"location": location})
        return response.status_code != 404 and bool(content_of(response))

    def rows(self, job: Job, count: int, page: str | None = None) -> dict[str, Any]:
        """Give rows of a query that has ended, with their schema and number, as BigQuery writes them.

        Args:
            job: The query.
            count: How many rows at most; BigQuery gives fewer if they are large.
            page: The token of the page, if it is not the first.
        """
        query = {
            "location": job.location,
            "maxResults": count,
            "pageToken": page,
            "formatOptions.useInt64Timestamp": "true",  # microseconds: the other format is a float
        }
        return content_of(self._answer("GET", f"queries/{job.job_id}", query))

    def _answer(
        self, method: str, path: str, query: Mapping[str, Any], body: Mapping[str, Any] | None = None
    ) -> requests.Response:
        """Make a call; after a 401, again with another token."""
        token = self._auth.carto_dw_token(interactive=False)
        response = self._send(token, method, path, query, body)
        for _ in range(REPLACEMENTS):
            if response.status_code != 401:
                break
            self._auth.reject_carto_dw_token(token)
            token = self._auth.carto_dw_token(interactive=False)
            response = self._send(token, method, path, query, body)
        return response

    def _send(
        self, token: Token, method: str, path: str, query: Mapping[str, Any], body: Mapping[str, Any] | None
    ) -> requests.Response:
        from requests import RequestException
        from requests.exceptions import SSLError

        def sign(request: requests.PreparedRequest) -> requests.PreparedRequest:
            request.headers["Authorization"] = f"Bearer {token.reveal()}"
            return request

        endpoint = (
            self._auth.account.bigquery_endpoint
            or os.environ.get("BIGQUERY_EMULATOR_HOST")  # google's client, which sends the uploads, goes by it
            or "https://bigquery.googleapis.com"
        )
        url = f"{endpoint}/bigquery/v2/projects/{token.details['project_id']}/{path}"
        try:
            response = self._session_for(url).request(
                method,
                url,
                params={"prettyPrint": "false", **query},
                data=None if body is None else json.dumps(body),
                headers={"User-Agent": USER_AGENT, "Content-Type": "application/json"},
                auth=sign,
                timeout=(CONNECT_TIMEOUT, READ_TIMEOUT),
                allow_redirects=False,
            )
        except RequestException as error:
            reason, lasts = why(error), isinstance(error, (ValueError, SSLError))
        else:
            del response.request.headers["Authorization"]  # it hangs on the errors that are made of the response
            return response
        from google.auth.exceptions import GoogleAuthError, TransportError

        kind: Any = GoogleAuthError if lasts else TransportError
        raise kind(f"BigQuery: {url} {reason}.")

    def _session_for(self, url: str) -> requests.Session:
        """Give the session of this process: a fork must not go on with its parent's connections."""
        made, process = self._made, os.getpid()
        if made is None or made[0] != process:
            import requests
            from requests.adapters import HTTPAdapter

            session = requests.Session()
            session.trust_env = url.startswith("https://")  # plain http is for this machine: no proxy gets to see it
            session.mount(url[: url.index("//") + 2], HTTPAdapter(pool_maxsize=CONNECTIONS))
            made = self._made = process, session  # two threads may both do so: no harm
        return made[1]


def not_found(job_id: str, location: str | None) -> Exception:
    """Give google's exception for a job that is not there."""
    from google.api_core.exceptions import NotFound

    where = location or "the multi-regions US and EU"
    error: Exception = NotFound(f"There is no job {job_id} in {where}: give its location if it runs elsewhere.")
    return error


def retried(call: Callable[[], T]) -> Steps[T]:
    """Make a call, and again while that may help; the pauses hold no thread.

    Args:
        call: One that may be made twice.
    """
    pause, give_up = FIRST_PAUSE, time.monotonic() + PATIENCE
    while True:
        try:
            return call()
        except Exception as error:
            if not is_transient(error) or time.monotonic() + pause > give_up:
                raise
        yield pause * random()
        pause = min(pause * 2, LONGEST_PAUSE)


def content_of(response: requests.Response) -> dict[str, Any]:
    """Give the answer's JSON.

    Raises:
        google.api_core.exceptions.GoogleAPICallError: If it is a refusal, or no JSON.
    """
    try:
        content = json.loads(response.content)
    except ValueError:
        content = None
    if response.ok and isinstance(content, dict):
        return content
    from google.api_core.exceptions import BadGateway, from_http_response

    if response.ok:
        raise BadGateway(f"{response.request.method} {response.url}: the answer is not JSON")
    raise from_http_response(response)
