"""CARTO credentials for data pipelines: access tokens, a ready BigQuery client, and loads that happen exactly once.

Names are imported on first use: importing this package costs next to nothing in a DAG file or a flow module.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._version import __version__

if TYPE_CHECKING:
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
    from .warehouse import CartoWarehouse, JobProgress, JobReference, LoadPlan, LoadResult, QueryResult

_MODULE_OF = {
    "AccountError": "errors",
    "CartoAccount": "account",
    "CartoAuth": "auth",
    "CartoWarehouse": "warehouse",
    "ClientRejected": "errors",
    "CredentialsError": "errors",
    "InteractionRequired": "errors",
    "JobProgress": "warehouse",
    "JobReference": "warehouse",
    "LoadPlan": "warehouse",
    "LoadResult": "warehouse",
    "QueryResult": "warehouse",
    "ServiceUnavailable": "errors",
    "UnexpectedResponse": "errors",
}

__all__ = [
    "AccountError",
    "CartoAccount",
    "CartoAuth",
    "CartoWarehouse",
    "ClientRejected",
    "CredentialsError",
    "InteractionRequired",
    "JobProgress",
    "JobReference",
    "LoadPlan",
    "LoadResult",
    "QueryResult",
    "ServiceUnavailable",
    "UnexpectedResponse",
    "__version__",
]


def __getattr__(name: str) -> object:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(__import__(f"{__name__}.{_MODULE_OF[name]}", fromlist=(name,)), name)
    return value


def __dir__() -> list[str]:
    return __all__
