"""CartoQueryOperator and CartoLoadOperator: queries and loads in the CARTO Data Warehouse that happen exactly once."""

from __future__ import annotations

import time
from dataclasses import fields
from typing import TYPE_CHECKING, ClassVar

from airflow.providers.common.compat.sdk import BaseOperator, conf

from airflow_provider.compat import ResumableJobMixin
from airflow_provider.hooks.carto import CartoHook
from airflow_provider.jobs import JobWatch, error_from_json, idempotency_key, job_labels
from airflow_provider.lineage import emit_asset, openlineage_of, outlets_of
from airflow_provider.links.carto import CartoJobLink
from carto_auth_integrations.account.account import sha256_of
from carto_auth_integrations.warehouse.options import LoadOptions, QueryOptions
from carto_auth_integrations.warehouse.results import LoadResult, plain_result

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any, NoReturn

    from airflow.providers.common.compat.sdk import Context
    from airflow.providers.openlineage.extractors import OperatorLineage
    from google.cloud.bigquery import SchemaField
    from pydantic import JsonValue

    from carto_auth_integrations.warehouse import CartoWarehouse, JobReference, QueryResult
    from carto_auth_integrations.warehouse.options import (
        BadRows,
        ColumnNames,
        CreateDisposition,
        Edges,
        FileFormat,
        InvalidGeometry,
        Parameters,
        Partitioning,
        Priority,
        WriteDisposition,
    )

DEFERRABLE: bool = conf.getboolean("operators", "default_deferrable", fallback=False)
"""Airflow's default for operators that can be deferred."""
KEY_DIGITS = 20
"""Hexadecimal digits of the hash that names the job in a task's state store: 80 bits, for a handful of names."""
MAX_ROWS = 100
"""Rows of a query that go into XCom by default: Airflow keeps them in its database."""


