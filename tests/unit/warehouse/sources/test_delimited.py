"""CSV files: found as they are written, one table for several files, and errors that name the line."""

from __future__ import annotations

import datetime
import gzip
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from google.cloud.bigquery import SchemaField

from carto_auth_integrations.warehouse.options import LoadOptions
from carto_auth_integrations.warehouse.sources import delimited
from carto_auth_integrations.warehouse.sources.base import Source
from carto_auth_integrations.warehouse.sources.delimited import open_delimited
from carto_auth_integrations.warehouse.sources.fitting import Fitter


def opened(tmp_path: Path, *contents: str | bytes, name: str = "a.csv", **options: Any) -> Source:
    files = []
    for number, content in enumerate(contents):
        path = tmp_path / str(number) / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        files.append((path, f"{number}/{name}" if len(contents) > 1 else name))
    return open_delimited(files, LoadOptions(**options))


def table_of(source: Source) -> pyarrow.Table:
    batches: list[pyarrow.RecordBatch] = [chunk.data for chunk in source.chunks]
    filled = [each for each in batches if len(each)] or batches[-1:]
    return pyarrow.concat_tables(
        map(pyarrow.Table.from_batches, ([each] for each in filled)), promote_options="default"
    )


def rows(tmp_path: Path, *contents: str | bytes, **options: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = table_of(opened(tmp_path, *contents, **options)).to_pylist()
    return found


def test_a_file_whose_columns_are_all_text_keeps_its_header(tmp_path: Path) -> None:
    assert rows(tmp_path, "name,city\nann,rome\nbob,oslo\n") == [
        {"name": "ann", "city": "rome"},
        {"name": "bob", "city": "oslo"},
    ]


def test_types_are_decided_over_the_whole_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delimited, "BLOCK_BYTES", 1024)
    table = table_of(opened(tmp_path, "a,b,c\n" + "1,2,\n" * 5000 + "abc,2.5,2026-01-01\n"))
    assert [str(each) for each in table.schema.types] == ["string", "double", "date32[day]"]
    assert table.slice(4999).to_pylist() == [
        {"a": "1", "b": 2.0, "c": None},
        {"a": "abc", "b": 2.5, "c": datetime.date(2026, 1, 1)},
    ]


def test_yes_and_no_stay_text(tmp_path: Path) -> None:
    assert rows(tmp_path, "a,b,c\nY,yes,t\nN,no,f\n")[0] == {"a": "Y", "b": "yes", "c": "t"}


def test_files_are_one_table_by_the_names_of_columns(tmp_path: Path) -> None:
    source = opened(tmp_path, "a,b\n1,2\n", "b;c\n2.5;x\n007;y\n")
    assert source.found["delimiter"] == ",, ;"
    table = table_of(source)
    assert table.to_pylist() == [
        {"a": 1, "b": "2", "c": None},
        {"a": None, "b": "2.5", "c": "x"},
        {"a": None, "b": "007", "c": "y"},
    ]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("name", ["a.csv", "a.txt"])
def test_the_delimiter_is_found(tmp_path: Path, delimiter: str, name: str) -> None:
    lines = [["id", "price", "note"], ["1", '"1,5;2|3\t4"', "x"], ["2", "7", "y"]]
    source = opened(tmp_path, "\n".join(map(delimiter.join, lines)), name=name)
    assert source.found["delimiter"] == delimiter
    assert table_of(source).to_pylist()[0] == {"id": 1, "price": "1,5;2|3\t4", "note": "x"}


def test_decimal_commas_do_not_hide_the_delimiter(tmp_path: Path) -> None:
    assert rows(tmp_path, "x;y\n1,5;2,5\n3,5;4,5\n")[0] == {"x": "1,5", "y": "2,5"}


def test_a_delimiter_that_is_not_clear_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"a\.csv: the delimiter may be ',' or ';': pass delimiter="):
        opened(tmp_path, "1,5;2,5\n1,5;2,6\n", header=False)
    assert rows(tmp_path, "1,5;2,5\n", header=False, delimiter=";") == [{"column_1": "1,5", "column_2": "2,5"}]


@pytest.mark.parametrize("name", ["a.tsv", "a.TSV", "a.tsv.gz"])
def test_a_tsv_file_is_split_by_tabs_in_doubt(tmp_path: Path, name: str) -> None:
    assert rows(tmp_path, "1,5\t2,5\n", header=False, name=name) == [{"column_1": "1,5", "column_2": "2,5"}]


def test_a_delimiter_that_is_given_rules(tmp_path: Path) -> None:
    assert rows(tmp_path, "a;b,c\n1;2,3\n", delimiter=";") == [{"a": 1, "b,c": "2,3"}]
    assert rows(tmp_path, "a:b\n1:2\n", delimiter=":") == [{"a": 1, "b": 2}]
    assert rows(tmp_path, "a\tb\n1\t2\n", delimiter="\\t") == [{"a": 1, "b": 2}]


