"""Tasks that query and load in the CARTO Data Warehouse exactly once, however often they are tried."""

from __future__ import annotations

from asyncio import to_thread
from typing import TYPE_CHECKING, Any

from prefect.blocks.core import Block
from prefect.cache_policies import NO_CACHE
from prefect.context import TaskRunContext
from prefect.logging import get_run_logger

from carto_auth_integrations.errors import is_transient
from carto_auth_integrations.warehouse.options import COSTS, MAX_ROWS, LoadOptions, QueryOptions
from carto_auth_integrations.warehouse.results import LoadResult, QueryResult, plain_result

from . import _calls, _reports
from .credentials import CartoCredentials
from .warehouse import CartoDataWarehouse

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import TypeAlias

    from prefect import Task
    from prefect.client.schemas.objects import State, TaskRun
    from typing_extensions import Unpack

    from carto_auth_integrations.warehouse.jobs import RunKey
    from carto_auth_integrations.warehouse.options import LoadKeywords, Parameters, QueryKeywords

    Warehouse: TypeAlias = CartoDataWarehouse | CartoCredentials | str

RETRIES = 3
RETRY_DELAYS: list[float] = [10, 60, 300]
"""Seconds before each further try: short for a brief outage, and long enough in total for one of some minutes."""
RETRY_JITTER = 0.3
"""Share by which a delay may be longer, so that many runs do not come back at once."""
COUNTED = {
    "write_disposition",
    "create_disposition",
    "create_dataset",
    "format",
    "schema",
    "geometry",
    "crs",
    "partitioning",
    "clustering",
}
"""Options of a load that are part of its key with any value, since the first release; others only if they change it."""


def retry_if_transient(task: Task[..., Any], task_run: TaskRun, state: State[Any]) -> bool:  # noqa: ARG001  # Prefect's
    """Whether a failed task may succeed if it is tried again: a `retry_condition_fn` for any task that uses CARTO.

    Args:
        task: The task.
        task_run: Its run.
        state: How the run ended; its data is what the task raised.
    """
    return isinstance(state.data, BaseException) and is_transient(state.data)


def _task(name: str) -> Callable[[Callable[_calls.P, _calls.R]], Task[_calls.P, _calls.R]]:
    """Return a decorator that makes a function a task."""

    def task_of(function: Callable[_calls.P, _calls.R]) -> Task[_calls.P, _calls.R]:
        return _calls.CountedTask(
            function,
            name=name,
            retries=RETRIES,
            retry_delay_seconds=RETRY_DELAYS,
            retry_jitter_factor=RETRY_JITTER,
            retry_condition_fn=retry_if_transient,
            # A block holds a secret: it is part of no cache key, and no result is stored unless a flow asks for it.
            cache_policy=NO_CACHE,
            persist_result=False,
        )

    return task_of


@_task("carto-query")
def carto_query(
    warehouse: Warehouse, sql: str, parameters: Parameters | None = None, **options: Unpack[QueryKeywords]
) -> dict[str, Any]:
    """Run a query, once in a run of a flow: a retry of the task or of the flow finds the job of an earlier try.

    Transient failures are tried again, others are not. In another process than the flow's, as with Dask, two calls of
    the same statement and parameters in one run are one query, unless each has an `idempotency_key`.

    Args:
        warehouse: A `CartoDataWarehouse`, `CartoCredentials`, or the name of saved credentials (`prod`, or
            `carto-data-warehouse/prod` for a warehouse). With a name, no secret travels with the task.
        sql: The statement or script.
        parameters: Values for `@name` (a mapping) or `?` (a sequence).
        options: Options of `CartoWarehouse.query`: `destination`, `write_disposition`, `maximum_bytes_billed`,
            `priority`, `use_query_cache`, `dry_run`, `max_rows`, `timeout`, `on_progress`; `labels` beside those of the
            flow, the task and their runs; `idempotency_key` instead of the one that is made of the flow run and of what
            the query does.

    Returns:
        A `QueryResult` as plain JSON types: `job_id`, `total_rows`, `affected_rows`, `rows` and so on.

    Raises:
        ValueError: If the `idempotency_key` belongs to a job that does something else, or a name is invalid.
        TypeError: If a parameter has no BigQuery type.
        TimeoutError: If the time limit passed.
        CredentialsError: If no token can be obtained.
        google.api_core.exceptions.GoogleAPICallError: If BigQuery refused the query, or it failed.
    """
    return _logged(_loaded(warehouse).execute(sql, parameters, **_query_options(sql, parameters, options)))


@_task("carto-query")
async def acarto_query(
    warehouse: Warehouse, sql: str, parameters: Parameters | None = None, **options: Unpack[QueryKeywords]
) -> dict[str, Any]:
    """Run a query, like `carto_query`, without holding the event loop."""
    block = await _aloaded(warehouse)
    return _logged(await block.aexecute(sql, parameters, **_query_options(sql, parameters, options)))


