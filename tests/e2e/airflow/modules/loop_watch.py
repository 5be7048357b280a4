"""A trigger that measures how long the triggerer's event loop is blocked, and by what."""

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
"""Seconds between two polls of a trigger that only sleeps."""


class LoopWatch(BaseTrigger):
    """Measures until a file exists, and fires with the longest pauses, in milliseconds.

    Args:
        dag_id: The DAG whose triggers are watched.
        until: The file.
    """

    def __init__(self, dag_id: str, until: str) -> None:
        super().__init__()
        self.dag_id = dag_id
        self.until = until

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class and the arguments of the trigger."""
        return ("loop_watch.LoopWatch", {"dag_id": self.dag_id, "until": self.until})

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Tick until the file exists."""
        watch = _Watch(self.dag_id)
        with watch.of_callbacks():
            while not Path(self.until).exists():
                await asyncio.sleep(TICK)
                watch.tick()
        yield TriggerEvent(watch.report())


class _Watch:
    """The longest pauses of the loop: any, those by this process, and those by the watched triggers.

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
        """Time each callback of the loop that belongs to the watched triggers."""
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
        """Record the time since the last tick."""
        now = _times()
        pause, computed = (new - old for new, old in zip(now, self._last, strict=True))
        self._last = now
        self._see("pause", pause)
        self._see("made here", min(pause, computed))  # during the rest, another process used the core

    def report(self) -> dict[str, float]:
        """Return the longest pause of each kind, in milliseconds."""
        return {name: round(seconds * 1e3, 1) for name, seconds in self._longest.items()}

    def _see(self, name: str, seconds: float) -> None:
        self._longest[name] = max(self._longest[name], seconds)


def _times() -> tuple[float, float]:
    """Return the clock, and the CPU time of all threads of this process, in seconds."""
    return time.perf_counter(), time.process_time()


def _logged_dag() -> ContextVar[str]:
    """Return the context variable with the DAG of a trigger, which the triggerer sets for the trigger's logs."""
    return next(variable for variable in copy_context() if variable.name == "structlog_dag_id")


class Sleep(BaseTrigger):
    """Polls the clock as the trigger of a job polls the job, to measure what Airflow itself costs.

    Args:
        seconds: How long.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class and the arguments of the trigger."""
        return ("loop_watch.Sleep", {"seconds": self.seconds})

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Poll until the time is over."""
        end = time.monotonic() + self.seconds
        while time.monotonic() < end:
            await asyncio.sleep(LOOK)
        yield TriggerEvent("slept")
