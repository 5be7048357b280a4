"""Digests: equal content has an equal digest in every process, other content another one."""

from __future__ import annotations

import copy
import datetime
import functools
import pickle
import textwrap
import threading
import uuid
from collections import OrderedDict, namedtuple
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from pathlib import Path, PurePosixPath
from typing import Any

import geopandas
import numpy
import pandas
import pyarrow
import pytest
from google.cloud import bigquery
from shapely.geometry import Point

from prefect_blocks import _digests
from prefect_blocks._digests import Digest
from tests.support.processes import run_processes

DAY = datetime.date(2026, 11, 24)
NOON = datetime.datetime(2026, 11, 24, 12, tzinfo=datetime.timezone.utc)
DATA: dict[str, list[Any]] = {
    "id": [1, 2],
    "name": ["x", None],
    "day": [DAY, DAY],
    "n": [1.5, None],
    "ok": [True, None],
}
ROWS = [{"id": 1, "name": "same", "day": DAY, "size": Decimal("1.0")}, {"id": 2, "name": "same", "day": DAY}]
WINDOW = 7
"""A window smaller than the tables of these tests."""


class Color(Enum):
    RED = 1
    GREEN = 2


@dataclass
class Place:
    name: str
    tags: frozenset[str] = frozenset()


class Unknown:
    pass


def rows_of(day: str) -> list[dict[str, str]]:
    return [{"day": day}]


def points(*places: int) -> geopandas.GeoDataFrame:
    return geopandas.GeoDataFrame({"id": [1, 2]}, geometry=[Point(place, 0) for place in places], crs=4326)


def digest_of(value: Any) -> str:
    digest = Digest()
    digest.add(value)
    return digest.hexdigest()


def is_exact(value: Any) -> bool:
    digest = Digest()
    digest.add(value)
    return digest.exact


DIFFERENT: list[Any] = [
    None,
    *(1, True, 1.0, "1", b"1", Decimal(1), numpy.int8(7), 0, False, "", b"", 10**5000, -(10**5000)),
    *(float("nan"), float("inf"), -0.0, 0.0, "\ud800", "True", "none"),
    *(
        DAY,
        NOON,
        datetime.time(12),
        datetime.timedelta(1),
        datetime.datetime(2026, 11, 24, 12),
        numpy.datetime64("2026"),
    ),
    *(uuid.UUID(int=1), Color.RED, Color.GREEN),
    *([], {}, set(), [1], [[1]], [1, 2], {"a": 1}, {"a": 2}, {"b": 1}, {1: "a"}, {"1": "a"}, {1}, {1, 2}, {(1, "a")}),
    *(Place("x"), Place("y"), Place("x", frozenset("a")), [Place("x")]),
    *(pandas.DataFrame(DATA), pandas.DataFrame({**DATA, "id": [2, 1]}), pandas.DataFrame(DATA).iloc[:1]),
    *(pandas.DataFrame({"a": [[1], [2]]}), pandas.DataFrame({"a": [[1], [3]]})),
    *(pandas.DataFrame({"a": [1]}), pandas.DataFrame({"b": [1]}), pandas.DataFrame({"a": [1.0]})),
    *(pandas.DataFrame({"a": [None, "x"]}), pandas.DataFrame({"a": ["x", None]}), pandas.Series([NOON]), pandas.NaT),
    *(points(1, 2), points(1, 3), Point(1, 2), Point(1, 2, 3)),
    *(
        pyarrow.table(DATA),
        pyarrow.table(DATA).slice(1),
        pyarrow.table({"a": ["xy", "z"]}),
        pyarrow.table({"a": ["x", "yz"]}),
    ),
    *(pyarrow.table({"a": [None, 0]}), pyarrow.table({"a": [0, None]}), pyarrow.table({"a": ["", None]})),
    *(pyarrow.table({"a": [None, ""]}), pyarrow.table({"a": [[1], None]}), pyarrow.table({"a": [None, [1]]})),
    *(
        numpy.array([1, 2]),
        numpy.array([[1, 2]]),
        numpy.array([1.0, 2.0]),
        numpy.array(["a"]),
        numpy.array([{1}], dtype=object),
    ),
    functools.partial(rows_of, "2026-11-24"),
    functools.partial(rows_of, "2026-11-25"),
    functools.partial(rows_of, day="2026-11-25"),
    *(rows_of, Place, list, Path("a.csv"), Path("b.csv")),
    bigquery.ScalarQueryParameter("a", "INT64", 1),
    bigquery.ScalarQueryParameter("a", "STRING", "1"),
    bigquery.SchemaField("a", "INT64"),
    bigquery.TimePartitioning(field="day"),
]

