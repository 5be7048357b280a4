"""Token and what is remembered beside it: how long it serves, when it is renewed, what is not asked again."""

from __future__ import annotations

import time

from ..account.secret import Secret
from ..errors import KINDS, CredentialsError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, Literal, TypeAlias

    Interactive: TypeAlias = bool | Literal["paste"]  # whether a person may be asked; "paste" is without a browser

LONG_LIFETIME = 600.0
"""Seconds from which on a token is renewed by the clock alone; CARTO's live 24 hours, Google's one."""
MAX_LEAD = 900.0
"""Seconds before its end that a long-lived token is renewed: time to sit out an outage of the token endpoint."""
MIN_LEAD = 301.0
"""gcsfs and others ask for a new token 300 s before the end: ours is renewed before they ask."""
LEAD_JITTER = 0.2
"""Share of the lead that is drawn at random, so that a fleet does not renew in one second."""
SHORT_LEAD = 1 / 20
"""Share of a short lifetime that is given up for an early renewal …"""
LEAD_PER_REQUEST = 1.5
"""… unless one and a half of the endpoint's answers take longer: then earlier, at most half-way."""
MAX_MARGIN = 5.0
"""Seconds before its end from which on a token is only handed out if no new one can be had: a request takes a while."""
MARGIN = 1 / 100
"""The same as a share of short lifetimes."""
CLOCK_TOLERANCE = 300.0
"""Seconds that a stored time may lie in the future before it is another clock's and not believed."""
FAILURE_TOLERANCE = 5.0
"""The same for a remembered failure: it lives for seconds, so a clock that was put back must not prolong it."""
LONGEST_BACKOFF = 600.0
"""Seconds that a failure may be remembered, whatever a server or a store says."""
REJECTED_BACKOFF = 30.0
"""Seconds a refused client is not tried again: long for a fleet, short for the person who has just mended it."""
UNAVAILABLE_BACKOFF = 5.0
"""Seconds a broken endpoint is left alone where it does not say for how long itself."""

_FOREVER = float("inf")


