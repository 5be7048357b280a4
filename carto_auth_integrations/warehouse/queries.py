"""Queries: what the job is told, and its rows as plain JSON types."""

from __future__ import annotations

import datetime
import json
import math
from functools import partial
from typing import TYPE_CHECKING

from ..bigquery.rest import retried
from .jobs import JobPlan, valid_labels
from .parameters import query_parameters
from .tables import WRITE_DISPOSITIONS, checked_disposition, dataset_reference, destination_of, reference_to

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from ..account.account import CartoAccount
    from ..bigquery.rest import Job, JobsApi
    from .steps import Steps

EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
"""TIMESTAMP is counted from here."""


def query_plan(
    api: JobsApi,
    account: CartoAccount,
    sql: str,
    *,
    parameters: Mapping[str, Any] | Sequence[Any] | None = None,
    idempotency_key: str | None = None,
    destination: str | None = None,
    write_disposition: str = "WRITE_TRUNCATE",
    labels: Mapping[str, str] | None = None,
) -> JobPlan:
    """Plan a query; the arguments are those of `CartoWarehouse.query`.

    Raises:
        TypeError: If a parameter's type says nothing: None, an empty list, or an object.
        ValueError: If a name is not what it should be.
    """
    project = api.project()  # if there is no token to be had, that is told at once
    query: dict[str, Any] = {"query": sql, "useLegacySql": False}
    if parameters:
        query["parameterMode"] = "NAMED" if hasattr(parameters, "items") else "POSITIONAL"
        query["queryParameters"] = [each.to_api_repr() for each in query_parameters(parameters)]
    if account.default_dataset:
        query["defaultDataset"] = dataset_reference(account.default_dataset, project)
    if destination is not None:
        table = destination_of(destination, project, account.default_dataset)
        query["destinationTable"] = reference_to(table)
        query["writeDisposition"] = checked_disposition("write_disposition", write_disposition, WRITE_DISPOSITIONS)
    # The labels are no part of the deed: a retry may carry its number.
    configuration = {"query": query, "labels": valid_labels(labels or {})}
    return JobPlan(
        key=idempotency_key,
        what=json.dumps(["query", query], sort_keys=True),
        begin=lambda job_id: retried(partial(api.insert, job_id, account.location, configuration)),
        is_same=lambda job: job.configured("query").get("query") == sql,
        location=account.location,
    )


def first_rows(api: JobsApi, job: Job, count: int) -> Steps[tuple[tuple[dict[str, Any], ...], int]]:
    """Fetch the first rows of a query that has ended, as plain JSON types, and the number of all.

    Args:
        api: Where the job ran.
        job: The query.
        count: How many rows at most.
    """
    rows: list[dict[str, Any]] = []
    page: str | None = None
    while True:
        more, page, total = yield from retried(partial(_page, api, job, count - len(rows), page))
        rows += more
        if page is None or len(rows) >= count:
            return tuple(rows), total or len(rows)


def _page(api: JobsApi, job: Job, count: int, page: str | None) -> tuple[list[dict[str, Any]], str | None, int]:
    answer = api.rows(job, count, page)
    fields = answer.get("schema", {}).get("fields", [])
    rows = [plain_record(fields, row) for row in answer.get("rows", [])]
    return rows, answer.get("pageToken"), int(answer.get("totalRows", 0))


def plain_record(fields: Sequence[Mapping[str, Any]], record: Mapping[str, Any]) -> dict[str, Any]:
    """Give a row, or a STRUCT in one, as BigQuery's REST API writes it (`{"f": [{"v": …}]}`), by column name."""
    return {field["name"]: plain(field, cell["v"]) for field, cell in zip(fields, record["f"], strict=True)}


def plain(field: Mapping[str, Any], value: Any) -> Any:
    """Give a value of BigQuery's REST API as a plain JSON type; what JSON does not have stays the text that it is.

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
