"""Queries: what the job is told, and its rows as plain JSON types."""

from __future__ import annotations

import json
import re
import types
from collections.abc import Generator, Mapping, Sequence
from typing import Any

import pytest

from carto_auth_integrations.waiting import run
from carto_auth_integrations.warehouse.jobs import JobPlan
from carto_auth_integrations.warehouse.options import QueryOptions
from carto_auth_integrations.warehouse.queries import check_query, first_rows, plain, plain_record, query_plan
from tests.support.accounts import account_for


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("STRING", None, None),
        ("STRING", "Köln 🌍", "Köln 🌍"),
        ("INTEGER", "1152921504606846976", 2**60),
        ("INT64", "-1", -1),
        ("FLOAT", "1.5", 1.5),
        ("FLOAT64", "1.0E-7", 1e-7),
        ("FLOAT", "Infinity", "inf"),
        ("FLOAT", "-Infinity", "-inf"),
        ("FLOAT", "NaN", "nan"),
        ("BOOLEAN", "true", True),
        ("BOOL", "false", False),
        ("BYTES", "AP8=", "AP8="),
        ("NUMERIC", "1234567890123456789.123456789", "1234567890123456789.123456789"),
        ("DATE", "2024-02-29", "2024-02-29"),
        ("TIME", "01:02:03.000004", "01:02:03.000004"),
        ("DATETIME", "2024-02-29T01:02:03", "2024-02-29T01:02:03"),
        ("TIMESTAMP", "1709168400000000", "2024-02-29T01:00:00+00:00"),
        ("TIMESTAMP", "-62135596800000000", "0001-01-01T00:00:00+00:00"),
        ("TIMESTAMP", "253402300799999999", "9999-12-31T23:59:59.999999+00:00"),
        ("INTERVAL", "1-2 3 4:5:6", "1-2 3 4:5:6"),
        ("RANGE", "[2024-01-01, 2024-02-01)", "[2024-01-01, 2024-02-01)"),
        ("BIGNUMERIC", "0.12345678901234567890", "0.12345678901234567890"),
        ("JSON", '{"a": [1, null]}', {"a": [1, None]}),
        ("GEOGRAPHY", "POINT(1 2)", "POINT(1 2)"),
    ],
)
def test_values_become_plain_json_types(kind: str, value: Any, expected: Any) -> None:
    assert plain({"name": "x", "type": kind}, value) == expected
    json.dumps(plain({"name": "x", "type": kind}, value), allow_nan=False)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("[1709168400000000, UNBOUNDED)", "[2024-02-29T01:00:00+00:00, UNBOUNDED)"),
        ("[UNBOUNDED, -1)", "[UNBOUNDED, 1969-12-31T23:59:59.999999+00:00)"),
    ],
)
def test_a_range_of_timestamps_has_them_as_text(value: str, expected: str) -> None:
    assert plain({"name": "x", "type": "RANGE", "rangeElementType": {"type": "TIMESTAMP"}}, value) == expected


def test_lists_and_records_become_lists_and_dicts() -> None:
    fields = [
        {"name": "list", "type": "INTEGER", "mode": "REPEATED"},
        {"name": "none", "type": "STRING", "mode": "REPEATED"},
        {
            "name": "at",
            "type": "RECORD",
            "mode": "REPEATED",
            "fields": [{"name": "lon", "type": "FLOAT"}, {"name": "tags", "type": "STRING", "mode": "REPEATED"}],
        },
        {"name": "nothing", "type": "RECORD", "fields": [{"name": "x", "type": "FLOAT"}]},
    ]
    row = {
        "f": [
            {"v": [{"v": "1"}, {"v": None}]},
            {"v": None},
            {"v": [{"v": {"f": [{"v": "1.5"}, {"v": [{"v": "a"}]}]}}]},
            {"v": None},
        ]
    }
    assert plain_record(fields, row) == {
        "list": [1, None],
        "none": [],
        "at": [{"lon": 1.5, "tags": ["a"]}],
        "nothing": None,
    }


class Pages:
    """Returns rows two at a time, however many are requested, as BigQuery does with large ones."""

    def __init__(self, total: int) -> None:
        self.total, self.asked = total, []

    def rows(self, _job: Any, count: int, page: str | None) -> Generator[float, None, dict[str, Any]]:
        yield 0.0
        self.asked.append((count, page))
        start = int(page or 0)
        end = min(start + 2, start + count, self.total)
        return {
            "schema": {"fields": [{"name": "x", "type": "INTEGER"}]},
            "rows": [{"f": [{"v": str(number)}]} for number in range(start, end)],
            "totalRows": str(self.total),
            **({"pageToken": str(end)} if end < self.total else {}),
        }


@pytest.mark.parametrize(("total", "count", "held"), [(5, 10, 5), (5, 3, 3), (5, 0, 0), (0, 10, 0), (4, 4, 4)])
def test_pages_are_requested_until_there_are_enough_rows(total: int, count: int, held: int) -> None:
    pages: Any = Pages(total)
    rows, number = run(first_rows(pages, types.SimpleNamespace(), count))
    assert ([row["x"] for row in rows], number) == (list(range(held)), total)
    assert len(pages.asked) <= 3


