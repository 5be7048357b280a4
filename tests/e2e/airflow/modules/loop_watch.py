"""A trigger that watches the triggerer's event loop from inside: how long it stood still, and on whose account."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from pathlib import Path
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

TICK = 0.001
"""Seconds that the watch sleeps at a time."""
LOOK = 0.5
"""Seconds between two looks of a trigger that only sleeps."""


class LoopWatch(BaseTrigger):
    """Watches until a file is there, and fires with what it saw, in milliseconds.

    Args:
        dag_id: The DAG whose triggers are watched.
        until: The file.
    """

    def __init__(self, dag_id: str, until: str) -> None:
        super().__init__()
        self.dag_id = dag_id
        self.until = until

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Give what the triggerer makes the trigger of again."""
        return ("loop_watch.LoopWatch", {"dag_id": self.dag_id, "until": self.until})

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Tick until the file is there."""
        watch = _Watch(self.dag_id)
        with watch.of_callbacks():
            while not Path(self.until).exists():
                await asyncio.sleep(TICK)
                watch.tick()
        yield TriggerEvent(watch.report())


class _Watch:
    """What the loop did between two ticks: all of it, the watched triggers' part, and what other threads did.

    Args:
        dag_id: The DAG whose triggers are watched.
    """

    def __init__(self, dag_id: str) -> None:
        self._dag_id = dag_id
        self._dag_of = _logged_dag()
        self._longest: dict[str, float] = dict.fromkeys(("pause", "made here", "ours", "ours computing"), 0.0)
        self._last = _times()

    @contextmanager
    def of_callbacks(self) -> Iterator[None]:
        """Time each callback of the loop that runs on behalf of the watched triggers."""
        handle = asyncio.events.Handle
        run = handle._run

        def timed(self_: Any) -> Any:
            if self_._context.get(self._dag_of) != self._dag_id:
                return run(self_)
            wall, computing = time.perf_counter(), time.thread_time()
            try:
                return run(self_)
            finally:
                self._see("ours", time.perf_counter() - wall)
                self._see("ours computing", time.thread_time() - computing)

        handle._run = timed
        try:
            yield
        finally:
            handle._run = run

    def tick(self) -> None:
        """Note how long it was since the last tick."""
        now = _times()
        pause, computed = (new - old for new, old in zip(now, self._last, strict=True))
        self._last = now
        self._see("pause", pause)
        self._see("made here", min(pause, computed))  # for the rest, another process had the core

    def report(self) -> dict[str, float]:
        """Give the longest of each, in milliseconds."""
        return {name: round(seconds * 1e3, 1) for name, seconds in self._longest.items()}

    def _see(self, name: str, seconds: float) -> None:
        self._longest[name] = max(self._longest[name], seconds)


def _times() -> tuple[float, float]:
    """Give the clock, and what all threads of this process have computed, in seconds."""
    return time.perf_counter(), time.process_time()


def _logged_dag() -> ContextVar[str]:
    """Give the variable by which the triggerer tells each trigger's log lines apart: all it starts inherits it."""
    return next(variable for variable in copy_context() if variable.name == "structlog_dag_id")


class Sleep(BaseTrigger):
    """Looks at the clock, as the trigger of a job looks at the job, for so many seconds: what Airflow's own part costs.

    Args:
        seconds: How long.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Give what the triggerer makes the trigger of again."""
        return ("loop_watch.Sleep", {"seconds": self.seconds})

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Sleep."""
        end = time.monotonic() + self.seconds
        while time.monotonic() < end:
            await asyncio.sleep(LOOK)
        yield TriggerEvent("slept")
