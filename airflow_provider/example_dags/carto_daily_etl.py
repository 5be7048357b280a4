"""A daily ETL with quality checks: the visits of a day are loaded, checked, and then added to those of other days."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

from airflow.providers.common.compat.sdk import chain, dag, task
from airflow.providers.common.sql.operators.sql import SQLColumnCheckOperator, SQLTableCheckOperator

from airflow_provider.operators.carto import CartoQueryOperator

TODAY = "shared.example_visits_today"
SUM_UP = """
    SELECT city, SUM(visits) AS visits
    FROM shared.example_visits
    WHERE run = @run
    GROUP BY city
"""
STORES = {"Madrid": (-3.7038, 40.4168), "Sevilla": (-5.9845, 37.3891), "New York": (-74.006, 40.7128)}


@dag(
    schedule="@daily",
    start_date=datetime(2026, 1, 1, tzinfo=timezone.utc),
    catchup=False,
    max_active_runs=1,  # the days share a staging table
    default_args={"retries": 2, "retry_delay": timedelta(seconds=10)},
    tags=["carto", "example"],
)
def carto_daily_etl() -> None:
    """Load, check, add, sum up."""

    @task.carto_load(destination=TODAY, write_disposition="WRITE_TRUNCATE", geometry="geom")
    def load_visits(run_id: str | None = None) -> Iterator[dict[str, Any]]:
        """Yield the day's rows, which are streamed: they may be more than fit into memory."""
        for number, (city, (longitude, latitude)) in enumerate(STORES.items()):
            yield {
                "run": run_id,
                "city": city,
                "visits": 100 + 10 * number,
                "geom": f"POINT({longitude} {latitude})",
            }

    check_columns = SQLColumnCheckOperator(
        task_id="check_columns",
        conn_id="carto_default",
        table=TODAY,
        column_mapping={
            "city": {"null_check": {"equal_to": 0}, "distinct_check": {"equal_to": len(STORES)}},
            "visits": {"min": {"geq_to": 0}, "max": {"less_than": 100_000}},
        },
    )
    check_table = SQLTableCheckOperator(
        task_id="check_table",
        conn_id="carto_default",
        table=TODAY,
        checks={"one_row_per_store": {"check_statement": f"COUNT(*) = {len(STORES)}"}},
    )
    # A retry does not append twice: it takes the job of the earlier try.
    add_visits = CartoQueryOperator(
        task_id="add_visits",
        sql="SELECT run, city, visits, geom FROM shared.example_visits_today",
        destination="shared.example_visits",
        write_disposition="WRITE_APPEND",
    )
    sum_up = CartoQueryOperator(
        task_id="sum_up",
        sql=SUM_UP,
        parameters={"run": "{{ run_id }}"},
        destination="shared.example_visits_by_city",
    )
    chain(load_visits(), [check_columns, check_table], add_visits, sum_up)


carto_daily_etl()
