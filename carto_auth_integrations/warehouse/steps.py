"""One implementation for sync and async: an algorithm yields the calls that may wait, and a driver makes them."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass
from queue import SimpleQueue
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Generator
    from typing import Any, TypeAlias, TypeVar

    T = TypeVar("T")
    Step: TypeAlias = Callable[[], Any] | float  # a call that may wait for the network, or a pause in seconds
    Steps: TypeAlias = Generator[Step, Any, T]

THREADS = 8
"""Calls that are under way at once for all coroutines: a job is polled for milliseconds and runs for seconds."""
LONG_THREADS = 4
"""Long calls that are under way at once: more uploads would only share one line to the network."""


@dataclass(frozen=True)
class Long:
    """A call that may take minutes, as an upload does: it has threads of its own, so that no short one waits for it.

    Args:
        call: The call.
    """

    call: Callable[[], Any]

    def __call__(self) -> Any:
        """Make it."""
        return self.call()


class _Crew:
    """Threads that make calls for event loops.

    An executor of the standard library makes a dozen objects for each call. A thousand coroutines that begin at once
    would hold their loop with that for a tenth of a second, and feed the garbage collector, which holds it too.

    Args:
        name: The threads' name.
        size: How many there are at most.
    """

    def __init__(self, name: str, size: int) -> None:
        self._name, self._size = name, size
        self._calls: SimpleQueue[tuple[Callable[[], Any], asyncio.Future[Any], asyncio.AbstractEventLoop]]
        self.start_anew()

    def start_anew(self) -> None:
        """Forget the threads: after a fork they are the parent's alone."""
        self._calls = SimpleQueue()
        self._hired = 0

    def call(self, call: Callable[[], Any], loop: asyncio.AbstractEventLoop) -> asyncio.Future[Any]:
        """Make a call when a thread is free, and give what the loop may await for it."""
        future = loop.create_future()
        if self._hired < self._size:  # two loops at once may hire one more each: no harm
            threading.Thread(target=self._work, name=f"{self._name}_{self._hired}", daemon=True).start()
            self._hired += 1
        # Not before all that the loop has in hand: of a thousand coroutines that begin at once, the first one's call
        # would take the interpreter from the others.
        loop.call_soon(self._calls.put, (call, future, loop))
        return future

    def _work(self) -> None:
        while True:
            call, future, loop = self._calls.get()
            if not future.cancelled():
                _settle(loop, future, call)
            del call, future, loop  # the next call may be long in coming


def _settle(loop: asyncio.AbstractEventLoop, future: asyncio.Future[Any], call: Callable[[], Any]) -> None:
    answer: Any = None
    error: BaseException | None = None
    try:
        answer = call()
    except StopIteration:  # no future takes it
        error = RuntimeError("A callback raised StopIteration.")
    except BaseException as raised:  # the coroutine's, whatever it is
        error = raised
    try:
        loop.call_soon_threadsafe(_tell, future, answer, error)
    except RuntimeError:  # the loop is closed: nobody waits any more
        pass
    error = None  # its traceback holds this frame, which would hold it


def _tell(future: asyncio.Future[Any], answer: Any, error: BaseException | None) -> None:
    if future.cancelled():
        return
    if error is None:
        future.set_result(answer)
    else:
        future.set_exception(error)


_short, _long = _Crew("carto-warehouse", THREADS), _Crew("carto-upload", LONG_THREADS)


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
                answer = await (_long if isinstance(step, Long) else _short).call(step, loop)
            else:
                await asyncio.sleep(step)
            error = None
        except Exception as raised:  # the algorithm decides what an error means
            error = raised


def one(call: Callable[[], T]) -> Steps[T]:
    """Give a call as steps."""
    answer: T = yield call
    return answer


def _take(step: Step) -> Any:
    return step() if callable(step) else time.sleep(step)


def _after_fork_in_child() -> None:
    _short.start_anew()
    _long.start_anew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
