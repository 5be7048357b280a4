"""Time in tests: clocks that a test sets, and retries without pauses."""

from __future__ import annotations

import time

import pytest

from carto_auth_integrations.tokens.clock import SYSTEM


def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the pauses between tries too short to matter."""
    for name in ("WAIT_INITIAL", "WAIT_JITTER"):
        monkeypatch.setattr(f"carto_auth_integrations.http.{name}", 0.01)


class Clock:
    """A wall clock and a monotonic clock that a test sets forward. Pass it to a `TokenSource` or a `FileStore`."""

    def __init__(self) -> None:
        self._ahead = 0.0

    def time(self) -> float:
        """Return the wall clock, UTC epoch seconds."""
        return time.time() + self._ahead

    def monotonic(self) -> float:
        """Return the monotonic clock, seconds."""
        return time.monotonic() + self._ahead

    def advance(self, seconds: float) -> None:
        """Set both clocks forward."""
        self._ahead += seconds


def system_clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Return a clock that is the system's for every object that is created from now on.

    Args:
        monkeypatch: Restores the real one.
    """
    clock = Clock()
    monkeypatch.setattr(SYSTEM, "time", clock.time)
    monkeypatch.setattr(SYSTEM, "monotonic", clock.monotonic)
    return clock
