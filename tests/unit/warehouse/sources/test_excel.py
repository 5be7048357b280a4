"""Workbooks: cells as Excel shows them, dates decided over the whole column, and errors that name the cell."""

from __future__ import annotations

import datetime
import zipfile
from pathlib import Path
from typing import Any

import openpyxl
import pytest

from carto_auth_integrations.warehouse.options import LoadOptions
from carto_auth_integrations.warehouse.sources.base import Source
from carto_auth_integrations.warehouse.sources.excel import open_excel

DAY, NOON = datetime.datetime(2026, 1, 2), datetime.datetime(2026, 1, 2, 12, 30)


def written(path: Path, **sheets: list[list[Any]]) -> Path:
    book = openpyxl.Workbook()
    book.remove(book.active)
    for name, rows in sheets.items():
        sheet = book.create_sheet(name)
        for row in rows:
            sheet.append(row)
    book.save(path)
    return path


def opened(path: Path, **options: Any) -> Source:
    return open_excel(path, path.name, LoadOptions(**options))


def rows_of(path: Path, **options: Any) -> list[dict[str, Any]]:
    return [row for chunk in opened(path, **options).chunks for row in chunk.data]


def column(tmp_path: Path, *values: Any) -> list[Any]:
    return [
        row["v"] for row in rows_of(written(tmp_path / "a.xlsx", s=[["n", "v"], *([1, value] for value in values)]))
    ]


def test_a_sheet_is_read_with_its_header(tmp_path: Path) -> None:
    source = opened(written(tmp_path / "a.xlsx", shops=[["name", "size"], ["a", 1], ["b", None]]))
    assert (source.found["format"], source.found["layer"]) == ("EXCEL", "shops")
    (chunk,) = source.chunks
    assert chunk.data == [{"name": "a", "size": 1}, {"name": "b", "size": None}]
    assert chunk.row(0) == "a.xlsx: sheet shops: row 2"
    assert source.position() == source.size


@pytest.mark.parametrize(
    "values",
    [
        [1, 2],
        [1.5],
        ["007", "01234"],
        [True, False],
        ["x", None, "y"],
        [datetime.time(8, 30)],
        [123456789012345],
        ["1"],
    ],
)
def test_values_are_those_of_the_cells(tmp_path: Path, values: list[Any]) -> None:
    found = column(tmp_path, *values)
    assert found == values
    assert [type(value) for value in found] == [type(value) for value in values]


def test_dates_without_a_time_of_day_are_dates(tmp_path: Path) -> None:
    assert column(tmp_path, datetime.date(2026, 1, 2), None, datetime.date(1999, 1, 1)) == [
        datetime.date(2026, 1, 2),
        None,
        datetime.date(1999, 1, 1),
    ]


def test_one_time_of_day_makes_the_column_datetimes(tmp_path: Path) -> None:
    found = column(tmp_path, datetime.date(2026, 1, 2), NOON)
    assert found == [DAY, NOON]
    assert type(found[0]) is datetime.datetime


def test_a_number_format_with_a_time_makes_the_column_datetimes(tmp_path: Path) -> None:
    (found,) = column(tmp_path, DAY)  # which openpyxl writes with the time
    assert type(found) is datetime.datetime


def test_a_time_that_comes_late_still_counts_for_the_first_rows(tmp_path: Path) -> None:
    found = column(tmp_path, *[datetime.date(2026, 1, 2)] * 12_000, NOON)
    assert {type(value) for value in found} == {datetime.datetime}


def test_the_only_sheet_with_values_is_meant(tmp_path: Path) -> None:
    path = written(tmp_path / "a.xlsx", empty=[], shops=[["a"], [1]], also_empty=[[None, None]])
    assert rows_of(path) == [{"a": 1}]


def test_several_sheets_are_refused_with_their_names(tmp_path: Path) -> None:
    path = written(tmp_path / "a.xlsx", one=[["a"], [1]], two=[["b"], [2]])
    with pytest.raises(ValueError, match=r"a\.xlsx has several sheets.*layer=.*one, two"):
        opened(path)
    assert rows_of(path, layer="two") == [{"b": 2}]


def test_a_sheet_that_is_not_there_is_refused_with_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"a\.xlsx has no sheet nope.*shops"):
        opened(written(tmp_path / "a.xlsx", shops=[["a"], [1]]), layer="nope")


@pytest.mark.parametrize("rows", [[], [[None]]])
def test_a_workbook_without_values_is_refused(tmp_path: Path, rows: list[Any]) -> None:
    with pytest.raises(ValueError, match=r"a\.xlsx.*nothing to load"):
        opened(written(tmp_path / "a.xlsx", shops=rows))


def test_a_header_alone_gives_the_columns(tmp_path: Path) -> None:
    (chunk,) = opened(written(tmp_path / "a.xlsx", shops=[["a", "b"]])).chunks
    assert [name for name, _ in chunk.columns()] == ["a", "b"]


def test_lines_before_the_header_are_skipped(tmp_path: Path) -> None:
    path = written(tmp_path / "a.xlsx", s=[["Report of 2026"], [], ["a", "b"], [1, 2]])
    source = opened(path, skip_rows=2)
    (chunk,) = source.chunks
    assert (chunk.data, chunk.first_row) == ([{"a": 1, "b": 2}], 4)


def test_a_sheet_without_a_header_has_numbered_columns(tmp_path: Path) -> None:
    assert rows_of(written(tmp_path / "a.xlsx", s=[[1, "x"], [2, "y"]]), header=False) == [
        {"column_1": 1, "column_2": "x"},
        {"column_1": 2, "column_2": "y"},
    ]


