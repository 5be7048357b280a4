"""Waiting, sync and async: deadlines, code that yields its pauses, and threads that nobody has to join."""

from __future__ import annotations

import os
import time
from concurrent.futures import Future, InvalidStateError, ThreadPoolExecutor, wait
from enum import Enum
from threading import Thread, local
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Semaphore
    from collections.abc import Callable, Generator
    from typing import TypeAlias

    Step: TypeAlias = "float | Callable[[], object] | Deadline | Pool"
    """A pause in seconds, a callback for the caller's own thread, what to cancel, or which threads go on."""

T = TypeVar("T")
if TYPE_CHECKING:
    Steps: TypeAlias = Generator[Step, None, T]

FOREVER = float("inf")
GRACE = 5.0
"""Seconds beyond its deadline that an async call may take to end by itself, before its thread is left behind."""


class Pool(Enum):
    """The threads of async twins, and how many there are of each kind."""

    CALLS = 12  # calls of milliseconds: a job is looked at for a moment and runs for seconds
    UPLOADS = 4  # reading a source and sending it takes minutes; more at once would only share the network


class Cancelled(Exception):
    """The coroutine that waited for this work was cancelled."""


class Deadline:
    """When work has to be over. Another thread may cancel it earlier.

    Args:
        seconds: From now on; None for no limit.
        outer: A deadline that this one never outlives.
    """

    __slots__ = ("_ends", "_outer", "_waiting", "cancelled", "seconds")

    def __init__(self, seconds: float | None = None, outer: Deadline | None = None) -> None:
        self.seconds = seconds
        self.cancelled = False
        self._ends = FOREVER if seconds is None else time.monotonic() + seconds
        self._outer = outer
        self._waiting: list[Future[Any]] | tuple[()] = ()

    def left(self) -> float:
        """Return the seconds that are left: 0 if there are none, infinity if there is no limit."""
        left = FOREVER if self._ends == FOREVER else max(self._ends - time.monotonic(), 0.0)
        return left if self._outer is None else min(left, self._outer.left())

    def raise_if_cancelled(self) -> None:
        """Raise if the work is no longer wanted.

        Raises:
            Cancelled: If it is not.
        """
        if self.cancelled:
            raise Cancelled
        if self._outer is not None:
            self._outer.raise_if_cancelled()

    def raise_if_over(self, said: str) -> None:
        """Raise if the work is no longer wanted, or the time is up.

        Args:
            said: What a time limit ended, for the message.

        Raises:
            Cancelled: If the work is no longer wanted.
            TimeoutError: If the time is up.
        """
        self.raise_if_cancelled()
        if not self.left():
            raise TimeoutError(f"This took longer than {self.seconds or 0:g} s. {said}")

    def cancel(self) -> None:
        """End the work: nothing is begun or sent any more, and whoever waits for a thread goes on at once."""
        self.cancelled = True
        for future in self._waiting:
            settle(future, None, Cancelled())

    def wait_for(self, future: Future[T], seconds: float) -> bool:
        """Wait for a future for some seconds, or until this is cancelled; return whether it is done."""
        self._waiting = [*self._waiting, future]
        try:
            self.raise_if_cancelled()
            return bool(wait((future,), seconds if seconds < FOREVER else None).done)
        finally:
            self._waiting = [each for each in self._waiting if each is not future] or ()


def settle(future: Future[T], result: T, error: BaseException | None = None) -> None:
    """Set the result or the error of a future, unless another thread has done so."""
    try:
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)
    except InvalidStateError:
        pass


def start_thread(work: Callable[[], object], name: str) -> None:
    """Run work on a daemon thread, or here and now where the system gives no thread (at exit, or at its limit)."""
    try:
        Thread(target=work, name=name, daemon=True).start()
    except RuntimeError:
        work()


def on_thread(work: Callable[[], T], seconds: float, deadline: Deadline) -> T:
    """Run work that may hang on a daemon thread, and wait for it.

    A name look-up has no timeout, and a response may drip for ever. What interrupts the caller (Ctrl-C, a task's time
    limit) finds none of the work's frames, which hold a bearer token. Nothing interrupts the threads of async twins, so
    they do the work themselves.

    Args:
        work: What to do.
        seconds: How long to wait. Past that, the thread is left behind.
        deadline: Cancelled if the caller is interrupted, so that the work stops where it can.

    Raises:
        TimeoutError: If the work has not ended in time.
        Exception: Whatever the work raised.
    """
    if hasattr(_of_thread, "is_pooled"):
        return work()
    future: Future[Any] = Future()

    def run() -> None:
        result, failure = None, None
        try:
            result = work()
        except Exception as error:  # whatever it is, it is the caller's
            failure = error
        settle(future, result, failure)

    try:
        start_thread(run, "carto-call")
        done = deadline.wait_for(future, seconds)
    except BaseException:
        deadline.cancel()
        raise
    if not done:
        raise TimeoutError
    result: T = future.result()
    return result


