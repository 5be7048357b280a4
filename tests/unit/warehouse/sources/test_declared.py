"""Columns whose type is given: what each type takes, exactly, and what it refuses."""

from __future__ import annotations

import datetime
from decimal import Decimal
from typing import Any

import pandas
import pyarrow
import pytest
from google.cloud import bigquery

from carto_auth_integrations.warehouse.sources.declared import field_of
from tests.support.sources import read_back

UTC = datetime.timezone.utc
NOON = datetime.datetime(2026, 11, 25, 12)


def load(value: Any, kind: str) -> Any:
    """Return a value as a column of a type holds it."""
    (row,) = read_back([{"v": value}], column_types={"v": kind}).rows
    return row["v"]


@pytest.mark.parametrize(
    ("value", "kind", "expected"),
    [
        (1.0, "INT64", 1),
        (Decimal("2.00"), "INT64", 2),
        ("-12", "INT64", -12),
        (1, "FLOAT64", 1.0),
        ("1e5", "FLOAT64", 1e5),
        (0.1, "NUMERIC", Decimal("0.1")),
        (1, "NUMERIC", Decimal(1)),
        ("1.000000001", "NUMERIC", Decimal("1.000000001")),
        (Decimal("1e-38"), "BIGNUMERIC", Decimal("1e-38")),
        ("true", "BOOL", True),
        ("AP8=", "BYTES", b"\x00\xff"),
        ("2026-11-25", "DATE", NOON.date()),
        (NOON.date(), "DATETIME", datetime.datetime(2026, 11, 25)),
        ("2026-11-25 12:00:00", "DATETIME", NOON),
        (NOON, "TIMESTAMP", NOON.replace(tzinfo=UTC)),
        ("2026-11-25T13:00:00+01:00", "TIMESTAMP", NOON.replace(tzinfo=UTC)),
        ("2026-11-25 12:00:00 UTC", "TIMESTAMP", NOON.replace(tzinfo=UTC)),
        ("2026-11-25", "TIMESTAMP", datetime.datetime(2026, 11, 25, tzinfo=UTC)),
        ("12:00:00.5", "TIME", datetime.time(12, 0, 0, 500_000)),
        (["1", 2], "ARRAY<INT64>", [1, 2]),
        ("abc", "STRING(3)", "abc"),
        (Decimal("999.99"), "NUMERIC(5, 2)", Decimal("999.99")),
        ({"a": [1, None, {"b": "x"}]}, "JSON", {"a": [1, None, {"b": "x"}]}),
        ("text", "JSON", "text"),
        (datetime.timedelta(hours=-25, microseconds=5), "INTERVAL", "0-0 0 -24:59:59.999995"),
        ("1-2 3 4:5:6", "INTERVAL", "1-2 3 4:5:6"),
        ("[2026-01-01, UNBOUNDED)", "RANGE<DATE>", {"start": "2026-01-01"}),
        ({"start": NOON.date(), "end": None}, "RANGE<DATE>", {"start": "2026-11-25"}),
    ],
)
def test_a_declared_type_takes_what_it_holds_exactly(value: Any, kind: str, expected: Any) -> None:
    assert load(value, kind) == expected


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (1.5, "INT64"),
        ("1.0", "INT64"),
        ("0x1F", "INT64"),
        (True, "INT64"),
        (2**53 + 1, "FLOAT64"),
        (Decimal("0.1"), "FLOAT64"),
        (1 / 3, "NUMERIC"),
        ("1.0000000001", "NUMERIC"),
        (Decimal(10) ** 29, "NUMERIC"),
        (float("nan"), "NUMERIC"),
        (1, "BOOL"),
        ("yes", "BOOL"),
        (1, "STRING"),
        (b"x", "STRING"),
        ("not base64!", "BYTES"),
        (NOON, "DATE"),
        ("25.11.2026", "DATE"),
        (NOON.replace(tzinfo=UTC), "DATETIME"),
        ("2026-11-25T12:00:00Z", "DATETIME"),
        ("2026-11-25T12:00:00.1234567Z", "TIMESTAMP"),
        ("25:00:00", "TIME"),
        ("x", "ARRAY<STRING>"),
        ([1, None], "ARRAY<INT64>"),
        ("abcd", "STRING(3)"),
        (Decimal("1000.00"), "NUMERIC(5, 2)"),
        (Decimal("0.001"), "NUMERIC(5, 2)"),
        ({"a": object()}, "JSON"),
        ({"a": float("nan")}, "JSON"),
        ({"a": 2**65 + 1}, "JSON"),
        ("1 day", "INTERVAL"),
        ("2026-01-01", "RANGE<DATE>"),
        ("[2026-13-01, UNBOUNDED)", "RANGE<DATE>"),
    ],
)
def test_a_declared_type_refuses_the_rest_with_row_and_column(value: Any, kind: str) -> None:
    with pytest.raises(ValueError, match=r"^Row 1: column v(\[\])? "):
        load(value, kind)


