"""Column types: how two of them become one, and BigQuery's names for them."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pyarrow
import pytest

from carto_auth_integrations.warehouse.sources.columns import (
    Column,
    bigquery_field,
    decimal,
    name_of,
    stored,
    unify,
    widen,
)
from carto_auth_integrations.warehouse.tables import type_of

INTEGER, FLOAT, TEXT, NULL = pyarrow.int64(), pyarrow.float64(), pyarrow.string(), pyarrow.null()


def record(**fields: pyarrow.DataType) -> pyarrow.DataType:
    return pyarrow.struct(list(fields.items()))


@pytest.mark.parametrize(
    ("one", "other", "both"),
    [
        (INTEGER, INTEGER, INTEGER),
        (NULL, TEXT, TEXT),
        (NULL, pyarrow.list_(NULL), pyarrow.list_(NULL)),
        (INTEGER, FLOAT, FLOAT),
        (INTEGER, pyarrow.decimal128(3, 2), pyarrow.decimal128(21, 2)),
        (pyarrow.decimal128(3, 2), pyarrow.decimal128(5, 2), pyarrow.decimal128(5, 2)),
        (pyarrow.decimal128(5, 0), pyarrow.decimal128(5, 5), pyarrow.decimal128(10, 5)),
        (pyarrow.decimal128(38, 0), pyarrow.decimal128(38, 38), pyarrow.decimal256(76, 38)),
        (record(a=INTEGER), record(a=FLOAT, b=TEXT), record(a=FLOAT, b=TEXT)),
        (record(a=INTEGER), record(b=TEXT), record(a=INTEGER, b=TEXT)),
        (record(a=NULL), record(a=record(b=INTEGER)), record(a=record(b=INTEGER))),
        (pyarrow.list_(INTEGER), pyarrow.list_(FLOAT), pyarrow.list_(FLOAT)),
        (pyarrow.list_(record(a=NULL)), pyarrow.list_(record(a=TEXT)), pyarrow.list_(record(a=TEXT))),
    ],
    ids=str,
)
def test_two_types_have_one_that_holds_both(one: Any, other: Any, both: Any) -> None:
    assert unify(one, other).equals(both)
    assert (
        {*map(str, unify(other, one))} == {*map(str, both)}
        if pyarrow.types.is_struct(both)
        else unify(other, one) == both
    )


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (INTEGER, TEXT),
        (INTEGER, pyarrow.bool_()),
        (FLOAT, pyarrow.decimal128(3, 2)),
        (TEXT, pyarrow.binary()),
        (pyarrow.date32(), pyarrow.timestamp("us")),
        (pyarrow.timestamp("us"), pyarrow.timestamp("us", "UTC")),
        (pyarrow.list_(INTEGER), INTEGER),
        (pyarrow.list_(INTEGER), pyarrow.list_(TEXT)),
        (record(a=INTEGER), record(a=TEXT)),
        (record(a=INTEGER), INTEGER),
    ],
    ids=str,
)
def test_types_that_have_none_in_common_are_not_mixed(one: Any, other: Any) -> None:
    assert unify(one, other) is None
    assert unify(other, one) is None


@pytest.mark.parametrize(
    ("values", "kind", "read"),
    [
        ([1, None], FLOAT, [1.0, None]),
        ([[1], None, [], [2, 3]], pyarrow.list_(FLOAT), [[1.0], None, [], [2.0, 3.0]]),
        ([{"a": 1}, None], record(a=FLOAT, b=TEXT), [{"a": 1.0, "b": None}, None]),
        ([None, None], TEXT, [None, None]),
        ([Decimal("1.5")], pyarrow.decimal256(76, 38), [Decimal("1.5")]),
        ([2**63 - 1], pyarrow.decimal128(19, 0), [Decimal(2**63 - 1)]),
    ],
)
def test_values_are_the_same_in_a_wider_type(values: list[Any], kind: Any, read: list[Any]) -> None:
    column = Column("v", range(len(values)))
    wider = widen(pyarrow.array(values), kind, column)
    assert wider.type.equals(kind)
    assert (wider.to_pylist(), column.misfits) == (read, {})


@pytest.mark.parametrize("shape", ["plain", "list", "struct"])
def test_an_integer_that_no_float_is_equal_to_is_named_with_its_row(shape: str) -> None:
    numbers = [1, 2**53, 2**53 + 1, None, -(2**53) - 1]
    array, kind = {
        "plain": (pyarrow.array(numbers), FLOAT),
        "list": (pyarrow.array([[1, 2], [], [2**53 + 1], None, [5, -(2**53) - 1]]), pyarrow.list_(FLOAT)),
        "struct": (pyarrow.array([{"n": number} for number in numbers]), record(n=FLOAT)),
    }[shape]
    column = Column("v", range(5))
    widen(array, kind, column)
    assert sorted(column.misfits) == [2, 4]
    assert "9007199254740993, which FLOAT cannot hold exactly" in column.misfits[2]


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (pyarrow.decimal128(38, 9), "NUMERIC"),
        (pyarrow.decimal128(29, 0), "NUMERIC"),
        (pyarrow.decimal128(30, 0), "BIGNUMERIC"),
        (pyarrow.decimal128(10, 10), "BIGNUMERIC"),
        (pyarrow.timestamp("us"), "DATETIME"),
        (pyarrow.timestamp("us", "UTC"), "TIMESTAMP"),
        (pyarrow.duration("us"), "INTERVAL"),
        (NULL, "STRING"),
    ],
    ids=str,
)
def test_types_have_their_names_in_bigquery(kind: Any, name: str) -> None:
    assert name_of(kind) == name
    assert bigquery_field("x", kind) == {"name": "x", "type": name}


def test_nested_types_have_their_fields() -> None:
    kind = pyarrow.list_(record(a=INTEGER, b=pyarrow.list_(TEXT)))
    assert type_of(bigquery_field("x", kind)) == "ARRAY<STRUCT<a INTEGER, b ARRAY<STRING>>>"


@pytest.mark.parametrize(("digits", "scale"), [(39, 0), (0, 39), (100, 100)])
def test_more_digits_than_bignumeric_have_no_type(digits: int, scale: int) -> None:
    assert decimal(digits, scale) is None
    assert decimal(min(digits, 38), min(scale, 38)) is not None


def test_parquet_has_a_type_for_columns_without_values() -> None:
    assert stored(record(a=NULL, b=pyarrow.list_(NULL))) == record(a=TEXT, b=pyarrow.list_(TEXT))
    assert stored(INTEGER) == INTEGER


def test_the_first_reason_of_a_row_stays() -> None:
    column = Column("v", [0, 0, 1])
    column.refuse(0, "is wrong")
    column.inner(".a").refuse(1, "is wrong too")
    column.inner("[]", [5]).refuse(0, "is another")
    assert column.misfits == {0: "column v is wrong", 5: "column v[] is another"}
