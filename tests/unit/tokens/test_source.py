"""The token source: one request for threads, coroutines and processes, and who waits for it."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import pytest

from carto_auth_integrations.errors import (
    ClientRejected,
    CredentialsError,
    InteractionRequired,
    MissingField,
    ServiceUnavailable,
)
from carto_auth_integrations.tokens.clock import SYSTEM
from carto_auth_integrations.tokens.source import TokenSource
from carto_auth_integrations.tokens.stores.memory import MemoryStore
from carto_auth_integrations.tokens.token import NO_TOKEN, Entry, Failure, Token
from tests.support.accounts import BEARER
from tests.support.clocks import Clock
from tests.support.leaks import assert_shows_no_secret, raised_by
from tests.support.threads import Outcome, until
from tests.support.tokens import FakeGrant, token_living

HOUR = 3600.0
DOWN = ServiceUnavailable("CARTO access token of c: https://login/oauth/token answered 503.", status=503)


Listener = Callable[[Token], object]


def source_of(
    grant: Any,
    store: MemoryStore | None = None,
    token: Token = NO_TOKEN,
    listeners: Sequence[Listener] = (),
    clock: Any = SYSTEM,
) -> TokenSource:
    source = TokenSource("key", "CARTO access token of c", grant, store or MemoryStore(), listeners, clock)
    source.token = token
    return source


def stale(value: str = "old") -> Token:
    return token_living(HOUR, value, stale_in=-1)


def in_its_margin(value: str = "old") -> Token:
    return token_living(0.5, value, stale_in=-1)  # of 100.5 s: the last one is the margin


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """Closed at first: what waits for it waits until the test opens it, or ends."""
    event = threading.Event()
    yield event
    event.set()


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


# FRESH, STALE, EXPIRED


def test_a_fresh_token_is_returned_without_lock_store_or_grant() -> None:
    class NoStore(MemoryStore):
        def read(self, key: str) -> Entry:
            raise AssertionError(key)

    fresh = token_living(HOUR)
    source = source_of(FakeGrant(), NoStore(), fresh)

    with source._lock:
        assert source.get() is fresh


def test_a_cold_source_fetches_and_keeps() -> None:
    grant = FakeGrant(token_living(HOUR, "new"))
    source = source_of(grant)

    assert [source.get().reveal() for _ in range(3)] == ["new"] * 3
    assert grant.calls == 1


def test_an_expired_token_is_replaced() -> None:
    grant = FakeGrant(token_living(HOUR, "new"))

    assert source_of(grant, token=token_living(-1)).get().reveal() == "new"


def test_a_token_in_its_last_moments_is_replaced_before_it_is_handed_out() -> None:
    grant = FakeGrant(token_living(HOUR, "new"))

    assert source_of(grant, token=in_its_margin()).get().reveal() == "new"


def test_a_stale_token_is_returned_at_once_while_one_request_renews_it(gate: threading.Event) -> None:
    grant = FakeGrant(token_living(HOUR, "new"), gate=gate)
    source = source_of(grant, token=stale())

    assert {source.get().reveal() for _ in range(100)} == {"old"}
    assert grant.called.wait(10)
    gate.set()
    until(lambda: source.get().reveal() == "new")
    assert grant.calls == 1


def test_a_stale_token_is_returned_at_once_to_coroutines_too(gate: threading.Event) -> None:
    grant = FakeGrant(token_living(HOUR, "new"), gate=gate)
    source = source_of(grant, token=stale())

    async def everyone() -> set[str]:
        return {token.reveal() for token in await asyncio.gather(*(source.aget() for _ in range(100)))}

    assert asyncio.run(everyone()) == {"old"}
    gate.set()
    until(lambda: source.token.reveal() == "new")
    assert grant.calls == 1


def test_a_token_that_another_process_has_stored_is_taken_without_a_request() -> None:
    store, grant = MemoryStore(), FakeGrant()
    store.write("key", Entry(token_living(HOUR, "stored")))

    assert source_of(grant, store).get().reveal() == "stored"
    assert asyncio.run(source_of(grant, store).aget()).reveal() == "stored"
    assert grant.calls == 0


def test_a_stale_token_gives_way_to_what_another_process_has_stored() -> None:
    store, grant = MemoryStore(), FakeGrant()
    store.write("key", Entry(token_living(HOUR, "stored")))
    source = source_of(grant, store, stale())

    until(lambda: source.get().reveal() == "stored")
    assert grant.calls == 0


def test_a_token_that_was_fetched_is_stored() -> None:
    store = MemoryStore()

    source_of(FakeGrant(token_living(HOUR, "new")), store).get()

    assert store.read("key").token == token_living(HOUR, "new")


def test_the_grant_gets_the_last_token_for_its_refresh_token() -> None:
    store, seen = MemoryStore(), []
    store.write("key", Entry(token_living(-1, "ended")))

    def grant(previous: Token, *, interactive: bool) -> Token:
        seen.append((previous.reveal(), interactive))
        return token_living(HOUR, "new")

    source_of(grant, store).get(interactive=False)
    assert seen == [("ended", False)]


def test_in_the_background_and_from_coroutines_nobody_is_asked_to_log_in() -> None:
    seen: list[bool] = []

    def grant(_: Token, *, interactive: bool) -> Token:
        seen.append(interactive)
        return token_living(HOUR, "new")

    asyncio.run(source_of(grant).aget())
    source = source_of(grant, token=stale())
    source.get()
    until(lambda: source.token.reveal() == "new")
    assert seen == [False, False]


# One request for all


def test_64_threads_make_one_request(gate: threading.Event) -> None:
    grant = FakeGrant(token_living(HOUR, "new"), gate=gate)
    source = source_of(grant)

    threads = [Outcome(source.get) for _ in range(64)]
    assert grant.called.wait(10)
    gate.set()

    assert {thread.settled().reveal() for thread in threads} == {"new"}
    assert grant.calls == 1


def test_200_coroutines_and_64_threads_make_one_request(gate: threading.Event) -> None:
    grant = FakeGrant(token_living(HOUR, "new"), gate=gate)
    source = source_of(grant)

    async def everyone() -> list[Token]:
        tasks = [asyncio.create_task(source.aget()) for _ in range(200)]
        await asyncio.sleep(0)
        gate.set()
        return await asyncio.gather(*tasks)

    threads = [Outcome(source.get) for _ in range(64)]
    tokens = asyncio.run(everyone())

    assert {token.reveal() for token in tokens} | {thread.settled().reveal() for thread in threads} == {"new"}
    assert grant.calls == 1


def test_loops_in_several_threads_share_the_request(gate: threading.Event) -> None:
    grant = FakeGrant(token_living(HOUR, "new"), gate=gate)
    source = source_of(grant)

    threads = [Outcome(lambda: asyncio.run(source.aget())) for _ in range(8)]
    assert grant.called.wait(10)
    gate.set()

    assert {thread.settled().reveal() for thread in threads} == {"new"}
    assert grant.calls == 1


def test_a_failure_is_shared_as_a_token_is(gate: threading.Event) -> None:
    grant = FakeGrant(DOWN, gate=gate)
    source = source_of(grant)

    threads = [Outcome(source.get) for _ in range(64)]
    assert grant.called.wait(10)
    gate.set()
    errors = [thread.settled() for thread in threads]

    assert {type(error) for error in errors} == {ServiceUnavailable}
    assert {error.status for error in errors} == {503}
    assert grant.calls == 1


def test_each_caller_gets_an_error_object_of_its_own(gate: threading.Event) -> None:
    source = source_of(FakeGrant(DOWN, gate=gate))

    threads = [Outcome(source.get) for _ in range(16)]
    gate.set()
    errors = [thread.settled() for thread in threads]

    assert len({id(error) for error in errors}) == 16


def test_a_failure_is_shared_among_coroutines(gate: threading.Event) -> None:
    grant = FakeGrant(DOWN, gate=gate)
    source = source_of(grant)

    async def everyone() -> list[Any]:
        tasks = [asyncio.create_task(source.aget()) for _ in range(50)]
        await asyncio.sleep(0)
        gate.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    errors = asyncio.run(everyone())
    assert {type(error) for error in errors} == {ServiceUnavailable}
    assert all(error.__context__ is None for error in errors)
    assert grant.calls == 1


def test_a_failure_is_remembered_and_handed_out_without_a_request() -> None:
    grant = FakeGrant(DOWN)
    source = source_of(grant)
    raised_by(source.get)

    again = raised_by(source.get)
    from_a_coroutine = raised_by(lambda: asyncio.run(source.aget()))

    assert grant.calls == 1
    for error in (again, from_a_coroutine):
        assert isinstance(error, ServiceUnavailable)
        assert "not asked again" in str(error)
        assert error.retry_after == pytest.approx(5, abs=2)


def test_a_failure_is_remembered_for_other_processes_too() -> None:
    store, grant = MemoryStore(), FakeGrant()
    raised_by(source_of(FakeGrant(ClientRejected("refused (401)", status=401)), store).get)

    error = raised_by(source_of(grant, store).get)

    assert isinstance(error, ClientRejected)
    assert error.status == 401
    assert grant.calls == 0


def test_after_the_back_off_the_request_is_made_again() -> None:
    clock = Clock()
    grant = FakeGrant(DOWN, token_living(2 * HOUR, "new"))
    source = source_of(grant, clock=clock)
    raised_by(source.get)

    clock.advance(4)
    raised_by(source.get)
    clock.advance(2)

    assert source.get().reveal() == "new"
    assert grant.calls == 2


def test_a_remembered_failure_does_not_outlive_a_success() -> None:
    clock = Clock()
    store = MemoryStore()
    source = source_of(FakeGrant(DOWN, token_living(HOUR, "new")), store, clock=clock)
    raised_by(source.get)
    clock.advance(6)
    source.get()

    assert store.read("key").failure is None


@pytest.mark.parametrize("error", [MissingField("no secret here"), InteractionRequired("nobody here")])
def test_what_failed_before_anybody_was_asked_is_not_remembered(error: CredentialsError) -> None:
    grant = FakeGrant(error, token_living(HOUR, "new"))
    source = source_of(grant)
    assert type(raised_by(source.get)) is type(error)

    assert source.get().reveal() == "new"


def test_an_error_of_another_kind_reaches_everyone_and_blocks_nobody(gate: threading.Event) -> None:
    grant = FakeGrant(ZeroDivisionError("a bug"), token_living(HOUR, "new"), gate=gate)
    source = source_of(grant)

    threads = [Outcome(source.get) for _ in range(8)]
    assert grant.called.wait(10)
    gate.set()
    settled = [thread.settled() for thread in threads]

    assert any(isinstance(outcome, ZeroDivisionError) for outcome in settled)
    assert source.get().reveal() == "new"


def test_a_failure_leaves_no_reference_cycle_to_the_callers_frames() -> None:
    source = source_of(FakeGrant(DOWN))
    gc.collect()
    raised_by(source.get)
    assert source._in_flight is None


def test_an_error_shows_no_token_even_with_its_locals() -> None:
    store = MemoryStore()
    store.write("key", Entry(token_living(-1, BEARER), Failure.of(DOWN, time.time() - 60)))
    source = source_of(FakeGrant(DOWN), store, token_living(-1, BEARER))

    for error in (raised_by(source.get), raised_by(source.get), raised_by(lambda: asyncio.run(source.aget()))):
        assert error.__context__ is None
        assert_shows_no_secret(error)


# Interruption, cancellation


def test_when_the_one_who_fetches_is_interrupted_the_waiters_go_on(gate: threading.Event) -> None:
    grant = FakeGrant(KeyboardInterrupt(), token_living(HOUR, "new"), gate=gate)
    source = source_of(grant)

    interrupted = Outcome(source.get)
    assert grant.called.wait(10)
    waiters = [Outcome(source.get) for _ in range(16)]
    gate.set()

    assert isinstance(interrupted.settled(), KeyboardInterrupt)
    assert {waiter.settled().reveal() for waiter in waiters} == {"new"}
    assert grant.calls == 2


def test_when_the_one_who_fetches_is_interrupted_waiting_coroutines_go_on(gate: threading.Event) -> None:
    grant = FakeGrant(KeyboardInterrupt(), token_living(HOUR, "new"), gate=gate)
    source = source_of(grant)
    interrupted = Outcome(source.get)
    assert grant.called.wait(10)

    async def everyone() -> list[Token]:
        tasks = [asyncio.create_task(source.aget()) for _ in range(16)]
        await asyncio.sleep(0)
        gate.set()
        return await asyncio.gather(*tasks)

    assert {token.reveal() for token in asyncio.run(everyone())} == {"new"}
    assert isinstance(interrupted.settled(), KeyboardInterrupt)


def test_an_interruption_is_not_remembered_as_a_failure() -> None:
    source = source_of(FakeGrant(KeyboardInterrupt(), token_living(HOUR, "new")))
    with pytest.raises(KeyboardInterrupt):
        source.get()

    assert source.get().reveal() == "new"


def test_a_cancelled_coroutine_does_not_take_the_others_with_it(gate: threading.Event) -> None:
    grant = FakeGrant(token_living(HOUR, "new"), gate=gate)
    source = source_of(grant)

    async def everyone() -> list[Any]:
        tasks = [asyncio.create_task(source.aget()) for _ in range(10)]
        await asyncio.sleep(0.05)
        for task in tasks[:5]:  # the first one among them, which started the request
            task.cancel()
        await asyncio.sleep(0.05)
        gate.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    outcomes = asyncio.run(everyone())
    assert all(isinstance(outcome, asyncio.CancelledError) for outcome in outcomes[:5])
    assert {outcome.reveal() for outcome in outcomes[5:]} == {"new"}
    assert grant.calls == 1


def test_a_request_whose_every_caller_was_cancelled_still_serves_the_next(gate: threading.Event) -> None:
    grant = FakeGrant(token_living(HOUR, "new"), gate=gate)
    source = source_of(grant)

    async def give_up() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(source.aget(), 0.05)

    asyncio.run(give_up())
    gate.set()
    assert source.get().reveal() == "new"
    assert grant.calls == 1


def test_waiting_for_a_token_does_not_hold_the_event_loop(gate: threading.Event) -> None:
    source = source_of(FakeGrant(token_living(HOUR, "new"), gate=gate))

    async def count_while_waiting() -> int:
        task = asyncio.create_task(source.aget())
        turns = 0
        while not task.done():
            turns += 1
            if turns == 20:
                gate.set()
            await asyncio.sleep(0.001)
        return turns

    assert asyncio.run(count_while_waiting()) >= 20


# Background failures


def test_a_background_failure_leaves_the_token_in_hand_and_is_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    grant = FakeGrant(DOWN)
    source = source_of(grant, token=stale(BEARER))

    source.get()
    until(lambda: warnings(caplog))
    for _ in range(100):
        assert source.get().reveal() == BEARER
        time.sleep(0.001)

    assert grant.calls == 1
    (line,) = warnings(caplog)
    assert "the refresh failed, the token in hand is used until it expires" in line
    assert "answered 503" in line
    assert BEARER not in caplog.text


def test_a_background_failure_of_an_unforeseen_kind_is_not_raised_either(caplog: pytest.LogCaptureFixture) -> None:
    source = source_of(FakeGrant(ZeroDivisionError("a bug")), token=stale())

    source.get()
    until(lambda: warnings(caplog))
    assert source.get().reveal() == "old"


def test_the_refresh_is_tried_again_after_its_back_off(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    grant = FakeGrant(DOWN, token_living(HOUR, "new"))
    source = source_of(grant, token=stale(), clock=clock)
    source.get()
    until(lambda: warnings(caplog))

    clock.advance(6)
    until(lambda: source.get().reveal() == "new")
    assert grant.calls == 2


def test_one_failed_refresh_is_one_warning_for_as_long_as_it_is_remembered(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    grant = FakeGrant(ServiceUnavailable("answered 429", status=429, retry_after=60.0))
    source = source_of(grant, token=stale(), clock=clock)
    source.get()
    until(lambda: warnings(caplog))

    for _ in range(9):
        clock.advance(6)
        assert source.get().reveal() == "old"
        until(lambda: source._in_flight is None)

    assert grant.calls == 1
    assert len(warnings(caplog)) == 1


def test_a_token_in_its_last_moments_goes_on_when_there_is_no_other(caplog: pytest.LogCaptureFixture) -> None:
    source = source_of(FakeGrant(DOWN), token=in_its_margin())

    assert source.get().reveal() == "old"
    assert len(warnings(caplog)) == 1


# Rejection


def test_a_rejected_token_is_replaced() -> None:
    grant = FakeGrant(token_living(HOUR, "new"))
    source = source_of(grant, token=token_living(HOUR, "old"))

    source.reject("old")

    assert source.get().reveal() == "new"
    assert grant.calls == 1


def test_a_rejected_token_is_not_taken_from_the_store_again() -> None:
    store, grant = MemoryStore(), FakeGrant(token_living(HOUR, "new"))
    store.write("key", Entry(token_living(2 * HOUR, "old")))
    source = source_of(grant, store)
    assert source.get().reveal() == "old"

    source.reject("old")

    assert source.get().reveal() == "new"


def test_after_a_rejection_what_another_process_has_fetched_is_taken() -> None:
    store, grant = MemoryStore(), FakeGrant()
    source = source_of(grant, store, token_living(HOUR, "old"))
    store.write("key", Entry(token_living(HOUR, "theirs")))

    source.reject("old")

    assert source.get().reveal() == "theirs"
    assert grant.calls == 0


@pytest.mark.parametrize("other", ["older", "", "new-but-longer"])
def test_a_rejection_of_another_token_changes_nothing(other: str) -> None:
    grant = FakeGrant()
    source = source_of(grant, token=token_living(HOUR, "new"))

    source.reject(other)

    assert source.get().reveal() == "new"


def test_many_rejections_of_one_token_make_one_request(gate: threading.Event) -> None:
    grant = FakeGrant(token_living(HOUR, "new"), gate=gate)
    source = source_of(grant, token=token_living(HOUR, "old"))

    def reject_and_get() -> Token:
        source.reject("old")
        return source.get()

    threads = [Outcome(reject_and_get) for _ in range(16)]
    assert grant.called.wait(10)
    gate.set()

    assert {thread.settled().reveal() for thread in threads} == {"new"}
    assert grant.calls == 1


def test_a_rejected_token_is_not_kept_in_hand_when_there_is_no_other() -> None:
    source = source_of(FakeGrant(DOWN), token=token_living(HOUR, "old"))

    source.reject("old")

    assert isinstance(raised_by(source.get), ServiceUnavailable)


def test_a_rejected_token_that_its_issuer_gives_again_is_used_without_a_request_at_each_401(
    caplog: pytest.LogCaptureFixture,
) -> None:
    grant = FakeGrant(token_living(HOUR, "same"))
    source = source_of(grant, token=token_living(HOUR, "same"))

    for _ in range(10):
        source.reject("same")
        assert source.get().reveal() == "same"

    assert grant.calls == 1
    (line,) = warnings(caplog)
    assert "the issuer returned the token that was rejected" in line


class Issuer:
    """A grant whose every token is new and lives an hour of the test's clock."""

    def __init__(self, clock: Clock) -> None:
        self.calls = 0
        self._clock = clock

    def __call__(self, previous: Token, *, interactive: bool) -> Token:
        self.calls += 1
        now = self._clock.time()
        return Token(f"token {self.calls}", obtained_at=now, expires_at=now + HOUR, stale_at=now + HOUR)