def test_text_in_arrow_is_a_json_document() -> None:
    table = pyarrow.table({"v": ['{"a": 1.5}', "[1]", None]})
    assert [row["v"] for row in read_back(table, column_types={"v": "JSON"}).rows] == [{"a": 1.5}, [1], None]
    with pytest.raises(ValueError, match="Row 1: column v holds 'text', which JSON in BigQuery cannot hold"):
        read_back(pyarrow.table({"v": ["text"]}), column_types={"v": "JSON"})


def test_structs_are_checked_field_by_field() -> None:
    inner = [bigquery.SchemaField("n", "INTEGER", mode="REQUIRED"), bigquery.SchemaField("day", "DATE")]
    schema = [bigquery.SchemaField("v", "RECORD", fields=inner)]
    back = read_back([{"v": {"n": "1", "day": "2026-11-25"}}, {"v": None}], schema=schema)
    assert back.rows == [{"v": {"n": 1, "day": NOON.date()}}, {"v": None}]
    assert back.format == "NEWLINE_DELIMITED_JSON", "Arrow has no NULL of a STRUCT with a REQUIRED field"
    for value, said in (
        ({"day": NOON.date()}, "v.n holds no value"),
        ({"n": 1, "x": 2}, "has a field x"),
        (5, "is not a STRUCT"),
    ):
        with pytest.raises(ValueError, match=f"Row 1: column .*{said}"):
            read_back([{"v": value}], schema=schema)


@pytest.mark.parametrize("kind", ["JSON", "INTERVAL", "RANGE<DATE>"])
def test_types_that_parquet_cannot_carry_go_as_json_lines(kind: str) -> None:
    assert read_back([{"v": None, "n": 2**60}], column_types={"v": kind}).format == "NEWLINE_DELIMITED_JSON"


@pytest.mark.parametrize("text", ["INT65", "", "ARRAY<>", "STRUCT<a INT64>", "RANGE"])
def test_what_is_no_type_is_refused_with_examples(text: str) -> None:
    with pytest.raises(ValueError, match=r"of column v is not a type of BigQuery.*STRING"):
        field_of("v", text)


@pytest.mark.parametrize("text", ["ARRAY<ARRAY<INT64>>", "RANGE<STRING>", "RANGE<INT64>", "RANGE<RANGE<DATE>>"])
def test_types_of_types_that_bigquery_does_not_have_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a type of BigQuery"):
        field_of("v", text)


