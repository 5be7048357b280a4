"""The stages of a check, against a tiny CARTO whose answers each test decides."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from carto_auth_integrations import ClientRejected, InteractionRequired, ServiceUnavailable, UnexpectedResponse
from carto_auth_integrations.auth import CartoAuth
from carto_auth_integrations.checks import CheckResult, run_checks

STAGES = ["credentials", "CARTO API", "DW token", "SELECT 1"]
SECRET = "the-client-secret"
ONE = {
    "jobComplete": True,
    "jobReference": {"projectId": "carto-dw-ac-x", "jobId": "j", "location": "US"},
    "location": "US",
    "schema": {"fields": [{"name": "f0_", "type": "INTEGER", "mode": "NULLABLE"}]},
    "rows": [{"f": [{"v": "1"}]}],
    "totalRows": "1",
}
PATHS = {
    "credentials": "/oauth/token",
    "CARTO API": "/users/me",
    "DW token": "/v3/connections/carto-dw/token",
    "SELECT 1": "/bigquery/v2/projects/carto-dw-ac-x/queries",
}

Answer = Callable[[str], tuple[int, Any]]


class Carto:
    """Login, API and BigQuery on one port. An answer gets the Authorization header; what is no dict is sent raw."""

    def __init__(self) -> None:
        self.issued = 0
        self.asked: list[str] = []
        self.answers: dict[str, Answer] = {
            PATHS["credentials"]: self._token,
            PATHS["CARTO API"]: lambda _: (200, {"email": "a@b.example"}),
            PATHS["DW token"]: lambda _: (200, {"projectId": "carto-dw-ac-x", "token": "dw-token"}),
            PATHS["SELECT 1"]: lambda _: (200, ONE),
        }
        carto = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                path = self.path.partition("?")[0]
                carto.asked.append(path)
                status, content = carto.answers[path](self.headers.get("Authorization", ""))
                body = json.dumps(content).encode() if isinstance(content, dict) else str(content).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json" if isinstance(content, dict) else "text/html")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_POST = do_GET  # noqa: N815  # http.server looks methods up by this name

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.server.block_on_close = False
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def _token(self, _: str) -> tuple[int, Any]:
        self.issued += 1
        return 200, {"access_token": f"carto-token-{self.issued}", "expires_in": 86400, "token_type": "Bearer"}

    def answer(self, stage: str, status: int, content: Any) -> None:
        self.answers[PATHS[stage]] = lambda _: (status, content)

    def count(self, stage: str) -> int:
        return self.asked.count(PATHS[stage])


@pytest.fixture
def carto(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Carto]:
    import os

    for name in [name for name in os.environ if name.startswith("CARTO_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    carto = Carto()
    yield carto
    carto.server.shutdown()
    carto.server.server_close()


@pytest.fixture
def auth(carto: Carto, tmp_path: Path) -> CartoAuth:
    return account_at(carto, tmp_path)


def account_at(carto: Carto, tmp_path: Path, **fields: str) -> CartoAuth:
    return CartoAuth.from_mapping(
        {
            "api_base_url": carto.url,
            "auth_url": carto.url,
            "accounts_url": carto.url,
            "bigquery_endpoint": carto.url,
            "client_id": "the-client",
            "client_secret": SECRET,
            "token_store": str(tmp_path / "tokens.json"),
            **fields,
        }
    )


def last(results: list[CheckResult]) -> CheckResult:
    assert all(result.ok for result in results[:-1])
    return results[-1]


def test_a_healthy_account_passes_all_stages_in_order(auth: CartoAuth) -> None:
    results = list(run_checks(auth.dw_tokens))

    assert [(result.name, result.ok) for result in results] == [(name, True) for name in STAGES]
    tomorrow = f"{datetime.now(timezone.utc) + timedelta(days=1):%Y-%m-%d}"
    assert re.fullmatch(rf"the token of the-client is valid until {tomorrow} \d\d:\d\d UTC", results[0].detail)
    assert "project carto-dw-ac-x" in results[2].detail
    assert results[3].detail.endswith("answers for project carto-dw-ac-x in US")
    assert str(results[3]).startswith("✓ SELECT 1 (")


def test_nothing_is_asked_before_the_first_result_is_taken_and_nothing_ahead_of_it(
    auth: CartoAuth, carto: Carto
) -> None:
    results = run_checks(auth.dw_tokens)
    assert carto.asked == []

    next(results)
    assert carto.asked == [PATHS["credentials"]]


def test_a_result_cannot_be_changed(auth: CartoAuth) -> None:
    result = next(run_checks(auth.dw_tokens))

    with pytest.raises(AttributeError):
        result.ok = False  # type: ignore[misc]


def test_a_refused_client_fails_the_first_stage_and_ends_the_check(auth: CartoAuth, carto: Carto) -> None:
    carto.answer("credentials", 401, {"error": "access_denied"})

    results = list(run_checks(auth.dw_tokens))

    assert [result.name for result in results] == ["credentials"]
    assert isinstance(results[0].error, ClientRejected)
    assert "Check client_id, client_secret" in results[0].detail
    assert carto.asked == [PATHS["credentials"]]


def test_a_token_that_the_api_takes_back_is_replaced_once(auth: CartoAuth, carto: Carto) -> None:
    carto.answers[PATHS["CARTO API"]] = lambda bearer: (401 if bearer == "Bearer carto-token-1" else 200, {})

    results = list(run_checks(auth.dw_tokens))

    assert all(result.ok for result in results)
    assert carto.issued == 2
    assert carto.count("CARTO API") == 2


def test_an_api_that_refuses_two_replacements_too_is_not_called_a_fourth_time(auth: CartoAuth, carto: Carto) -> None:
    carto.answer("CARTO API", 401, {"error": "Unauthorized"})

    result = last(list(run_checks(auth.dw_tokens)))

    assert (result.name, result.ok) == ("CARTO API", False)
    assert isinstance(result.error, ClientRejected)
    assert result.error.status == 401
    assert "Check api_base_url, auth_url and audience" in result.detail
    assert carto.count("CARTO API") == 3


def test_a_forbidding_api_fails_at_once(auth: CartoAuth, carto: Carto) -> None:
    carto.answer("CARTO API", 403, {"error": "Forbidden"})

    result = last(list(run_checks(auth.dw_tokens)))

    assert isinstance(result.error, ClientRejected)
    assert carto.count("CARTO API") == 1


@pytest.mark.parametrize("status", [200, 204, 302, 400, 404, 405])
def test_any_other_answer_below_500_means_that_the_api_is_there(auth: CartoAuth, carto: Carto, status: int) -> None:
    carto.answer("CARTO API", status, {})

    results = list(run_checks(auth.dw_tokens))

    assert [result.name for result in results] == STAGES
    assert f"({status})" in results[1].detail


def test_a_server_error_of_the_api_is_a_failure(auth: CartoAuth, carto: Carto) -> None:
    carto.answer("CARTO API", 501, "<html>")

    result = last(list(run_checks(auth.dw_tokens)))

    assert isinstance(result.error, UnexpectedResponse)
    assert "501" in result.detail


def test_a_user_without_a_warehouse_fails_at_the_dw_token(auth: CartoAuth, carto: Carto) -> None:
    carto.answer("DW token", 404, {"error": "Connection not found"})

    result = last(list(run_checks(auth.dw_tokens)))

    assert result.name == "DW token"
    assert "knows no CARTO Data Warehouse" in result.detail


def test_bigquery_refusal_is_told_in_its_own_words_with_the_next_step(auth: CartoAuth, carto: Carto) -> None:
    said = "Access Denied: Project carto-dw-ac-x: no bigquery.jobs.create"
    error = {"code": 403, "message": said, "errors": [{"message": said, "reason": "accessDenied"}]}
    carto.answer("SELECT 1", 403, {"error": error})

    result = last(list(run_checks(auth.dw_tokens)))

    assert result.name == "SELECT 1"
    assert result.detail == (
        f"BigQuery at {carto.url} answered 403 ({said}). Check what the client's owner may do in the warehouse."
    )


def test_a_page_in_the_place_of_bigquery_is_not_shown(auth: CartoAuth, carto: Carto) -> None:
    carto.answer("SELECT 1", 407, "<html>who goes there: hunter2</html>")

    result = last(list(run_checks(auth.dw_tokens)))

    assert "answered 407." in result.detail
    assert "hunter2" not in result.detail


def test_a_dw_token_that_bigquery_and_then_carto_refuse_is_told_as_cartos_refusal(
    auth: CartoAuth, carto: Carto
) -> None:
    exchanges = iter([(200, {"projectId": "carto-dw-ac-x", "token": "dw-token"})])
    carto.answers[PATHS["DW token"]] = lambda _: next(exchanges, (403, {"error": "Forbidden"}))
    carto.answer("SELECT 1", 401, {"error": {"code": 401, "message": "bad token", "errors": []}})

    result = last(list(run_checks(auth.dw_tokens)))

    assert result.name == "SELECT 1"
    assert result.detail.startswith("CARTO DW token of the-client: ")
    assert "refused (403)" in result.detail


@pytest.mark.parametrize("status", [429, 500, 503])
def test_bigquery_is_asked_once_and_not_for_ten_minutes(auth: CartoAuth, carto: Carto, status: int) -> None:
    reason = {"message": "not now", "reason": "backendError"}
    carto.answer("SELECT 1", status, {"error": {"code": status, "message": "not now", "errors": [reason]}})

    started = time.monotonic()
    result = last(list(run_checks(auth.dw_tokens)))

    assert result.detail.endswith(f"answered {status} (not now). Try again later.")
    assert carto.count("SELECT 1") == 1
    assert time.monotonic() - started < 10


def test_an_answer_other_than_one_is_a_failure(auth: CartoAuth, carto: Carto) -> None:
    carto.answer("SELECT 1", 200, {**ONE, "rows": [{"f": [{"v": "2"}]}]})

    assert isinstance(last(list(run_checks(auth.dw_tokens))).error, UnexpectedResponse)


def test_a_bigquery_that_cannot_be_reached_is_named(carto: Carto, tmp_path: Path) -> None:
    auth = account_at(carto, tmp_path, bigquery_endpoint="http://127.0.0.1:9")

    result = last(list(run_checks(auth.dw_tokens)))

    assert result.name == "SELECT 1"
    assert result.detail.startswith("BigQuery at http://127.0.0.1:9 could not be reached")


def test_a_page_that_bigquery_would_not_send_is_told_without_its_text(auth: CartoAuth, carto: Carto) -> None:
    carto.answer("SELECT 1", 200, "<html>hunter2</html>")

    result = last(list(run_checks(auth.dw_tokens)))

    assert f"BigQuery at {carto.url} failed (JSONDecodeError)" in result.detail
    assert "hunter2" not in result.detail


def test_an_error_of_no_known_family_is_told_by_its_first_line(
    auth: CartoAuth, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ValueError("no such location\nand a page of more")

    monkeypatch.setattr("carto_auth_integrations.checks.make_client", broken)

    assert last(list(run_checks(auth.dw_tokens))).detail == "ValueError: no such location"


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_that_hangs_ends_with_the_time_that_all_have_together(
    auth: CartoAuth, carto: Carto, stage: str
) -> None:
    import google.cloud.bigquery  # noqa: F401  # its import takes seconds of the first check in a process

    release = threading.Event()

    def hang(_: str) -> tuple[int, Any]:
        release.wait(30)
        return 200, {}

    carto.answers[PATHS[stage]] = hang

    started = time.monotonic()
    try:
        result = last(list(run_checks(auth.dw_tokens, timeout=2)))
        took = time.monotonic() - started
    finally:
        release.set()

    assert 1.9 < took < 3
    assert (result.name, result.ok) == (stage, False)
    assert isinstance(result.error, ServiceUnavailable)
    assert result.detail.startswith("No answer within the 2 s that all stages have together. Check ")


def test_a_slow_drip_of_retries_does_not_get_past_the_time(auth: CartoAuth, carto: Carto) -> None:
    carto.answer("CARTO API", 503, {})

    started = time.monotonic()
    result = last(list(run_checks(auth.dw_tokens, timeout=0.5)))

    assert time.monotonic() - started < 1.5
    assert isinstance(result.error, ServiceUnavailable)


def test_a_missing_login_is_said_and_nobody_is_asked_for_one(
    carto: Carto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", lambda url, **_: opened.append(url))
    monkeypatch.setattr("carto_auth_integrations.oauth.login.is_person_there", lambda: True)
    auth = CartoAuth("oauth", api_base_url=carto.url, auth_url=carto.url, cache_filepath=tmp_path / "login.json")

    result = last(list(run_checks(auth.dw_tokens)))

    assert isinstance(result.error, InteractionRequired)
    assert "carto-auth login" in result.detail
    assert opened == []


def test_a_missing_bigquery_package_is_said_with_its_extra(auth: CartoAuth, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "google.cloud", None)

    result = last(list(run_checks(auth.dw_tokens)))

    assert result.name == "SELECT 1"
    assert 'pip install "carto-auth-integrations[carto-dw]"' in result.detail


def test_no_detail_shows_a_token_or_the_secret_even_if_a_server_repeats_them(auth: CartoAuth, carto: Carto) -> None:
    def repeat(bearer: str) -> tuple[int, Any]:
        said = f"bad header {bearer} of carto-token-1, secret {SECRET}\x1b[31m"
        return 403, {"error": {"code": 403, "message": said, "errors": [{"message": said}]}}

    carto.answers[PATHS["SELECT 1"]] = repeat

    result = last(list(run_checks(auth.dw_tokens)))

    assert "bad header Bearer **********" in result.detail
    for told in (result.detail, str(result), repr(result)):
        assert not any(secret in told for secret in ("dw-token", "carto-token-1", SECRET, "\x1b"))


def test_the_module_is_light_to_import() -> None:
    heavy = ["google", "requests", "filelock", "click", "rich", "pandas"]
    code = f"import sys, carto_auth_integrations.checks; print([name for name in {heavy} if name in sys.modules])"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)

    assert done.stdout.strip() == "[]"