def use_until_refused_for_good(source: TokenSource) -> None:
    """Make a call that a server answers with 401 whatever the token: one token and two replacements at most."""
    token = source.get()
    for _ in range(2):
        source.reject(token.reveal())
        refused, token = token, source.get()
        if token == refused:
            return


def test_where_every_token_is_refused_few_are_requested_and_the_pauses_double() -> None:
    clock = Clock()
    issuer = Issuer(clock)
    source = source_of(issuer, clock=clock)

    for _ in range(20):
        use_until_refused_for_good(source)
    assert issuer.calls == 3

    requested_at: list[int] = []
    for second in range(1000):
        clock.advance(1)
        before = issuer.calls
        use_until_refused_for_good(source)
        requested_at += [second] * (issuer.calls > before)
    pauses = [later - earlier for earlier, later in pairwise(requested_at)]
    assert pauses[:6] == pytest.approx([10, 20, 40, 80, 160, 320], abs=7)
    assert issuer.calls < 30


def test_after_a_refusal_that_passed_a_token_is_replaced_as_before() -> None:
    clock = Clock()
    issuer = Issuer(clock)
    source = source_of(issuer, clock=clock)
    for _ in range(5):
        use_until_refused_for_good(source)
        clock.advance(10)
    kept = source.get()

    clock.advance(1800)  # it is accepted meanwhile
    source.reject(kept.reveal())
    second = source.get()
    clock.advance(1800)
    source.reject(second.reveal())

    assert len({kept, second, source.get()}) == 3


