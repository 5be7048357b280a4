"""The grant of the CARTO Data Warehouse: a CARTO access token for a short-lived Google token and its project."""

from __future__ import annotations

import time

from .. import http
from ..errors import ClientRejected
from ..oauth.grants import api_base_url_of, unexpected
from ..tokens.token import Token, lead_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..account.account import CartoAccount
    from ..account.secret import Secret
    from ..tokens.source import TokenSource
    from ..tokens.token import Interactive

TOKEN_PATH = "/v3/connections/carto-dw/token"
ASSUMED_LIFETIME = 1800.0
"""Seconds a DW token is taken to live where the answer does not say: half of Google's hour, as it may be part-used."""
SHORTEST_ASSUMPTION = 300.0
"""Seconds below which one early 401 does not bring the assumption: a token revoked by hand says nothing of the next."""
SEEN_TOO_LONG = 60.0
"""Seconds a token is used on when CARTO hands it out again past its assumed end."""
LIFETIME_FIELDS = ("expires_in", "expiresIn")
MOMENT_FIELDS = ("expiration", "expires_at", "expiresAt", "expiry", "expireTime")
A_DURATION = 1e8
"""A number below this is no moment but a lifetime: as an epoch time it would lie in 1973."""
MILLISECONDS_FROM = 1e11
"""An epoch time from here on counts milliseconds: as seconds it would be the year 5138."""


class DataWarehouseExchange:
    """Exchanges the CARTO access token for a DW token.

    CARTO documents neither the DW token's lifetime nor a field for it. A field is believed where there is one;
    otherwise the token is taken to live 30 minutes from when it was first seen, and less after an early 401.

    Args:
        account: Whose warehouse.
        carto: The source of the CARTO access token.
    """

    def __init__(self, account: CartoAccount, carto: TokenSource) -> None:
        self._account = account
        self._carto = carto
        self._assumed = ASSUMED_LIFETIME
        self._was_rejected = False

    def __call__(self, previous: Token, *, interactive: Interactive) -> Token:
        """Ask for a DW token; `details["project_id"]` names the BigQuery project.

        Raises:
            ClientRejected: If the user may not, or has no warehouse.
            CredentialsError: If there is no token to be had; the kind says why.
        """
        token = self._carto.get(interactive=interactive)
        purpose = f"CARTO DW token of {self._account.client_id or 'the access token'}"
        url = f"{api_base_url_of(self._account, token)}{TOKEN_PATH}"
        started = time.time()
        reply = http.call_as(self._carto, "GET", url, purpose=purpose, interactive=interactive)
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
        return self._dated(secret, _lifetime_in(reply), started, previous, {"project_id": project})

    def _dated(
        self, secret: Secret, lifetime: float | None, started: float, previous: Token, details: dict[str, str]
    ) -> Token:
        """Give the token its times; one that CARTO hands out again keeps the end it had."""
        if secret.reveal() != previous.reveal() or not previous.expires_at:
            assumed = self._assume()
            lifetime = assumed if lifetime is None else lifetime
            return Token.minted(secret, started_at=started, lifetime=lifetime, details=details)
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

    def learn_from_rejection(self, token: Token) -> None:
        """Take an early 401 into account: the next token is taken to live no longer than this one did."""
        age = time.time() - token.obtained_at
        self._assumed = min(self._assumed, max(age, SHORTEST_ASSUMPTION))
        self._was_rejected = True

    def _assume(self) -> float:
        """Give the lifetime to assume for a new token; after one that lasted, twice the last assumption."""
        if not self._was_rejected:
            self._assumed = min(self._assumed * 2, ASSUMED_LIFETIME)
        self._was_rejected = False
        return self._assumed


def _lifetime_in(reply: http.Reply) -> float | None:
    """Read how long a DW token lives, in seconds, from whatever field says so; None if none does."""
    for name in LIFETIME_FIELDS:
        seconds = reply.number(name)
        if seconds is not None and seconds > 0:
            return seconds
    for name in MOMENT_FIELDS:
        moment = reply.number(name)
        if moment is None:
            moment = _moment(reply.text(name))
        elif moment > MILLISECONDS_FROM:
            moment /= 1000
        if moment is not None and 0 < moment < A_DURATION:
            return moment
        if moment is not None and moment > 0:
            return max(moment - http.server_time(reply.headers), 1.0)
    return None


def _moment(text: str | None) -> float | None:
    """Read an ISO 8601 time as UTC epoch seconds; one without zone is UTC."""
    from datetime import datetime, timezone

    try:
        moment = datetime.fromisoformat((text or "").replace("Z", "+00:00"))
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()
