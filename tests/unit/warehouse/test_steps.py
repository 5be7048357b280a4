"""Sync and async are one algorithm: both drivers take the same steps, and neither holds a loop nor many threads."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import time
import weakref
from collections.abc import Callable, Generator
from contextvars import ContextVar
from functools import partial
from typing import Any, TypeAlias

import pytest

from carto_auth_integrations.warehouse import steps
from carto_auth_integrations.warehouse.steps import LONG, LONG_THREADS, NOW, THREADS, Here, adrive, drive

Algorithm: TypeAlias = Generator[Any, None, Any]
Driver = Callable[[Callable[[], Algorithm]], Any]


def driven_sync(begin: Callable[[], Algorithm]) -> Any:
    return drive(begin())


def driven_async(begin: Callable[[], Algorithm]) -> Any:
    return asyncio.run(adrive(begin))


@pytest.fixture(params=[driven_sync, driven_async], ids=["sync", "async"])
def driver(request: pytest.FixtureRequest) -> Driver:
    given: Driver = request.param
    return given


def calling(call: Callable[[], Any]) -> Algorithm:
    """Make a call, as an algorithm does: where it stands."""
    return call()
    yield


def waiting(*pauses: float) -> Algorithm:
    yield from pauses


def test_an_algorithm_goes_on_after_each_step(driver: Driver) -> None:
    seen = []

    def algorithm() -> Algorithm:
        seen.append("begun")
        yield NOW
        seen.append("at once")
        yield 0.01
        seen.append("after a pause")
        yield LONG
        seen.append("on a thread for long calls")
        yield Here(partial(seen.append, "here"))
        return "end"

    assert driver(algorithm) == "end"
    assert seen == ["begun", "at once", "after a pause", "on a thread for long calls", "here"]


def test_an_algorithm_without_steps_has_a_result(driver: Driver) -> None:
    assert driver(partial(calling, lambda: 3)) == 3


def test_a_pause_lasts(driver: Driver) -> None:
    started = time.monotonic()
    driver(partial(waiting, 0.1))
    assert 0.09 < time.monotonic() - started < 5


def test_an_error_is_the_callers(driver: Driver) -> None:
    closed = []

    def algorithm() -> Algorithm:
        try:
            yield 0.01
            1 // 0  # noqa: B018  # for its error
        finally:
            closed.append(True)

    with pytest.raises(ZeroDivisionError):
        driver(algorithm)
    assert closed == [True]


def test_an_algorithm_that_cannot_be_begun_is_an_error_of_the_caller(driver: Driver) -> None:
    with pytest.raises(ZeroDivisionError):
        driver(lambda: waiting(1 // 0))


def test_a_stop_iteration_of_a_call_is_an_error_like_any_other(driver: Driver) -> None:
    with pytest.raises(RuntimeError, match="StopIteration"):
        driver(partial(calling, lambda: next(iter(()))))


def test_an_error_keeps_nothing_alive() -> None:
    class Kept:
        pass

    kept: list[weakref.ref[Kept]] = []

    def algorithm() -> Algorithm:
        mine = Kept()
        kept.append(weakref.ref(mine))
        yield NOW
        raise KeyError("gone")

    async def fail() -> None:
        try:
            await adrive(algorithm)
        except KeyError:
            pass

    async def look() -> bool:
        await fail()
        deadline = time.monotonic() + 20
        while kept[0]() is not None and time.monotonic() < deadline:  # the thread may still be putting it down
            await asyncio.sleep(0.01)
        return kept[0]() is None

    gc.disable()
    try:
        assert asyncio.run(look())
    finally:
        gc.enable()


NAME = ContextVar("NAME", default="nobody's")


def test_a_step_for_the_caller_is_taken_on_its_thread_and_in_its_context(driver: Driver) -> None:
    seen = []

    def algorithm() -> Algorithm:
        yield Here(lambda: seen.append((threading.get_ident(), NAME.get())))

    token = NAME.set("the caller's")
    try:
        driver(algorithm)
    finally:
        NAME.reset(token)
    assert seen == [(threading.get_ident(), "the caller's")]


def test_an_error_of_a_step_for_the_caller_ends_it_all(driver: Driver) -> None:
    closed = []

    def algorithm() -> Algorithm:
        try:
            yield Here(lambda: 1 // 0)
            pytest.fail("went on")
        finally:
            closed.append(True)

    with pytest.raises(ZeroDivisionError):
        driver(algorithm)
    assert closed == [True]


def test_an_interrupt_is_not_the_algorithms_to_decide_on() -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        drive(calling(interrupt))


def test_a_cancelled_coroutine_ends_at_once_and_closes_the_algorithm() -> None:
    closed = threading.Event()

    def algorithm() -> Algorithm:
        try:
            while True:
                yield 60.0
        finally:
            closed.set()

    async def cancel() -> None:
        task = asyncio.ensure_future(adrive(algorithm))
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    started = time.monotonic()
    asyncio.run(cancel())
    assert closed.wait(20)
    assert time.monotonic() - started < 5


def test_a_coroutine_cancelled_in_a_call_does_not_wait_for_it_and_does_no_more() -> None:
    began, gate, closed, went_on = threading.Event(), threading.Event(), threading.Event(), []

    def algorithm() -> Algorithm:
        try:
            began.set()
            gate.wait(30)
            yield NOW
            went_on.append(True)
        finally:
            closed.set()

    async def cancel() -> float:
        task = asyncio.ensure_future(adrive(algorithm))
        await asyncio.to_thread(began.wait, 20)
        started = time.monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return time.monotonic() - started

    try:
        assert asyncio.run(cancel()) < 5
    finally:
        gate.set()
    assert closed.wait(20)
    assert went_on == []


def test_a_coroutine_cancelled_before_its_turn_begins_nothing() -> None:
    gate, begun = threading.Event(), []

    async def cancel() -> None:
        busy = [asyncio.ensure_future(adrive(partial(calling, lambda: gate.wait(30)))) for _ in range(THREADS)]
        await asyncio.sleep(0.1)
        late = asyncio.ensure_future(adrive(partial(calling, lambda: begun.append(True))))
        await asyncio.sleep(0.1)
        late.cancel()
        await asyncio.wait([late])
        gate.set()
        await asyncio.gather(*busy)
        await adrive(partial(waiting, 0.1))

    try:
        asyncio.run(cancel())
    finally:
        gate.set()
    assert begun == []


def test_many_coroutines_share_few_threads_and_the_loop_goes_on() -> None:
    used: set[int] = set()

    def call() -> None:
        used.add(threading.get_ident())
        time.sleep(0.01)

    def algorithm() -> Algorithm:
        call()
        yield 0.05
        call()

    async def all_of_them() -> float:
        longest, last = 0.0, time.monotonic()
        everyone = asyncio.gather(*(adrive(algorithm) for _ in range(200)))
        while not everyone.done():
            await asyncio.sleep(0.005)
            longest, last = max(longest, time.monotonic() - last), time.monotonic()
        await everyone
        return longest

    stall = asyncio.run(all_of_them())

    assert 1 < len(used) <= THREADS <= 8
    assert stall < 0.5, "the loop stood still"


def test_long_calls_leave_the_short_ones_their_threads() -> None:
    gate = threading.Event()

    def upload() -> Algorithm:
        yield LONG
        gate.wait(30)

    async def both() -> list[int]:
        uploads = [asyncio.ensure_future(adrive(upload)) for _ in range(3 * THREADS)]
        await asyncio.sleep(0.05)
        polls = asyncio.gather(*(adrive(partial(calling, lambda: 1)) for _ in range(50)))
        answers = await asyncio.wait_for(polls, 20)
        gate.set()
        await asyncio.gather(*uploads)
        return answers

    try:
        assert asyncio.run(both()) == [1] * 50
    finally:
        gate.set()


def test_after_a_pause_a_long_algorithm_is_a_short_one_again() -> None:
    names: list[str] = []

    def algorithm() -> Algorithm:
        names.append(threading.current_thread().name)
        yield LONG
        names.append(threading.current_thread().name)
        yield NOW
        names.append(threading.current_thread().name)
        yield LONG
        names.append(threading.current_thread().name)
        yield 0.01
        names.append(threading.current_thread().name)

    driven_async(algorithm)
    assert names == ["carto-warehouse", *["carto-upload"] * 3, "carto-warehouse"]


def test_long_calls_are_few_at_once() -> None:
    now, most, lock = 0, 0, threading.Lock()

    def upload() -> Algorithm:
        nonlocal now, most
        yield LONG
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.02)
        with lock:
            now -= 1

    async def many() -> None:
        await asyncio.gather(*(adrive(upload) for _ in range(20)))

    asyncio.run(many())
    assert 1 < most <= LONG_THREADS


def test_an_answer_that_comes_after_the_loop_has_closed_hurts_nobody() -> None:
    gate, answered = threading.Event(), threading.Event()

    def call() -> None:
        gate.wait(30)
        answered.set()

    async def leave() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(adrive(partial(calling, call)), 0.05)

    asyncio.run(leave())
    gate.set()
    assert answered.wait(20)
    assert driven_async(partial(calling, lambda: 7)) == 7


def test_pauses_take_no_thread() -> None:
    async def all_of_them() -> float:
        started = time.monotonic()
        await asyncio.gather(*(adrive(partial(waiting, 0.3)) for _ in range(500)))
        return time.monotonic() - started

    assert asyncio.run(all_of_them()) < 5


def test_whoever_is_due_first_goes_on_first_whenever_it_came() -> None:
    ended: list[float] = []

    async def wait(pause: float) -> None:
        await adrive(partial(waiting, pause))
        ended.append(pause)

    async def all_of_them() -> None:
        waits = []
        for pause in (60.0, 2.0, 1.0, 1.5, 0.1, 0.6):
            waits.append(asyncio.ensure_future(wait(pause)))
            await asyncio.sleep(0.02)  # a thread waits for the pause before
        await asyncio.wait(waits[1:])
        waits[0].cancel()

    started = time.monotonic()
    asyncio.run(all_of_them())
    assert ended == [0.1, 0.6, 1.0, 1.5, 2.0]
    assert time.monotonic() - started < 10


def test_a_loop_that_ended_before_its_coroutines_set_out_leaves_the_next_one_alone() -> None:
    async def leave() -> None:
        asyncio.get_running_loop().call_soon(asyncio.get_running_loop().stop)
        await adrive(partial(calling, lambda: 1))

    loop = asyncio.new_event_loop()
    task = loop.create_task(leave())
    with pytest.raises(RuntimeError, match="stopped before"):
        loop.run_until_complete(task)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(task)
    loop.close()
    assert driven_async(partial(calling, lambda: 7)) == 7


def test_two_loops_on_two_threads_are_served() -> None:
    answers: list[int] = []

    def run() -> None:
        answers.append(driven_async(partial(calling, lambda: 1)))

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert answers == [1] * 4


def test_where_the_machine_gives_no_thread_the_next_call_tries_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_thread(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    crew = steps._Crew("carto-warehouse", THREADS)
    monkeypatch.setattr(steps, "_short", crew)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", no_thread)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            driven_async(partial(calling, lambda: 7))
    assert driven_async(partial(calling, lambda: 7)) == 7


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_has_threads_of_its_own() -> None:
    seven = partial(calling, lambda: 7)
    assert driven_async(seven) == 7
    assert steps._short._hired > 0
    child = os.fork()
    if child == 0:
        try:
            os._exit(driven_async(seven))
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