def test_tokens_that_each_live_a_few_seconds_are_all_replaced() -> None:
    clock = Clock()
    issuer = Issuer(clock)
    source = source_of(issuer, clock=clock)

    for number in range(1, 21):
        assert source.get().reveal() == f"token {number}"
        clock.advance(2)
        source.reject(f"token {number}")


# Listeners


def test_a_listener_hears_of_each_token_once_before_it_is_used() -> None:
    heard: list[str] = []

    def listener(token: Token) -> None:
        heard.append(f"{token.reveal()} while {source.token.reveal() or 'none'}")

    source = source_of(FakeGrant(token_living(HOUR, "first"), token_living(HOUR, "second")), listeners=[listener])

    for _ in range(3):
        source.get()
    source.reject("first")
    source.get()

    assert heard == ["first while none", "second while first"]


def test_a_listener_hears_of_a_token_from_the_store() -> None:
    heard: list[str] = []
    store = MemoryStore()
    store.write("key", Entry(token_living(HOUR, "stored")))

    source_of(FakeGrant(), store, listeners=[lambda token: heard.append(token.reveal())]).get()

    assert heard == ["stored"]


def test_a_listener_hears_once_however_many_threads_find_the_token_in_the_store() -> None:
    heard: list[str] = []

    def slow(token: Token) -> None:
        heard.append(token.reveal())
        time.sleep(0.1)

    store = MemoryStore()
    store.write("key", Entry(token_living(HOUR, "stored")))
    source = source_of(FakeGrant(), store, listeners=[slow])

    for thread in [Outcome(source.get) for _ in range(16)]:
        thread.settled()

    assert heard == ["stored"]