@pytest.mark.parametrize(
    ("text", "kind", "size"),
    [
        ("string", "STRING", {}),
        (" Int64 ", "INTEGER", {}),
        ("BYTES(4)", "BYTES", {"maxLength": "4"}),
        ("DECIMAL(5)", "NUMERIC", {"precision": "5"}),
        ("BIGNUMERIC( 40 , 2 )", "BIGNUMERIC", {"precision": "40", "scale": "2"}),
        ("ARRAY<NUMERIC(5, 2)>", "NUMERIC", {"precision": "5", "scale": "2", "mode": "REPEATED"}),
        ("ARRAY<RANGE<DATETIME>>", "RANGE", {"rangeElementType": {"type": "DATETIME"}, "mode": "REPEATED"}),
    ],
)
def test_types_are_read_as_sql_writes_them(text: str, kind: str, size: dict[str, Any]) -> None:
    assert field_of("v", text) == {"name": "v", "type": kind, **size}


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("1e400", "FLOAT64"),
        (str(2**53 + 1), "FLOAT64"),
        (Decimal("99999999999999999999999999999.5"), "NUMERIC(29, 0)"),
        (Decimal("1.5"), "NUMERIC(5)"),
        (["abcd"], "ARRAY<STRING(3)>"),
        ("äöüß", "STRING(3)"),
        (b"abcd", "BYTES(3)"),
        ([1, pandas.NA], "ARRAY<INT64>"),
        ([[1]], "ARRAY<INT64>"),
        (1, "ARRAY<INT64>"),
        ("[2026-01-01, 2025-01-01)", "RANGE<DATE>"),
        ("[2026-01-01, 2026-01-01)", "RANGE<DATE>"),
        ("(2026-01-01, 2026-01-02]", "RANGE<DATE>"),
        ({"start": "2026-01-01", "stop": None}, "RANGE<DATE>"),
        ({1: "x"}, "JSON"),
        ({"a": {None: 1}}, "JSON"),
        ({"a": "\ud800"}, "JSON"),
        ([Decimal("1.5")], "JSON"),
        ({"a": {1, 2}}, "JSON"),
    ],
)
def test_a_value_that_would_change_in_its_declared_type_is_refused(value: Any, kind: str) -> None:
    with pytest.raises(ValueError, match=r"^Row 1: column v(\[\])? ") as error:
        load(value, kind)
    assert type(error.value) is ValueError


@pytest.mark.parametrize("value", ["1e308", "inf", "-Infinity", str(2**53), str(2**53 + 2), "0.1", "-0.0"])
def test_text_is_the_float_that_it_says(value: str) -> None:
    assert repr(load(value, "FLOAT64")) == repr(float(value))


@pytest.mark.parametrize(
    "text",
    [
        '{"a":1,"a":2}',
        "NaN",
        "[Infinity]",
        '"\\ud800"',
        "[" * 501 + "]" * 501,
        "[" * 100_000,
        "1e400",
        "1" * 30,
        "",
        "{",
    ],
    ids=lambda text: text[:12],
)
def test_json_documents_that_bigquery_would_change_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^Row 2: column v holds .*which JSON in BigQuery cannot hold") as error:
        read_back(pyarrow.table({"v": ["{}", text]}), column_types={"v": "JSON"})
    assert type(error.value) is ValueError


def test_json_that_holds_itself_or_has_too_many_levels_is_refused() -> None:
    ring: list[Any] = []
    ring.append(ring)
    deep: list[Any] = []
    for _ in range(501):
        deep = [deep]
    for value in (ring, deep, {"a": deep}):
        with pytest.raises(ValueError, match=r"^Row 1: column v holds a value that is not JSON"):
            load(value, "JSON")


def test_geometry_inside_of_a_struct_is_refused_since_nobody_checks_it() -> None:
    inner = [bigquery.SchemaField("g", "GEOGRAPHY")]
    for mode in ("NULLABLE", "REPEATED"):
        schema = [bigquery.SchemaField("s", "RECORD", mode=mode, fields=inner)]
        value: Any = {"g": "POLYGON ((0 0, 0 1, 1 1, 1 0, 0 0))"}
        with pytest.raises(ValueError, match=r"^Row 1: column s(\[\])?\.g is geometry inside of a STRUCT"):
            read_back([{"s": value if mode == "NULLABLE" else [value]}], schema=schema)


def test_required_fields_of_repeated_structs_are_required() -> None:
    inner = [bigquery.SchemaField("n", "INTEGER", mode="REQUIRED")]
    schema = [bigquery.SchemaField("s", "RECORD", mode="REPEATED", fields=inner)]
    assert read_back([{"s": [{"n": 1}, {"n": 2}]}, {"s": []}], schema=schema).rows[0] == {"s": [{"n": 1}, {"n": 2}]}
    with pytest.raises(ValueError, match=r"^Row 2: column s\[\]\.n holds no value, and is REQUIRED"):
        read_back([{"s": []}, {"s": [{"n": 1}, {}]}], schema=schema)


def test_each_value_of_a_column_of_mixed_types_is_converted_by_itself() -> None:
    rows = [{"v": value} for value in (1, "2.5", Decimal("3.5"), 0.1, None)]
    back = read_back(rows, column_types={"v": "NUMERIC"}).rows
    assert [row["v"] for row in back] == [Decimal(1), Decimal("2.5"), Decimal("3.5"), Decimal("0.1"), None]