@pytest.mark.parametrize("options", [{"delimiter": "||"}, {"delimiter": "§"}, {"quote": "''"}, {"delimiter": '"'}])
def test_delimiters_and_quotes_that_cannot_be_are_refused(tmp_path: Path, options: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"(delimiter|quote)=.* character"):
        opened(tmp_path, "a\n1\n", **options)


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "latin-1", "cp1252"]
)
@pytest.mark.parametrize("is_compressed", [False, True])
def test_encoding_and_compression_are_found(tmp_path: Path, encoding: str, is_compressed: bool) -> None:
    content = "id,name\n1,Müller\n2,Ångström\n".encode(encoding)
    source = opened(tmp_path, gzip.compress(content) if is_compressed else content)
    assert source.found["compression"] == ("gzip" if is_compressed else "none")
    assert table_of(source).to_pylist() == [{"id": 1, "name": "Müller"}, {"id": 2, "name": "Ångström"}]


def test_latin_1_is_found_by_a_letter_at_the_very_end(tmp_path: Path) -> None:
    source = opened(tmp_path, b"a,b\n" + b"1,x\n" * 500_000 + b"2,\xe9\n")
    assert source.found["encoding"] == "cp1252"
    assert table_of(source).to_pylist()[-1] == {"a": 2, "b": "é"}


def test_an_encoding_that_is_given_rules(tmp_path: Path) -> None:
    assert rows(tmp_path, "a,b\n1,東京\n".encode("shift_jis"), encoding="shift_jis") == [{"a": 1, "b": "東京"}]
    assert rows(tmp_path, "a\né\n".encode("iso-8859-15"), encoding="ISO-8859-15") == [{"a": "é"}]


@pytest.mark.parametrize("options", [{"encoding": "utf-8"}, {"encoding": "ascii"}])
def test_bytes_that_do_not_fit_the_given_encoding_are_refused_with_their_line(
    tmp_path: Path, options: dict[str, str]
) -> None:
    with pytest.raises(ValueError, match=r"a\.csv: line 3 is not .*: the byte 0xe9 does not fit"):
        opened(tmp_path, b"a\nx\n\xe9\n", **options)


def test_quoted_newlines_blank_lines_and_windows_line_ends(tmp_path: Path) -> None:
    assert rows(tmp_path, 'a,b\r\n1,"x\r\ny"\r\n\r\n2,"say ""hi"""\r\n\r\n') == [
        {"a": 1, "b": "x\r\ny"},
        {"a": 2, "b": 'say "hi"'},
    ]


def test_text_keeps_every_character(tmp_path: Path) -> None:
    assert rows(tmp_path, 'a,b\n x ,"  "\n\u00a0,5" x 7"\n') == [
        {"a": " x ", "b": "  "},
        {"a": "\u00a0", "b": '5" x 7"'},
    ]


def test_an_empty_field_is_null_and_a_quoted_one_is_an_empty_text(tmp_path: Path) -> None:
    assert rows(tmp_path, 'n,s,e\n1,"",\n"",,""\n,x,\n') == [
        {"n": 1, "s": "", "e": None},
        {"n": None, "s": None, "e": ""},
        {"n": None, "s": "x", "e": None},
    ]


def test_an_empty_line_is_a_null_in_a_file_of_one_column(tmp_path: Path) -> None:
    assert rows(tmp_path, "a\n1\n\n2\n") == [{"a": 1}, {"a": None}, {"a": 2}]


def test_the_null_marker_stands_beside_the_empty_field(tmp_path: Path) -> None:
    found = rows(tmp_path, 'a,b\n1,NA\nNA,"NA"\n,x\n', null_marker="NA")
    assert found == [{"a": 1, "b": None}, {"a": None, "b": "NA"}, {"a": None, "b": "x"}]
    assert rows(tmp_path, "a,b\n1,NA\nNA,x\n")[1] == {"a": "NA", "b": "x"}


def test_a_column_without_a_value_has_no_type_yet(tmp_path: Path) -> None:
    table = table_of(opened(tmp_path, "a,b\n1,\n2,\n"))
    assert pyarrow.types.is_null(table.schema.field("b").type)


def test_a_header_alone_has_columns_and_no_rows(tmp_path: Path) -> None:
    table = table_of(opened(tmp_path, "a,b\n"))
    assert (table.column_names, len(table)) == (["a", "b"], 0)


def test_lines_before_the_header_are_skipped(tmp_path: Path) -> None:
    content = 'Report of "today\n\na,b\n1,2\n3\n'
    with pytest.raises(ValueError, match="line 5 has 1 field, the header has 2"):
        table_of(opened(tmp_path, content, skip_rows=2))
    assert rows(tmp_path, content[:-2], skip_rows=1) == [{"a": 1, "b": 2}]