class CartoJobOperator(ResumableJobMixin, BaseOperator):
    """The common base of the query and the load operator. Do not use it by itself.

    A retry takes the job of the earlier try, however that ended: a running job is waited for, a succeeded one returns
    its result, also if templates, parameters or data are different now. A cleared task runs again. The job is cancelled
    by `on_kill`, by `execution_timeout`, which applies to a deferred task too, and, while the task is deferred, when a
    user clears or marks it.

    All of that follows from the job's id. Airflow 3.3's `ResumableJobMixin` also keeps the id in the task's state
    store; `durable=False` turns only that off.

    Args:
        carto_conn_id: The connection.
        destination: A table, `dataset.table` or `project.dataset.table`. Its change is reported to Airflow as the asset
            `bigquery://project/dataset/table`, through the alias `carto://{carto_conn_id}/{destination}` or through the
            `outlets` of the task.
        labels: Labels for the job, of any text, beside those for DAG, task, run and try.
        idempotency_key: Names this job. Left out, it consists of DAG, task, run, map index, and how often the task was
            cleared. With a key of your own, a retry that would run another statement raises ValueError.
        deferrable: Whether the triggerer waits for the job. Default: Airflow's `[operators] default_deferrable`.
        kwargs: The arguments of every Airflow operator.
    """

    template_fields: Sequence[str] = ("carto_conn_id", "destination", "labels", "idempotency_key")
    template_fields_renderers: ClassVar[dict[str, str]] = {"labels": "json"}
    operator_extra_links = (CartoJobLink(),)
    ui_color = "#d8f3f0"
    options_class: ClassVar[type[QueryOptions | LoadOptions]]
    """The options of the job. The operator has an attribute for each of their fields."""
    max_rows: int = MAX_ROWS

    def __init__(
        self,
        *,
        carto_conn_id: str = CartoHook.default_conn_name,
        destination: str | None = None,
        labels: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
        deferrable: bool = DEFERRABLE,
        **kwargs: Any,
    ) -> None:
        if isinstance(destination, str) and not kwargs.get("outlets"):
            kwargs["outlets"] = outlets_of(carto_conn_id, destination)
        super().__init__(**kwargs)
        self.carto_conn_id = carto_conn_id
        self.destination = destination
        self.labels = labels
        self.idempotency_key = idempotency_key
        self.deferrable = deferrable
        self.job_link: str | None = None
        self._watch: JobWatch | None = None
        self._reattached = True
        self._result: QueryResult | LoadResult | None = None

    def execute(self, context: Context) -> dict[str, Any]:
        """Run the job, or begin it and let the triggerer wait for it.

        Raises:
            CredentialsError: If no token can be obtained.
            google.api_core.exceptions.GoogleAPICallError: If BigQuery refuses the job, or the job fails.
        """
        self.job_link, self._watch, self._reattached, self._result = "", None, True, None
        if self.deferrable:
            self._defer(context)
        # The store outlives a clearing, after which the job has to run again: the key differs then.
        self.external_id_key = f"carto_job_{sha256_of(self._key(context))[:KEY_DIGITS]}"
        result: dict[str, Any] = self.execute_resumable(context)
        return result

    def submit_job(self, context: Context) -> dict[str, JsonValue]:
        """Begin the job, or find the one of the earlier try, and return its id and location."""
        job = self._begin(context)
        self._reattached = job.reattached
        return {"job_id": job.job_id, "location": job.location}

    def get_job_status(self, external_id: Any, context: Context) -> str:
        """Return the job's state in BigQuery, or `FAILED`, or `GONE`."""
        from google.api_core.exceptions import NotFound

        client = CartoHook(self.carto_conn_id).get_carto_dw_client()
        try:
            job: Any = client.get_job(external_id["job_id"], location=external_id["location"])
        except NotFound:
            return "GONE"
        return "FAILED" if job.error_result else str(job.state)

    def is_job_active(self, status: str) -> bool:
        """Whether the job still runs."""
        return status in ("PENDING", "RUNNING")

    def is_job_succeeded(self, status: str) -> bool:
        """Whether the job has succeeded."""
        return status == "DONE"

    def poll_until_complete(  # type: ignore[override]  # declared as None, yet Airflow returns what it returns
        self, external_id: Any, context: Context
    ) -> dict[str, Any]:
        """Wait for the job, and return its result: if Airflow found the job in its store, it calls nothing else."""
        self._wait_for_result(external_id, context)
        return self.get_job_result(external_id, context)

    def get_job_result(self, external_id: Any, context: Context) -> dict[str, Any]:
        """Return the result of the job."""
        result = self._result or self._wait_for_result(external_id, context)
        return {**plain_result(result), "reattached": self._reattached}

    def execute_complete(self, context: Context, event: dict[str, Any], reattached: bool = False) -> dict[str, Any]:
        """Return the result of the job that the triggerer has waited for. Templates are not looked at again.

        Args:
            context: The task's context.
            event: The trigger's event, with connection, job id and location.
            reattached: Whether an earlier try had begun the job. `dag.test()` does not pass it on.

        Raises:
            Exception: The error that the trigger met.
        """
        if event["status"] != "success":
            raise error_from_json(event)
        self.carto_conn_id = event["carto_conn_id"]
        return {**plain_result(self._wait_for_result(event, context)), "reattached": reattached}

    def on_kill(self) -> None:
        """Cancel the job, and stop an upload."""
        if self._watch is not None:
            self._watch.kill()

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> OperatorLineage | None:
        """Return what the job read and wrote, for OpenLineage."""
        if self._result is None:
            return None
        client = CartoHook(self.carto_conn_id).get_carto_dw_client()
        return openlineage_of(client.get_job(self._result.job_id, location=self._result.location))

    def _defer(self, context: Context) -> NoReturn:
        from airflow_provider.triggers.carto import CartoJobTrigger

        job = self._begin(context)
        limit = self.execution_timeout
        deadline = None if limit is None else time.time() + limit.total_seconds()
        self.defer(
            trigger=CartoJobTrigger(self.carto_conn_id, job.job_id, job.location, deadline),
            method_name="execute_complete",
            kwargs={"reattached": job.reattached},
        )

    def _begin(self, context: Context) -> JobReference:
        hook = CartoHook(self.carto_conn_id)
        watch = self._watch_job(context, hook)
        options = {
            **self._options(),
            "idempotency_key": self._key(context),
            "labels": {**job_labels(context), **(self.labels or {})},
            "on_progress": watch,
        }
        job = self._begin_job(hook.get_carto_warehouse(), options)
        watch.note(job.job_id, job.location)
        return job

    def _begin_job(self, warehouse: CartoWarehouse, options: dict[str, Any]) -> JobReference:
        raise NotImplementedError

    def _options(self) -> dict[str, Any]:
        """Return the options of the job by name.

        Raises:
            ValueError: If a choice is unknown, or one option needs another.
        """
        options = {field.name: getattr(self, field.name) for field in fields(self.options_class)}
        self.options_class(**options)
        return options

    def _wait_for_result(self, job: Mapping[str, Any], context: Context) -> QueryResult | LoadResult:
        """Wait for the job of a `job_id` and a `location`, report its table to Airflow, and return its result."""
        hook = CartoHook(self.carto_conn_id)
        result = self._result = hook.get_carto_warehouse().result(
            job["job_id"],
            location=job["location"],
            max_rows=self.max_rows,
            on_progress=self._watch_job(context, hook),
        )
        self.log.info("Job %s has succeeded.", result.job_id)
        facts: dict[str, Any] = {"job_id": result.job_id}
        if isinstance(result, LoadResult):
            facts |= {"rows": result.rows, **result.treated}
            if result.rejected:
                self.log.warning("%s", result.rejection)
            if result.repaired:
                self.log.info("%s", result.repair)
        else:
            facts["rows"] = result.total_rows
        if self.destination is not None and result.destination is not None:
            emit_asset(context, self.outlets, result.destination, facts)
        return result

    def _watch_job(self, context: Context, hook: CartoHook) -> JobWatch:
        def link(job_id: str, location: str) -> None:
            project, _ = hook.get_carto_dw_credentials()
            self.log.info("Job %s in %s.", job_id, location)
            self.job_link = CartoJobLink().persist(context, project, location, job_id)

        if self._watch is None:
            self._watch = JobWatch(hook.auth, link)
        return self._watch

    def _key(self, context: Context) -> str:
        if self.idempotency_key:
            return str(self.idempotency_key)  # rendered as a native object, a date without dashes is a number
        return idempotency_key(context)


