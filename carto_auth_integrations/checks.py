"""Whether an account works: the stages from the first token to a query, one by one, within a time that holds."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import partial

from . import http
from .account.fields import without_password
from .account.secret import REDACTED
from .errors import ClientRejected, CredentialsError, ServiceUnavailable, UnexpectedResponse
from .oauth.grants import api_base_url_of, unexpected

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from .account.secret import Secret
    from .auth import CartoAuth

CHECK_TIMEOUT = 30.0
"""Seconds for all stages together: a healthy account takes three, and a person at a terminal waits no longer."""
USER_PATH = "/users/me"
"""CARTO does not document it, so of its answers only a refusal of the token counts, and a 5xx."""
LONGEST_DETAIL = 500
"""Characters of a foreign error's text that are shown: BigQuery's own sentences fit, a proxy's page does not."""


@dataclass(frozen=True)
class CheckResult:
    """What came of one stage; `str()` gives it as a line.

    Attributes:
        name: `credentials`, `CARTO API`, `DW token` or `SELECT 1`.
        ok: Whether it passed.
        seconds: How long it took.
        detail: What was found, or what failed and what to do next; never a secret or a token.
        error: The error itself if it did not pass.
    """

    name: str
    ok: bool
    seconds: float
    detail: str
    error: Exception | None = field(default=None, repr=False)

    def __str__(self) -> str:
        """Give the stage as one line, for wherever there are no colours."""
        return f"{'✓' if self.ok else '✗'} {self.name} ({self.seconds:.2f} s): {self.detail}"


def run_checks(auth: CartoAuth, *, timeout: float = CHECK_TIMEOUT) -> Iterator[CheckResult]:
    """Check an account stage by stage, and stop after the first that fails. Nobody is asked to log in.

    A stage that does not end in time is left behind on its daemon thread, and counts as failed.

    Args:
        auth: What to check.
        timeout: Seconds for all stages together.
    """
    deadline = time.monotonic() + timeout
    stages = _Stages(auth, deadline)
    for name, stage, place in _ORDER:
        started = time.monotonic()
        found = http.within(deadline - time.monotonic(), partial(stage, stages))
        seconds = time.monotonic() - started
        if isinstance(found, str):
            yield CheckResult(name, True, seconds, found)
            continue
        error = found or _too_slow(place, auth, timeout)
        yield CheckResult(name, False, seconds, describe(error, auth), error)
        return


def describe(error: Exception, auth: CartoAuth) -> str:
    """Give what failed and what to do next as one line without secrets.

    Args:
        error: An error of this package, of google or of anyone else.
        auth: Whose request failed.
    """
    cause = error if isinstance(error, CredentialsError) else error.__cause__
    text = str(cause) if isinstance(cause, CredentialsError) else _describe_foreign(error, auth)
    for secret in filter(None, _secrets_of(auth)):
        text = text.replace(secret.reveal(), REDACTED)
    printable = "".join(sign if sign.isprintable() else " " for sign in text)
    return without_password(" ".join(printable.split()))


def in_words(seconds: float) -> str:
    """Give a time span for people: `23 h 59 min`, `4 min 10 s`, `12 s`."""
    whole = int(seconds)
    days, hours, minutes = whole // 86400, whole // 3600 % 24, whole // 60 % 60
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {whole % 60} s" if minutes else f"{whole} s"


