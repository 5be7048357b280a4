"""One type for each column over all chunks: what becomes wider, what is refused, and what is set aside."""

from __future__ import annotations

import datetime
from decimal import Decimal
from typing import Any

import pandas
import pyarrow
import pytest
from google.cloud import bigquery

from carto_auth_integrations.warehouse.sources import rows as rows_module
from tests.support.sources import columns_of, read_back, rows_of

DAY, HOUR = datetime.date(2026, 11, 25), datetime.datetime(2026, 11, 25, 17, 30)
UTC_HOUR = HOUR.replace(tzinfo=datetime.timezone.utc)
Field = bigquery.SchemaField


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A source of four rows has two chunks."""
    monkeypatch.setattr(rows_module, "ROWS_PER_CHUNK", 2)


def late(early: Any, last: Any) -> list[dict[str, Any]]:
    """Return rows whose last one, in a later chunk, has another value."""
    return [{"v": early}] * 3 + [{"v": last}]


@pytest.mark.parametrize(
    ("early", "last", "kind", "first"),
    [
        (1, 2.5, "FLOAT", 1.0),
        ([1], [2.5], "ARRAY<FLOAT>", [1.0]),
        ({"a": 1}, {"a": 2.5}, "STRUCT<a FLOAT>", {"a": 1.0}),
        ({"a": 1}, {"a": 1, "b": 2}, "STRUCT<a INTEGER, b INTEGER>", {"a": 1, "b": None}),
        ([{"a": 1}], [{"b": "x"}], "ARRAY<STRUCT<a INTEGER, b STRING>>", [{"a": 1, "b": None}]),
        (None, 5, "INTEGER", None),
        (None, [{"a": None}], "ARRAY<STRUCT<a STRING>>", None),
        ([], ["x"], "ARRAY<STRING>", []),
        ({}, {"a": 1}, "STRUCT<a INTEGER>", {"a": None}),
        (Decimal("9.99"), Decimal("100.00"), "NUMERIC", Decimal("9.99")),
        (Decimal("9.99"), Decimal("0.12345678901"), "BIGNUMERIC", Decimal("9.99")),
        (1, Decimal("0.5"), "NUMERIC", Decimal(1)),
        (1, 2**63, "NUMERIC", Decimal(1)),
        (2**63, 10**37, "BIGNUMERIC", Decimal(2**63)),
    ],
)
def test_a_column_becomes_wider_where_a_rule_says_so(early: Any, last: Any, kind: str, first: Any) -> None:
    back = read_back(late(early, last))
    assert back.columns == {"v": kind}
    assert back.rows[0] == {"v": first}
    assert len(back.rows) == 4


@pytest.mark.parametrize(
    ("early", "last"),
    [
        (1, "x"),
        ("01234", 28001),
        (1, True),
        (True, 1),
        (DAY, HOUR),
        (HOUR, DAY),
        (HOUR, UTC_HOUR),
        ([DAY], [HOUR]),
        ({"d": DAY}, {"d": HOUR}),
        (2**53 + 1, 0.5),
        (0.5, 2**53 + 1),
        (0.5, Decimal("0.5")),
        ("x", b"x"),
        ([1], 1),
        ({"a": 1}, [{"a": 1}]),
        (DAY, "2026-11-25"),
        (Decimal("1e-38"), Decimal("1e-39")),
    ],
)
def test_what_fits_no_rule_is_refused_with_row_and_column(early: Any, last: Any) -> None:
    with pytest.raises(ValueError, match=r"^Row \d: column v[\w.\[\]]* holds .*\.$"):
        read_back(late(early, last))


def test_an_integer_that_a_later_float_cannot_join_is_named_with_its_row() -> None:
    with pytest.raises(ValueError, match=rf"^Row 1: column v holds {2**53 + 1}, which FLOAT cannot hold exactly"):
        read_back([{"v": 2**53 + 1}, {"v": 1}, {"v": 0.5}])


def test_a_later_row_brings_a_column_and_lacks_another() -> None:
    back = rows_of([{"a": 1}, {"a": 2}, {"b": "x"}])
    assert back == [{"a": 1, "b": None}, {"a": 2, "b": None}, {"a": None, "b": "x"}]


@pytest.mark.parametrize("first", [pandas.DataFrame({"v": []}), pandas.DataFrame({"v": [None]})])
def test_a_frame_without_values_does_not_set_the_type(first: pandas.DataFrame) -> None:
    assert columns_of(iter([first, pandas.DataFrame({"v": ["x"]})])) == {"v": "STRING"}


def test_a_column_without_values_has_the_type_that_it_came_with() -> None:
    table = pyarrow.table({"n": pyarrow.array([None], pyarrow.int64()), "nothing": pyarrow.nulls(1)})
    assert columns_of(table) == {"n": "INTEGER", "nothing": "STRING"}


def test_an_object_column_of_a_frame_loses_no_hour() -> None:
    frame = pandas.DataFrame({"d": pandas.Series([DAY, HOUR], dtype=object)})
    with pytest.raises(ValueError, match="Row 2: column d holds 2026-11-25 17:30:00"):
        read_back(frame)


def test_objects_without_a_field_are_refused_by_column() -> None:
    with pytest.raises(ValueError, match="Column v holds only"):
        read_back([{"v": {}}])


# Given types


def test_a_schema_orders_the_columns_and_adds_those_that_are_missing() -> None:
    schema = [Field("b", "STRING"), Field("a", "INTEGER"), Field("c", "DATE", mode="REPEATED")]
    assert read_back([{"a": 1, "b": "x"}], schema=schema).rows == [{"b": "x", "a": 1, "c": None}]


def test_a_column_that_the_schema_lacks_is_refused_where_it_has_a_value() -> None:
    schema = [Field("a", "INTEGER")]
    assert rows_of([{"a": 1}, {"a": 2, "b": None}], schema=schema) == [{"a": 1}, {"a": 2}]
    with pytest.raises(ValueError, match="Row 2: column b is not in schema="):
        read_back([{"a": 1}, {"a": 2, "b": 0}], schema=schema)


def test_a_required_column_has_a_value_in_each_row() -> None:
    schema = [Field("a", "INTEGER", mode="REQUIRED"), Field("b", "STRING")]
    for rows in ([{"a": 1}, {"a": None}], [{"a": 1}, {"b": "x"}]):
        with pytest.raises(ValueError, match="Row 2: column a holds no value, and is REQUIRED"):
            read_back(rows, schema=schema)


def test_column_types_rule_for_some_columns() -> None:
    rows = [{"zip": "01234", "day": "2026-11-25", "n": 1}]
    back = read_back(rows, column_types={"day": "DATE", "n": "NUMERIC(5, 2)"})
    assert back.columns == {"zip": "STRING", "day": "DATE", "n": "NUMERIC"}
    assert back.rows == [{"zip": "01234", "day": DAY, "n": Decimal(1)}]


def test_a_column_type_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="'INT65' of column a is not a type of BigQuery"):
        read_back([{"a": 1}], column_types={"a": "INT65"})


# Bad rows


def test_rows_that_do_not_fit_are_set_aside_with_place_and_reason() -> None:
    rows: list[dict[str, Any]] = [
        {"id": 1, "at": b"\x00"},
        {"id": "x", "at": b"\xff"},
        {"id": 3},
        {"id": None},
        {"id": [4]},
    ]
    back = read_back(rows, bad_rows="quarantine")
    assert [row["id"] for row in back.rows] == [1, 3, None]
    assert [(each["row_number"], each["row"]["id"]) for each in back.rejects] == [(2, "x"), (5, [4])]
    assert back.rejects[0]["row"]["at"] == "/w==", "BYTES are Base64 in JSON"
    assert back.reasons[0].startswith("Row 2: column id holds 'x' (STRING), which does not fit INTEGER")


def test_the_type_of_most_rows_of_a_chunk_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows_module, "ROWS_PER_CHUNK", 10)
    back = read_back([{"n": "n/a"}, {"n": 1}, {"n": 2}], bad_rows="quarantine")
    assert (back.rows, [each["row"] for each in back.rejects]) == ([{"n": 1}, {"n": 2}], [{"n": "n/a"}])


def test_a_row_with_two_faults_is_set_aside_once() -> None:
    back = read_back(
        [{"a": 1, "b": 1}, {"a": "x", "b": "x"}],
        schema=[Field("a", "INTEGER"), Field("b", "INTEGER")],
        bad_rows="quarantine",
    )
    assert (len(back.rows), len(back.rejects)) == (1, 1)


def test_pieces_are_named_in_the_quarantine() -> None:
    back = read_back(iter([pyarrow.table({"a": [1]}), pyarrow.table({"a": ["x"]})]), bad_rows="quarantine")
    (rejected,) = back.rejects
    assert (rejected["source"], rejected["row_number"]) == ("piece 2", 1)
