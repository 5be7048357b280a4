"""The Airflow hook: its tokens, its async twins, its connection test, and that no token shows in a log."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from airflow.providers.common.compat.sdk import redact

import airflow_provider.hooks.carto as hook_module
from airflow_provider.hooks.carto import CartoHook, mask_token
from carto_auth_integrations import AccountError
from carto_auth_integrations.sandbox import Sandbox
from carto_auth_integrations.tokens.token import Token
from tests.support.accounts import SECRET
from tests.support.airflow_connection import connection_of, set_connection
from tests.support.clocks import hurry
from tests.support.leaks import assert_shows_no_secret, raised_by
from tests.support.threads import Outcome

HEAVY = ("google.auth", "google.cloud", "pandas", "pyarrow", "requests")


@pytest.fixture
def sandbox_connection(carto_sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Sandbox:
    """The sandbox's account as `carto_default`."""
    set_connection(monkeypatch, connection_of(carto_sandbox, tmp_path / "tokens.json"))
    return carto_sandbox


@pytest.fixture
def masked() -> Iterator[list[str]]:
    """The values that Airflow was asked to mask."""
    values: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hook_module, "mask_secret", values.append)
        yield values


def test_a_missing_field_is_named_and_the_error_shows_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    fields = {"conn_type": "carto", "host": "https://carto.example.org", "login": "", "password": SECRET}
    set_connection(monkeypatch, fields)
    error = raised_by(lambda: CartoHook().auth)
    assert isinstance(error, AccountError)
    assert "client_id" in str(error)
    assert_shows_no_secret(error)


def test_the_hook_tolerates_what_sql_operators_pass_along() -> None:
    hook = CartoHook(carto_conn_id="other", log_sql=False, audience="an extra")
    assert (hook.get_conn_id(), hook.log_sql) == ("other", False)


def test_the_hook_returns_tokens_and_each_is_masked(sandbox_connection: Sandbox, masked: list[str]) -> None:
    hook = CartoHook()
    project, dw_token = hook.get_carto_dw_credentials()
    assert project == sandbox_connection.options.project_id
    assert set(masked) == {hook.get_access_token(), dw_token}


def test_the_async_twins_return_the_same_tokens(sandbox_connection: Sandbox, masked: list[str]) -> None:
    async def tokens() -> tuple[str, tuple[str, str]]:
        hook = CartoHook()
        return await hook.aget_access_token(), await hook.aget_carto_dw_credentials()

    access_token, (_, dw_token) = asyncio.run(tokens())
    assert (CartoHook().get_access_token(), CartoHook().get_carto_dw_credentials()[1]) == (access_token, dw_token)
    assert set(masked) == {access_token, dw_token}
    assert sandbox_connection.stats().count("token") == 1


def test_the_async_twins_run_queries(sandbox_connection: Sandbox) -> None:
    async def answers() -> list[int]:
        hook = CartoHook()
        client = await hook.aget_carto_dw_client()
        result = await (await hook.aget_carto_warehouse()).aquery("SELECT 1 AS one")
        connection = await hook.aget_conn()
        assert (await hook.aget_auth()) is hook.auth
        assert client.project == sandbox_connection.options.project_id
        return [result.rows[0]["one"], connection is not None]

    assert asyncio.run(answers()) == [1, True]


def test_a_good_connection_passes_its_test(sandbox_connection: Sandbox) -> None:
    passed, message = CartoHook().test_connection()
    assert passed
    assert "All 4 stages passed" in message
    assert sandbox_connection.options.project_id in message
    assert asyncio.run(CartoHook().atest_connection()) == (True, message)


@pytest.mark.parametrize(
    ("change", "stage", "field", "next_step"),
    [
        ({"login": None}, "connection", "client_id", "pass it"),
        ({"host": "carto example org"}, "connection", "api_base_url", "check its spelling"),
        ({"password": "wrong-but-long"}, "credentials", "client_secret", "Check"),
        ({"host": "http://127.0.0.1:9"}, "CARTO API", "api_base_url", "Check"),
    ],
)
def test_the_test_of_a_bad_connection_names_stage_field_and_next_step(
    change: dict[str, str], stage: str, field: str, next_step: str, carto_sandbox: Sandbox, monkeypatch
) -> None:
    hurry(monkeypatch)
    set_connection(monkeypatch, {**connection_of(carto_sandbox, "memory:"), **change})
    passed, message = CartoHook().test_connection()
    assert not passed
    assert message.startswith(f"{stage}: ")
    assert field in message
    assert next_step in message
    assert carto_sandbox.account["client_secret"] not in message
    assert "wrong-but-long" not in message
    again = asyncio.run(CartoHook().atest_connection())
    assert (again[0], again[1].partition(":")[0]) == (False, stage)


