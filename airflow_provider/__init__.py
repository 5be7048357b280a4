"""The Airflow provider for CARTO: what Airflow reads about it, without importing anything heavy."""

from __future__ import annotations

from airflow_provider.connection import CONN_TYPE, form_behaviour, form_fields
from carto_auth_integrations import __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["__version__", "get_provider_info"]

DISTRIBUTION = "carto-auth-integrations"
"""Airflow drops a provider whose package name is not its distribution's."""
INTEGRATION = "CARTO"


def get_provider_info() -> dict[str, Any]:
    """Describe the provider to Airflow: its parts, and the connection form that Airflow 3.3 builds from this alone.

    Returns:
        A dict of the shape of Airflow's `provider_info.schema.json`.
    """
    return {
        "package-name": DISTRIBUTION,
        "name": INTEGRATION,
        "description": "Tokens and a ready BigQuery client for the CARTO Data Warehouse, queries and loads in it.",
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
