"""Files of load jobs: what BigQuery refuses in CSV, JSON, Parquet and Avro."""

from __future__ import annotations

import datetime as dt
import gzip
import io

import pytest

bigquery = pytest.importorskip("google.cloud.bigquery")
pa = pytest.importorskip("pyarrow")
fastavro = pytest.importorskip("fastavro")

from tests.support.sandbox_loads import Loaded, parquet_of  # noqa: E402 - after the check that it is there

SCHEMA = [bigquery.SchemaField("n", "INT64"), bigquery.SchemaField("s", "STRING")]


@pytest.mark.parametrize(
    ("text", "options", "rows"),
    [
        ("1,a\n2,b\n", {}, [(1, "a"), (2, "b")]),
        ("1,a\r\n", {}, [(1, "a")]),
        ("n,s\n1,a\n", {"skip_leading_rows": 1}, [(1, "a")]),
        ("s,n\na,1\n", {"skip_leading_rows": 1, "source_column_match": "NAME"}, [(1, "a")]),
        ("1\ta\n", {"field_delimiter": "\t"}, [(1, "a")]),
        ("1,'a,b'\n", {"quote_character": "'"}, [(1, "a,b")]),
        ("1,é\n".encode("latin-1"), {"encoding": "ISO-8859-1"}, [(1, "é")]),
        ("1,é\n".encode("utf-16-le"), {"encoding": "UTF-16LE"}, [(1, "é")]),
        (b"1,\xff\n", {}, [(1, "\ufffd")]),
        ("\ufeff1,a\n", {}, [(1, "a")]),
        (gzip.compress(b"1,a\n"), {}, [(1, "a")]),
        ('1,\n2,""\n"",x\n', {}, [(1, None), (2, ""), (None, "x")]),
        ("1,\\N\n\\N,\n", {"null_marker": "\\N"}, [(1, None), (None, "")]),
        ('1,"a\nb"\n', {"allow_quoted_newlines": True}, [(1, "a\nb")]),
        ("1,a\0b\n", {"preserve_ascii_control_characters": True}, [(1, "a\0b")]),
        ("1,a\n2\n", {"allow_jagged_rows": True}, [(1, "a"), (2, None)]),
        ('x,a\n2,b\n3\n4,"c\nd"\n', {"max_bad_records": 3}, [(2, "b")]),
        ("", {}, []),
    ],
)
def test_csv_is_loaded_as_bigquery_reads_it(loader, text, options, rows):
    loaded = loader.load(text, "CSV", SCHEMA, **options)
    assert isinstance(loaded, Loaded), loaded
    assert loaded.rows == rows


@pytest.mark.parametrize(
    ("text", "options", "why"),
    [
        ("1,a\n2\n", {}, "Row 2"),
        ("1,a,x\n", {}, "found 3"),
        ('1,"a\nb"\n', {}, "allowQuotedNewlines"),
        ("1,a\0b\n", {}, "ASCII 0"),
        ("1.5,a\n", {}, "INTEGER"),
        (",a\n", {"null_marker": "\\N"}, "INTEGER"),
        ("x,a\ny,b\n", {"max_bad_records": 1}, "errors: 2"),
    ],
)
def test_csv_that_bigquery_does_not_read_fails(loader, text, options, why):
    refused = loader.load(text, "CSV", SCHEMA, **options)
    assert (refused.status, refused.reason) == (400, "invalid")
    assert why in refused.message


@pytest.mark.parametrize(("text", "source_format"), [("n,s\n1,a\n", "CSV"), ('{"n": 1}\n', "NEWLINE_DELIMITED_JSON")])
def test_text_needs_a_schema_or_autodetect(loader, text, source_format):
    assert "No schema" in loader.load(text, source_format).message
    assert loader.load(text, source_format, autodetect=True).columns[0] == "n INTEGER NULLABLE"


def test_text_takes_the_schema_of_the_table(loader):
    table = loader.new_table()
    loader.load("1,a\n", "CSV", SCHEMA, table=table)
    assert loader.load("2,b\n", "CSV", table=table).rows == [(1, "a"), (2, "b")]


@pytest.mark.parametrize("text", ['[{"n": 1}]', '[\n{"n": 1}\n]', '{\n"n": 1}', "1", '{"n": 1} {"n": 2}', '{"n": }'])
@pytest.mark.parametrize("options", [{"schema": SCHEMA}, {"autodetect": True}])
def test_only_one_object_a_line_is_json(loader, text, options):
    assert loader.load(text, "NEWLINE_DELIMITED_JSON", **options).reason == "invalid"


