"""BigQuery's REST API in its own JSON: a query in a fresh process needs none of google's libraries."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from random import random
from typing import TYPE_CHECKING
from urllib.parse import quote

from .. import http
from ..account.fields import check_url
from ..errors import CallFailed
from ..waiting import Deadline

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from ..account import CartoAccount
    from ..http import Json
    from ..waiting import Steps
    from .dw_tokens import DWTokens

DEFAULT_ENDPOINT = "https://bigquery.googleapis.com"
EMULATOR_VARIABLE = "BIGQUERY_EMULATOR_HOST"
"""Google's variable for the endpoint of an emulator."""
FIRST_PAUSE, LONGEST_PAUSE, PATIENCE = 1.0, 60.0, 600.0
"""Seconds before a call is repeated, doubled each time, and for how long: as in google's own client."""
JSON = {"Content-Type": "application/json"}
NOT_FOUND = 404


@dataclass(frozen=True, slots=True)
class Job:
    """A job as BigQuery describes it.

    Attributes:
        job_id: Its id, without project and location.
        location: Where it runs.
        state: `PENDING`, `RUNNING` or `DONE`.
        failed: Whether the job failed or was cancelled.
        text: The whole description as JSON. Parsed, those of a thousand waiting jobs would slow the garbage collector.
            https://cloud.google.com/bigquery/docs/reference/rest/v2/Job
    """

    job_id: str
    location: str | None
    state: str
    failed: bool
    text: bytes

    @classmethod
    def of(cls, reply: http.Reply) -> Job:
        """Read a response."""
        resource: Json = reply.content()
        reference, status = resource["jobReference"], resource["status"]
        failed = bool(status.get("errorResult"))
        return cls(reference["jobId"], reference.get("location"), status["state"], failed, reply.raw())

    @property
    def resource(self) -> Json:
        """The whole description."""
        resource: Json = json.loads(self.text)
        return resource

    def configured(self, kind: str) -> Json:
        """Return the configuration of a `query` or `load`; empty if the job is of another kind."""
        configuration: Json = self.resource["configuration"].get(kind, {})
        return configuration

    def statistics(self, kind: str) -> Json:
        """Return the statistics of a `query` or `load`."""
        statistics: Json = self.resource.get("statistics", {}).get(kind, {})
        return statistics


def endpoint_of(account: CartoAccount) -> str:
    """Return the BigQuery endpoint of an account: its own, else that of google's variable, else Google's.

    Raises:
        InvalidField: If it is plain http to another machine, or no URL.
    """
    named = os.environ.get(EMULATOR_VARIABLE)
    if account.bigquery_endpoint or not named:
        return account.bigquery_endpoint or DEFAULT_ENDPOINT
    return check_url(EMULATOR_VARIABLE, named, "the environment")


def pauses() -> Iterator[float]:
    """Yield the seconds between the attempts of a call."""
    pause = FIRST_PAUSE
    while True:
        yield pause * random()
        pause = min(pause * 2, LONGEST_PAUSE)


