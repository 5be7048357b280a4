"""BigQuery's REST API: tokens, errors, what is repeated, time limits, and where a job is looked for."""

from __future__ import annotations

import asyncio
import json
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from google.api_core.exceptions import BadGateway, BadRequest, Forbidden, NotFound, Unauthorized
from google.auth.exceptions import GoogleAuthError, TransportError

from carto_auth_integrations import CartoAuth, ServiceUnavailable
from carto_auth_integrations.bigquery import rest
from carto_auth_integrations.bigquery.rest import BigQuery, endpoint_of
from carto_auth_integrations.errors import CallFailed, InvalidField
from carto_auth_integrations.waiting import Deadline, run
from carto_auth_integrations.warehouse import CartoWarehouse
from tests.support.accounts import account_for, fields_for
from tests.support.bigquery import TinyBigQuery, auth_of, bigquery, calls_to
from tests.support.clocks import hurry
from tests.support.leaks import assert_shows_no_secret, raised_by
from tests.support.processes import run_processes
from tests.support.servers import Server, answers, reply, serving

TOKENS = ("hunter2-first", "hunter2-second", "hunter2-third")
"""The DW tokens that CARTO returns, one after the other."""


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rest, "FIRST_PAUSE", 0.01)


def job(location: str = "EU", state: str = "DONE", **status: Any) -> dict[str, Any]:
    return {
        "jobReference": {"projectId": "p", "jobId": "j", "location": location},
        "status": {"state": state, **status},
        "configuration": {"query": {"query": "SELECT 1"}},
    }


def api_of(server: Server, timeout: float | None = None) -> BigQuery:
    return BigQuery(auth_of(server.url).dw_tokens, Deadline(timeout))


def always(status: int, content: Any) -> Callable[[BaseHTTPRequestHandler], None]:
    return lambda handler: reply(handler, status, content if isinstance(content, str) else json.dumps(content))


def in_turn(*answers: tuple[int, Any]) -> Callable[[BaseHTTPRequestHandler], None]:
    left = list(answers)

    def answer(handler: BaseHTTPRequestHandler) -> None:
        status, content = left.pop(0) if len(left) > 1 else left[0]
        reply(handler, status, json.dumps(content))

    return answer


REFUSED = {"error": {"code": 400, "message": "Syntax error", "errors": [{"reason": "invalidQuery"}]}}


def test_a_job_is_looked_for_in_its_location() -> None:
    with bigquery(always(200, job()), *TOKENS) as server:
        found = run(api_of(server).get("j", "EU"))
        assert found is not None
        assert (found.job_id, found.location, found.state, found.failed) == ("j", "EU", "DONE", False)
        ((method, path, query, token),) = calls_to(server)
    assert (method, path, query["location"]) == ("GET", "/bigquery/v2/projects/p/jobs/j", ["EU"])
    assert token == f"Bearer {TOKENS[0]}"


def test_a_job_that_does_not_exist_is_none_and_cannot_be_cancelled() -> None:
    with bigquery(always(404, {"error": {"code": 404, "message": "Not found: Job"}})) as server:
        api = api_of(server)
        assert run(api.get("j", None)) is None
        assert run(api.cancel("j", None)) is False


def test_an_invalid_id_does_not_lead_to_another_path() -> None:
    with bigquery(always(404, {})) as server:
        run(api_of(server).get("../queries/x?y=z", None))
        assert calls_to(server)[0][1] == "/bigquery/v2/projects/p/jobs/..%2Fqueries%2Fx%3Fy%3Dz"


# Tokens


@pytest.mark.parametrize("refused", [1, 2])
def test_a_token_that_is_refused_is_replaced(refused: int) -> None:
    with bigquery(in_turn(*[(401, {})] * refused, (200, job())), *TOKENS) as server:
        assert run(api_of(server).get("j", None))
        assert [call[3] for call in calls_to(server)] == [f"Bearer {token}" for token in TOKENS[: refused + 1]]


def test_a_401_for_every_token_is_raised() -> None:
    with bigquery(always(401, {"error": {"message": "no"}}), *TOKENS) as server:
        with pytest.raises(Unauthorized):
            auth_of(server.url).warehouse().wait_for("j")
        assert [call[3] for call in calls_to(server)] == [f"Bearer {token}" for token in TOKENS]