class CartoQueryOperator(CartoJobOperator):
    """Run a statement or script in the CARTO Data Warehouse; its result goes into XCom as plain JSON types.

    Example:
        ```python
        CartoQueryOperator(
            task_id="add_visits",
            sql="SELECT * FROM shared.visits WHERE day = @day",
            parameters={"day": "{{ ds }}"},
            destination="shared.all_visits",
            write_disposition="WRITE_APPEND",
        )
        ```

    Args:
        sql: The statement or script, or the path of a `.sql` file.
        parameters: Values for `@name` (a mapping) or `?` (a list).
        destination: A table for the rows, `dataset.table` or `project.dataset.table`.
        write_disposition: What happens to that table's rows: `WRITE_TRUNCATE`, `WRITE_APPEND` or `WRITE_EMPTY`.
        maximum_bytes_billed: Bytes; a query that would bill more fails before it costs anything. None for the
            connection's limit, if it has one.
        priority: `INTERACTIVE`, or `BATCH` to wait until the project has resources to spare.
        use_query_cache: Whether the rows may come from BigQuery's cache; None for BigQuery's default, which is yes.
        max_rows: How many rows go into XCom.
        labels: See `CartoJobOperator`.
        idempotency_key: See `CartoJobOperator`.
        carto_conn_id: The connection.
        deferrable: Whether the triggerer waits for the job.
        kwargs: The arguments of every Airflow operator.
    """

    template_fields: Sequence[str] = ("sql", "parameters", *CartoJobOperator.template_fields)
    template_ext: Sequence[str] = (".sql",)
    template_fields_renderers: ClassVar[dict[str, str]] = {"sql": "sql", "parameters": "json", "labels": "json"}
    options_class = QueryOptions

    def __init__(
        self,
        *,
        sql: str,
        parameters: Parameters | None = None,
        destination: str | None = None,
        write_disposition: WriteDisposition = "WRITE_TRUNCATE",
        maximum_bytes_billed: int | None = None,
        priority: Priority = "INTERACTIVE",
        use_query_cache: bool | None = None,
        max_rows: int = MAX_ROWS,
        labels: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
        carto_conn_id: str = CartoHook.default_conn_name,
        deferrable: bool = DEFERRABLE,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            carto_conn_id=carto_conn_id,
            destination=destination,
            labels=labels,
            idempotency_key=idempotency_key,
            deferrable=deferrable,
            **kwargs,
        )
        self.sql = sql
        self.parameters = parameters
        self.write_disposition = write_disposition
        self.maximum_bytes_billed = maximum_bytes_billed
        self.priority = priority
        self.use_query_cache = use_query_cache
        self.max_rows = max_rows
        self._options()

    def _begin_job(self, warehouse: CartoWarehouse, options: dict[str, Any]) -> JobReference:
        return warehouse.begin_query(self.sql, parameters=self.parameters, **options)


