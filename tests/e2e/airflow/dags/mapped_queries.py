"""A DAG of the tests: as many mapped tasks as the run's configuration says, each of which runs a query."""

from __future__ import annotations

from typing import Any

from airflow.sdk import dag, task

from airflow_provider.operators.carto import CartoQueryOperator


@dag(schedule=None)
def mapped_queries() -> None:
    @task
    def numbers(dag_run: Any = None) -> list[dict[str, int]]:
        return [{"number": number} for number in range(dag_run.conf["count"])]

    CartoQueryOperator.partial(
        task_id="ask", sql="SELECT @number AS number", carto_conn_id="carto_mapped", deferrable=False
    ).expand(parameters=numbers())


mapped_queries()