def test_twenty_calls_that_are_refused_for_good_request_a_handful_of_tokens() -> None:
    with bigquery(always(401, {"error": {"message": "no"}}), *(f"token{number}" for number in range(100))) as server:
        warehouse = auth_of(server.url).warehouse()
        for _ in range(20):
            with pytest.raises(Unauthorized):
                warehouse.wait_for("j")
        assert sum(request.path.startswith("/v3/") for request in server.requests) <= 6


# Errors


@pytest.mark.parametrize(
    ("status", "content", "error"),
    [(400, REFUSED, BadRequest), (403, {"error": {"message": "no"}}, Forbidden), (200, "<html>", BadGateway)],
)
def test_what_bigquery_refuses_is_googles_own_error(
    status: int, content: Any, error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rest, "PATIENCE", 0.1)
    with bigquery(always(status, content), *TOKENS) as server:
        raised = raised_by(lambda: auth_of(server.url).warehouse().wait_for("j"))
    assert type(raised) is error
    assert_shows_no_secret(raised, *TOKENS)
    assert getattr(raised, "response", None) is None


def test_inside_the_package_a_refusal_is_a_failed_call_with_bigquerys_words() -> None:
    with bigquery(always(400, REFUSED)) as server:
        failure = raised_by(lambda: run(api_of(server).get("j", None)))
    assert isinstance(failure, CallFailed)
    assert (failure.status, failure.transient, failure.reasons) == (400, False, [{"reason": "invalidQuery"}])
    assert failure.message == f"GET {server.url}/bigquery/v2/projects/p/jobs/j: Syntax error"
    assert (failure.__cause__, failure.__context__) == (None, None)


def test_a_network_that_fails_is_an_error_without_the_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rest, "PATIENCE", 0.1)
    with bigquery(lambda handler: handler.connection.close(), *TOKENS) as server:
        raised = raised_by(lambda: auth_of(server.url).warehouse().wait_for("j"))
    assert type(raised) is TransportError
    assert server.url in str(raised)
    assert_shows_no_secret(raised, *TOKENS)


def test_what_cannot_pass_is_raised_at_once_and_is_no_transport_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/no/such/file.pem")
    with bigquery(always(200, job())) as server:
        warehouse = auth_of(server.url, bigquery_endpoint="https://127.0.0.1:1").warehouse()
        raised = raised_by(lambda: warehouse.wait_for("j", timeout=60))
    assert type(raised) is GoogleAuthError
    assert "REQUESTS_CA_BUNDLE" in str(raised)


@pytest.mark.parametrize("call", ["query", "begin_query", "result", "wait_for", "cancel", "load"])
def test_an_outage_of_carto_is_raised_at_once(call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)
    with serving(answers(503)) as server:
        warehouse = auth_of(server.url).warehouse()
        arguments = ([{"a": 1}], "d.t") if call == "load" else ("SELECT 1",)
        with pytest.raises(ServiceUnavailable):
            getattr(warehouse, call)(*arguments)


# What is repeated


@pytest.mark.parametrize("status", [429, 500, 502, 503])
def test_a_call_is_repeated_while_that_may_help(status: int) -> None:
    with bigquery(in_turn((status, {}), (status, {}), (200, job()))) as server:
        assert run(api_of(server).get("j", None)) is not None
        assert len(calls_to(server)) == 3


def test_a_reason_that_passes_is_repeated_whatever_the_status() -> None:
    busy = {"error": {"code": 403, "message": "slow down", "errors": [{"reason": "rateLimitExceeded"}]}}
    with bigquery(in_turn((403, busy), (200, job()))) as server:
        assert run(api_of(server).get("j", None)) is not None
        assert len(calls_to(server)) == 2


@pytest.mark.parametrize(("status", "content"), [(400, REFUSED), (403, {}), (409, {}), (501, {})])
def test_what_does_not_pass_is_raised_at_once(status: int, content: Any) -> None:
    with bigquery(always(status, content)) as server:
        with pytest.raises(CallFailed):
            run(api_of(server).get("j", None))
        assert len(calls_to(server)) == 1


def test_in_the_end_the_last_failure_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rest, "PATIENCE", 0.2)
    with bigquery(always(503, {})) as server:
        with pytest.raises(CallFailed) as raised:
            run(api_of(server).get("j", None))
        assert len(calls_to(server)) > 1
    assert raised.value.status == 503


# Time limits and interruptions


