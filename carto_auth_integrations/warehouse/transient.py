"""Which failures pass by themselves: what an orchestrator may try again without anybody changing anything."""

from __future__ import annotations

from ..errors import CredentialsError, ServiceUnavailable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

REASONS = frozenset(
    {
        "backendError",
        "badGateway",
        "internalError",
        "jobBackendError",
        "jobInternalError",
        "jobRateLimitExceeded",
        "rateLimitExceeded",
    }
)
"""BigQuery's own words for what passes. https://cloud.google.com/bigquery/docs/error-messages"""
STATUSES = frozenset({429, 500, 502, 503, 504})
"""The same as HTTP says it, where an answer has no such word."""


def is_transient(error: BaseException) -> bool:
    """Tell whether a query or load that raised this may succeed if it is simply tried again.

    CARTO or the network unavailable, and what BigQuery itself calls transient. A refused client, a missing field, a
    wrong statement, missing rights and a time limit are not.

    Args:
        error: What was raised; what it was raised from decides where the error itself comes from Google's
            authentication, which wraps this package's errors.
    """
    for one in chain_of(error):
        if isinstance(one, CredentialsError):
            return isinstance(one, ServiceUnavailable)
        verdict = _verdict(one)
        if verdict is not None:
            return verdict
    return False


def _verdict(error: BaseException) -> bool | None:
    """Judge one error of the chain; None if it says nothing, as a wrapper does."""
    from google.api_core.exceptions import GoogleAPICallError
    from google.auth.exceptions import TransportError
    from requests import ConnectionError as RequestsConnectionError
    from requests import Timeout
    from requests.exceptions import ChunkedEncodingError, SSLError

    if isinstance(error, GoogleAPICallError):
        reasons = {each.get("reason") for each in error.errors if isinstance(each, dict)} - {None}
        return bool(reasons & REASONS) or error.code in STATUSES
    if isinstance(error, SSLError):
        return False  # a certificate does not mend itself, though requests calls it a connection error
    if isinstance(error, (RequestsConnectionError, Timeout, ChunkedEncodingError, ConnectionError)):
        return True
    if isinstance(error, TransportError) and not (error.__cause__ or error.__context__):
        return True
    return None


def chain_of(error: BaseException | None) -> Iterator[BaseException]:
    """Give an error and those behind it: Google's libraries wrap what this package raises."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
