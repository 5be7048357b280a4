"""Law 2: nobody waits for a refresh while the token in hand is valid."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from carto_auth_integrations import CartoAuth
from carto_auth_integrations.sandbox import Sandbox
from tests.support.clocks import Clock, system_clock
from tests.support.threads import until

HOUR = 3600.0
IN_THE_STALE_WINDOW = 3200.0
"""Seconds after which a token of an hour is due for its refresh and still valid for minutes."""


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return system_clock(monkeypatch)


@pytest.fixture
def auth(clock: Clock, carto_sandbox: Sandbox, tmp_path: Path) -> CartoAuth:
    carto_sandbox.set_lifetimes(carto=HOUR)
    return CartoAuth.from_m2m(
        carto_sandbox.write_credentials(tmp_path / "credentials.json"), cache_filepath=tmp_path / "tokens.json"
    )


def test_a_stale_token_is_returned_while_one_request_refreshes_it(
    auth: CartoAuth, carto_sandbox: Sandbox, clock: Clock
) -> None:
    first = auth.get_access_token()
    carto_sandbox.fault("token", delay=1.0)
    clock.advance(IN_THE_STALE_WINDOW)

    given = [auth.get_access_token() for _ in range(100)]

    assert set(given) == {first}, "a caller that waited would have got the new one"
    until(lambda: auth.get_access_token() != first)
    assert carto_sandbox.stats().count("token") == 2


def test_a_coroutine_does_not_wait_either(auth: CartoAuth, carto_sandbox: Sandbox, clock: Clock) -> None:
    first = auth.get_access_token()
    carto_sandbox.fault("token", delay=1.0)
    clock.advance(IN_THE_STALE_WINDOW)

    assert asyncio.run(auth.aget_access_token()) == first
    until(lambda: auth.get_access_token() != first)


def test_a_refresh_that_fails_is_logged_and_never_raised(
    auth: CartoAuth, carto_sandbox: Sandbox, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    first = auth.get_access_token()
    carto_sandbox.fault("token", status=401)
    clock.advance(IN_THE_STALE_WINDOW)

    assert auth.get_access_token() == first
    until(lambda: "the refresh failed, the token in hand is used until it expires" in caplog.text)
    assert auth.get_access_token() == first
    assert carto_sandbox.stats().count("token", 401) == 1


def test_when_the_endpoint_is_slower_than_the_usual_lead_the_refresh_begins_earlier(
    carto_sandbox: Sandbox, tmp_path: Path
) -> None:
    answer = 0.5
    carto_sandbox.set_lifetimes(carto=4.0)
    carto_sandbox.fault("token", delay=answer)
    store = tmp_path / "tokens.json"
    auth = CartoAuth.from_m2m(carto_sandbox.write_credentials(tmp_path / "credentials.json"), cache_filepath=store)
    auth.get_access_token()

    (written,) = json.loads(store.read_text())["tokens"].values()
    lead = written["token"]["expires_at"] - written["token"]["stale_at"]
    assert lead > answer, "a refresh that begins so early ends before the token does"
