"""Faults on demand: which request is delayed, refused, answered with rubbish or cut off."""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import format_datetime
from typing import Any, Literal, get_args

Cut = Literal["before", "after", "body"]

ENDPOINTS = ("token", "authorize", "dw_token", "accounts", "config", "users_me", "bigquery", "upload")


@dataclass(frozen=True)
class Fault:
    """One way in which an endpoint misbehaves.

    With neither `status` nor `body` the endpoint does its real work, late or cut off as told.

    Attributes:
        endpoint: One of `ENDPOINTS`.
        delay: Seconds before anything else happens.
        status: HTTP status to answer with; without a `body`, in the error shape of that endpoint.
        body: Body to answer with: text, bytes, or a mapping for JSON; without a `status`, 200.
        content_type: The `Content-Type` of `body`.
        retry_after: `Retry-After` for the answer: seconds, an aware UTC datetime or the header's text.
        cut: Close the connection: `before` the request is handled, `after` it was handled but unanswered, or
            in the middle of the answer's `body`.
        count: How many requests are hit; None hits all until faults are cleared.
        skip: How many requests pass unharmed first.
        match: Regular expression sought in `METHOD /path`; requests without it are neither hit nor counted.
    """

    endpoint: str
    delay: float = 0
    status: int | None = None
    body: str | bytes | Mapping[str, Any] | None = field(default=None, repr=False)
    content_type: str = "application/json"
    retry_after: float | str | datetime | None = None
    cut: Cut | None = None
    count: int | None = None
    skip: int = 0
    match: str | None = None

    def __post_init__(self) -> None:
        if self.endpoint not in ENDPOINTS:
            raise ValueError(f"no endpoint {self.endpoint!r}; there are {', '.join(ENDPOINTS)}")
        if self.cut is not None and self.cut not in get_args(Cut):
            raise ValueError(f"cut must be one of {', '.join(get_args(Cut))}")
        if not self.answers and self.retry_after is not None:
            raise ValueError("retry_after needs a status to go with")
        if not (self.answers or self.delay or self.cut):
            raise ValueError("a fault needs a delay, a status, a body or a cut")
        try:
            re.compile(self.match or "")
        except re.error as error:
            raise ValueError(f"match is not a regular expression: {error}") from None

    @property
    def answers(self) -> bool:
        """Whether the fault stands in for the endpoint's own answer."""
        return self.status is not None or self.body is not None

    @property
    def retry_after_header(self) -> str | None:
        """`retry_after` as it goes over the wire."""
        if isinstance(self.retry_after, datetime):
            return format_datetime(self.retry_after, usegmt=True)
        return None if self.retry_after is None else str(self.retry_after)


class _Countdown:
    """A fault together with what is left of its `skip` and `count`."""

    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        self.skips_left = fault.skip
        self.hits_left = fault.count

    def applies_to(self, endpoint: str, request_line: str) -> bool:
        if self.hits_left == 0 or endpoint != self.fault.endpoint:
            return False
        return self.fault.match is None or re.search(self.fault.match, request_line) is not None

    def take(self) -> Fault | None:
        if self.skips_left > 0:
            self.skips_left -= 1
            return None
        if self.hits_left is not None:
            self.hits_left -= 1
        return self.fault


class FaultBook:
    """The faults in force; the oldest that fits a request decides. Safe for many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._countdowns: list[_Countdown] = []

    def add(self, fault: Fault) -> None:
        """Puts a fault in force, behind those of the same endpoint."""
        with self._lock:
            self._countdowns.append(_Countdown(fault))

    def clear(self) -> None:
        """Ends all faults."""
        with self._lock:
            self._countdowns.clear()

    def take(self, endpoint: str, request_line: str) -> Fault | None:
        """The fault that hits this request, if one does.

        Args:
            endpoint: Name of the endpoint.
            request_line: `METHOD /path`.
        """
        with self._lock:
            for countdown in self._countdowns:
                if countdown.applies_to(endpoint, request_line):
                    return countdown.take()
        return None
