"""The Airflow hook: what it makes of a connection, what Airflow reads about it, and that no token shows in a log."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import airflow
import jsonschema
import pytest
from airflow.providers_manager import ProvidersManager
from airflow.sdk import Connection
from airflow.sdk.log import redact

import airflow_provider.hooks.carto as hook_module
from airflow_provider import STANDARD_FIELDS, get_provider_info
from airflow_provider.hooks.carto import CartoHook, account_fields, mask_token
from carto_auth_integrations import AccountError
from carto_auth_integrations.fields import FIELDS
from carto_auth_integrations.sandbox import Sandbox
from carto_auth_integrations.tokens import Token
from tests.support import SECRET, assert_shows_no_secret, raised_by

BASE = "https://gcp-us-east1.api.carto.com"
FORM = {"conn_type": "carto", "host": BASE, "login": "the-client", "password": SECRET}
HEAVY = ("google.auth", "google.cloud", "pandas", "pyarrow", "requests")


def connection(**fields: Any) -> Connection:
    return Connection(conn_id="carto_default", **{**FORM, **fields})


def from_uri(uri: str) -> Connection:
    return Connection.from_uri(uri, conn_id="carto_default")


def revealed(connection: Connection) -> dict[str, Any]:
    fields = account_fields(connection)
    return {name: value.reveal() if FIELDS[name].kind == "secret" else value for name, value in fields.items()}


@pytest.fixture
def sandbox_connection(carto_sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Sandbox:
    """The sandbox's account as `carto_default`, the way a deployment gives it: as JSON in the environment."""
    account = carto_sandbox.account
    extra = {"auth_url": account["auth_url"], "bigquery_endpoint": account["bigquery_endpoint"]}
    fields = {
        "conn_type": "carto",
        "host": account["api_base_url"],
        "login": account["client_id"],
        "password": account["client_secret"],
        "extra": {**extra, "token_store": str(tmp_path / "tokens.json")},
    }
    monkeypatch.setenv("AIRFLOW_CONN_CARTO_DEFAULT", json.dumps(fields))
    return carto_sandbox


@pytest.fixture
def masked() -> Iterator[list[str]]:
    """What Airflow was asked to mask."""
    values: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hook_module, "mask_secret", values.append)
        yield values


def test_the_form_gives_host_login_and_password() -> None:
    expected = {"api_base_url": BASE, "client_id": "the-client", "client_secret": SECRET}
    assert revealed(connection()) == expected


def test_extras_of_the_form_give_the_other_fields() -> None:
    extra = json.dumps({"audience": "other", "location": "EU"})
    fields = revealed(connection(extra=extra))
    assert (fields["audience"], fields["location"]) == ("other", "EU")


def test_an_extra_takes_the_place_of_a_standard_field() -> None:
    fields = revealed(connection(extra=json.dumps({"api_base_url": "https://other.example.org"})))
    assert fields["api_base_url"] == "https://other.example.org"


