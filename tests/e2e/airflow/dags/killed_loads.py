"""A DAG of the tests: loads that append a file to a table, each with a second try."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import dag, task

from airflow_provider.operators.carto import CartoLoadOperator


@dag(schedule=None, default_args={"retries": 1, "retry_delay": timedelta(seconds=1)})
def killed_loads() -> None:
    @task
    def loads(dag_run: Any = None) -> list[dict[str, str]]:
        return dag_run.conf["loads"]

    CartoLoadOperator.partial(task_id="load", carto_conn_id="carto_default", deferrable=False).expand_kwargs(loads())


killed_loads()
