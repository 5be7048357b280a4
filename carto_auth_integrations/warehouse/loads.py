"""Loads: what can be loaded, how it becomes one upload and one job, and what the job is told."""

from __future__ import annotations

import json
import os
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING

from ..bigquery.rest import Job, retried
from .jobs import JobPlan
from .results import PENDING, UPLOADING, JobProgress
from .sources.files import BIGQUERY_FORMATS, FORMATS, format_of, geojson_batches, geoparquet_batches
from .sources.rows import batches_of, bigquery_schema, required
from .steps import LONG
from .tables import CREATE_DISPOSITIONS, WRITE_DISPOSITIONS, checked_disposition, name_of, reference_to

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import Any

    from google.cloud import bigquery

    from ..bigquery.rest import JobsApi
    from .sources.rows import Batches
    from .steps import Steps

CHUNK = 16 * 1024 * 1024
"""Bytes of an upload that are sent at once, and again after a 401: small beside memory, large beside a round trip."""
IN_MEMORY = "rows"
"""What names a source that has no place: all of them are one to a key."""
ROW_GROUP = 16 * 1024 * 1024
"""Bytes of Arrow that are gathered into a row group: small ones grow the file, large ones the memory."""


@dataclass(frozen=True)
class LoadOptions:
    """How a load is to be.

    Attributes:
        format: The file's format, if its name does not tell: `CSV`, `JSON`, `GEOJSON`, `PARQUET`, `AVRO`.
        schema: The table's schema; None to learn it from the data.
        geometry: Columns that hold geometry, beside those that say so themselves.
        crs: The reference system of these columns; None for longitude and latitude.
        write_disposition: `WRITE_APPEND`, `WRITE_TRUNCATE` (replace the table, at once and whole) or `WRITE_EMPTY`.
        create_disposition: `CREATE_IF_NEEDED` or `CREATE_NEVER`.
        partitioning: A `bigquery.TimePartitioning` or `RangePartitioning`.
        clustering: Columns to cluster by.
    """

    format: str | None = None
    schema: Sequence[bigquery.SchemaField] | None = None
    geometry: Sequence[str] = ()
    crs: Any = None
    write_disposition: str = "WRITE_APPEND"
    create_disposition: str = "CREATE_IF_NEEDED"
    partitioning: Any = None
    clustering: Sequence[str] = ()

    def __post_init__(self) -> None:
        """Refuse dispositions that BigQuery does not have.

        Raises:
            ValueError: If one is none of its.
        """
        checked_disposition("write_disposition", self.write_disposition, WRITE_DISPOSITIONS)
        checked_disposition("create_disposition", self.create_disposition, CREATE_DISPOSITIONS)


@dataclass(frozen=True)
class Upload:
    """Data that is ready to be sent.

    Attributes:
        file: Open for reading; None if the data lies in Cloud Storage.
        uris: Where, then.
        format: As BigQuery calls it.
        schema: The table's schema, if the data does not carry it.
        delimiter: What parts the columns of a CSV file.
    """

    file: IO[bytes] | None
    uris: tuple[str, ...]
    format: str
    schema: Sequence[bigquery.SchemaField] | None
    delimiter: str = ","


def identity_of(source: Any) -> str:
    """Name a source without reading it: what tells one load of a key from another."""
    if isinstance(source, (str, os.PathLike)):
        text = os.fspath(source)
        return text if text.startswith("gs://") else str(Path(text).absolute())
    if isinstance(source, (list, tuple)) and all(isinstance(item, str) for item in source):
        return "\n".join(source)
    return IN_MEMORY


def uris_of(source: Any) -> tuple[str, ...]:
    """Give the `gs://` URIs of a source that lies in Cloud Storage; none of any other.

    Raises:
        ValueError: If some of a list are URIs, and others not.
    """
    items = (source,) if isinstance(source, str) else source if isinstance(source, (list, tuple)) else ()
    found = tuple(item for item in items if isinstance(item, str) and item.startswith("gs://"))
    if found and len(found) != len(items):
        raise ValueError("A list of sources has to be of gs:// URIs alone: load the others by themselves.")
    return found