class Token(Secret):
    """A token: the secret itself, with its times in UTC epoch seconds. `reveal()` gives the string.

    Args:
        value: The bearer token.
        obtained_at: When the request that brought it was sent.
        expires_at: When the server stops accepting it; infinity if it does not say.
        stale_at: From when on a new one is fetched in the background.
        refresh_token: What renews it, where the server granted one.
        details: What came with it (`project_id`, `api_base_url`).
    """

    __slots__ = ("details", "expires_at", "obtained_at", "refresh_token", "stale_at")

    def __init__(
        self,
        value: str,
        *,
        obtained_at: float,
        expires_at: float = _FOREVER,
        stale_at: float = _FOREVER,
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
    def minted(
        cls,
        secret: Secret,
        *,
        started_at: float,
        lifetime: float,
        refresh_token: Secret | None = None,
        details: Mapping[str, str] | None = None,
    ) -> Token:
        """Make a token from an answer that has just come.

        Args:
            secret: The bearer token.
            started_at: When the request was sent, UTC epoch seconds; the lifetime counts from here.
            lifetime: Seconds, as the server says.
            refresh_token: What renews it.
            details: What came with it.
        """
        lead = lead_of(lifetime, took=time.time() - started_at)
        return cls(
            secret.reveal(),
            obtained_at=started_at,
            expires_at=started_at + lifetime,
            stale_at=started_at + lifetime - lead,
            refresh_token=refresh_token,
            details=details,
        )

    def is_fresh(self, now: float) -> bool:
        """Tell whether the token serves and needs nothing."""
        return now < self.stale_at

    def is_usable(self, now: float) -> bool:
        """Tell whether the token serves, FRESH or STALE, with time for a request."""
        return now < self.expires_at - min(MAX_MARGIN, (self.expires_at - self.obtained_at) * MARGIN)

    def is_valid(self, now: float) -> bool:
        """Tell whether the server still accepts it, if only for a moment."""
        return now < self.expires_at

    def without_refresh_token(self) -> Token:
        """Give the same token as one that cannot be refreshed."""
        return Token(
            self._value,
            obtained_at=self.obtained_at,
            expires_at=self.expires_at,
            stale_at=self.stale_at,
            details=self.details,
        )

    def expired(self) -> Token:
        """Give the same token as one that no longer serves: its refresh token and details live on."""
        return Token(
            self._value,
            obtained_at=self.obtained_at,
            expires_at=0.0,
            refresh_token=self.refresh_token,
            details=self.details,
        )

    def record(self) -> dict[str, Any]:
        """Give what a store writes down."""
        record: dict[str, Any] = {"access_token": self._value, "obtained_at": self.obtained_at}
        if self.expires_at != _FOREVER:
            record |= {"expires_at": self.expires_at, "stale_at": self.stale_at}
        if self.refresh_token:
            record["refresh_token"] = self.refresh_token.reveal()
        if self.details:
            record["details"] = self.details
        return record

    @classmethod
    def from_record(cls, record: object, now: float) -> Token | None:
        """Read a stored record; None if it is not one, or was written under a clock that ran ahead of this one."""
        if not isinstance(record, dict):
            return None
        value, refresh_token, details = (record.get(name) for name in ("access_token", "refresh_token", "details"))
        obtained_at, expires_at = _time(record.get("obtained_at")), _time(record.get("expires_at", _FOREVER))
        stale_at = _time(record.get("stale_at", _FOREVER))
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
"""What a source holds before its first token: it never serves."""


def lead_of(lifetime: float, took: float = 0.0, draw: float | None = None) -> float:
    """Give the seconds before its end at which a token of this lifetime is renewed in the background.

    Args:
        lifetime: Seconds the token lives.
        took: Seconds the token request took.
        draw: A number in [0, 1) for the jitter; drawn if left out.
    """
    if lifetime < LONG_LIFETIME:
        return min(lifetime / 2, max(lifetime * SHORT_LEAD, took * LEAD_PER_REQUEST))
    if draw is None:
        from random import random

        draw = random()
    lead = min(lifetime / 2, MAX_LEAD) * (1 - LEAD_JITTER * draw)
    return max(lead, min(MIN_LEAD, lifetime / 2))


class Failure:
    """A failed token request that is not repeated before its time, with the error that everyone gets meanwhile.

    Args:
        error: The error of the request.
        until: UTC epoch seconds up to which nobody asks again.
        failed_at: UTC epoch seconds of the failure.
    """

    __slots__ = ("error", "failed_at", "until")

    def __init__(self, error: CredentialsError, *, failed_at: float, until: float) -> None:
        self.error = error
        self.failed_at = failed_at
        self.until = until

    @classmethod
    def of(cls, error: CredentialsError, now: float) -> Failure:
        """Decide for how long an error is remembered: as the server says, else by its kind."""
        from ..errors import ClientRejected

        backoff = REJECTED_BACKOFF if isinstance(error, ClientRejected) else UNAVAILABLE_BACKOFF
        if error.retry_after is not None:
            backoff = max(backoff, error.retry_after)
        return cls(error, failed_at=now, until=now + min(backoff, LONGEST_BACKOFF))

    def holds(self, now: float) -> bool:
        """Tell whether it still keeps callers from asking; one from the future does not (a clock was put back)."""
        return self.failed_at - FAILURE_TOLERANCE <= now < self.until

    def again(self, now: float) -> CredentialsError:
        """Give the error afresh for one more caller, with the time that is left."""
        left = max(self.until - now, 0.0)
        return type(self.error)(
            f"{self.error} (not asked again for {left:.0f} s)", status=self.error.status, retry_after=left
        )

    def record(self) -> dict[str, Any]:
        """Give what a store writes down."""
        kind = next((name for name, kind in KINDS.items() if kind is type(self.error)), "CredentialsError")
        return {
            "kind": kind,
            "message": str(self.error),
            "status": self.error.status,
            "failed_at": self.failed_at,
            "until": self.until,
        }

    @classmethod
    def from_record(cls, record: object) -> Failure | None:
        """Read a stored record; None if it is not one."""
        if not isinstance(record, dict) or not isinstance(record.get("kind"), str) or record["kind"] not in KINDS:
            return None
        message, status = record.get("message"), record.get("status")
        failed_at, until = _time(record.get("failed_at")), _time(record.get("until"))
        if not isinstance(message, str) or failed_at is None or until is None or until - failed_at > LONGEST_BACKOFF:
            return None
        error = KINDS[record["kind"]](message, status=status if isinstance(status, int) else None)
        return cls(error, failed_at=failed_at, until=until)


class Entry:
    """What a store holds for one credential: the last token, the last failure, either or neither."""

    __slots__ = ("failure", "token")

    def __init__(self, token: Token | None = None, failure: Failure | None = None) -> None:
        self.token = token
        self.failure = failure

    def record(self) -> dict[str, Any]:
        """Give what a store writes down."""
        record: dict[str, Any] = {}
        if self.token:
            record["token"] = self.token.record()
        if self.failure:
            record["failure"] = self.failure.record()
        return record

    @classmethod
    def from_record(cls, record: object, now: float) -> Entry:
        """Read a stored record; what is not well-formed is not there."""
        if not isinstance(record, dict):
            return cls()
        return cls(Token.from_record(record.get("token"), now), Failure.from_record(record.get("failure")))


def _time(value: object) -> float | None:
    """Give a stored time, if it is one: not negative, not NaN."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return None
    try:
        return float(value) if value >= 0 else None
    except OverflowError:
        return None


def _is_text_by_text(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(text, str) for pair in value.items() for text in pair)
