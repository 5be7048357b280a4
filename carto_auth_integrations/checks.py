"""Whether an account works: the stages from the first token to a query, one by one, within a time limit."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import partial
from typing import TYPE_CHECKING, Any

from . import http
from .account.fields import without_password
from .account.secret import REDACTED
from .bigquery.client import make_client
from .errors import CallFailed, ClientRejected, CredentialsError, ServiceUnavailable, UnexpectedResponse
from .oauth.grants import api_base_url_of, unexpected
from .waiting import Deadline, on_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .account.secret import Secret
    from .bigquery.dw_tokens import DWTokens

CHECK_TIMEOUT = 30.0
"""Seconds for all stages together: a healthy account takes three, and a person at a terminal waits no longer."""
USER_PATH = "/users/me"
"""CARTO does not document it, so only a refusal of the token counts among its answers, and a 5xx."""
LONGEST_DETAIL = 500
"""Characters of a foreign error's text that are shown: BigQuery's own sentences fit, a proxy's page does not."""
FOREVER = float("inf")


@dataclass(frozen=True)
class CheckResult:
    """The result of one stage; `str()` returns it as a line.

    Attributes:
        name: `credentials`, `CARTO API`, `DW token` or `SELECT 1`.
        ok: Whether it passed.
        seconds: How long it took.
        detail: What was found, or what failed and what to do next; never a secret or a token.
        error: The error if it did not pass.
    """

    name: str
    ok: bool
    seconds: float
    detail: str
    error: Exception | None = field(default=None, repr=False)

    def __str__(self) -> str:
        """Return the stage as one line without colours."""
        return f"{'✓' if self.ok else '✗'} {self.name} ({self.seconds:.2f} s): {self.detail}"


def run_checks(tokens: DWTokens, *, timeout: float = CHECK_TIMEOUT) -> Iterator[CheckResult]:
    """Check an account stage by stage, and stop at the first that fails. Nobody is asked to log in.

    A stage that does not end in time is left behind on its daemon thread, and counts as failed.

    Args:
        tokens: The tokens of the account.
        timeout: Seconds for all stages together.
    """
    deadline = Deadline(timeout)
    for name, stage, place in _STAGES:
        started = time.monotonic()
        error: Exception
        try:
            found = on_thread(partial(stage, tokens, deadline), deadline.left(), deadline)
        except Exception as failure:  # whatever it is, it is this stage's result
            is_late = isinstance(failure, TimeoutError) or not deadline.left()  # the latter for requests' own
            error = _too_slow(place, tokens, timeout) if is_late else failure
        else:
            yield CheckResult(name, True, time.monotonic() - started, found)
            continue
        yield CheckResult(name, False, time.monotonic() - started, describe(error, tokens), error)
        return


def describe(error: Exception, tokens: DWTokens) -> str:
    """Return what failed and what to do next as one line without secrets.

    Args:
        error: An error of this package, of google or of another library.
        tokens: The tokens of the account whose request failed.
    """
    cause = error if isinstance(error, CredentialsError) else error.__cause__
    text = str(cause) if isinstance(cause, CredentialsError) else _describe_foreign(error, tokens)
    for secret in filter(None, _secrets_of(tokens)):
        text = text.replace(secret.reveal(), REDACTED)
    printable = "".join(sign if sign.isprintable() else " " for sign in text)
    return without_password(" ".join(printable.split()))


def _check_credentials(tokens: DWTokens, deadline: Deadline) -> str:
    token = tokens.access.get(deadline=deadline)
    return f"the token of {tokens.account.owner} {_expiry(token.expires_at)}"


def _check_carto_api(tokens: DWTokens, deadline: Deadline) -> str:
    access, purpose = tokens.access, f"CARTO API for {tokens.account.owner}"
    base = api_base_url_of(tokens.account, access.get(deadline=deadline))
    url = f"{base}{USER_PATH}"
    reply = http.authorized(
        partial(access.get, deadline=deadline),
        access.source.reject,
        lambda token: http.call("GET", url, purpose=purpose, bearer=token, deadline=deadline),
    )
    if reply.status in (401, 403):
        raise ClientRejected(
            f"{purpose}: {url} refused the token ({reply.status}). Check api_base_url, auth_url and audience: "
            "they have to belong to the same CARTO.",
            status=reply.status,
        )
    if reply.status >= 500:
        raise unexpected(reply, purpose, url, "Check api_base_url, or try again later.")
    return f"{base} answers and does not refuse the token ({reply.status})"


