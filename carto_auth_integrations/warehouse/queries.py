"""Queries: what the job is told, and its rows as plain JSON types."""

from __future__ import annotations

import datetime
import json
import math
from typing import TYPE_CHECKING, Any

from .jobs import DIGEST_LABEL, JobPlan, digest_of, valid_labels
from .parameters import query_parameters
from .tables import dataset_reference, destination_of, reference_to

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..bigquery.rest import BigQuery, Job
    from ..waiting import Steps
    from .options import Parameters, QueryOptions

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
        ValueError: If a name or a disposition is invalid.
    """
    account, project = api.account, api.project()
    query: dict[str, Any] = {"query": sql, "useLegacySql": False}
    if parameters:
        query["parameterMode"] = "NAMED" if hasattr(parameters, "items") else "POSITIONAL"
        query["queryParameters"] = [each.to_api_repr() for each in query_parameters(parameters)]
    if account.default_dataset:
        query["defaultDataset"] = dataset_reference(account.default_dataset, project)
    if options.destination is not None:
        query["destinationTable"] = reference_to(destination_of(options.destination, project, account.default_dataset))
        query["writeDisposition"] = options.write_disposition
    digest = digest_of({"query": {**query, "queryParameters": _in_one_order(query.get("queryParameters", []))}})
    configuration = {"query": query, "labels": {**valid_labels(labels or {}), DIGEST_LABEL: digest}}
    return JobPlan(
        key=key,
        digest=digest,
        begin=lambda job_id: api.insert(job_id, account.location, configuration),
        location=account.location,
    )


def _in_one_order(parameters: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return parameters in the order of their names; `?` has none, and keeps its place."""
    return sorted(parameters, key=lambda parameter: parameter.get("name", ""))


def first_rows(api: BigQuery, job: Job, count: int) -> Steps[tuple[tuple[dict[str, Any], ...], int]]:
    """Return the first rows of a query that has ended, as plain JSON types, and the number of all rows.

    Args:
        api: Where the job ran.
        job: The query.
        count: How many rows at most.
    """
    rows: list[dict[str, Any]] = []
    page: str | None = None
    while True:
        answer = yield from api.rows(job, count - len(rows), page)
        fields = answer.get("schema", {}).get("fields", [])
        rows += [plain_record(fields, row) for row in answer.get("rows", [])]
        page = answer.get("pageToken")
        if page is None or len(rows) >= count:
            return tuple(rows), int(answer.get("totalRows", 0)) or len(rows)


def plain_record(fields: Sequence[Mapping[str, Any]], record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row, or a STRUCT in one, by column name; BigQuery's REST API writes it as `{"f": [{"v": …}]}`."""
    return {field["name"]: plain(field, cell["v"]) for field, cell in zip(fields, record["f"], strict=True)}


def plain(field: Mapping[str, Any], value: Any) -> Any:
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
        return (EPOCH + datetime.timedelta(microseconds=int(value))).isoformat()
    if kind == "JSON":
        return json.loads(value)
    return value  # DATE, TIME, NUMERIC, BYTES in Base64, GEOGRAPHY in WKT …