@_task("carto-load")
def carto_load(
    warehouse: Warehouse,
    source: Any,
    destination: str,
    *,
    asset: bool = True,
    table_artifact: bool = True,
    progress_artifact: bool = True,
    **options: Unpack[LoadKeywords],
) -> dict[str, Any]:
    """Load data into a table, once in a run of a flow: a retry of the task or of the flow never loads it twice.

    A call is known by the names of its files, the content of its rows or the name and arguments of its function, and by
    where and how it is loaded; similar calls by their order in the flow. In another process than the flow's, as with
    Dask, equal rows in one run are one load, unless each call has an `idempotency_key`.

    Args:
        warehouse: A `CartoDataWarehouse`, `CartoCredentials`, or the name of saved credentials (`prod`, or
            `carto-data-warehouse/prod` for a warehouse). With a name, no secret travels with the task.
        source: Anything that `CartoWarehouse.load` takes, or a function that returns it, called for each try. An
            iterator can be loaded, but a second try that finds it begun fails.
        destination: The table, `dataset.table` or `project.dataset.table`.
        asset: Whether Prefect is told that the asset `bigquery://project/dataset/table` was materialized.
        table_artifact: Whether rows, bytes, job and duration are written to a table artifact.
        progress_artifact: Whether the progress of a load of more than a few seconds is shown as a progress artifact.
        options: Options of `CartoWarehouse.load`: `write_disposition`, `create_disposition`, `create_dataset`,
            `format`, `schema`, `geometry`, `crs`, `edges`, `lon` and `lat`, `invalid_geometry`, `make_valid`,
            `bad_rows`, `column_names`, `column_types`, `layer`, `delimiter`, `encoding`, `quote`, `null_marker`,
            `skip_rows`, `header`, `partitioning`, `clustering`, `timeout`; `labels` beside those of the flow, the task
            and their runs; `idempotency_key` instead of the one that is made of the flow run and of what the load does;
            `on_progress` instead of the progress artifact.

    Returns:
        A `LoadResult` as plain JSON types: `job_id`, `destination`, `rows`, `bytes`, `rejected`, `repaired` and so on.

    Raises:
        FileNotFoundError: If the file does not exist.
        TypeError: If the source is of a type that cannot be loaded.
        ValueError: If the `idempotency_key` belongs to a job that does something else, or a name or the content is
            invalid; the message names file, row or column.
        TimeoutError: If the time limit passed.
        CredentialsError: If no token can be obtained.
        google.api_core.exceptions.GoogleAPICallError: If BigQuery refused the load, or it failed.
    """
    options["idempotency_key"] = options.get("idempotency_key") or _load_key(source, destination, options)
    options["labels"] = _all_labels(options)
    block = _loaded(warehouse)
    with _reports.LoadReport(
        destination, asset=asset, table_artifact=table_artifact, progress_artifact=progress_artifact
    ) as report:
        options.setdefault("on_progress", report.on_progress)
        report.result = block.load_table(_calls.readable_source(source), destination, **options)
    _calls.forget_source()
    return _logged(report.result)


@_task("carto-load")
async def acarto_load(
    warehouse: Warehouse,
    source: Any,
    destination: str,
    *,
    asset: bool = True,
    table_artifact: bool = True,
    progress_artifact: bool = True,
    **options: Unpack[LoadKeywords],
) -> dict[str, Any]:
    """Load data into a table, like `carto_load`, without holding the event loop."""
    key = options.get("idempotency_key") or await to_thread(_load_key, source, destination, options)  # reads the rows
    options["idempotency_key"], options["labels"] = key, _all_labels(options)
    block = await _aloaded(warehouse)
    async with _reports.LoadReport(
        destination, asset=asset, table_artifact=table_artifact, progress_artifact=progress_artifact
    ) as report:
        options.setdefault("on_progress", report.on_progress)
        rows = await to_thread(_calls.readable_source, source)
        report.result = await block.aload_table(rows, destination, **options)
    _calls.forget_source()
    return _logged(report.result)


def _query_options(sql: str, parameters: Parameters | None, options: QueryKeywords) -> QueryKeywords:
    what = {"sql": sql, "parameters": parameters, **_options_of(QueryOptions, options)}
    key = options.get("idempotency_key")
    if not key and not options.get("dry_run"):
        key = _calls.idempotency_key("query", what)
    return {"max_rows": MAX_ROWS, **options, "idempotency_key": key, "labels": _all_labels(options)}


def _load_key(source: Any, destination: str, options: LoadKeywords) -> RunKey | None:
    what = {
        name: value
        for name, value in _options_of(LoadOptions, options).items()
        if name in COUNTED or value != LoadOptions.__dataclass_fields__[name].default
    }
    if what.get("crs") is not None:
        what["crs"] = str(what["crs"])
    return _calls.idempotency_key("load", {**what, "source": source, "destination": destination})


def _options_of(kind: type[QueryOptions | LoadOptions], options: QueryKeywords | LoadKeywords) -> dict[str, Any]:
    """Return the options that say what a job does; the others may differ between two tries."""
    return {name: value for name, value in options.items() if name in kind.__dataclass_fields__ and name not in COSTS}


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


def _all_labels(options: QueryKeywords | LoadKeywords) -> Mapping[str, str]:
    return {**_calls.run_labels(), **(options.get("labels") or {})}


def _logged(result: QueryResult | LoadResult) -> dict[str, Any]:
    """Write a result to the run's log, and return it as plain JSON types."""
    if TaskRunContext.get():
        found = " (done by an earlier try)" if result.reattached else ""
        logger = get_run_logger()
        logger.info("%s%s", _sentence(result), found)
        if isinstance(result, LoadResult) and result.repaired:
            logger.info("%s", result.repair)
        if isinstance(result, LoadResult) and result.rejected:
            logger.warning("%s", result.rejection)
    return plain_result(result)


def _sentence(result: QueryResult | LoadResult) -> str:
    if isinstance(result, LoadResult):
        return f"Load job {result.job_id}: {result.rows:,} rows, {result.bytes:,} bytes into {result.destination}"
    if not result.job_id:
        return f"Dry run of a query: {result.bytes_processed:,} bytes would be read"
    return f"Query job {result.job_id}: {result.total_rows:,} rows, {result.bytes_processed:,} bytes read"
