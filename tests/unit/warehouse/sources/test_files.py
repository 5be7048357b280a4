"""Files: which ones a source names, told by their content, read as what they are, and errors that name the file."""

from __future__ import annotations

import datetime
import functools
import gc
import gzip
import http.server
import json
import os
import sys
import tempfile
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fastavro
import fsspec
import geopandas
import openpyxl
import pyarrow
import pyarrow.feather
import pyarrow.parquet
import pyogrio
import pytest
import shapely

from carto_auth_integrations.errors import MissingDependency
from carto_auth_integrations.warehouse.options import LoadOptions
from carto_auth_integrations.warehouse.sources.base import Source
from carto_auth_integrations.warehouse.sources.files import as_is, format_of, is_files, open_files

CONTENT = {
    "CSV": b"a,b\n1,2\n",
    "JSON": b'{"a": 1}\n',
    "GEOJSON": b"{}",
    "PARQUET": b"PAR1....",
    "AVRO": b"Obj\x01...",
    "ARROW": b"ARROW1..",
    "VECTOR": b"SQLite format 3\x00",
}
MADRID = shapely.Point(-3.7038, 40.4168)


def written(path: Path, content: bytes | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def parquet(path: Path, **columns: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.table(columns or {"a": [1]}), path)
    return path


def workbook(path: Path) -> Path:
    book = openpyxl.Workbook()
    book.active.append(["a"])
    book.active.append([1])
    book.save(path)
    return path


def zipped(path: Path, **members: bytes | Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content.read_bytes() if isinstance(content, Path) else content)
    return path


def shapefile(directory: Path, name: str = "a") -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    frame = geopandas.GeoDataFrame({"a": [1]}, geometry=[MADRID], crs=4326)
    pyogrio.write_dataframe(frame, directory / f"{name}.shp")
    return directory / f"{name}.shp"


def opened(source: Any, **options: Any) -> Source:
    return open_files(source, LoadOptions(**options))


def rows_of(source: Any, **options: Any) -> list[dict[str, Any]]:
    rows = []
    for chunk in opened(source, **options).chunks:
        columns = [(name, _plain(values)) for name, values in chunk.columns()]
        rows += [dict(zip(dict(columns), row, strict=True)) for row in zip(*dict(columns).values(), strict=True)]
    return rows


def _plain(values: Any) -> list[Any]:
    return values.to_pylist() if hasattr(values, "to_pylist") else list(values)


# Which sources are files


@pytest.mark.parametrize("source", ["a.csv", Path("a"), ["a.csv", Path("b")], ("a",), "https://example.com/a.csv"])
def test_paths_urls_and_lists_of_them_are_files(source: Any) -> None:
    assert is_files(source)


@pytest.mark.parametrize("source", [[{"a": 1}], [], {"a": 1}, iter(["a"]), ["a", {"a": 1}], b"a", 3, None])
def test_anything_else_is_not(source: Any) -> None:
    assert not is_files(source)


# Formats


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.csv", "CSV"),
        ("a.CSV", "CSV"),
        ("a.tsv", "CSV"),
        ("a.psv", "CSV"),
        ("a.txt", "CSV"),
        ("a.json", "JSON"),
        ("a.jsonl", "JSON"),
        ("a.ndjson", "JSON"),
        ("a.b.geojson", "GEOJSON"),
        ("a.geojsonl", "GEOJSON"),
        ("a.geojsons", "GEOJSON"),
        ("a.geojsonseq", "GEOJSON"),
        ("a.parquet", "PARQUET"),
        ("a.pq", "PARQUET"),
        ("a.geoparquet", "PARQUET"),
        ("a.avro", "AVRO"),
        ("a.arrow", "ARROW"),
        ("a.feather", "ARROW"),
        ("a.gpkg", "VECTOR"),
        ("a.sqlite", "VECTOR"),
    ],
)
def test_the_name_tells_the_format(tmp_path: Path, name: str, expected: str) -> None:
    assert format_of(written(tmp_path / name, CONTENT[expected])) == expected


@pytest.mark.parametrize("name", ["a.csv.gz", "a.json.gz", "a.geojson.gz"])
def test_text_may_be_packed_with_gzip(tmp_path: Path, name: str) -> None:
    expected = name.split(".")[1].upper()
    assert format_of(written(tmp_path / name, gzip.compress(CONTENT[expected]))) == expected


