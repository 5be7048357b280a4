"""Arrow arrays of any type: the types that BigQuery has, and the refusal of the others."""

from __future__ import annotations

import datetime
from decimal import Decimal
from typing import Any

import pandas
import pyarrow
import pytest

from carto_auth_integrations.warehouse.sources.arrays import normalised
from carto_auth_integrations.warehouse.sources.columns import Column
from tests.support.sources import columns_of, read_back, rows_of

DAY = datetime.date(2024, 2, 29)
MAP = pyarrow.map_(pyarrow.string(), pyarrow.int32())
UUIDS = pyarrow.ExtensionArray.from_storage(pyarrow.uuid(), pyarrow.array([b"0" * 16, None], pyarrow.binary(16)))


def encoded(values: list[Any]) -> pyarrow.Array:
    return pyarrow.RunEndEncodedArray.from_arrays(list(range(1, len(values) + 1)), values)


def read(array: pyarrow.Array) -> tuple[str, list[Any], dict[int, str]]:
    column = Column("v", range(len(array)))
    found = normalised(array, column)
    return str(found.type), found.to_pylist(), column.misfits


@pytest.mark.parametrize(
    ("array", "kind", "values"),
    [
        (pyarrow.array([255, None], pyarrow.uint8()), "int64", [255, None]),
        (pyarrow.array([-1], pyarrow.int16()), "int64", [-1]),
        (pyarrow.array([2**63 - 1], pyarrow.uint64()), "int64", [2**63 - 1]),
        (pyarrow.array([2**64 - 1, None], pyarrow.uint64()), "decimal128(20, 0)", [Decimal(2**64 - 1), None]),
        (pyarrow.array([0.5], pyarrow.float16()), "double", [0.5]),
        (pyarrow.array([0.1], pyarrow.float32()), "double", [0.10000000149011612]),
        (pyarrow.array(["x"], pyarrow.large_string()), "string", ["x"]),
        (pyarrow.array(["x" * 20, None], pyarrow.string_view()), "string", ["x" * 20, None]),
        (pyarrow.array([b"x"], pyarrow.large_binary()), "binary", [b"x"]),
        (pyarrow.array([b"x"], pyarrow.binary_view()), "binary", [b"x"]),
        (pyarrow.array([b"xy"], pyarrow.binary(2)), "binary", [b"xy"]),
        (pyarrow.array([DAY], pyarrow.date64()), "date32[day]", [DAY]),
        (pyarrow.array([1], pyarrow.time32("s")), "time64[us]", [datetime.time(0, 0, 1)]),
        (pyarrow.array([1000], pyarrow.time64("ns")), "time64[us]", [datetime.time(0, 0, 0, 1)]),
        (pyarrow.array([0], pyarrow.timestamp("s")), "timestamp[us]", [datetime.datetime(1970, 1, 1)]),
        (pyarrow.array([1000], pyarrow.timestamp("ns")), "timestamp[us]", [datetime.datetime(1970, 1, 1, 0, 0, 0, 1)]),
        (pyarrow.array(["a", None]).dictionary_encode(), "string", ["a", None]),
        (pyarrow.array([7, 7]).dictionary_encode(), "int64", [7, 7]),
        (encoded([7, 8]), "int64", [7, 8]),
        (encoded(["a", None]), "string", ["a", None]),
        (pyarrow.nulls(2), "null", [None, None]),
        (pyarrow.array([[1, 2]], pyarrow.list_(pyarrow.int8(), 2)), "list<item: int64>", [[1, 2]]),
        (pyarrow.array([[1], None], pyarrow.large_list(pyarrow.int8())), "list<item: int64>", [[1], None]),
        (pyarrow.array([[1], None], pyarrow.list_view(pyarrow.int8())), "list<item: int64>", [[1], None]),
        (pyarrow.array([[1], None], pyarrow.large_list_view(pyarrow.int8())), "list<item: int64>", [[1], None]),
        (UUIDS, "string", ["30303030-3030-3030-3030-303030303030", None]),
        (pyarrow.array([Decimal("1.5")], pyarrow.decimal128(38, 18)), "decimal128(38, 18)", [Decimal("1.5")]),
        (pyarrow.array([Decimal("1.5")], pyarrow.decimal256(76, 40)), "decimal256(74, 38)", [Decimal("1.5")]),
        (pyarrow.array([Decimal(100)], pyarrow.decimal128(3, -2)), "decimal128(5, 0)", [Decimal(100)]),
    ],
    ids=lambda value: str(getattr(value, "type", "")),
)
def test_what_bigquery_has_a_type_for_is_held_exactly(array: Any, kind: str, values: list[Any]) -> None:
    assert read(array) == (kind, values, {})
    nulls = pyarrow.concat_arrays([array, array]).slice(len(array)) if "run_end" not in str(array.type) else array
    assert read(nulls)[1:] == (values, {}), "a slice is read from its beginning"


