"""Queries: what the job is told, and its rows as plain JSON types."""

from __future__ import annotations

import datetime
import json
import math
from typing import TYPE_CHECKING, Any

from .jobs import DIGEST_LABEL, JobPlan, digest_of, valid_labels
from .options import QueryOptions
from .parameters import query_parameters
from .tables import dataset_reference, destination_of, reference_to

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..bigquery.rest import BigQuery, Job
    from ..http import Json
    from ..waiting import Steps
    from .options import Parameters
    from .sources.declared import Field

EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
"""TIMESTAMP is counted from here."""


def query_plan(
    api: BigQuery,
    sql: str,
    parameters: Parameters | None,
    options: QueryOptions,
    *,
    key: str | None,
    labels: Mapping[str, str] | None,
) -> JobPlan:
    """Plan a query.

    Raises:
        TypeError: If a parameter has no BigQuery type: None, an empty list, or an object.
        ValueError: If a name or a disposition is invalid, or no type holds a parameter exactly.
    """
    query = _told(api, sql, parameters, options)
    digest = digest_of({"query": {**query, "queryParameters": _in_one_order(query.get("queryParameters", []))}})
    costs = _costs(options, api.account.maximum_bytes_billed)
    configuration = {"query": {**query, **costs}, "labels": {**valid_labels(labels or {}), DIGEST_LABEL: digest}}
    location = api.account.location
    return JobPlan(
        key=key, digest=digest, begin=lambda job_id: api.insert(job_id, location, configuration), location=location
    )


def check_query(
    api: BigQuery,
    sql: str,
    parameters: Parameters | None,
    options: QueryOptions,
    labels: Mapping[str, str] | None,
) -> Steps[Json]:
    """Let BigQuery check a query and say what it would read. There is no job, and nothing is billed.

    Raises:
        TypeError: As for `query_plan`.
        ValueError: As for `query_plan`.
    """
    # Without the limit of bytes: what a query over it would read is worth knowing.
    costs = _costs(QueryOptions(use_query_cache=options.use_query_cache), None)
    query = {**_told(api, sql, parameters, options), **costs}
    return (yield from api.dry_run({"query": query, "labels": valid_labels(labels or {})}))


def _told(api: BigQuery, sql: str, parameters: Parameters | None, options: QueryOptions) -> Json:
    """Return what a query does, as BigQuery is told it."""
    account, project = api.account, api.project()
    query: Json = {"query": sql, "useLegacySql": False}
    if parameters:
        query["parameterMode"] = "NAMED" if hasattr(parameters, "items") else "POSITIONAL"
        query["queryParameters"] = [each.to_api_repr() for each in query_parameters(parameters)]
    if account.default_dataset:
        query["defaultDataset"] = dataset_reference(account.default_dataset, project)
    if options.destination is not None:
        query["destinationTable"] = reference_to(destination_of(options.destination, project, account.default_dataset))
        query["writeDisposition"] = options.write_disposition
    return query


def _costs(options: QueryOptions, limit_of_account: int | None) -> dict[str, object]:
    """Return the `COSTS` that differ from BigQuery's defaults, as BigQuery is told them."""
    limit = options.maximum_bytes_billed or limit_of_account
    told = {
        "maximumBytesBilled": str(limit) if limit else None,
        "priority": options.priority if options.priority != "INTERACTIVE" else None,
        "useQueryCache": options.use_query_cache,
    }
    return {name: value for name, value in told.items() if value is not None}


def _in_one_order(parameters: list[Json]) -> list[Json]:
    """Return parameters in the order of their names; `?` has none, and keeps its place."""
    return sorted(parameters, key=lambda parameter: parameter.get("name", ""))


def first_rows(api: BigQuery, job: Job, count: int) -> Steps[tuple[tuple[Json, ...], int]]:
    """Return the first rows of a query that has ended, as plain JSON types, and the number of all rows.

    Args:
        api: Where the job ran.
        job: The query.
        count: How many rows at most.
    """
    rows: list[Json] = []
    page: str | None = None
    while True:
        answer = yield from api.rows(job, count - len(rows), page)
        fields = answer.get("schema", {}).get("fields", [])
        rows += [plain_record(fields, row) for row in answer.get("rows", [])]
        page = answer.get("pageToken")
        if page is None or len(rows) >= count:
            return tuple(rows), int(answer.get("totalRows", 0)) or len(rows)


def plain_record(fields: Sequence[Field], record: Json) -> Json:
    """Return a row, or a STRUCT in one, by column name; BigQuery's REST API writes it as `{"f": [{"v": …}]}`."""
    return {field["name"]: plain(field, cell["v"]) for field, cell in zip(fields, record["f"], strict=True)}


def plain(field: Field, value: Any) -> Any:
    """Return a value of BigQuery's REST API as a plain JSON type; what JSON does not have stays text.

    https://cloud.google.com/bigquery/docs/reference/rest/v2/tables#TableFieldSchema

    Args:
        field: The column.
        value: Its value in a row; TIMESTAMP in microseconds.
    """
    if field.get("mode") == "REPEATED":
        single = {**field, "mode": "NULLABLE"}
        return [plain(single, item["v"]) for item in value or ()]
    if value is None:
        return None
    kind = field["type"]
    if kind in ("RECORD", "STRUCT"):
        return plain_record(field["fields"], value)
    if kind in ("INTEGER", "INT64"):
        return int(value)
    if kind in ("FLOAT", "FLOAT64"):
        number = float(value)
        return number if math.isfinite(number) else str(number)
    if kind in ("BOOLEAN", "BOOL"):
        return str(value).lower() == "true"
    if kind == "TIMESTAMP":
        return _moment(value)
    if kind == "RANGE" and field.get("rangeElementType", {}).get("type") == "TIMESTAMP":
        start, end = value[1:-1].split(", ")
        return f"[{_moment(start)}, {_moment(end)})"
    if kind == "JSON":
        return json.loads(value)
    return value  # DATE, TIME, NUMERIC, BYTES in Base64, GEOGRAPHY in WKT …


def _moment(micros: str) -> str:
    """Return a TIMESTAMP; the end of a RANGE may be `UNBOUNDED`."""
    if not micros.removeprefix("-").isdecimal():
        return micros
    return (EPOCH + datetime.timedelta(microseconds=int(micros))).isoformat()
