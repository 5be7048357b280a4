"""CartoQueryOperator and CartoLoadOperator: queries and loads in the CARTO Data Warehouse that happen exactly once."""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING, ClassVar

from airflow.providers.common.compat.sdk import BaseOperator, conf

from airflow_provider.compat import ResumableJobMixin, redact
from airflow_provider.hooks.carto import CartoHook
from airflow_provider.jobs import JobWatch, error_from_json, idempotency_key, job_labels
from airflow_provider.lineage import emit_asset, openlineage_of, outlets_of
from airflow_provider.links.carto import CartoJobLink
from carto_auth_integrations.account.account import sha256_of
from carto_auth_integrations.warehouse.results import plain_result

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any, NoReturn

    from airflow.providers.common.compat.sdk import Context
    from airflow.providers.openlineage.extractors import OperatorLineage
    from google.cloud import bigquery
    from pydantic import JsonValue

    from carto_auth_integrations.warehouse import CartoWarehouse, JobReference, LoadResult, QueryResult

KEY_DIGITS = 20
"""Of the hash by which a task's state store knows the job: 80 bits, among the rounds of one task."""
MAX_ROWS = 100
"""Rows of a query that go into XCom unless the DAG says otherwise: Airflow keeps them in its database."""


class CartoJobOperator(ResumableJobMixin, BaseOperator):
    """What a query and a load have in common; not to be used by itself.

    A retry finds the job of the try before it, whatever ended that: one that runs is waited for, one that has succeeded
    gives its result. A task that was cleared runs anew. `on_kill`, a time limit and, while the task is deferred, a user
    who clears or marks it cancel the job. `execution_timeout` holds for a deferred task too.

    That rests on the job's id. Airflow 3.3's `ResumableJobMixin` also keeps the job in the task's state store, where
    it is seen and counted; `durable=False` turns only that off.

    Args:
        carto_conn_id: The connection.
        destination: A table, `dataset.table` or `project.dataset.table`. Airflow hears of its change as the asset
            `bigquery://project/dataset/table`: by the alias `carto://{carto_conn_id}/{destination}`, or by the
            `outlets` that are given.
        labels: Labels for the job, of any text, beside those for DAG, task, run and try.
        idempotency_key: Names this job among all. Left out, it is made of DAG, task, run, map index, and how often the
            task was cleared.
        deferrable: Whether the triggerer waits for the job. Left out, Airflow's `[operators] default_deferrable` says.
        operator_options: What every operator of Airflow takes.
    """

    template_fields: Sequence[str] = ("carto_conn_id", "destination", "labels", "idempotency_key")
    template_fields_renderers: ClassVar[dict[str, str]] = {"labels": "json"}
    operator_extra_links = (CartoJobLink(),)
    kept_while_deferred: Sequence[str] = template_fields
    """Fields that go through Airflow's database as they were when the job began, where no secret is in them."""
    ui_color = "#d8f3f0"

    def __init__(
        self,
        *,
        carto_conn_id: str = CartoHook.default_conn_name,
        destination: str | None = None,
        labels: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        **operator_options: Any,
    ) -> None:
        if isinstance(destination, str) and not operator_options.get("outlets"):
            operator_options["outlets"] = outlets_of(carto_conn_id, destination)
        super().__init__(**operator_options)
        self.carto_conn_id = carto_conn_id
        self.destination = destination
        self.labels = labels
        self.idempotency_key = idempotency_key
        self.deferrable = deferrable
        self.job_link: str | None = None
        self._watch: JobWatch | None = None
        self._reattached: bool | None = None
        self._result: QueryResult | LoadResult | None = None

    def execute(self, context: Context) -> dict[str, Any]:
        """Run the job, or begin it and leave the waiting to the triggerer.

        Raises:
            CredentialsError: If there is no token to be had.
            google.api_core.exceptions.GoogleAPICallError: If the job failed, as BigQuery says.
        """
        self.job_link, self._watch, self._result, self._reattached = "", None, None, None
        if self.deferrable:
            self._leave_to_triggerer(context)
        # A key of this round: the store outlives a clearing, after which the job has to run anew.
        self.external_id_key = f"carto_job_{sha256_of(self._key(context))[:KEY_DIGITS]}"
        result: dict[str, Any] = self.execute_resumable(context)
        return result

    def submit_job(self, context: Context) -> dict[str, JsonValue]:
        """Begin the job, or find the one of the try before, and give its id and location."""
        job = self._begun(context, CartoHook(self.carto_conn_id))
        self._reattached = job.reattached
        return {"job_id": job.job_id, "location": job.location}

    def get_job_status(self, external_id: Any, context: Context) -> str:
        """Give a job's state as BigQuery tells it, or `FAILED`, or `GONE`."""
        from google.api_core.exceptions import NotFound

        client = CartoHook(self.carto_conn_id).get_carto_dw_client()
        try:
            job: Any = client.get_job(external_id["job_id"], location=external_id["location"])
        except NotFound:
            return "GONE"
        return "FAILED" if job.error_result else str(job.state)

    def is_job_active(self, status: str) -> bool:
        """Tell whether a job is to be waited for."""
        return status in ("PENDING", "RUNNING")

    def is_job_succeeded(self, status: str) -> bool:
        """Tell whether a job has a result."""
        return status == "DONE"

    def poll_until_complete(  # type: ignore[override]  # Airflow's says None, and yet what it gives is returned
        self, external_id: Any, context: Context
    ) -> dict[str, Any]:
        """Wait for the job; give its result, which Airflow returns where it has found the job."""
        hook = CartoHook(self.carto_conn_id)
        watch = self._watch_job(context, hook)
        hook.get_carto_warehouse().wait_for(external_id["job_id"], location=external_id["location"], on_progress=watch)
        return self.get_job_result(external_id, context)

    def get_job_result(self, external_id: Any, context: Context) -> dict[str, Any]:
        """Take the result of the job, which has ended."""
        taken = plain_result(self._result) if self._result else self._finish(context)
        # A job that was begun in this very try is found again when its result is taken.
        return taken if self._reattached is None else {**taken, "reattached": self._reattached}

    def execute_complete(
        self, context: Context, event: dict[str, Any], rendered: dict[str, Any] | None = None, reattached: bool = False
    ) -> dict[str, Any]:
        """Take the result of a job for which the triggerer has waited.

        Args:
            context: The task's context.
            event: What the trigger fired.
            rendered: The templated fields as they were when the job began: some templates give something else now.
                Like the next, `dag.test()` does not hand it on.
            reattached: Whether an earlier try had begun it.

        Raises:
            Exception: What the trigger met.
        """
        if event["status"] != "success":
            raise error_from_json(event)
        for name, value in (rendered or {}).items():
            setattr(self, name, value)
        return {**self._finish(context), "reattached": reattached}

    def on_kill(self) -> None:
        """Cancel the job, and stop an upload."""
        if self._watch is not None:
            self._watch.kill()

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> OperatorLineage | None:
        """Tell OpenLineage what the job read and wrote."""
        if self._result is None:
            return None
        client = CartoHook(self.carto_conn_id).get_carto_dw_client()
        return openlineage_of(client.get_job(self._result.job_id, location=self._result.location), self._uris())

    def _leave_to_triggerer(self, context: Context) -> NoReturn:
        from airflow_provider.triggers.carto import CartoJobTrigger

        job = self._begun(context, CartoHook(self.carto_conn_id))
        limit = self.execution_timeout
        deadline = None if limit is None else time.time() + limit.total_seconds()
        self.defer(
            trigger=CartoJobTrigger(self.carto_conn_id, job.job_id, job.location, deadline),
            method_name="execute_complete",
            kwargs={"rendered": self._rendered(), "reattached": job.reattached},
        )

    def _begun(self, context: Context, hook: CartoHook) -> JobReference:
        watch = self._watch_job(context, hook)
        job = self._begin(hook.get_carto_warehouse(), **self._options(context), on_progress=watch)
        watch.note(job.job_id, job.location)
        return job

    def _finish(self, context: Context) -> dict[str, Any]:
        hook = CartoHook(self.carto_conn_id)
        watch = self._watch_job(context, hook)
        result = self._run(hook.get_carto_warehouse(), **self._options(context), on_progress=watch)
        self._result = result
        self.log.info("Job %s has succeeded.", result.job_id)
        if self.destination is not None and result.destination is not None:
            emit_asset(context, self.outlets, result.destination, {"job_id": result.job_id, "rows": self._size(result)})
        return plain_result(result)

    def _watch_job(self, context: Context, hook: CartoHook) -> JobWatch:
        def link(job_id: str, location: str) -> None:
            project, _ = hook.get_carto_dw_credentials()
            self.log.info("Job %s in %s.", job_id, location)
            self.job_link = CartoJobLink().persist(context, project, location, job_id)

        if self._watch is None:
            self._watch = JobWatch(hook.auth, link)
        return self._watch

    def _key(self, context: Context) -> str:
        self.idempotency_key = self.idempotency_key or idempotency_key(context)
        return self.idempotency_key

    def _options(self, context: Context) -> dict[str, Any]:
        return {"idempotency_key": self._key(context), "labels": {**job_labels(context), **(self.labels or {})}}

    def _rendered(self) -> dict[str, Any]:
        return _harmless({name: getattr(self, name) for name in self.kept_while_deferred})

    def _begin(self, warehouse: CartoWarehouse, **options: Any) -> JobReference:
        raise NotImplementedError

    def _run(self, warehouse: CartoWarehouse, **options: Any) -> Any:
        raise NotImplementedError

    def _size(self, result: Any) -> int:
        raise NotImplementedError

    def _uris(self) -> Sequence[str]:
        return ()


