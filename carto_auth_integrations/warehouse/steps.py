"""One implementation for sync and async: plain code that yields where it only waits, so that no thread need be held."""

from __future__ import annotations

import os
import threading
import time
from heapq import heappop, heappush
from itertools import count
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Generator
    from typing import Any, TypeAlias, TypeVar

    T = TypeVar("T")
    Step: TypeAlias = "float | Here | Long"  # a pause in seconds, or where to go on
    Steps: TypeAlias = Generator[Step, None, T]

THREADS = 8
"""Threads that take the steps of all coroutines: a job is polled for milliseconds and runs for seconds."""
LONG_THREADS = 4
"""Threads for what takes long: more uploads would only share one line to the network."""
NOW = 0.0
"""A pause that is none: a place to stop at if the caller has been cancelled."""


class Here:
    """A step that calls back: on the caller's own thread, in the caller's own context.

    Args:
        call: The call.
    """

    __slots__ = ("call",)

    def __init__(self, call: Callable[[], object]) -> None:
        self.call = call


class Long:
    """A step that says that what follows may take minutes: it has threads of its own, so nothing short waits for it."""

    __slots__ = ()


LONG = Long()


def drive(steps: Steps[T]) -> T:
    """Take the steps here and now."""
    while True:
        try:
            step = next(steps)
        except StopIteration as end:
            result: T = end.value
            return result
        if isinstance(step, Here):
            step.call()
        elif not isinstance(step, Long):
            time.sleep(step)


async def adrive(begin: Callable[[], Steps[T]]) -> T:
    """Take the steps on a few shared threads, which no pause holds.

    The event loop has nothing to do with them until the end, however many jobs are looked at meanwhile: whatever a
    thread tells it costs it the interpreter for a moment.

    Args:
        begin: Gives the steps; called on one of the threads.
    """
    from asyncio import get_running_loop

    journey = _Journey(begin, get_running_loop())
    del begin  # and all that it holds, as soon as it has been called
    try:
        while (step := await journey.leg()) is not None:
            step.call()
        result: T = journey.result
        return result
    finally:
        journey.leave()


class _Journey:
    """Steps on their way from thread to thread, and the coroutine that waits for their end.

    It is small, and so is what it holds: the garbage collector walks through all that is alive, and holds every thread
    meanwhile.
    """

    __slots__ = ("_begin", "_future", "_left", "_loop", "_steps", "result")
    _handing_over = threading.Lock()

    def __init__(self, begin: Callable[[], Steps[Any]], loop: asyncio.AbstractEventLoop) -> None:
        self._begin: Callable[[], Steps[Any]] | None = begin
        self._steps: Steps[Any] | None = None
        self._loop = loop
        self._future: asyncio.Future[Here | None] | None = None
        self._left = False
        self.result: Any = None

    def leg(self) -> asyncio.Future[Here | None]:
        """Set out, and give what comes with the next step that is the caller's, or with None at the end."""
        future = self._future = self._loop.create_future()
        if _departing.loop is not self._loop:
            _departing.loop, _departing.journeys = self._loop, []
            self._loop.call_soon(_depart, _departing.journeys)
        _departing.journeys.append(self)
        return future

    def leave(self) -> None:
        """Drop the steps, be it that they have ended or that the caller has been cancelled."""
        with self._handing_over:
            self._left = True
            steps, self._steps, self._begin = self._steps, None, None
        self._future = None  # the traceback of its error leads back here
        if steps:
            steps.close()

    def go_on(self, crew: _Crew) -> None:
        """Take steps until one is not for this thread, and see to that one.

        Args:
            crew: The thread's.
        """
        try:
            step = self._taken(crew)
        except StopIteration as end:
            self.result = end.value
            self.tell(None)
        except BaseException as error:  # the caller's, whatever it is
            self.tell(None, error)
        else:
            if isinstance(step, Here):
                self.tell(step)
            elif isinstance(step, Long):
                _long.put(self)
            elif step is not None:
                _short.put(self, pause=step)

    def _taken(self, crew: _Crew) -> Step | None:
        """Take steps, and give the first one that is not for this thread; None if the caller has left."""
        with self._handing_over:
            begin, steps = self._begin, self._steps
            self._begin = self._steps = None
        if begin is not None:
            steps = begin()
        if steps is None:
            return None
        step = next(steps)
        while not self._left and (step == NOW or (isinstance(step, Long) and crew is _long)):
            step = next(steps)
        with self._handing_over:
            left = self._left
            self._steps = None if left else steps
        if not left:
            return step
        steps.close()
        return None

    def tell(self, step: Here | None, error: BaseException | None = None) -> None:
        """Wake the coroutine, with a step that is the caller's, with an error, or with None at the end."""
        future = self._future
        if future is None:
            return
        try:
            self._loop.call_soon_threadsafe(_settle, future, step, error)
        except RuntimeError:  # the loop is closed: nobody waits any more
            pass


