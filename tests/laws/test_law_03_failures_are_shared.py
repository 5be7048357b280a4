"""Law 3: the whole host calls a broken endpoint once per back-off; every caller gets the typed error at once."""

from __future__ import annotations

import json
import shutil
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from google.api_core.exceptions import Unauthorized

from carto_auth_integrations import CartoAuth, ClientRejected, CredentialsError, ServiceUnavailable, http
from carto_auth_integrations.sandbox import Sandbox
from tests.support.accounts import auth_for, fields_for
from tests.support.processes import run_processes
from tests.support.servers import Server, answers, reply, serving


@pytest.fixture
def credentials(carto_sandbox: Sandbox, tmp_path: Path) -> Path:
    return carto_sandbox.write_credentials(tmp_path / "credentials.json")


def failure_of(auth: CartoAuth) -> CredentialsError:
    with pytest.raises(CredentialsError) as caught:
        auth.get_access_token()
    return caught.value


def test_64_threads_at_an_endpoint_that_refuses_make_one_request_and_each_has_its_own_error(
    carto_sandbox: Sandbox, credentials: Path, tmp_path: Path
) -> None:
    carto_sandbox.fault("token", delay=0.5, status=401)
    auth = CartoAuth.from_m2m(credentials, cache_filepath=tmp_path / "tokens.json")

    with ThreadPoolExecutor(64) as pool:
        errors = list(pool.map(failure_of, [auth] * 64))

    assert {type(error) for error in errors} == {ClientRejected}
    assert len({id(error) for error in errors}) == 64
    assert carto_sandbox.stats().count("token") == 1


def test_32_processes_at_an_endpoint_that_refuses_make_one_request(
    carto_sandbox: Sandbox, credentials: Path, tmp_path: Path
) -> None:
    carto_sandbox.fault("token", delay=1.0, status=401)
    outputs = run_processes(
        32,
        f"""
        from carto_auth_integrations import CartoAuth, CredentialsError
        try:
            CartoAuth.from_m2m({str(credentials)!r}, cache_filepath={str(tmp_path / "t.json")!r}).get_access_token()
        except CredentialsError as error:
            print(type(error).__name__)
        """,
    )

    assert outputs == ["ClientRejected"] * 32
    assert carto_sandbox.stats().count("token") == 1


def test_an_endpoint_that_is_down_is_tried_by_one_caller_for_all(
    carto_sandbox: Sandbox, credentials: Path, tmp_path: Path
) -> None:
    carto_sandbox.fault("token", status=503)
    auth = CartoAuth.from_m2m(credentials, cache_filepath=tmp_path / "tokens.json")

    with ThreadPoolExecutor(16) as pool:
        errors = list(pool.map(failure_of, [auth] * 16))

    assert {type(error) for error in errors} == {ServiceUnavailable}
    assert carto_sandbox.stats().count("token") == http.ATTEMPTS


def test_the_next_process_is_told_what_the_last_one_was(
    carto_sandbox: Sandbox, credentials: Path, tmp_path: Path
) -> None:
    carto_sandbox.fault("token", status=429, retry_after=300)
    script = f"""
        from carto_auth_integrations import CartoAuth, ServiceUnavailable
        try:
            CartoAuth.from_m2m({str(credentials)!r}, cache_filepath={str(tmp_path / "t.json")!r}).get_access_token()
        except ServiceUnavailable as error:
            print(200 < error.retry_after <= 300)
        """
    assert run_processes(1, script) == ["True"]
    assert run_processes(1, script) == ["True"]
    assert carto_sandbox.stats().count("token") == 1


def test_another_secret_is_asked_with_at_once(carto_sandbox: Sandbox, tmp_path: Path) -> None:
    store = str(tmp_path / "tokens.json")
    wrong = CartoAuth.from_mapping({**carto_sandbox.account, "client_secret": "mistyped", "token_store": store})
    assert isinstance(failure_of(wrong), ClientRejected)

    right = CartoAuth.from_mapping({**carto_sandbox.account, "token_store": store})
    assert right.get_access_token()


# What is wrong with one process stays in it


@pytest.fixture
def secure_server(tmp_path: Path) -> Iterator[tuple[Server, str]]:
    """A token endpoint with https, and the file of its certificate."""
    if not shutil.which("openssl"):
        pytest.skip("needs openssl")
    certificate, key = str(tmp_path / "certificate.pem"), str(tmp_path / "key.pem")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    options = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-out", certificate, "-keyout", key]
    subprocess.run([*command, *options], capture_output=True, check=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with serving(answers(200, json.dumps({"access_token": "the-token", "expires_in": 3600}))) as server:
        server._server.socket = context.wrap_socket(server._server.socket, server_side=True)
        server.url = server.url.replace("http://", "https://")
        yield server, certificate


def dead_proxy() -> str:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.parametrize("reason", ["a dead proxy", "no certificate authority"])
def test_a_failure_of_one_process_is_not_stored_and_another_process_works(
    secure_server: tuple[Server, str], tmp_path: Path, reason: str
) -> None:
    server, certificate = secure_server
    store = tmp_path / "tokens.json"
    script = f"""
        from carto_auth_integrations import CartoAuth, ServiceUnavailable
        auth = CartoAuth.from_mapping({fields_for(server.url, token_store=str(store))!r})
        for _ in range(2):
            try:
                print(auth.get_access_token())
            except ServiceUnavailable as error:
                print(error)
        """
    healthy = {"REQUESTS_CA_BUNDLE": certificate, "NO_PROXY": "", "no_proxy": "", "HTTPS_PROXY": "", "https_proxy": ""}
    proxy = dead_proxy()
    broken = {"HTTPS_PROXY": proxy, "https_proxy": proxy} if "proxy" in reason else {"REQUESTS_CA_BUNDLE": ""}

    (failed,) = run_processes(1, script, **{**healthy, **broken})
    assert not store.exists() or json.loads(store.read_text())["tokens"] == {}
    (worked,) = run_processes(1, script, **healthy)

    first, second = failed.splitlines()
    assert ("through the proxy" if "proxy" in reason else "no certificate that this machine trusts") in first
    assert "not asked again" in second, "in the process itself it is remembered"
    assert worked.splitlines() == ["the-token"] * 2
    assert len(server.requests) == 1


# A warehouse that refuses every token


def queries_of_the_warehouse(auth: CartoAuth) -> Callable[[], object]:
    warehouse = auth.warehouse()
    return lambda: warehouse.query("SELECT 1")


def queries_of_googles_client(auth: CartoAuth) -> Callable[[], object]:
    client = auth.get_carto_dw_client()
    return lambda: client.query_and_wait("SELECT 1")


@pytest.mark.parametrize("queries", [queries_of_the_warehouse, queries_of_googles_client])
def test_20_queries_at_a_bigquery_that_answers_401_for_good_exchange_a_handful_of_tokens(
    carto_sandbox: Sandbox, tmp_path: Path, queries: Callable[[CartoAuth], Callable[[], object]]
) -> None:
    refusal = json.dumps({"error": {"code": 401, "message": "Invalid credentials", "errors": []}})
    with serving(lambda handler: reply(handler, 401, refusal)) as bigquery:
        query = queries(auth_for(carto_sandbox, tmp_path, bigquery_endpoint=bigquery.url))
        for _ in range(20):
            with pytest.raises(Unauthorized):
                query()

    assert carto_sandbox.stats().count("dw_token") <= 10
    assert carto_sandbox.stats().count("token") == 1
