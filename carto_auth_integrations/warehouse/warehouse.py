"""CartoWarehouse: queries and loads in the CARTO Data Warehouse that happen exactly once, sync and async."""

from __future__ import annotations

import json
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING

from .jobs import JobPlan, run, valid_labels
from .loading import (
    CREATE_DISPOSITIONS,
    WRITE_DISPOSITIONS,
    LoadOptions,
    destination_of,
    identity_of,
    job_config,
    send,
    upload_of,
)
from .results import LoadResult, QueryResult, plain
from .steps import adrive, drive

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    import pyarrow
    from google.cloud import bigquery

    from ..auth import CartoAuth
    from .results import JobProgress
    from .steps import Steps

MAX_ROWS = 1000
"""Rows of a query that come back as plain values unless the caller says otherwise: for looking at, and for XCom."""


class CartoWarehouse:
    """Runs queries and loads data.

    With an `idempotency_key`, a call that is made again finds the job that runs or has succeeded and takes its result;
    only after a failed or cancelled one does it begin anew. One key is for one query or load: build it from the DAG or
    flow, the run, the task and the map index.

    Args:
        auth: Whose warehouse.
    """

    def __init__(self, auth: CartoAuth) -> None:
        self._auth = auth
        self._made: bigquery.Client | None = None
        self._making = Lock()

    def query(
        self,
        sql: str,
        *,
        parameters: Mapping[str, Any] | Sequence[Any] | None = None,
        idempotency_key: str | None = None,
        destination: str | None = None,
        write_disposition: str = "WRITE_TRUNCATE",
        max_rows: int = MAX_ROWS,
        labels: Mapping[str, str] | None = None,
        timeout: float | None = None,
        on_progress: Callable[[JobProgress], None] | None = None,
    ) -> QueryResult:
        """Run a query and wait for its end.

        Args:
            sql: The statement or script.
            parameters: Values for `@name` (a mapping) or `?` (a sequence); their BigQuery types follow from their
                Python ones, or give `bigquery.ScalarQueryParameter` and the like.
            idempotency_key: Names this query among all, so that a retry does not run it twice.
            destination: A table for the rows, `dataset.table` or `project.dataset.table`.
            write_disposition: What to do with that table's rows: `WRITE_TRUNCATE`, `WRITE_APPEND` or `WRITE_EMPTY`.
            max_rows: How many rows come back in the result.
            labels: Labels for the job, of any text.
            timeout: Seconds after which the job is cancelled.
            on_progress: Called after each look at the job.

        Raises:
            TimeoutError: If the time limit passed.
            CredentialsError: If there is no token to be had.
            google.api_core.exceptions.GoogleAPICallError: If the query failed, as BigQuery says.
        """
        return drive(self._query(**_arguments(locals())))

    async def aquery(self, sql: str, **options: Any) -> QueryResult:
        """Run a query, like `query`, without holding the event loop and without a thread for each job.

        A coroutine that is cancelled leaves the job running: a later call with the same key finds it, `cancel` ends it.
        """
        return await adrive(self._query(sql, **options))

    def load(
        self,
        source: Any,
        destination: str,
        *,
        idempotency_key: str | None = None,
        write_disposition: str = "WRITE_APPEND",
        create_disposition: str = "CREATE_IF_NEEDED",
        create_dataset: bool = False,
        format: str | None = None,  # noqa: A002  # what everyone calls it
        schema: Sequence[bigquery.SchemaField] | None = None,
        geometry: Sequence[str] | str = (),
        crs: Any = None,
        partitioning: Any = None,
        clustering: Sequence[str] = (),
        labels: Mapping[str, str] | None = None,
        timeout: float | None = None,
        on_progress: Callable[[JobProgress], None] | None = None,
    ) -> LoadResult:
        """Load data into a table, whole or not at all.

        Args:
            source: A file (CSV with a header, newline-delimited JSON, GeoJSON, Parquet, GeoParquet, Avro), a `gs://`
                URI or a list of them, a pandas DataFrame, a GeoDataFrame, a pyarrow Table or RecordBatchReader, or an
                iterable of dicts, of Arrow batches or of frames. Iterables and readers are streamed.
            destination: The table, `dataset.table` or `project.dataset.table`.
            idempotency_key: Names this load among all, so that a retry does not load its rows twice.
            write_disposition: `WRITE_APPEND`, `WRITE_TRUNCATE` (replace) or `WRITE_EMPTY` (fail if there are rows).
            create_disposition: `CREATE_IF_NEEDED` or `CREATE_NEVER`.
            create_dataset: Whether a dataset that is not there is made.
            format: The file's format, if its name does not tell: `CSV`, `JSON`, `GEOJSON`, `PARQUET`, `AVRO`.
            schema: The table's schema; left out, it is learnt from the data.
            geometry: Columns that hold geometry as WKB or WKT, and become GEOGRAPHY; GeoDataFrames, GeoJSON and
                GeoParquet say so themselves.
            crs: The reference system of these columns; left out, longitude and latitude.
            partitioning: A `bigquery.TimePartitioning` or `RangePartitioning`.
            clustering: Columns to cluster by.
            labels: Labels for the job, of any text.
            timeout: Seconds after which the job is cancelled, counted from the end of the upload.
            on_progress: Called after each chunk that is sent, and after each look at the job.

        Raises:
            FileNotFoundError: If the file is not there.
            TypeError: If the source is nothing that can be loaded.
            ValueError: If a name or the content is not what it should be; the message names file, row or column.
            TimeoutError: If the time limit passed.
            CredentialsError: If there is no token to be had.
            google.api_core.exceptions.GoogleAPICallError: If the load failed, as BigQuery says.
        """
        return drive(self._load(**_arguments(locals())))

    async def aload(self, source: Any, destination: str, **options: Any) -> LoadResult:
        """Load data, like `load`, without holding the event loop: the source is read on a shared thread."""
        return await adrive(self._load(source, destination, **options))

    def cancel(self, job_id: str, location: str | None = None) -> None:
        """Ask BigQuery to cancel a job; one that has ended stays as it is.

        Args:
            job_id: The job.
            location: Where it runs.
        """
        self._client().cancel_job(job_id, location=location or self._auth.account.location)

    def _query(
        self,
        sql: str,
        *,
        parameters: Mapping[str, Any] | Sequence[Any] | None = None,
        idempotency_key: str | None = None,
        destination: str | None = None,
        write_disposition: str = "WRITE_TRUNCATE",
        max_rows: int = MAX_ROWS,
        labels: Mapping[str, str] | None = None,
        timeout: float | None = None,
        on_progress: Callable[[JobProgress], None] | None = None,
    ) -> Steps[QueryResult]:
        def prepare() -> tuple[bigquery.Client, JobPlan[bigquery.QueryJob]]:  # imports and JSON: no work for a loop
            from google.cloud import bigquery

            client = self._client()
            config = bigquery.QueryJobConfig(query_parameters=query_parameters(parameters))
            if destination is not None:
                config.destination = destination_of(destination, client.project, self._auth.account.default_dataset)
                config.write_disposition = _checked("write_disposition", write_disposition, WRITE_DISPOSITIONS)
            what = json.dumps(["query", sql, config.to_api_repr()], sort_keys=True, default=str)
            config.labels = valid_labels(labels or {})  # no part of the deed: a retry may carry its number
            plan: JobPlan[bigquery.QueryJob] = JobPlan(
                key=idempotency_key,
                what=what,
                begin=lambda job_id: client.query(
                    sql, job_config=config, job_id=job_id, job_retry=None, api_method="INSERT"
                ),
                is_same=lambda job: getattr(job, "query", None) == sql,
                location=self._auth.account.location,
            )
            return client, plan

        client, plan = yield prepare
        job, reattached = yield from run(client, plan, timeout=timeout, on_progress=on_progress)

        def fetch() -> tuple[int, tuple[dict[str, Any], ...]]:
            rows = job.result(max_results=max_rows)
            first = tuple({name: plain(value) for name, value in row.items()} for row in rows)
            return rows.total_rows or len(first), first

        total, first = yield fetch
        return QueryResult(
            job_id=job.job_id,
            location=job.location,
            statement_type=job.statement_type,
            rows=first,
            total_rows=total,
            affected_rows=job.num_dml_affected_rows,
            bytes_processed=job.total_bytes_processed or 0,
            destination=_name_of(job.destination),
            reattached=reattached,
            _fetch=partial(_all_rows, job, may_use_storage=self._auth.account.bigquery_endpoint is None),
        )

    def _load(
        self,
        source: Any,
        destination: str,
        *,
        idempotency_key: str | None = None,
        create_dataset: bool = False,
        labels: Mapping[str, str] | None = None,
        timeout: float | None = None,
        on_progress: Callable[[JobProgress], None] | None = None,
        geometry: Sequence[str] | str = (),
        **how: Any,
    ) -> Steps[LoadResult]:
        options = LoadOptions(geometry=(geometry,) if isinstance(geometry, str) else tuple(geometry), **how)
        _checked("write_disposition", options.write_disposition, WRITE_DISPOSITIONS)
        _checked("create_disposition", options.create_disposition, CREATE_DISPOSITIONS)
        client = yield self._client
        table = destination_of(destination, client.project, self._auth.account.default_dataset)
        if create_dataset:
            yield partial(client.create_dataset, table.rpartition(".")[0], exists_ok=True)
        valid = valid_labels(labels or {})
        location = self._auth.account.location or (yield partial(_location_of, client, table.rpartition(".")[0]))

        def begin(job_id: str) -> bigquery.LoadJob:
            with upload_of(source, options) as upload:
                config = job_config(upload, options, valid)
                return send(client, job_id, upload, table, config, location=location, on_progress=on_progress)

        plan: JobPlan[bigquery.LoadJob] = JobPlan(
            key=idempotency_key,
            what=json.dumps(["load", identity_of(source), table, repr(options)]),
            begin=begin,
            is_same=lambda job: _name_of(getattr(job, "destination", None)) == table.partition("$")[0],
            location=location,
        )
        job, reattached = yield from run(client, plan, timeout=timeout, on_progress=on_progress)
        return LoadResult(
            job_id=job.job_id,
            location=job.location,
            destination=table,
            rows=job.output_rows or 0,
            bytes=job.input_file_bytes or 0,
            reattached=reattached,
        )

    def _client(self) -> bigquery.Client:
        with self._making:  # a thousand coroutines that begin at once need one client
            if self._made is None:
                self._made = self._auth.get_carto_dw_client()
            return self._made

    def __repr__(self) -> str:
        return f"CartoWarehouse({self._auth!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return CartoWarehouse, (self._auth,)