def test_columns_without_a_header_are_numbered(tmp_path: Path) -> None:
    assert rows(tmp_path, "1,x\n2,y\n", header=False)[0] == {"column_1": 1, "column_2": "x"}
    with pytest.raises(ValueError, match=r"1/a\.csv has 3 columns, 0/a\.csv has 2"):
        opened(tmp_path, "1,2\n", "1,2,3\n", header=False)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a,b,a\n1,2,3\n", r"a\.csv: the header \(line 1\) names several columns a: rename"),
        ("a,,b, \n1,2,3,4\n", r"the header \(line 1\) has no name for column 2, 4: .*header=False"),
        ("", "there is nothing to load"),
        ("\n\r\n", "there is nothing to load"),
    ],
)
def test_headers_that_name_no_columns_are_refused(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        opened(tmp_path, content)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('a,b\n1,"x\n\ny"\n\n3\n', r"a\.csv: line 6 has 1 field, the header has 2"),
        ("a,b\n1,2\n3,4,5\n", r"a\.csv: line 3 has 3 fields, the header has 2"),
        ("a,b\n1,2,\n", "line 2 has 3 fields"),
        ('a,b\n1,2\n"3,4\n5,6\n', "line 3: a quote is not closed"),
        ('a,b\n1,2\n3,"x""', "line 3: a quote is not closed"),
        ('a,b\n1,"say \\"hi\\""\n', r"line 2: a quoted field goes on after its closing quote"),
        ('a,b\n"x" ,1\n', r"line 2: a quoted field goes on after its closing quote"),
        ("Report\na,b\n1,2\n", "line 2 has 2 fields, the header has 1.*skip_rows="),
    ],
)
def test_rows_that_are_broken_are_refused_with_their_line(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        table_of(opened(tmp_path, content))


def test_a_broken_row_far_into_a_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delimited, "BLOCK_BYTES", 1024)
    with pytest.raises(ValueError, match="line 20002 has 1 field"):
        table_of(opened(tmp_path, "a,b\n" + '1,"x\ny"\n' * 10_000 + "3\n"))


def test_records_longer_than_a_block_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delimited, "BLOCK_BYTES", 1024)
    long = "x" * 300_000
    found = rows(tmp_path, f'a,b\n1,y\n2,"{long}"\n3,z\n')
    assert found == [{"a": 1, "b": "y"}, {"a": 2, "b": long}, {"a": 3, "b": "z"}]


def test_other_quotes_and_none(tmp_path: Path) -> None:
    assert rows(tmp_path, "a,b\n'x,y','it''s'\n", quote="'") == [{"a": "x,y", "b": "it's"}]
    assert rows(tmp_path, 'a,b\n"x,1\n', quote="") == [{"a": '"x', "b": 1}]


def test_columns_of_a_given_type_are_text_for_the_next_step(tmp_path: Path) -> None:
    given: dict[str, Any] = {
        "column_types": {"zip": "STRING", "n": "INT64"},
        "schema": [SchemaField("day", "DATE")],
        "geometry": "wkt",
    }
    (row,) = rows(tmp_path, 'zip,n,day,wkt,x\n"","",2026-01-02,POINT (1 2),5\n', **given)
    assert row == {"zip": "", "n": None, "day": "2026-01-02", "wkt": "POINT (1 2)", "x": 5}


def test_a_value_that_does_not_fit_a_given_type_is_named(tmp_path: Path) -> None:
    options = LoadOptions(column_types={"n": "INT64"})
    path = tmp_path / "a.csv"
    path.write_text("n,s\n1,x\nabc,y\n")
    fitter = Fitter(options)
    fitted = map(fitter.fit, open_delimited([(path, "a.csv")], options).chunks)
    with pytest.raises(ValueError, match=r"^a\.csv: row 2: column n holds 'abc'"):
        list(fitted)


def test_a_type_for_a_column_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="column_types: there is no column ZIP; the columns are zip, n"):
        opened(tmp_path, "zip,n\n1,2\n", column_types={"ZIP": "STRING"})


def test_types_by_sanitized_names_are_known(tmp_path: Path) -> None:
    found = rows(tmp_path, "zip.code\n01\n", column_types={"zip_code": "STRING"}, column_names="sanitize")
    assert found == [{"zip.code": "01"}]


def test_rows_are_numbered_and_progress_moves_in_both_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delimited, "BLOCK_BYTES", 64 * 1024)
    source = opened(tmp_path, "a,b\n" + "1,x\n" * 1_000_000, "a,b\n2,y\n")
    positions, numbers = [], []
    for chunk in source.chunks:
        positions.append(source.position())
        numbers += [chunk.row(index) for index in (0, len(chunk.data) - 1) if len(chunk.data)]
    assert positions == sorted(positions)
    assert len(set(positions)) > 4
    assert numbers[0] == "0/a.csv: row 1"
    assert numbers[-3:] == ["0/a.csv: row 1000000", "1/a.csv: row 1", "1/a.csv: row 1"]
    assert source.position() == source.size


@pytest.mark.parametrize("content", [gzip.compress(b"a\n1\n" * 1000)[:-12], b"\x1f\x8bno gzip at all"])
def test_a_damaged_archive_is_named(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(ValueError, match=r"a\.csv is damaged: gzip cannot unpack it"):
        opened(tmp_path, content)


def test_numbers_arrive_as_they_are_written(tmp_path: Path) -> None:
    (row, _) = rows(tmp_path, "a,b,c\n12345678901234567.89,-73.98765432101234,9007199254740993\n1,2.5,1\n")
    assert row == {"a": Decimal("12345678901234567.89"), "b": -73.98765432101234, "c": 9007199254740993}
