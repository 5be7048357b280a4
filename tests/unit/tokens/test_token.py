"""Tokens: their states, their lead, and what of a stored record is believed."""

from __future__ import annotations

import json
import math
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carto_auth_integrations.account.secret import Secret
from carto_auth_integrations.errors import (
    ClientRejected,
    CredentialsError,
    ServiceUnavailable,
    UnexpectedResponse,
)
from carto_auth_integrations.tokens.token import (
    CLOCK_TOLERANCE,
    FAILURE_TOLERANCE,
    LONGEST_BACKOFF,
    MIN_LEAD,
    NO_TOKEN,
    REJECTED_BACKOFF,
    UNAVAILABLE_BACKOFF,
    Entry,
    Failure,
    State,
    Token,
    latest_expiry,
    lead_of,
)
from tests.support.accounts import BEARER
from tests.support.tokens import token_living

HOUR = 3600.0
NOW = 1_764_000_000.0


# When a token is renewed


@pytest.mark.parametrize("draw", [0.0, 0.5, 0.999])
def test_a_token_of_a_day_is_renewed_12_to_15_minutes_before_its_end(draw: float) -> None:
    assert 720 <= lead_of(24 * HOUR, draw=draw) <= 900


@pytest.mark.parametrize("draw", [0.0, 0.5, 0.999])
def test_a_token_of_an_hour_is_renewed_before_those_ask_who_want_300_seconds(draw: float) -> None:
    assert MIN_LEAD <= lead_of(HOUR, draw=draw) <= 900


def test_a_token_of_ten_minutes_is_renewed_half_way() -> None:
    assert lead_of(600, draw=0.999) == 300


def test_a_token_of_five_seconds_gives_up_a_twentieth() -> None:
    assert lead_of(5, took=0.01) == pytest.approx(0.25)


def test_a_slow_endpoint_makes_a_short_token_be_renewed_earlier() -> None:
    assert lead_of(60, took=5) == pytest.approx(7.5)


def test_an_endpoint_slower_than_its_tokens_does_not_move_the_renewal_before_half_way() -> None:
    assert lead_of(5, took=100) == pytest.approx(2.5)


def test_a_fleet_does_not_renew_in_one_second() -> None:
    leads = {round(lead_of(24 * HOUR)) for _ in range(100)}

    assert max(leads) - min(leads) > 60


@settings(deadline=None, database=None)
@given(
    st.floats(min_value=1e-3, max_value=1e9), st.floats(min_value=0, max_value=1e6), st.floats(0, 1, exclude_max=True)
)
def test_the_lead_is_positive_and_at_most_half_the_lifetime(lifetime: float, took: float, draw: float) -> None:
    assert 0 < lead_of(lifetime, took, draw) <= lifetime / 2


def test_a_lifetime_counts_from_when_the_request_was_sent() -> None:
    started = time.time() - 7

    token = Token.issued(Secret(BEARER), started_at=started, lifetime=HOUR)

    assert token.obtained_at == started
    assert token.expires_at == started + HOUR


# What a caller means by an expiration


