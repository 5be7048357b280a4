"""Faults to simulate: delayed, failed or invalid responses and closed connections."""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import format_datetime
from typing import Literal, get_args

Cut = Literal["before", "after", "body"]

# Names of the endpoints, as faults and statistics use them.
ENDPOINTS = ("token", "authorize", "dw_token", "accounts", "config", "users_me", "bigquery", "upload")


@dataclass(frozen=True)
class Fault:
    """A fault of one endpoint.

    With a `status` or a `body`, the fault replaces the endpoint's response. With neither, the endpoint handles the
    request as usual, and the fault only delays it or closes the connection.

    Attributes:
        endpoint: One of `ENDPOINTS`.
        delay: Seconds to wait before the request is handled.
        status: HTTP status of the response. Without a `body`, the body is an error in the format of the endpoint.
        body: Body of the response: text, bytes, or a mapping to send as JSON. Without a `status`, the status is 200.
        content_type: The `Content-Type` of `body`.
        retry_after: `Retry-After` header of the response: seconds, an aware UTC datetime or the header's text.
        cut: When to close the connection: `before` the request is handled, `after` it was handled but before the
            response, or in the middle of the response's `body`.
        count: Number of requests to affect; None for all until faults are cleared.
        skip: Number of requests to let pass first.
        match: Regular expression to search in `METHOD /path`; requests that do not match are not affected and count
            neither for `skip` nor for `count`.

    Raises:
        ValueError: If a value is invalid, or the fault would change nothing.
    """

    endpoint: str
    delay: float = 0
    status: int | None = None
    body: str | bytes | Mapping[str, object] | None = field(default=None, repr=False)
    content_type: str = "application/json"
    retry_after: float | str | datetime | None = None
    cut: Cut | None = None
    count: int | None = None
    skip: int = 0
    match: str | None = None

    def __post_init__(self) -> None:
        if self.endpoint not in ENDPOINTS:
            raise ValueError(f"endpoint must be one of {', '.join(ENDPOINTS)}, not {self.endpoint!r}")
        if self.cut is not None and self.cut not in get_args(Cut):
            raise ValueError(f"cut must be one of {', '.join(get_args(Cut))}")
        if not self.answers and self.retry_after is not None:
            raise ValueError("retry_after needs a status or a body")
        if not (self.answers or self.delay or self.cut):
            raise ValueError("a fault needs a delay, a status, a body or a cut")
        try:
            re.compile(self.match or "")
        except re.error as error:
            raise ValueError(f"match is not a regular expression: {error}") from None

    @property
    def answers(self) -> bool:
        """Whether the fault replaces the response of the endpoint."""
        return self.status is not None or self.body is not None

    @property
    def retry_after_header(self) -> str | None:
        """The value of the `Retry-After` header, or None for no header."""
        if isinstance(self.retry_after, datetime):
            return format_datetime(self.retry_after, usegmt=True)
        return None if self.retry_after is None else str(self.retry_after)


class _Countdown:
    """A fault with the remaining numbers of its `skip` and `count`."""

    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        self.skips_left = fault.skip
        self.hits_left = fault.count

    def applies_to(self, endpoint: str, request_line: str) -> bool:
        if self.hits_left == 0 or endpoint != self.fault.endpoint:
            return False
        return self.fault.match is None or re.search(self.fault.match, request_line) is not None

    def take(self) -> Fault | None:
        """Count a request and return the fault, or None if the request is skipped."""
        if self.skips_left > 0:
            self.skips_left -= 1
            return None
        if self.hits_left is not None:
            self.hits_left -= 1
        return self.fault


class FaultBook:
    """The active faults; the oldest that applies to a request decides about it. Safe for use by many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._countdowns: list[_Countdown] = []

    def add(self, fault: Fault) -> None:
        """Activate a fault; older faults of the same endpoint come first."""
        with self._lock:
            self._countdowns.append(_Countdown(fault))

    def clear(self) -> None:
        """Deactivate all faults."""
        with self._lock:
            self._countdowns.clear()

    def take(self, endpoint: str, request_line: str) -> Fault | None:
        """Count a request and return the fault to apply to it, or None.

        Args:
            endpoint: Name of the endpoint.
            request_line: `METHOD /path`.
        """
        with self._lock:
            for countdown in self._countdowns:
                if countdown.applies_to(endpoint, request_line):
                    return countdown.take()
        return None
