"""Loads: a source becomes one upload and one job."""

from __future__ import annotations

import os
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from ..bigquery.uploads import send_file
from ..errors import CallFailed
from ..waiting import Cancelled, Pool, run
from .jobs import DIGEST_LABEL, SOURCE_LABEL, JobPlan, cancel_at_once, digest_of, label_of, valid_labels
from .results import PENDING, UPLOADING, JobProgress
from .sources.files import BIGQUERY_FORMATS, FORMATS, format_of, geojson_batches, geoparquet_batches
from .sources.rows import batches_of, bigquery_schema, required
from .tables import dataset_reference, destination_of, reference_to

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ..bigquery.rest import BigQuery, Job
    from ..waiting import Deadline, Steps
    from .options import LoadOptions, OnProgress, Partitioning
    from .sources.rows import Batches

ROW_GROUP = 16 * 1024 * 1024
"""Bytes of Arrow that are gathered into a row group: small ones grow the file, large ones the memory."""
FORBIDDEN, CONFLICT = 403, 409


@dataclass(frozen=True)
class Upload:
    """Data that is ready to be sent.

    Attributes:
        file: Open for reading; None if the data lies in Cloud Storage.
        uris: Where, in that case.
        format: As BigQuery calls it.
        schema: The fields of the table's schema, if the data does not carry it.
        delimiter: The column delimiter of a CSV file.
    """

    file: IO[bytes] | None
    uris: tuple[str, ...]
    format: str
    schema: list[dict[str, object]] | None
    delimiter: str = ","


def load_plan(
    api: BigQuery,
    source: Any,
    destination: str,
    options: LoadOptions,
    *,
    key: str | None,
    labels: Mapping[str, str] | None,
    on_progress: OnProgress | None,
) -> Steps[JobPlan]:
    """Plan a load, and create its dataset if that is wanted.

    Raises:
        CallFailed: If the dataset does not exist: better before the upload than after.
        ValueError: If a name, a label or the list of URIs is invalid.
    """
    project, uris, name = api.project(), uris_of(source), _file_name(source)
    table = destination_of(destination, project, api.account.default_dataset)
    told = _configuration(table, uris, options)
    digest = digest_of({"load": {**told, "geometry": options.geometry_columns, "crs": str(options.crs or "")}})
    marks = {DIGEST_LABEL: digest, **({SOURCE_LABEL: label_of(name)} if name else {})}
    all_labels = {**valid_labels(labels or {}), **marks}
    location = yield from _location_of(api, table, create=options.create_dataset)

    def begin(job_id: str) -> Steps[Job]:
        yield Pool.UPLOADS
        with upload_of(source, options, api.deadline) as upload:
            configuration = {"load": {**told, **_format_of(upload)}, "labels": all_labels}
            if upload.file is None:
                job = yield from api.insert(job_id, location, configuration)
            else:
                job = yield from _send(api, upload.file, api.reference(job_id, location), configuration, on_progress)
        yield Pool.CALLS
        return job

    return JobPlan(
        key=key,
        digest=digest,
        begin=begin,
        location=location,
        source=label_of(name) if name else None,
        first_state=PENDING if uris else UPLOADING,
    )


def _send(
    api: BigQuery,
    file: IO[bytes],
    reference: Mapping[str, str],
    configuration: Mapping[str, Any],
    on_progress: OnProgress | None,
) -> Steps[Job]:
    """Send a file. If the caller was cancelled while BigQuery created the job, the job is cancelled."""

    def report(seconds: float, sent: int, size: int) -> None:
        if on_progress:
            job_id, location = reference["jobId"], reference.get("location")
            on_progress(JobProgress(job_id, UPLOADING, seconds, sent, size, location))

    resource = {"jobReference": reference, "configuration": configuration}
    try:
        job = yield from send_file(api, file, resource, report if on_progress else None)
        api.deadline.raise_if_cancelled()
        return job
    except (Cancelled, GeneratorExit) as error:
        interruption = error
    run(cancel_at_once(api, reference["jobId"], reference.get("location")))
    raise interruption


def _file_name(source: Any) -> str | None:
    """Return the name of a local file, without its directory: that may differ between tries."""
    if not isinstance(source, (str, os.PathLike)) or uris_of(source):
        return None
    return Path(os.fspath(source)).name


def uris_of(source: Any) -> tuple[str, ...]:
    """Return the `gs://` URIs of a source in Cloud Storage; none of any other source.

    Raises:
        ValueError: If a list mixes URIs with other sources.
    """
    items = (source,) if isinstance(source, str) else source if isinstance(source, (list, tuple)) else ()
    found = tuple(item for item in items if isinstance(item, str) and item.startswith("gs://"))
    if found and len(found) != len(items):
        raise ValueError("A list of sources can only hold gs:// URIs: load the others separately.")
    return found


