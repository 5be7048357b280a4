"""A long transformation that occupies no worker: the triggerer waits for its job, and for a thousand others."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

from airflow.providers.common.compat.sdk import dag, task

from airflow_provider.operators.carto import CartoQueryOperator

TRANSFORMATION = """
    SELECT MOD(n, @cells) AS cell, COUNT(*) AS points
    FROM UNNEST(GENERATE_ARRAY(1, 10000)) AS n
    GROUP BY cell
"""


@dag(
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=timezone.utc),
    default_args={"retries": 2, "retry_delay": timedelta(seconds=10)},
    tags=["carto", "example"],
)
def carto_deferrable() -> None:
    """Transform, deferred; then query the result."""
    transform = CartoQueryOperator(
        task_id="transform",
        sql=TRANSFORMATION,
        parameters={"cells": 7},
        destination="shared.example_cells",
        labels={"team": "spatial"},
        execution_timeout=timedelta(hours=1),  # then the job is cancelled, deferred or not
        deferrable=True,
    )
    largest = CartoQueryOperator(
        task_id="largest",
        sql="SELECT cell, points FROM shared.example_cells ORDER BY points DESC, cell LIMIT 3",
        deferrable=True,
    )

    @task
    def report(found: Any) -> str:
        """Use the rows, which are plain JSON types in XCom."""
        return f"{found['rows'][0]['points']} points in cell {found['rows'][0]['cell']}"

    transform >> largest
    report(largest.output)


carto_deferrable()