def test_text_that_is_separated_by_tabs_is_not_taken_for_mapinfo(tmp_path: Path) -> None:
    assert format_of(written(tmp_path / "a.tab", "a\tb\n1\t2\n")) == "CSV"
    assert format_of(written(tmp_path / "b.tab", "!table\n!version 900\n")) == "VECTOR"


@pytest.mark.parametrize("name", ["data", "data.bin", "part-00000"])
@pytest.mark.parametrize("expected", ["PARQUET", "AVRO", "ARROW", "VECTOR"])
def test_a_name_that_tells_nothing_leaves_it_to_the_content(tmp_path: Path, name: str, expected: str) -> None:
    assert format_of(written(tmp_path / name, CONTENT[expected])) == expected


def test_a_workbook_is_told_by_its_content(tmp_path: Path) -> None:
    assert format_of(workbook(tmp_path / "a.xlsx").rename(tmp_path / "data")) == "EXCEL"


def test_a_format_that_is_given_is_stronger_than_the_name(tmp_path: Path) -> None:
    assert format_of(written(tmp_path / "data.dat", CONTENT["CSV"]), named="csv") == "CSV"
    assert format_of(written(tmp_path / "data.json", CONTENT["GEOJSON"]), named="GEOJSON") == "GEOJSON"


@pytest.mark.parametrize("name", ["nothing.csv", "no/where.csv"])
def test_a_file_that_is_not_there_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(FileNotFoundError, match=rf"There is no file {tmp_path / name}: check the path"):
        opened(tmp_path / name)


@pytest.mark.parametrize("name", ["empty.csv", "empty.parquet", "empty.geojson", "empty", "empty.xlsx", "empty.gpkg"])
def test_an_empty_file_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=rf"{name} is empty"):
        opened(written(tmp_path / name, b""))


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        ("a.csv", b"PAR1....", "PARQUET"),
        ("a.json", b"Obj\x01...", "AVRO"),
        ("a.parquet", b"a,b\n1,2\n", "another format"),
        ("a.parquet", b"Obj\x01...", "AVRO"),
        ("a.avro", b'{"a": 1}', "another format"),
        ("a.geojson", b"PK\x03\x04...", "ZIP"),
        ("a.parquet", b"\x1f\x8b...", "gzip"),
        ("a.csv", b"\xef\xbb\xbf <!DOCTYPE html><html>", "an HTML page"),
        ("a.geojson", b"<html><body>Log in", "an HTML page"),
        ("a.xlsx", b"\xd0\xcf\x11\xe0....", "an old or encrypted Office document"),
        ("a.gpkg", b"PAR1....", "PARQUET"),
        ("a.csv", b"BZh9....", "bzip2"),
        ("a.csv", b"\x28\xb5\x2f\xfd....", "Zstandard"),
        ("a.csv", b"SQLite format 3\x00", "VECTOR"),
    ],
)
def test_a_file_of_another_format_than_its_name_is_named_with_both(
    tmp_path: Path, name: str, content: bytes, found: str
) -> None:
    with pytest.raises(
        ValueError, match=rf"{name} is not \w+, as its extension or format= says: its content is {found}"
    ):
        opened(written(tmp_path / name, content))


@pytest.mark.parametrize("name", ["a.dat", "a", "a.md"])
def test_an_unknown_format_is_an_error_that_says_what_there_is(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=r"unknown format.*pass format=.*\.parquet"):
        opened(written(tmp_path / name, b"x"))


