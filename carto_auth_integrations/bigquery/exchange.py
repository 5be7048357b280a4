"""The tokens of the CARTO Data Warehouse: a CARTO access token is exchanged for a Google token and its project."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING

from .. import http
from ..errors import ClientRejected
from ..oauth.grants import api_base_url_of, unexpected
from ..tokens.token import Token, lead_of

if TYPE_CHECKING:
    from ..account.secret import Secret
    from ..oauth.access_tokens import AccessTokens
    from ..tokens.token import Interactive

TOKEN_PATH = "/v3/connections/carto-dw/token"
ASSUMED_LIFETIME = 1800.0
"""Seconds that a DW token lives if the response does not say: half of Google's hour, as it may be part-used."""
SEEN_TOO_LONG = 60.0
"""Seconds that a token is used further if CARTO returns it again after its assumed expiry."""


class DataWarehouseExchange:
    """The grant of DW tokens.

    CARTO documents neither the lifetime of a DW token nor a field for it. `expires_in` and `expires_at` are used if the
    response has one; otherwise 30 minutes from when the token was first returned.

    Args:
        access: The CARTO access tokens.
    """

    def __init__(self, access: AccessTokens) -> None:
        self._access = access

    def __call__(self, previous: Token, *, interactive: Interactive) -> Token:
        """Request a DW token; `details["project_id"]` is the BigQuery project.

        Raises:
            ClientRejected: If the user is refused, or has no warehouse.
            CredentialsError: If no token can be obtained; its class says why.
        """
        access = self._access
        purpose = f"CARTO DW token of {access.account.owner}"
        url = f"{api_base_url_of(access.account, access.get(interactive=interactive))}{TOKEN_PATH}"
        clock = access.source.clock
        started = clock.time()
        reply = http.authorized(
            lambda: access.get(interactive=interactive),
            access.source.reject,
            lambda token: http.call("GET", url, purpose=purpose, bearer=token),
        )
        if reply.status in (401, 403):
            raise ClientRejected(
                f"{purpose}: {url} refused ({reply.status}). Check api_base_url and the permissions of the client's "
                "owner (API access tokens do not open the warehouse).",
                status=reply.status,
            )
        if reply.status == 404:
            raise ClientRejected(
                f"{purpose}: {url} knows no CARTO Data Warehouse (404). Check api_base_url, and that the user has one.",
                status=404,
            )
        secret, project = reply.secret("token"), reply.text("projectId")
        if reply.status != 200 or secret is None or project is None:
            raise unexpected(reply, purpose, url, "Please, make sure api_base_url is correctly defined.")
        took = clock.time() - started
        return _dated(secret, _lifetime_in(reply), started, took, previous, {"project_id": project})


def _dated(
    secret: Secret, lifetime: float | None, started: float, took: float, previous: Token, details: dict[str, str]
) -> Token:
    """Return the token with its times. One that CARTO returns again keeps its assumed expiry."""
    if secret.reveal() != previous.reveal() or not previous.expires_at:
        return Token.issued(
            secret,
            started_at=started,
            lifetime=ASSUMED_LIFETIME if lifetime is None else lifetime,
            took=took,
            details=details,
        )
    end = previous.expires_at if lifetime is None else started + lifetime
    if end <= started:
        end = started + SEEN_TOO_LONG
    return Token(
        secret.reveal(),
        obtained_at=previous.obtained_at,
        expires_at=end,
        stale_at=max(end - lead_of(end - previous.obtained_at), (started + end) / 2),
        details=details,
    )


def _lifetime_in(reply: http.Reply) -> float | None:
    """Return how many seconds a DW token lives, if the response says so."""
    seconds = reply.number("expires_in")
    if seconds is not None and seconds > 0:
        return seconds
    moment = reply.number("expires_at") or _epoch(reply.text("expires_at"))
    return max(moment - http.server_time(reply.headers), 1.0) if moment and moment > 0 else None


def _epoch(text: str | None) -> float | None:
    """Return an ISO 8601 time as UTC epoch seconds; one without a zone is in UTC."""
    try:
        moment = datetime.fromisoformat((text or "").replace("Z", "+00:00"))
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()
