"""Faults hit the requests they are meant for, and the control endpoints do what the methods do."""

from __future__ import annotations

import http.client
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime

import pytest
import requests

EXCHANGE = "/v3/connections/carto-dw/token"


def test_a_status_alone_is_answered_in_auth0s_shape_by_the_token_endpoint(caller, sandbox):
    sandbox.fault("token", status=503)
    response = caller.token()
    assert response.status_code == 503
    assert response.json().keys() == {"error", "error_description"}


def test_a_status_alone_is_answered_in_cartos_shape_by_the_api(caller, sandbox):
    sandbox.fault("dw_token", status=429)
    response = caller.get(EXCHANGE, caller.access_token())
    assert response.status_code == 429
    assert response.json() == {"error": "Too Many Requests", "status": 429}


def test_a_status_alone_is_answered_in_googles_shape_by_bigquery(caller, sandbox):
    sandbox.fault("bigquery", status=503)
    error = caller.get("/bigquery/v2/projects").json()["error"]
    assert (error["code"], error["errors"][0]["reason"]) == (503, "backendError")


def test_a_body_can_be_rubbish_of_any_type(caller, sandbox):
    sandbox.fault("token", status=502, body="<html>Bad gateway", content_type="text/html")
    response = caller.token()
    assert (response.status_code, response.text) == (502, "<html>Bad gateway")
    assert response.headers["Content-Type"] == "text/html"


def test_a_body_without_a_status_comes_with_200(caller, sandbox):
    sandbox.fault("token", body={"access_token": 17})
    response = caller.token()
    assert (response.status_code, response.json()) == (200, {"access_token": 17})