def test_a_format_that_is_given_and_unknown_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"format must be one of .*EXCEL.*XLSX"):
        opened(written(tmp_path / "a.csv", b"x"), format="XLSX")


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("a.xls", "read_excel"),
        ("a.ods", "read_excel"),
        ("a.orc", "pyarrow.orc.read_table"),
        ("a.dta", "read_stata"),
        ("a.csv.bz2", "unpack"),
        ("a.tar.gz", "unpack"),
        ("a.7z", "unpack"),
        ("a.tif", "raster"),
        ("a.xml", "read_xml"),
    ],
)
def test_what_is_not_read_here_says_what_does_it(tmp_path: Path, name: str, advice: str) -> None:
    with pytest.raises(ValueError, match=rf"{name} is not read here: .*{advice}"):
        opened(written(tmp_path / name, b"x"))


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.parquet", "a.avro", "a.feather", "a.xlsx", "a.gpkg", "a.shp"])
def test_every_format_is_opened(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name == "a.avro":
        schema = {"type": "record", "name": "r", "fields": [{"name": "a", "type": "long"}]}
        with path.open("wb") as file:
            fastavro.writer(file, fastavro.parse_schema(schema), [{"a": 1}])
    elif name in ("a.gpkg", "a.shp"):
        pyogrio.write_dataframe(geopandas.GeoDataFrame({"a": [1]}, geometry=[MADRID], crs=4326), path)
    elif name == "a.parquet":
        parquet(path)
    elif name == "a.feather":
        pyarrow.feather.write_feather(pyarrow.table({"a": [1]}), path)
    elif name == "a.xlsx":
        workbook(path)
    else:
        written(path, "a\n1\n" if name == "a.csv" else '{"a": 1}\n')
    source = opened(path)
    assert source.size == path.stat().st_size
    assert [value for chunk in source.chunks for value in _plain(dict(chunk.columns())["a"])] == [1]
    assert source.position() == source.size


# Directories, lists and globs


def test_a_directory_is_read_to_its_depths_sorted_and_without_hidden_files(tmp_path: Path) -> None:
    for number, name in enumerate(["b.parquet", "a.parquet", "c/d/e.parquet"]):
        parquet(tmp_path / name, a=[number])
    for name in ("_SUCCESS", ".a.parquet.crc", ".hidden/x.parquet", "_temporary/0/x.parquet", "c/_metadata"):
        written(tmp_path / name, b"x")
    source = opened(tmp_path)
    assert source.found["files"] == 3
    assert source.size == sum(path.stat().st_size for path in tmp_path.rglob("[abe].parquet"))
    chunks = list(source.chunks)
    assert [Path(chunk.place).name for chunk in chunks] == ["a.parquet", "b.parquet", "e.parquet"]
    assert [chunk.first_row for chunk in chunks] == [1, 1, 1]
    assert source.position() == source.size


def test_a_directory_of_several_formats_is_refused(tmp_path: Path) -> None:
    parquet(tmp_path / "a.parquet")
    written(tmp_path / "b.csv", CONTENT["CSV"])
    with pytest.raises(ValueError, match=r"b\.csv is CSV, but .*a\.parquet is PARQUET"):
        opened(tmp_path)


def test_a_file_that_does_not_belong_into_a_directory_is_named(tmp_path: Path) -> None:
    parquet(tmp_path / "a.parquet")
    written(tmp_path / "README.md", "x")
    with pytest.raises(ValueError, match=r"README\.md: unknown format"):
        opened(tmp_path)


@pytest.mark.parametrize("content", [[], ["_SUCCESS"], ["sub/.hidden"]])
def test_a_directory_without_files_is_refused(tmp_path: Path, content: list[str]) -> None:
    for name in content:
        written(tmp_path / name, b"x")
    with pytest.raises(ValueError, match="is a directory without files"):
        opened(tmp_path)


@pytest.mark.parametrize("mark", ["_delta_log/0.json", ".hoodie/x", "metadata/v1.metadata.json"])
def test_a_table_of_a_lake_is_refused_with_the_code_that_reads_it(tmp_path: Path, mark: str) -> None:
    parquet(tmp_path / "a.parquet")
    written(tmp_path / mark, b"x")
    with pytest.raises(ValueError, match=r"table, whose files hold deleted rows too: load\("):
        opened(tmp_path)


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    parquet(tmp_path / "data" / "a.parquet")
    (tmp_path / "data" / "again").symlink_to(tmp_path / "data")
    assert len(rows_of(tmp_path / "data")) == 1


def test_the_parts_of_a_shapefile_are_one_file(tmp_path: Path) -> None:
    shapefile(tmp_path, "a")
    shapefile(tmp_path, "b")
    assert opened(tmp_path).found["files"] == 2
    assert len(rows_of(f"{tmp_path}/*")) == 2


@pytest.mark.parametrize("part", [".dbf", ".shx"])
def test_a_shapefile_without_its_parts_is_refused(tmp_path: Path, part: str) -> None:
    path = shapefile(tmp_path)
    path.with_suffix(part).unlink()
    with pytest.raises(ValueError, match=rf"a\.shp is one part of a shapefile, and \{part} is missing"):
        opened(path)


def test_a_geodatabase_is_one_file(tmp_path: Path) -> None:
    frame = geopandas.GeoDataFrame({"a": [1]}, geometry=[MADRID], crs=4326)
    pyogrio.write_dataframe(frame, tmp_path / "a.gdb", driver="OpenFileGDB")
    assert [row["a"] for row in rows_of(tmp_path / "a.gdb")] == [1]
    assert [row["a"] for row in rows_of(tmp_path)] == [1]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.parquet", ["a1", "a2", "b"]),
        ("a?.parquet", ["a1", "a2"]),
        ("[b]*", ["b"]),
        ("**/*.parquet", ["a1", "a2", "b", "sub/c"]),
        ("*/c.parquet", ["sub/c"]),
    ],
)
def test_globs_are_sorted(tmp_path: Path, pattern: str, expected: list[str]) -> None:
    for name in ("sub/c", "b", "a2", "a1"):
        parquet(tmp_path / f"{name}.parquet", name=[name])
    for source in (f"{tmp_path}/{pattern}", tmp_path / pattern):
        assert [row["name"] for row in rows_of(source)] == expected


