"""CartoWarehouse: queries and loads in the CARTO Data Warehouse that happen exactly once, sync and async."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING

from .steps import adrive, drive

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from google.cloud import bigquery

    from ..auth import CartoAuth
    from .engine import Engine
    from .results import JobProgress, JobReference, LoadResult, QueryResult

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
        self._engine: Engine | None = None
        self._lock = Lock()

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
            on_progress: Called before the job is begun and after each look at it.

        Raises:
            TimeoutError: If the time limit passed.
            CredentialsError: If there is no token to be had.
            google.api_core.exceptions.GoogleAPICallError: If the query failed, as BigQuery says.
        """
        return drive(self._ready().query(**_arguments(locals())))

    async def aquery(self, sql: str, **options: Any) -> QueryResult:
        """Run a query, like `query`, without holding the event loop and without a thread for each job.

        A coroutine that is cancelled leaves the job running: a later call with the same key finds it, `cancel` ends it.
        """
        return await adrive(lambda: self._ready().query(sql, **options))

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
            on_progress: Called before the first byte is sent, after each chunk, and after each look at the job.

        Raises:
            FileNotFoundError: If the file is not there.
            TypeError: If the source is nothing that can be loaded.
            ValueError: If a name or the content is not what it should be; the message names file, row or column.
            TimeoutError: If the time limit passed.
            CredentialsError: If there is no token to be had.
            google.api_core.exceptions.GoogleAPICallError: If the load failed, as BigQuery says.
        """
        return drive(self._ready().load(**_arguments(locals())))

    async def aload(self, source: Any, destination: str, **options: Any) -> LoadResult:
        """Load data, like `load`, without holding the event loop.

        A thread of those for uploads reads the source, sends it, and calls `on_progress` meanwhile.
        """
        return await adrive(lambda: self._ready().load(source, destination, **options))

    def begin_query(
        self,
        sql: str,
        *,
        parameters: Mapping[str, Any] | Sequence[Any] | None = None,
        idempotency_key: str | None = None,
        destination: str | None = None,
        write_disposition: str = "WRITE_TRUNCATE",
        labels: Mapping[str, str] | None = None,
        on_progress: Callable[[JobProgress], None] | None = None,
    ) -> JobReference:
        """Begin a query, or find the one that was begun with its key, and do not wait for its end.

        `wait_for` waits, here or in another process; `query` with the same key and arguments takes the result then.

        Args:
            sql: As for `query`, like all that follows.
            parameters: Values for `@name` or `?`.
            idempotency_key: Names this query among all.
            destination: A table for the rows.
            write_disposition: What to do with that table's rows.
            labels: Labels for the job.
            on_progress: Called before the job is begun.

        Raises:
            CredentialsError: If there is no token to be had.
            google.api_core.exceptions.GoogleAPICallError: If the query cannot be begun, as BigQuery says.
        """
        return drive(self._ready().begin_query(**_arguments(locals())))

    async def abegin_query(self, sql: str, **options: Any) -> JobReference:
        """Begin a query, like `begin_query`, without holding the event loop."""
        return await adrive(lambda: self._ready().begin_query(sql, **options))

    def begin_load(self, source: Any, destination: str, **options: Any) -> JobReference:
        """Send the data and begin the load, or find the one that was begun with its key, and do not wait for its end.

        `wait_for` waits, here or in another process; `load` with the same key and arguments takes the result then,
        without reading the source.

        Args:
            source: As for `load`.
            destination: The table.
            options: All of `load` but `timeout`.

        Raises:
            ValueError: Like `load`, which tells of the other errors too.
            google.api_core.exceptions.GoogleAPICallError: If the load cannot be begun, as BigQuery says.
        """
        return drive(self._ready().begin_load(source, destination, **options))

    async def abegin_load(self, source: Any, destination: str, **options: Any) -> JobReference:
        """Begin a load, like `begin_load`, without holding the event loop."""
        return await adrive(lambda: self._ready().begin_load(source, destination, **options))

    def wait_for(
        self,
        job_id: str,
        *,
        location: str | None = None,
        timeout: float | None = None,
        on_progress: Callable[[JobProgress], None] | None = None,
    ) -> None:
        """Wait for the end of a job, whoever has begun it.

        Args:
            job_id: The job.
            location: Where it runs. Left out, it is known of jobs that this object has begun; of others, the
                account's location is tried, and without one BigQuery looks in its multi-regions US and EU.
            timeout: Seconds from now on after which the job is cancelled.
            on_progress: Called after each look at the job.

        Raises:
            TimeoutError: If the time limit passed.
            CredentialsError: If there is no token to be had.
            google.api_core.exceptions.NotFound: If there is no such job in that place.
            google.api_core.exceptions.GoogleAPICallError: If the job failed, as BigQuery says.
        """
        return drive(self._ready().wait_for(**_arguments(locals())))

    async def await_for(self, job_id: str, **options: Any) -> None:
        """Wait for the end of a job, like `wait_for`, without holding the event loop and without a thread for each."""
        await adrive(lambda: self._ready().wait_for(job_id, **options))

    def cancel(self, job_id: str, location: str | None = None) -> None:
        """Ask BigQuery to cancel a job; one that has ended stays as it is.

        Args:
            job_id: The job.
            location: Where it runs; left out, as for `wait_for`.

        Raises:
            google.api_core.exceptions.NotFound: If there is no such job in that place.
        """
        drive(self._ready().cancel(job_id, location))

    async def acancel(self, job_id: str, location: str | None = None) -> None:
        """Ask BigQuery to cancel a job, like `cancel`, without holding the event loop."""
        await adrive(lambda: self._ready().cancel(job_id, location))

    def _ready(self) -> Engine:
        """Give what does the work; imported on first use, which takes longer than an event loop may be held."""
        with self._lock:  # a thousand coroutines that begin at once need one
            if self._engine is None:
                from .engine import Engine

                self._engine = Engine(self._auth)
            return self._engine

    def __repr__(self) -> str:
        return f"CartoWarehouse({self._auth!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return CartoWarehouse, (self._auth,)


def _arguments(given: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if name != "self"}
