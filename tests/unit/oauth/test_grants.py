"""Grants: how a CARTO token is asked for, and what is said when there is none."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any
from urllib.parse import parse_qs

import pytest

from carto_auth_integrations import (
    AccountError,
    CartoAccount,
    ClientRejected,
    CredentialsError,
    InteractionRequired,
    ServiceUnavailable,
    UnexpectedResponse,
    http,
)
from carto_auth_integrations.account.secret import Secret
from carto_auth_integrations.oauth.grants import (
    ClientCredentials,
    StaticToken,
    UserLogin,
    api_base_url_of,
    find_api_base_url,
)
from carto_auth_integrations.sandbox import Sandbox, SandboxOptions
from carto_auth_integrations.tokens.token import NO_TOKEN, State, Token
from tests.support.accounts import BEARER, SECRET, account_for
from tests.support.clocks import hurry
from tests.support.leaks import assert_shows_no_secret, raised_by
from tests.support.servers import Server, answers, reply, serving
from tests.support.threads import Outcome
from tests.support.tokens import token_living


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)


def of_sandbox(sandbox: Sandbox, **fields: Any) -> CartoAccount:
    return CartoAccount.from_mapping({**sandbox.account, **fields})


def ask(account: CartoAccount) -> Token:
    return ClientCredentials(account)(NO_TOKEN, interactive=False)


def refusal_of(function: Callable[[], object], kind: type[CredentialsError], *shown: str) -> CredentialsError:
    """Return the error, after checking its kind, its text, that it has no chain and shows no secret."""
    started = time.monotonic()
    error = raised_by(function)
    assert time.monotonic() - started < 20
    assert type(error) is kind, repr(error)
    for text in shown:
        assert text in str(error)
    assert error.__context__ is None
    assert error.__cause__ is None
    assert_shows_no_secret(error)
    return error


# Client credentials


def test_client_credentials_give_a_token_with_its_times(carto_sandbox: Sandbox) -> None:
    carto_sandbox.set_lifetimes(carto=86400)
    before = time.time()

    token = ask(of_sandbox(carto_sandbox))

    assert before <= token.obtained_at <= time.time()
    assert token.expires_at == token.obtained_at + 86400
    assert token.expires_at - 900 <= token.stale_at <= token.expires_at - 301
    assert carto_sandbox.stats().count("token", 200) == 1


def test_a_client_says_which_audience_it_asks_for() -> None:
    with serving(answers(200, '{"access_token": "t", "expires_in": 86400}')) as server:
        ask(account_for(server.url, audience="another"))

    assert parse_qs(server.requests[0].body.decode()) == {
        "grant_type": ["client_credentials"],
        "client_id": ["the-client"],
        "client_secret": [SECRET],
        "audience": ["another"],
    }


def test_a_wrong_secret_is_a_refusal_that_names_what_to_check(carto_sandbox: Sandbox) -> None:
    account = of_sandbox(carto_sandbox, client_secret=SECRET)

    error = refusal_of(
        lambda: ask(account), ClientRejected, f"{carto_sandbox.url}/oauth/token", "client_id, client_secret", "401"
    )

    assert error.status == 401
    assert carto_sandbox.stats().count("token") == 1


def test_a_wrong_audience_is_a_refusal(carto_sandbox: Sandbox) -> None:
    account = of_sandbox(carto_sandbox, audience="nonsense")

    assert refusal_of(lambda: ask(account), ClientRejected, "audience", "access_denied").status == 403


@pytest.mark.parametrize("code", ["invalid_client", "invalid_grant", "unauthorized_client", "access_denied"])
def test_a_400_that_says_so_is_a_refusal(carto_sandbox: Sandbox, code: str) -> None:
    carto_sandbox.fault("token", status=400, body={"error": code, "error_description": SECRET})

    refusal_of(lambda: ask(of_sandbox(carto_sandbox)), ClientRejected, f"400 {code}")


def test_a_servers_own_words_are_not_repeated(carto_sandbox: Sandbox) -> None:
    carto_sandbox.fault("token", status=401, body={"error": SECRET, "error_description": SECRET})

    refusal_of(lambda: ask(of_sandbox(carto_sandbox)), ClientRejected, "(401)")


@pytest.mark.parametrize("spelt", ["86400", " 86400 ", "8.64e4", 86400.0])
def test_a_lifetime_may_be_spelt_as_text(carto_sandbox: Sandbox, spelt: object) -> None:
    carto_sandbox.fault("token", body={"access_token": "t", "expires_in": spelt})

    token = ask(of_sandbox(carto_sandbox))

    assert token.expires_at == token.obtained_at + 86400


GOOD: dict[str, object] = {"access_token": BEARER, "expires_in": 86400, "token_type": "Bearer"}
ODD: dict[str, dict[str, Any]] = {
    "a page": {"body": f"<html>{SECRET}</html>", "content_type": "text/html"},
    "nothing": {"body": ""},
    "JSON cut off": {"body": '{"access_token": "hal'},
    "a list": {"body": f'["{BEARER}"]'},
    "null": {"body": "null"},
    "other JSON": {"body": {"status": "ok", "token": BEARER}},
    "nested without end": {"body": "[" * 50_000},
    "not text": {"body": b"\xff\xfe\x00"},
    "201": {"status": 201, "body": GOOD},
    "400": {"status": 400, "body": {"error": "invalid_request"}},
    "400 with a page": {"status": 400, "body": "<html>", "content_type": "text/html"},
    "404": {"status": 404},
    "418": {"status": 418, "body": ""},
    "501": {"status": 501},
    **{
        f"access_token {value!r}": {"body": {**GOOD, "access_token": value}}
        for value in (None, "", 5, ["a"], "a b", "a\nb", "ü")
    },
    **{
        f"expires_in {value!r}": {"body": {**GOOD, "expires_in": value}}
        for value in (None, "", "soon", 0, -5, True, [86400], {}, "NaN", "inf", float("nan"), float("inf"))
    },
}


@pytest.mark.parametrize("answer", ODD)
def test_an_answer_of_another_shape_is_said_to_be_one_and_its_body_is_not_shown(
    carto_sandbox: Sandbox, answer: str
) -> None:
    carto_sandbox.fault("token", **ODD[answer])

    error = refusal_of(
        lambda: ask(of_sandbox(carto_sandbox)),
        UnexpectedResponse,
        f"{carto_sandbox.url}/oauth/token",
        "not as documented",
        "Check auth_url",
    )

    assert error.status == ODD[answer].get("status", 200)
    assert carto_sandbox.stats().count("token") == 1


def test_an_unexpected_answer_is_told_with_its_media_type(carto_sandbox: Sandbox) -> None:
    carto_sandbox.fault("token", **ODD["a page"])

    refusal_of(lambda: ask(of_sandbox(carto_sandbox)), UnexpectedResponse, "200 (text/html)")


@pytest.mark.parametrize("lifetime", [1e300, 10**300, 1e-9])
def test_a_strange_lifetime_is_not_fatal(carto_sandbox: Sandbox, lifetime: float) -> None:
    carto_sandbox.fault("token", body={**GOOD, "expires_in": lifetime})

    token = ask(of_sandbox(carto_sandbox))

    assert isinstance(token.state(time.time()), State)
    json.dumps(token.record(), allow_nan=False)


@pytest.mark.parametrize("status", [500, 502, 503, 504, 429])
def test_a_broken_endpoint_is_unavailable_after_the_retries(carto_sandbox: Sandbox, status: int) -> None:
    carto_sandbox.fault("token", status=status)

    error = refusal_of(
        lambda: ask(of_sandbox(carto_sandbox)), ServiceUnavailable, f"{carto_sandbox.url}/oauth/token answered {status}"
    )

    assert error.status == status
    assert carto_sandbox.stats().count("token") == 4


@pytest.mark.parametrize("cut", ["before", "after", "body"])
def test_a_connection_that_is_cut_once_is_asked_again(carto_sandbox: Sandbox, cut: str) -> None:
    carto_sandbox.fault("token", cut=cut, count=1)

    assert ask(of_sandbox(carto_sandbox)).reveal().startswith("sandbox-carto-")
    assert carto_sandbox.stats().count("token") == 2


@pytest.mark.parametrize("cut", ["before", "after", "body"])
def test_a_connection_that_is_always_cut_is_unavailable(carto_sandbox: Sandbox, cut: str) -> None:
    carto_sandbox.fault("token", cut=cut)

    refusal_of(lambda: ask(of_sandbox(carto_sandbox)), ServiceUnavailable, carto_sandbox.url)


def test_a_retry_after_of_three_seconds_is_waited_for(carto_sandbox: Sandbox) -> None:
    carto_sandbox.fault("token", status=429, retry_after=3, count=1)
    started = time.monotonic()

    assert ask(of_sandbox(carto_sandbox))

    assert time.monotonic() - started >= 3


@pytest.mark.parametrize("is_date", [False, True])
def test_a_retry_after_of_an_hour_is_reported(carto_sandbox: Sandbox, is_date: bool) -> None:
    after = datetime.now(timezone.utc) + timedelta(hours=1) if is_date else 3600
    carto_sandbox.fault("token", status=429, retry_after=after)

    error = refusal_of(lambda: ask(of_sandbox(carto_sandbox)), ServiceUnavailable, "Try again in 3")

    assert error.retry_after == pytest.approx(3600, abs=300)
    assert carto_sandbox.stats().count("token") == 1


def test_a_slow_endpoint_is_unavailable(carto_sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "TOTAL_TIMEOUT", 0.5)
    carto_sandbox.fault("token", delay=3)
    started = time.monotonic()

    refusal_of(lambda: ask(of_sandbox(carto_sandbox)), ServiceUnavailable, "did not answer", carto_sandbox.url)

    assert time.monotonic() - started < 2.5


def test_an_endpoint_that_is_down_is_unavailable() -> None:
    with serving(answers(200)) as server:
        url = server.url

    refusal_of(lambda: ask(account_for(url)), ServiceUnavailable, url, "could not be reached")


def test_a_redirect_is_not_followed_with_the_secret() -> None:
    with serving(answers(200, json.dumps(GOOD))) as elsewhere:
        with serving(answers(307, Location=f"{elsewhere.url}/oauth/token")) as server:
            refusal_of(lambda: ask(account_for(server.url)), UnexpectedResponse, "307")
        assert not elsewhere.requests


def test_a_client_without_its_secret_is_told_what_to_set() -> None:
    import pickle

    account = pickle.loads(pickle.dumps(account_for("http://127.0.0.1:1")))

    error = raised_by(lambda: ask(account))

    assert isinstance(error, AccountError)
    assert "CARTO_CLIENT_SECRET" in str(error)


# A token that exists already


def test_a_static_token_is_given_as_it_is() -> None:
    account = CartoAccount.from_mapping({"access_token": BEARER, "api_base_url": "https://x.org"})

    token = StaticToken(account)(NO_TOKEN, interactive=False)

    assert token.reveal() == BEARER
    assert token.expires_at == float("inf")


def test_a_static_token_that_has_ended_is_a_refusal_with_the_way_out() -> None:
    account = CartoAccount.from_mapping({"access_token": BEARER, "api_base_url": "https://x.org"})

    refusal_of(
        lambda: StaticToken(account, time.time() - 86400)(NO_TOKEN, interactive=False),
        ClientRejected,
        "has expired",
        "workspace",
    )


# Refresh tokens


def test_a_refresh_token_is_used_and_rotated(carto_sandbox: Sandbox) -> None:
    login = logged_in(carto_sandbox)
    grant = UserLogin(of_sandbox(carto_sandbox, **LOGIN))

    first = grant(login, interactive=False)
    second = grant(first, interactive=False)

    assert len({login.reveal(), first.reveal(), second.reveal()}) == 3
    assert first.refresh_token not in (None, login.refresh_token)
    assert second.refresh_token not in (None, first.refresh_token)


def test_a_server_that_does_not_rotate_keeps_the_refresh_token() -> None:
    with serving(answers(200, json.dumps({**GOOD, "refresh_token": None}))) as server:
        grant = UserLogin(account_for(server.url, **LOGIN))
        token = grant(
            token_living(-1, refresh_token=Secret("refresh"), details={"api_base_url": "x"}), interactive=False
        )

    assert token.refresh_token == Secret("refresh")
    assert token.details == {"api_base_url": "x"}


def test_a_refused_refresh_asks_for_a_login_where_nobody_is(carto_sandbox: Sandbox) -> None:
    login = logged_in(carto_sandbox)
    carto_sandbox.revoke("refresh")
    grant = UserLogin(of_sandbox(carto_sandbox, **LOGIN))

    refusal_of(lambda: grant(login, interactive=False), InteractionRequired, "carto-auth login", carto_sandbox.url)


def test_a_refresh_that_cannot_be_asked_for_is_no_reason_to_log_in(carto_sandbox: Sandbox) -> None:
    login = logged_in(carto_sandbox)
    carto_sandbox.fault("token", status=503)

    refusal_of(
        lambda: UserLogin(of_sandbox(carto_sandbox, **LOGIN))(login, interactive=False), ServiceUnavailable, "503"
    )


LOGIN: dict[str, Any] = {"auth_mode": "oauth", "client_id": SandboxOptions().login_client_id, "client_secret": None}


def logged_in(sandbox: Sandbox) -> Token:
    """Log in as a browser would, without one."""
    import requests

    from carto_auth_integrations.oauth.login import Attempt, Authorization

    account, attempt = of_sandbox(sandbox, **LOGIN), Attempt()
    redirect_uri = "http://localhost:10000/callback/"
    location = requests.get(attempt.url(account, redirect_uri), allow_redirects=False, timeout=10).headers["Location"]
    (code,) = parse_qs(location.partition("?")[2])["code"]
    return UserLogin(account)._exchange(Authorization(Secret(code), redirect_uri, attempt.verifier))


def test_a_code_works_once(carto_sandbox: Sandbox) -> None:
    from carto_auth_integrations.oauth.login import Attempt, Authorization

    account, attempt = of_sandbox(carto_sandbox, **LOGIN), Attempt()
    spent = Authorization(Secret(SECRET), "http://localhost:10000/callback/", attempt.verifier)

    refusal_of(lambda: UserLogin(account)._exchange(spent), ClientRejected, "invalid_grant", "codes work once")


# Where the API lives


class Discovery:
    """An accounts service and a tenant's configuration on one small server."""

    def __init__(self, accounts: object = None, config: object = None) -> None:
        self.accounts = accounts
        self.config = config

    def __call__(self, handler: Any) -> None:
        path = handler.path.partition("?")[0]
        told = self.accounts if path == "/accounts" else self.config if path == "/config.yaml" else (404, "")
        if told is None:
            host = handler.headers["Host"]
            told = (
                {"tenant_domain": host} if path == "/accounts" else f"apis:\n  baseUrl: https://api.{path[1:4]}.org\n"
            )
        status, body = told if isinstance(told, tuple) else (200, told)
        reply(handler, status, body if isinstance(body, str) else json.dumps(body))