def test_a_glob_that_matches_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"No file matches .*\*\.csv: check the pattern"):
        opened(tmp_path / "*.csv")


def test_a_file_whose_name_looks_like_a_glob_is_a_file(tmp_path: Path) -> None:
    parquet(tmp_path / "a[1].parquet", a=[1])
    parquet(tmp_path / "a1.parquet", a=[2])
    assert rows_of(tmp_path / "a[1].parquet") == [{"a": 1}]


def test_a_list_keeps_its_order(tmp_path: Path) -> None:
    paths = [parquet(tmp_path / name, name=[name]) for name in ("b.parquet", "a.parquet")]
    assert [row["name"] for row in rows_of([paths[0], str(paths[1])])] == ["b.parquet", "a.parquet"]


def test_a_file_that_is_named_twice_is_refused(tmp_path: Path) -> None:
    path = parquet(tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=r"a\.parquet is named twice"):
        opened([path, f"{tmp_path}/*.parquet"])


@pytest.mark.parametrize("form", ["file://{}", "file:{}", "file://localhost{}"])
def test_file_urls_are_paths(tmp_path: Path, form: str) -> None:
    path = parquet(tmp_path / "my data.parquet")
    assert rows_of(form.format(str(path).replace(" ", "%20"))) == [{"a": 1}]


@pytest.mark.parametrize("source", ["", " ", [""]])
def test_an_empty_path_is_not_the_directory_of_the_process(source: Any) -> None:
    with pytest.raises(ValueError, match="path of a file is empty"):
        opened(source)


def test_what_is_not_a_regular_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(ValueError, match=r"pipe\.csv is not a regular file"):
        opened(tmp_path / "pipe.csv")


# Columns in paths


def hive(root: Path, *parts: str, **columns: Any) -> None:
    for number, part in enumerate(parts):
        parquet(root / part / f"part-{number}.parquet", **{"n": [number], **columns})


def test_directories_become_typed_columns(tmp_path: Path) -> None:
    hive(tmp_path, "country=DE/year=2025/day=2026-01-02/zip=01", "country=FR/year=2026/day=2026-01-03/zip=75")
    source = opened(tmp_path)
    assert source.found["partitions"] == ["country", "year", "day", "zip"]
    first, second = rows_of(tmp_path)
    assert first == {"n": 0, "country": "DE", "year": 2025, "day": datetime.date(2026, 1, 2), "zip": "01"}
    assert (second["country"], second["year"], second["zip"]) == ("FR", 2026, "75")


def test_directories_of_times_and_moments_are_typed_as_in_a_csv_file(tmp_path: Path) -> None:
    hive(tmp_path, "t=10%3A00%3A00/at=2026-01-02T10%3A00%3A00Z/yes=true")
    (row,) = rows_of(tmp_path)
    moment = datetime.datetime(2026, 1, 2, 10, tzinfo=datetime.timezone.utc)
    assert (row["t"], row["at"], row["yes"]) == (datetime.time(10), moment, True)


@pytest.mark.parametrize("pattern", ["*/*.parquet", "country=*/*.parquet", "**/*.parquet", "country=*"])
def test_globs_over_directories_give_the_columns_too(tmp_path: Path, pattern: str) -> None:
    hive(tmp_path, "country=DE", "country=FR")
    assert [row["country"] for row in rows_of(f"{tmp_path}/{pattern}")] == ["DE", "FR"]