def plan_of(
    sql: str = "SELECT 1",
    *,
    parameters: Mapping[str, object] | Sequence[object] | None = None,
    labels: Mapping[str, str] | None = None,
    key: str | None = None,
    fields: dict[str, Any] | None = None,
    **options: Any,
) -> tuple[JobPlan, dict[str, Any]]:
    """Return the plan of a query, and the configuration that its job is begun with."""
    told: list[dict[str, Any]] = []

    def insert(_job_id: str, _location: str | None, configuration: dict[str, Any]) -> Generator[float, None, None]:
        told.append(configuration)
        yield 0.0

    account = account_for("http://127.0.0.1:1", **(fields or {}))
    api: Any = types.SimpleNamespace(project=lambda: "carto-dw-ac-1", insert=insert, account=account)
    plan = query_plan(api, sql, parameters, QueryOptions(**options), key=key, labels=labels)
    run(plan.begin("job"))
    return plan, told[0]


def configuration_of(sql: str = "SELECT 1", **options: Any) -> dict[str, Any]:
    return plan_of(sql, **options)[1]


def digest_of(sql: str = "SELECT 1", **options: Any) -> str:
    return plan_of(sql, **options)[0].digest


def test_a_statement_alone_is_all_that_the_job_is_told() -> None:
    plan, told = plan_of()
    assert told == {"query": {"query": "SELECT 1", "useLegacySql": False}, "labels": {"carto-digest": plan.digest}}


def test_destination_parameters_and_labels_are_told() -> None:
    plan, told = plan_of(
        destination="d.t", write_disposition="WRITE_APPEND", parameters={"p": 1}, labels={"DAG Id": "Nightly"}
    )
    assert told["query"]["destinationTable"] == {"projectId": "carto-dw-ac-1", "datasetId": "d", "tableId": "t"}
    assert told["query"]["writeDisposition"] == "WRITE_APPEND"
    assert told["query"]["parameterMode"] == "NAMED"
    assert told["query"]["queryParameters"] == [
        {"name": "p", "parameterType": {"type": "INT64"}, "parameterValue": {"value": "1"}}
    ]
    assert told["labels"] == {"dag_id": "nightly", "carto-digest": plan.digest}


def test_what_the_query_may_cost_is_told() -> None:
    told = configuration_of(maximum_bytes_billed=10**9, priority="BATCH", use_query_cache=False)["query"]
    assert (told["maximumBytesBilled"], told["priority"], told["useQueryCache"]) == ("1000000000", "BATCH", False)


def test_the_limit_of_the_account_counts_where_the_query_names_none() -> None:
    limited = {"maximum_bytes_billed": "2000"}
    assert configuration_of(fields=limited)["query"]["maximumBytesBilled"] == "2000"
    assert configuration_of(fields=limited, maximum_bytes_billed=5)["query"]["maximumBytesBilled"] == "5"


def test_a_dry_run_is_told_what_the_query_is_without_its_limit_and_digest() -> None:
    told: list[dict[str, Any]] = []

    def record(configuration: dict[str, Any]) -> Generator[float, None, dict[str, Any]]:
        told.append(configuration)
        yield 0.0
        return {}

    account = account_for("http://127.0.0.1:1", maximum_bytes_billed=1)
    api: Any = types.SimpleNamespace(project=lambda: "carto-dw-ac-1", dry_run=record, account=account)
    options = QueryOptions("d.t", maximum_bytes_billed=1, priority="BATCH", use_query_cache=False)
    run(check_query(api, "SELECT @a", {"a": 1}, options, {"Team": "Maps"}))
    _, whole = plan_of("SELECT @a", parameters={"a": 1}, destination="d.t", use_query_cache=False)
    assert told == [{"query": whole["query"], "labels": {"team": "maps"}}]


def test_tables_without_a_dataset_are_looked_for_in_the_accounts_default_dataset() -> None:
    for dataset, project in (("mine", "carto-dw-ac-1"), ("other-project.mine", "other-project")):
        told = configuration_of(fields={"default_dataset": dataset})
        assert told["query"]["defaultDataset"] == {"projectId": project, "datasetId": "mine"}


# The digest


def test_the_digest_fits_into_a_label() -> None:
    assert re.fullmatch(r"[a-z2-7]{52}", digest_of())


def test_the_digest_is_the_same_in_every_release() -> None:
    """A retry may run in a later release than the try before it: this text must never change."""
    assert digest_of("SELECT 1") == "miu72i2arwcphneq7gpswwfabs4bgnnoqhm3ylild4szlwnjppeq"


@pytest.mark.parametrize(
    "other",
    [
        {"labels": {"try": "2"}},
        {"key": "another"},
        {"parameters": {"b": 2, "a": 1}},
        {"parameters": {"a": 1, "b": 2}, "write_disposition": "WRITE_APPEND"},
        {"maximum_bytes_billed": 10**9, "priority": "BATCH", "use_query_cache": False},
        {"fields": {"maximum_bytes_billed": 10**9}},
    ],
    ids=["labels", "key", "order of parameters", "disposition without destination", "costs", "limit of the account"],
)
def test_what_may_differ_between_tries_is_not_in_the_digest(other: dict[str, Any]) -> None:
    assert digest_of(**{"parameters": {"a": 1, "b": 2}, **other}) == digest_of(parameters={"a": 1, "b": 2})


@pytest.mark.parametrize(
    "other",
    [
        {"sql": "SELECT 1  "},
        {"parameters": {"a": 2}},
        {"parameters": {"b": 1}},
        {"parameters": {"a": "1"}},
        {"parameters": [1]},
        {"parameters": None},
        {"destination": "d.t"},
        {"fields": {"default_dataset": "mine"}},
    ],
)
def test_what_the_query_does_is_in_the_digest(other: dict[str, Any]) -> None:
    assert digest_of(**{"parameters": {"a": 1}, **other}) != digest_of(parameters={"a": 1})


def test_parameters_by_position_keep_their_order_in_the_digest() -> None:
    assert digest_of(parameters=[1, 2]) != digest_of(parameters=[2, 1])
