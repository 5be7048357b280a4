"""Tokens with their times, and failures that are remembered: what a token store holds."""

from __future__ import annotations

import time
from enum import Enum
from typing import TYPE_CHECKING

from ..account.secret import Secret
from ..errors import SHARED_KINDS, ClientRejected, CredentialsError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Literal, TypeAlias

    Interactive: TypeAlias = bool | Literal["paste"]
    """Whether a person may be asked to log in; `paste` means without opening a browser."""
    Record: TypeAlias = dict[str, object]
    """What a store writes, as plain JSON types."""

LONG_LIFETIME = 600.0
"""Seconds of lifetime from which a token is refreshed by the clock alone. CARTO's live 24 hours, Google's one hour."""
MAX_LEAD = 900.0
"""Seconds before expiry at which a long-lived token is refreshed: time for an outage of the token endpoint to end."""
MIN_LEAD = 301.0
"""gcsfs and others ask for a new token 300 s before expiry: this package refreshes before they ask."""
LEAD_JITTER = 0.2
"""Share of the lead that is random, so that many processes do not refresh in the same second."""
SHORT_LEAD = 1 / 20
"""Share of a short lifetime that is given up for a refresh in time …"""
LEAD_PER_REQUEST = 1.5
"""… unless the token request took longer: then one and a half of its duration, and at most half the lifetime."""
MAX_MARGIN = 5.0
"""Within this many seconds before expiry, use the token only if the refresh fails: a request takes a while."""
MARGIN = 1 / 100
"""The same as a share of short lifetimes."""
CLOCK_TOLERANCE = 300.0
"""Seconds that a stored time may lie in the future. Beyond that, another clock wrote it, and it is not used."""
FAILURE_TOLERANCE = 5.0
"""The same for a remembered failure: it lasts seconds, so a clock that was put back must not prolong it."""
LONGEST_BACKOFF = 600.0
"""Seconds that a failure may be remembered, whatever a server or a store says."""
REJECTED_BACKOFF = 30.0
"""Seconds for which a refused client is not tried again: long for a fleet, short for a person who has corrected it."""
UNAVAILABLE_BACKOFF = 5.0
"""Seconds for which a broken endpoint is not called again, if it does not say for how long itself."""

FOREVER = float("inf")


class State(Enum):
    """What a token is good for."""

    FRESH = "fresh"  # use it
    STALE = "stale"  # use it, and refresh it in the background
    ENDING = "ending"  # use it only if no other can be had: a request might not arrive before it expires
    EXPIRED = "expired"  # the server no longer accepts it