class CartoQueryOperator(CartoJobOperator):
    """Runs a statement or script in the CARTO Data Warehouse; its result goes into XCom as plain JSON types.

    Args:
        sql: The statement or script, or the path of a `.sql` file.
        parameters: Values for `@name` (a mapping) or `?` (a list).
        write_disposition: What to do with the destination's rows: `WRITE_TRUNCATE`, `WRITE_APPEND` or `WRITE_EMPTY`.
        max_rows: How many rows go into XCom.
        job_options: What `CartoJobOperator` takes: connection, destination, labels, key, deferrable.
    """

    template_fields: Sequence[str] = ("sql", "parameters", *CartoJobOperator.template_fields)
    template_ext: Sequence[str] = (".sql",)
    kept_while_deferred: Sequence[str] = template_fields
    template_fields_renderers: ClassVar[dict[str, str]] = {"sql": "sql", "parameters": "json", "labels": "json"}

    def __init__(
        self,
        *,
        sql: str,
        parameters: Mapping[str, Any] | Sequence[Any] | None = None,
        write_disposition: str = "WRITE_TRUNCATE",
        max_rows: int = MAX_ROWS,
        **job_options: Any,
    ) -> None:
        super().__init__(**job_options)
        self.sql = sql
        self.parameters = parameters
        self.write_disposition = write_disposition
        self.max_rows = max_rows

    def _query(self) -> dict[str, Any]:
        return {
            "sql": self.sql,
            "parameters": self.parameters,
            "destination": self.destination,
            "write_disposition": self.write_disposition,
        }

    def _begin(self, warehouse: CartoWarehouse, **options: Any) -> JobReference:
        return warehouse.begin_query(**self._query(), **options)

    def _run(self, warehouse: CartoWarehouse, **options: Any) -> QueryResult:
        return warehouse.query(**self._query(), max_rows=self.max_rows, **options)

    def _size(self, result: QueryResult) -> int:
        return result.total_rows