def test_autodetected_json_has_no_null_in_arrays(loader):
    assert "NULL" in loader.load([{"v": [1, None]}], autodetect=True).message
    assert "Nested" in loader.load([{"v": [[1]]}], autodetect=True).message


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (parquet_of(pa.table({"n": [1]}), compression="brotli"), "BROTLI"),
        (gzip.compress(parquet_of(pa.table({"n": [1]}))), "not in Parquet format"),
        (b"n,s\n1,a\n", "not in Parquet format"),
        (parquet_of(pa.table({"a.b": [1]})), "period"),
    ],
)
def test_parquet_that_bigquery_does_not_read_fails(loader, content, why):
    refused = loader.load(content, "PARQUET")
    assert (refused.status, refused.reason) == (400, "invalid")
    assert why in refused.message


@pytest.mark.parametrize("codec", ["snappy", "gzip", "zstd", "lz4", "none"])
def test_parquet_of_these_codecs_is_loaded(loader, codec):
    assert loader.load(parquet_of(pa.table({"n": [1]}), compression=codec), "PARQUET").rows == [(1,)]


@pytest.mark.parametrize(
    "names",
    [["a", "A"], ["_TABLE_x"], ["_partitiontime"], ["a" * 301], ["a!"], ["a/b"], ["a\tb"], ["straße", "STRASSE"]],
)
def test_column_names_that_bigquery_does_not_take_fail(loader, names):
    table = pa.table([[1]] * len(names), names=names)
    assert loader.load(table).reason == "invalid"
    schema = [bigquery.SchemaField(name, "INT64") for name in names]
    assert loader.load(",".join("1" for _ in names), "CSV", schema).reason == "invalid"


@pytest.mark.parametrize("name", ["größe & co", "é" * 300, "a-b", "1st", "名前"])
def test_flexible_column_names_are_loaded(loader, name):
    assert loader.load(pa.table({name: [1]})).columns == [f"{name} INTEGER NULLABLE"]


def avro(logical):
    fields = [
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
        {"name": "on", "type": ["null", {"type": "int", "logicalType": "date"}]},
    ]
    file = io.BytesIO()
    row = {"at": dt.datetime(2024, 1, 1, tzinfo=dt.timezone.utc), "on": dt.date(2024, 1, 1)}
    fastavro.writer(file, fastavro.parse_schema({"type": "record", "name": "r", "fields": fields}), [row])
    return {"data": file.getvalue(), "source_format": "AVRO", "use_avro_logical_types": logical}


def test_avro_times_are_integers_without_logical_types(loader):
    assert loader.load(**avro(False)).rows == [(1704067200000000, 19723)]
    assert loader.load(**avro(True)).columns == ["at TIMESTAMP NULLABLE", "on DATE NULLABLE"]


def test_avro_inside_gzip_fails(loader):
    compressed = gzip.compress(avro(True)["data"])
    assert loader.load(compressed, "AVRO").reason == "invalid"


def test_a_file_must_match_the_table(loader):
    table = loader.new_table()
    loader.load(pa.table({"a": [1]}), table=table)
    assert "has changed type from INTEGER to STRING" in loader.load(pa.table({"a": ["x"]}), table=table).message
    wider = pa.table({"a": [2], "b": [3]})
    assert "Cannot add fields (field: b)" in loader.load(wider, table=table).message
    added = loader.load(wider, table=table, schema_update_options=["ALLOW_FIELD_ADDITION"])
    assert added.rows == [(1, None), (2, 3)]
    replaced = loader.load(pa.table({"a": ["x"]}), table=table, write_disposition="WRITE_TRUNCATE")
    assert replaced.columns == ["a STRING NULLABLE"]


def test_a_failed_load_leaves_the_table_as_it_was(loader):
    table = loader.new_table()
    loader.load("1,a\n", "CSV", SCHEMA, table=table)
    for disposition in ("WRITE_APPEND", "WRITE_TRUNCATE"):
        loader.load("2,b\nx,c\n", "CSV", SCHEMA, table=table, write_disposition=disposition)
    assert [tuple(row.values()) for row in loader.client.list_rows(table)] == [(1, "a")]
