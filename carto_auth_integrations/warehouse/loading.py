"""Loads: what can be loaded, how it becomes one upload and one job, and what the job is told."""

from __future__ import annotations

import os
import re
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

from .arrow import batches_of, bigquery_schema, required
from .files import BIGQUERY_FORMATS, FORMATS, format_of, geojson_batches, geoparquet_batches
from .results import JobProgress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

    from google.cloud import bigquery

    from .arrow import Batches

CHUNK = 16 * 1024 * 1024
"""Bytes of an upload that are sent at once, and again after a 401: small beside memory, large beside a round trip."""
ROW_GROUP = 16 * 1024 * 1024
"""Bytes of Arrow that are gathered into a row group: small ones grow the file, large ones the memory."""
CREATE_DISPOSITIONS = ("CREATE_IF_NEEDED", "CREATE_NEVER")
WRITE_DISPOSITIONS = ("WRITE_APPEND", "WRITE_TRUNCATE", "WRITE_EMPTY")
_TABLE = re.compile(r"(?:(?P<project>[a-z][a-z0-9.:-]*[a-z0-9])\.)?(?P<dataset>\w+)\.(?P<table>[\w -]+(?:\$\w+)?)")


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
    return "rows"


def destination_of(text: str, default_project: str, default_dataset: str | None = None) -> str:
    """Check a table's name and give it whole, `project.dataset.table`.

    Raises:
        ValueError: If it is not `dataset.table` or `project.dataset.table`.
    """
    if isinstance(text, str) and "." not in text and default_dataset:
        text = f"{default_dataset}.{text}"
    match = _TABLE.fullmatch(text) if isinstance(text, str) else None
    if not match:
        raise ValueError(f"{text!r} is no table: write dataset.table or project.dataset.table, without quotes.")
    return f"{match['project'] or default_project}.{match['dataset']}.{match['table']}"


@contextmanager
def upload_of(source: Any, options: LoadOptions) -> Iterator[Upload]:
    """Make a source ready to be sent; rows and batches go through an unnamed temporary file, a batch at a time.

    Raises:
        FileNotFoundError: If the file is not there.
        TypeError: If the source is nothing that can be loaded.
        ValueError: If its content is not what it should be; the message names file, row or column.
    """
    uris = _uris(source)
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


def send(
    client: bigquery.Client,
    job_id: str,
    upload: Upload,
    destination: str,
    config: bigquery.LoadJobConfig,
    *,
    location: str | None,
    on_progress: Callable[[JobProgress], None] | None = None,
) -> bigquery.LoadJob:
    """Send the data and begin the job; BigQuery makes the job with the last byte, so a broken upload leaves nothing.

    Args:
        client: Where to.
        job_id: The job's id.
        upload: The data.
        destination: The table.
        config: What the job is told.
        location: Where the job runs; None to let BigQuery decide.
        on_progress: Called after each chunk.
    """
    from google.cloud import bigquery

    if upload.file is None:
        return client.load_table_from_uri(
            list(upload.uris), destination, job_id=job_id, job_config=config, location=location
        )
    upload.file.seek(0)
    table = bigquery.TableReference.from_string(destination)
    if location is not None:
        from google.cloud.bigquery.job.base import _JobReference

        reference: Any = _JobReference(job_id, project=client.project, location=location)
    else:
        reference = job_id
    resource = bigquery.LoadJob(reference, None, table, client, config).to_api_repr()
    return _upload(client, upload.file, resource, on_progress)


def _upload(
    client: bigquery.Client,
    file: IO[bytes],
    resource: dict[str, Any],
    on_progress: Callable[[JobProgress], None] | None,
) -> bigquery.LoadJob:
    import time

    from google.api_core.exceptions import from_http_response
    from google.resumable_media import InvalidResponse
    from google.resumable_media.requests import ResumableUpload

    started, total = time.monotonic(), os.fstat(file.fileno()).st_size
    host = client._connection.get_api_base_url_for_mtls()
    url = f"{host}/upload/bigquery/v2/projects/{client.project}/jobs?uploadType=resumable"
    upload = ResumableUpload(url, CHUNK)
    try:
        upload.initiate(client._http, file, resource, "*/*", total_bytes=total)
        while not upload.finished:
            response = upload.transmit_next_chunk(client._http)
            if on_progress:
                seconds = time.monotonic() - started
                on_progress(JobProgress("", "UPLOADING", seconds, upload.bytes_uploaded, total))
    except InvalidResponse as error:
        failure = from_http_response(error.response)
    else:
        return cast("bigquery.LoadJob", client.job_from_resource(response.json()))
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


def _uris(source: Any) -> tuple[str, ...]:
    items = (source,) if isinstance(source, str) else source if isinstance(source, (list, tuple)) else ()
    found = tuple(item for item in items if isinstance(item, str) and item.startswith("gs://"))
    if found and len(found) != len(items):
        raise ValueError("A list of sources has to be of gs:// URIs alone: load the others by themselves.")
    return found


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
