"""Accounts and secrets of the tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from carto_auth_integrations import CartoAccount, CartoAuth
from carto_auth_integrations.sandbox import Sandbox

SECRET = "hunter2-client-secret"
"""A client secret that must not show anywhere."""
BEARER = "hunter2-access-token"
"""An access token that must not show anywhere."""


def fields_for(url: str, **fields: Any) -> dict[str, Any]:
    """Return the fields of an M2M account with this URL for all services."""
    return {
        "auth_mode": "m2m",
        "api_base_url": url,
        "auth_url": url,
        "accounts_url": url,
        "client_id": "the-client",
        "client_secret": SECRET,
        **fields,
    }


def account_for(url: str, **fields: Any) -> CartoAccount:
    """Return an M2M account with this URL for all services."""
    return CartoAccount.from_mapping(fields_for(url, **fields))


def auth_for(sandbox: Sandbox, tmp_path: Path, **fields: Any) -> CartoAuth:
    """Return a `CartoAuth` for the sandbox's account, with a token store below `tmp_path`."""
    return CartoAuth.from_mapping({**sandbox.account, "token_store": str(tmp_path / "tokens.json"), **fields})
