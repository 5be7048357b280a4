"""The trigger for BigQuery jobs, by the name under which Airflow keeps it.

It is imported when it is asked for: Airflow's own base of triggers takes 50 ms, which no DAG file has to wait for.
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