@pytest.mark.parametrize(
    "array", [UUIDS, pyarrow.array([[("k", 1)], None], MAP), pyarrow.array(["x", None]).dictionary_encode()]
)
def test_these_types_are_held_inside_of_structs_too(array: pyarrow.Array) -> None:
    struct = pyarrow.StructArray.from_arrays([array], ["a"])
    assert [each["a"] for each in read(struct)[1]] == read(array)[1]


@pytest.mark.parametrize(
    ("array", "values"),
    [
        (pyarrow.array([[("k", 1), ("l", None)], None, []], MAP), [[("k", 1), ("l", None)], None, []]),
        (pyarrow.array([[("k", None)]], pyarrow.map_(pyarrow.string(), pyarrow.null())), [[("k", None)]]),
        (pyarrow.array([[(1, [2])]], pyarrow.map_(pyarrow.int8(), pyarrow.list_(pyarrow.int8()))), [[(1, [2])]]),
        (
            pyarrow.array(
                [[("k", "x")]], pyarrow.map_(pyarrow.string(), pyarrow.dictionary(pyarrow.int8(), pyarrow.string()))
            ),
            [[("k", "x")]],
        ),
    ],
    ids=lambda value: str(getattr(value, "type", "")),
)
def test_maps_are_arrays_of_key_and_value(array: Any, values: Any) -> None:
    expected = [None if each is None else [{"key": key, "value": value} for key, value in each] for each in values]
    assert read(array)[1:] == (expected, {})
    assert [row["v"] for row in rows_of(pyarrow.table({"v": array}))] == expected


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (pyarrow.array([1], pyarrow.timestamp("ns")), "microseconds cannot hold exactly"),
        (pyarrow.array([1], pyarrow.timestamp("ns", "UTC")), "microseconds cannot hold exactly"),
        (pyarrow.array([1], pyarrow.time64("ns")), "microseconds cannot hold exactly"),
        (pyarrow.array([1], pyarrow.duration("ns")), "microseconds cannot hold exactly"),
        (pyarrow.array([2_932_897], pyarrow.date32()), "years 1 to 9999"),
        (pyarrow.array([-719_163], pyarrow.date32()), "years 1 to 9999"),
        (pyarrow.array([-719_163 * 86_400], pyarrow.timestamp("s")), "years 1 to 9999"),
        (pyarrow.array([[None, 1]]), "leave the NULL out"),
        (pyarrow.array([[None]]), "leave the NULL out"),
        (
            pyarrow.array([[{"a": [None]}]], pyarrow.list_(pyarrow.struct([("a", pyarrow.list_(pyarrow.int8()))]))),
            "NULL",
        ),
        (pyarrow.array([[[1]]]), "array of arrays"),
        (pyarrow.array([[[]]], pyarrow.list_(pyarrow.large_list(pyarrow.int8()))), "array of arrays"),
        (pyarrow.array([[[1, 2]]], pyarrow.list_(pyarrow.list_(pyarrow.int8(), 2))), "array of arrays"),
        (pyarrow.array([[[("k", 1)]]], pyarrow.list_(MAP)), "array of arrays"),
        (pyarrow.array([b"\xff"]).view(pyarrow.string()), "not UTF-8"),
        (pyarrow.array([Decimal("1E-40")], pyarrow.decimal256(76, 40)), "more digits than BIGNUMERIC"),
        (pyarrow.array([Decimal("1E+40")], pyarrow.decimal256(76, 0)), "more digits than BIGNUMERIC"),
        (pyarrow.UnionArray.from_sparse(pyarrow.array([0], "int8"), [pyarrow.array([1])]), "sparse_union"),
        (pyarrow.array(pandas.Series(pandas.period_range("2024", "2024", freq="Y"))), "to_timestamp"),
        (pyarrow.array(pandas.Series(pandas.interval_range(0, 1))), "both ends"),
    ],
    ids=lambda value: str(getattr(value, "type", "")),
)
def test_the_others_are_refused_by_name(array: Any, said: str) -> None:
    misfits = read(array)[2]
    assert list(misfits) == [0]
    assert misfits[0].startswith("column v")
    assert said in misfits[0]


def test_the_bounds_of_dates_are_held() -> None:
    days = pyarrow.array([-719_162, 2_932_896], pyarrow.date32())
    assert read(days)[1:] == ([datetime.date.min, datetime.date.max], {})
    last = pyarrow.array([datetime.datetime.min, datetime.datetime.max], pyarrow.timestamp("us"))
    assert read(last)[1:] == ([datetime.datetime.min, datetime.datetime.max], {})


