"""Law 3: a broken endpoint is asked once per back-off by the whole host; every caller gets the typed error at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from carto_auth_integrations import CartoAuth, ClientRejected, CredentialsError, ServiceUnavailable, http
from carto_auth_integrations.sandbox import Sandbox
from tests.support.processes import run_processes


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