def discover(discovery: Discovery) -> tuple[str, Server]:
    with serving(discovery) as server:
        account = account_for(server.url, **LOGIN, api_base_url=None)
        return find_api_base_url(account, token_living(60)), server


def test_a_users_api_is_found_through_accounts_and_the_tenants_configuration(carto_sandbox: Sandbox) -> None:
    account = of_sandbox(carto_sandbox, **LOGIN, api_base_url=None)
    token = logged_in(carto_sandbox)

    assert find_api_base_url(account, token) == carto_sandbox.url


def test_the_token_goes_to_the_accounts_service_alone() -> None:
    base, server = discover(Discovery())

    assert base == "https://api.con.org"
    accounts, config = server.requests
    assert accounts.headers["authorization"] == f"Bearer {BEARER}"
    assert "authorization" not in config.headers
    assert BEARER not in config.path


@pytest.mark.parametrize(
    "config",
    [
        "apis:\n  baseUrl: https://a.org",
        "# a comment\nother: 1\napis: # the APIs\n    baseUrl: 'https://a.org/'  # here\n    x: 1\n",
        '"apis":\n  "baseUrl": "https://a.org"\n',
        "x:\n  baseUrl: https://wrong.org\napis:\n  other: 1\n  baseUrl: https://a.org\n",
        '{"apis": {"baseUrl": "https://a.org"}}',
        "apis:\r\n  baseUrl: https://a.org\r\n",
        "{apis: {baseUrl: https://a.org, other: [1, 2]}}",
        "{'apis': {\"baseUrl\": 'https://a.org'}}",
        "base: &base https://a.org\napis:\n  baseUrl: *base\n",
        "defaults: &defaults\n  baseUrl: https://a.org\napis:\n  <<: *defaults\n  x: 1\n",
        "apis:\n  baseUrl: >-\n    https://a.org\n",
        "%YAML 1.1\n---\n! apis: !!map {? baseUrl : https://a.org}\n...\n",
    ],
)
def test_the_configuration_is_read_in_the_ways_it_is_written(config: str) -> None:
    assert discover(Discovery(config=config))[0] == "https://a.org"