class CartoLoadOperator(CartoJobOperator):
    """Load data into a table of the CARTO Data Warehouse, whole or not at all, and once.

    Example:
        ```python
        CartoLoadOperator(task_id="load", source="gs://bucket/visits.parquet", destination="shared.visits")
        ```

    Args:
        source: A file, a directory, a glob, an `https://`, `s3://` or other URL, or a list of them, which the worker
            reads; `gs://` URIs, which BigQuery reads by itself; or rows as a list of dicts, such as another task's
            XCom. The formats are those of `CartoWarehouse.load`.
        destination: The table, `dataset.table` or `project.dataset.table`.
        write_disposition: `WRITE_APPEND`, `WRITE_TRUNCATE` (replaces the rows at once) or `WRITE_EMPTY` (the load fails
            if there are rows).
        create_disposition: `CREATE_IF_NEEDED` or `CREATE_NEVER`.
        create_dataset: Whether a missing dataset is created.
        format: The file's format, if its name does not tell: `CSV`, `JSON`, `GEOJSON`, `PARQUET`, `AVRO`, `EXCEL`, or
            `VECTOR` for GeoPackage, Shapefile, KML and whatever else GDAL reads.
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
        header: Whether the first line of a CSV file or a sheet names the columns; without it they are `column_1` and so
            on.
        partitioning: A `bigquery.TimePartitioning` or `bigquery.RangePartitioning`.
        clustering: Columns to cluster by.
        labels: See `CartoJobOperator`.
        idempotency_key: See `CartoJobOperator`.
        carto_conn_id: The connection.
        deferrable: Whether the triggerer waits for the job.
        kwargs: The arguments of every Airflow operator.
    """

    template_fields: Sequence[str] = ("source", *CartoJobOperator.template_fields)
    options_class = LoadOptions

    def __init__(
        self,
        *,
        source: Any,
        destination: str,
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
        idempotency_key: str | None = None,
        carto_conn_id: str = CartoHook.default_conn_name,
        deferrable: bool = DEFERRABLE,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            carto_conn_id=carto_conn_id,
            destination=destination,
            labels=labels,
            idempotency_key=idempotency_key,
            deferrable=deferrable,
            **kwargs,
        )
        self.source = source
        self.write_disposition = write_disposition
        self.create_disposition = create_disposition
        self.create_dataset = create_dataset
        self.format = format
        self.schema = schema
        self.geometry = geometry
        self.crs = crs
        self.edges = edges
        self.lon = lon
        self.lat = lat
        self.invalid_geometry = invalid_geometry
        self.make_valid = make_valid
        self.bad_rows = bad_rows
        self.column_names = column_names
        self.column_types = column_types
        self.layer = layer
        self.delimiter = delimiter
        self.encoding = encoding
        self.quote = quote
        self.null_marker = null_marker
        self.skip_rows = skip_rows
        self.header = header
        self.partitioning = partitioning
        self.clustering = clustering
        self._options()

    def _begin_job(self, warehouse: CartoWarehouse, options: dict[str, Any]) -> JobReference:
        return warehouse.begin_load(self.source, str(self.destination), **options)
