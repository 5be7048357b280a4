"""Tasks that query and load in the CARTO Data Warehouse exactly once, however often they are tried."""

from __future__ import annotations

from asyncio import to_thread
from typing import TYPE_CHECKING, Any

from prefect import task
from prefect.blocks.core import Block
from prefect.cache_policies import NO_CACHE
from prefect.context import TaskRunContext
from prefect.logging import get_run_logger

from carto_auth_integrations.warehouse.results import LoadResult, QueryResult, plain_result
from carto_auth_integrations.warehouse.warehouse import MAX_ROWS

from . import _calls, _reports
from .credentials import CartoCredentials
from .warehouse import CartoDataWarehouse

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import TypeAlias

    from prefect import Task
    from prefect.client.schemas.objects import State, TaskRun

    Warehouse: TypeAlias = CartoDataWarehouse | CartoCredentials | str

RETRIES = 3
RETRY_DELAYS = [10, 60, 300]
"""Seconds before each further try: a short outage costs little, and a long one, of minutes, is outlived."""
RETRY_JITTER = 0.3
"""By how much a delay may be longer, so that a fleet does not come back as one."""


def retry_if_transient(task: Task[..., Any], task_run: TaskRun, state: State[Any]) -> bool:  # noqa: ARG001  # Prefect's
    """Tell whether a failed task is worth another try: for any task that works with CARTO, as `retry_condition_fn`.

    Args:
        task: The task.
        task_run: Its run.
        state: How the run ended; its data is what the task raised.
    """
    from carto_auth_integrations.warehouse.transient import is_transient

    return isinstance(state.data, BaseException) and is_transient(state.data)


_OPTIONS: dict[str, Any] = {
    "retries": RETRIES,
    "retry_delay_seconds": RETRY_DELAYS,
    "retry_jitter_factor": RETRY_JITTER,
    "retry_condition_fn": retry_if_transient,
    # A block holds a secret: it is part of no cache key, and what a task gives is not written anywhere unasked.
    "cache_policy": NO_CACHE,
    "persist_result": False,
}


@task(name="carto-query", **_OPTIONS)
def carto_query(
    warehouse: Warehouse,
    sql: str,
    parameters: Mapping[str, Any] | Sequence[Any] | None = None,
    *,
    idempotency_key: str | None = None,
    labels: Mapping[str, str] | None = None,
    max_rows: int = MAX_ROWS,
    **options: Any,
) -> dict[str, Any]:
    """Run a query, once in a run of a flow: a retry of the task or of the flow finds the job of the try before.

    Transient failures are tried again, others are not. In another process than the flow's, as with Dask, two calls of
    the same statement and parameters in one run are one query; where that is not meant, give each a key.

    Args:
        warehouse: A `CartoDataWarehouse`, `CartoCredentials`, or the name of saved credentials (`prod`, or
            `carto-data-warehouse/prod` for a warehouse). A name keeps the secret out of whatever carries the task.
        sql: The statement or script.
        parameters: Values for `@name` (a mapping) or `?` (a sequence).
        idempotency_key: Names this query among all; left out, it is made of the flow run and of what is done.
        labels: Labels for the job beside those of the flow, the task and their runs.
        max_rows: How many rows come back in the result.
        options: Further options of `CartoWarehouse.query`: `destination`, `write_disposition`, `timeout`.

    Returns:
        A `QueryResult` as plain JSON types: `job_id`, `total_rows`, `affected_rows`, `rows` and so on.

    Raises:
        TimeoutError: If the time limit passed.
        CredentialsError: If there is no token to be had.
        google.api_core.exceptions.GoogleAPICallError: If the query failed, as BigQuery says.
    """
    key = idempotency_key or _calls.idempotency_key("query", sql, parameters, sorted(options.items()))
    options.update(idempotency_key=key, labels=_all_labels(labels), max_rows=max_rows)
    return _told(_loaded(warehouse).execute(sql, parameters, **options))


@task(name="carto-query", **_OPTIONS)
async def acarto_query(
    warehouse: Warehouse,
    sql: str,
    parameters: Mapping[str, Any] | Sequence[Any] | None = None,
    *,
    idempotency_key: str | None = None,
    labels: Mapping[str, str] | None = None,
    max_rows: int = MAX_ROWS,
    **options: Any,
) -> dict[str, Any]:
    """Run a query, like `carto_query`, without holding the event loop."""
    key = idempotency_key or _calls.idempotency_key("query", sql, parameters, sorted(options.items()))
    options.update(idempotency_key=key, labels=_all_labels(labels), max_rows=max_rows)
    return _told(await (await _aloaded(warehouse)).aexecute(sql, parameters, **options))