class _Stages:
    """The stages of one account; each gives what it found, or raises.

    Args:
        auth: What to check.
        deadline: When all of them must have ended, on the monotonic clock.
    """

    def __init__(self, auth: CartoAuth, deadline: float) -> None:
        self._auth = auth
        self._deadline = deadline

    def credentials(self) -> str:
        """Have an access token."""
        token = self._auth._source.get(interactive=False)
        left = token.expires_at - time.time()
        lives = f"lives for {in_words(left)}" if left < float("inf") else "has no known end"
        return f"the token of {_owner(self._auth)} {lives}"

    def carto_api(self) -> str:
        """Have CARTO's API take the token."""
        source, purpose = self._auth._source, f"CARTO API for {_owner(self._auth)}"
        base = api_base_url_of(self._auth.account, source.get(interactive=False))
        url = f"{base}{USER_PATH}"
        reply = http.call_as(source, "GET", url, purpose=purpose, interactive=False)
        if reply.status in (401, 403):
            raise ClientRejected(
                f"{purpose}: {url} refused the token ({reply.status}). Check api_base_url, auth_url and audience: "
                "they have to be of the same CARTO.",
                status=reply.status,
            )
        if reply.status >= 500:
            raise unexpected(reply, purpose, url, "Check api_base_url, or try again later.")
        return f"{base} answers and does not refuse the token ({reply.status})"

    def dw_token(self) -> str:
        """Have a DW token."""
        token = self._auth._warehouse_source().get(interactive=False)
        left = in_words(token.expires_at - time.time())
        return f"project {token.details['project_id']}, the token is taken to live for {left}"

    def select_1(self) -> str:
        """Run a query that costs nothing through the ready client."""
        from contextlib import closing

        with closing(self._auth.get_carto_dw_client()) as client:
            left = self._deadline - time.monotonic()
            once: dict[str, Any] = {"retry": None, "job_retry": None}  # google's own would go on for ten minutes
            rows = client.query_and_wait("SELECT 1", api_timeout=left, wait_timeout=left, **once)
            if [tuple(row) for row in rows] != [(1,)]:
                raise UnexpectedResponse(
                    f"{_bigquery(self._auth)} did not answer SELECT 1 with 1. Check bigquery_endpoint."
                )
            location = f" in {rows.location}" if rows.location else ""
            return f"{_bigquery(self._auth)} answers for project {client.project}{location}"


_ORDER = (
    ("credentials", _Stages.credentials, "auth_url"),
    ("CARTO API", _Stages.carto_api, "api_base_url"),
    ("DW token", _Stages.dw_token, "api_base_url"),
    ("SELECT 1", _Stages.select_1, "bigquery_endpoint"),
)
"""Each stage's name, what it does, and the field that says with whom it talks."""


def _too_slow(field_name: str, auth: CartoAuth, timeout: float) -> CredentialsError:
    place = getattr(auth.account, field_name)
    where = f"{field_name} ({place})" if place else field_name
    return ServiceUnavailable(
        f"No answer within the {timeout:g} s that all stages have together. Check {where} and the network, or "
        "allow more time."
    )


def _describe_foreign(error: Exception, auth: CartoAuth) -> str:
    family, code = type(error).__module__.partition(".")[0], getattr(error, "code", None)
    if family == "google" and isinstance(code, int):
        return f"{_bigquery(auth)} answered {int(code)}{_said(error)}. {_ADVICE.get(code, _TRY_LATER)}."
    if family == "requests":
        return f"{_bigquery(auth)} {http.why(error)}. Check bigquery_endpoint and the network."
    lines = str(error).splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:LONGEST_DETAIL]}"


_ADVICE = {
    400: "Check location and default_dataset",
    401: "Check that the warehouse belongs to this account, and bigquery_endpoint",
    403: "Check what the client's owner may do in the warehouse",
    404: "Check bigquery_endpoint and location",
}
_TRY_LATER = "Try again later"


def _said(error: Exception) -> str:
    """Give BigQuery's own sentence; nothing where the body was not BigQuery's: the text would be all of that body."""
    reasons = getattr(error, "errors", None) or [{}]
    message = reasons[0].get("message") if isinstance(reasons[0], dict) else None
    return f" ({message[:LONGEST_DETAIL].strip().rstrip('.')})" if isinstance(message, str) else ""


def _owner(auth: CartoAuth) -> str:
    return auth.account.client_id or "an API user"


def _bigquery(auth: CartoAuth) -> str:
    endpoint = auth.account.bigquery_endpoint
    return f"BigQuery at {endpoint}" if endpoint else "BigQuery"


def _secrets_of(auth: CartoAuth) -> tuple[Secret | None, ...]:
    warehouse = auth._warehouse.token if auth._warehouse else None
    return auth._source.token, warehouse, auth.account.client_secret, auth.account.access_token