@pytest.mark.parametrize(
    ("zone", "offset"), [("UTC", 0), ("Asia/Tokyo", 9), ("Europe/Madrid", 1), ("Asia/Kolkata", 5.5), ("Etc/GMT+5", 0)]
)
def test_an_expiration_may_be_too_early_by_the_offset_of_a_zone_east_of_utc(
    zone: str, offset: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        assert latest_expiry(NOW) == NOW + offset * HOUR
        assert latest_expiry(1e300) == 1e300
    finally:
        monkeypatch.undo()
        time.tzset()


# States


def state(token: Token, now: float) -> State:
    """Return the state after checking that it agrees with what is said of the token besides."""
    found = token.state(now)
    assert token.is_usable(now) == (found in (State.FRESH, State.STALE))
    assert token.is_valid(now) == (found is not State.EXPIRED)
    return found


def test_a_token_goes_from_fresh_to_stale_to_its_margin_to_expired() -> None:
    token = Token(BEARER, obtained_at=NOW, expires_at=NOW + HOUR, stale_at=NOW + HOUR - 600)

    assert state(token, NOW) is State.FRESH
    assert state(token, NOW + HOUR - 601) is State.FRESH
    assert state(token, NOW + HOUR - 600) is State.STALE
    assert state(token, NOW + HOUR - 6) is State.STALE
    assert state(token, NOW + HOUR - 4) is State.ENDING  # 1 % of an hour is more than the 5 s at most
    assert state(token, NOW + HOUR) is State.EXPIRED


def test_a_token_of_a_day_is_not_handed_out_in_its_last_seconds() -> None:
    token = Token(BEARER, obtained_at=NOW, expires_at=NOW + 24 * HOUR, stale_at=NOW)

    assert state(token, NOW + 24 * HOUR - 6) is State.STALE
    assert state(token, NOW + 24 * HOUR - 4) is State.ENDING


def test_a_token_without_an_end_is_always_fresh() -> None:
    assert state(Token(BEARER, obtained_at=0.0), 1e12) is State.FRESH


def test_no_token_never_serves() -> None:
    assert state(NO_TOKEN, 0.0) is State.EXPIRED
    assert not NO_TOKEN


def test_a_token_that_was_expired_keeps_its_refresh_token_and_details() -> None:
    expired = token_living(HOUR, refresh_token=Secret("refresh"), details={"a": "b"}).expired()

    assert state(expired, time.time()) is State.EXPIRED
    assert expired.reveal() == BEARER
    assert expired.refresh_token == Secret("refresh")
    assert expired.details == {"a": "b"}


# Records


def same(one: Token, other: Token | None) -> bool:
    names = ("expires_at", "obtained_at", "stale_at", "refresh_token", "details")
    return one == other and all(getattr(one, name) == getattr(other, name) for name in names)


@pytest.mark.parametrize(
    "token",
    [
        Token(BEARER, obtained_at=NOW),
        Token(BEARER, obtained_at=NOW, expires_at=NOW + 5, stale_at=NOW + 4),
        Token(BEARER, obtained_at=NOW, expires_at=NOW + 5, refresh_token=Secret("r"), details={"project_id": "p"}),
    ],
)
def test_a_token_comes_back_from_its_record_as_it_was(token: Token) -> None:
    record = json.loads(json.dumps(token.record(), allow_nan=False))

    assert same(token, Token.from_record(record, NOW))


@pytest.mark.parametrize(
    "error",
    [
        ClientRejected("refused", status=401),
        ServiceUnavailable("down", status=503, retry_after=7.0),
        UnexpectedResponse("odd"),
        CredentialsError("else"),
    ],
)
def test_a_failure_comes_back_from_its_record_as_it_was(error: CredentialsError) -> None:
    failure = Failure.of(error, NOW)

    again = Failure.from_record(json.loads(json.dumps(failure.record(), allow_nan=False)))

    assert again is not None
    assert type(again.error) is type(error)
    assert str(again.error) == str(error)
    assert again.error.status == error.status
    assert (again.failed_at, again.until) == (failure.failed_at, failure.until)


def test_an_entry_comes_back_with_both_or_either_or_neither() -> None:
    token, failure = Token(BEARER, obtained_at=NOW, expires_at=NOW + 9), Failure.of(ClientRejected("no"), NOW)
    for entry in (Entry(), Entry(token), Entry(None, failure), Entry(token, failure)):
        again = Entry.from_record(json.loads(json.dumps(entry.record())), NOW)
        assert (again.token is None) == (entry.token is None)
        assert (again.failure is None) == (entry.failure is None)


RECORD: dict[str, Any] = {
    "access_token": BEARER,
    "obtained_at": NOW,
    "expires_at": NOW + HOUR,
    "stale_at": NOW + HOUR / 2,
    "refresh_token": "refresh",
    "details": {"project_id": "p"},
}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("access_token", None),
        ("access_token", ""),
        ("access_token", 5),
        ("access_token", ["a"]),
        ("obtained_at", None),
        ("obtained_at", "yesterday"),
        ("obtained_at", True),
        ("obtained_at", math.nan),
        ("obtained_at", -1),
        ("expires_at", "tomorrow"),
        ("expires_at", None),
        ("expires_at", math.nan),
        ("stale_at", []),
        ("details", [1]),
        ("details", {"project_id": 5}),
    ],
)
def test_a_record_with_a_field_of_another_type_is_no_token(name: str, value: object) -> None:
    assert Token.from_record({**RECORD, name: value}, NOW) is None


@pytest.mark.parametrize("value", [5, "", None, ["a"]])
def test_a_refresh_token_of_another_type_is_left_out(value: object) -> None:
    token = Token.from_record({**RECORD, "refresh_token": value}, NOW)

    assert token is not None
    assert token.refresh_token is None


def test_a_token_of_a_clock_that_runs_far_ahead_is_not_believed() -> None:
    assert Token.from_record({**RECORD, "obtained_at": NOW + CLOCK_TOLERANCE + 1}, NOW) is None
    assert Token.from_record({**RECORD, "obtained_at": NOW + CLOCK_TOLERANCE - 1}, NOW) is not None


