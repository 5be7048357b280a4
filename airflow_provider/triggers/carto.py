"""CartoJobTrigger under the path that Airflow stores.

It is imported when it is used: Airflow's base class of triggers takes 50 ms to import, which no DAG file needs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

    from .job import CartoJobTrigger

__all__ = ["CartoJobTrigger"]


def __getattr__(name: str) -> Any:
    if name != "CartoJobTrigger":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from .job import CartoJobTrigger

    return CartoJobTrigger