def _location_of(api: BigQuery, table: str, *, create: bool) -> Steps[str | None]:
    """Return where the job runs and a retry looks for it: the account's location, else the dataset's, if visible."""
    dataset = dataset_reference(table.rpartition(".")[0], "")
    if create:
        try:
            yield from api.create_dataset(dataset["projectId"], dataset["datasetId"])
        except CallFailed as error:
            if error.status != CONFLICT:
                raise
    if api.account.location:
        return api.account.location
    try:
        location: str | None = (yield from api.dataset(dataset["projectId"], dataset["datasetId"])).get("location")
    except CallFailed as error:
        if error.status != FORBIDDEN:
            raise
        return None
    return location


@contextmanager
def upload_of(source: Any, options: LoadOptions, deadline: Deadline) -> Iterator[Upload]:
    """Make a source ready to be sent. Rows and batches go through an unnamed temporary file, batch by batch.

    Raises:
        FileNotFoundError: If the file does not exist.
        TypeError: If the source is of a type that cannot be loaded.
        ValueError: If its content is invalid; the message names file, row or column.
        TimeoutError: If the deadline passes.
    """
    uris = uris_of(source)
    if uris:
        yield Upload(None, uris, _format_of_uris(uris, options.format), _fields_of(options), _delimiter(uris[0]))
        return
    batches: Batches | None
    if isinstance(source, (str, os.PathLike)):
        path = Path(source)
        kind = format_of(path, options.format)
        batches = _batches_of_file(path, kind, options)
        if batches is None:
            with path.open("rb") as file:
                yield Upload(file, (), BIGQUERY_FORMATS[kind], _fields_of(options), _delimiter(path.name))
            return
    else:
        batches = batches_of(source, options.geometry_columns, options.crs)
    if batches is None:
        raise TypeError(
            f"A {type(source).__name__} cannot be loaded: pass a file, a gs:// URI, a frame, an Arrow table or rows."
        )
    with tempfile.TemporaryFile(prefix="carto-load-") as spool:
        _write_parquet(batches, spool, deadline)
        spool.seek(0)
        schema = _fields_of(options) or (bigquery_schema(batches) if batches.geography else None)
        yield Upload(spool, (), "PARQUET", schema)


def _configuration(table: str, uris: Sequence[str], options: LoadOptions) -> dict[str, Any]:
    """Return what a load job is told, before the source is read.

    https://cloud.google.com/bigquery/docs/reference/rest/v2/Job#jobconfigurationload
    """
    load: dict[str, Any] = {
        "destinationTable": reference_to(table),
        "writeDisposition": options.write_disposition,
        "createDisposition": options.create_disposition,
    }
    if options.format:
        load["sourceFormat"] = BIGQUERY_FORMATS.get(options.format.upper(), options.format)
    if uris:
        load["sourceUris"] = list(uris)
    if options.schema:
        load["schema"] = {"fields": _fields_of(options)}
    if options.partitioning is not None:
        load |= _partitioning(options.partitioning)
    if options.clustering:
        load["clustering"] = {"fields": list(options.clustering)}
    return load


def _fields_of(options: LoadOptions) -> list[dict[str, object]] | None:
    return [field.to_api_repr() for field in options.schema] if options.schema else None


def _partitioning(partitioning: Partitioning) -> dict[str, Any]:
    if not hasattr(partitioning, "range_"):
        return {"timePartitioning": partitioning.to_api_repr()}
    span = partitioning.range_  # google's class cannot write itself as JSON
    ends = {"start": str(span.start), "end": str(span.end), "interval": str(span.interval)}
    return {"rangePartitioning": {"field": partitioning.field, "range": ends}}


def _format_of(upload: Upload) -> dict[str, Any]:
    """Return how a load job reads an upload."""
    load: dict[str, Any] = {"sourceFormat": upload.format}
    if upload.schema:
        load["schema"] = {"fields": upload.schema}
    elif upload.format in ("CSV", "NEWLINE_DELIMITED_JSON"):
        load["autodetect"] = True
    if upload.format == "CSV":
        load |= {"skipLeadingRows": "1", "fieldDelimiter": upload.delimiter}
    if upload.format == "PARQUET":
        load["parquetOptions"] = {"enableListInference": True}
    return load


def _batches_of_file(path: Path, kind: str, options: LoadOptions) -> Batches | None:
    """Return the batches of a file that BigQuery would not load as it is; None for any other file."""
    if kind == "GEOJSON":
        return geojson_batches(path)
    if kind != "PARQUET":
        return None
    batches = geoparquet_batches(path, options.crs)
    if batches is None and options.geometry:
        parquet = required("pyarrow.parquet").ParquetFile(path)
        reader = required("pyarrow").RecordBatchReader.from_batches(parquet.schema_arrow, parquet.iter_batches())
        batches = batches_of(reader, options.geometry_columns, options.crs)
    return batches


def _write_parquet(batches: Batches, spool: IO[bytes], deadline: Deadline) -> None:
    parquet, table = required("pyarrow.parquet"), required("pyarrow").Table
    gathered: list[Any] = []
    size = 0
    with parquet.ParquetWriter(
        spool, batches.schema, coerce_timestamps="us", allow_truncated_timestamps=True
    ) as writer:  # BigQuery has microseconds
        for batch in batches.stream:
            deadline.raise_if_over("The source was still being read; nothing was loaded.")
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
