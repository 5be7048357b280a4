"""CartoWarehouse: queries and loads in the CARTO Data Warehouse that happen exactly once, sync and async."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from ..bigquery.errors import job_error, not_found
from ..bigquery.rest import BigQuery
from ..waiting import Cancelled, Deadline, run
from .jobs import AREA_LABEL, REJECTED_LABEL, REPAIRED_LABEL, cancel_at_once, find_or_begin, wait
from .options import MAX_ROWS, LoadOptions, QueryOptions
from .queries import check_query, first_rows, query_plan
from .results import JobReference, LoadPlan, LoadResult, QueryResult
from .tables import name_of, rejected_table
from .twins import sync, twin_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pyarrow
    from google.cloud.bigquery import SchemaField

    from ..bigquery.dw_tokens import DWTokens
    from ..bigquery.rest import Job
    from ..waiting import Steps
    from .options import (
        BadRows,
        ColumnNames,
        CreateDisposition,
        Edges,
        FileFormat,
        InvalidGeometry,
        OnProgress,
        Parameters,
        Partitioning,
        Priority,
        WriteDisposition,
    )


class CartoWarehouse:
    """Runs queries and loads data. `CartoAuth.warehouse()` returns one.

    With an `idempotency_key`, a repeated call takes the job that runs or has succeeded; it begins another one only
    after a failed or cancelled one. A key is for one query or load: build it from the DAG or flow, the run, the task
    and the map index.

    Every method raises `CredentialsError` if no token can be obtained, `TimeoutError` if its time limit passes, and
    `google.api_core.exceptions.GoogleAPICallError` if BigQuery refuses the call or the job fails. If BigQuery cannot be
    reached, calls are repeated for ten minutes, then `google.auth.exceptions.TransportError` is raised.

    Args:
        tokens: The DW tokens of the account.
    """

    def __init__(self, tokens: DWTokens) -> None:
        self._tokens = tokens

    @sync
    def query(
        self,
        sql: str,
        *,
        parameters: Parameters | None = None,
        idempotency_key: str | None = None,
        destination: str | None = None,
        write_disposition: WriteDisposition = "WRITE_TRUNCATE",
        maximum_bytes_billed: int | None = None,
        priority: Priority = "INTERACTIVE",
        use_query_cache: bool | None = None,
        dry_run: bool = False,
        max_rows: int = MAX_ROWS,
        labels: Mapping[str, str] | None = None,
        timeout: float | None = None,
        on_progress: OnProgress | None = None,
    ) -> Steps[QueryResult]:
        """Run a query and wait for its end.

        Example:
            ```python
            result = warehouse.query(
                "SELECT name FROM shared.stores WHERE size > @size",
                parameters={"size": 100},
                idempotency_key="large-stores/2026-11-25",
            )
            for row in result.rows:
                print(row["name"])
            ```

        Args:
            sql: The statement or script.
            parameters: Values for `@name` (a mapping) or `?` (a sequence). Their BigQuery types follow from their
                Python types; otherwise pass `bigquery.ScalarQueryParameter` and the like.
            idempotency_key: Names this query, so that a retry does not run it twice.
            destination: A table for the rows, `dataset.table` or `project.dataset.table`.
            write_disposition: What happens to that table's rows: `WRITE_TRUNCATE`, `WRITE_APPEND` or `WRITE_EMPTY`.
            maximum_bytes_billed: Bytes; a query that would bill more fails before it costs anything. None for the
                account's limit, if it has one.
            priority: `INTERACTIVE`, or `BATCH` to wait until the project has resources to spare.
            use_query_cache: Whether the rows may come from BigQuery's cache, which costs nothing; None for BigQuery's
                default, which is yes.
            dry_run: Whether BigQuery only checks the query: `bytes_processed` of the result says what it would read.
                There is no job and no row, the key is left to the query itself, and nothing is billed.
            max_rows: How many rows the result holds.
            labels: Labels for the job, of any text.
            timeout: Seconds for the whole call, after which the job is cancelled.
            on_progress: Called before the job is begun and after each look at it.

        Raises:
            ValueError: If the key belongs to a job that does something else, a name or an option is invalid, or no
                BigQuery type holds a parameter exactly.
            TypeError: If a parameter has no BigQuery type.
        """
        api = self._api(timeout)
        options = QueryOptions(destination, write_disposition, maximum_bytes_billed, priority, use_query_cache)
        if dry_run:
            return (yield from _dry_run(api, sql, parameters, options, labels))
        job, reattached = yield from _begin_query(api, sql, parameters, options, idempotency_key, labels, on_progress)
        job = yield from _ended(api, job, on_progress)
        return (yield from self._query_result(api, job, max_rows, reattached=reattached))

    aquery = twin_of(query)

    @sync
    def begin_query(
        self,
        sql: str,
        *,
        parameters: Parameters | None = None,
        idempotency_key: str | None = None,
        destination: str | None = None,
        write_disposition: WriteDisposition = "WRITE_TRUNCATE",
        maximum_bytes_billed: int | None = None,
        priority: Priority = "INTERACTIVE",
        use_query_cache: bool | None = None,
        labels: Mapping[str, str] | None = None,
        timeout: float | None = None,
        on_progress: OnProgress | None = None,
    ) -> Steps[JobReference]:
        """Begin a query, or find the one that was begun with its key, without waiting for its end.

        `result` waits and returns its result, here or in another process. The arguments are those of `query`.
        """
        api = self._api(timeout)
        options = QueryOptions(destination, write_disposition, maximum_bytes_billed, priority, use_query_cache)
        job, reattached = yield from _begin_query(api, sql, parameters, options, idempotency_key, labels, on_progress)
        return JobReference(job.job_id, job.location, reattached)

    abegin_query = twin_of(begin_query)

    @sync
    def load(
        self,
        source: object,
        destination: str,
        *,
        idempotency_key: str | None = None,
        write_disposition: WriteDisposition = "WRITE_APPEND",
        create_disposition: CreateDisposition = "CREATE_IF_NEEDED",
        create_dataset: bool = False,
        format: FileFormat | None = None,  # noqa: A002  # its usual name
        schema: Sequence[SchemaField] | None = None,
        geometry: Sequence[str] | str = (),
        crs: object = None,
        edges: Edges | None = None,
        lon: str | None = None,
        lat: str | None = None,
        invalid_geometry: InvalidGeometry = "refuse",
        make_valid: bool = False,
        bad_rows: BadRows = "refuse",
        column_names: ColumnNames = "strict",
        column_types: Mapping[str, str] | None = None,
        layer: str | None = None,
        delimiter: str | None = None,
        encoding: str | None = None,
        quote: str = '"',
        null_marker: str | None = None,
        skip_rows: int = 0,
        header: bool = True,
        partitioning: Partitioning | None = None,
        clustering: Sequence[str] = (),
        labels: Mapping[str, str] | None = None,
        timeout: float | None = None,
        on_progress: OnProgress | None = None,
    ) -> Steps[LoadResult]:
        """Load data into a table, whole or not at all.

        Example:
            ```python
            result = warehouse.load("stores.parquet", "shared.stores", idempotency_key="stores/2026-11-25")
            print(result.rows, "rows in", result.destination)
            ```

        Args:
            source: A file, a directory, a glob, an `https://`, `s3://` or other URL, or a list of them: CSV, JSON,
                GeoJSON, Parquet, GeoParquet, Avro, Excel, GeoPackage, Shapefile and what else GDAL reads. `gs://` URIs,
                which BigQuery reads by itself. A frame of pandas, geopandas or polars, a pyarrow Table or
                RecordBatchReader, or an iterable of dicts, of Arrow batches or of frames. All of them are streamed.
            destination: The table, `dataset.table` or `project.dataset.table`.
            idempotency_key: Names this load, so that a retry does not load its rows twice.
            write_disposition: `WRITE_APPEND`, `WRITE_TRUNCATE` (replaces the rows) or `WRITE_EMPTY` (fails if there are
                rows).
            create_disposition: `CREATE_IF_NEEDED` or `CREATE_NEVER`.
            create_dataset: Whether a missing dataset is created.
            format: The file's format, if its name does not tell: `CSV`, `JSON`, `GEOJSON`, `PARQUET`, `AVRO`, `EXCEL`,
                or `VECTOR` for GeoPackage, Shapefile, KML and whatever else GDAL reads.
            schema: The table's schema; None to derive it from the data.
            geometry: Columns that hold geometry as WKB, WKT, GeoJSON or shapely objects, and become GEOGRAPHY.
                GeoDataFrames, GeoJSON and other geographic files name theirs.
            crs: The coordinate reference system of the geometry; None for what the source names, else longitude and
                latitude.
            edges: What the edges of the geometry are: `planar`, straight lines on a map of longitude and latitude, or
                `spherical`, geodesics; None for what the source names, else planar.
            lon: A column of longitudes. With `lat`, it becomes a column `geom` of points.
            lat: A column of latitudes.
            invalid_geometry: `refuse` names the first invalid geometry; `repair` mends it as `shapely.make_valid` does.
            make_valid: Whether invalid geometry is mended: a short form of `invalid_geometry="repair"`.
            bad_rows: `refuse` ends the load at the first row that does not fit; `quarantine` loads such rows into
                `<table>__rejected`, with the reason.
            column_names: `strict` refuses names that BigQuery does not accept; `sanitize` makes them valid.
            column_types: BigQuery types by column, for columns whose type is not to be derived from the data.
            layer: The layer of a geographic file, or the sheet of a workbook; None for its only or first one.
            delimiter: The column delimiter of a CSV file; None to find it.
            encoding: The encoding of a text file; None to find it.
            quote: The quote character of a CSV file.
            null_marker: The text that stands for NULL in a CSV file, beside an empty field.
            skip_rows: Lines before the header of a CSV file or a sheet.
            header: Whether the first line of a CSV file or a sheet names the columns; without it they are `column_1`
                and so on.
            partitioning: A `bigquery.TimePartitioning` or `bigquery.RangePartitioning`.
            clustering: Columns to cluster by.
            labels: Labels for the job, of any text.
            timeout: Seconds for the whole call, after which nothing more is sent and the job is cancelled.
            on_progress: Called while the source is read, after each chunk that is sent, and after each look at the job.

        Raises:
            FileNotFoundError: If the file does not exist.
            TypeError: If the source is of a type that cannot be loaded.
            ValueError: If the key belongs to a job that does something else, or the source does not fit: the message
                names file, row and column. Then nothing was sent.
        """
        api = self._api(timeout)
        options = LoadOptions(
            write_disposition=write_disposition,
            create_disposition=create_disposition,
            create_dataset=create_dataset,
            format=format,
            schema=schema,
            geometry=geometry,
            crs=crs,
            edges=edges,
            lon=lon,
            lat=lat,
            invalid_geometry=invalid_geometry,
            make_valid=make_valid,
            bad_rows=bad_rows,
            column_names=column_names,
            column_types=column_types,
            layer=layer,
            delimiter=delimiter,
            encoding=encoding,
            quote=quote,
            null_marker=null_marker,
            skip_rows=skip_rows,
            header=header,
            partitioning=partitioning,
            clustering=clustering,
        )
        job, reattached = yield from _begin_load(
            api, source, destination, options, idempotency_key, labels, on_progress
        )
        try:
            job = yield from _ended(api, job, on_progress)
        except (Cancelled, GeneratorExit):
            if api.deadline.cancelled:  # the coroutine was: it loads nothing
                run(cancel_at_once(api, job.job_id, job.location))
            raise
        return _load_result(job, reattached=reattached)

    aload = twin_of(load)

    @sync
    def begin_load(
        self,
        source: object,
        destination: str,
        *,
        idempotency_key: str | None = None,
        write_disposition: WriteDisposition = "WRITE_APPEND",
        create_disposition: CreateDisposition = "CREATE_IF_NEEDED",
        create_dataset: bool = False,
        format: FileFormat | None = None,  # noqa: A002  # its usual name
        schema: Sequence[SchemaField] | None = None,
        geometry: Sequence[str] | str = (),
        crs: object = None,
        edges: Edges | None = None,
        lon: str | None = None,
        lat: str | None = None,
        invalid_geometry: InvalidGeometry = "refuse",
        make_valid: bool = False,
        bad_rows: BadRows = "refuse",
        column_names: ColumnNames = "strict",
        column_types: Mapping[str, str] | None = None,
        layer: str | None = None,
        delimiter: str | None = None,
        encoding: str | None = None,
        quote: str = '"',
        null_marker: str | None = None,
        skip_rows: int = 0,
        header: bool = True,
        partitioning: Partitioning | None = None,
        clustering: Sequence[str] = (),
        labels: Mapping[str, str] | None = None,
        timeout: float | None = None,
        on_progress: OnProgress | None = None,
    ) -> Steps[JobReference]:
        """Send the data and begin the load, or find the one that was begun with its key, without waiting for its end.

        `result` waits and returns its result, here or in another process. The arguments are those of `load`.
        """
        api = self._api(timeout)
        options = LoadOptions(
            write_disposition=write_disposition,
            create_disposition=create_disposition,
            create_dataset=create_dataset,
            format=format,
            schema=schema,
            geometry=geometry,
            crs=crs,
            edges=edges,
            lon=lon,
            lat=lat,
            invalid_geometry=invalid_geometry,
            make_valid=make_valid,
            bad_rows=bad_rows,
            column_names=column_names,
            column_types=column_types,
            layer=layer,
            delimiter=delimiter,
            encoding=encoding,
            quote=quote,
            null_marker=null_marker,
            skip_rows=skip_rows,
            header=header,
            partitioning=partitioning,
            clustering=clustering,
        )
        job, reattached = yield from _begin_load(
            api, source, destination, options, idempotency_key, labels, on_progress
        )
        return JobReference(job.job_id, job.location, reattached)

    abegin_load = twin_of(begin_load)

    @sync
    def plan(
        self,
        source: object,
        *,
        format: FileFormat | None = None,  # noqa: A002  # its usual name
        schema: Sequence[SchemaField] | None = None,
        geometry: Sequence[str] | str = (),
        crs: object = None,
        edges: Edges | None = None,
        lon: str | None = None,
        lat: str | None = None,
        invalid_geometry: InvalidGeometry = "refuse",
        make_valid: bool = False,
        bad_rows: BadRows = "refuse",
        column_names: ColumnNames = "strict",
        column_types: Mapping[str, str] | None = None,
        layer: str | None = None,
        delimiter: str | None = None,
        encoding: str | None = None,
        quote: str = '"',
        null_marker: str | None = None,
        skip_rows: int = 0,
        header: bool = True,
        timeout: float | None = None,
        on_progress: OnProgress | None = None,
    ) -> Steps[LoadPlan]:
        """Read a source to its end and return what a load of it would do, without asking BigQuery anything.

        The arguments are those of `load`; `timeout` bounds the reading, and `on_progress` is called meanwhile.

        Example:
            ```python
            plan = warehouse.plan("stores.csv", lon="x", lat="y")
            print(plan.rows, plan.columns, plan.bounds, plan.found["delimiter"])
            ```

        Raises:
            ValueError: If the source could not be loaded exactly; the message names file, row and column.
        """
        from .loads import plan_of  # queries need none of it

        api = self._api(timeout)
        options = LoadOptions(
            format=format,
            schema=schema,
            geometry=geometry,
            crs=crs,
            edges=edges,
            lon=lon,
            lat=lat,
            invalid_geometry=invalid_geometry,
            make_valid=make_valid,
            bad_rows=bad_rows,
            column_names=column_names,
            column_types=column_types,
            layer=layer,
            delimiter=delimiter,
            encoding=encoding,
            quote=quote,
            null_marker=null_marker,
            skip_rows=skip_rows,
            header=header,
        )
        yield api.deadline
        return (yield from plan_of(source, options, api.deadline, on_progress))

    aplan = twin_of(plan)

    @sync
    def result(
        self,
        job: str | JobReference,
        *,
        location: str | None = None,
        max_rows: int = MAX_ROWS,
        timeout: float | None = None,
        on_progress: OnProgress | None = None,
    ) -> Steps[QueryResult | LoadResult]:
        """Return the result of a job, whoever began it. A job that still runs is waited for.

        Args:
            job: The job's id, or what `begin_query` or `begin_load` returned.
            location: Where it runs. Left out, the account's location is tried, and without one BigQuery looks in its
                multi-regions US and EU.
            max_rows: How many rows the result of a query holds.
            timeout: Seconds from now on after which the job is cancelled.
            on_progress: Called after each look at the job.

        Raises:
            google.api_core.exceptions.NotFound: If there is no such job in that location.
        """
        api = self._api(timeout)
        yield api.deadline
        found = yield from self._found(api, job, location)
        found = yield from _ended(api, found, on_progress)
        reattached = isinstance(job, JobReference) and job.reattached
        if found.configured("load"):
            return _load_result(found, reattached=reattached)
        return (yield from self._query_result(api, found, max_rows, reattached=reattached))

    aresult = twin_of(result)

    @sync
    def wait_for(
        self,
        job: str | JobReference,
        *,
        location: str | None = None,
        timeout: float | None = None,
        on_progress: OnProgress | None = None,
    ) -> Steps[None]:
        """Wait for the end of a job, whoever began it. The arguments are those of `result`."""
        api = self._api(timeout)
        yield api.deadline
        found = yield from self._found(api, job, location)
        yield from _ended(api, found, on_progress)

    await_for = twin_of(wait_for)

    @sync
    def cancel(self, job: str | JobReference, location: str | None = None) -> Steps[None]:
        """Ask BigQuery to cancel a job. One that has ended stays as it is.

        Args:
            job: The job's id, or what `begin_query` or `begin_load` returned.
            location: Where it runs; left out, as for `result`.

        Raises:
            google.api_core.exceptions.NotFound: If there is no such job in that location.
        """
        api = self._api(None)
        yield api.deadline
        job_id, place = _place_of(api, job, location)
        if not (yield from api.cancel(job_id, place)):
            raise not_found(job_id, place)

    acancel = twin_of(cancel)

    def _api(self, timeout: float | None) -> BigQuery:
        return BigQuery(self._tokens, Deadline(timeout))

    def _found(self, api: BigQuery, job: str | JobReference, location: str | None) -> Steps[Job]:
        job_id, place = _place_of(api, job, location)
        found = yield from api.get(job_id, place)
        if found is None:
            raise not_found(job_id, place)
        return found

    def _query_result(self, api: BigQuery, job: Job, max_rows: int, *, reattached: bool) -> Steps[QueryResult]:
        rows, total = yield from first_rows(api, job, max_rows)
        counted = job.statistics("query")
        affected, table = counted.get("numDmlAffectedRows"), job.configured("query").get("destinationTable")
        return QueryResult(
            job_id=job.job_id,
            location=job.location,
            statement_type=counted.get("statementType"),
            rows=rows,
            total_rows=total,
            affected_rows=None if affected is None else int(affected),
            bytes_processed=int(counted.get("totalBytesProcessed", 0)),
            destination=name_of(table) if table else None,
            reattached=reattached,
            _fetch=partial(_all_rows, self._tokens, job.job_id, job.location),
        )

    def __repr__(self) -> str:
        return f"CartoWarehouse({self._tokens!r})"

    def __reduce__(self) -> tuple[object, ...]:
        return CartoWarehouse, (self._tokens,)


def _begin_query(
    api: BigQuery,
    sql: str,
    parameters: Parameters | None,
    options: QueryOptions,
    key: str | None,
    labels: Mapping[str, str] | None,
    on_progress: OnProgress | None,
) -> Steps[tuple[Job, bool]]:
    yield api.deadline
    plan = query_plan(api, sql, parameters, options, key=key, labels=labels)
    return (yield from find_or_begin(api, plan, on_progress))


def _dry_run(
    api: BigQuery, sql: str, parameters: Parameters | None, options: QueryOptions, labels: Mapping[str, str] | None
) -> Steps[QueryResult]:
    yield api.deadline
    checked = yield from check_query(api, sql, parameters, options, labels)
    counted = checked.get("statistics", {})
    table = checked["configuration"]["query"].get("destinationTable") if options.destination else None
    return QueryResult(
        job_id="",
        location=checked.get("jobReference", {}).get("location"),
        statement_type=counted.get("query", {}).get("statementType"),
        rows=(),
        total_rows=0,
        affected_rows=None,
        bytes_processed=int(counted.get("totalBytesProcessed", 0)),
        destination=name_of(table) if table else None,
        reattached=False,
    )


def _begin_load(
    api: BigQuery,
    source: object,
    destination: str,
    options: LoadOptions,
    key: str | None,
    labels: Mapping[str, str] | None,
    on_progress: OnProgress | None,
) -> Steps[tuple[Job, bool]]:
    from .loads import load_plan  # queries need none of it

    yield api.deadline
    plan = yield from load_plan(api, source, destination, options, key=key, labels=labels, on_progress=on_progress)
    return (yield from find_or_begin(api, plan, on_progress))


def _ended(api: BigQuery, job: Job, on_progress: OnProgress | None) -> Steps[Job]:
    job = yield from wait(api, job, on_progress)
    if job.failed:
        raise job_error(job)
    return job


def _place_of(api: BigQuery, job: str | JobReference, location: str | None) -> tuple[str, str | None]:
    job_id, place = (job.job_id, job.location) if isinstance(job, JobReference) else (job, None)
    return job_id, location or place or api.account.location


def _load_result(job: Job, *, reattached: bool) -> LoadResult:
    counted, labels = job.statistics("load"), job.resource["configuration"].get("labels", {})
    table, rejected = job.configured("load")["destinationTable"], int(labels.get(REJECTED_LABEL, 0))
    return LoadResult(
        job_id=job.job_id,
        location=job.location,
        destination=name_of(table),
        rows=int(counted.get("outputRows", 0)),
        bytes=int(counted.get("inputFileBytes", 0)),
        reattached=reattached,
        rejected=rejected,
        rejected_table=rejected_table(name_of(table)) if rejected else None,
        repaired=int(labels.get(REPAIRED_LABEL, 0)),
        area_change=int(labels.get(AREA_LABEL, 0)),
    )


def _all_rows(tokens: DWTokens, job_id: str, location: str | None) -> pyarrow.Table:
    """Return all rows: by the Storage API where there is one and the token is allowed to, else by REST."""
    from contextlib import closing

    from google.api_core.exceptions import Forbidden, Unauthenticated

    from ..bigquery.client import make_client

    with closing(make_client(tokens, tokens.get().details["project_id"], {})) as client:
        job: Any = client.get_job(job_id, location=location)
        if tokens.account.bigquery_endpoint is None:
            try:
                return job.to_arrow()
            except (Forbidden, Unauthenticated):  # whether CARTO's tokens are allowed to is unknown
                pass
        return job.to_arrow(create_bqstorage_client=False)