def _settle(future: asyncio.Future[Here | None], step: Here | None, error: BaseException | None) -> None:
    if future.cancelled():
        return
    if error is None:
        future.set_result(step)
    else:
        future.set_exception(error)


class _Departing(threading.local):
    """Who sets out with all that this thread's event loop has in hand.

    They go together: of a thousand coroutines that begin at once, the first one's calls would take the interpreter from
    the others.
    """

    loop: asyncio.AbstractEventLoop | None = None
    journeys: list[_Journey]


_departing = _Departing()


def _depart(journeys: list[_Journey]) -> None:
    _departing.loop = None
    try:
        _short.put(*journeys)
    except RuntimeError as error:  # the machine gives no thread at all
        for journey in journeys:
            journey.tell(None, error)


class _Crew:
    """Threads that take steps, each at its time.

    An executor of the standard library makes a dozen objects for each call and knows no pauses; an event loop's clock
    would have the loop see to each look at a job.

    Args:
        name: The threads' name.
        size: How many there are at most.
    """

    def __init__(self, name: str, size: int) -> None:
        self._name, self._size = name, size
        self.start_anew()

    def start_anew(self) -> None:
        """Forget the threads: after a fork they are the parent's alone."""
        self._lock = threading.Lock()
        self._change = threading.Condition(self._lock)
        self._waiting: list[tuple[float, int, _Journey]] = []  # a heap: when, which of those at once, who
        self._numbers = count()
        self._hired = self._idle = 0
        self._watch: int | None = None  # which of the idle threads wakes when the first pause is over

    def put(self, *journeys: _Journey, pause: float = NOW) -> None:
        """Have threads go on with journeys.

        Args:
            journeys: Whose steps.
            pause: Seconds until then.
        """
        with self._lock:
            when = time.monotonic() + pause
            for journey in journeys:
                heappush(self._waiting, (when, next(self._numbers), journey))
            if self._waiting[0][2] in journeys:  # before all that the watch knows of
                self._watch = None
                self._change.notify()
            starts = not self._hired
            self._hired = self._hired or 1
        if starts:
            self._hire()

    def _hire(self) -> None:
        try:
            threading.Thread(target=self._work, name=self._name, daemon=True).start()
        except RuntimeError:  # the machine gives no more threads: those that there are go on
            with self._lock:
                self._hired -= 1
                if not self._hired:
                    raise

    def _work(self) -> None:
        while True:
            self._next().go_on(self)

    def _next(self) -> _Journey:
        """Wait for the next journey whose time has come; see to it that a thread does so for the one after it."""
        with self._lock:
            while not self._waiting or (left := self._waiting[0][0] - time.monotonic()) > 0:
                watches = self._waiting and self._watch is None
                if watches:
                    self._watch = threading.get_ident()
                self._idle += 1
                self._change.wait(left if watches else None)
                self._idle -= 1
                if self._watch == threading.get_ident():
                    self._watch = None
            journey = heappop(self._waiting)[2]
            if self._waiting and self._watch is None:
                self._change.notify()
            starts = not self._idle and self._hired < self._size
            self._hired += starts
        if starts:
            self._hire()
        return journey


_short, _long = _Crew("carto-warehouse", THREADS), _Crew("carto-upload", LONG_THREADS)


def _after_fork_in_child() -> None:
    _Journey._handing_over = threading.Lock()
    _short.start_anew()
    _long.start_anew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
