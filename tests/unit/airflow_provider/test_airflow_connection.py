"""The connection type: an account from a form, a URI and JSON, and the form in each Airflow."""

from __future__ import annotations

import json
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import Connection, redact

from airflow_provider.connection import STANDARD_FIELDS, account_fields, form_fields, form_widgets
from airflow_provider.hooks.carto import CartoHook
from carto_auth_integrations import CartoAuth
from carto_auth_integrations.account.fields import FIELDS, MODES
from carto_auth_integrations.errors import AccountError
from tests.support.accounts import BEARER, SECRET
from tests.support.airflow_connection import VARIABLE

BASE = "https://gcp-us-east1.api.carto.com"
FORM = {"conn_type": "carto", "host": BASE, "login": "the-client", "password": SECRET}
MASKED = {"access_token", "token_store"}


def connection(**fields: Any) -> Connection:
    return Connection(conn_id="carto_default", **{**FORM, **fields})


def revealed(connection: Connection) -> dict[str, Any]:
    fields = account_fields(connection)
    return {name: value.reveal() if FIELDS[name].kind == "secret" else value for name, value in fields.items()}


def account_in(variable: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return the hook's account for this value of AIRFLOW_CONN_CARTO_DEFAULT."""
    monkeypatch.setenv(VARIABLE, variable)
    account = CartoHook().auth.account
    secret = account.client_secret.reveal() if account.client_secret else None
    return {"api_base_url": account.api_base_url, "client_id": account.client_id, "client_secret": secret}


def test_host_login_and_password_of_the_form_are_read() -> None:
    expected = {"api_base_url": BASE, "client_id": "the-client", "client_secret": SECRET}
    assert revealed(connection()) == expected


def test_the_other_fields_are_read_from_extras() -> None:
    fields = revealed(connection(extra=json.dumps({"audience": "other", "location": "EU"})))
    assert (fields["audience"], fields["location"]) == ("other", "EU")


def test_empty_fields_of_a_form_count_as_left_out() -> None:
    blank = {"api_base_url": "", "auth_mode": None, "access_token": ""}
    assert revealed(connection(extra=json.dumps(blank))) == revealed(connection())


def test_an_extra_overrides_a_standard_field() -> None:
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
def test_an_account_is_read_from_a_uri(uri: str, base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = {"api_base_url": base, "client_id": "the-client", "client_secret": SECRET}
    assert account_in(uri.format(SECRET), monkeypatch) == expected


def test_an_account_is_read_from_json(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = {"api_base_url": BASE, "client_id": "the-client", "client_secret": SECRET}
    assert account_in(json.dumps(FORM), monkeypatch) == expected


def test_an_account_is_read_from_json_with_extras_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = {"api_base_url": BASE, "client_id": "the-client", "client_secret": SECRET}
    assert account_in(json.dumps({"conn_type": "carto", "extra": expected}), monkeypatch) == expected


def test_an_unknown_extra_is_ignored_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    assert "audiense" not in account_fields(connection(extra=json.dumps({"audiense": "x"})))
    assert "did you mean audience?" in caplog.text


def test_extras_for_sql_cause_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    account_fields(connection(extra=json.dumps({"placeholder": "?"})))
    assert not caplog.records


def test_the_form_has_every_field_of_the_account_with_a_description() -> None:
    assert {*form_fields(), *STANDARD_FIELDS.values()} == set(FIELDS)
    assert all(field["description"] and field["label"] for field in form_fields().values())


def test_the_form_offers_the_modes_and_masks_what_is_secret() -> None:
    schemas = {name: field["schema"] for name, field in form_fields().items()}
    assert schemas["auth_mode"]["enum"] == list(MODES)
    assert {name for name, schema in schemas.items() if schema.get("format") == "password"} == MASKED


def test_airflow_masks_the_same_extras_that_the_form_masks() -> None:
    shown = redact({"access_token": BEARER, "token_store": "redis://:pass@redis/0", "location": "EU"})
    assert shown == {"access_token": "***", "token_store": "***", "location": "EU"}


def test_the_widgets_of_older_airflows_have_the_same_fields_and_masks() -> None:
    wtforms = pytest.importorskip("wtforms", reason="comes with Airflow 2")
    pytest.importorskip("flask_appbuilder", reason="comes with Airflow 2")
    fields = {field.name: field for field in type("Form", (wtforms.Form,), form_widgets())()}
    assert {name: (field.label.text, field.description) for name, field in fields.items()} == {
        name: (field["label"], field["description"]) for name, field in form_fields().items()
    }
    assert {name for name, field in fields.items() if isinstance(field, wtforms.PasswordField)} == MASKED


@pytest.mark.parametrize(("mode", "valid"), [("m2m", True), ("", True), ("magic", False)])
def test_the_widget_of_the_mode_accepts_the_modes_alone(mode: str, valid: bool) -> None:
    wtforms = pytest.importorskip("wtforms", reason="comes with Airflow 2")
    pytest.importorskip("flask_appbuilder", reason="comes with Airflow 2")
    from werkzeug.datastructures import MultiDict

    form = type("Form", (wtforms.Form,), form_widgets())
    assert form(MultiDict({"auth_mode": mode})).validate() is valid


@pytest.mark.parametrize(
    ("parts", "url"),
    [
        ({"host": "https://h.example/path", "port": 443}, "https://h.example:443/path"),
        ({"host": "h.example/path", "port": 8443, "schema": "more"}, "https://h.example:8443/path/more"),
        ({"host": "https://h.example:8443/", "port": 8443}, "https://h.example:8443"),
        ({"host": "h.example", "schema": "https"}, "https://h.example"),
        ({"host": "127.0.0.1", "port": 8080, "schema": "http"}, "http://127.0.0.1:8080"),
        ({"host": "https://h.example", "schema": "http"}, "https://h.example"),
        ({"host": "[::1]", "port": 8080, "schema": "http"}, "http://[::1]:8080"),
        ({"host": "h.example", "port": 0}, "https://h.example"),
    ],
)
def test_host_port_and_schema_make_one_url(parts: dict[str, Any], url: str) -> None:
    assert revealed(connection(**parts))["api_base_url"] == url


def test_two_ports_are_refused() -> None:
    with pytest.raises(AccountError, match="api_base_url"):
        CartoAuth.from_mapping(account_fields(connection(host="https://h.example:8443", port=443)))