@contextmanager
def upload_of(source: Any, options: LoadOptions) -> Iterator[Upload]:
    """Make a source ready to be sent; rows and batches go through an unnamed temporary file, a batch at a time.

    Raises:
        FileNotFoundError: If the file is not there.
        TypeError: If the source is nothing that can be loaded.
        ValueError: If its content is not what it should be; the message names file, row or column.
    """
    uris = uris_of(source)
    if uris:
        yield Upload(None, uris, _format_of_uris(uris, options.format), options.schema, _delimiter(uris[0]))
        return
    batches: Batches | None
    if isinstance(source, (str, os.PathLike)):
        path = Path(source)
        kind = format_of(path, options.format)
        batches = _batches_of_file(path, kind, options)
        if batches is None:
            with path.open("rb") as file:
                yield Upload(file, (), BIGQUERY_FORMATS[kind], options.schema, _delimiter(path.name))
            return
    else:
        batches = batches_of(source, options.geometry, options.crs)
    if batches is None:
        raise TypeError(
            f"A {type(source).__name__} cannot be loaded: give a file, a gs:// URI, a frame, an Arrow table or rows."
        )
    with tempfile.TemporaryFile(prefix="carto-load-") as spool:
        _write_parquet(batches, spool)
        spool.seek(0)
        schema = options.schema or (bigquery_schema(batches) if batches.geography else None)
        yield Upload(spool, (), "PARQUET", schema)


def job_config(upload: Upload, options: LoadOptions, labels: dict[str, str]) -> bigquery.LoadJobConfig:
    """Tell a load job what to do with an upload."""
    from google.cloud import bigquery

    config = bigquery.LoadJobConfig(
        source_format=upload.format,
        write_disposition=options.write_disposition,
        create_disposition=options.create_disposition,
        labels=labels,
    )
    if upload.schema:
        config.schema = list(upload.schema)
    else:
        config.autodetect = upload.format in ("CSV", "NEWLINE_DELIMITED_JSON")
    if upload.format == "CSV":
        config.skip_leading_rows = 1
        config.field_delimiter = upload.delimiter
    if upload.format == "PARQUET":
        parquet = bigquery.ParquetOptions()
        parquet.enable_list_inference = True
        config.parquet_options = parquet
    if options.partitioning is not None:
        is_range = isinstance(options.partitioning, bigquery.RangePartitioning)
        setattr(config, "range_partitioning" if is_range else "time_partitioning", options.partitioning)
    if options.clustering:
        config.clustering_fields = list(options.clustering)
    return config


def load_plan(
    api: JobsApi,
    client: bigquery.Client,
    source: Any,
    table: str,
    options: LoadOptions,
    *,
    key: str | None,
    labels: dict[str, str],
    location: str | None,
    on_progress: Callable[[JobProgress], None] | None,
) -> JobPlan:
    """Plan a load.

    Args:
        api: Where the job runs.
        client: What sends the data.
        source: The data.
        table: The destination's whole name.
        options: How the load is to be.
        key: The idempotency key.
        labels: The job's labels.
        location: Where it runs; None to let BigQuery decide.
        on_progress: Called after each chunk that is sent.
    """

    def send(job_id: str) -> Job:
        with upload_of(source, options) as upload:
            configuration = job_config(upload, options, labels).to_api_repr()
            configuration["load"]["destinationTable"] = reference_to(table)
            if upload.file is not None:
                reference = api.reference(job_id, location)
                return _send(client, upload.file, reference, configuration, on_progress)
            configuration["load"]["sourceUris"] = list(upload.uris)
            return api.insert(job_id, location, configuration)

    def begin(job_id: str) -> Steps[Job]:
        if uris_of(source):
            return (yield from retried(partial(send, job_id)))
        yield LONG
        return send(job_id)  # once: a stream cannot be read again, and a chunk is sent again

    def is_same(job: Job) -> bool:
        there = job.configured("load").get("destinationTable")
        return there is not None and name_of(there) == table.partition("$")[0]

    return JobPlan(
        key=key,
        what=json.dumps(["load", identity_of(source), table, repr(options)]),
        begin=begin,
        is_same=is_same,
        location=location,
        first_state=PENDING if uris_of(source) else UPLOADING,
    )