def call_of(warehouse: CartoWarehouse, name: str, **options: Any) -> Any:
    """Call a method, or its async twin if the name begins with `a`."""
    arguments = ([{"a": 1}], "d.t") if name.endswith("load") else ("SELECT 1",)
    outcome = getattr(warehouse, name)(*arguments, **options)
    return asyncio.run(outcome) if asyncio.iscoroutine(outcome) else outcome


@pytest.mark.parametrize("name", ["query", "load", "result", "aquery", "aload", "aresult"])
def test_an_outage_does_not_outlast_the_time_limit(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rest, "FIRST_PAUSE", 1.0)
    with bigquery(always(503, {}), *TOKENS) as server:
        warehouse = auth_of(server.url, location="EU").warehouse()
        started = time.monotonic()
        raised = raised_by(lambda: call_of(warehouse, name, timeout=2))
        took = time.monotonic() - started

    assert type(raised) is TimeoutError
    assert 1.9 < took < 10, "the job may be cancelled in two further seconds; without a limit it were 600"
    assert_shows_no_secret(raised, *TOKENS)


@pytest.mark.parametrize("name", ["query", "aquery"])
def test_a_bigquery_that_does_not_answer_does_not_outlast_the_time_limit(name: str) -> None:
    with bigquery(lambda handler: time.sleep(15), *TOKENS) as server:
        warehouse = auth_of(server.url, location="EU").warehouse()
        started = time.monotonic()
        raised = raised_by(lambda: call_of(warehouse, name, timeout=1))
        took = time.monotonic() - started

    assert type(raised) is TimeoutError
    assert 0.9 < took < 12


@pytest.mark.parametrize("name", ["query", "aquery"])
def test_a_job_whose_beginning_took_too_long_is_cancelled(name: str) -> None:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        if handler.path.split("?")[0].endswith("/jobs"):
            time.sleep(3)
        reply(handler, 200, json.dumps(job(state="RUNNING")))

    with bigquery(answer) as server:
        with pytest.raises(TimeoutError):
            call_of(auth_of(server.url, location="EU").warehouse(), name, timeout=1)
        assert any(path.endswith("/cancel") for _, path, _, _ in calls_to(server))


class TimeLimit(BaseException):
    """What a task's time limit raises, as Airflow's does."""


@pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="needs SIGALRM")
@pytest.mark.parametrize("name", ["query", "load"])
def test_an_alarm_in_the_middle_of_a_call_finds_no_token_in_any_frame(name: str) -> None:
    def interrupt(*_: object) -> None:
        raise TimeLimit

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with bigquery(lambda handler: time.sleep(4), *TOKENS) as server:
            warehouse = auth_of(server.url, location="EU").warehouse()
            warehouse._tokens.get()
            signal.setitimer(signal.ITIMER_REAL, 1.0)
            raised = raised_by(lambda: call_of(warehouse, name))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)

    assert isinstance(raised, TimeLimit)
    frames = [frame for frame, _ in traceback.walk_tb(raised.__traceback__)]
    assert any("carto_auth_integrations" in frame.f_code.co_filename for frame in frames)
    assert not any("urllib3" in frame.f_code.co_filename for frame in frames)
    assert_shows_no_secret(raised, *TOKENS)
    held = [text for frame in frames for value in frame.f_locals.values() for text in _strings_in(value)]
    assert not [text for text in held if text in TOKENS or text.startswith("Bearer ")]


def _strings_in(value: Any, depth: int = 3) -> Iterator[str]:
    """Yield the strings in a local variable: what a debugger that unfolds containers and attributes would show."""
    if isinstance(value, (str, bytes)):
        yield value.decode("latin-1") if isinstance(value, bytes) else str.__str__(value)
    elif depth and isinstance(value, dict):
        for each in value.items():
            yield from _strings_in(each, depth - 1)
    elif depth and isinstance(value, (list, tuple, set)):
        for each in value:
            yield from _strings_in(each, depth - 1)
    elif depth and hasattr(value, "__dict__") and not isinstance(value, type):
        yield from _strings_in(vars(value), depth - 1)


# Where