class Token(Secret):
    """A bearer token with its times, all in UTC epoch seconds.

    Args:
        value: The bearer token.
        obtained_at: When the request that returned it was sent.
        expires_at: When the server stops accepting it; infinity if unknown.
        stale_at: When it is refreshed in the background.
        refresh_token: What refreshes it, if the server granted one.
        details: What came with it (`project_id`, `api_base_url`).
    """

    __slots__ = ("details", "expires_at", "obtained_at", "refresh_token", "stale_at")

    def __init__(
        self,
        value: str,
        *,
        obtained_at: float,
        expires_at: float = FOREVER,
        stale_at: float = FOREVER,
        refresh_token: Secret | None = None,
        details: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(value)
        self.obtained_at = obtained_at
        self.expires_at = expires_at
        self.stale_at = min(stale_at, expires_at)
        self.refresh_token = refresh_token
        self.details = dict(details or {})

    @classmethod
    def issued(
        cls,
        secret: Secret,
        *,
        started_at: float,
        lifetime: float,
        took: float = 0.0,
        refresh_token: Secret | None = None,
        details: Mapping[str, str] | None = None,
    ) -> Token:
        """Return the token of a response that has just arrived.

        Args:
            secret: The bearer token.
            started_at: When the request was sent, UTC epoch seconds; the lifetime counts from here.
            lifetime: Seconds, as the server says.
            took: Seconds that the request took.
            refresh_token: What refreshes it.
            details: What came with it.
        """
        return cls(
            secret.reveal(),
            obtained_at=started_at,
            expires_at=started_at + lifetime,
            stale_at=started_at + lifetime - lead_of(lifetime, took),
            refresh_token=refresh_token,
            details=details,
        )

    def state(self, now: float) -> State:
        """Return what the token is good for.

        Args:
            now: UTC epoch seconds.
        """
        if now < self.stale_at:
            return State.FRESH
        if now < self.expires_at - min(MAX_MARGIN, (self.expires_at - self.obtained_at) * MARGIN):
            return State.STALE
        return State.ENDING if now < self.expires_at else State.EXPIRED

    def is_usable(self, now: float) -> bool:
        """Whether the token is FRESH or STALE."""
        return self.state(now) in (State.FRESH, State.STALE)

    def is_valid(self, now: float) -> bool:
        """Whether the server still accepts the token."""
        return self.state(now) is not State.EXPIRED

    def without_refresh_token(self) -> Token:
        """Return the same token without its refresh token."""
        return Token(
            self._value,
            obtained_at=self.obtained_at,
            expires_at=self.expires_at,
            stale_at=self.stale_at,
            details=self.details,
        )

    def expired(self) -> Token:
        """Return the same token as EXPIRED, with its refresh token and details."""
        return Token(
            self._value,
            obtained_at=self.obtained_at,
            expires_at=0.0,
            refresh_token=self.refresh_token,
            details=self.details,
        )

    def record(self) -> Record:
        """Return what a store writes."""
        record: Record = {"access_token": self._value, "obtained_at": self.obtained_at}
        if self.expires_at != FOREVER:
            record |= {"expires_at": self.expires_at, "stale_at": self.stale_at}
        if self.refresh_token:
            record["refresh_token"] = self.refresh_token.reveal()
        if self.details:
            record["details"] = self.details
        return record

    @classmethod
    def from_record(cls, record: object, now: float) -> Token | None:
        """Read a stored record; return None if it is malformed, or was written by a clock ahead of this one."""
        if not isinstance(record, dict):
            return None
        value, refresh_token, details = (record.get(name) for name in ("access_token", "refresh_token", "details"))
        obtained_at, expires_at = _time(record.get("obtained_at")), _time(record.get("expires_at", FOREVER))
        stale_at = _time(record.get("stale_at", FOREVER))
        if not isinstance(value, str) or not value or obtained_at is None or expires_at is None or stale_at is None:
            return None
        if obtained_at > now + CLOCK_TOLERANCE or not _is_text_by_text(details or {}):
            return None
        return cls(
            value,
            obtained_at=obtained_at,
            expires_at=expires_at,
            stale_at=stale_at,
            refresh_token=Secret(refresh_token) if isinstance(refresh_token, str) and refresh_token else None,
            details=details,
        )


NO_TOKEN = Token("", obtained_at=0.0, expires_at=0.0)
"""What a source holds before its first token. It is EXPIRED."""


def lead_of(lifetime: float, took: float = 0.0, draw: float | None = None) -> float:
    """Return how many seconds before its expiry a token is refreshed in the background.

    Args:
        lifetime: Seconds the token lives.
        took: Seconds the token request took.
        draw: A number in [0, 1) for the jitter; random if left out.
    """
    if lifetime < LONG_LIFETIME:
        return min(lifetime / 2, max(lifetime * SHORT_LEAD, took * LEAD_PER_REQUEST))
    if draw is None:
        from random import random  # a process that finds its token in the store draws nothing

        draw = random()
    lead = min(lifetime / 2, MAX_LEAD) * (1 - LEAD_JITTER * draw)
    return max(lead, min(MIN_LEAD, lifetime / 2))


def latest_expiry(expiration: float) -> float:
    """Return the latest moment that a caller's `expiration` may mean, in UTC epoch seconds.

    carto-auth computes it as `utcnow().timestamp()`, which is too early by the UTC offset on a machine east of UTC.
    The token is used until then; a server's 401 decides.
    """
    try:
        return expiration + max(time.localtime(expiration).tm_gmtoff, 0)
    except (OverflowError, OSError, ValueError):  # beyond the years that the system's calendar knows
        return expiration


class Failure:
    """A failed token request: until a given time every caller gets its error, and the request is not repeated.

    Args:
        error: The error of the request.
        until: UTC epoch seconds until which the request is not repeated.
        failed_at: UTC epoch seconds of the failure.
    """

    __slots__ = ("error", "failed_at", "until")

    def __init__(self, error: CredentialsError, *, failed_at: float, until: float) -> None:
        self.error = error
        self.failed_at = failed_at
        self.until = until

    @classmethod
    def of(cls, error: CredentialsError, now: float) -> Failure:
        """Return the failure of an error, remembered for as long as the server says, else by its kind."""
        backoff = REJECTED_BACKOFF if isinstance(error, ClientRejected) else UNAVAILABLE_BACKOFF
        if error.retry_after is not None:
            backoff = max(backoff, error.retry_after)
        return cls(error, failed_at=now, until=now + min(backoff, LONGEST_BACKOFF))

    def holds(self, now: float) -> bool:
        """Whether it is still remembered. One from the future is not: a clock was put back."""
        return self.failed_at - FAILURE_TOLERANCE <= now < self.until

    def again(self, now: float) -> CredentialsError:
        """Return the error anew for one more caller, with the seconds that are left."""
        left = max(self.until - now, 0.0)
        return type(self.error)(
            f"{self.error} (not asked again for {left:.0f} s)", status=self.error.status, retry_after=left
        )

    def record(self) -> Record:
        """Return what a store writes."""
        kind = next((name for name, kind in SHARED_KINDS.items() if kind is type(self.error)), "CredentialsError")
        return {
            "kind": kind,
            "message": str(self.error),
            "status": self.error.status,
            "failed_at": self.failed_at,
            "until": self.until,
        }

    @classmethod
    def from_record(cls, record: object) -> Failure | None:
        """Read a stored record; return None if it is malformed."""
        if (
            not isinstance(record, dict)
            or not isinstance(record.get("kind"), str)
            or record["kind"] not in SHARED_KINDS
        ):
            return None
        message, status = record.get("message"), record.get("status")
        failed_at, until = _time(record.get("failed_at")), _time(record.get("until"))
        if not isinstance(message, str) or failed_at is None or until is None or until - failed_at > LONGEST_BACKOFF:
            return None
        error = SHARED_KINDS[record["kind"]](message, status=status if isinstance(status, int) else None)
        return cls(error, failed_at=failed_at, until=until)


class Entry:
    """What a store holds for one credential: the last token, the last failure, both or neither."""

    __slots__ = ("failure", "token")

    def __init__(self, token: Token | None = None, failure: Failure | None = None) -> None:
        self.token = token
        self.failure = failure

    def record(self) -> Record:
        """Return what a store writes."""
        record: Record = {}
        if self.token:
            record["token"] = self.token.record()
        if self.failure:
            record["failure"] = self.failure.record()
        return record

    @classmethod
    def from_record(cls, record: object, now: float) -> Entry:
        """Read a stored record; leave out what is malformed."""
        if not isinstance(record, dict):
            return cls()
        return cls(Token.from_record(record.get("token"), now), Failure.from_record(record.get("failure")))


def _time(value: object) -> float | None:
    """Return a stored time if it is a number, not negative and not NaN."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return None
    try:
        return float(value) if value >= 0 else None
    except OverflowError:
        return None


def _is_text_by_text(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(text, str) for pair in value.items() for text in pair)
