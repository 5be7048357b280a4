"""Waiting for other threads, for at most `PATIENCE` seconds."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

PATIENCE = 20.0
"""Seconds after which a thread counts as hung; far above what any of them takes on a busy machine."""


def until(condition: Callable[[], Any], *, timeout: float = PATIENCE, poll: float = 0.005) -> None:
    """Wait until a condition is true.

    Args:
        condition: Called until it returns something true.
        timeout: Seconds after which the test fails.
        poll: Seconds between two calls.
    """
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, f"still not true after {timeout:g} s"
        time.sleep(poll)


class Outcome:
    """The result or the error of a function that runs on its own thread."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self._function = function
        self._value: Any = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._value = self._function()
        except BaseException as error:
            self._error = error

    def settled(self) -> Any:
        """Wait for the function, and return its result or its error."""
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive(), "it hangs"
        return self._value if self._error is None else self._error