def test_empty_rows_and_columns_at_the_end_are_left_out_and_others_stay(tmp_path: Path) -> None:
    path = written(tmp_path / "a.xlsx", s=[["a", "b", None], [1, None, None], [None] * 3, [3, 4, None], [None] * 3, []])
    assert rows_of(path) == [{"a": 1, "b": None}, {"a": None, "b": None}, {"a": 3, "b": 4}]


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (["a", None, "c"], "column B is empty"),
        (["a", "  ", "c"], "column B is empty"),
        (["a", "b", "a"], "column C is a, which is the name of another column"),
        (["a", DAY, "c"], "column B is 2026"),
    ],
)
def test_a_bad_header_names_the_cell(tmp_path: Path, header: list[Any], reason: str) -> None:
    with pytest.raises(ValueError, match=rf"a\.xlsx: sheet s: the header of {reason}"):
        opened(written(tmp_path / "a.xlsx", s=[header, [1, 2, 3]]))


def test_columns_without_any_value_are_left_out(tmp_path: Path) -> None:
    path = written(tmp_path / "a.xlsx", s=[[None, "a", None, "b"], [None, 1, None, 2]])
    assert rows_of(path) == [{"a": 1, "b": 2}]
    assert rows_of(path, header=False)[1] == {"column_2": 1, "column_4": 2}


def test_a_value_beside_the_header_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="column B is empty"):
        opened(written(tmp_path / "a.xlsx", s=[["a"], [1, 2]]))


@pytest.mark.parametrize("error", ["#N/A", "#DIV/0!", "#REF!", "#NAME?", "#VALUE!"])
def test_an_error_names_its_cell(tmp_path: Path, error: str) -> None:
    path = written(tmp_path / "a.xlsx", s=[["a", "b"], [1, 2], [3, error]])
    with pytest.raises(ValueError, match=rf"a\.xlsx: sheet s: cell B3 holds the error {error.rstrip('?')}"):
        opened(path)


def test_a_formula_without_its_value_names_its_cell(tmp_path: Path) -> None:
    path = written(tmp_path / "a.xlsx", s=[["a", "b"], [1, "=A2*2"]])
    with pytest.raises(ValueError, match=r"a\.xlsx: sheet s: cell B2 holds a formula without its value.*save it"):
        opened(path)


def cached(path: Path, cell: str) -> Path:
    """Replace a cell of the first sheet, as Excel saves it."""
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    sheet = parts["xl/worksheets/sheet1.xml"].decode()
    before = '<c r="B2"><f>A2*2</f><v /></c>'
    assert before in sheet
    parts["xl/worksheets/sheet1.xml"] = sheet.replace(before, cell).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return path


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        ('<c r="B2"><f>A2*2</f><v>2</v></c>', 2),
        ('<c r="B2" t="str"><f>A2*2</f><v>two</v></c>', "two"),
        ('<c r="B2" t="str"><f>A2*2</f><v></v></c>', None),
        ('<c r="B2" t="b"><f>A2*2</f><v>1</v></c>', True),
    ],
)
def test_a_formula_stands_for_the_value_that_excel_stored(tmp_path: Path, cell: str, value: Any) -> None:
    path = cached(written(tmp_path / "a.xlsx", s=[["a", "b"], [1, "=A2*2"], [2, 3]]), cell)
    assert rows_of(path)[0] == {"a": 1, "b": value}


def test_what_a_sheet_says_about_its_own_size_is_not_believed(tmp_path: Path) -> None:
    path = written(tmp_path / "a.xlsx", s=[["a", "b"], [1, 2], [3, 4]])
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    sheet = parts["xl/worksheets/sheet1.xml"]
    assert b'<dimension ref="A1:B3"' in sheet
    parts["xl/worksheets/sheet1.xml"] = sheet.replace(b'<dimension ref="A1:B3"', b'<dimension ref="A1"')
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    assert rows_of(path) == [{"a": 1, "b": 2}, {"a": 3, "b": 4}]


@pytest.mark.parametrize("content", [b"PK\x03\x04 broken", b"no workbook"])
def test_a_damaged_workbook_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.xlsx").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.xlsx cannot be read as an Excel workbook"):
        opened(tmp_path / "a.xlsx")


def test_a_damaged_sheet_is_named(tmp_path: Path) -> None:
    path = written(tmp_path / "a.xlsx", s=[["a"], *([n] for n in range(5_000))])
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    parts["xl/worksheets/sheet1.xml"] = parts["xl/worksheets/sheet1.xml"][:-1000]
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    with pytest.raises(ValueError, match=r"a\.xlsx: sheet s cannot be read as a sheet of Excel"):
        rows_of(path)


def test_the_last_chunk_is_not_empty(tmp_path: Path) -> None:
    path = written(tmp_path / "a.xlsx", s=[["a"], *([n] for n in range(10_000))])
    assert [len(chunk.data) for chunk in opened(path).chunks] == [10_000]


def test_rows_are_counted_as_in_the_sheet(tmp_path: Path) -> None:
    path = written(tmp_path / "a.xlsx", s=[["a"], *([n] for n in range(2, 25_002))])
    chunks = list(opened(path).chunks)
    assert [(chunk.first_row, chunk.data[0]["a"]) for chunk in chunks] == [(2, 2), (10_002, 10_002), (20_002, 20_002)]