@pytest.mark.parametrize(
    "accounts",
    [
        "",
        "<html>",
        "[]",
        "null",
        {"tenant": "x"},
        {"tenant_domain": None},
        {"tenant_domain": 5},
        {"tenant_domain": ""},
        {"tenant_domain": f"me:{SECRET}@evil.com"},
        {"tenant_domain": "evil.com?x="},
        {"tenant_domain": "evil.com#"},
        {"tenant_domain": "two words"},
        {"tenant_domain": "line\nbreak"},
        (404, {"tenant_domain": "127.0.0.1"}),
        (302, ""),
    ],
)
def test_accounts_of_another_shape_are_said_to_be_so(accounts: object) -> None:
    error = refusal_of(lambda: discover(Discovery(accounts=accounts)), UnexpectedResponse)

    assert "api_base_url" in str(error) or "API base URL" in str(error)


@pytest.mark.parametrize(
    "config",
    [
        "",
        "<html>",
        "apis: https://a.org",
        "apis:\nbaseUrl: https://a.org",
        "baseUrl: https://a.org",
        "apis:\n  baseUrl:\n",
        "apis:\n  baseUrl: http://evil.com\n",
        "apis:\n  baseUrl: ftp://a.org\n",
        "apis:\n  baseUrl: https://me:hunter2-client-secret@a.org\n",
        '{"apis": {"baseUrl": 5}}',
        '{"apis": ["baseUrl"]}',
        "[" * 50_000,
        "apis: &a\n  baseUrl: *a\n",
        "apis:\n  baseUrl: *unknown\n",
        "apis:\n\tbaseUrl: https://a.org",
        "--- {apis: {baseUrl: https://a.org}}\n--- {apis: {baseUrl: https://b.org}}",
        "apis: !!python/object/apply:os.system [true]",
        "? [apis]\n: {baseUrl: https://a.org}",
        "apis: {baseUrl: 2026-13-45}",
        (404, "apis:\n  baseUrl: https://a.org"),
        (301, ""),
    ],
)
def test_a_configuration_of_another_shape_is_said_to_be_so(config: object) -> None:
    error = refusal_of(lambda: discover(Discovery(config=config)), UnexpectedResponse)

    assert "api_base_url" in str(error) or "API base URL" in str(error) or "apis.baseUrl" in str(error)


