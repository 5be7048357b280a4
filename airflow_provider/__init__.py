"""The Airflow provider for CARTO: what Airflow reads about it, without importing anything heavy."""

from __future__ import annotations

from carto_auth_integrations import __version__
from carto_auth_integrations.fields import FIELDS, MODES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["__version__", "get_provider_info"]

DISTRIBUTION = "carto-auth-integrations"
"""Airflow drops a provider whose package name is not its distribution's."""

STANDARD_FIELDS = {"host": "api_base_url", "login": "client_id", "password": "client_secret"}
"""Airflow's own connection fields and the account's fields they hold; the other fields are extras."""


def get_provider_info() -> dict[str, Any]:
    """Describe the provider to Airflow: its hook, and the connection form that Airflow 3.3 builds from this alone.

    Returns:
        A dict of the shape of Airflow's `provider_info.schema.json`.
    """
    return {
        "package-name": DISTRIBUTION,
        "name": "CARTO",
        "description": "Tokens and a ready BigQuery client for the CARTO Data Warehouse.",
        "versions": [__version__],
        "integrations": [
            {"integration-name": "CARTO", "external-doc-url": "https://docs.carto.com", "tags": ["service"]}
        ],
        "hooks": [{"integration-name": "CARTO", "python-modules": ["airflow_provider.hooks.carto"]}],
        "connection-types": [
            {
                "connection-type": "carto",
                "hook-class-name": "airflow_provider.hooks.carto.CartoHook",
                "hook-name": "CARTO",
                "conn-fields": {name: _form_field(name) for name in FIELDS if name not in STANDARD_FIELDS.values()},
                "ui-field-behaviour": {
                    "hidden-fields": ["port", "schema"],
                    "relabeling": {standard: _label(name) for standard, name in STANDARD_FIELDS.items()},
                    "placeholders": {"host": "https://gcp-us-east1.api.carto.com"},
                },
            }
        ],
    }


def _form_field(name: str) -> dict[str, Any]:
    field = FIELDS[name]
    schema: dict[str, Any] = {"type": ["string", "null"]}
    if field.kind == "secret":
        schema["format"] = "password"
    if field.kind == "mode":
        schema["enum"] = list(MODES)
    # A default is told, not filled in: a form that saves it would hide CARTO_AUTH_URL and its like from then on.
    told = f" Left empty: {field.default}." if field.default else ""
    return {"label": _label(name), "description": field.description + told, "schema": schema}


def _label(name: str) -> str:
    words = name.replace("_", " ").capitalize()
    for plain, proper in (("Api", "API"), ("url", "URL"), (" id", " ID"), ("Bigquery", "BigQuery")):
        words = words.replace(plain, proper)
    return words