def test_a_listener_that_fails_is_logged_and_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    heard: list[str] = []

    def failing(token: Token) -> None:
        raise ValueError(token)

    source = source_of(FakeGrant(token_living(HOUR)), listeners=[failing, lambda token: heard.append(token.reveal())])

    assert source.get().reveal() == BEARER
    assert heard == [BEARER]
    assert "listener failed" in caplog.text
    assert BEARER not in caplog.text


def test_a_listener_that_asks_for_the_token_gets_an_error_and_no_deadlock() -> None:
    errors: list[BaseException] = []
    grant = FakeGrant(token_living(HOUR, "new"))
    source = source_of(grant, listeners=[lambda _: errors.append(raised_by(source.get))])

    assert Outcome(source.get).settled().reveal() == "new"
    (error,) = errors
    assert isinstance(error, RuntimeError)
    assert "CARTO access token of c" in str(error)
    assert grant.calls == 1


def test_a_listener_that_asks_for_a_token_from_the_store_does_not_go_round_in_circles() -> None:
    calls: list[str] = []
    store = MemoryStore()
    store.write("key", Entry(token_living(HOUR, "stored")))

    def ask_again(token: Token) -> None:
        calls.append(token.reveal())
        source.get()

    source = source_of(FakeGrant(), store, listeners=[ask_again])

    assert Outcome(source.get).settled().reveal() == "stored"
    assert len(calls) == 1


