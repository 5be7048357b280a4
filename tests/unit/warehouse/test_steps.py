"""Sync and async are one algorithm: both drivers take the same steps, and neither holds a loop nor many threads."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Generator
from typing import Any

import pytest

from carto_auth_integrations.warehouse import steps
from carto_auth_integrations.warehouse.steps import LONG_THREADS, THREADS, Long, adrive, drive, one

Driver = Callable[[Any], Any]


def driven_async(algorithm: Generator[Any, Any, Any]) -> Any:
    return asyncio.run(adrive(algorithm))


@pytest.fixture(params=[drive, driven_async], ids=["sync", "async"])
def driver(request: pytest.FixtureRequest) -> Driver:
    given: Driver = request.param
    return given


def test_the_result_of_each_step_comes_back_to_the_algorithm(driver: Driver) -> None:
    def algorithm() -> Generator[Any, Any, str]:
        first = yield lambda: "a"
        yield 0.0
        second = yield lambda: first + "b"
        return second + "c"

    assert driver(algorithm()) == "abc"


def test_an_algorithm_without_steps_has_a_result(driver: Driver) -> None:
    def algorithm() -> Generator[Any, Any, int]:
        return 3
        yield

    assert driver(algorithm()) == 3


def test_a_pause_lasts(driver: Driver) -> None:
    def algorithm() -> Generator[Any, Any, None]:
        yield 0.1

    started = time.monotonic()
    driver(algorithm())
    assert 0.09 < time.monotonic() - started < 5


def test_an_error_of_a_step_is_raised_where_the_algorithm_waits(driver: Driver) -> None:
    def algorithm() -> Generator[Any, Any, Any]:
        try:
            yield lambda: 1 // 0
        except ZeroDivisionError:
            return (yield lambda: "saw it")

    assert driver(algorithm()) == "saw it"


def test_an_error_that_the_algorithm_does_not_take_is_the_callers(driver: Driver) -> None:
    closed = []

    def algorithm() -> Generator[Any, Any, None]:
        try:
            yield lambda: 1 // 0
        finally:
            closed.append(True)

    with pytest.raises(ZeroDivisionError):
        driver(algorithm())
    assert closed == [True]


def test_an_error_is_raised_once_and_later_steps_are_as_ever(driver: Driver) -> None:
    def algorithm() -> Generator[Any, Any, list[Any]]:
        seen: list[Any] = []
        for _ in range(2):
            try:
                yield lambda: [][0]
            except IndexError:
                seen.append("error")
            seen.append((yield lambda: "answer"))
        return seen

    assert driver(algorithm()) == ["error", "answer", "error", "answer"]


def test_an_interrupt_is_not_the_algorithms_to_decide_on() -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    def algorithm() -> Generator[Any, Any, None]:
        try:
            yield interrupt
        except KeyboardInterrupt:
            pytest.fail("it is the caller's")

    with pytest.raises(KeyboardInterrupt):
        drive(algorithm())


def test_a_cancelled_coroutine_ends_at_once_and_closes_the_algorithm() -> None:
    closed = threading.Event()

    def algorithm() -> Generator[Any, Any, None]:
        try:
            while True:
                yield 60.0
        finally:
            closed.set()

    async def cancel() -> None:
        task = asyncio.ensure_future(adrive(algorithm()))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    started = time.monotonic()
    asyncio.run(cancel())
    assert closed.is_set()
    assert time.monotonic() - started < 5


def test_a_coroutine_cancelled_in_a_call_does_not_wait_for_it() -> None:
    gate = threading.Event()

    def algorithm() -> Generator[Any, Any, None]:
        yield lambda: gate.wait(30)

    async def cancel() -> float:
        task = asyncio.ensure_future(adrive(algorithm()))
        await asyncio.sleep(0.05)
        started = time.monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return time.monotonic() - started

    try:
        assert asyncio.run(cancel()) < 5
    finally:
        gate.set()


def test_many_coroutines_share_few_threads_and_the_loop_goes_on() -> None:
    used: set[int] = set()

    def call() -> None:
        used.add(threading.get_ident())
        time.sleep(0.01)

    def algorithm() -> Generator[Any, Any, None]:
        yield call
        yield 0.05
        yield call

    async def all_of_them() -> float:
        longest, last = 0.0, time.monotonic()
        everyone = asyncio.gather(*(adrive(algorithm()) for _ in range(200)))
        while not everyone.done():
            await asyncio.sleep(0.005)
            longest, last = max(longest, time.monotonic() - last), time.monotonic()
        await everyone
        return longest

    stall = asyncio.run(all_of_them())

    assert len(used) <= THREADS <= 8
    assert stall < 0.5, "the loop stood still"


def test_long_calls_leave_the_short_ones_their_threads() -> None:
    gate = threading.Event()

    def upload() -> Generator[Any, Any, None]:
        yield Long(lambda: gate.wait(30))

    def poll() -> Generator[Any, Any, int]:
        return (yield lambda: 1)

    async def both() -> list[int]:
        uploads = [asyncio.ensure_future(adrive(upload())) for _ in range(3 * THREADS)]
        await asyncio.sleep(0.05)
        polls = await asyncio.wait_for(asyncio.gather(*(adrive(poll()) for _ in range(50))), 20)
        gate.set()
        await asyncio.gather(*uploads)
        return polls

    try:
        assert asyncio.run(both()) == [1] * 50
    finally:
        gate.set()


def test_long_calls_are_few_at_once() -> None:
    now, most, lock = 0, 0, threading.Lock()

    def upload() -> None:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.02)
        with lock:
            now -= 1

    def algorithm() -> Generator[Any, Any, None]:
        yield Long(upload)

    async def many() -> None:
        await asyncio.gather(*(adrive(algorithm()) for _ in range(20)))

    asyncio.run(many())
    assert 1 < most <= LONG_THREADS


def test_a_long_call_is_a_call_like_any_other_without_a_loop() -> None:
    def algorithm() -> Generator[Any, Any, int]:
        return (yield Long(lambda: 5))

    assert drive(algorithm()) == 5


def test_a_call_that_raises_what_no_future_takes_still_ends() -> None:
    def algorithm() -> Generator[Any, Any, Any]:
        yield lambda: next(iter(()))

    with pytest.raises(RuntimeError, match="StopIteration"):
        driven_async(algorithm())


def test_an_answer_that_comes_after_the_loop_has_closed_hurts_nobody() -> None:
    gate, answered = threading.Event(), threading.Event()

    def call() -> None:
        gate.wait(30)
        answered.set()

    async def leave() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(adrive(one(call)), 0.05)

    asyncio.run(leave())
    gate.set()
    assert answered.wait(20)
    assert driven_async(one(lambda: 7)) == 7


def test_pauses_take_no_thread() -> None:
    def algorithm() -> Generator[Any, Any, None]:
        yield 0.3

    async def all_of_them() -> float:
        started = time.monotonic()
        await asyncio.gather(*(adrive(algorithm()) for _ in range(500)))
        return time.monotonic() - started

    assert asyncio.run(all_of_them()) < 5


def test_two_loops_on_two_threads_are_served() -> None:
    def algorithm() -> Generator[Any, Any, int]:
        return (yield lambda: 1)

    answers: list[int] = []
    threads = [threading.Thread(target=lambda: answers.append(asyncio.run(adrive(algorithm())))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert answers == [1] * 4


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_has_threads_of_its_own() -> None:
    def algorithm() -> Generator[Any, Any, int]:
        return (yield lambda: 7)

    assert driven_async(algorithm()) == 7
    assert steps._short._hired > 0
    child = os.fork()
    if child == 0:
        try:
            os._exit(driven_async(algorithm()))
        finally:
            os._exit(1)
    deadline = time.monotonic() + 20
    while True:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            break
        if time.monotonic() > deadline:
            os.kill(child, 9)
            os.waitpid(child, 0)
            pytest.fail("the child hangs: it waits for threads that only its parent has")
        time.sleep(0.01)
    assert os.waitstatus_to_exitcode(status) == 7
