"""Queries: what BigQuery is told, and what becomes of the rows that it writes."""

from __future__ import annotations

import json
import types
from typing import Any

import pytest

from carto_auth_integrations.warehouse.queries import first_rows, plain, plain_record, query_plan
from carto_auth_integrations.warehouse.steps import drive
from tests.support.core import account_for


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
        ("JSON", '{"a": [1, null]}', {"a": [1, None]}),
        ("GEOGRAPHY", "POINT(1 2)", "POINT(1 2)"),
    ],
)
def test_values_become_plain_json_types(kind: str, value: Any, expected: Any) -> None:
    assert plain({"name": "x", "type": kind}, value) == expected
    json.dumps(plain({"name": "x", "type": kind}, value), allow_nan=False)


def test_lists_and_records_are_taken_apart() -> None:
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
    """Gives rows two at a time, whatever is asked for, as BigQuery does with large ones."""

    def __init__(self, total: int) -> None:
        self.total, self.asked = total, []

    def rows(self, _job: Any, count: int, page: str | None) -> dict[str, Any]:
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
def test_pages_are_taken_until_there_are_enough_rows(total: int, count: int, held: int) -> None:
    pages: Any = Pages(total)
    rows, number = drive(first_rows(pages, types.SimpleNamespace(), count))
    assert ([row["x"] for row in rows], number) == (list(range(held)), total)
    assert len(pages.asked) <= 3


def configuration_of(sql: str = "SELECT 1", *, fields: dict[str, Any] | None = None, **options: Any) -> dict[str, Any]:
    told: list[dict[str, Any]] = []
    api: Any = types.SimpleNamespace(
        project=lambda: "carto-dw-ac-1", insert=lambda _job_id, _location, configuration: told.append(configuration)
    )
    account = account_for("http://127.0.0.1:1", **(fields or {}))
    drive(query_plan(api, account, sql, **options).begin("job"))
    return told[0]


def test_a_statement_alone_is_all_that_is_told() -> None:
    assert configuration_of() == {"query": {"query": "SELECT 1", "useLegacySql": False}, "labels": {}}


def test_destination_parameters_and_labels_are_told() -> None:
    told = configuration_of(
        destination="d.t", write_disposition="WRITE_APPEND", parameters={"p": 1}, labels={"DAG Id": "Nightly"}
    )
    assert told["query"]["destinationTable"] == {"projectId": "carto-dw-ac-1", "datasetId": "d", "tableId": "t"}
    assert told["query"]["writeDisposition"] == "WRITE_APPEND"
    assert told["query"]["parameterMode"] == "NAMED"
    assert told["query"]["queryParameters"] == [
        {"name": "p", "parameterType": {"type": "INT64"}, "parameterValue": {"value": "1"}}
    ]
    assert told["labels"] == {"dag_id": "nightly"}


def test_tables_without_a_dataset_are_looked_for_in_the_accounts_own() -> None:
    for dataset, project in (("mine", "carto-dw-ac-1"), ("other-project.mine", "other-project")):
        told = configuration_of(fields={"default_dataset": dataset})
        assert told["query"]["defaultDataset"] == {"projectId": project, "datasetId": "mine"}
