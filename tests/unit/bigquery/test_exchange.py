"""The exchange: a CARTO access token for a Data Warehouse token, its project and its times."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from carto_auth_integrations import (
    AccountError,
    CartoAuth,
    ClientRejected,
    CredentialsError,
    ServiceUnavailable,
    UnexpectedResponse,
)
from carto_auth_integrations.bigquery.exchange import ASSUMED_LIFETIME, SEEN_TOO_LONG
from carto_auth_integrations.sandbox import Sandbox, SandboxOptions
from tests.support.accounts import SECRET, auth_for, fields_for
from tests.support.clocks import Clock, hurry, system_clock
from tests.support.leaks import assert_shows_no_secret, raised_by
from tests.support.servers import answers, reply, serving
from tests.support.threads import until

PATH = "/v3/connections/carto-dw/token"
DW_TOKEN = "hunter2-dw-token"
GOOD = {"projectId": "carto-dw-ac-x", "token": DW_TOKEN}


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return system_clock(monkeypatch)


@pytest.fixture
def auth(carto_sandbox: Sandbox, tmp_path: Path) -> CartoAuth:
    return auth_for(carto_sandbox, tmp_path)


def refusal_of(auth: CartoAuth, kind: type[CredentialsError], *shown: str) -> CredentialsError:
    """Return the error of the exchange, after checking what holds for each error."""
    access_token = auth.get_access_token()
    error = raised_by(auth.get_carto_dw_credentials)
    assert type(error) is kind, repr(error)
    for text in (PATH, *shown):
        assert text in str(error)
    assert error.__context__ is None
    assert error.__cause__ is None
    assert_shows_no_secret(error, access_token, DW_TOKEN, auth.access_tokens.source.token.reveal())
    return error


def test_a_dw_token_comes_with_its_project(carto_sandbox: Sandbox, auth: CartoAuth) -> None:
    project, token = auth.get_carto_dw_credentials()

    assert project == carto_sandbox.options.project_id
    assert token.startswith("sandbox-dw-")


def test_it_is_requested_once_per_lifetime(carto_sandbox: Sandbox, auth: CartoAuth, tmp_path: Path) -> None:
    credentials = {auth.get_carto_dw_credentials() for _ in range(5)}
    credentials.add(auth_for(carto_sandbox, tmp_path).get_carto_dw_credentials())

    assert len(credentials) == 1
    assert carto_sandbox.stats().count("dw_token") == 1


def test_the_access_token_goes_into_the_header_alone() -> None:
    def both(handler: Any) -> None:
        reply(handler, 200, json.dumps(GOOD | {"access_token": "the-access-token", "expires_in": 600}))

    with serving(both) as server:
        CartoAuth.from_mapping(fields_for(server.url, token_store="memory:")).get_carto_dw_credentials()

    request = server.requests[1]
    assert request.headers["authorization"] == "Bearer the-access-token"
    assert request.path == f"{PATH}?client=carto-auth-integrations"
    assert request.body == b""


def test_an_api_base_url_with_a_path_keeps_it() -> None:
    with serving(answers(200, json.dumps(GOOD | {"access_token": "t", "expires_in": 600}))) as server:
        account = fields_for(server.url, api_base_url=f"{server.url}/api/", token_store="memory:")
        CartoAuth.from_mapping(account).get_carto_dw_credentials()

    assert server.requests[1].path.startswith(f"/api{PATH}")


# 401: reject, request another token, repeat the exchange


def test_after_a_401_another_access_token_is_fetched_and_the_exchange_made_again(
    carto_sandbox: Sandbox, auth: CartoAuth
) -> None:
    old = auth.get_access_token()
    carto_sandbox.revoke("carto")

    _, token = auth.get_carto_dw_credentials()

    assert token.startswith("sandbox-dw-")
    assert auth.get_access_token() != old
    stats = carto_sandbox.stats()
    assert (stats.count("token"), stats.count("dw_token", 401), stats.count("dw_token", 200)) == (2, 1, 1)


def test_a_401_that_stays_is_a_refusal_after_two_replacements(carto_sandbox: Sandbox, auth: CartoAuth) -> None:
    carto_sandbox.fault("dw_token", status=401)

    error = refusal_of(auth, ClientRejected, "refused (401)", "api_base_url", "permissions")

    assert error.status == 401
    stats = carto_sandbox.stats()
    assert (stats.count("token"), stats.count("dw_token")) == (3, 3)


def test_a_refusal_is_remembered(carto_sandbox: Sandbox, auth: CartoAuth) -> None:
    carto_sandbox.fault("dw_token", status=403)

    for _ in range(5):
        assert isinstance(raised_by(auth.get_carto_dw_credentials), ClientRejected)

    assert carto_sandbox.stats().count("dw_token") == 1


# What goes wrong


def test_a_user_without_a_warehouse_is_told_so(tmp_path: Path) -> None:
    with Sandbox(SandboxOptions(user_has_dw=False)) as sandbox:
        error = refusal_of(auth_for(sandbox, tmp_path), ClientRejected, "Data Warehouse", "404", "api_base_url")

    assert error.status == 404


def test_a_403_is_a_refusal(carto_sandbox: Sandbox, auth: CartoAuth) -> None:
    carto_sandbox.fault("dw_token", status=403)

    assert refusal_of(auth, ClientRejected, "refused (403)").status == 403
    assert carto_sandbox.stats().count("token") == 1


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_broken_api_is_unavailable(carto_sandbox: Sandbox, auth: CartoAuth, status: int) -> None:
    carto_sandbox.fault("dw_token", status=status)

    assert refusal_of(auth, ServiceUnavailable, f"answered {status}").status == status


ODD: dict[str, dict[str, Any]] = {
    "a page": {"body": "<html>", "content_type": "text/html"},
    "nothing": {"body": ""},
    "a list": {"body": json.dumps([DW_TOKEN])},
    "other JSON": {"body": {"access_token": DW_TOKEN}},
    "JSON cut off": {"body": json.dumps(GOOD)[:-5]},
    "202": {"status": 202, "body": GOOD},
    "400": {"status": 400, "body": {"error": "bad"}},
    **{f"token {value!r}": {"body": {**GOOD, "token": value}} for value in (None, "", 5, [DW_TOKEN], "a b", "a\nb")},
    **{f"projectId {value!r}": {"body": {**GOOD, "projectId": value}} for value in (None, "", " ", 5, ["p"], {})},
}


@pytest.mark.parametrize("answer", ODD)
def test_an_answer_of_another_shape_is_said_to_be_one(carto_sandbox: Sandbox, auth: CartoAuth, answer: str) -> None:
    carto_sandbox.fault("dw_token", **ODD[answer])

    refusal_of(auth, UnexpectedResponse, "not as documented", "api_base_url")


def test_a_redirect_is_not_followed_with_the_access_token(carto_sandbox: Sandbox, tmp_path: Path) -> None:
    with serving(answers(200, json.dumps(GOOD))) as elsewhere:
        with serving(answers(302, Location=f"{elsewhere.url}{PATH}")) as server:
            refusal_of(auth_for(carto_sandbox, tmp_path, api_base_url=server.url), UnexpectedResponse, "302")
        assert not elsewhere.requests


def test_without_an_api_base_url_the_field_is_named(tmp_path: Path) -> None:
    auth = CartoAuth("m2m", client_id="c", client_secret=SECRET, cache_filepath=tmp_path / "t.json")

    error = raised_by(auth.get_carto_dw_credentials)

    assert isinstance(error, AccountError)
    assert "api_base_url" in str(error)
    assert_shows_no_secret(error)


def test_what_keeps_the_access_token_away_is_said_as_it_is(carto_sandbox: Sandbox, tmp_path: Path) -> None:
    error = raised_by(auth_for(carto_sandbox, tmp_path, client_secret=SECRET).get_carto_dw_credentials)

    assert type(error) is ClientRejected
    assert "CARTO access token" in str(error)
    assert error.__context__ is None
    assert_shows_no_secret(error)
    assert carto_sandbox.stats().count("dw_token") == 0


# How long it lives


def lifetime_of(sandbox: Sandbox, auth: CartoAuth, **fields: object) -> float:
    sandbox.fault("dw_token", body={**GOOD, **fields})
    token = auth.carto_dw_token()
    return token.expires_at - token.obtained_at


IN_20_MINUTES: dict[str, Callable[[], object]] = {
    "expires_in": lambda: 1200,
    "expires_in as a fraction": lambda: 1200.5,
    "expires_in as text": lambda: "1200",
    "expires_at": lambda: time.time() + 1200,
    "expires_at as text": lambda: str(int(time.time() + 1200)),
    "expires_at in ISO 8601": lambda: (datetime.now(timezone.utc) + timedelta(minutes=20)).isoformat(
        timespec="seconds"
    ),
    "expires_at with Z": lambda: (datetime.now(timezone.utc) + timedelta(minutes=20)).strftime("%Y-%m-%dT%H:%M:%SZ"),
    "expires_at without zone": lambda: (datetime.now(timezone.utc) + timedelta(minutes=20)).strftime(
        "%Y-%m-%dT%H:%M:%S"
    ),
    "expires_at elsewhere": lambda: datetime.now(timezone(timedelta(hours=5))).isoformat().replace("+05:00", "+04:40"),
}


@pytest.mark.parametrize("form", IN_20_MINUTES)
def test_an_expiry_field_is_used_in_every_form(carto_sandbox: Sandbox, auth: CartoAuth, form: str) -> None:
    field = {form.partition(" ")[0]: IN_20_MINUTES[form]()}

    assert lifetime_of(carto_sandbox, auth, **field) == pytest.approx(1200, abs=20)


@pytest.mark.parametrize("name", ["expires_in", "expires_at"])
def test_the_expiry_fields_of_the_sandbox_are_used(name: str, tmp_path: Path) -> None:
    with Sandbox(SandboxOptions(dw_expiry_field=name, dw_token_lifetime=1200)) as sandbox:
        token = auth_for(sandbox, tmp_path).carto_dw_token()

    assert token.expires_at - token.obtained_at == pytest.approx(1200, abs=20)


@pytest.mark.parametrize("name", ["expiresIn", "expiresAt", "expireTime", "expiry"])
def test_a_field_of_another_name_is_not_interpreted(name: str, tmp_path: Path) -> None:
    with Sandbox(SandboxOptions(dw_expiry_field=name, dw_token_lifetime=1200)) as sandbox:
        token = auth_for(sandbox, tmp_path).carto_dw_token()

    assert token.expires_at - token.obtained_at == ASSUMED_LIFETIME


@pytest.mark.parametrize("name", ["expires_in", "expires_at"])
@pytest.mark.parametrize("value", [None, "", "soon", 0, -5, True, [], {}, "NaN", "0000-00-00T00:00:00Z"])
def test_a_field_that_says_nothing_is_ignored(
    carto_sandbox: Sandbox, auth: CartoAuth, name: str, value: object
) -> None:
    assert lifetime_of(carto_sandbox, auth, **{name: value}) == ASSUMED_LIFETIME


def test_without_a_field_half_an_hour_is_assumed(carto_sandbox: Sandbox, auth: CartoAuth) -> None:
    assert lifetime_of(carto_sandbox, auth) == ASSUMED_LIFETIME


def test_many_threads_that_report_one_401_make_one_exchange(carto_sandbox: Sandbox, auth: CartoAuth) -> None:
    token = auth.carto_dw_token()

    for _ in range(8):
        auth.reject_carto_dw_token(token)
    auth.carto_dw_token()

    assert carto_sandbox.stats().count("dw_token") == 2


def test_a_token_that_carto_returns_again_keeps_its_expiry(tmp_path: Path, clock: Clock) -> None:
    with Sandbox(SandboxOptions(reuse_dw_token=True)) as sandbox:
        auth = auth_for(sandbox, tmp_path)
        token = auth.carto_dw_token()

        clock.advance(1200)
        auth.carto_dw_token()
        until(lambda: auth.carto_dw_token() is not token)
        again = auth.carto_dw_token()

        assert sandbox.stats().count("dw_token") == 2
    assert again == token
    assert again.expires_at == token.expires_at
    assert again.obtained_at == token.obtained_at


def test_a_token_that_carto_returns_past_its_assumed_expiry_is_used_for_another_minute(
    tmp_path: Path, clock: Clock
) -> None:
    with Sandbox(SandboxOptions(reuse_dw_token=True)) as sandbox:
        auth = auth_for(sandbox, tmp_path)
        token = auth.carto_dw_token()

        clock.advance(ASSUMED_LIFETIME + 10)
        again = auth.carto_dw_token()
        assert auth.carto_dw_token() is again

        assert sandbox.stats().count("dw_token") == 2
    assert again == token
    assert again.expires_at == pytest.approx(clock.time() + SEEN_TOO_LONG, abs=20)


def test_a_part_used_token_with_an_expiry_field_gets_the_expiry_of_each_exchange(tmp_path: Path, clock: Clock) -> None:
    options = SandboxOptions(reuse_dw_token=True, dw_expiry_field="expires_in")
    with Sandbox(options, clock=clock.time) as sandbox:
        auth = auth_for(sandbox, tmp_path)
        token = auth.carto_dw_token()
        clock.advance(3000)
        auth.carto_dw_token()
        until(lambda: auth.carto_dw_token() is not token)
        again = auth.carto_dw_token()

    assert again == token
    assert again.expires_at == pytest.approx(token.expires_at, abs=5)


def test_an_api_access_token_opens_what_it_may(carto_sandbox: Sandbox, tmp_path: Path) -> None:
    auth = CartoAuth(
        "token",
        carto_sandbox.url,
        access_token=carto_sandbox.options.api_access_token,
        cache_filepath=tmp_path / "t.json",
    )

    assert auth.get_carto_dw_credentials()[0] == carto_sandbox.options.project_id
    assert carto_sandbox.stats().count("token") == 0
