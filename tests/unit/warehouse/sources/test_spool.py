"""The file that is uploaded: Parquet, or JSON lines, of batches whose columns become wider."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from google.cloud import bigquery

from carto_auth_integrations.warehouse.sources import rows as rows_module
from carto_auth_integrations.warehouse.sources import spool as spool_module
from carto_auth_integrations.warehouse.sources.base import Chunk
from carto_auth_integrations.warehouse.sources.spool import Spool
from tests.support.sources import read_back, strict_json

Field = bigquery.SchemaField


@pytest.fixture
def spool() -> Iterator[Spool]:
    spool = Spool()
    yield spool
    spool.close()


def batch(**columns: Any) -> pyarrow.RecordBatch:
    return pyarrow.RecordBatch.from_arrays([pyarrow.array(each) for each in columns.values()], names=list(columns))


def fields_of(schema: pyarrow.Schema, kind: str = "STRING") -> list[dict[str, str]]:
    return [{"name": name, "type": kind} for name in schema.names]


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_batches_of_one_schema_are_one_file_that_is_written_once(spool: Spool) -> None:
    for number in range(3):
        spool.write(batch(x=[number]))
    schema = pyarrow.schema([("x", pyarrow.int64())])
    file, kind = spool.finish(schema, fields_of(schema))
    assert (kind, spool.rows) == ("PARQUET", 3)
    assert pyarrow.parquet.read_table(file).to_pylist() == [{"x": 0}, {"x": 1}, {"x": 2}]


def test_small_batches_are_gathered_into_row_groups(spool: Spool) -> None:
    for number in range(100):
        spool.write(batch(x=[number]))
    schema = pyarrow.schema([("x", pyarrow.int64())])
    assert pyarrow.parquet.ParquetFile(spool.finish(schema, fields_of(schema))[0]).num_row_groups == 1


def test_large_batches_leave_the_memory_as_row_groups(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_module, "ROW_GROUP", 100)
    for number in range(10):
        spool.write(batch(x=[number] * 20))
    schema = pyarrow.schema([("x", pyarrow.int64())])
    assert pyarrow.parquet.ParquetFile(spool.finish(schema, fields_of(schema))[0]).num_row_groups == 10


def test_batches_of_wider_and_wider_schemas_are_one_file_in_their_order(spool: Spool) -> None:
    spool.write(batch(x=[1, 2]))
    spool.write(batch(x=[3], y=["a"]))
    spool.write(batch(x=[0.5], y=["b"]))
    schema = pyarrow.schema([("x", pyarrow.float64()), ("y", pyarrow.string())])
    table = pyarrow.parquet.read_table(spool.finish(schema, fields_of(schema))[0])
    assert table.schema.equals(schema)
    assert list(map(tuple, (row.values() for row in table.to_pylist()))) == [(1, None), (2, None), (3, "a"), (0.5, "b")]


def test_an_integer_that_a_later_float_makes_inexact_is_named_by_its_place(spool: Spool) -> None:
    spool.write(batch(x=[1, 2]), Chunk((), 1, "a.csv"))
    spool.write(batch(x=[3, 2**53 + 1]), Chunk((), 100, "b.csv"), without=[0, 2])
    spool.write(batch(x=[0.5]), Chunk((), 1, "c.csv"))
    schema = pyarrow.schema([("x", pyarrow.float64())])
    with pytest.raises(ValueError, match=r"^b\.csv: row 103: column x holds 9007199254740993, which FLOAT cannot"):
        spool.finish(schema, fields_of(schema))


@pytest.mark.parametrize(("pieces", "place"), [(False, "Row 4"), (True, "piece 2: row 2")])
def test_the_row_is_the_one_of_the_source_whatever_was_set_aside_before(
    monkeypatch: pytest.MonkeyPatch, pieces: bool, place: str
) -> None:
    monkeypatch.setattr(rows_module, "ROWS_PER_CHUNK", 2)
    values: list[list[Any]] = [[1, 2], [[3], 2**53 + 1], [0.5, 1.5]]
    rows = [[{"v": value} for value in each] for each in values]
    source: Any = [row for each in rows for row in each]
    if pieces:
        pandas = pytest.importorskip("pandas")
        source = iter([pandas.DataFrame({"v": pandas.Series(each, dtype=object)}) for each in values])
    with pytest.raises(ValueError, match=rf"^{place}: column v holds 9007199254740993"):
        read_back(source, bad_rows="quarantine")


def test_without_batches_there_is_a_file_without_rows(spool: Spool) -> None:
    schema = pyarrow.schema([("x", pyarrow.int64())])
    table = pyarrow.parquet.read_table(spool.finish(schema, fields_of(schema))[0])
    assert (table.num_rows, table.schema) == (0, schema)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts the open files of Linux")
def test_close_removes_the_files() -> None:
    spool, before = Spool(), open_files()
    for columns in ({"x": [1]}, {"x": [0.5]}, {"x": [0.5], "y": [1]}):
        spool.write(batch(**columns))
    schema = pyarrow.schema([("x", pyarrow.float64()), ("y", pyarrow.int64())])
    file, _ = spool.finish(schema, fields_of(schema))
    spool.close()
    assert file.closed
    assert open_files() == before


# JSON lines


SCHEMA = [
    Field("i", "INTEGER"),
    Field("f", "FLOAT"),
    Field("n", "NUMERIC"),
    Field("big", "BIGNUMERIC"),
    Field("t", "STRING"),
    Field("b", "BYTES"),
    Field("yes", "BOOLEAN"),
    Field("day", "DATE"),
    Field("local", "DATETIME"),
    Field("moment", "TIMESTAMP"),
    Field("time", "TIME"),
    Field("list", "INTEGER", mode="REPEATED"),
    Field("s", "RECORD", fields=[Field("a", "BYTES"), Field("j", "JSON")]),
    Field("ss", "RECORD", mode="REPEATED", fields=[Field("n", "NUMERIC")]),
    Field("j", "JSON"),
]
VALUES: list[dict[str, Any]] = [
    {
        "i": 2**63 - 1,
        "f": -0.0,
        "n": Decimal("0.000000001"),
        "big": Decimal("1E-38"),
        "t": 'a\n\0\u2028😀"\\',
        "b": b"\x00\xff",
        "yes": False,
        "day": datetime.date(1, 1, 1),
        "local": datetime.datetime(1, 1, 1, 0, 0, 0, 1),
        "moment": datetime.datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=datetime.timezone.utc),
        "time": datetime.time(23, 59, 59, 999999),
        "list": [-(2**63), 0],
        "s": {"a": b"x", "j": [1, {"k": None}]},
        "ss": [{"n": Decimal("1.5")}, {"n": None}],
        "j": {"a": [1.5, "x", True, None]},
    },
    {"f": float("inf"), "i": 2**53, "j": "text", "list": []},
    {"f": float("-inf"), "i": -(2**53) + 1, "j": 0},
]


def test_json_lines_carry_a_value_of_each_type() -> None:
    read = read_back(VALUES, schema=SCHEMA)
    assert read.format == "NEWLINE_DELIMITED_JSON"
    assert read.rows[0] == VALUES[0]
    assert str(read.rows[0]["f"]) == "-0.0"
    for given, row in zip(VALUES, read.rows, strict=True):
        assert {name: row[name] or given.get(name) for name in given} == given
        assert all(value in (None, []) for name, value in row.items() if name not in given)


def test_not_a_number_stays_one() -> None:
    (row,) = read_back([{"f": float("nan"), "j": 1}], column_types={"j": "JSON"}).rows
    assert row["f"] != row["f"]


def test_each_row_is_one_line_and_nulls_are_left_out(spool: Spool) -> None:
    schema = pyarrow.schema([("j", pyarrow.string())])
    spool.write(batch(j=['"a\\nb"', None, "[1, 2]"]).cast(schema))
    file, _ = spool.finish(schema, fields_of(schema, "JSON"))
    lines = file.read().splitlines()
    assert [strict_json(line) for line in lines] == [{"j": "a\nb"}, {}, {"j": [1, 2]}]
    assert json.loads(lines[0]) == {"j": "a\nb"}


@pytest.mark.parametrize("end", ["UNBOUNDED", "NULL", "unbounded"])
def test_open_ends_of_a_range_are_left_out(end: str) -> None:
    for text, value in ((f"[2026-01-01, {end})", {"start": "2026-01-01"}), (f"[{end}, {end})", {})):
        (row,) = read_back([{"r": text}], column_types={"r": "RANGE<DATE>"}).rows
        assert row["r"] == value
