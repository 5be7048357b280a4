"""The Airflow provider for CARTO: its description for Airflow. Imports nothing heavy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider.connection import CONN_TYPE, form_behaviour, form_fields
from carto_auth_integrations import __version__

if TYPE_CHECKING:
    from typing import Any

__all__ = ["__version__", "get_provider_info"]

DISTRIBUTION = "carto-auth-integrations"
"""Airflow ignores a provider whose package name is not the name of its distribution."""
INTEGRATION = "CARTO"


def get_provider_info() -> dict[str, Any]:
    """Return the provider's parts and its connection form, which Airflow 3.3 builds from this alone.

    Returns:
        A dict as Airflow's `provider_info.schema.json` describes it.
    """
    return {
        "package-name": DISTRIBUTION,
        "name": INTEGRATION,
        "description": "Tokens, a BigQuery client, queries and loads for the CARTO Data Warehouse.",
        "versions": [__version__],
        "integrations": [
            {"integration-name": INTEGRATION, "external-doc-url": "https://docs.carto.com", "tags": ["service"]}
        ],
        "hooks": _modules("airflow_provider.hooks.carto", "airflow_provider.hooks.bigquery"),
        "operators": _modules("airflow_provider.operators.carto"),
        "triggers": _modules("airflow_provider.triggers.carto"),
        "task-decorators": [
            {"name": "carto_load", "class-name": "airflow_provider.decorators.carto.carto_load_task"},
        ],
        "extra-links": ["airflow_provider.links.carto.CartoJobLink"],
        "connection-types": [
            {
                "connection-type": CONN_TYPE,
                "hook-class-name": "airflow_provider.hooks.carto.CartoHook",
                "hook-name": INTEGRATION,
                "conn-fields": form_fields(),
                "ui-field-behaviour": {name.replace("_", "-"): value for name, value in form_behaviour().items()},
            }
        ],
    }


def _modules(*names: str) -> list[dict[str, Any]]:
    return [{"integration-name": INTEGRATION, "python-modules": list(names)}]
