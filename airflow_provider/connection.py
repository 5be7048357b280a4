"""The connection of type `carto`: its form in every Airflow, and the fields of the account that it holds."""

from __future__ import annotations

from logging import getLogger
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from carto_auth_integrations.account.fields import ALIASES, FIELDS, MODES, hidden, suggestion

if TYPE_CHECKING:
    from typing import Any

    from airflow.providers.common.compat.sdk import Connection

logger = getLogger(__name__)

CONN_TYPE = "carto"
STANDARD_FIELDS = {"host": "api_base_url", "login": "client_id", "password": "client_secret"}
"""Airflow's own connection fields and the account's fields that they hold; the other fields are extras."""
UNUSED_FIELDS = ("port", "schema", "extra")
"""Airflow's own fields that the form hides. The raw extras would show what the form masks."""
PLACEHOLDERS = {"host": "https://gcp-us-east1.api.carto.com"}
SQL_EXTRAS = frozenset(
    {"escape_column_names", "escape_word_format", "insert_statement_format", "placeholder", "replace_statement_format"}
)
"""Extras that `DbApiHook` reads itself."""


def form_fields() -> dict[str, dict[str, Any]]:
    """Return the form's own fields as `conn-fields` of the provider information."""
    return {name: _form_field(name) for name in FIELDS if name not in STANDARD_FIELDS.values()}


def form_behaviour() -> dict[str, Any]:
    """Return how the form shows Airflow's own fields, as a hook's `get_ui_field_behaviour`."""
    return {
        "hidden_fields": list(UNUSED_FIELDS),
        "relabeling": {standard: _label(name) for standard, name in STANDARD_FIELDS.items()},
        "placeholders": dict(PLACEHOLDERS),
    }


def form_widgets() -> dict[str, Any]:
    """Return the form's own fields as wtforms widgets, for Airflow before 3.2, which has wtforms or a substitute."""
    from flask_appbuilder.fieldwidgets import BS3PasswordFieldWidget, BS3TextFieldWidget
    from flask_babel import lazy_gettext
    from wtforms import PasswordField, StringField
    from wtforms.validators import Optional, any_of

    widgets = {}
    for name, field in form_fields().items():
        schema, validators = field["schema"], [Optional()]
        if "enum" in schema:
            validators.append(any_of(schema["enum"]))
        masked = schema.get("format") == "password"
        make, widget = (PasswordField, BS3PasswordFieldWidget) if masked else (StringField, BS3TextFieldWidget)
        widgets[name] = make(
            lazy_gettext(field["label"]), validators=validators, description=field["description"], widget=widget()
        )
    return widgets


def account_fields(connection: Connection) -> dict[str, Any]:
    """Return the account's fields in an Airflow connection, which may come from the form, a URI or JSON.

    Args:
        connection: The connection. Unknown extras are ignored with a warning.

    Returns:
        Fields by name; secrets as `Secret`.
    """
    extras = hidden(connection.extra_dejson)
    known = {name: extras[name] for name in extras if name in FIELDS or name in ALIASES}
    for name in extras.keys() - known.keys() - SQL_EXTRAS:
        logger.warning("connection %s: unknown extra %r is ignored%s", connection.conn_id, name, suggestion(name))
    standard = {"host": _base_url(connection), "login": connection.login, "password": connection.password}
    fields = {name: standard[own] for own, name in STANDARD_FIELDS.items() if standard[own]}
    return hidden({**fields, **{name: value for name, value in known.items() if value not in (None, "")}})


def _form_field(name: str) -> dict[str, Any]:
    field = FIELDS[name]
    schema: dict[str, Any] = {"type": ["string", "null"]}
    # A store's URL may hold a password. Airflow masks it in connections anyway, since its name contains "token".
    if field.kind in ("secret", "store"):
        schema["format"] = "password"
    if field.kind == "mode":
        schema["enum"] = list(MODES)
    # A default is described, not filled in: once saved with the form, it would override CARTO_AUTH_URL and the like.
    default = f" Left empty: {field.default}." if field.default else ""
    return {"label": _label(name), "description": field.description + default, "schema": schema}


def _label(name: str) -> str:
    words = name.replace("_", " ").capitalize()
    for plain, proper in (("Api", "API"), ("url", "URL"), (" id", " ID"), ("Bigquery", "BigQuery")):
        words = words.replace(plain, proper)
    return words


def _base_url(connection: Connection) -> str | None:
    """Return the URL of a connection's host, port and path, which Airflow splits in carto://id:secret@host:port/path."""
    host, path, scheme = connection.host, connection.schema or "", "https"
    if not host:
        return None
    if path.lower() in ("http", "https"):  # where other types of connections have the protocol
        path, scheme = "", path.lower()
    url = urlsplit(host if "://" in host else f"{scheme}://{host}")
    port = f":{connection.port}" if connection.port else ""
    place = (
        url.netloc if url.netloc.endswith(port) else f"{url.netloc}{port}"
    )  # two ports are no URL, and refused as such
    return url._replace(netloc=place, path=f"{url.path.rstrip('/')}/{path}".rstrip("/")).geturl()