def test_lists_of_files_give_the_columns_too(tmp_path: Path) -> None:
    hive(tmp_path, "country=DE", "country=FR")
    assert [row["country"] for row in rows_of(sorted(tmp_path.rglob("*.parquet")))] == ["DE", "FR"]


def test_a_value_of_hive_that_stands_for_null_is_null(tmp_path: Path) -> None:
    hive(tmp_path, "n2=1", "n2=__HIVE_DEFAULT_PARTITION__")
    assert [row["n2"] for row in rows_of(tmp_path)] == [1, None]


def test_a_column_whose_name_begins_with_an_underscore_is_not_hidden(tmp_path: Path) -> None:
    hive(tmp_path, "_day=1", "_day=2")
    assert [row["_day"] for row in rows_of(tmp_path)] == [1, 2]


def test_values_are_decoded_and_types_are_decided_over_all_of_them(tmp_path: Path) -> None:
    hive(tmp_path, "k=1", "k=a%2Fb%20c")
    assert [row["k"] for row in rows_of(tmp_path)] == ["1", "a/b c"]


def test_a_column_that_is_in_the_file_too_must_be_equal(tmp_path: Path) -> None:
    hive(tmp_path, "year=2025", year=[2025])
    assert rows_of(tmp_path) == [{"n": 0, "year": 2025}]
    hive(tmp_path, "year=2025", YEAR=[2024])
    with pytest.raises(ValueError, match=r"part-0\.parquet: row 1, column year holds 2024, .*path.*2025"):
        rows_of(tmp_path)


def test_files_with_other_columns_in_their_paths_are_refused(tmp_path: Path) -> None:
    hive(tmp_path, "country=DE", "region=FR")
    with pytest.raises(ValueError, match=r"part-1\.parquet has region in its path, but .*part-0\.parquet has country"):
        opened(tmp_path)
    hive(tmp_path / "x", "a=1/a=2")
    with pytest.raises(ValueError, match="has the column a twice in its path"):
        opened(tmp_path / "x")


def test_one_file_alone_has_the_columns_that_are_in_it(tmp_path: Path) -> None:
    hive(tmp_path, "country=DE")
    assert rows_of(tmp_path / "country=DE" / "part-0.parquet") == [{"n": 0}]


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_text_files_have_the_columns_of_their_paths_too(tmp_path: Path, suffix: str) -> None:
    for country in ("DE", "FR"):
        content = f"n\n{len(country)}\n" if suffix == "csv" else f'{{"n": {len(country)}}}\n'
        written(tmp_path / f"country={country}" / f"a.{suffix}", content)
    assert rows_of(tmp_path) == [{"n": 2, "country": "DE"}, {"n": 2, "country": "FR"}]


def test_the_types_of_csv_files_are_decided_over_all_of_them(tmp_path: Path) -> None:
    written(tmp_path / "a.csv", "zip,n\n28001,1\n")
    written(tmp_path / "b.csv", "zip,n\n01234,2\n")
    assert [(row["zip"], row["n"]) for row in rows_of(tmp_path)] == [("28001", 1), ("01234", 2)]


# Archives


def test_a_shapefile_in_an_archive_is_read(tmp_path: Path) -> None:
    shape = shapefile(tmp_path / "parts")
    parts = {f"some/where/{path.name}": path for path in shape.parent.iterdir()}
    for name in ("a.zip", "b.shp.zip"):
        path = zipped(tmp_path / name, **parts, **{"__MACOSX/._a.shp": b"x"})
        source = opened(path)
        assert source.found["layer"] == "a"
        assert [row["a"] for row in rows_of(path)] == [1]
    zipped(tmp_path / "c.shz", **{path.name: path for path in shape.parent.iterdir()})
    assert [row["a"] for row in rows_of(tmp_path / "c.shz")] == [1]


def test_a_geodatabase_in_an_archive_is_read(tmp_path: Path) -> None:
    frame = geopandas.GeoDataFrame({"a": [1]}, geometry=[MADRID], crs=4326)
    pyogrio.write_dataframe(frame, tmp_path / "a.gdb", driver="OpenFileGDB")
    path = zipped(tmp_path / "a.gdb.zip", **{f"a.gdb/{each.name}": each for each in (tmp_path / "a.gdb").iterdir()})
    assert [row["a"] for row in rows_of(path)] == [1]