def _check_dw_token(tokens: DWTokens, deadline: Deadline) -> str:
    token = tokens.get(deadline=deadline)
    return f"project {token.details['project_id']}, the token {_expiry(token.expires_at)}"


def _check_select_1(tokens: DWTokens, deadline: Deadline) -> str:
    """Run a query that costs nothing through the ready client."""
    project = tokens.get(deadline=deadline).details["project_id"]
    with closing(make_client(tokens, project, {})) as client:
        left = deadline.left()
        once: dict[str, Any] = {"retry": None, "job_retry": None}  # google's own would retry for ten minutes
        rows = client.query_and_wait("SELECT 1", api_timeout=left, wait_timeout=left, **once)
        if [tuple(row) for row in rows] != [(1,)]:
            raise UnexpectedResponse(f"{_bigquery(tokens)} did not answer SELECT 1 with 1. Check bigquery_endpoint.")
        location = f" in {rows.location}" if rows.location else ""
        return f"{_bigquery(tokens)} answers for project {client.project}{location}"


_STAGES: tuple[tuple[str, Callable[[DWTokens, Deadline], str], str], ...] = (
    ("credentials", _check_credentials, "auth_url"),
    ("CARTO API", _check_carto_api, "api_base_url"),
    ("DW token", _check_dw_token, "api_base_url"),
    ("SELECT 1", _check_select_1, "bigquery_endpoint"),
)
"""Each stage's name, its check, and the field that names the server."""


def _expiry(moment: float) -> str:
    if moment == FOREVER:
        return "has no known expiry"
    return f"is valid until {datetime.fromtimestamp(moment, timezone.utc):%Y-%m-%d %H:%M} UTC"


def _too_slow(field_name: str, tokens: DWTokens, timeout: float) -> CredentialsError:
    place = getattr(tokens.account, field_name)
    where = f"{field_name} ({place})" if place else field_name
    return ServiceUnavailable(
        f"No answer within the {timeout:g} s that all stages have together. Check {where} and the network, or "
        "allow more time."
    )


def _describe_foreign(error: Exception, tokens: DWTokens) -> str:
    from google.api_core.exceptions import GoogleAPICallError
    from requests import RequestException

    if isinstance(error, GoogleAPICallError) and error.code is not None:
        code = int(error.code)
        return f"{_bigquery(tokens)} answered {code}{_said(error)}. {_ADVICE.get(code, _TRY_LATER)}."
    if isinstance(error, RequestException):
        error = http.failure_of(error)
    if isinstance(error, CallFailed):
        return f"{_bigquery(tokens)} {error}. Check bigquery_endpoint and the network."
    lines = str(error).splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:LONGEST_DETAIL]}"


_ADVICE = {
    400: "Check location and default_dataset",
    401: "Check that the warehouse belongs to this account, and bigquery_endpoint",
    403: "Check what the client's owner may do in the warehouse",
    404: "Check bigquery_endpoint and location",
}
_TRY_LATER = "Try again later"


def _said(error: Any) -> str:
    """Return BigQuery's own sentence; nothing if the body was another's, for then the text is all of that body."""
    reasons = error.errors or [{}]
    message = reasons[0].get("message") if isinstance(reasons[0], dict) else None
    return f" ({message[:LONGEST_DETAIL].strip().rstrip('.')})" if isinstance(message, str) else ""


def _bigquery(tokens: DWTokens) -> str:
    endpoint = tokens.account.bigquery_endpoint
    return f"BigQuery at {endpoint}" if endpoint else "BigQuery"


def _secrets_of(tokens: DWTokens) -> tuple[Secret | None, ...]:
    account = tokens.account
    held = tokens.source.token if account.api_base_url or account.auth_mode == "oauth" else None
    return tokens.access.source.token, held, account.client_secret, account.access_token
