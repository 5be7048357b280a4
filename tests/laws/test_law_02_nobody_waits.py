"""Law 2: nobody waits for a refresh while the token in hand is valid."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

import pytest

from carto_auth_integrations import CartoAuth
from carto_auth_integrations.sandbox import Sandbox

HOUR = 3600.0
IN_THE_STALE_WINDOW = 3200.0
"""Seconds after the start at which a token of an hour is due for renewal and good for minutes."""


@pytest.fixture
def auth(carto_sandbox: Sandbox, tmp_path: Path) -> CartoAuth:
    carto_sandbox.set_lifetimes(carto=HOUR)
    return CartoAuth.from_m2m(
        carto_sandbox.write_credentials(tmp_path / "credentials.json"), cache_filepath=tmp_path / "tokens.json"
    )


def go_to(seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + seconds)


def until(condition: object) -> None:
    for _ in range(2000):
        if condition():  # type: ignore[operator]
            return
        time.sleep(0.005)
    raise AssertionError("it did not come to that")


def test_a_stale_token_is_given_while_one_request_renews_it(
    auth: CartoAuth, carto_sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = auth.get_access_token()
    carto_sandbox.fault("token", delay=1.0)
    go_to(IN_THE_STALE_WINDOW, monkeypatch)

    given = [auth.get_access_token() for _ in range(100)]

    assert set(given) == {first}, "whoever had waited would have got the new one"
    until(lambda: auth.get_access_token() != first)
    assert carto_sandbox.stats().count("token") == 2


def test_a_coroutine_does_not_wait_either(
    auth: CartoAuth, carto_sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = auth.get_access_token()
    carto_sandbox.fault("token", delay=1.0)
    go_to(IN_THE_STALE_WINDOW, monkeypatch)

    assert asyncio.run(auth.aget_access_token()) == first
    until(lambda: auth.get_access_token() != first)


def test_a_renewal_that_fails_is_logged_and_never_raised(
    auth: CartoAuth, carto_sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    first = auth.get_access_token()
    carto_sandbox.fault("token", status=401)
    go_to(IN_THE_STALE_WINDOW, monkeypatch)

    assert auth.get_access_token() == first
    until(lambda: "renewal failed" in caplog.text)
    assert auth.get_access_token() == first
    assert carto_sandbox.stats().count("token", 401) == 1


def test_when_the_endpoint_is_slower_than_the_usual_lead_the_renewal_begins_earlier(
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
    assert lead > answer, "a renewal that begins so early is there before the end"
