"""The CARTO Data Warehouse: a BigQuery client that never sees its tokens end, and loads that happen exactly once."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .results import JobProgress, JobReference, LoadResult, QueryResult
    from .warehouse import CartoWarehouse

_HOME_OF = {
    "CartoWarehouse": "warehouse",
    "JobProgress": "results",
    "JobReference": "results",
    "LoadResult": "results",
    "QueryResult": "results",
}

__all__ = ["CartoWarehouse", "JobProgress", "JobReference", "LoadResult", "QueryResult"]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(__import__(f"{__name__}.{_HOME_OF[name]}", fromlist=(name,)), name)
    globals()[name] = value
    return value
