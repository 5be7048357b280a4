"""One implementation for sync and async: an algorithm yields the calls that may wait, and a driver makes them."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from typing import Any, TypeAlias, TypeVar

    T = TypeVar("T")
    Step: TypeAlias = Callable[[], Any] | float  # a call that may wait for the network, or a pause in seconds
    Steps: TypeAlias = Generator[Step, Any, T]

THREADS = 6
"""Calls that are under way at once for all coroutines: a job is polled for milliseconds and runs for seconds."""

_turns: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()
_pool: ThreadPoolExecutor | None = None


def drive(steps: Steps[T]) -> T:
    """Take the steps here and now."""
    answer: Any = None
    error: Exception | None = None
    while True:
        try:
            step = steps.throw(error) if error else steps.send(answer)
        except StopIteration as end:
            result: T = end.value
            return result
        try:
            answer, error = _take(step), None
        except Exception as raised:  # the algorithm decides what an error means
            error = raised


async def adrive(steps: Steps[T]) -> T:
    """Take the steps without holding the event loop: calls on a few shared threads, pauses on the loop's clock."""
    import asyncio

    loop = asyncio.get_running_loop()
    turns = _turns.get(loop)
    if turns is None:
        turns = _turns[loop] = asyncio.Semaphore(THREADS)
    answer: Any = None
    error: Exception | None = None
    while True:
        try:
            step = steps.throw(error) if error else steps.send(answer)
        except StopIteration as end:
            result: T = end.value
            return result
        try:
            if callable(step):
                async with turns:  # a coroutine waits, and not its call: a thousand begun calls hold the loop 100 ms
                    answer = await loop.run_in_executor(_threads(), step)
            else:
                await asyncio.sleep(step)
            error = None
        except Exception as raised:  # the algorithm decides what an error means
            error = raised


def _take(step: Step) -> Any:
    return step() if callable(step) else time.sleep(step)


def _threads() -> ThreadPoolExecutor:
    global _pool
    if _pool is None:
        _pool = ThreadPoolExecutor(THREADS, thread_name_prefix="carto-warehouse")
    return _pool


def _after_fork_in_child() -> None:
    global _pool
    _pool = None
    _turns.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
