"""DAGs of the tests: tasks that succeed and fail while they hold secrets."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from airflow.providers.common.sql.operators.sql import SQLExecuteQueryOperator
from airflow.sdk import dag, task

from airflow_provider.hooks.carto import CartoHook
from airflow_provider.operators.carto import CartoLoadOperator, CartoQueryOperator

TABLE = "shared.canaries"
SECRETIVE = "SELECT LENGTH('{{ conn.carto_default.password }}') AS length"
"""A statement with a secret in it, once it is rendered."""
SHOWN = "shown by the task itself:"
"""The start of each line that a task writes with a token in it, by which the tests recognise it."""


@dag(schedule=None)
def canaries() -> None:
    @task
    def shows_tokens() -> list[dict[str, Any]]:
        """Print and log the tokens and the objects that hold them."""
        import logging

        hook = CartoHook("carto_default")
        token, (_, dw_token) = hook.get_access_token(), hook.get_carto_dw_credentials()
        print(SHOWN, token, dw_token)
        logging.getLogger("user").warning("%s %s %s", SHOWN, token, dw_token)
        logging.getLogger("user").warning("objects: %r %r", vars(hook), vars(hook.auth))
        return hook.get_carto_warehouse().query("SELECT 1 AS number").rows

    @task
    def fails_with_locals() -> None:
        """Raise an error with a token in its text and in a local."""
        hook = CartoHook("carto_default")
        token = hook.get_access_token()
        raise ValueError(f"{SHOWN} {token} {vars(hook)}")

    @task
    def is_rejected() -> str:
        return CartoHook("carto_rejected").get_access_token()

    @task
    def cannot_reach_its_store() -> list[dict[str, Any]]:
        return CartoHook("carto_redis").get_carto_warehouse().query("SELECT 1 AS number").rows

    @task
    def has_a_permanent_token() -> list[dict[str, Any]]:
        return CartoHook("carto_token").get_carto_warehouse().query("SELECT 1 AS number").rows

    @task
    def breaks_its_source() -> None:
        """Fail during a load."""

        def rows() -> Iterator[dict[str, Any]]:
            yield {"number": 1}
            raise RuntimeError("the source broke")

        CartoHook("carto_default").get_carto_warehouse().load(rows(), TABLE)

    shows_tokens()
    fails_with_locals()
    is_rejected()
    cannot_reach_its_store()
    has_a_permanent_token()
    breaks_its_source()
    SQLExecuteQueryOperator(task_id="has_wrong_sql", conn_id="carto_default", sql="SELECT nothing")
    for deferrable in (False, True):
        # With retries: a busy scheduler may see a task resumed before it has recorded the deferral, and fails it then.
        CartoQueryOperator(
            task_id=f"asks_{deferrable}",
            sql="SELECT 1 AS number" if deferrable else SECRETIVE,
            deferrable=deferrable,
            retries=2,
            retry_delay=timedelta(seconds=1),
        )
        CartoQueryOperator(task_id=f"asks_wrongly_{deferrable}", sql="SELECT nothing", deferrable=deferrable)
        CartoQueryOperator(
            task_id=f"is_rejected_{deferrable}", sql="SELECT 1", carto_conn_id="carto_rejected", deferrable=deferrable
        )
        CartoLoadOperator(
            task_id=f"finds_no_file_{deferrable}", source="/nowhere.csv", destination=TABLE, deferrable=deferrable
        )


@dag(schedule=None)
def secretive_deferral() -> None:
    CartoQueryOperator(task_id="ask", sql=SECRETIVE, deferrable=True, retries=2, retry_delay=timedelta(seconds=1))


canaries()
secretive_deferral()
