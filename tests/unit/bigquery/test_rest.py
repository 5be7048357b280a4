"""BigQuery's REST API for jobs: tokens, errors, what is tried again, and where a job is looked for."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from google.api_core.exceptions import BadGateway, BadRequest, Forbidden, NotFound, Unauthorized
from google.auth.exceptions import GoogleAuthError, TransportError

from carto_auth_integrations import CartoAuth, ServiceUnavailable
from carto_auth_integrations.bigquery import rest
from carto_auth_integrations.bigquery.rest import JobsApi, retried
from carto_auth_integrations.warehouse import CartoWarehouse
from carto_auth_integrations.warehouse.steps import drive
from tests.support.core import Server, answers, assert_shows_no_secret, fields_for, hurry, raised_by, reply, serving
from tests.support.processes import run_processes

TOKENS = ("hunter2-first", "hunter2-second", "hunter2-third")
"""The DW tokens that CARTO gives, one after the other."""


def job(location: str = "EU", state: str = "DONE", **status: Any) -> dict[str, Any]:
    return {
        "jobReference": {"projectId": "p", "jobId": "j", "location": location},
        "status": {"state": state, **status},
        "configuration": {"query": {"query": "SELECT 1"}},
    }


@contextmanager
def bigquery(answer: Callable[[BaseHTTPRequestHandler], None]) -> Iterator[Server]:
    """Serve CARTO's tokens, and BigQuery as the test says."""
    given = iter(TOKENS)

    def route(handler: BaseHTTPRequestHandler) -> None:
        path = urlsplit(handler.path).path
        if path.endswith("/oauth/token"):
            reply(handler, 200, json.dumps({"access_token": "a", "token_type": "Bearer", "expires_in": 86400}))
        elif path.endswith("/carto-dw/token"):
            reply(handler, 200, json.dumps({"projectId": "p", "token": next(given), "expiresIn": 3600}))
        else:
            answer(handler)

    with serving(route) as server:
        yield server


def auth_of(server: Server) -> CartoAuth:
    return CartoAuth.from_mapping(fields_for(server.url, bigquery_endpoint=server.url, token_store="memory:"))


def calls_to(server: Server) -> list[tuple[str, str, dict[str, list[str]], str]]:
    """Give method, path, query and token of each call to BigQuery."""
    seen = []
    for request in server.requests:
        parts = urlsplit(request.path)
        if parts.path.startswith("/bigquery/"):
            seen.append((request.method, parts.path, parse_qs(parts.query), request.headers["authorization"]))
    return seen


def always(status: int, content: Any) -> Callable[[BaseHTTPRequestHandler], None]:
    return lambda handler: reply(handler, status, content if isinstance(content, str) else json.dumps(content))


def in_turn(*answers: tuple[int, Any]) -> Callable[[BaseHTTPRequestHandler], None]:
    left = list(answers)

    def answer(handler: BaseHTTPRequestHandler) -> None:
        status, content = left.pop(0) if len(left) > 1 else left[0]
        reply(handler, status, json.dumps(content))

    return answer


REFUSED = {"error": {"code": 400, "message": "Syntax error", "errors": [{"reason": "invalidQuery"}]}}


def test_a_job_is_asked_for_where_it_is() -> None:
    with bigquery(always(200, job())) as server:
        found = JobsApi(auth_of(server)).get("j", "EU")
        assert found is not None
        assert (found.job_id, found.location, found.state, found.failed) == ("j", "EU", "DONE", False)
        ((method, path, query, token),) = calls_to(server)
    assert (method, path, query["location"]) == ("GET", "/bigquery/v2/projects/p/jobs/j", ["EU"])
    assert token == f"Bearer {TOKENS[0]}"


def test_a_job_that_is_not_there_is_none_and_nothing_is_cancelled() -> None:
    with bigquery(always(404, {"error": {"code": 404, "message": "Not found: Job"}})) as server:
        api = JobsApi(auth_of(server))
        assert api.get("j", None) is None
        assert api.cancel("j", None) is False


def test_an_id_that_is_none_does_not_lead_elsewhere() -> None:
    with bigquery(always(404, {})) as server:
        JobsApi(auth_of(server)).get("../queries/x?y=z", None)
        assert calls_to(server)[0][1] == "/bigquery/v2/projects/p/jobs/..%2Fqueries%2Fx%3Fy%3Dz"


@pytest.mark.parametrize("refused", [1, 2])
def test_a_token_that_is_refused_is_replaced(refused: int) -> None:
    with bigquery(in_turn(*[(401, {})] * refused, (200, job()))) as server:
        assert JobsApi(auth_of(server)).get("j", None)
        assert [call[3] for call in calls_to(server)] == [f"Bearer {token}" for token in TOKENS[: refused + 1]]


def test_where_every_token_is_refused_that_is_the_answer() -> None:
    with bigquery(always(401, {"error": {"message": "no"}})) as server:
        with pytest.raises(Unauthorized):
            JobsApi(auth_of(server)).get("j", None)
        assert [call[3] for call in calls_to(server)] == [f"Bearer {token}" for token in TOKENS]


