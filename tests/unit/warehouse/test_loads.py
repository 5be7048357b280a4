"""Loads: what becomes of a source, what the job is told, and which names are tables."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import geopandas
import pandas
import pyarrow
import pyarrow.parquet
import pyproj
import pytest
from google.cloud import bigquery
from shapely.geometry import Point

from carto_auth_integrations.warehouse.loads import (
    LoadOptions,
    Upload,
    identity_of,
    job_config,
    upload_of,
)
from carto_auth_integrations.warehouse.parameters import query_parameters
from carto_auth_integrations.warehouse.tables import destination_of

PROJECT = "carto-dw-ac-1234abcd"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("shared.trips", f"{PROJECT}.shared.trips"),
        ("other-project.shared.trips", "other-project.shared.trips"),
        ("carto-dw-ac-1234abcd.private_some_one_1234.t", "carto-dw-ac-1234abcd.private_some_one_1234.t"),
        ("example.com:project.shared.trips", "example.com:project.shared.trips"),
        ("shared.trips$20240131", f"{PROJECT}.shared.trips$20240131"),
        ("shared.trips$__UNPARTITIONED__", f"{PROJECT}.shared.trips$__UNPARTITIONED__"),
        ("shared.a-b", f"{PROJECT}.shared.a-b"),
        ("shared.Fahrten in Köln", f"{PROJECT}.shared.Fahrten in Köln"),
    ],
)
def test_a_table_is_given_whole(text: str, expected: str) -> None:
    assert destination_of(text, PROJECT) == expected


def test_a_table_without_a_dataset_goes_into_the_default_one() -> None:
    assert destination_of("trips", PROJECT, "private_me") == f"{PROJECT}.private_me.trips"
    assert destination_of("shared.trips", PROJECT, "private_me") == f"{PROJECT}.shared.trips"


@pytest.mark.parametrize(
    "text",
    [
        "trips",
        "",
        ".",
        "shared.",
        ".trips",
        "a.b.c.d.e..f",
        "`shared`.`trips`",
        "`shared.trips`",
        "shared.trips`; DROP TABLE x; --",
        "shared.trips; DROP TABLE x",
        "shared.trips' OR '1'='1",
        'shared."trips"',
        "shared.trips\n",
        "shared\n.trips",
        "shared.trips/*",
        "shared/trips",
        "sha red.trips",
        "Project-A.shared.trips",
        "shared.trips$",
        "shared.trips$2024-01-31",
        "../shared.trips",
        "shared.tri\x00ps",
        "projects/p/datasets/d/tables/t",
        None,
        3,
        b"shared.trips",
    ],
)
def test_what_is_no_table_is_refused_and_shown(text: Any) -> None:
    with pytest.raises(ValueError, match="is no table") as error:
        destination_of(text, PROJECT)
    assert repr(text) in str(error.value)


def test_an_injection_does_not_hide_behind_the_default_dataset() -> None:
    for text in ("trips`; DROP TABLE x", "trips;", "", "a/b"):
        with pytest.raises(ValueError, match="is no table"):
            destination_of(text, PROJECT, "private_me")


def uploaded(source: Any, **options: Any) -> tuple[Upload, bytes]:
    with upload_of(source, LoadOptions(**options)) as upload:
        return upload, upload.file.read() if upload.file else b""


def config_of(source: Any, **options: Any) -> dict[str, Any]:
    given = LoadOptions(**options)
    with upload_of(source, given) as upload:
        return job_config(upload, given, {"a": "b"}).to_api_repr()["load"]


def csv_of(tmp_path: Path, name: str = "a.csv", content: str = "id,name\n1,x\n") -> Path:
    (tmp_path / name).write_text(content)
    return tmp_path / name


def test_a_file_that_bigquery_takes_is_sent_as_it_is(tmp_path: Path) -> None:
    path = csv_of(tmp_path)
    for source in (path, str(path)):
        upload, content = uploaded(source)
        assert (content, upload.format, upload.schema) == (path.read_bytes(), "CSV", None)


def test_the_schema_of_text_is_left_to_bigquery_unless_given(tmp_path: Path) -> None:
    assert config_of(csv_of(tmp_path))["autodetect"] is True
    schema = [bigquery.SchemaField("id", "INTEGER")]
    config = config_of(csv_of(tmp_path), schema=schema)
    assert config["schema"]["fields"][0]["name"] == "id"
    assert not config.get("autodetect")


@pytest.mark.parametrize("schema", [None, [bigquery.SchemaField("a", "STRING"), bigquery.SchemaField("b", "STRING")]])
def test_the_header_of_a_csv_file_is_never_a_row(tmp_path: Path, schema: Any) -> None:
    """Left to itself, detection takes the header of a file of texts alone for a row.

    https://cloud.google.com/bigquery/docs/reference/rest/v2/Job#JobConfigurationLoad.FIELDS.skip_leading_rows
    """
    assert config_of(csv_of(tmp_path, content="a,b\nx,y\n"), schema=schema)["skipLeadingRows"] == "1"


def test_a_file_with_tabs_is_read_with_tabs(tmp_path: Path) -> None:
    path = csv_of(tmp_path, "a.tsv", "id\tname\n1\tx\n")
    assert config_of(path, schema=[bigquery.SchemaField("id", "INTEGER")]).get("fieldDelimiter") == "\t"


def test_uris_are_left_in_cloud_storage() -> None:
    upload, _ = uploaded("gs://bucket/a.parquet")
    assert (upload.file, upload.uris, upload.format) == (None, ("gs://bucket/a.parquet",), "PARQUET")
    upload, _ = uploaded(["gs://bucket/a.csv", "gs://bucket/b.csv.gz"])
    assert (upload.uris, upload.format) == (("gs://bucket/a.csv", "gs://bucket/b.csv.gz"), "CSV")
    assert uploaded("gs://bucket/part-*", format="json")[0].format == "NEWLINE_DELIMITED_JSON"


@pytest.mark.parametrize("uris", ["gs://bucket/a", ["gs://b/a.csv", "gs://b/a.avro"], "gs://b/a.geojson", "gs://b/*"])
def test_uris_whose_format_is_not_clear_are_an_error(uris: Any) -> None:
    with pytest.raises(ValueError, match="format is not clear"):
        uploaded(uris)


def test_uris_and_files_are_not_mixed(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="gs:// URIs alone"):
        uploaded(["gs://bucket/a.csv", str(csv_of(tmp_path))])


@pytest.mark.parametrize("source", [3, None, object()])
def test_a_source_that_is_none_is_refused_by_its_type(source: Any) -> None:
    with pytest.raises(TypeError, match=f"{type(source).__name__} cannot be loaded"):
        uploaded(source)


def parquet_of(source: Any, **options: Any) -> pyarrow.parquet.ParquetFile:
    return pyarrow.parquet.ParquetFile(pyarrow.BufferReader(uploaded(source, **options)[1]))


def test_rows_are_sent_as_parquet() -> None:
    upload, content = uploaded([{"a": 1}, {"a": 2}])
    assert (upload.format, content[:4]) == ("PARQUET", b"PAR1")
    assert parquet_of([{"a": 1}, {"a": 2}]).read().to_pylist() == [{"a": 1}, {"a": 2}]


def test_lists_are_taken_for_lists() -> None:
    assert config_of([{"a": [1, 2]}])["parquetOptions"] == {"enableListInference": True}


@pytest.mark.parametrize("zone", [None, "Europe/Madrid"])
def test_moments_are_sent_in_microseconds_which_is_what_bigquery_has(zone: str | None) -> None:
    moments = pandas.Series(pandas.to_datetime(["2024-01-01T01:02:03.000004005"])).astype("datetime64[ns]")
    frame = pandas.DataFrame({"at": moments.dt.tz_localize(zone)})
    for source in (frame, pyarrow.table({"at": pyarrow.array(moments, pyarrow.timestamp("ns", zone))})):
        assert parquet_of(source).schema_arrow.field("at").type.unit == "us"


def test_geometry_says_so_in_the_schema_with_all_other_columns() -> None:
    frame = geopandas.GeoDataFrame({"n": [1], "name": ["x"]}, geometry=[Point(1, 2)], crs=4326)
    fields = config_of(frame)["schema"]["fields"]
    assert [(field["name"], field["type"]) for field in fields] == [
        ("n", "INTEGER"),
        ("name", "STRING"),
        ("geometry", "GEOGRAPHY"),
    ]


def test_a_schema_that_is_given_is_the_one_that_counts() -> None:
    schema = [bigquery.SchemaField("n", "NUMERIC"), bigquery.SchemaField("geometry", "GEOGRAPHY")]
    frame = geopandas.GeoDataFrame({"n": [1]}, geometry=[Point(1, 2)], crs=4326)
    assert [field["type"] for field in config_of(frame, schema=schema)["schema"]["fields"]] == ["NUMERIC", "GEOGRAPHY"]


def test_geometry_in_plain_parquet_is_taken_when_it_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"at": [Point(-412305.1, 4926678.0).wkb]}), path)
    fields = config_of(path, geometry=("at",), crs="EPSG:3857")["schema"]["fields"]
    assert fields[0]["type"] == "GEOGRAPHY"
    (row,) = parquet_of(path, geometry=("at",), crs="EPSG:3857").read().to_pylist()
    assert row["at"].startswith("POINT (-3.70")


def test_a_source_that_raises_half_way_leaves_no_upload() -> None:
    def rows() -> Iterator[dict[str, int]]:
        yield {"x": 1}
        raise RuntimeError("half-way")

    with pytest.raises(RuntimeError, match="half-way"), upload_of(rows(), LoadOptions()):
        pytest.fail("there is nothing to send")


def test_the_job_is_told_what_was_asked_for(tmp_path: Path) -> None:
    config = config_of(
        csv_of(tmp_path),
        write_disposition="WRITE_TRUNCATE",
        create_disposition="CREATE_NEVER",
        partitioning=bigquery.TimePartitioning(field="day", type_="MONTH"),
        clustering=("id", "name"),
    )
    assert config["writeDisposition"] == "WRITE_TRUNCATE"
    assert config["createDisposition"] == "CREATE_NEVER"
    assert config["timePartitioning"] == {"field": "day", "type": "MONTH"}
    assert config["clustering"] == {"fields": ["id", "name"]}


def test_partitions_by_range_are_told_too(tmp_path: Path) -> None:
    by_range = bigquery.RangePartitioning(field="id", range_=bigquery.PartitionRange(start=0, end=100, interval=10))
    config = config_of(csv_of(tmp_path), partitioning=by_range)
    assert config["rangePartitioning"]["field"] == "id"
    assert "timePartitioning" not in config


def test_a_source_is_named_without_reading_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert identity_of("a.csv") == identity_of(Path("a.csv")) == str(tmp_path / "a.csv")
    assert identity_of("gs://bucket/a.csv") == "gs://bucket/a.csv"
    assert identity_of(["gs://b/1", "gs://b/2"]) != identity_of(["gs://b/1"])
    assert identity_of(iter([{"a": 1}])) == identity_of(pandas.DataFrame({"b": [2]})) == "rows"


def test_options_are_named_the_same_in_every_process() -> None:
    """Their text is part of the job's id: an address in it would load a retry's rows twice."""
    options = [
        LoadOptions(
            schema=[bigquery.SchemaField("a", "INTEGER")],
            crs=pyproj.CRS(3857),
            partitioning=partitioning,
            clustering=("a",),
        )
        for partitioning in (
            bigquery.TimePartitioning(field="day"),
            bigquery.RangePartitioning(field="id", range_=bigquery.PartitionRange(start=0, end=9, interval=1)),
        )
    ]
    assert " at 0x" not in repr(options)


@pytest.mark.parametrize("source", ["table", "frame"])
def test_small_pieces_are_gathered_into_row_groups_of_some_size(source: str) -> None:
    piece: Any = pyarrow.table({"x": [1]})
    pieces = (piece if source == "table" else piece.to_pandas() for _ in range(1000))
    file = parquet_of(pieces)
    assert file.metadata.num_rows == 1000
    assert file.metadata.num_row_groups < 100, "small row groups grow the file and slow the load"


@pytest.mark.parametrize(
    ("value", "expected"),
    [(True, "BOOL"), (1, "INT64"), (1.5, "FLOAT64"), ("x", "STRING"), (b"x", "BYTES")],
)
def test_parameters_get_their_type_from_the_value(value: Any, expected: str) -> None:
    (named,) = query_parameters({"p": value})
    (placed,) = query_parameters([value])
    assert (named.name, named.type_, placed.name, placed.type_) == ("p", expected, None, expected)


def test_parameters_of_bigquerys_own_kind_are_taken_as_they_are() -> None:
    own = bigquery.ScalarQueryParameter("p", "GEOGRAPHY", "POINT(1 2)")
    assert query_parameters([own]) == [own]
    assert query_parameters({"p": own}) == [own]


@pytest.mark.parametrize("value", [None, [], object(), [1, "x"], {"a": 1}, [[1]], {1, 2}])
def test_parameters_without_a_type_are_refused_by_their_name(value: Any) -> None:
    with pytest.raises(TypeError, match="since"):
        query_parameters({"since": value})


@pytest.mark.parametrize(
    "value",
    [True, -7, 1.5, "Köln", b"\x00\xff", Decimal("1.500000001"), datetime.date(2024, 2, 29), [1, 2], ["a"]],
)
def test_parameters_are_sent_as_google_sends_them(value: Any) -> None:
    (ours,) = query_parameters({"p": value})
    kind = ours.type_
    if isinstance(value, list):
        theirs: Any = bigquery.ArrayQueryParameter("p", kind, value)
    else:
        theirs = bigquery.ScalarQueryParameter("p", kind, value)
    assert ours.to_api_repr() == theirs.to_api_repr()


def test_the_configuration_can_be_sent(tmp_path: Path) -> None:
    json.dumps(config_of(csv_of(tmp_path), clustering=("id",)))