class BigQuery:
    """Calls of https://cloud.google.com/bigquery/docs/reference/rest with an account's DW token, within a deadline.

    Each call is repeated while that may help. It raises `CallFailed` if BigQuery refuses it or cannot be reached,
    `CredentialsError` if no token can be obtained, and `TimeoutError` if the deadline passes.

    Args:
        tokens: The DW tokens.
        deadline: When everything has to be over.
    """

    __slots__ = ("account", "deadline", "tokens")

    def __init__(self, tokens: DWTokens, deadline: Deadline) -> None:
        self.tokens = tokens
        self.account = tokens.account
        self.deadline = deadline

    def project(self) -> str:
        """Return the warehouse's BigQuery project."""
        return self.tokens.get(deadline=self.deadline).details["project_id"]

    def reference(self, job_id: str, location: str | None) -> dict[str, str]:
        """Return a job's reference as BigQuery writes it."""
        place = {"location": location} if location else {}
        return {"projectId": self.project(), "jobId": job_id, **place}

    def insert(self, job_id: str, location: str | None, configuration: Json) -> Steps[Job]:
        """Begin a job.

        Args:
            job_id: Its id.
            location: Where it is to run; None to let BigQuery decide.
            configuration: What it is to do.
        """
        resource = {"jobReference": self.reference(job_id, location), "configuration": configuration}
        return Job.of((yield from self._call("POST", "jobs", {}, resource)))

    def dry_run(self, configuration: Json) -> Steps[Json]:
        """Return the description of a job that BigQuery only checks, in the account's location. It has no id.

        Args:
            configuration: What it would do.
        """
        location = self.account.location
        reference = {"projectId": self.project(), **({"location": location} if location else {})}
        resource = {"jobReference": reference, "configuration": {**configuration, "dryRun": True}}
        return (yield from self._call("POST", "jobs", {}, resource)).content()

    def get(self, job_id: str, location: str | None) -> Steps[Job | None]:
        """Return a job; None if there is none in that location."""
        reply = yield from self._call("GET", f"jobs/{quote(job_id, safe='')}", _given(location=location), may_lack=True)
        return None if reply.status == NOT_FOUND else Job.of(reply)

    def cancel(self, job_id: str, location: str | None) -> Steps[bool]:
        """Request the end of a job; return whether there is one in that location."""
        path = f"jobs/{quote(job_id, safe='')}/cancel"
        reply = yield from self._call("POST", path, _given(location=location), may_lack=True)
        return reply.status != NOT_FOUND

    def rows(self, job: Job, count: int, page: str | None = None) -> Steps[Json]:
        """Return rows of a query that has ended, with their schema and number, as BigQuery writes them.

        Args:
            job: The query.
            count: How many rows at most; BigQuery returns fewer if they are large.
            page: The token of the page, if it is not the first.
        """
        params = _given(location=job.location, maxResults=count, pageToken=page)
        params["formatOptions.useInt64Timestamp"] = "true"  # microseconds: the other format is a float
        return (yield from self._call("GET", f"queries/{quote(job.job_id, safe='')}", params)).content()

    def dataset(self, project: str, dataset: str) -> Steps[Json]:
        """Return a dataset, in any project."""
        path = f"datasets/{quote(dataset, safe='')}"
        return (yield from self._call("GET", path, {}, project=project)).content()

    def create_dataset(self, project: str, dataset: str) -> Steps[Json]:
        """Create a dataset in the account's location."""
        place = {"location": self.account.location} if self.account.location else {}
        resource = {"datasetReference": {"projectId": project, "datasetId": dataset}, **place}
        return (yield from self._call("POST", "datasets", {}, resource, project=project)).content()

    def send(self, make_request: Callable[[], http.Request]) -> http.Reply:
        """Make one request, once, and after a 401 with another token.

        Args:
            make_request: Returns the request, anew for each token: a body is read only once.
        """
        return http.authorized(
            lambda: self.tokens.get(deadline=self.deadline),
            self.tokens.reject,
            lambda token: http.send(make_request(), self.deadline, token),
        )

    def _call(
        self,
        method: str,
        path: str,
        params: Mapping[str, str | int],
        resource: Json | None = None,
        *,
        project: str | None = None,
        may_lack: bool = False,
    ) -> Steps[http.Reply]:
        url = f"{endpoint_of(self.account)}/bigquery/v2/projects/{project or self.project()}/{path}"
        body = None if resource is None else json.dumps(resource).encode()
        request = http.Request(method, url, {"prettyPrint": "false", **params}, JSON, body, max_body=None)

        def attempt() -> http.Reply:
            return checked(self.send(lambda: request), may_lack=may_lack)

        try:
            patience = Deadline(PATIENCE)
            return (
                yield from http.retried(
                    attempt, pauses(), f"BigQuery: {url}", patience=patience, deadline=self.deadline
                )
            )
        except CallFailed as error:
            failure = error
        raise named(failure, method, url)


def checked(reply: http.Reply, *, may_lack: bool = False) -> http.Reply:
    """Return a response if it is what was requested.

    Raises:
        CallFailed: If it is a refusal, or not JSON.
    """
    if may_lack and reply.status == NOT_FOUND:
        return reply
    if reply.status >= 300:
        raise http.refusal_of(reply)
    if not reply.content():
        raise CallFailed("the response is not JSON", transient=True, status=502)
    return reply


def named(failure: CallFailed, method: str, url: str) -> CallFailed:
    """Return a failure with a message that names the call."""
    said = f"{method} {url}: {failure.message or failure}" if failure.status else f"BigQuery: {url} {failure}."
    return CallFailed(
        str(failure),
        transient=failure.transient,
        status=failure.status,
        retry_after=failure.retry_after,
        message=said,
        reasons=failure.reasons,
    )


def _given(**params: str | int | None) -> dict[str, str | int]:
    return {name: value for name, value in params.items() if value is not None}