# Logging


def test_a_refresh_is_one_info_line_without_the_token(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "carto_auth_integrations")

    source_of(FakeGrant(token_living(HOUR))).get()

    (record,) = caplog.records
    assert (record.levelno, record.name) == (logging.INFO, "carto_auth_integrations.tokens.source")
    assert "CARTO access token of c: expires in 3700 s, the request took" in record.getMessage()
    assert BEARER not in caplog.text


# adopt, forget, peek


def test_a_token_that_came_by_a_login_is_everyones() -> None:
    store, grant = MemoryStore(), FakeGrant()
    source = source_of(grant, store)

    source.adopt(token_living(HOUR, "of the login"))

    assert source.get().reveal() == "of the login"
    assert source_of(grant, store).get().reveal() == "of the login"


def test_a_login_ends_the_back_off() -> None:
    source = source_of(FakeGrant(DOWN))
    raised_by(source.get)

    source.adopt(token_living(HOUR, "of the login"))
    source.reject("of the login")

    assert "not asked again" not in str(raised_by(source.get))


def test_a_forgotten_token_is_forgotten_in_the_store_too() -> None:
    store, grant = MemoryStore(), FakeGrant(token_living(HOUR, "one"), token_living(HOUR, "two"))
    source = source_of(grant, store)
    source.get()

    source.forget()

    assert store.read("key").token is None
    assert source.peek() is NO_TOKEN
    assert source.get().reveal() == "two"


