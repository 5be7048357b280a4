"""Every error of this package, and one classification: what is transient, and who else is told of a failure.

CredentialsError
├── AccountError            a field is missing or malformed
│   ├── MissingField            also an AttributeError
│   ├── InvalidField            also a ValueError
│   ├── CredentialsFileNotFound also a FileNotFoundError
│   └── MissingDependency       also an ImportError
├── ClientRejected          CARTO refused the client, the user or the token
├── InteractionRequired     a person has to log in, and none can be asked
├── ServiceUnavailable      the network, 429 or 5xx, after the retries
└── UnexpectedResponse      a response that is not the documented one
"""

from __future__ import annotations

import sys
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

TRANSIENT_STATUSES = frozenset({429, 500, 502, 503, 504})
"""HTTP statuses after which the same request may succeed."""
TRANSIENT_REASONS = frozenset(
    [
        "backendError",
        "badGateway",
        "internalError",
        "jobBackendError",
        "jobInternalError",
        "jobRateLimitExceeded",
        "rateLimitExceeded",
    ]
)
"""BigQuery's reasons for transient failures. https://cloud.google.com/bigquery/docs/error-messages"""
PERMANENT_REASONS = frozenset(["bytesBilledLimitExceeded"])
"""Reasons that Google's client does not know, so that it raises them as errors of the server."""
OAUTH_REFUSALS = frozenset(
    ["access_denied", "consent_required", "invalid_client", "invalid_grant", "login_required", "unauthorized_client"]
)
"""Error codes of OAuth and Auth0 that refuse this client, this user or this code."""
OAUTH_ERRORS = OAUTH_REFUSALS | frozenset(
    [
        "expired_token",
        "interaction_required",
        "invalid_request",
        "invalid_scope",
        "invalid_target",
        "server_error",
        "temporarily_unavailable",
        "too_many_requests",
        "unsupported_grant_type",
    ]
)
"""Error codes that a message may repeat. Any other text of a server could be what we sent."""


class Scope(Enum):
    """Who is told of a failed token request for a while, instead of making the same request."""

    CALLER = "caller"  # the caller alone: nothing was sent, or a person broke off a login
    PROCESS = "process"  # this process: its proxy, name resolution or certificates are at fault
    SHARED = "shared"  # every process that shares the token store: the server answered so


class CredentialsError(Exception):
    """The root of every error of this package.

    Args:
        message: What failed, where (a URL without its query) and the next step. No secret, no response body.
        status: The HTTP status of the response that failed, if there was one.
        retry_after: Seconds after which the request makes sense again, if known.
        scope: Who else is told of this failure.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        retry_after: float | None = None,
        scope: Scope = Scope.SHARED,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after
        self.scope = scope


class AccountError(CredentialsError):
    """A field of the account, its file, its environment or its mapping is missing or malformed."""

    def __init__(self, message: str) -> None:
        super().__init__(message, scope=Scope.CALLER)


class MissingField(AccountError, AttributeError):
    """A required field is missing. Also an `AttributeError`, as carto-auth raises it."""


class InvalidField(AccountError, ValueError):
    """A field is empty, of the wrong type or malformed. Also a `ValueError`, as carto-auth raises it."""


class CredentialsFileNotFound(AccountError, FileNotFoundError):
    """The credentials file cannot be opened. Also a `FileNotFoundError`, as `open` raises it."""


class MissingDependency(AccountError, ImportError):
    """An extra of this package is not installed. Also an `ImportError`."""


class ClientRejected(CredentialsError):
    """CARTO refused this client, user or token (401, 403): the same request fails until the named field is changed."""


class InteractionRequired(CredentialsError):
    """A person has to log in, and none can be asked: on a worker no browser opens and nothing is read."""


class ServiceUnavailable(CredentialsError):
    """The network failed, or the server answered 429 or 5xx, after the retries. See `retry_after`, in seconds."""


class UnexpectedResponse(CredentialsError):
    """The response is not the documented one: often a wrong URL, or a proxy's page."""


SHARED_KINDS: dict[str, type[CredentialsError]] = {
    kind.__name__: kind for kind in (CredentialsError, ClientRejected, ServiceUnavailable, UnexpectedResponse)
}
"""The errors that a token store may hold, by name."""


class CallFailed(Exception):
    """An HTTP call without a usable response. Its callers raise their own error instead: it never reaches a user.

    Args:
        why: What happened, without any secret.
        transient: Whether the same call may succeed later.
        scope: Who else is affected.
        status: The HTTP status, if there was a response.
        retry_after: Seconds, as the server says.
        message: The server's own sentence, if it is one that may be shown.
        reasons: BigQuery's list of errors: dicts with `reason` and `message`.
    """

    def __init__(
        self,
        why: str,
        *,
        transient: bool,
        scope: Scope = Scope.SHARED,
        status: int | None = None,
        retry_after: float | None = None,
        message: str = "",
        reasons: Sequence[Mapping[str, str]] = (),
    ) -> None:
        super().__init__(why)
        self.transient = transient
        self.scope = scope
        self.status = status
        self.retry_after = retry_after
        self.message = message
        self.reasons = reasons


_FOREIGN = ("google.api_core.exceptions", "google.auth.exceptions", "requests")


def is_transient(error: BaseException) -> bool:
    """Whether a query, a load or a token request that raised this error may succeed if it is simply repeated.

    True for CARTO or the network being unavailable, and for what BigQuery itself calls transient. False for a refused
    client, a missing field, a wrong statement, missing permissions and a timeout.

    Args:
        error: What was raised. Google's libraries wrap this package's errors, so its causes are looked at as well.
    """
    for cause in causes_of(error):
        if isinstance(cause, CredentialsError):
            return isinstance(cause, ServiceUnavailable)
        transient = cause.transient if isinstance(cause, CallFailed) else _is_foreign_transient(cause)
        if transient is not None:
            return transient
    return False


def causes_of(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and the errors behind it."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def is_transient_answer(status: int | None, reasons: Sequence[object]) -> bool:
    """Whether BigQuery's answer is transient, by its reasons and its HTTP status."""
    named = {each.get("reason") for each in reasons if isinstance(each, dict)}
    return not named & PERMANENT_REASONS and (bool(named & TRANSIENT_REASONS) or status in TRANSIENT_STATUSES)


def _is_foreign_transient(error: BaseException) -> bool | None:
    """Judge an error of another library; None if it says nothing, as a wrapper does.

    A library that is not loaded has raised nothing, so nothing is imported here.
    """
    google, auth, requests = map(sys.modules.get, _FOREIGN)
    if google and isinstance(error, google.GoogleAPICallError):
        return is_transient_answer(error.code, error.errors)
    if requests and isinstance(error, requests.exceptions.SSLError):
        return False  # a certificate does not mend itself
    interrupted: list[type[BaseException]] = [ConnectionError]
    if requests:
        interrupted += [requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError]
    if auth and not (error.__cause__ or error.__context__):
        interrupted.append(auth.TransportError)
    return True if isinstance(error, tuple(interrupted)) else None
