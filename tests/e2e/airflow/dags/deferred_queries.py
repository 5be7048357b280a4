"""DAGs of the tests: deferred queries, triggers that only sleep, and a measurement of the triggerer's event loop."""

from __future__ import annotations

from typing import Any

from airflow.sdk import BaseOperator, dag, task
from loop_watch import LoopWatch, Sleep

from airflow_provider.operators.carto import CartoQueryOperator


class WatchLoop(BaseOperator):
    """Measures the triggerer's event loop until a file exists; returns the longest pauses."""

    def execute(self, context: Any) -> None:
        """Defer."""
        conf = context["dag_run"].conf
        self.defer(trigger=LoopWatch(conf["dag_id"], conf["until"]), method_name="execute_complete")

    def execute_complete(self, context: Any, event: dict[str, float]) -> dict[str, float]:
        """Return the longest pauses."""
        return event


class Nap(BaseOperator):
    """Sleeps in the triggerer."""

    def __init__(self, *, seconds: float, **options: Any) -> None:
        super().__init__(**options)
        self.seconds = seconds

    def execute(self, context: Any) -> None:
        """Defer."""
        self.defer(trigger=Sleep(self.seconds), method_name="execute_complete")

    def execute_complete(self, context: Any, event: str) -> str:
        """Return the trigger's event."""
        return event


@task
def numbers(dag_run: Any = None) -> list[int]:
    """Return as many numbers as the run's configuration says."""
    return list(range(dag_run.conf["count"]))


@dag(schedule=None)
def watch_loop() -> None:
    WatchLoop(task_id="watch")


@dag(schedule=None)
def deferred_queries() -> None:
    parameters = numbers().map(lambda number: {"number": number})
    CartoQueryOperator.partial(
        task_id="ask", sql="SELECT @number AS number", carto_conn_id="carto_deferred", deferrable=True
    ).expand(parameters=parameters)


@dag(schedule=None)
def idle_deferrals() -> None:
    Nap.partial(task_id="ask").expand(seconds=numbers().map(lambda number: 3.0 + number / 100))


watch_loop()
deferred_queries()
idle_deferrals()