def query_parameters(parameters: Mapping[str, Any] | Sequence[Any] | None) -> list[Any]:
    """Give values as BigQuery's query parameters, their types by Python's.

    Raises:
        TypeError: If a value's type says nothing: None, an empty list, or an object.
    """
    from collections.abc import Mapping as AnyMapping

    if parameters is None:
        return []
    if isinstance(parameters, AnyMapping):
        return [_parameter(str(name), value) for name, value in parameters.items()]
    return [_parameter(None, value) for value in parameters]


def _parameter(name: str | None, value: Any) -> Any:
    from google.cloud import bigquery

    if hasattr(value, "to_api_repr"):
        return value
    if isinstance(value, (list, tuple)):
        kinds = {_type_of(name, item) for item in value}
        if len(kinds) != 1:
            raise TypeError(f"Parameter {name or '?'}: an array needs values of one type; give an ArrayQueryParameter.")
        return bigquery.ArrayQueryParameter(name, kinds.pop(), list(value))
    return bigquery.ScalarQueryParameter(name, _type_of(name, value), value)


def _type_of(name: str | None, value: Any) -> str:
    import datetime
    from decimal import Decimal

    kinds: tuple[tuple[type, str], ...] = (
        (bool, "BOOL"),
        (int, "INT64"),
        (float, "FLOAT64"),
        (str, "STRING"),
        (bytes, "BYTES"),
        (Decimal, "NUMERIC"),
        (datetime.datetime, "DATETIME"),
        (datetime.date, "DATE"),
        (datetime.time, "TIME"),
    )
    if isinstance(value, datetime.datetime) and value.tzinfo is not None:
        return "TIMESTAMP"
    for kind, name_in_bigquery in kinds:
        if isinstance(value, kind):
            return name_in_bigquery
    raise TypeError(
        f"Parameter {name or '?'}: a {type(value).__name__} has no BigQuery type; give a ScalarQueryParameter with one."
    )