@pytest.mark.parametrize(
    "accounts", [(401, ""), (403, {"error": "x"}), {"error": SECRET}, (400, {"error": "no account"})]
)
def test_a_user_without_an_account_is_a_refusal(accounts: object) -> None:
    refusal_of(lambda: discover(Discovery(accounts=accounts)), ClientRejected, "accounts_url")


def test_an_accounts_service_that_is_down_is_unavailable() -> None:
    refusal_of(lambda: discover(Discovery(accounts=(503, ""))), ServiceUnavailable, "/accounts")


def test_a_tenant_in_plain_http_elsewhere_is_not_asked() -> None:
    with serving(answers(200, '{"tenant_domain": "carto.invalid"}')) as server:
        account = account_for(server.url, **LOGIN, api_base_url=None)
        error = Outcome(lambda: find_api_base_url(account, token_living(60))).settled()

    assert isinstance(error, ServiceUnavailable)
    assert "https://carto.invalid/config.yaml" in str(error)


def test_a_base_url_that_is_known_is_not_looked_up() -> None:
    account = account_for("http://127.0.0.1:1")
    user = account_for("http://127.0.0.1:1", **LOGIN, api_base_url=None)

    assert api_base_url_of(account, token_living(60)) == "http://127.0.0.1:1"
    assert api_base_url_of(user, token_living(60, details={"api_base_url": "https://a.org"})) == "https://a.org"


def test_a_client_whose_base_url_is_not_known_is_told_what_to_set() -> None:
    account = CartoAccount.resolve({"mode": "m2m", "client_id": "c", "client_secret": SECRET})

    error = raised_by(lambda: api_base_url_of(account, token_living(60)))

    assert isinstance(error, AccountError)
    assert "CARTO_API_BASE_URL" in str(error)
