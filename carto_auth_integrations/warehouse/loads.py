"""Loads: a source becomes one upload and one job."""

from __future__ import annotations

import logging
import os
import time
from contextlib import ExitStack
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING

from ..bigquery.errors import job_error
from ..bigquery.uploads import send_file
from ..errors import CallFailed
from ..waiting import Cancelled, Pool, run
from .jobs import (
    AREA_LABEL,
    DIGEST_LABEL,
    REJECTED_LABEL,
    REPAIRED_LABEL,
    SOURCE_LABEL,
    JobPlan,
    RunKey,
    cancel_at_once,
    digest_of,
    find_or_begin,
    label_of,
    valid_labels,
    wait,
)
from .results import PENDING, READING, UPLOADING, JobProgress, LoadPlan
from .sources.remote import shown
from .tables import dataset_reference, destination_of, reference_to, rejected_table, type_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ..bigquery.rest import BigQuery, Job
    from ..http import Json
    from ..waiting import Deadline, Steps
    from .options import LoadOptions, OnProgress, Partitioning
    from .sources.declared import Field
    from .sources.preparing import Preparation, Prepared

logger = logging.getLogger(__name__)

FORBIDDEN, CONFLICT = 403, 409
REJECTED_FIELDS = [
    {"name": "source", "type": "STRING"},
    {"name": "row_number", "type": "INTEGER"},
    {"name": "reason", "type": "STRING"},
    {"name": "row", "type": "JSON"},
]
"""The columns of the table for rows that do not fit: the members of `sources.fitting.Rejected`."""
SUFFIXES = {
    ".csv": "CSV",
    ".tsv": "CSV",
    ".json": "JSON",
    ".jsonl": "JSON",
    ".ndjson": "JSON",
    ".geojson": "GEOJSON",
    ".geojsonl": "GEOJSON",
    ".geojsons": "GEOJSON",
    ".parquet": "PARQUET",
    ".pq": "PARQUET",
    ".avro": "AVRO",
}
"""Formats that BigQuery reads from Cloud Storage, by the ends of the objects' names."""
SOURCE_FORMATS = {
    "CSV": "CSV",
    "JSON": "NEWLINE_DELIMITED_JSON",
    "GEOJSON": "NEWLINE_DELIMITED_JSON",
    "PARQUET": "PARQUET",
    "AVRO": "AVRO",
}
"""BigQuery's names for them. https://cloud.google.com/bigquery/docs/reference/rest/v2/Job#jobconfigurationload"""

READ_AS: Mapping[str, Json] = {
    "PARQUET": {
        "parquetOptions": {"enableListInference": True},
        "decimalTargetTypes": ["NUMERIC", "BIGNUMERIC"],
    },
    "AVRO": {"useAvroLogicalTypes": True},
    "GEOJSON": {"jsonExtension": "GEOJSON"},
}
"""What a load job is told of a format, so that no value changes."""


@dataclass(frozen=True)
class Upload:
    """Data that is ready to be sent.

    Attributes:
        file: At its beginning.
        told: What the job is told about it: format, schema and how it is read.
        labels: What the job is to remember of it.
    """

    file: IO[bytes]
    told: Mapping[str, object]
    labels: Mapping[str, str]