@task(name="carto-load", **_OPTIONS)
def carto_load(
    warehouse: Warehouse,
    source: Any,
    destination: str,
    *,
    idempotency_key: str | None = None,
    labels: Mapping[str, str] | None = None,
    asset: bool = True,
    table_artifact: bool = True,
    progress_artifact: bool = True,
    **options: Any,
) -> dict[str, Any]:
    """Load data into a table, once in a run of a flow: a retry of the task or of the flow never loads it twice.

    A call is known by the source's place, or by the content of rows in memory, and by where and how it is loaded; equal
    calls are counted. In another process than the flow's, as with Dask, equal calls in one run are one load; where that
    is not meant, give each a key.

    Args:
        warehouse: A `CartoDataWarehouse`, `CartoCredentials`, or the name of saved credentials (`prod`, or
            `carto-data-warehouse/prod` for a warehouse). A name keeps the secret out of whatever carries the task.
        source: Anything that `CartoWarehouse.load` takes, or a function that gives it, called for each try. Rows that
            come once, from a generator, can be loaded, but not by a second try that finds them begun.
        destination: The table, `dataset.table` or `project.dataset.table`.
        idempotency_key: Names this load among all; left out, it is made of the flow run and of what is done.
        labels: Labels for the job beside those of the flow, the task and their runs.
        asset: Whether Prefect hears that the asset `bigquery://project/dataset/table` was materialized.
        table_artifact: Whether a table artifact tells rows, bytes, job and duration.
        progress_artifact: Whether a progress artifact shows how far a load is that takes more than a few seconds.
        options: Further options of `CartoWarehouse.load`: `write_disposition`, `schema`, `geometry`, `timeout` …

    Returns:
        A `LoadResult` as plain JSON types: `job_id`, `destination`, `rows`, `bytes` and so on.

    Raises:
        FileNotFoundError: If the file is not there.
        TypeError: If the source is nothing that can be loaded.
        ValueError: If a name or the content is not what it should be; the message names file, row or column.
        TimeoutError: If the time limit passed.
        CredentialsError: If there is no token to be had.
        google.api_core.exceptions.GoogleAPICallError: If the load failed, as BigQuery says.
    """
    key = idempotency_key or _load_key(source, destination, options)
    options.update(idempotency_key=key, labels=_all_labels(labels))
    reports = {"asset": asset, "table_artifact": table_artifact, "progress_artifact": progress_artifact}
    block = _loaded(warehouse)
    with _reports.LoadReport(destination, **reports) as report:
        rows = _calls.readable_source(source)
        report.result = block.load_table(rows, destination, on_progress=report.on_progress, **options)
    _calls.forget_source()
    return _told(report.result)


@task(name="carto-load", **_OPTIONS)
async def acarto_load(
    warehouse: Warehouse,
    source: Any,
    destination: str,
    *,
    idempotency_key: str | None = None,
    labels: Mapping[str, str] | None = None,
    asset: bool = True,
    table_artifact: bool = True,
    progress_artifact: bool = True,
    **options: Any,
) -> dict[str, Any]:
    """Load data into a table, like `carto_load`, without holding the event loop."""
    key = idempotency_key or await to_thread(_load_key, source, destination, options)  # rows in memory are read for it
    options.update(idempotency_key=key, labels=_all_labels(labels))
    reports = {"asset": asset, "table_artifact": table_artifact, "progress_artifact": progress_artifact}
    block = await _aloaded(warehouse)
    async with _reports.LoadReport(destination, **reports) as report:
        rows = await to_thread(_calls.readable_source, source)
        report.result = await block.aload_table(rows, destination, on_progress=report.on_progress, **options)
    _calls.forget_source()
    return _told(report.result)


def _load_key(source: Any, destination: str, options: Mapping[str, Any]) -> str | None:
    return _calls.idempotency_key("load", _calls.identity_of(source), destination, sorted(options.items()))


def _loaded(warehouse: Warehouse) -> CartoDataWarehouse:
    if isinstance(warehouse, str):
        return _as_warehouse(Block.load(_document_of(warehouse)))
    return _as_warehouse(warehouse)


async def _aloaded(warehouse: Warehouse) -> CartoDataWarehouse:
    if isinstance(warehouse, str):
        return _as_warehouse(await Block.aload(_document_of(warehouse)))
    return _as_warehouse(warehouse)


def _document_of(name: str) -> str:
    return name if "/" in name else f"{CartoCredentials.get_block_type_slug()}/{name}"


def _as_warehouse(block: Any) -> CartoDataWarehouse:
    if isinstance(block, CartoCredentials):
        return CartoDataWarehouse(credentials=block)
    if isinstance(block, CartoDataWarehouse):
        return block
    raise TypeError(f"warehouse must be a CartoDataWarehouse, CartoCredentials or a block's name, not {type(block)}.")


def _all_labels(labels: Mapping[str, str] | None) -> dict[str, str]:
    return {**_calls.run_labels(), **(labels or {})}


def _told(result: QueryResult | LoadResult) -> dict[str, Any]:
    """Say in the run's log what came of a job, and give it as plain JSON types."""
    if TaskRunContext.get():
        found = " (done by an earlier try)" if result.reattached else ""
        get_run_logger().info("%s%s", _sentence(result), found)
    return plain_result(result)


def _sentence(result: QueryResult | LoadResult) -> str:
    if isinstance(result, LoadResult):
        return f"Load job {result.job_id}: {result.rows:,} rows, {result.bytes:,} bytes into {result.destination}"
    return f"Query job {result.job_id}: {result.total_rows:,} rows, {result.bytes_processed:,} bytes read"