def run(steps: Steps[T]) -> T:
    """Run steps on this thread."""
    while True:
        try:
            step = next(steps)
        except StopIteration as end:
            result: T = end.value
            return result
        if isinstance(step, (int, float)):
            time.sleep(step)
        elif callable(step):
            step()


class _Returned(Generic[T]):
    """What steps returned at their end."""

    __slots__ = ("value",)

    def __init__(self, value: T) -> None:
        self.value = value


class _Coroutine(Generic[T]):
    """Steps that an event loop waits for.

    Args:
        begin: Returns the steps; called on a thread, since it may import.
    """

    __slots__ = ("_begin", "_steps")

    def __init__(self, begin: Callable[[], Steps[T]]) -> None:
        self._begin: Callable[[], Steps[T]] | None = begin
        self._steps: Steps[T] | None = None

    def next(self) -> Step | _Returned[T]:
        """Run to the next step."""
        if self._steps is None and self._begin is not None:
            self._steps, self._begin = self._begin(), None
        assert self._steps is not None, "begun above"  # noqa: S101
        try:
            return next(self._steps)
        except StopIteration as end:
            return _Returned(end.value)

    def close(self) -> None:
        """End the steps where they are."""
        self._begin = None
        if self._steps is not None:
            self._steps.close()


async def arun(begin: Callable[[], Steps[T]]) -> T:
    """Run steps on a few shared threads, which no pause occupies, and never hold the event loop.

    If the coroutine is cancelled, the deadline of the steps is cancelled, and the steps are closed on a thread.

    Args:
        begin: Returns the steps. It is called on a thread, since it may import.
    """
    from asyncio import get_running_loop, sleep

    steps, pool, deadline = _Coroutine(begin), Pool.CALLS, UNLIMITED
    del begin  # with all the arguments that it holds
    turns, work = _turns_on(get_running_loop()), None
    try:
        while True:
            async with turns[pool]:
                work = _executor(pool).submit(steps.next)
                step = await _result_of(work, deadline)
            if isinstance(step, (int, float)):
                await sleep(step)
            elif isinstance(step, _Returned):
                result: T = step.value
                return result
            elif isinstance(step, Deadline):
                deadline = step
            elif isinstance(step, Pool):
                pool = step
            else:
                step()
    except BaseException:
        if deadline is not UNLIMITED:
            deadline.cancel()
        if work is not None:
            work.add_done_callback(lambda _: _close(steps, pool))
        raise
    finally:
        del work  # it holds the error, whose traceback holds this frame


async def _result_of(work: Future[T], deadline: Deadline) -> T:
    from asyncio import TimeoutError as LateError  # in Python 3.10 a class of its own
    from asyncio import wait_for, wrap_future

    try:
        if deadline.seconds is None:
            return await wrap_future(work)
        return await wait_for(wrap_future(work), deadline.left() + GRACE)
    except LateError:
        if work.done():
            raise
    finally:
        del work  # it holds the error, whose traceback holds this frame
    raise TimeoutError(f"A call did not end within {deadline.seconds:g} s: its thread is left behind.")


def _close(steps: _Coroutine[Any], pool: Pool) -> None:
    try:
        _executor(pool).submit(steps.close)
    except RuntimeError:  # the process is about to exit
        steps.close()


_turns: WeakKeyDictionary[AbstractEventLoop, dict[Pool, Semaphore]] = WeakKeyDictionary()


def _turns_on(loop: AbstractEventLoop) -> dict[Pool, Semaphore]:
    """Return what limits the calls of a loop to the threads there are.

    A thousand coroutines that begin at once would otherwise queue a thousand calls, and the threads that take them
    would take the interpreter from the loop.
    """
    from asyncio import Semaphore

    if loop not in _turns:
        _turns[loop] = {pool: Semaphore(pool.value) for pool in Pool}
    return _turns[loop]


UNLIMITED = Deadline()
"""The deadline of steps that have not named theirs."""
_executors: dict[Pool, ThreadPoolExecutor] = {}
_of_thread = local()


def _mark_thread() -> None:
    _of_thread.is_pooled = True


def _executor(pool: Pool) -> ThreadPoolExecutor:
    executor = _executors.get(pool)
    if executor is None:
        name = f"carto-{pool.name.lower()}"
        executor = _executors.setdefault(pool, ThreadPoolExecutor(pool.value, name, _mark_thread))
    return executor


if hasattr(os, "register_at_fork"):  # a child has none of its parent's threads
    os.register_at_fork(after_in_child=_executors.clear)