@pytest.mark.parametrize(
    ("status", "content", "error"),
    [(400, REFUSED, BadRequest), (403, {"error": {"message": "no"}}, Forbidden), (200, "<html>", BadGateway)],
)
def test_what_bigquery_refuses_is_googles_own_error(status: int, content: Any, error: type[Exception]) -> None:
    with bigquery(always(status, content)) as server:
        api = JobsApi(auth_of(server))
        raised = raised_by(lambda: api.get("j", None))
    assert type(raised) is error
    assert_shows_no_secret(raised, *TOKENS)
    response = getattr(raised, "response", None)
    assert response is None or "Authorization" not in response.request.headers


def test_a_network_that_fails_is_told_without_the_token() -> None:
    with bigquery(lambda handler: handler.connection.close()) as server:
        api = JobsApi(auth_of(server))
        raised = raised_by(lambda: api.get("j", None))
    assert type(raised) is TransportError
    assert server.url in str(raised)
    assert_shows_no_secret(raised, *TOKENS)


def test_what_cannot_pass_is_no_transport_error() -> None:
    with bigquery(always(200, job())) as server:
        fields = fields_for(server.url, bigquery_endpoint="http://127.0.0.1:0", token_store="memory:")
        raised = raised_by(lambda: JobsApi(CartoAuth.from_mapping(fields)).get("j", None))
    assert isinstance(raised, GoogleAuthError)


@pytest.mark.parametrize("status", [429, 500, 502, 503])
def test_a_call_is_made_again_while_that_may_help(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rest, "FIRST_PAUSE", 0.01)
    with bigquery(in_turn((status, {}), (status, {}), (200, job()))) as server:
        api = JobsApi(auth_of(server))
        assert drive(retried(lambda: api.get("j", None))) is not None
        assert len(calls_to(server)) == 3


def failing(error: Exception, tries: list[int]) -> Callable[[], None]:
    def call() -> None:
        tries.append(1)
        raise error

    return call


@pytest.mark.parametrize("error", [BadRequest("no"), ValueError("no"), GoogleAuthError("no")])
def test_what_does_not_pass_is_raised_at_once(error: Exception) -> None:
    tries: list[int] = []
    with pytest.raises(type(error)):
        drive(retried(failing(error, tries)))
    assert len(tries) == 1


@pytest.mark.parametrize("error", [TransportError("cut"), ServiceUnavailable("CARTO is down")])
def test_in_the_end_the_error_is_raised(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rest, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(rest, "PATIENCE", 0.05)
    tries: list[int] = []
    with pytest.raises(type(error)):
        drive(retried(failing(error, tries)))
    assert 1 < len(tries) < 10


@pytest.mark.parametrize("call", ["query", "begin_query", "wait_for", "cancel", "load"])
def test_a_carto_that_is_down_is_told_at_once(call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)
    with serving(answers(503)) as server:
        warehouse = auth_of(server).warehouse()
        arguments = ([{"a": 1}], "d.t") if call == "load" else ("SELECT 1",)
        with pytest.raises(ServiceUnavailable):
            getattr(warehouse, call)(*arguments)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_has_connections_of_its_own() -> None:
    with bigquery(always(200, job())) as server:
        api = JobsApi(auth_of(server))
        api.get("j", None)
        ours = api._session_for(server.url)
        assert api._session_for(server.url) is ours
        child = os.fork()
        if child == 0:
            os._exit(0 if api._session_for(server.url) is not ours else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.fixture
def elsewhere() -> Iterator[tuple[CartoWarehouse, Server]]:
    """Give the warehouse of an account that names no location, whose jobs run in the EU and are found there alone."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        place = parse_qs(urlsplit(handler.path).query).get("location")
        if handler.path.split("?")[0].endswith("/jobs"):
            reply(handler, 200, json.dumps(job(state="RUNNING")))
        elif place == ["EU"]:
            reply(handler, 200, json.dumps(job()))
        else:
            reply(handler, 404, json.dumps({"error": {"message": "Not found: Job p:j"}}))

    with bigquery(answer) as server:
        yield auth_of(server).warehouse(), server


def test_the_location_of_a_job_that_was_begun_here_is_remembered(elsewhere: tuple[CartoWarehouse, Server]) -> None:
    warehouse, _ = elsewhere
    begun = warehouse.begin_query("SELECT 1")
    assert (begun.job_id, begun.location) == ("j", "EU")
    warehouse.wait_for("j")
    warehouse.cancel("j")


def test_a_job_of_others_elsewhere_needs_its_location(elsewhere: tuple[CartoWarehouse, Server]) -> None:
    warehouse, _ = elsewhere
    for call in (warehouse.wait_for, warehouse.cancel):
        with pytest.raises(NotFound, match="give its location"):
            call("j")
        call("j", location="EU")
    with pytest.raises(NotFound, match="give its location"):
        asyncio.run(warehouse.acancel("j"))


def test_the_accounts_location_is_taken_where_none_is_known(elsewhere: tuple[CartoWarehouse, Server]) -> None:
    _, server = elsewhere
    fields = fields_for(server.url, bigquery_endpoint=server.url, token_store="memory:", location="EU")
    CartoAuth.from_mapping(fields).warehouse().wait_for("j")


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
            await warehouse.await_for(begun.job_id)

        asyncio.run(use())
        print(sorted(name for name in ("google", "pandas", "pyarrow") if name in sys.modules))
        """,
    )
    assert output == "[]"