def test_an_archive_of_several_shapefiles_needs_a_layer(tmp_path: Path) -> None:
    shapefile(tmp_path / "parts", "one")
    shapefile(tmp_path / "parts", "two")
    path = zipped(tmp_path / "a.zip", **{each.name: each for each in (tmp_path / "parts").iterdir()})
    with pytest.raises(ValueError, match=r"a\.zip has several layers: name one with layer=, one of one, two"):
        opened(path)
    assert opened(path, layer="two").found["layer"] == "two"


@pytest.mark.parametrize("name", ["a.csv.zip", "a.zip"])
def test_the_only_file_of_an_archive_is_read(tmp_path: Path, name: str) -> None:
    path = zipped(tmp_path / name, **{"in/side.parquet": parquet(tmp_path / "x.parquet"), "in/README.txt": b"x"})
    (chunk,) = opened(path).chunks
    assert chunk.place.endswith(f"{name}/in/side.parquet")
    assert chunk.columns()[0][1].to_pylist() == [1]


def test_an_archive_of_several_files_is_refused_with_their_names(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", **{"a.csv": b"a\n1\n", "b.csv": b"a\n1\n"})
    with pytest.raises(ValueError, match=r"a\.zip holds 2 files \(a\.csv, b\.csv\): unpack it"):
        opened(path)


def test_damaged_empty_and_nested_archives_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"a\.zip cannot be read as ZIP"):
        opened(written(tmp_path / "a.zip", b"PK\x03\x04 broken"))
    with pytest.raises(ValueError, match=r"b\.zip.*an empty ZIP archive"):
        opened(zipped(tmp_path / "b.zip"))
    inner = zipped(tmp_path / "x.zip", **{"a.csv": b"a\n1\n"})
    with pytest.raises(ValueError, match=r"c\.zip/x\.zip is an archive in an archive"):
        opened(zipped(tmp_path / "c.zip", **{"x.zip": inner}))


def test_a_file_in_an_archive_that_is_damaged_is_named(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", **{"a.csv": b"a\n" + b"1\n" * 1000})
    content = path.read_bytes()
    path.write_bytes(content.replace(b"1\n1\n1\n", b"1\n2\n1\n", 1))
    with pytest.raises(ValueError, match=r"a\.zip/a\.csv cannot be unpacked"):
        opened(path)


# Other machines


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves a directory; `/denied` is refused, and `/short` ends before all of it has been sent."""

    def do_GET(self) -> None:
        if "denied" in self.path:
            self.send_error(403)
        elif "short" in self.path:
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b"a\n1\n")
        else:
            super().do_GET()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def site(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "site").mkdir()
    handler = functools.partial(Handler, directory=str(tmp_path / "site"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory for temporary files of its own, to see what is left in it."""
    directory = tmp_path / "temporary"
    directory.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(directory))
    return directory


def test_files_of_a_web_server_are_copied_one_at_a_time_and_removed(tmp_path: Path, site: str, temporary: Path) -> None:
    urls = []
    for number in range(3):
        parquet(tmp_path / "site" / f"{number}.parquet", n=[number])
        urls.append(f"http://{site}/{number}.parquet?signature=secret#part")
    source = opened(urls)
    for number, chunk in enumerate(source.chunks):
        assert chunk.place == f"http://{site}/{number}.parquet"
        assert chunk.columns()[0][1].to_pylist() == [number]
        assert len(list(temporary.glob("*/*.parquet"))) == 1
    assert list(temporary.iterdir()) == []


def test_text_files_of_a_web_server_are_removed_too(tmp_path: Path, site: str, temporary: Path) -> None:
    for number in range(2):
        written(tmp_path / "site" / f"{number}.csv", f"n\n{number}\n")
    assert rows_of([f"http://{site}/{number}.csv" for number in range(2)]) == [{"n": 0}, {"n": 1}]
    gc.collect()
    assert list(temporary.iterdir()) == []


def test_a_source_that_is_never_read_leaves_nothing_behind(tmp_path: Path, site: str, temporary: Path) -> None:
    parquet(tmp_path / "site" / "a.parquet")
    source = opened(f"http://{site}/a.parquet")
    assert source.size == (tmp_path / "site" / "a.parquet").stat().st_size
    del source
    gc.collect()
    assert list(temporary.iterdir()) == []


