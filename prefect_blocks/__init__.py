"""The Prefect blocks for CARTO, and tasks that query and load exactly once.

The tasks are imported on first use: a flow that uses the blocks alone does not wait for them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from carto_auth_integrations import __version__

from .credentials import CartoCredentials
from .warehouse import CartoDataWarehouse

if TYPE_CHECKING:
    from typing import Any

    from .tasks import acarto_load, acarto_query, carto_load, carto_query

__all__ = [
    "CartoCredentials",
    "CartoDataWarehouse",
    "__version__",
    "acarto_load",
    "acarto_query",
    "carto_load",
    "carto_query",
]

_TASKS = ("acarto_load", "acarto_query", "carto_load", "carto_query")


def __getattr__(name: str) -> Any:
    if name not in _TASKS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import tasks

    value = globals()[name] = getattr(tasks, name)
    return value


def __dir__() -> list[str]:
    return __all__