def test_peeking_makes_no_request() -> None:
    store, grant = MemoryStore(), FakeGrant()
    source = source_of(grant, store)
    assert source.peek() is NO_TOKEN

    store.write("key", Entry(token_living(-1, "ended")))

    assert source.peek().reveal() == "ended"
    assert grant.calls == 0


# The store's lock


class HeldStore(MemoryStore):
    """A store whose lock another process holds."""

    def __init__(self) -> None:
        super().__init__()
        self.looks = 0

    def try_lock(self, key: str) -> None:
        self.looks += 1


def test_while_another_process_asks_its_token_is_waited_for() -> None:
    store, grant = HeldStore(), FakeGrant()

    waiting = Outcome(source_of(grant, store).get)
    until(lambda: store.looks > 2)
    store.write("key", Entry(token_living(HOUR, "theirs")))

    assert waiting.settled().reveal() == "theirs"
    assert grant.calls == 0


def test_while_another_process_asks_its_failure_is_waited_for() -> None:
    store, grant = HeldStore(), FakeGrant()

    waiting = Outcome(source_of(grant, store).get)
    until(lambda: store.looks > 2)
    store.write("key", Entry(None, Failure.of(DOWN, time.time())))

    assert isinstance(waiting.settled(), ServiceUnavailable)
    assert grant.calls == 0


