"""What can go wrong on the way to a token: one root, five kinds, each with the next step in its message."""

from __future__ import annotations


class CredentialsError(Exception):
    """The root of every error of this package.

    Args:
        message: What failed, where (a URL without its query) and what to do next. No secret, no response body.
        status: The HTTP status of the answer that failed, where there was one.
        retry_after: Seconds until asking again makes sense, where that is known.
    """

    def __init__(self, message: str, *, status: int | None = None, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after
        self.remembered = True  # whether others are told it for a while instead of asking as well


class AccountError(CredentialsError):
    """A field of the account, its file, its environment or its mapping is missing or malformed."""


class MissingField(AccountError, AttributeError):
    """A required field is not there. Also an `AttributeError`, as carto-auth raises it."""


class InvalidField(AccountError, ValueError):
    """A field is there, but empty, of the wrong type or malformed. Also a `ValueError`, as carto-auth raises it."""


class CredentialsFileNotFound(AccountError, FileNotFoundError):
    """The credentials file cannot be opened. Also a `FileNotFoundError`, as `open` raises it."""


class MissingDependency(AccountError, ImportError):
    """An extra of this package is not installed. Also an `ImportError`."""


class ClientRejected(CredentialsError):
    """CARTO refused this client, user or token (401, 403): asking again changes nothing, the named field does."""


class InteractionRequired(CredentialsError):
    """A person has to log in, and there is none here: on a worker no browser opens and nothing is read."""


class ServiceUnavailable(CredentialsError):
    """The network, a 429 or a 5xx, after the retries. `retry_after` says in how many seconds to come back."""


class UnexpectedResponse(CredentialsError):
    """An answer of another shape than the documented one: often a wrong URL or a proxy's page."""


KINDS: dict[str, type[CredentialsError]] = {
    kind.__name__: kind for kind in (CredentialsError, ClientRejected, ServiceUnavailable, UnexpectedResponse)
}
"""The kinds that a store may remember, by name."""