def test_a_name_with_blanks_on_a_web_server_is_found(tmp_path: Path, site: str) -> None:
    parquet(tmp_path / "site" / "my data é.parquet")
    assert rows_of(f"http://{site}/my%20data%20%C3%A9.parquet") == [{"a": 1}]
    assert rows_of(f"http://{site}/my data é.parquet") == [{"a": 1}]


def test_a_name_on_a_web_server_that_tells_nothing_leaves_it_to_the_content(tmp_path: Path, site: str) -> None:
    parquet(tmp_path / "site" / "download")
    assert rows_of(f"http://{site}/download?id=7") == [{"a": 1}]


def test_what_a_web_server_lacks_is_named_without_credentials(site: str, temporary: Path) -> None:
    with pytest.raises(FileNotFoundError, match=rf"There is no file http://{site}/nope\.csv: check the URL") as caught:
        opened(f"http://me:secret@{site}/nope.csv?token=secret")
    assert "secret" not in str(caught.value)
    assert list(temporary.iterdir()) == []


def test_a_refusal_of_a_web_server_is_named_without_credentials(site: str) -> None:
    with pytest.raises(
        ConnectionError, match=rf"http://{site}/denied\.csv cannot be read: the server answered 403"
    ) as caught:
        opened(f"http://me:secret@{site}/denied.csv?token=secret")
    assert "secret" not in str(caught.value)
    assert caught.value.__suppress_context__


def test_a_file_that_ends_before_all_of_it_came_is_refused(site: str, temporary: Path) -> None:
    with pytest.raises(ConnectionError, match=rf"http://{site}/short\.csv cannot be read"):
        opened(f"http://{site}/short.csv")
    assert list(temporary.iterdir()) == []


def test_a_web_server_that_is_not_there_is_named() -> None:
    with pytest.raises(ConnectionError, match=r"http://127\.0\.0\.1:9/a\.csv cannot be read"):
        opened("http://127.0.0.1:9/a.csv")


@pytest.mark.parametrize("path", ["*.csv", "", "data/"])
def test_a_web_server_does_not_list_its_files(site: str, path: str) -> None:
    with pytest.raises(ValueError, match="does not list its files: name each of them"):
        opened(f"http://{site}/{path}")


def test_a_part_of_a_shapefile_on_a_web_server_asks_for_an_archive(tmp_path: Path, site: str) -> None:
    shapefile(tmp_path / "site")
    with pytest.raises(ValueError, match=r"a\.shp is one part of a shapefile.*ZIP"):
        opened(f"http://{site}/a.shp")


def test_a_page_instead_of_a_file_is_told(tmp_path: Path, site: str) -> None:
    written(tmp_path / "site" / "a.csv", "<!doctype html><title>Log in</title>")
    with pytest.raises(ValueError, match="its content is an HTML page"):
        opened(f"http://{site}/a.csv")


@pytest.fixture
def memory() -> Iterator[Any]:
    system = fsspec.filesystem("memory")
    yield system
    system.store.clear()


@pytest.mark.parametrize(
    "source", ["memory://data", "memory://data/", "memory://data/*/*.parquet", "memory://data/**/*.parquet"]
)
def test_directories_and_globs_of_other_protocols_are_listed(tmp_path: Path, memory: Any, source: str) -> None:
    for country in ("FR", "DE"):
        memory.pipe(f"/data/country={country}/a.parquet", parquet(tmp_path / "x.parquet").read_bytes())
    memory.pipe("/data/_SUCCESS", b"x")
    assert rows_of(source) == [{"a": 1, "country": "DE"}, {"a": 1, "country": "FR"}]


def test_nothing_at_another_protocol_is_refused(memory: Any) -> None:
    with pytest.raises(FileNotFoundError, match=r"There is no file memory://nope/a\.parquet"):
        opened("memory://nope/a.parquet")
    with pytest.raises(FileNotFoundError, match=r"No file matches memory://nope/\*\.parquet"):
        opened("memory://nope/*.parquet")