@pytest.fixture
def elsewhere() -> Iterator[tuple[CartoWarehouse, Server]]:
    """Yield the warehouse of an account that names no location, whose jobs run in the EU and are found there alone."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        place = parse_qs(urlsplit(handler.path).query).get("location")
        if handler.path.split("?")[0].endswith("/jobs"):
            reply(handler, 200, json.dumps(job(state="RUNNING")))
        elif place == ["EU"]:
            reply(handler, 200, json.dumps(job()))
        else:
            reply(handler, 404, json.dumps({"error": {"message": "Not found: Job p:j"}}))

    with bigquery(answer) as server:
        yield auth_of(server.url).warehouse(), server


def test_what_begins_a_job_returns_where_it_runs(elsewhere: tuple[CartoWarehouse, Server]) -> None:
    warehouse, _ = elsewhere
    begun = warehouse.begin_query("SELECT 1")
    assert (begun.job_id, begun.location) == ("j", "EU")
    warehouse.wait_for(begun)
    warehouse.cancel(begun)
    warehouse.result(begun)


def test_a_query_is_waited_for_where_it_runs(elsewhere: tuple[CartoWarehouse, Server]) -> None:
    warehouse, _ = elsewhere
    assert warehouse.query("SELECT 1").location == "EU"


def test_a_job_elsewhere_needs_its_location(elsewhere: tuple[CartoWarehouse, Server]) -> None:
    warehouse, _ = elsewhere
    for call in (warehouse.wait_for, warehouse.result, warehouse.cancel):
        with pytest.raises(NotFound, match="pass its location"):
            call("j")
        call("j", location="EU")
    with pytest.raises(NotFound, match="pass its location"):
        asyncio.run(warehouse.acancel("j"))


def test_without_a_location_the_accounts_own_is_tried(elsewhere: tuple[CartoWarehouse, Server]) -> None:
    _, server = elsewhere
    auth_of(server.url, location="EU").warehouse().wait_for("j")


# Endpoints


def test_the_endpoint_is_the_accounts_own_then_the_emulators_then_googles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BIGQUERY_EMULATOR_HOST", raising=False)
    assert endpoint_of(account_for("http://127.0.0.1:1")) == "https://bigquery.googleapis.com"
    monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", "http://localhost:9050")
    assert endpoint_of(account_for("http://127.0.0.1:1")) == "http://localhost:9050"
    assert endpoint_of(account_for("http://127.0.0.1:1", bigquery_endpoint="http://127.0.0.1:2")) == (
        "http://127.0.0.1:2"
    )


def test_an_emulator_on_another_machine_gets_no_token_over_plain_http(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", "http://somewhere.example:9050")
    (tmp_path / "a.csv").write_text("a\n1\n")
    with bigquery(always(200, job())) as server:
        auth = CartoAuth.from_mapping(fields_for(server.url, token_store="memory:", location="EU"))
        warehouse = auth.warehouse()
        for call in (
            lambda: warehouse.query("SELECT 1"),
            lambda: warehouse.load(tmp_path / "a.csv", "d.t"),
            lambda: asyncio.run(warehouse.aquery("SELECT 1")),
            lambda: asyncio.run(warehouse.aload(tmp_path / "a.csv", "d.t")),
            auth.get_carto_dw_client,
        ):
            with pytest.raises(InvalidField, match="BIGQUERY_EMULATOR_HOST"):
                call()


# Imports


def test_waiting_for_a_job_imports_nothing_of_googles(elsewhere: tuple[CartoWarehouse, Server]) -> None:
    """Their import holds an event loop for tens of milliseconds, and takes a second."""
    _, server = elsewhere
    fields = fields_for(server.url, bigquery_endpoint=server.url, token_store="memory:")
    (output,) = run_processes(
        1,
        f"""
        import asyncio, sys
        from carto_auth_integrations import CartoAuth
        warehouse = CartoAuth.from_mapping({fields!r}).warehouse()

        async def use():
            begun = await warehouse.abegin_query("SELECT @p", parameters={{"p": 1}}, labels={{"a": "b"}})
            await warehouse.await_for(begun)
            await warehouse.aresult(begun)

        asyncio.run(use())
        print(sorted(name for name in ("google", "pandas", "pyarrow") if name in sys.modules))
        """,
    )
    assert output == "[]"


def test_loading_a_file_imports_nothing_of_googles(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a\n1\n")
    with TinyBigQuery() as server:
        fields = fields_for(server.url, bigquery_endpoint=server.url, token_store="memory:")
        (output,) = run_processes(
            1,
            f"""
            import sys
            from carto_auth_integrations import CartoAuth
            CartoAuth.from_mapping({fields!r}).warehouse().load({str(tmp_path / "a.csv")!r}, "d.t")
            print(sorted(name for name in sys.modules if name.partition(".")[0] == "google"))
            """,
        )
        assert len(server.loaded()) == 1
    assert output == "[]"