def _send(
    client: bigquery.Client,
    file: IO[bytes],
    reference: Mapping[str, str],
    configuration: Mapping[str, Any],
    on_progress: Callable[[JobProgress], None] | None,
) -> Job:
    """Send the data; BigQuery makes the job with the last byte, so a broken upload leaves nothing."""
    import time

    from google.api_core.exceptions import from_http_response
    from google.resumable_media import InvalidResponse
    from google.resumable_media.requests import ResumableUpload

    file.seek(0)
    started, total = time.monotonic(), os.fstat(file.fileno()).st_size
    host = client._connection.get_api_base_url_for_mtls()
    upload = ResumableUpload(
        f"{host}/upload/bigquery/v2/projects/{reference['projectId']}/jobs?uploadType=resumable", CHUNK
    )
    resource = {"jobReference": reference, "configuration": configuration}
    try:
        upload.initiate(client._http, file, resource, "*/*", total_bytes=total)
        while not upload.finished:
            response = upload.transmit_next_chunk(client._http)
            if on_progress:
                seconds, sent = time.monotonic() - started, upload.bytes_uploaded
                on_progress(JobProgress(reference["jobId"], UPLOADING, seconds, sent, total, reference.get("location")))
    except InvalidResponse as error:
        error.response.request.headers.pop("Authorization", None)  # the response hangs on the error
        failure = from_http_response(error.response)
    else:
        return Job.of(response)
    raise failure


def _batches_of_file(path: Path, kind: str, options: LoadOptions) -> Batches | None:
    """Give the batches of a file that BigQuery would not take as it is; None for any other."""
    if kind == "GEOJSON":
        return geojson_batches(path)
    if kind != "PARQUET":
        return None
    batches = geoparquet_batches(path, options.crs)
    if batches is None and options.geometry:
        parquet = required("pyarrow.parquet").ParquetFile(path)
        reader = required("pyarrow").RecordBatchReader.from_batches(parquet.schema_arrow, parquet.iter_batches())
        batches = batches_of(reader, options.geometry, options.crs)
    return batches


def _write_parquet(batches: Batches, spool: IO[bytes]) -> None:
    parquet = required("pyarrow.parquet")
    table = required("pyarrow").Table
    gathered: list[Any] = []
    size = 0
    with parquet.ParquetWriter(
        spool, batches.schema, coerce_timestamps="us", allow_truncated_timestamps=True
    ) as writer:  # BigQuery has microseconds
        for batch in batches.stream:
            gathered.append(batch)
            size += batch.nbytes
            if size >= ROW_GROUP:
                writer.write_table(table.from_batches(gathered))
                gathered, size = [], 0
        if gathered:
            writer.write_table(table.from_batches(gathered))


def _format_of_uris(uris: tuple[str, ...], named: str | None) -> str:
    kinds = {named.upper()} if named else {FORMATS.get(_suffix(uri), "") for uri in uris}
    if len(kinds) != 1 or not kinds <= BIGQUERY_FORMATS.keys():
        raise ValueError(
            f"{uris[0]}: the format is not clear; name it with format=, one of {', '.join(BIGQUERY_FORMATS)}."
        )
    return BIGQUERY_FORMATS[kinds.pop()]


def _delimiter(name: str) -> str:
    return "\t" if _suffix(name) == ".tsv" else ","


def _suffix(uri: str) -> str:
    return Path(uri.removesuffix(".gz")).suffix.lower()
