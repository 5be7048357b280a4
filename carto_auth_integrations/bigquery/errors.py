"""Google's own exceptions for what BigQuery answers: same class, code and message, but no request and no token."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..errors import CallFailed
    from .rest import Job

STATUS_OF_REASON = {
    "accessDenied": 403,
    "backendError": 500,
    "billingNotEnabled": 403,
    "billingTierLimitExceeded": 400,
    "blocked": 403,
    "duplicate": 409,
    "internalError": 500,
    "invalid": 400,
    "invalidQuery": 400,
    "notFound": 404,
    "notImplemented": 501,
    "policyViolation": 403,
    "quotaExceeded": 403,
    "rateLimitExceeded": 429,
    "resourceInUse": 400,
    "resourcesExceeded": 400,
    "responseTooLarge": 403,
    "stopped": 200,
    "tableUnavailable": 400,
}
"""The HTTP status of each reason for which a job fails. https://cloud.google.com/bigquery/docs/error-messages"""


def google_error(failure: CallFailed) -> Exception:
    """Return google's exception for a call that failed."""
    if failure.status is None:
        from google.auth.exceptions import GoogleAuthError, TransportError

        kind: type[Exception] = TransportError if failure.transient else GoogleAuthError
        return kind(failure.message)
    return _error_of_status(failure.status, failure.message, failure.reasons, failure.retry_after)


def job_error(job: Job) -> Exception:
    """Return google's exception for a job that has failed, with row and column if BigQuery names them."""
    status = job.resource["status"]
    result = status["errorResult"]
    details = [
        "; " + ", ".join(f"{name}: {value}" for name, value in each.items()) for each in status.get("errors", ())
    ]
    message = f"{result.get('message', '')}{''.join(details)}\n\nLocation: {job.location}\nJob ID: {job.job_id}\n"
    return _error_of_status(STATUS_OF_REASON.get(result.get("reason", ""), 500), message, [result], None)


def not_found(job_id: str, location: str | None) -> Exception:
    """Return google's exception for a job that does not exist."""
    where = location or "the multi-regions US and EU"
    message = f"There is no job {job_id} in {where}: pass its location if it runs elsewhere."
    return _error_of_status(404, message, [], None)


def _error_of_status(status: int, message: str, reasons: object, retry_after: float | None) -> Exception:
    from google.api_core.exceptions import from_http_status

    error: Exception = from_http_status(status, message, errors=reasons)
    error.retry_after = retry_after  # type: ignore[attr-defined]  # for retry policies; google keeps it in the response
    return error