def test_only_the_rows_that_do_not_fit_are_refused() -> None:
    array = pyarrow.array([1, 1000, None, 2000, 3], pyarrow.timestamp("ns"))
    _, values, misfits = read(array)
    assert sorted(misfits) == [0, 4]
    assert [value is None for value in values] == [True, False, True, False, True]


def test_the_row_of_an_element_is_named_behind_empty_and_missing_arrays() -> None:
    array = pyarrow.array([[], None, [1, 2], [3, None]], pyarrow.list_(pyarrow.int8()))
    assert list(read(array)[2]) == [3]
    assert list(read(array.slice(2))[2]) == [1]


def test_missing_structs_stay_missing() -> None:
    kind = pyarrow.struct([("a", pyarrow.int8()), ("b", pyarrow.list_(pyarrow.float32()))])
    array = pyarrow.array([{"a": 1, "b": [1.5]}, None, {"a": None, "b": None}], kind)
    assert read(array)[1:] == (array.to_pylist(), {})
    assert read(array.slice(1))[1] == array.to_pylist()[1:]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (pyarrow.decimal128(38, 9), "NUMERIC"),
        (pyarrow.decimal128(10, 2), "NUMERIC"),
        (pyarrow.decimal128(38, 0), "BIGNUMERIC"),
        (pyarrow.decimal128(38, 18), "BIGNUMERIC"),
        (pyarrow.decimal256(76, 38), "BIGNUMERIC"),
        (pyarrow.uint8(), "INTEGER"),
        (pyarrow.float32(), "FLOAT"),
        (pyarrow.large_string(), "STRING"),
        (pyarrow.large_binary(), "BYTES"),
        (pyarrow.large_list(pyarrow.int64()), "ARRAY<INTEGER>"),
        (pyarrow.date64(), "DATE"),
        (pyarrow.time64("us"), "TIME"),
        (pyarrow.timestamp("ns"), "DATETIME"),
        (pyarrow.timestamp("s", "UTC"), "TIMESTAMP"),
        (MAP, "ARRAY<STRUCT<key STRING, value INTEGER>>"),
        (pyarrow.json_(), "JSON"),
        (pyarrow.uuid(), "STRING"),
        (pyarrow.null(), "STRING"),
    ],
    ids=str,
)
@pytest.mark.parametrize("beside_geometry", [False, True])
def test_each_arrow_type_has_its_bigquery_type_with_and_without_rows(
    kind: pyarrow.DataType, expected: str, beside_geometry: bool
) -> None:
    empty, missing = pyarrow.nulls(0).cast(kind) if kind == pyarrow.null() else None, pyarrow.nulls(1)
    storage = getattr(kind, "storage_type", kind)
    for array in (empty, missing) if kind == pyarrow.null() else (pyarrow.nulls(0, storage), pyarrow.nulls(1, storage)):
        if isinstance(kind, pyarrow.BaseExtensionType):
            array = pyarrow.ExtensionArray.from_storage(kind, array)
        table = pyarrow.table({"x": array})
        if beside_geometry:
            table = table.append_column("at", pyarrow.array(["POINT (1 2)"] * len(table), pyarrow.string()))
        columns = columns_of(table, geometry="at" if beside_geometry else ())
        assert columns["x"] == expected


@pytest.mark.parametrize("kind", [pyarrow.duration("s"), pyarrow.month_day_nano_interval()], ids=str)
def test_lengths_of_time_are_refused_unless_they_are_declared(kind: pyarrow.DataType) -> None:
    value: Any = 3600 if kind == pyarrow.duration("s") else (14, 3, 1_000_000_000)
    table = pyarrow.table({"x": pyarrow.array([value, None], kind)})
    with pytest.raises(ValueError, match=r"^Row 1: column x holds a length of time.*INTERVAL"):
        read_back(table)
    rows = rows_of(table, column_types={"x": "INTERVAL"})
    assert rows[0]["x"] == ("0-0 0 1:0:0" if kind == pyarrow.duration("s") else "1-2 3 0:0:1")
    assert rows[1]["x"] is None


def test_json_of_arrow_is_a_json_column() -> None:
    texts = pyarrow.array(['{"a": [1, null]}', None, "[]"])
    table = pyarrow.table({"j": pyarrow.ExtensionArray.from_storage(pyarrow.json_(), texts)})
    result = read_back(table)
    assert (result.columns, result.format) == ({"j": "JSON"}, "NEWLINE_DELIMITED_JSON")
    assert [row["j"] for row in result.rows] == [{"a": [1, None]}, None, []]