@pytest.mark.parametrize(
    ("uri", "base"),
    [
        ("carto://the-client:{}@gcp-us-east1.api.carto.com", BASE),
        ("carto://the-client:{}@gcp-us-east1.api.carto.com/", BASE),
        ("carto://the-client:{}@carto.example.org/api", "https://carto.example.org/api"),
        ("carto://the-client:{}@carto.example.org:8443", "https://carto.example.org:8443"),
        ("carto://the-client:{}@http%3A%2F%2F127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("carto://the-client:{}@/?api_base_url=https%3A%2F%2Fcarto.example.org%2Fapi", "https://carto.example.org/api"),
    ],
)
def test_a_uri_gives_the_account(uri: str, base: str) -> None:
    expected = {"api_base_url": base, "client_id": "the-client", "client_secret": SECRET}
    assert revealed(from_uri(uri.format(SECRET))) == expected


def test_a_uri_variable_is_a_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_CARTO_DEFAULT", f"carto://the-client:{SECRET}@gcp-us-east1.api.carto.com")
    assert CartoHook().auth.account.client_id == "the-client"


def test_an_unknown_extra_is_ignored_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    assert "audiense" not in account_fields(connection(extra=json.dumps({"audiense": "x"})))
    assert "did you mean audience?" in caplog.text


def test_extras_for_sql_are_no_mistakes(caplog: pytest.LogCaptureFixture) -> None:
    account_fields(connection(extra=json.dumps({"placeholder": "?"})))
    assert not caplog.records


def test_a_missing_field_is_named_and_the_error_shows_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_CARTO_DEFAULT", json.dumps({**FORM, "login": ""}))
    error = raised_by(lambda: CartoHook().auth)
    assert isinstance(error, AccountError)
    assert "client_id" in str(error)
    assert_shows_no_secret(error)


def test_the_hook_tolerates_what_sql_operators_pass_along() -> None:
    hook = CartoHook(carto_conn_id="other", log_sql=False, audience="an extra")
    assert (hook.get_conn_id(), hook.log_sql) == ("other", False)


def test_airflow_finds_the_hook_by_its_connection_type() -> None:
    assert isinstance(connection().get_hook(), CartoHook)


def test_the_hook_gives_tokens_and_each_is_masked(sandbox_connection: Sandbox, masked: list[str]) -> None:
    hook = CartoHook()
    project, dw_token = hook.get_carto_dw_credentials()
    assert project == sandbox_connection.options.project_id
    assert set(masked) == {hook.get_access_token(), dw_token}


def test_the_async_twins_give_the_same_tokens(sandbox_connection: Sandbox, masked: list[str]) -> None:
    async def tokens() -> tuple[str, tuple[str, str]]:
        hook = CartoHook()
        return await hook.aget_access_token(), await hook.aget_carto_dw_credentials()

    access_token, (_, dw_token) = asyncio.run(tokens())
    assert (CartoHook().get_access_token(), CartoHook().get_carto_dw_credentials()[1]) == (access_token, dw_token)
    assert set(masked) == {access_token, dw_token}
    assert sandbox_connection.stats().count("token") == 1


@pytest.mark.usefixtures("sandbox_connection")
def test_sql_through_the_hook_gives_plain_tuples() -> None:
    hook = CartoHook(log_sql=False)
    assert hook.get_records("SELECT 1 AS one, 'a' AS letter UNION ALL SELECT 2, 'b' ORDER BY 1") == [(1, "a"), (2, "b")]
    assert hook.get_first("SELECT %(number)s AS number", parameters={"number": 7}) == (7,)
    assert type(hook.run("SELECT 1 AS one", handler=lambda cursor: cursor.fetchone())) is tuple
    assert hook.run("CREATE OR REPLACE TABLE shared.from_hook AS SELECT 1 AS one") is None


@pytest.mark.usefixtures("sandbox_connection")
def test_the_connection_test_answers() -> None:
    assert CartoHook(log_sql=False).test_connection() == (True, "Connection successfully tested")


def test_a_masked_token_shows_in_no_log_line() -> None:
    mask_token(Token("hunter2-minted-token", obtained_at=0.0))
    assert redact("Bearer hunter2-minted-token") == "Bearer ***"


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


def test_provider_info_fits_airflows_schema_and_this_distribution() -> None:
    schema = json.loads((Path(airflow.__file__).parent / "provider_info.schema.json").read_text())
    info = get_provider_info()
    jsonschema.validate(info, schema)
    assert info["package-name"] == distribution("carto-auth-integrations").name


def test_airflow_loads_provider_info_from_the_entry_point() -> None:
    loaded = ProvidersManager().providers["carto-auth-integrations"]
    assert loaded.data.items() >= get_provider_info().items()


def test_the_form_has_every_field_of_the_account() -> None:
    (form,) = get_provider_info()["connection-types"]
    assert {*form["conn-fields"], *STANDARD_FIELDS.values()} == set(FIELDS)
    assert form["conn-fields"]["access_token"]["schema"]["format"] == "password"
    assert form["ui-field-behaviour"]["relabeling"]["host"] == "API base URL"


def test_airflow_builds_the_form_without_importing_the_hook() -> None:
    behaviour = ProvidersManager().field_behaviours["carto"]
    assert behaviour["relabeling"] == {"host": "API base URL", "login": "Client ID", "password": "Client secret"}
    assert "extra__carto__token_store" in ProvidersManager().connection_form_widgets


def test_importing_the_hook_imports_nothing_heavy() -> None:
    code = f"import sys, airflow_provider.hooks.carto; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "[]"
