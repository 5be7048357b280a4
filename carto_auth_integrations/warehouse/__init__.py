"""The CARTO Data Warehouse: queries and loads that happen exactly once."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .jobs import RunKey
    from .options import LoadOptions, QueryOptions
    from .results import JobProgress, JobReference, LoadPlan, LoadResult, QueryResult
    from .warehouse import CartoWarehouse

_MODULE_OF = {
    "CartoWarehouse": "warehouse",
    "JobProgress": "results",
    "JobReference": "results",
    "LoadOptions": "options",
    "LoadPlan": "results",
    "LoadResult": "results",
    "QueryOptions": "options",
    "QueryResult": "results",
    "RunKey": "jobs",
}

__all__ = [
    "CartoWarehouse",
    "JobProgress",
    "JobReference",
    "LoadOptions",
    "LoadPlan",
    "LoadResult",
    "QueryOptions",
    "QueryResult",
    "RunKey",
]


def __getattr__(name: str) -> object:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(__import__(f"{__name__}.{_MODULE_OF[name]}", fromlist=(name,)), name)
    return value