def load_plan(
    api: BigQuery,
    source: object,
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
    digest = digest_of({"load": {**told, **_reading(options)}})
    marks = {DIGEST_LABEL: digest, **({SOURCE_LABEL: label_of(name)} if name else {})}
    all_labels = {**valid_labels(labels or {}), **marks}
    location = yield from _location_of(api, table, create=options.create_dataset)

    def begin(job_id: str) -> Steps[Job]:
        if uris:
            return (yield from api.insert(job_id, location, {"load": told, "labels": all_labels}))
        yield Pool.UPLOADS
        with ExitStack() as stack:
            reference = api.reference(job_id, location)
            upload = yield from _upload_of(api, source, options, reference, stack, on_progress, reject)
            configuration = {"load": {**told, **upload.told}, "labels": {**all_labels, **upload.labels}}
            job = yield from _send(api, upload.file, reference, configuration, on_progress)
        yield Pool.CALLS
        return job

    def reject(prepared: Prepared) -> Steps[None]:
        """Load the rows that did not fit, before the others: a retry that finds those does not read the source."""
        if not prepared.rejected:
            return
        yield Pool.CALLS
        rejects = rejects_plan(api, prepared.rejects, table, options, key, all_labels, location)
        job, _ = yield from find_or_begin(api, rejects)
        job = yield from wait(api, job)
        if job.failed:
            raise job_error(job)
        yield Pool.UPLOADS

    return JobPlan(
        key=key,
        digest=digest,
        begin=begin,
        location=location,
        source=label_of(name) if name else None,
        first_state=PENDING if uris else READING,
    )


def _upload_of(
    api: BigQuery,
    source: object,
    options: LoadOptions,
    reference: Mapping[str, str],
    stack: ExitStack,
    on_progress: OnProgress | None,
    reject: Callable[[Prepared], Steps[None]],
) -> Steps[Upload]:
    """Make a source ready to be sent. All but a few files are read and checked here, and go through a temporary file.

    Raises:
        FileNotFoundError: If the file does not exist.
        TypeError: If the source is of a type that cannot be loaded.
        ValueError: If its content is invalid; the message names file, row or column.
        TimeoutError: If the deadline passes.
    """
    from .sources.preparing import Preparation, as_is

    if untouched := as_is(source, options):
        path, kind, columns = untouched
        return Upload(stack.enter_context(path.open("rb")), _told(kind, columns), {})
    preparation = stack.enter_context(Preparation(source, options, api.deadline))
    yield from _read(preparation, reference["jobId"], reference.get("location"), on_progress)
    prepared = preparation.finish()
    for rejected in preparation.examples:
        logger.warning("%s", rejected)
    yield from reject(prepared)
    labels = {REJECTED_LABEL: prepared.rejected, REPAIRED_LABEL: prepared.geography.repaired}
    labels[AREA_LABEL] = round(prepared.geography.area_change)
    return Upload(
        prepared.file,
        _told(prepared.format, prepared.fields),
        {name: str(count) for name, count in labels.items() if count},
    )


def _read(preparation: Preparation, job_id: str, location: str | None, on_progress: OnProgress | None) -> Steps[None]:
    """Read a source to its end."""
    began = time.monotonic()
    for rows, position, size in preparation.read():
        if on_progress:
            seconds = time.monotonic() - began
            yield partial(on_progress, JobProgress(job_id, READING, seconds, position, size, location, rows))


def rejects_plan(
    api: BigQuery,
    rejects: IO[bytes],
    table: str,
    options: LoadOptions,
    key: str | None,
    labels: Mapping[str, str],
    location: str | None,
) -> JobPlan:
    """Plan the load of the rows that did not fit, which is a job of its own with a key of its own."""
    told: Json = {
        "destinationTable": reference_to(rejected_table(table)),
        "writeDisposition": options.write_disposition,
        "sourceFormat": "NEWLINE_DELIMITED_JSON",
        "schema": {"fields": REJECTED_FIELDS},
    }
    digest = digest_of({"load": told})
    configuration = {"load": told, "labels": {**labels, DIGEST_LABEL: digest}}

    def begin(job_id: str) -> Steps[Job]:
        yield Pool.UPLOADS
        job = yield from _send(api, rejects, api.reference(job_id, location), configuration, None)
        yield Pool.CALLS
        return job

    return JobPlan(None if key is None else RunKey(f"{key}/rejected"), digest, begin, location, None, UPLOADING)


def plan_of(
    source: object, options: LoadOptions, deadline: Deadline, on_progress: OnProgress | None = None
) -> Steps[LoadPlan]:
    """Read a source to its end, and return what its load would do. The progress is of a job without id."""
    from .sources.preparing import Preparation

    if uris := uris_of(source):
        raise ValueError(
            f"BigQuery reads {uris[0]} by itself, so what a load would do is not known: plan a copy of it."
        )
    yield Pool.UPLOADS
    with Preparation(source, options, deadline) as preparation:
        yield from _read(preparation, "", None, on_progress)
        prepared = preparation.finish()
    geography = prepared.geography
    return LoadPlan(
        columns={each["name"]: type_of(each) for each in prepared.fields},
        rows=prepared.rows,
        first_rows=tuple(preparation.first_rows),
        rejected=prepared.rejected,
        reasons=tuple(str(each) for each in preparation.examples),
        geometry={name: str(meant) for name, meant in geography.columns.items()},
        bounds=geography.bounds,
        repaired=geography.repaired,
        area_change=round(geography.area_change),
        found=preparation.found,
    )


def _send(
    api: BigQuery,
    file: IO[bytes],
    reference: Mapping[str, str],
    configuration: Mapping[str, object],
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


def _file_name(source: object) -> str | None:
    """Return the name of a local file, without its directory: that may differ between tries."""
    if not isinstance(source, (str, os.PathLike)) or uris_of(source):
        return None
    return Path(shown(os.fsdecode(source))).name


def uris_of(source: object) -> tuple[str, ...]:
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


def _configuration(table: str, uris: Sequence[str], options: LoadOptions) -> Json:
    """Return what a load job is told, before the source is read.

    https://cloud.google.com/bigquery/docs/reference/rest/v2/Job#jobconfigurationload
    """
    load: Json = {
        "destinationTable": reference_to(table),
        "writeDisposition": options.write_disposition,
        "createDisposition": options.create_disposition,
    }
    if uris:
        load |= {"sourceUris": list(uris), **_told_of_uris(uris, options)}
    if options.schema:
        load["schema"] = {"fields": _fields_of(options)}
    if options.partitioning is not None:
        load |= _partitioning(options.partitioning)
    if options.clustering:
        load["clustering"] = {"fields": list(options.clustering)}
    return load


def _reading(options: LoadOptions) -> dict[str, object]:
    """Return what changes how a source is read, for the digest; what is at its default is left out."""
    told = ("create_dataset", "write_disposition", "create_disposition", "schema", "partitioning", "clustering")
    changed = {
        each.name: getattr(options, each.name)
        for each in fields(options)
        if each.name not in told and getattr(options, each.name) != each.default
    }
    return {**changed, "geometry": options.geometry_columns, "crs": str(options.crs or "")}


def _fields_of(options: LoadOptions) -> list[dict[str, object]] | None:
    return [field.to_api_repr() for field in options.schema] if options.schema else None


def _partitioning(partitioning: Partitioning) -> Json:
    if not hasattr(partitioning, "range_"):
        return {"timePartitioning": partitioning.to_api_repr()}
    span = partitioning.range_  # google's class cannot write itself as JSON
    ends = {"start": str(span.start), "end": str(span.end), "interval": str(span.interval)}
    return {"rangePartitioning": {"field": partitioning.field, "range": ends}}


def _told(kind: str, columns: list[Field]) -> Json:
    """Return how a load job reads what is sent: its format, and its columns unless the file has them."""
    return {"sourceFormat": kind, **READ_AS.get(kind, {}), **({"schema": {"fields": columns}} if columns else {})}


def _told_of_uris(uris: Sequence[str], options: LoadOptions) -> Json:
    """Return how a load job reads objects of Cloud Storage, which BigQuery does by itself.

    Raises:
        ValueError: If their format is not clear, or an option is for sources that are read here.
    """
    formats = {options.format.upper()} if options.format else {SUFFIXES.get(_suffix(uri), "") for uri in uris}
    kind = formats.pop()
    if formats or kind not in SOURCE_FORMATS:
        raise ValueError(
            f"{uris[0]}: the format is not clear; name it with format=, one of {', '.join(SOURCE_FORMATS)}."
        )
    here = ("geometry", "crs", "edges", "lon", "make_valid", "column_types", "layer")
    if unable := next((name for name in here if getattr(options, name)), None):
        raise ValueError(f"{unable}= is for sources that are read here: BigQuery reads {uris[0]} by itself.")
    if options.repairs or options.bad_rows != "refuse":
        raise ValueError(f"BigQuery reads {uris[0]} by itself: bad rows and geometry cannot be treated here.")
    told: Json = {"sourceFormat": SOURCE_FORMATS[kind], **READ_AS.get(kind, {})}
    if kind == "CSV":
        told |= _told_of_csv(uris[0], options)
    if not options.schema and kind not in ("PARQUET", "AVRO"):
        told["autodetect"] = True
    if options.column_names == "sanitize" and kind in ("CSV", "PARQUET"):
        told["columnNameCharacterMap"] = "V2"
    return told


def _told_of_csv(uri: str, options: LoadOptions) -> Json:
    told: Json = {
        "skipLeadingRows": str(options.skip_rows + options.header),
        "fieldDelimiter": options.delimiter or ("\t" if _suffix(uri) == ".tsv" else ","),
        "allowQuotedNewlines": True,
    }
    if options.encoding:
        told["encoding"] = options.encoding.upper()
    if options.quote != '"':
        told["quote"] = options.quote
    if options.null_marker is not None:
        told["nullMarker"] = options.null_marker
    return told


def _suffix(uri: str) -> str:
    return Path(uri.removesuffix(".gz")).suffix.lower()
