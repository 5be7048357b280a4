"""Mapped loads: a task for each file, in parallel, each with its own retries, each file once."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path
from tempfile import mkdtemp

from airflow.providers.common.compat.sdk import dag, task

from airflow_provider.operators.carto import CartoLoadOperator, CartoQueryOperator

LOOK = """
    SELECT city, COUNT(*) AS days, SUM(visits) AS visits
    FROM shared.example_files
    GROUP BY city
    ORDER BY city
"""
COUNTS = {"madrid": (120, 80), "sevilla": (60, 95, 40), "new_york": (300,)}


@dag(
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=timezone.utc),
    default_args={"retries": 2, "retry_delay": timedelta(seconds=10)},
    tags=["carto", "example"],
)
def carto_mapped_loads() -> None:
    """Create a table, append each file to it, and query it."""
    make_table = CartoQueryOperator(
        task_id="make_table", sql="CREATE OR REPLACE TABLE shared.example_files (city STRING, visits INT64)"
    )

    @task
    def list_files() -> list[str]:
        """Write the files of another system, into a folder that all workers see."""
        folder = Path(mkdtemp(prefix="carto-example-"))
        for city, counts in COUNTS.items():
            lines = ["city,visits", *(f"{city},{visits}" for visits in counts)]
            (folder / f"{city}.csv").write_text("\n".join(lines) + "\n")
        return sorted(str(file) for file in folder.iterdir())

    load_files = CartoLoadOperator.partial(task_id="load_files", destination="shared.example_files").expand(
        source=list_files()
    )
    look = CartoQueryOperator(task_id="look", sql=LOOK)
    make_table >> load_files >> look


carto_mapped_loads()
