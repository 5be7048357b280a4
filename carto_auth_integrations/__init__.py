"""CARTO credentials for data pipelines: access tokens and a ready BigQuery client for the CARTO Data Warehouse.

Names load on first use: importing this package costs next to nothing in a DAG file or a flow module.
"""

from __future__ import annotations

from ._version import __version__

TYPE_CHECKING = False  # what typing calls by that name; importing typing would cost more than this package
if TYPE_CHECKING:
    from typing import Any

    from .account import CartoAccount
    from .auth import CartoAuth
    from .errors import (
        AccountError,
        ClientRejected,
        CredentialsError,
        InteractionRequired,
        ServiceUnavailable,
        UnexpectedResponse,
    )

_HOME_OF = {
    "AccountError": "errors",
    "CartoAccount": "account.account",
    "CartoAuth": "auth",
    "ClientRejected": "errors",
    "CredentialsError": "errors",
    "InteractionRequired": "errors",
    "ServiceUnavailable": "errors",
    "UnexpectedResponse": "errors",
}

__all__ = [
    "AccountError",
    "CartoAccount",
    "CartoAuth",
    "ClientRejected",
    "CredentialsError",
    "InteractionRequired",
    "ServiceUnavailable",
    "UnexpectedResponse",
    "__version__",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(__import__(f"{__name__}.{_HOME_OF[name]}", fromlist=(name,)), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