def test_a_failure_of_the_future_does_not_hold() -> None:
    failure = Failure.of(ServiceUnavailable("down"), NOW)

    assert failure.holds(NOW)
    assert failure.holds(NOW - FAILURE_TOLERANCE)
    assert not failure.holds(NOW - FAILURE_TOLERANCE - 1)
    assert not failure.holds(NOW + UNAVAILABLE_BACKOFF)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
near_token = st.fixed_dictionaries({}, optional={name: anything | st.just(value) for name, value in RECORD.items()})
near_failure = st.fixed_dictionaries(
    {},
    optional={
        "kind": anything | st.sampled_from(["ClientRejected", "ServiceUnavailable"]),
        "message": anything | st.just("text"),
        "status": anything,
        "failed_at": anything | st.just(NOW),
        "until": anything | st.just(NOW + 5),
    },
)
near_entry = st.fixed_dictionaries({}, optional={"token": anything | near_token, "failure": anything | near_failure})


def assert_harmless(record: object) -> None:
    entry = Entry.from_record(record, NOW)
    if entry.token:
        assert isinstance(entry.token.reveal(), str)
        state(entry.token, NOW)
        json.dumps(entry.token.record())
    if entry.failure:
        assert entry.failure.until - NOW <= LONGEST_BACKOFF + FAILURE_TOLERANCE or not entry.failure.holds(NOW)
        assert isinstance(entry.failure.again(NOW), CredentialsError)
        json.dumps(entry.failure.record())


@settings(max_examples=200, deadline=None, database=None)
@given(anything | near_entry)
def test_no_record_whatever_it_holds_makes_a_source_raise_or_hand_out_what_is_not_text(record: object) -> None:
    assert_harmless(record)


@pytest.mark.parametrize(
    "record",
    [
        pytest.param({"token": {**RECORD, "expires_at": 10**400}}, id="an end beyond all floats"),
        pytest.param(
            {"token": {**RECORD, "obtained_at": 0, "expires_at": 10**400, "stale_at": 10**400}}, id="all of it"
        ),
        pytest.param({"token": {**RECORD, "expires_at": math.inf, "stale_at": math.inf}}, id="an infinite end"),
        pytest.param({"token": {**RECORD, "access_token": "\ud800"}}, id="half a surrogate pair"),
        pytest.param({"failure": {"kind": [], "message": "x", "failed_at": NOW, "until": NOW}}, id="a list for a kind"),
        pytest.param(
            {"failure": {"kind": "ClientRejected", "message": "x", "failed_at": NOW + 0.5, "until": 10**400}},
            id="a failure beyond all floats",
        ),
        pytest.param(
            {"failure": {"kind": "ClientRejected", "message": "x", "failed_at": math.inf, "until": math.inf}},
            id="a failure at no time",
        ),
        pytest.param(
            {"failure": {"kind": "ClientRejected", "message": "x", "failed_at": 10**400, "until": 10**400}},
            id="a failure after all times",
        ),
    ],
)
def test_a_record_made_to_hurt_does_no_harm(record: object) -> None:
    assert_harmless(record)


# How long a failure is remembered


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (ServiceUnavailable("down"), UNAVAILABLE_BACKOFF),
        (ServiceUnavailable("down", retry_after=90.0), 90.0),
        (ServiceUnavailable("down", retry_after=0.0), UNAVAILABLE_BACKOFF),
        (ServiceUnavailable("down", retry_after=1e9), LONGEST_BACKOFF),
        (ClientRejected("no", status=401), REJECTED_BACKOFF),
        (UnexpectedResponse("odd", status=200), UNAVAILABLE_BACKOFF),
    ],
)
def test_a_failure_is_remembered_as_the_server_says_else_by_its_kind(error: CredentialsError, seconds: float) -> None:
    assert Failure.of(error, NOW).until == NOW + seconds


def test_a_remembered_failure_is_told_with_the_time_that_is_left() -> None:
    again = Failure.of(ServiceUnavailable("down", status=503), NOW).again(NOW + 2)

    assert isinstance(again, ServiceUnavailable)
    assert str(again) == "down (not asked again for 3 s)"
    assert again.status == 503
    assert again.retry_after == 3.0


def test_a_failure_told_many_times_does_not_grow() -> None:
    failure = Failure.of(ServiceUnavailable("down"), NOW)

    assert str(failure.again(NOW)) == str(failure.again(NOW))
    stored = Failure.from_record(failure.record())
    assert stored is not None
    assert str(stored.again(NOW)).count("not asked again") == 1