EQUAL: dict[str, tuple[Any, ...]] = {
    "mappings in another order": ({"a": 1, "b": [2]}, {"b": [2], "a": 1}, OrderedDict(b=[2], a=1)),
    "mappings of other names": ({1: "a", "1": "b"}, {"1": "b", 1: "a"}),
    "list and tuple": ([1, [2]], (1, (2,)), [1, (2,)], namedtuple("Pair", "a b")(1, [2])),
    "sets": ({"a", "b", "c"}, frozenset("cba"), {"c": 0, "b": 0, "a": 0}.keys()),
    "subclasses": ("x", numpy.str_("x")),
    "numpy scalars": (numpy.int64(1), numpy.int32(1), 1),
    "numpy floats": (numpy.float64(1.5), numpy.float32(1.5), 1.5),
    "numpy arrays": (numpy.arange(20), numpy.arange(20, dtype="int32"), numpy.arange(40)[::2] // 2),
    "files": (Path("/work/a.csv"), Path("a.csv"), PurePosixPath("b/a.csv")),
    "bytes": (b"x", bytearray(b"x"), memoryview(b"x")),
    "missing": (None, pandas.NA),
    "equal rows of other objects": ([{"name": "same"}] * 2, [{"name": "".join(["sa", "me"])}, {"name": "same"}]),
}


@pytest.fixture(autouse=True)
def small_window(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_digests, "WINDOW", WINDOW)


def test_other_content_has_another_digest() -> None:
    assert len({digest_of(value) for value in DIFFERENT}) == len(DIFFERENT)


@pytest.mark.parametrize("kind", EQUAL)
def test_equal_content_has_an_equal_digest(kind: str) -> None:
    assert len({digest_of(value) for value in EQUAL[kind]}) == 1


@pytest.mark.parametrize("value", [*DIFFERENT, ROWS], ids=lambda value: type(value).__name__)
def test_a_copy_has_the_digest_of_the_original(value: Any) -> None:
    assert {digest_of(copy.deepcopy(value)), digest_of(pickle.loads(pickle.dumps(value)))} == {digest_of(value)}


def arrow_table() -> pyarrow.Table:
    numbers = range(40)
    return pyarrow.table(
        {
            "id": pyarrow.array(numbers, "int32"),
            "x": pyarrow.array([None if n % 3 else n / 2 for n in numbers]),
            "ok": pyarrow.array([None if n % 5 else n % 2 == 0 for n in numbers]),
            "name": pyarrow.array([None if n % 4 == 0 else f"{n}" * (n % 7) for n in numbers]),
            "data": pyarrow.array([None if n % 4 == 0 else b"x" * (n % 7) for n in numbers], "large_binary"),
            "kind": pyarrow.array([f"{n % 3}" for n in numbers]).dictionary_encode(),
            "day": pyarrow.array([DAY if n % 2 else None for n in numbers]),
            "at": pyarrow.array([NOON if n % 2 else None for n in numbers], pyarrow.timestamp("us", "UTC")),
            "time": pyarrow.array([datetime.time(n % 24) for n in numbers]),
            "size": pyarrow.array([Decimal(n) if n % 2 else None for n in numbers], pyarrow.decimal128(9, 2)),
            "tags": pyarrow.array([[n] if n % 2 else None for n in numbers]),
            "none": pyarrow.nulls(len(numbers)),
        }
    )


@pytest.mark.parametrize("size", [1, 3, WINDOW, 11])
def test_the_chunks_of_a_table_make_no_difference(size: int) -> None:
    whole = arrow_table()
    chunked = pyarrow.concat_tables([whole.slice(start, size) for start in range(0, len(whole), size)])
    assert digest_of(chunked) == digest_of(whole) == digest_of(chunked.combine_chunks())


def test_what_an_arrow_buffer_holds_where_a_value_is_null_makes_no_difference() -> None:
    values, valid = pyarrow.py_buffer(b"\x01\x02\x03"), pyarrow.py_buffer(b"\x05")
    hidden = pyarrow.Array.from_buffers(pyarrow.int8(), 3, [valid, values])
    assert digest_of(pyarrow.table({"a": hidden})) == digest_of(
        pyarrow.table({"a": pyarrow.array([1, None, 3], "int8")})
    )


@pytest.mark.parametrize("column", [name for name in arrow_table().column_names if name != "none"])
def test_each_value_of_a_table_counts(column: str) -> None:
    table = arrow_table()
    place = table.column_names.index(column)
    moved = pyarrow.concat_arrays([*table[column].slice(1).chunks, *table[column].slice(0, 1).chunks])
    assert digest_of(table.set_column(place, column, moved)) != digest_of(table)


def a_closure() -> Any:
    return lambda: ROWS


def a_generator() -> Iterator[int]:
    yield 1


UNKNOWN: dict[str, Any] = {
    "lambda": lambda: ROWS,
    "closure": a_closure(),
    "generator": a_generator(),
    "iterator": iter(ROWS),
    "reader": pyarrow.RecordBatchReader.from_batches(pyarrow.schema([("a", "int64")]), []),
    "object": Unknown(),
    "method of an object": Unknown().__str__,
    "lock": threading.Lock(),
    "in a row": [{"a": Unknown()}],
    "in a set": {Unknown()},
    "in a partial": functools.partial(rows_of, Unknown()),
    "in a dataclass": Place(Unknown()),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("kind", UNKNOWN)
def test_a_value_without_canonical_form_is_not_exact(kind: str) -> None:
    assert not is_exact(UNKNOWN[kind])


def test_values_without_canonical_form_add_nothing_of_their_own() -> None:
    assert digest_of(lambda: 1) == digest_of(lambda: 2) == digest_of(Unknown()) == digest_of(iter([]))


def test_a_digest_reads_no_iterator() -> None:
    rows = iter(ROWS)
    digest_of(rows)
    assert list(rows) == ROWS


@pytest.mark.parametrize("value", [rows_of, Path("a.csv"), functools.partial(rows_of, 1)], ids=repr)
def test_a_name_is_not_all_content(value: Any) -> None:
    assert not is_exact(value)


def test_rows_of_python_values_are_exact() -> None:
    assert is_exact(
        [*ROWS, {"tags": {"a"}, "place": Place("x"), "color": Color.RED, "at": NOON, "id": uuid.UUID(int=1)}]
    )


def test_a_limited_digest_does_not_read_large_values() -> None:
    def limited(value: Any) -> str:
        digest = Digest(largest=3)
        digest.add(value)
        return digest.hexdigest()

    assert limited([1, 2, 3]) != limited([1, 2, 4])
    assert limited(list(range(4))) == limited(dict.fromkeys(range(9))) == limited(pandas.DataFrame({"a": range(4)}))


def test_the_digest_is_the_same_in_every_process() -> None:
    script = """
        import datetime, functools, pandas
        from dataclasses import dataclass
        from prefect_blocks._digests import Digest

        @dataclass
        class Row:
            name: str
            tags: frozenset

        def rows(names):
            return names

        names = {f"name {number}" for number in range(100)}
        digest = Digest()
        digest.add([{"tags": names}, Row("x", frozenset(names)), functools.partial(rows, names), dict.fromkeys(names)])
        digest.add(pandas.DataFrame({"a": [names, None], "b": ["x", None], "c": [1, 2]}))
        print(digest.hexdigest())
    """
    outputs = [run_processes(1, script, PYTHONHASHSEED=seed)[0] for seed in ("1", "2")]
    imported = """
        import importlib.util, os, sys, types
        module = types.ModuleType("another_name")
        sys.modules["another_name"] = module
        exec(os.environ["SCRIPT"], module.__dict__)
    """
    outputs += run_processes(1, imported, PYTHONHASHSEED="3", SCRIPT=textwrap.dedent(script))
    assert len(set(outputs)) == 1


KNOWN: dict[str, tuple[Any, str]] = {
    "rows": (
        [None, 1, True, 1.5, "x", b"x", Decimal("1.5"), DAY, NOON, Color.RED, {"a": {1, 2}}],
        "b6e655e86327f316",
    ),
    "frame": (pandas.DataFrame({"a": [1, 2], "b": ["x", None], "c": [0.5, 1.5]}), "11dec672552edccd"),
    "table": (pyarrow.table({"a": [1, 2], "b": ["x", None], "c": [0.5, 1.5]}), "80d7bf772c721245"),
    "function": (functools.partial(rows_of, "2026-11-24"), "282beed34a889b52"),
}
"""Digests of the first release. A run that one release began is tried again by the next: they never change."""


@pytest.mark.parametrize("kind", KNOWN)
def test_the_digest_is_the_same_in_every_release(kind: str) -> None:
    value, expected = KNOWN[kind]
    assert digest_of(value)[:16] == expected
