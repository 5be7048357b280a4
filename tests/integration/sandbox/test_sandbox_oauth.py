"""The login server answers as Auth0 does for CARTO."""

from __future__ import annotations

import logging
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests


def test_client_credentials_give_a_bearer_token_with_its_lifetime(caller):
    response = caller.token()
    assert response.status_code == 200
    assert response.json().keys() == {"access_token", "scope", "expires_in", "token_type"}
    assert response.json()["expires_in"] == 86400
    assert response.json()["token_type"] == "Bearer"


def test_each_request_gives_another_token(caller):
    assert caller.access_token() != caller.access_token()


def test_client_credentials_are_accepted_as_basic_authorization(caller, sandbox):
    response = requests.post(
        f"{sandbox.url}/oauth/token",
        data={"grant_type": "client_credentials", "audience": sandbox.options.audience},
        auth=(sandbox.options.client_id, sandbox.options.client_secret),
        timeout=30,
    )
    assert response.status_code == 200


@pytest.mark.parametrize("audience", ["another-api", "", None])
def test_a_wrong_or_missing_audience_is_denied(caller, audience):
    response = caller.token(audience=audience)
    assert response.status_code == 403
    assert response.json()["error"] == "access_denied"
    assert response.json()["error_description"]


@pytest.mark.parametrize(
    "changes",
    [{"client_secret": "wrong"}, {"client_secret": None}, {"client_id": "unknown"}, {"client_id": None}],
)
def test_an_unknown_client_or_a_wrong_secret_is_unauthorized(caller, changes):
    response = caller.token(**changes)
    assert response.status_code == 401
    assert response.json() == {"error": "access_denied", "error_description": "Unauthorized"}


def test_an_unknown_grant_type_is_refused(caller):
    response = caller.token(grant_type="password")
    assert response.status_code == 403
    assert response.json()["error"] == "unsupported_grant_type"


def test_the_public_client_gets_no_machine_token(caller, sandbox):
    response = caller.token(client_id=sandbox.options.login_client_id)
    assert response.status_code == 401


def test_a_login_redirects_at_once_with_code_and_state(caller, told):
    response = caller.authorize()
    assert response.status_code == 302
    assert response.headers["Location"].startswith("http://localhost:10000/callback/?")
    assert told(response)["state"] == "the-state"
    assert told(response)["code"]


def test_a_code_gives_access_and_refresh_token(caller, told):
    response = caller.redeem(told(caller.authorize())["code"])
    assert response.status_code == 200
    assert response.json().keys() == {"access_token", "scope", "expires_in", "token_type", "refresh_token"}
    assert caller.get("/users/me", response.json()["access_token"]).status_code == 200


def test_without_offline_access_there_is_no_refresh_token(caller, told):
    response = caller.redeem(told(caller.authorize(scope="openid"))["code"])
    assert "refresh_token" not in response.json()


def test_refresh_tokens_can_be_switched_off(make_sandbox, caller_of):
    tokens = caller_of(make_sandbox(grant_refresh_tokens=False)).login()
    assert "refresh_token" not in tokens
    assert "offline_access" not in tokens["scope"]


def test_a_code_is_good_once(caller, told):
    code = told(caller.authorize())["code"]
    assert caller.redeem(code).status_code == 200
    again = caller.redeem(code)
    assert again.status_code == 403
    assert again.json()["error"] == "invalid_grant"


def test_of_many_attempts_at_once_a_code_serves_one(caller, told):
    code = told(caller.authorize())["code"]
    with ThreadPoolExecutor(8) as pool:
        statuses = sorted(response.status_code for response in pool.map(caller.redeem, [code] * 8))
    assert statuses == [200] + [403] * 7


def test_a_wrong_verifier_is_refused_and_uses_up_the_code(caller, told):
    code = told(caller.authorize())["code"]
    response = caller.redeem(code, code_verifier="x" * 43)
    assert (response.status_code, response.json()["error"]) == (403, "invalid_grant")
    assert caller.redeem(code).status_code == 403


def test_a_missing_verifier_is_refused(caller, told):
    response = caller.redeem(told(caller.authorize())["code"], code_verifier=None)
    assert (response.status_code, response.json()["error"]) == (400, "invalid_request")


def test_another_redirect_uri_than_the_login_had_is_refused(caller, told):
    response = caller.redeem(told(caller.authorize())["code"], redirect_uri="http://localhost:10001/callback/")
    assert (response.status_code, response.json()["error"]) == (403, "invalid_grant")


