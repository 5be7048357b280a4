"""Tokens, and a grant that needs no server."""

from __future__ import annotations

import threading
import time
from typing import Any

from carto_auth_integrations.tokens.token import Token
from tests.support.accounts import BEARER
from tests.support.threads import PATIENCE


def token_living(seconds: float, value: str = BEARER, *, stale_in: float | None = None, **fields: Any) -> Token:
    """Return a token that expires in so many seconds from now."""
    now = time.time()
    stale_at = now + (seconds if stale_in is None else stale_in)
    return Token(value, obtained_at=now - 100, expires_at=now + seconds, stale_at=stale_at, **fields)


class FakeGrant:
    """A grant with a list of outcomes, one for each call; the last one is repeated.

    Args:
        outcomes: Tokens to return and errors to raise.
        gate: Each call waits until it is set.
    """

    def __init__(self, *outcomes: Token | BaseException, gate: threading.Event | None = None) -> None:
        self.calls = 0
        self.called = threading.Event()
        self._outcomes = list(outcomes)
        self._gate = gate
        self._lock = threading.Lock()

    def __call__(self, previous: Token, *, interactive: bool) -> Token:
        with self._lock:
            outcome = self._outcomes[min(self.calls, len(self._outcomes) - 1)]
            self.calls += 1
        self.called.set()
        if self._gate is not None:
            assert self._gate.wait(PATIENCE)
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome
