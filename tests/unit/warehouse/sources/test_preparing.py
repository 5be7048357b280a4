"""Reading a source to its end: progress, first rows, rejected rows, and the end of the temporary files."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas
import pyarrow
import pytest
from google.cloud import bigquery
from shapely.geometry import Point

from carto_auth_integrations.waiting import Cancelled, Deadline
from carto_auth_integrations.warehouse import LoadOptions
from carto_auth_integrations.warehouse.sources import preparing
from carto_auth_integrations.warehouse.sources import rows as rows_module
from carto_auth_integrations.warehouse.sources.preparing import Preparation
from tests.support.sources import read_back


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows_module, "ROWS_PER_CHUNK", 3)
    monkeypatch.setattr(preparing, "PAUSE", -1)


def test_progress_counts_the_rows_and_ends_with_all_of_them() -> None:
    with Preparation(({"x": number} for number in range(10)), LoadOptions(), Deadline()) as preparation:
        assert [rows for rows, _, _ in preparation.read()] == [3, 6, 9, 10, 10]


def test_the_first_rows_are_kept_without_those_that_do_not_fit() -> None:
    source = [{"x": "one"}, *({"x": number} for number in range(20))]
    with Preparation(source, LoadOptions(bad_rows="quarantine"), Deadline()) as preparation:
        for _ in preparation.read():
            pass
        assert preparation.finish().rejected == 1
        assert preparation.first_rows == [{"x": number} for number in range(5)]


def test_a_source_is_not_read_before_it_is_asked_for() -> None:
    def rows() -> Iterator[dict[str, int]]:
        raise AssertionError("it was read")
        yield {}

    with Preparation(rows(), LoadOptions(), Deadline()):
        pass


def test_reading_ends_at_the_deadline() -> None:
    late = pytest.raises(TimeoutError, match="still being read; nothing was loaded")
    with Preparation([{"x": 1}], LoadOptions(), Deadline(0)) as preparation, late:
        list(preparation.read())


def test_reading_ends_when_the_caller_is_cancelled() -> None:
    deadline = Deadline()

    def rows() -> Iterator[dict[str, int]]:
        for number in range(100):
            if number == 50:
                deadline.cancel()
            assert number < 60, "the source is read on"
            yield {"x": number}

    with Preparation(rows(), LoadOptions(), deadline) as preparation, pytest.raises(Cancelled):
        list(preparation.read())


@pytest.mark.parametrize("source", [[{"x": 1}], [{"x": 1}, {"x": "y"}], [{"x": 1}] * 9 + [{"x": 0.5}], [{}]])
@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts the open files of Linux")
def test_the_temporary_files_are_gone_whatever_happened(source: Any) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    try:
        read_back(source)
    except ValueError:
        pass
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_all_rows_are_either_loaded_or_rejected() -> None:
    source = [{"n": number if number % 4 else f"<{number}>"} for number in range(1, 101)]
    read = read_back(source, bad_rows="quarantine")
    assert [row["n"] for row in read.rows] == [number for number in range(1, 101) if number % 4]
    assert [each["row_number"] for each in read.rejects] == list(range(4, 101, 4))
    assert [each["row"] for each in read.rejects] == [source[number - 1] for number in range(4, 101, 4)]
    assert len(read.reasons) == 10


def test_if_no_row_fits_the_table_has_none() -> None:
    read = read_back([{"n": "x"}, {"n": "y"}], column_types={"n": "INT64"}, bad_rows="quarantine")
    assert (read.rows, len(read.rejects), read.columns) == ([], 2, {"n": "INTEGER"})


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("\ud800", "\\ud800"),
        ({(1, 2): 3}, {"(1, 2)": 3}),
        ({1: "x"}, {"1": "x"}),
        (float("nan"), "nan"),
        (float("-inf"), "-inf"),
        (2**70, str(2**70)),
        (2**63 - 1, 2**63 - 1),
        (10**5000, "an integer of 16610 bits"),
        (Decimal("1.50"), "1.50"),
        (b"\xff", "/w=="),
        (datetime.date(2024, 1, 1), "2024-01-01"),
        (Point(1, 2), {"type": "Point", "coordinates": [1.0, 2.0]}),
        ({"a": [1, None, {"b": b"x"}]}, {"a": [1, None, {"b": "eA=="}]}),
        ({1}, "{1}"),
        (True, True),
        (None, None),
        ("😀", "😀"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_rejected_row_is_json_that_bigquery_holds(value: Any, shown: Any) -> None:
    source = [{"n": "x", "other": value}]
    (rejected,) = read_back(source, column_types={"n": "INT64"}, bad_rows="quarantine").rejects
    assert rejected["row"] == {"n": "x", "other": shown}


def test_a_rejected_row_that_holds_itself_is_cut() -> None:
    ring: dict[str, Any] = {}
    ring["me"] = ring
    read = read_back([{"n": 1, "r": None}, {"n": 2, "r": ring}], bad_rows="quarantine")
    assert [each["row_number"] for each in read.rejects] == [2]


def test_rejected_rows_of_frames_and_arrow_are_the_rows_of_the_source() -> None:
    frame = pandas.DataFrame(
        {"n": pandas.Series([1, "x", 2], dtype=object), "at": pandas.to_datetime(["2024-01-01"] * 3)}
    )
    (rejected,) = read_back(frame, bad_rows="quarantine").rejects
    assert (rejected["row_number"], rejected["row"]) == (2, {"n": "x", "at": "2024-01-01 00:00:00"})
    table = pyarrow.table({"at": pyarrow.array([0, 1], pyarrow.timestamp("ns")), "tags": [["a"], ["b"]]})
    (rejected,) = read_back(table, bad_rows="quarantine").rejects
    assert rejected["row_number"] == 2
    assert rejected["row"]["tags"] == ["b"]
    assert rejected["row"]["at"].startswith("1970-01-01 00:00:00.000000001")


def test_sanitized_columns_have_the_names_of_the_source_in_rejected_rows() -> None:
    read = read_back([{"a.b": "x"}], column_types={"a.b": "INT64"}, column_names="sanitize", bad_rows="quarantine")
    assert read.rejects[0]["row"] == {"a.b": "x"}


@pytest.mark.parametrize("rows", [[{}], [{}, {}], [{}] * 7 + [{"x": 1}]])
def test_rows_without_columns_are_not_dropped(rows: list[dict[str, Any]]) -> None:
    with pytest.raises(ValueError, match=r"^Row 1: the row has no columns"):
        read_back(rows)
    schema = [bigquery.SchemaField("x", "INTEGER")]
    assert [row["x"] for row in read_back(rows, schema=schema).rows] == [row.get("x") for row in rows]


def test_rows_without_columns_between_others_are_null() -> None:
    assert read_back([{"x": 1}] * 3 + [{}] * 4).rows == [{"x": 1}] * 3 + [{"x": None}] * 4