def _location_of(client: bigquery.Client, dataset: str) -> str | None:
    """Give a dataset's location, where the job will run and a retry will look for it; None if that is not to be seen.

    Raises:
        google.api_core.exceptions.NotFound: If there is no such dataset: better before the upload than after.
    """
    from google.api_core.exceptions import Forbidden

    try:
        location: str | None = client.get_dataset(dataset).location
    except Forbidden:
        return None
    return location


def _all_rows(job: bigquery.QueryJob, *, may_use_storage: bool) -> pyarrow.Table:
    """Fetch all rows: by the Storage API where there is one and the token may, else by REST."""
    from google.api_core.exceptions import Forbidden, Unauthenticated

    if may_use_storage:
        try:
            return job.to_arrow()
        except (Forbidden, Unauthenticated):  # unproven for CARTO's tokens
            pass
    return job.to_arrow(create_bqstorage_client=False)


def _name_of(table: bigquery.TableReference | None) -> str | None:
    return None if table is None else f"{table.project}.{table.dataset_id}.{table.table_id}".partition("$")[0]


def _checked(name: str, value: str, known: tuple[str, ...]) -> str:
    if value not in known:
        raise ValueError(f"{name} must be one of {', '.join(known)}, not {value!r}.")
    return value


def _arguments(given: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if name != "self"}