@pytest.mark.parametrize(
    ("url", "package"),
    [("s3://b/a.csv", "s3fs"), ("az://c/a.csv", "adlfs"), ("abfs://c@a/b.csv", "adlfs"), ("sftp://h/a", "paramiko")],
)
def test_a_protocol_whose_package_is_missing_names_it(monkeypatch: pytest.MonkeyPatch, url: str, package: str) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingDependency, match=rf"{url[:4]}.*{package}"):
        opened(url)


@pytest.mark.parametrize(
    ("name", "module", "extra"),
    [
        ("a.avro", "fastavro", "files"),
        ("a.xlsx", "openpyxl", "files"),
        ("a.gpkg", "pyogrio", "files"),
        ("https://127.0.0.1/a.csv", "fsspec.core", "remote"),
        ("https://127.0.0.1/a.csv", "aiohttp", "remote"),
    ],
)
def test_a_package_that_is_missing_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, module: str, extra: str
) -> None:
    content = {"a.avro": CONTENT["AVRO"], "a.gpkg": CONTENT["VECTOR"]}
    if name == "a.xlsx":
        source: Any = workbook(tmp_path / name)
    else:
        source = written(tmp_path / name, content[name]) if name in content else name
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingDependency, match=rf'needs {module}, .*pip install "carto-auth-integrations\[{extra}\]"'):
        opened(source)


def test_signed_urls_of_one_path_are_several_files(tmp_path: Path, site: str) -> None:
    parquet(tmp_path / "site" / "a.parquet")
    assert len(rows_of([f"http://{site}/a.parquet?id={number}" for number in range(2)])) == 2
    with pytest.raises(ValueError, match=r"a\.parquet is named twice"):
        opened([f"http://{site}/a.parquet?id=1"] * 2)


def test_an_unknown_protocol_is_refused() -> None:
    with pytest.raises(ValueError, match=r"nonsense://a/b\.csv: fsspec does not know this protocol"):
        opened("nonsense://a/b.csv")


# What BigQuery reads itself


def test_plain_parquet_is_sent_as_it_is(tmp_path: Path) -> None:
    path = parquet(tmp_path / "a.parquet")
    assert as_is(path, LoadOptions()) == (path, "PARQUET")
    assert as_is([str(path)], LoadOptions()) == (path, "PARQUET")


def test_plain_avro_is_sent_as_it_is(tmp_path: Path) -> None:
    schema = {"type": "record", "name": "r", "fields": [{"name": "a", "type": "long"}]}
    with (tmp_path / "a.avro").open("wb") as file:
        fastavro.writer(file, fastavro.parse_schema(schema), [{"a": 1}])
    assert as_is(tmp_path / "a.avro", LoadOptions()) == (tmp_path / "a.avro", "AVRO")


@pytest.mark.parametrize(
    "options",
    [{"geometry": "a"}, {"column_types": {"a": "STRING"}}, {"lon": "a", "lat": "a"}, {"crs": 4326}, {"schema": ["x"]}],
)
def test_an_option_that_changes_columns_has_the_file_read(tmp_path: Path, options: dict[str, Any]) -> None:
    assert as_is(parquet(tmp_path / "a.parquet"), LoadOptions(**options)) is None


@pytest.mark.parametrize("columns", [{"a b": [1]}, {"a": [1], "A": [2]}, {"_TABLE_x": [1]}, {"é": [1]}, {"a.b": [1]}])
def test_column_names_that_have_to_be_looked_at_have_the_file_read(tmp_path: Path, columns: dict[str, Any]) -> None:
    assert as_is(parquet(tmp_path / "a.parquet", **columns), LoadOptions()) is None


def test_other_sources_are_read(tmp_path: Path) -> None:
    path = parquet(tmp_path / "a.parquet")
    assert as_is([{"a": 1}], LoadOptions()) is None
    assert as_is(written(tmp_path / "a.csv", CONTENT["CSV"]), LoadOptions()) is None
    assert as_is([path, parquet(tmp_path / "b.parquet")], LoadOptions()) is None
    hive(tmp_path / "hive", "country=DE")
    assert as_is(tmp_path / "hive", LoadOptions()) is None


def test_a_file_that_is_not_there_is_named_here_too(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nope"):
        as_is(tmp_path / "nope.parquet", LoadOptions())


def test_json_lines_are_found_as_such(tmp_path: Path) -> None:
    assert opened(written(tmp_path / "a.json", json.dumps([{"a": 1}]))).found["format"] == "JSON"