class CartoLoadOperator(CartoJobOperator):
    """Loads data into a table of the CARTO Data Warehouse, whole or not at all, and once.

    Args:
        source: A file that the worker can read (CSV with a header, newline-delimited JSON, GeoJSON, Parquet,
            GeoParquet, Avro), a `gs://` URI or a list of them, or rows as a list of dicts, such as another task's XCom.
        destination: The table, `dataset.table` or `project.dataset.table`.
        write_disposition: `WRITE_APPEND`, `WRITE_TRUNCATE` (replace) or `WRITE_EMPTY` (fail if there are rows).
        create_disposition: `CREATE_IF_NEEDED` or `CREATE_NEVER`.
        create_dataset: Whether a dataset that is not there is made.
        format: The file's format, if its name does not tell: `CSV`, `JSON`, `GEOJSON`, `PARQUET`, `AVRO`.
        schema: The table's schema; left out, it is learnt from the data.
        geometry: Columns that hold geometry as WKB or WKT, and become GEOGRAPHY.
        crs: The reference system of these columns; left out, longitude and latitude.
        partitioning: A `bigquery.TimePartitioning` or `RangePartitioning`.
        clustering: Columns to cluster by.
        job_options: What `CartoJobOperator` takes: connection, labels, key, deferrable.
    """

    template_fields: Sequence[str] = ("source", *CartoJobOperator.template_fields)

    def __init__(
        self,
        *,
        source: Any,
        destination: str,
        write_disposition: str = "WRITE_APPEND",
        create_disposition: str = "CREATE_IF_NEEDED",
        create_dataset: bool = False,
        format: str | None = None,  # noqa: A002  # what everyone calls it
        schema: Sequence[bigquery.SchemaField] | None = None,
        geometry: Sequence[str] | str = (),
        crs: Any = None,
        partitioning: Any = None,
        clustering: Sequence[str] = (),
        **job_options: Any,
    ) -> None:
        super().__init__(destination=destination, **job_options)
        self.source = source
        self.write_disposition = write_disposition
        self.create_disposition = create_disposition
        self.create_dataset = create_dataset
        self.format = format
        self.schema = schema
        self.geometry = geometry
        self.crs = crs
        self.partitioning = partitioning
        self.clustering = clustering

    def _load(self) -> dict[str, Any]:
        return {
            "source": self.source,
            "destination": self.destination,
            "write_disposition": self.write_disposition,
            "create_disposition": self.create_disposition,
            "create_dataset": self.create_dataset,
            "format": self.format,
            "schema": self.schema,
            "geometry": self.geometry,
            "crs": self.crs,
            "partitioning": self.partitioning,
            "clustering": self.clustering,
        }

    def _rendered(self) -> dict[str, Any]:
        source = os.fspath(self.source) if isinstance(self.source, os.PathLike) else self.source
        names = source if isinstance(source, list) else [source]
        is_named = all(isinstance(name, str) for name in names)  # rows are not read again
        return {**super()._rendered(), **(_harmless({"source": source}) if is_named else {})}

    def _begin(self, warehouse: CartoWarehouse, **options: Any) -> JobReference:
        return warehouse.begin_load(**self._load(), **options)

    def _run(self, warehouse: CartoWarehouse, **options: Any) -> LoadResult:
        return warehouse.load(**self._load(), **options)

    def _size(self, result: LoadResult) -> int:
        return result.rows

    def _uris(self) -> Sequence[str]:
        sources = self.source if isinstance(self.source, (list, tuple)) else [self.source]
        return [uri for uri in sources if isinstance(uri, str) and uri.startswith("gs://")]


def _harmless(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Give the fields that Airflow can keep in plain: JSON, and nothing that its masker would hide."""
    return {name: value for name, value in fields.items() if _is_json(value) and redact(value) == value}


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return False
    return True