def test_a_lock_that_cannot_be_had_in_time_costs_a_request_and_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("carto_auth_integrations.tokens.source.LOCK_TIMEOUT", 0.1)
    grant = FakeGrant(token_living(HOUR, "new"))

    assert source_of(grant, HeldStore()).get().reveal() == "new"
    assert grant.calls == 1


@pytest.mark.parametrize("outcome", [token_living(HOUR, "new"), DOWN, KeyboardInterrupt(), ZeroDivisionError()])
def test_the_lock_is_released_whatever_happens(outcome: Token | BaseException) -> None:
    released: list[bool] = []

    class Lock:
        def release(self) -> None:
            released.append(True)

    class LockingStore(MemoryStore):
        def try_lock(self, key: str) -> Lock:  # type: ignore[override]
            return Lock()

    source = source_of(FakeGrant(outcome), LockingStore())
    if isinstance(outcome, BaseException):
        raised_by(source.get)
    else:
        source.get()

    assert released == [True]


# Threads


def test_where_no_thread_can_be_started_the_caller_fetches(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    cold = source_of(FakeGrant(token_living(HOUR, "new")))
    warm = source_of(FakeGrant(token_living(HOUR, "new")), token=stale())

    async def get_without_threads() -> list[str]:
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            return [(await cold.aget()).reveal(), (await warm.aget()).reveal(), (await warm.aget()).reveal()]

    assert asyncio.run(get_without_threads()) == ["new", "old", "new"]
