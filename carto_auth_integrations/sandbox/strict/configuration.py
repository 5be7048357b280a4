"""The rules for the configuration of load and query jobs: what BigQuery refuses before there is a job."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from .refusal import Refusal, cannot
from .schema import Field, check_columns, field_of

_JOB_ID = re.compile(r"[A-Za-z0-9_-]{1,1024}")

# https://cloud.google.com/bigquery/docs/labels-intro#requirements
MAX_LABELS = 64
_LABEL_KEY = re.compile(r"(?=[^\W\d_])[\w-]{1,63}")
_LABEL_VALUE = re.compile(r"[\w-]{0,63}")

FORMATS = ("CSV", "NEWLINE_DELIMITED_JSON", "PARQUET", "AVRO", "ORC")
_ENCODINGS = ("UTF-8", "ISO-8859-1", "UTF-16BE", "UTF-16LE", "UTF-32BE", "UTF-32LE")
_CHOICES = {
    "encoding": _ENCODINGS,
    "writeDisposition": ("WRITE_APPEND", "WRITE_TRUNCATE", "WRITE_TRUNCATE_DATA", "WRITE_EMPTY"),
    "createDisposition": ("CREATE_IF_NEEDED", "CREATE_NEVER"),
    "columnNameCharacterMap": ("COLUMN_NAME_CHARACTER_MAP_UNSPECIFIED", "STRICT", "V1", "V2"),
    "sourceColumnMatch": ("SOURCE_COLUMN_MATCH_UNSPECIFIED", "POSITION", "NAME"),
}
_UPDATES = ("ALLOW_FIELD_ADDITION", "ALLOW_FIELD_RELAXATION")
_DECIMAL_TARGETS = ("NUMERIC", "BIGNUMERIC", "STRING")
_PRIORITIES = ("INTERACTIVE", "BATCH")

# https://cloud.google.com/bigquery/docs/clustered-tables#limitations and partitioned-tables
MAX_CLUSTERING = 4
_CLUSTERING_TYPES = frozenset(
    (
        "STRING",
        "BYTES",
        "INTEGER",
        "NUMERIC",
        "BIGNUMERIC",
        "BOOLEAN",
        "DATE",
        "DATETIME",
        "TIMESTAMP",
        "GEOGRAPHY",
        "RANGE",
    )
)
_PARTITION_TYPES = ("DATE", "DATETIME", "TIMESTAMP")

# https://cloud.google.com/bigquery/quotas#query_jobs
MAX_STATEMENT = 1024 * 1024
MAX_PARAMETERS = 10_000
MAX_REQUEST_ID = 36


def check_job(job: Mapping[str, Any]) -> None:
    """Check what a client asks for with `jobs.insert`.

    Args:
        job: The job resource of the request.

    Raises:
        Refusal: If BigQuery answers this with an error 400.
    """
    job_id = (job.get("jobReference") or {}).get("jobId")
    if job_id is not None and not _JOB_ID.fullmatch(job_id):
        raise Refusal(
            f'Invalid job ID "{job_id[:1025]}". Job IDs must be alphanumeric (plus underscores and dashes) and must be '
            "at most 1024 characters long."
        )
    check_configuration(job.get("configuration") or {})


def check_configuration(configuration: Mapping[str, Any]) -> None:
    """Check the configuration of a job.

    Raises:
        Refusal: If BigQuery answers this with an error 400.
    """
    _check_labels(configuration.get("labels") or {})
    if "load" in configuration:
        if configuration.get("dryRun"):
            raise Refusal("Dry run is only supported for query jobs")
        _check_load(configuration["load"])
    if "query" in configuration:
        _check_query(configuration["query"])


def load_fields(load: Mapping[str, Any]) -> tuple[Field, ...]:
    """Return the columns that a load configuration names."""
    return tuple(field_of(each) for each in (load.get("schema") or {}).get("fields") or ())


def _check_labels(labels: Mapping[str, str]) -> None:
    if len(labels) > MAX_LABELS:
        raise Refusal(f"The number of labels {len(labels)} exceeds the maximum of {MAX_LABELS}")
    for key, value in labels.items():
        if not _LABEL_KEY.fullmatch(key) or key != key.lower():
            raise Refusal(f'Label key "{key}" has invalid characters.')
        if not _LABEL_VALUE.fullmatch(value or "") or (value or "") != (value or "").lower():
            raise Refusal(f'Label value "{value}" has invalid characters.')


def _check_load(load: Mapping[str, Any]) -> None:
    kind = load.get("sourceFormat") or "CSV"
    if kind not in FORMATS:
        raise Refusal(f"Invalid source format {kind}")
    for name, choices in _CHOICES.items():
        if load.get(name) is not None and load[name] not in choices:
            raise Refusal(f"Invalid value for {name}: {load[name]} is not a valid value")
    _check_list("schemaUpdateOptions", load.get("schemaUpdateOptions"), _UPDATES)
    _check_list("decimalTargetTypes", load.get("decimalTargetTypes"), _DECIMAL_TARGETS)
    _check_text_options(load, kind)
    _check_names(load, kind)
    fields = load_fields(load)
    check_columns(fields)
    if fields:
        _check_layout(load, {field.name.casefold(): field for field in fields})


def _check_list(name: str, given: Sequence[str] | None, choices: Sequence[str]) -> None:
    for value in given or ():
        if value not in choices:
            raise Refusal(f"Invalid value for {name}: {value} is not a valid value")


def _check_text_options(load: Mapping[str, Any], kind: str) -> None:
    extension = load.get("jsonExtension")
    if extension not in (None, "JSON_EXTENSION_UNSPECIFIED", "GEOJSON"):
        raise Refusal(f"Invalid value for jsonExtension: {extension} is not a valid value")
    if extension == "GEOJSON" and kind != "NEWLINE_DELIMITED_JSON":
        raise Refusal("jsonExtension is only supported for the source format NEWLINE_DELIMITED_JSON")
    delimiter = {"tab": "\t", "\\t": "\t"}.get(load.get("fieldDelimiter") or ",", load.get("fieldDelimiter") or ",")
    if len(delimiter.encode()) != 1:
        raise Refusal("fieldDelimiter must be a single byte")
    if len((load.get("quote") or "").encode()) > 1:
        raise Refusal("quote must be a single byte")
    if load.get("nullMarkers") and load.get("nullMarker") is not None:
        raise Refusal("nullMarker and nullMarkers cannot be set at the same time")
    for name in ("maxBadRecords", "skipLeadingRows"):
        if int(load.get(name) or 0) < 0:
            raise Refusal(f"{name} must not be negative")


def _check_names(load: Mapping[str, Any], kind: str) -> None:
    mapped = load.get("columnNameCharacterMap")
    if mapped in (None, "COLUMN_NAME_CHARACTER_MAP_UNSPECIFIED"):
        return
    if kind != "PARQUET" and not (kind == "CSV" and load.get("autodetect")):
        raise Refusal("columnNameCharacterMap is only supported for Parquet, and for CSV with autodetect")
    if mapped != "STRICT":
        raise cannot(f"map the characters of column names as columnNameCharacterMap {mapped} says")


def _check_layout(load: Mapping[str, Any], fields: Mapping[str, Field]) -> None:
    clustering = (load.get("clustering") or {}).get("fields") or []
    if len(clustering) > MAX_CLUSTERING:
        raise Refusal(f"Too many fields specified for clustering: at most {MAX_CLUSTERING}")
    for name in clustering:
        field = fields.get(name.casefold())
        if field is not None and (field.type not in _CLUSTERING_TYPES or field.repeated):
            raise Refusal(f"{field.type} is not a valid type for clustering column {name}")
    column = (load.get("timePartitioning") or {}).get("field")
    field = fields.get((column or "").casefold())
    if field is not None and (field.type not in _PARTITION_TYPES or field.repeated):
        raise Refusal(
            "The field specified for time partitioning can only be of type TIMESTAMP, DATE or DATETIME. "
            f"The type found is: {field.type}."
        )


def _check_query(query: Mapping[str, Any]) -> None:
    text = query.get("query") or ""
    if not text.strip():
        raise Refusal("Required parameter is missing: query")
    if query.get("useLegacySql", True) and not text.lstrip().lower().startswith("#standardsql"):
        raise Refusal(
            "This is a legacy SQL query, as useLegacySql is true unless a request sets it to false, and legacy SQL is "
            "not supported here"
        )
    if len(text.encode()) > MAX_STATEMENT:
        raise Refusal("The query is too large. The maximum standard SQL query length is 1024.00K characters")
    _check_parameters(query)
    priority = query.get("priority")
    if priority is not None and priority not in _PRIORITIES:
        raise Refusal(f"Invalid value for priority: {priority} is not a valid value")
    request_id = query.get("requestId") or ""
    if len(request_id) > MAX_REQUEST_ID or not request_id.isascii():
        raise Refusal(f"requestId must have at most {MAX_REQUEST_ID} ASCII characters")


def _check_parameters(query: Mapping[str, Any]) -> None:
    parameters = query.get("queryParameters") or []
    mode = (query.get("parameterMode") or "").upper()
    if mode not in ("", "NAMED", "POSITIONAL"):
        raise Refusal(f"Invalid value for parameterMode: {mode} is not a valid value")
    if len(parameters) > MAX_PARAMETERS:
        raise Refusal(f"Too many query parameters: at most {MAX_PARAMETERS}")
    named = [bool(parameter.get("name")) for parameter in parameters]
    if any(named) and not all(named):
        raise Refusal("Query parameters must be either all named or all positional")
    if (mode == "NAMED" and not all(named)) or (mode == "POSITIONAL" and any(named)):
        raise Refusal(f"parameterMode {mode} does not match the query parameters")
