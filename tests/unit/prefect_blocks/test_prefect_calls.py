"""Which call of a task this is: how sources are told apart, what comes once, and keys outside of a run."""

from __future__ import annotations

import copy
import datetime
import pickle
import threading
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import geopandas
import pandas
import pyarrow
import pytest
from shapely.geometry import Point

from prefect_blocks import _calls

DAY = datetime.date(2026, 11, 24)
DATA: dict[str, list[Any]] = {"id": [1, 2], "name": ["x", None], "day": [DAY, DAY]}
ROWS = [{"id": 1, "name": "same", "day": DAY, "size": Decimal("1.0")}, {"id": 2, "name": "same", "day": DAY}]


def points(*places: int) -> geopandas.GeoDataFrame:
    return geopandas.GeoDataFrame({"id": [1, 2]}, geometry=[Point(place, 0) for place in places], crs=4326)


SOURCES = {
    "frame": (pandas.DataFrame(DATA), pandas.DataFrame({**DATA, "id": [2, 1]})),
    "frame of lists": (pandas.DataFrame({"a": [[1], [2]]}), pandas.DataFrame({"a": [[1], [3]]})),
    "columns": (pandas.DataFrame({"a": [1]}), pandas.DataFrame({"b": [1]})),
    "geography": (points(1, 2), points(1, 3)),
    "table": (pyarrow.table(DATA), pyarrow.table(DATA).slice(1)),
    "batch": (pyarrow.table(DATA).to_batches()[0], pyarrow.table(DATA).slice(1).to_batches()[0]),
    "rows": (ROWS, ROWS[:1]),
    "frames": ([pandas.DataFrame(DATA)], [pandas.DataFrame(DATA)] * 2),
}


@pytest.mark.parametrize("kind", SOURCES)
def test_rows_in_memory_are_told_apart_by_their_content(kind: str) -> None:
    source, other = SOURCES[kind]
    same = (source, copy.deepcopy(source), pickle.loads(pickle.dumps(source)))
    assert len({_calls.identity_of(each) for each in same}) == 1
    assert _calls.identity_of(other) != _calls.identity_of(source)


def test_equal_rows_are_the_same_whether_or_not_their_parts_are_the_same_objects() -> None:
    apart = [{"name": "".join(["sa", "me"])}, {"name": "".join(["sam", "e"])}]
    assert _calls.identity_of(apart) == _calls.identity_of([{"name": "same"}, {"name": "same"}])


def test_files_are_told_apart_by_their_place(tmp_path: Path) -> None:
    assert _calls.identity_of(tmp_path / "a.csv") == _calls.identity_of(str(tmp_path / "a.csv"))
    assert _calls.identity_of("gs://bucket/a.csv") == "gs://bucket/a.csv"
    assert _calls.identity_of(["gs://bucket/a", "gs://bucket/b"]) != _calls.identity_of(["gs://bucket/a"])


def test_telling_rows_apart_reads_none_that_come_once() -> None:
    rows = iter([{"a": 1}])
    reader = pyarrow.RecordBatchReader.from_batches(pyarrow.schema([("a", "int64")]), [])
    assert _calls.identity_of(rows) == _calls.identity_of(reader)
    assert list(rows) == [{"a": 1}]


def test_functions_are_told_apart_by_what_they_hold() -> None:
    first, again, second = (partial(range, last) for last in (1, 1, 2))
    assert _calls.identity_of(first) == _calls.identity_of(again) != _calls.identity_of(second)


def test_a_function_that_cannot_be_pickled_is_told_by_its_name() -> None:
    lock = threading.Lock()
    assert _calls.identity_of(lambda: lock) != _calls.identity_of(partial(range, 1))


def test_outside_of_a_run_there_is_no_key_and_no_label() -> None:
    assert _calls.idempotency_key("query", "SELECT 1") is None
    assert _calls.run_labels() == {}


def test_a_function_makes_the_rows_of_each_try() -> None:
    assert _calls.readable_source(lambda: [1, 2]) == [1, 2]
    rows = iter([1])
    assert _calls.readable_source(rows) is rows, "outside of a run there is one try"
