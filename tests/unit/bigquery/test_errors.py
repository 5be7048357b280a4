"""Google's exceptions for what BigQuery answers: they travel, and hold no request and no token."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable
from typing import Any

import pytest
from google.api_core import exceptions as google
from google.auth.exceptions import GoogleAuthError, TransportError

from carto_auth_integrations.bigquery.errors import STATUS_OF_REASON, google_error, job_error, not_found
from carto_auth_integrations.bigquery.rest import Job
from carto_auth_integrations.errors import CallFailed, is_transient
from tests.support.bigquery import TinyBigQuery, auth_of, bigquery
from tests.support.leaks import assert_shows_no_secret, raised_by
from tests.support.servers import answers

TRAVEL: list[Callable[[Any], Any]] = [lambda error: pickle.loads(pickle.dumps(error)), copy.copy, copy.deepcopy]
REASONS = [{"reason": "invalidQuery", "message": "Syntax error"}]


def failed_job(**result: str) -> Job:
    resource = {
        "jobReference": {"projectId": "p", "jobId": "j", "location": "EU"},
        "status": {"state": "DONE", "errorResult": result, "errors": [{"reason": "invalid", "location": "row 7"}]},
    }
    return Job("j", "EU", "DONE", True, json.dumps(resource).encode())


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, google.BadRequest),
        (401, google.Unauthorized),
        (403, google.Forbidden),
        (404, google.NotFound),
        (409, google.Conflict),
        (429, google.TooManyRequests),
        (500, google.InternalServerError),
        (502, google.BadGateway),
        (503, google.ServiceUnavailable),
    ],
)
def test_a_refusal_is_googles_exception_for_its_status(status: int, kind: type[Exception]) -> None:
    error: Any = google_error(CallFailed("x", transient=False, status=status, message="GET /x: no", reasons=REASONS))

    assert type(error) is kind
    assert (error.code, error.message, list(error.errors)) == (status, "GET /x: no", REASONS)


def test_a_retry_after_is_kept_for_retry_policies() -> None:
    error: Any = google_error(CallFailed("x", transient=True, status=503, retry_after=7.0))
    assert error.retry_after == 7.0


def test_without_a_response_it_is_an_error_of_google_auth() -> None:
    assert type(google_error(CallFailed("x", transient=True, message="cut off"))) is TransportError
    assert type(google_error(CallFailed("x", transient=False, message="no certificate"))) is GoogleAuthError


@pytest.mark.parametrize("reason", [*STATUS_OF_REASON, "bytesBilledLimitExceeded"])
def test_a_failed_job_is_what_googles_own_client_raises(reason: str) -> None:
    from google.cloud.bigquery.job.base import _error_result_to_exception

    theirs = _error_result_to_exception({"reason": reason, "message": "Row 7 is bad"})

    ours: Any = job_error(failed_job(reason=reason, message="Row 7 is bad"))

    assert (type(ours), ours.code) == (type(theirs), theirs.code)
    assert "Row 7 is bad" in str(ours)
    assert "location: row 7" in str(ours)
    assert "Location: EU" in str(ours)
    assert "Job ID: j" in str(ours)


def test_a_reason_that_is_unknown_is_an_error_of_the_server() -> None:
    assert type(job_error(failed_job(reason="newReason", message="?"))) is google.InternalServerError


def test_a_job_that_does_not_exist_is_named_with_its_location() -> None:
    assert "no job j in EU" in str(not_found("j", "EU"))
    assert "multi-regions US and EU" in str(not_found("j", None))


ERRORS: dict[str, Exception] = {
    "of a call": google_error(CallFailed("x", transient=True, status=503, retry_after=7.0, reasons=REASONS)),
    "of the network": google_error(CallFailed("x", transient=True, message="cut off")),
    "of a job": job_error(failed_job(reason="invalidQuery", message="Syntax error")),
    "of no job": not_found("j", None),
}


@pytest.mark.parametrize("travel", TRAVEL)
@pytest.mark.parametrize("name", ERRORS)
def test_errors_can_be_pickled_and_copied(name: str, travel: Callable[[Any], Any]) -> None:
    error = ERRORS[name]

    there = travel(error)

    assert type(there) is type(error)
    assert (str(there), vars(there)) == (str(error), vars(error))
    assert is_transient(there) is is_transient(error)


@pytest.mark.parametrize("status", [400, 401, 403])
def test_what_a_warehouse_raises_holds_no_request(status: int) -> None:
    with bigquery(answers(status, json.dumps({"error": {"message": "no"}})), "first", "second", "third") as server:
        warehouse = auth_of(server.url, location="EU").warehouse()
        for call in (lambda: warehouse.query("SELECT 1"), lambda: warehouse.load([{"a": 1}], "d.t")):
            error: Any = raised_by(call)
            assert isinstance(error, google.GoogleAPICallError)
            assert error.response is None
            assert (error.__cause__, error.__context__) == (None, None)
            assert_shows_no_secret(error, "first", "second", "third")


def test_what_a_failed_job_raises_holds_no_request() -> None:
    with TinyBigQuery() as server:
        server.error = {"reason": "invalid", "message": "Row 7 is bad"}
        warehouse = auth_of(server.url, location="EU").warehouse()
        error: Any = raised_by(lambda: warehouse.query("SELECT 1"))

    assert isinstance(error, google.BadRequest)
    assert error.response is None
    assert_shows_no_secret(error, "hunter2-dw-1")
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