@pytest.mark.parametrize(
    "changes",
    [
        {"code_challenge": None, "code_challenge_method": None},
        {"code_challenge_method": "plain"},
        {"code_challenge_method": None},
    ],
)
def test_a_login_without_s256_is_sent_back_with_an_error(caller, told, changes):
    answer = told(caller.authorize(**changes))
    assert answer["error"] == "invalid_request"
    assert answer["state"] == "the-state"
    assert "code" not in answer


@pytest.mark.parametrize("audience", ["another-api", None])
def test_a_login_for_another_audience_is_denied(caller, told, audience):
    assert told(caller.authorize(audience=audience))["error"] == "access_denied"


def test_a_login_of_an_unknown_client_is_not_redirected(caller):
    response = caller.authorize(client_id="unknown")
    assert response.status_code == 401
    assert "Location" not in response.headers


def test_a_login_for_another_response_type_is_not_redirected_with_a_code(caller):
    assert "code=" not in caller.authorize(response_type="token").headers.get("Location", "")


@pytest.mark.parametrize("target", ["https://evil.example/", "http://localhost.evil.example/", "ftp://localhost/"])
def test_a_login_is_never_sent_to_a_foreign_place(caller, target):
    response = caller.authorize(redirect_uri=target)
    assert response.status_code == 400
    assert "Location" not in response.headers


@pytest.mark.parametrize("target", ["http://127.0.0.1:1/", "http://localhost:65000/x", "http://[::1]:8080/cb"])
def test_any_loopback_address_can_be_the_target(caller, target):
    assert caller.authorize(redirect_uri=target).headers["Location"].startswith(target)


def test_the_paste_page_shows_the_code_as_text(caller, sandbox, told):
    paste_page = f"{sandbox.url}/auth/token"
    response = caller.authorize(redirect_uri=paste_page)
    code = told(response)["code"]
    assert code in requests.get(response.headers["Location"], timeout=30).text
    assert caller.redeem(code, redirect_uri=paste_page).status_code == 200


def test_the_paste_page_escapes_what_it_shows(caller):
    assert "<script>" not in caller.get("/auth/token?code=<script>").text


def test_the_organization_of_a_login_is_remembered(caller, sandbox):
    caller.authorize(organization="org_123")
    assert sandbox.stats().organizations == ("org_123",)


def test_a_login_can_be_denied(make_sandbox, caller_of, told):
    answer = told(caller_of(make_sandbox(deny_login=True)).authorize())
    assert answer["error"] == "access_denied"
    assert answer["state"] == "the-state"


def test_a_refresh_token_is_replaced_by_its_use(caller):
    first = caller.login()
    second = caller.refresh(first["refresh_token"]).json()
    assert second["refresh_token"] != first["refresh_token"]
    assert second["scope"] == first["scope"]
    assert caller.refresh(second["refresh_token"]).status_code == 200


def test_a_refresh_token_used_twice_ends_the_whole_login(caller):
    first = caller.login()
    second = caller.refresh(first["refresh_token"]).json()
    reused = caller.refresh(first["refresh_token"])
    assert (reused.status_code, reused.json()["error"]) == (403, "invalid_grant")
    assert caller.refresh(second["refresh_token"]).status_code == 403


def test_an_unknown_refresh_token_is_refused(caller):
    response = caller.refresh("made-up")
    assert (response.status_code, response.json()["error"]) == (403, "invalid_grant")


def test_of_many_uses_at_once_a_refresh_token_serves_one(caller):
    refresh_token = caller.login()["refresh_token"]
    with ThreadPoolExecutor(8) as pool:
        statuses = sorted(response.status_code for response in pool.map(caller.refresh, [refresh_token] * 8))
    assert statuses == [200] + [403] * 7


def test_a_revoked_refresh_token_is_refused(caller, sandbox):
    refresh_token = caller.login()["refresh_token"]
    sandbox.revoke("refresh")
    assert caller.refresh(refresh_token).status_code == 403


def test_a_token_dies_at_its_age(caller, sandbox):
    sandbox.set_lifetimes(carto=1)
    response = caller.token().json()
    assert response["expires_in"] == 1
    assert caller.get("/users/me", response["access_token"]).status_code == 200
    time.sleep(1.1)
    assert caller.get("/users/me", response["access_token"]).status_code == 401


def test_logs_show_neither_secret_nor_token(caller, sandbox, caplog):
    with caplog.at_level(logging.DEBUG):
        tokens = caller.login()
        access_token = caller.access_token()
        caller.token(client_secret="a-wrong-secret")
    seen = "\n".join(record.getMessage() for record in caplog.records)
    for secret in (
        access_token,
        tokens["access_token"],
        tokens["refresh_token"],
        sandbox.options.client_secret,
        "a-wrong-secret",
    ):
        assert secret not in seen
