"""The sandbox's account as an Airflow connection, as deployments define it: as JSON in an environment variable."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from carto_auth_integrations.sandbox import Sandbox

VARIABLE = "AIRFLOW_CONN_CARTO_DEFAULT"


def connection_of(sandbox: Sandbox, token_store: Path | str, **extras: str) -> dict[str, Any]:
    """Return the fields of a `carto` connection for the sandbox's account.

    Args:
        sandbox: The sandbox.
        token_store: Where its tokens are stored.
        extras: Further extras.
    """
    account = sandbox.account
    return {
        "conn_type": "carto",
        "host": account["api_base_url"],
        "login": account["client_id"],
        "password": account["client_secret"],
        "extra": {
            "auth_url": account["auth_url"],
            "bigquery_endpoint": account["bigquery_endpoint"],
            "token_store": str(token_store),
            **extras,
        },
    }


def set_connection(monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any]) -> None:
    """Define the connection `carto_default`."""
    monkeypatch.setenv(VARIABLE, json.dumps(fields))
