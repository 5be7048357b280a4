"""CartoRetryPolicy: which failures of a task another try can mend, and when. For Airflow 3.3, the first to ask."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from carto_auth_integrations.errors import AccountError, ClientRejected, InteractionRequired, ServiceUnavailable
from carto_auth_integrations.warehouse.transient import chain_of

if TYPE_CHECKING:
    from airflow.sdk.definitions.retry_policy import RetryDecision, RetryPolicy
else:
    try:
        from airflow.sdk.definitions.retry_policy import RetryPolicy
    except ImportError:
        RetryPolicy = object  # an Airflow that knows no policies: nobody will ask

HOPELESS = (AccountError, ClientRejected, InteractionRequired)
"""What another try cannot mend: a field has to be changed, or a person has to log in."""
TOO_MANY_REQUESTS = 429


class CartoRetryPolicy(RetryPolicy):
    """Fails at once where the account is at fault, waits as long as a server says, and leaves all else to the task.

    Give it to any task that works with CARTO: `retry_policy=CartoRetryPolicy()`.
    """

    def evaluate(self, exception: BaseException, try_number: int, max_tries: int, context: Any = None) -> RetryDecision:
        """Decide on a failed try.

        Args:
            exception: What the task raised; what it was raised from counts as well.
            try_number: Which try failed, from 1.
            max_tries: How many the task has.
            context: The task's context.
        """
        from airflow.sdk.definitions.retry_policy import RetryDecision

        for error in chain_of(exception):
            if isinstance(error, HOPELESS):
                return RetryDecision.fail(reason=str(error))
            wait = _wait_of(error)
            if wait is not None:
                return RetryDecision.retry(delay=timedelta(seconds=wait), reason=f"asked to come back in {wait:g} s")
        return RetryDecision.default()


def _wait_of(error: BaseException) -> float | None:
    """Give the seconds that CARTO or Google says to wait; None where none does."""
    if isinstance(error, ServiceUnavailable):
        return error.retry_after
    if getattr(error, "code", None) != TOO_MANY_REQUESTS:
        return None
    headers = getattr(getattr(error, "response", None), "headers", None) or {}
    try:
        return max(float(headers.get("Retry-After", "")), 0.0)
    except ValueError:
        return None