def test_a_connection_test_ends_in_time(sandbox_connection: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    assert hook_module.CONNECTION_TEST_TIMEOUT < 10
    monkeypatch.setattr(hook_module, "CONNECTION_TEST_TIMEOUT", 2.5)
    CartoHook().get_access_token()  # what is late is the second stage, also on a machine that stands still for a while
    sandbox_connection.fault("users_me", delay=12.0)
    begun = time.monotonic()
    passed, message = CartoHook().test_connection()
    assert time.monotonic() - begun < 10  # well before CARTO answers
    assert not passed
    assert message.startswith("CARTO API: No answer within the 2.5 s")
    assert "api_base_url" in message


def test_a_masked_token_is_in_no_log_line() -> None:
    mask_token(Token("hunter2-minted-token", obtained_at=0.0))
    assert redact("Bearer hunter2-minted-token") == "Bearer ***"


def test_tokens_that_are_masked_at_once_are_all_masked() -> None:
    together = threading.Barrier(16)

    def mask(value: str) -> None:
        together.wait()
        mask_token(Token(value, obtained_at=0.0))

    for turn in range(20):
        values = [f"hunter2-of-thread-{number:02}-in-turn-{turn:02}" for number in range(16)]
        outcomes = [Outcome(lambda value=value: mask(value)) for value in values]  # type: ignore[misc]  # its default
        for outcome in outcomes:
            outcome.settled()
        assert [redact(value) for value in values] == ["***"] * 16


def test_masking_on_an_event_loop_does_not_wait_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()
    monkeypatch.setattr(hook_module, "mask_secret", lambda _: released.wait(10))

    async def longest() -> float:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        mask_token(Token("hunter2-minted-token", obtained_at=0.0))
        return loop.time() - begun

    assert asyncio.run(longest()) < 0.2  # the wait itself is 0.015 s; a busy machine adds to it
    released.set()


def test_importing_the_hook_imports_nothing_heavy() -> None:
    code = f"""
        import sys
        from airflow.providers.common.compat.sdk import BaseHook
        from airflow.providers.common.sql.hooks.sql import DbApiHook
        before = set(sys.modules)
        import airflow_provider.hooks.carto, airflow_provider.retry
        print([name for name in {HEAVY} if name in set(sys.modules) - before])
    """
    lines = [line.strip() for line in code.strip().splitlines()]
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_uri_names_the_warehouse_and_no_secret(
    carto_sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    project = carto_sandbox.options.project_id
    for dataset, expected in (("shared", "/shared"), (f"{project}.shared", "/shared"), ("other.shared", ""), ("", "")):
        set_connection(monkeypatch, connection_of(carto_sandbox, tmp_path / "tokens.json", default_dataset=dataset))
        hook = CartoHook()
        assert hook.get_uri() == f"bigquery://{project}{expected}"
        assert hook.sqlalchemy_url.render_as_string(hide_password=False) == hook.get_uri()
        assert hook.dialect_name == "bigquery"


def test_openlineage_receives_the_dataset_of_names_without_one(
    carto_sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_connection(monkeypatch, connection_of(carto_sandbox, "memory:", default_dataset="a-project.shared"))
    assert CartoHook().get_openlineage_default_schema() == "shared"
    assert CartoHook().get_openlineage_database_dialect(None) == "bigquery"
    set_connection(monkeypatch, connection_of(carto_sandbox, "memory:"))
    assert CartoHook().get_openlineage_default_schema() is None


def test_without_openlineages_provider_there_is_no_database_info(
    sandbox_connection: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "airflow.providers.openlineage.sqlparser", None)
    assert CartoHook().get_openlineage_database_info(json) is None


@pytest.mark.skipif(find_spec("sqlalchemy_bigquery") is not None, reason="sqlalchemy-bigquery is installed")
def test_without_sqlalchemys_dialect_an_engine_says_what_to_install(sandbox_connection: Sandbox) -> None:
    with pytest.raises(ImportError, match="pip install sqlalchemy-bigquery"):
        CartoHook().get_sqlalchemy_engine()
