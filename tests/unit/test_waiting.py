"""Waiting: deadlines, and code that yields its pauses, which takes the same steps sync and async."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import time
import weakref
from collections.abc import Callable, Generator
from concurrent.futures import Future
from contextvars import ContextVar
from functools import partial
from typing import Any, TypeAlias

import pytest

from carto_auth_integrations.waiting import (
    FOREVER,
    Cancelled,
    Deadline,
    Pool,
    arun,
    on_thread,
    run,
    settle,
    start_thread,
)
from tests.support.processes import run_processes
from tests.support.threads import PATIENCE, Outcome, until

Steps: TypeAlias = Generator[Any, None, Any]
Runner = Callable[[Callable[[], Steps]], Any]
AT_ONCE = 0.0
"""A pause of no length."""


def run_sync(begin: Callable[[], Steps]) -> Any:
    return run(begin())


def run_async(begin: Callable[[], Steps]) -> Any:
    return asyncio.run(arun(begin))


@pytest.fixture(params=[run_sync, run_async], ids=["sync", "async"])
def runner(request: pytest.FixtureRequest) -> Runner:
    given: Runner = request.param
    return given


def calling(call: Callable[[], Any]) -> Steps:
    """Make a call and end."""
    return call()
    yield


def pausing(*pauses: float) -> Steps:
    yield from pauses


# Steps


def test_steps_go_on_after_each_one(runner: Runner) -> None:
    seen = []

    def steps() -> Steps:
        seen.append("begun")
        yield Deadline(60)
        seen.append("after a deadline")
        yield 0.01
        seen.append("after a pause")
        yield Pool.UPLOADS
        seen.append("on an upload thread")
        yield partial(seen.append, "called back")
        return "end"

    assert runner(steps) == "end"
    assert seen == ["begun", "after a deadline", "after a pause", "on an upload thread", "called back"]


def test_code_without_pauses_returns_its_result(runner: Runner) -> None:
    assert runner(partial(calling, lambda: 3)) == 3


def test_a_pause_lasts(runner: Runner) -> None:
    started = time.monotonic()
    runner(partial(pausing, 0.1))
    assert 0.09 < time.monotonic() - started < 5


def test_an_error_is_raised_for_the_caller(runner: Runner) -> None:
    closed = []

    def steps() -> Steps:
        try:
            yield 0.01
            1 // 0  # noqa: B018  # for its error
        finally:
            closed.append(True)

    with pytest.raises(ZeroDivisionError):
        runner(steps)
    assert closed == [True]


def test_an_error_before_the_first_step_is_raised_for_the_caller(runner: Runner) -> None:
    with pytest.raises(ZeroDivisionError):
        runner(lambda: pausing(1 // 0))


def test_a_stop_iteration_of_a_call_is_an_error_like_any_other(runner: Runner) -> None:
    with pytest.raises(RuntimeError, match="StopIteration"):
        runner(partial(calling, lambda: next(iter(()))))


def test_an_error_keeps_nothing_alive() -> None:
    class Kept:
        pass

    kept: list[weakref.ref[Kept]] = []

    def steps() -> Steps:
        mine = Kept()
        kept.append(weakref.ref(mine))
        yield AT_ONCE
        raise KeyError("gone")

    async def fail() -> None:
        try:
            await arun(steps)
        except KeyError:
            pass

    async def look() -> bool:
        await fail()
        deadline = time.monotonic() + PATIENCE
        while kept[0]() is not None and time.monotonic() < deadline:  # the thread may still be putting it down
            await asyncio.sleep(0.01)
        return kept[0]() is None

    gc.disable()
    try:
        assert asyncio.run(look())
    finally:
        gc.enable()


NAME = ContextVar("NAME", default="nobody's")


def test_a_callback_runs_on_the_callers_thread_and_in_its_context(runner: Runner) -> None:
    seen = []

    def steps() -> Steps:
        yield lambda: seen.append((threading.get_ident(), NAME.get()))

    token = NAME.set("the caller's")
    try:
        runner(steps)
    finally:
        NAME.reset(token)
    assert seen == [(threading.get_ident(), "the caller's")]


def test_an_error_of_a_callback_ends_the_steps(runner: Runner) -> None:
    closed = threading.Event()

    def steps() -> Steps:
        try:
            yield lambda: 1 // 0
            pytest.fail("went on")
        finally:
            closed.set()

    with pytest.raises(ZeroDivisionError):
        runner(steps)
    gc.collect()
    assert closed.wait(PATIENCE)


def test_an_interruption_is_raised_for_the_caller() -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(calling(interrupt))


# Cancelled coroutines


def test_a_cancelled_coroutine_ends_at_once_and_closes_its_steps() -> None:
    closed = threading.Event()

    def steps() -> Steps:
        try:
            while True:
                yield 60.0
        finally:
            closed.set()

    async def cancel() -> None:
        task = asyncio.ensure_future(arun(steps))
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    started = time.monotonic()
    asyncio.run(cancel())
    assert closed.wait(PATIENCE)
    assert time.monotonic() - started < 5


def test_a_cancelled_coroutine_cancels_its_deadline_and_does_not_wait_for_a_call() -> None:
    began, gate, closed, went_on = threading.Event(), threading.Event(), threading.Event(), []
    deadline = Deadline()

    def steps() -> Steps:
        try:
            yield deadline
            began.set()
            gate.wait(30)
            yield AT_ONCE
            went_on.append(True)
        finally:
            closed.set()

    async def cancel() -> float:
        task = asyncio.ensure_future(arun(steps))
        await asyncio.to_thread(began.wait, PATIENCE)
        started = time.monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return time.monotonic() - started

    try:
        assert asyncio.run(cancel()) < 5
    finally:
        gate.set()
    assert closed.wait(PATIENCE)
    assert deadline.cancelled
    assert went_on == []


def test_a_coroutine_that_is_cancelled_before_its_turn_begins_nothing() -> None:
    gate, begun = threading.Event(), []

    async def cancel() -> None:
        busy = [asyncio.ensure_future(arun(partial(calling, lambda: gate.wait(30)))) for _ in range(Pool.CALLS.value)]
        await asyncio.sleep(0.1)
        late = asyncio.ensure_future(arun(partial(calling, lambda: begun.append(True))))
        await asyncio.sleep(0.1)
        late.cancel()
        await asyncio.wait([late])
        gate.set()
        await asyncio.gather(*busy)
        await arun(partial(pausing, 0.1))

    try:
        asyncio.run(cancel())
    finally:
        gate.set()
    assert begun == []


def test_a_call_that_ends_after_the_loop_was_closed_is_no_error() -> None:
    gate, ended = threading.Event(), threading.Event()

    def call() -> None:
        gate.wait(30)
        ended.set()

    async def leave() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(arun(partial(calling, call)), 0.05)

    asyncio.run(leave())
    gate.set()
    assert ended.wait(PATIENCE)
    assert run_async(partial(calling, lambda: 7)) == 7


def test_a_process_that_exits_after_a_cancellation_closes_its_steps_and_prints_nothing() -> None:
    (output,) = run_processes(
        1,
        """
        import asyncio, sys, threading
        from carto_auth_integrations.waiting import arun
        sys.stderr = sys.stdout
        began = threading.Event()

        def steps():
            try:
                began.set()
                threading.Event().wait(1)
                yield 0
            finally:
                print("closed")

        async def use():
            task = asyncio.ensure_future(arun(steps))
            while not began.is_set():
                await asyncio.sleep(0.01)
            task.cancel()

        asyncio.run(use())
        """,
    )
    assert output == "closed"


# Threads


def test_many_coroutines_share_few_threads_and_the_loop_goes_on() -> None:
    used: set[int] = set()

    def call() -> None:
        used.add(threading.get_ident())
        time.sleep(0.01)

    def steps() -> Steps:
        call()
        yield 0.05
        call()

    async def all_of_them() -> float:
        longest, last = 0.0, time.monotonic()
        everyone = asyncio.gather(*(arun(steps) for _ in range(200)))
        while not everyone.done():
            await asyncio.sleep(0.005)
            longest, last = max(longest, time.monotonic() - last), time.monotonic()
        await everyone
        return longest

    longest_turn = asyncio.run(all_of_them())

    assert 1 < len(used) <= Pool.CALLS.value
    assert longest_turn < 0.5, "the loop was held"


def test_all_pools_together_have_at_most_16_threads() -> None:
    assert sum(pool.value for pool in Pool) <= 16


def test_uploads_leave_the_short_calls_their_threads() -> None:
    gate = threading.Event()

    def upload() -> Steps:
        yield Pool.UPLOADS
        gate.wait(30)

    async def both() -> list[int]:
        uploads = [asyncio.ensure_future(arun(upload)) for _ in range(3 * Pool.CALLS.value)]
        await asyncio.sleep(0.05)
        calls = asyncio.gather(*(arun(partial(calling, lambda: 1)) for _ in range(50)))
        answers = await asyncio.wait_for(calls, PATIENCE)
        gate.set()
        await asyncio.gather(*uploads)
        return answers

    try:
        assert asyncio.run(both()) == [1] * 50
    finally:
        gate.set()


def test_steps_name_the_threads_that_go_on() -> None:
    names: list[str] = []

    def steps() -> Steps:
        for step in (Pool.UPLOADS, 0.01, Pool.CALLS):
            names.append(threading.current_thread().name.partition("_")[0])
            yield step
        names.append(threading.current_thread().name.partition("_")[0])

    run_async(steps)
    assert names == ["carto-calls", "carto-uploads", "carto-uploads", "carto-calls"]


def test_few_uploads_run_at_once() -> None:
    now, most, lock = 0, 0, threading.Lock()

    def upload() -> Steps:
        nonlocal now, most
        yield Pool.UPLOADS
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.02)
        with lock:
            now -= 1

    async def many() -> None:
        await asyncio.gather(*(arun(upload) for _ in range(20)))

    asyncio.run(many())
    assert 1 < most <= Pool.UPLOADS.value


def test_pauses_take_no_thread() -> None:
    async def all_of_them() -> float:
        started = time.monotonic()
        await asyncio.gather(*(arun(partial(pausing, 0.3)) for _ in range(500)))
        return time.monotonic() - started

    assert asyncio.run(all_of_them()) < 5


def test_two_loops_on_two_threads_are_served() -> None:
    outcomes = [Outcome(lambda: run_async(partial(calling, lambda: 1))) for _ in range(4)]
    assert [outcome.settled() for outcome in outcomes] == [1] * 4


def test_after_the_machine_gave_no_thread_the_next_call_tries_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_thread(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("carto_auth_integrations.waiting._executors", {})
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", no_thread)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            run_async(partial(calling, lambda: 7))
    assert run_async(partial(calling, lambda: 7)) == 7


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_has_threads_of_its_own() -> None:
    seven = partial(calling, lambda: 7)
    assert run_async(seven) == 7
    child = os.fork()
    if child == 0:
        try:
            os._exit(run_async(seven))
        finally:
            os._exit(1)
    deadline = time.monotonic() + PATIENCE
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


# Work on a thread


def test_work_on_a_thread_returns_its_result_or_raises_its_error() -> None:
    assert on_thread(lambda: 3, FOREVER, Deadline()) == 3
    with pytest.raises(ZeroDivisionError):
        on_thread(lambda: 1 // 0, FOREVER, Deadline())


def test_work_that_hangs_is_left_behind() -> None:
    gate = threading.Event()
    with pytest.raises(TimeoutError):
        on_thread(lambda: gate.wait(PATIENCE), 0.05, Deadline())
    gate.set()


def test_whoever_waits_for_work_goes_on_when_the_deadline_is_cancelled() -> None:
    gate, deadline = threading.Event(), Deadline()
    waiting = Outcome(lambda: on_thread(lambda: gate.wait(PATIENCE), FOREVER, deadline))
    until(lambda: any(thread.name == "carto-call" for thread in threading.enumerate()))
    deadline.cancel()
    assert isinstance(waiting.settled(), Cancelled)
    gate.set()


def test_nothing_is_begun_after_the_deadline_was_cancelled() -> None:
    deadline = Deadline()
    deadline.cancel()
    with pytest.raises(Cancelled):
        on_thread(lambda: time.sleep(PATIENCE), FOREVER, deadline)


def test_work_runs_here_where_the_system_gives_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_thread(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", no_thread)
    seen: list[int] = []
    start_thread(lambda: seen.append(threading.get_ident()), "carto-call")
    assert seen == [threading.get_ident()]
    assert on_thread(lambda: 3, FOREVER, Deadline()) == 3


def test_a_future_that_is_settled_keeps_its_first_result() -> None:
    future: Future[int] = Future()
    settle(future, 1)
    settle(future, 2)
    settle(future, 0, KeyError("late"))
    assert future.result() == 1


# Deadlines


def test_a_deadline_counts_down_to_zero() -> None:
    assert Deadline().left() == FOREVER
    assert 59 < Deadline(60).left() <= 60
    assert Deadline(-1).left() == 0.0


def test_a_deadline_does_not_outlive_its_outer_one() -> None:
    outer = Deadline(1)
    assert Deadline(60, outer).left() <= 1
    assert Deadline(None, outer).left() <= 1
    assert Deadline(0.1, outer).left() <= 0.1
    outer.cancel()
    with pytest.raises(Cancelled):
        Deadline(60, outer).raise_if_cancelled()


def test_a_deadline_that_has_passed_says_what_it_ended() -> None:
    Deadline(60).raise_if_over("Nothing was loaded.")
    with pytest.raises(TimeoutError, match=r"longer than 0 s\. Nothing was loaded\."):
        Deadline(0).raise_if_over("Nothing was loaded.")
