"""CartoRetryPolicy: which failures of a task a retry can solve, and when. Needs Airflow 3.3."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from carto_auth_integrations.errors import (
    AccountError,
    ClientRejected,
    CredentialsError,
    InteractionRequired,
    causes_of,
)

if TYPE_CHECKING:
    from typing import Any

    from airflow.sdk.definitions.retry_policy import RetryDecision, RetryPolicy
else:
    try:
        from airflow.sdk.definitions.retry_policy import RetryPolicy
    except ImportError:
        RetryPolicy = object  # an older Airflow, which never calls a policy

HOPELESS = (AccountError, ClientRejected, InteractionRequired)
"""Errors that no retry solves: a field has to be changed, or a person has to log in."""


class CartoRetryPolicy(RetryPolicy):
    """Fail at once if the account is at fault, wait as long as a server says, and leave all else to the task.

    For any task that works with CARTO.

    Example:
        ```python
        default_args = {"retries": 5, "retry_policy": CartoRetryPolicy()}
        ```
    """

    def evaluate(self, exception: BaseException, try_number: int, max_tries: int, context: Any = None) -> RetryDecision:
        """Decide what happens after a failed try.

        Args:
            exception: What the task raised. Its causes are looked at too.
            try_number: Which try failed, from 1.
            max_tries: How many the task has.
            context: The task's context.
        """
        from airflow.sdk.definitions.retry_policy import RetryDecision

        for error in causes_of(exception):
            if isinstance(error, HOPELESS):
                return RetryDecision.fail(reason=str(error))
            wait = _retry_after(error)
            if wait is not None:
                return RetryDecision.retry(delay=timedelta(seconds=wait), reason=f"the server says: in {wait:g} s")
        return RetryDecision.default()


def _retry_after(error: BaseException) -> float | None:
    """Return the seconds to wait, as CARTO or Google says; None if they do not."""
    from google.api_core.exceptions import GoogleAPICallError, TooManyRequests

    if isinstance(error, CredentialsError):
        return error.retry_after
    if not isinstance(error, GoogleAPICallError):
        return None
    seconds: float | None = getattr(error, "retry_after", None)  # set by the warehouse
    if seconds is None and isinstance(error, TooManyRequests):  # raised by a client of the user's own
        try:
            seconds = max(float(getattr(error.response, "headers", {})["Retry-After"]), 0.0)
        except (KeyError, ValueError):  # no header, or a date
            pass
    return seconds