def test_retry_after_is_sent_in_seconds_or_as_a_date(caller, sandbox):
    moment = datetime(2030, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
    sandbox.fault("token", status=429, retry_after=7, count=1)
    sandbox.fault("token", status=429, retry_after=moment, count=1)
    assert caller.token().headers["Retry-After"] == "7"
    assert parsedate_to_datetime(caller.token().headers["Retry-After"]) == moment


def test_a_fault_hits_as_many_requests_as_it_counts_after_those_it_skips(caller, sandbox):
    sandbox.fault("token", status=500, skip=1, count=2)
    assert [caller.token().status_code for _ in range(5)] == [200, 500, 500, 200, 200]


def test_faults_of_one_endpoint_follow_each_other(caller, sandbox):
    sandbox.fault("token", status=500, count=1)
    sandbox.fault("token", status=429, count=1)
    assert [caller.token().status_code for _ in range(3)] == [500, 429, 200]


def test_a_fault_without_count_lasts_until_it_is_cleared(caller, sandbox):
    sandbox.fault("token", status=500)
    assert {caller.token().status_code for _ in range(5)} == {500}
    sandbox.clear_faults()
    assert caller.token().status_code == 200


def test_a_fault_can_be_bound_to_a_path(caller, sandbox):
    sandbox.fault("bigquery", status=404, match=r"^GET /bigquery/v2/projects/x$")
    assert caller.get("/bigquery/v2/projects/x").status_code == 404
    assert caller.get("/bigquery/v2/projects/y").status_code == 401


def test_a_delay_comes_before_the_real_answer(caller, sandbox):
    sandbox.fault("token", delay=0.5)
    begin = time.monotonic()
    assert caller.token().status_code == 200
    assert time.monotonic() - begin >= 0.5


def test_a_request_cut_before_is_never_handled(caller, sandbox):
    sandbox.fault("token", cut="before", count=1)
    with pytest.raises(requests.ConnectionError):
        caller.token()
    assert sandbox.stats().issued["carto"] == 0
    assert sandbox.stats().count("token", "cut") == 1
    assert caller.token().status_code == 200


def test_a_request_cut_after_was_handled(caller, sandbox):
    sandbox.fault("token", cut="after", count=1)
    with pytest.raises(requests.ConnectionError):
        caller.token()
    assert sandbox.stats().issued["carto"] == 1


def test_an_answer_can_break_off_in_the_middle(caller, sandbox):
    sandbox.fault("token", cut="body", count=1)
    with pytest.raises((requests.exceptions.ChunkedEncodingError, requests.ConnectionError)) as caught:
        caller.token()
    assert "IncompleteRead" in str(caught.value)


def test_an_invented_answer_can_break_off_too(sandbox, caller):
    sandbox.fault("config", body="apis: {}", cut="body", count=1)
    with pytest.raises((requests.exceptions.ChunkedEncodingError, requests.ConnectionError)):
        caller.get("/config.yaml")


@pytest.mark.parametrize(
    ("endpoint", "path"),
    [
        ("authorize", "/authorize"),
        ("accounts", "/accounts"),
        ("config", "/config.yaml"),
        ("users_me", "/users/me"),
        ("dw_token", EXCHANGE),
        ("bigquery", "/bigquery/v2/projects"),
        ("upload", "/upload/bigquery/v2/projects/p/jobs"),
    ],
)
def test_every_endpoint_can_fail(caller, sandbox, endpoint, path):
    sandbox.fault(endpoint, status=500)
    assert caller.get(path, "any").status_code == 500
    assert sandbox.stats().count(endpoint, 500) == 1


@pytest.mark.parametrize(
    "fields",
    [
        {"endpoint": "nowhere", "status": 500},
        {"endpoint": "token"},
        {"endpoint": "token", "cut": "sideways"},
        {"endpoint": "token", "delay": 1, "retry_after": 3},
        {"endpoint": "token", "status": 500, "match": "("},
    ],
)
def test_a_fault_that_makes_no_sense_is_refused(sandbox, fields):
    with pytest.raises(ValueError):  # noqa: PT011 - the messages differ, the kind matters
        sandbox.fault(**fields)
    response = requests.post(f"{sandbox.url}/_sandbox/faults", json=fields, timeout=30)
    assert response.status_code == 400


def test_counts_tell_requests_tokens_and_refusals(caller, sandbox):
    caller.dw_token()
    caller.token(client_secret="wrong")
    caller.get("/bigquery/v2/projects", "made-up")
    stats = sandbox.stats()
    assert stats.requests["token"] == {"200": 1, "401": 1}
    assert stats.count("dw_token") == 1
    assert stats.issued == {"carto": 1, "dw": 1, "refresh": 0}
    assert stats.dw_unauthorized == 1


def test_another_process_controls_the_sandbox_by_http(caller, sandbox):
    control = f"{sandbox.url}/_sandbox"
    token = caller.access_token()
    assert requests.post(f"{control}/revoke", json={"what": "carto"}, timeout=30).json()["revoked"] >= 1
    assert caller.get("/users/me", token).status_code == 401

    requests.post(f"{control}/faults", json={"endpoint": "token", "status": 500, "retry_after": 3}, timeout=30)
    assert caller.token().headers["Retry-After"] == "3"
    requests.delete(f"{control}/faults", timeout=30)
    assert caller.token().status_code == 200

    requests.post(f"{control}/lifetimes", json={"carto": 5, "dw": 6}, timeout=30)
    assert caller.token().json()["expires_in"] == 5

    stats = requests.get(f"{control}/stats", timeout=30).json()
    assert stats["requests"]["token"] == {"200": 3, "500": 1}
    assert stats["issued"]["carto"] == 3
    requests.post(f"{control}/reset", timeout=30)
    assert requests.get(f"{control}/stats", timeout=30).json()["requests"] == {}
    assert caller.token().json()["expires_in"] == 86400


@pytest.mark.parametrize(
    ("path", "body"),
    [("revoke", {"what": "all"}), ("lifetimes", {"moon": 1}), ("faults", []), ("faults", {"moon": 1})],
)
def test_a_control_request_that_makes_no_sense_is_400(sandbox, path, body):
    assert requests.post(f"{sandbox.url}/_sandbox/{path}", json=body, timeout=30).status_code == 400


def test_connections_are_kept_alive(sandbox):
    connection = http.client.HTTPConnection(sandbox.url.removeprefix("http://"), timeout=30)
    used = set()
    for _ in range(3):
        connection.request("GET", "/config.yaml")
        used.add(connection.sock)
        connection.getresponse().read()
    connection.close()
    assert len(used) == 1


def test_sixty_four_delayed_requests_wait_at_the_same_time(caller, sandbox):
    sandbox.fault("token", delay=2)
    begin = time.monotonic()
    with ThreadPoolExecutor(64) as pool:
        statuses = list(pool.map(lambda _: caller.token().status_code, range(64)))
    assert statuses == [200] * 64
    assert time.monotonic() - begin < 6


def test_five_hundred_connections_at_once_are_all_answered(caller, sandbox):
    sandbox.fault("token", delay=0.5)
    with ThreadPoolExecutor(500) as pool:
        statuses = list(pool.map(lambda _: caller.token().status_code, range(500)))
    assert statuses == [200] * 500
    assert sandbox.stats().issued["carto"] == 500


def test_stopping_does_not_wait_for_a_delay(make_sandbox, caller_of):
    sandbox = make_sandbox()
    sandbox.fault("token", delay=60)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(caller_of(sandbox).token)
        while sandbox.stats().count("config") == 0:
            caller_of(sandbox).get("/config.yaml")
        time.sleep(0.2)
        begin = time.monotonic()
        sandbox.stop()
    assert time.monotonic() - begin < 5
