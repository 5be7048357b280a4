"""Parquet and Arrow files: every column as it is, geometry as the file declares it, memory bounded by row groups."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import geopandas
import pyarrow
import pyarrow.feather
import pyarrow.ipc
import pyarrow.parquet
import pyproj
import pytest
import shapely

from carto_auth_integrations.warehouse.options import LoadOptions
from carto_auth_integrations.warehouse.sources.base import Geometry, Source
from carto_auth_integrations.warehouse.sources.geometry import convert
from carto_auth_integrations.warehouse.sources.parquet import open_arrow, open_parquet, plain_columns

MADRID = shapely.Point(-3.7038, 40.4168)


def opened(path: Path, **options: Any) -> Source:
    return open_parquet(path, path.name, LoadOptions(**options))


def rows_of(source: Source) -> list[dict[str, Any]]:
    return [row for chunk in source.chunks for row in chunk.data.to_pylist()]


def shapes_of(source: Source, column: str) -> list[shapely.Geometry | None]:
    found: list[Any] = []
    for chunk in source.chunks:
        meant = chunk.geometry[column]
        converted = convert(chunk.data.column(column), meant, encoding=meant.encoding)
        assert not converted.defects
        found += [text and shapely.from_geojson(text) for text in converted.texts.to_pylist()]
    return found


def geoparquet(path: Path, column: dict[str, Any], *, footer: bool = False, geo: Any = None) -> Path:
    """Write a GeoParquet file whose metadata say this of its column `at`."""
    geo = geo or {"version": "1.1.0", "primary_column": "at", "columns": {"at": {"geometry_types": [], **column}}}
    table = pyarrow.table({"n": [1, 2], "at": [MADRID.wkb, None]})
    metadata = {"geo": geo if isinstance(geo, str) else json.dumps(geo)}
    with pyarrow.parquet.ParquetWriter(
        path, table.schema if footer else table.schema.with_metadata(metadata)
    ) as writer:
        writer.write_table(table)
        if footer:
            writer.add_key_value_metadata(metadata)
    return path


def test_plain_parquet_is_read_as_it_is(tmp_path: Path) -> None:
    table = pyarrow.table({"a": [1, None], "b": [["x"], []], "c": [{"d": 1.5}, None], "z": pyarrow.nulls(2)})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    source = opened(tmp_path / "a.parquet")
    assert (source.found["format"], source.size) == ("PARQUET", (tmp_path / "a.parquet").stat().st_size)
    (chunk,) = source.chunks
    assert (chunk.data.to_pylist(), chunk.geometry, chunk.place) == (table.to_pylist(), {}, "a.parquet")
    assert source.position() == source.size


def test_a_file_without_rows_still_has_its_columns(tmp_path: Path) -> None:
    pyarrow.parquet.write_table(pyarrow.table({"a": pyarrow.array([], "int64")}), tmp_path / "a.parquet")
    (chunk,) = opened(tmp_path / "a.parquet").chunks
    assert (chunk.data.schema.names, len(chunk.data)) == (["a"], 0)


@pytest.mark.parametrize("content", [b"PAR1" + b"x" * 100 + b"PAR1", b"PAR1", b"x"])
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "broken.parquet").write_bytes(content)
    with pytest.raises(ValueError, match=r"broken\.parquet cannot be read as Parquet"):
        opened(tmp_path / "broken.parquet")


def test_damage_that_shows_late_is_named_too(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    table = pyarrow.table({"a": [f"{n:0100}" for n in range(10_000)]})
    pyarrow.parquet.write_table(table, path, use_dictionary=False)
    content = bytearray(path.read_bytes())
    content[1000:3000] = bytes(2000)
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.parquet cannot be read"):
        rows_of(opened(path))


def test_text_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    broken = pyarrow.array(["ok", b"\xff"], pyarrow.binary()).view(pyarrow.string())
    pyarrow.parquet.write_table(pyarrow.table({"a": broken}), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=r"a\.parquet: rows from 1 on: column a holds text that is not UTF-8"):
        rows_of(opened(tmp_path / "a.parquet"))


@pytest.mark.parametrize("epsg", [4326, 3857, 25830, 2193])
def test_a_file_of_geopandas_says_what_its_geometry_is(tmp_path: Path, epsg: int) -> None:
    frame = geopandas.GeoDataFrame({"n": [1]}, geometry=[MADRID], crs=4326)
    frame.to_crs(epsg).to_parquet(tmp_path / "a.parquet")
    (shape,) = shapes_of(opened(tmp_path / "a.parquet"), "geometry")
    assert (shape.x, shape.y) == pytest.approx((MADRID.x, MADRID.y), abs=1e-6)


@pytest.mark.parametrize(
    ("shape", "crs"),
    [
        (shapely.Point(1, 2), 4326),
        (shapely.LineString([(0, 0), (1, 1)]), 4326),
        (shapely.box(0, 0, 1, 1), 4326),
        (shapely.MultiPoint([(0, 0), (1, 1)]), 4326),
        (shapely.MultiLineString([[(0, 0), (1, 1)], [(2, 2), (3, 3)]]), 4326),
        (shapely.MultiPolygon([shapely.box(0, 0, 1, 1), shapely.box(2, 2, 3, 3)]), 4326),
    ],
)
def test_native_encodings_are_told_apart(tmp_path: Path, shape: shapely.Geometry, crs: int) -> None:
    frame = geopandas.GeoDataFrame({"n": [1, 2]}, geometry=[shape, None], crs=crs)
    frame.to_parquet(tmp_path / "a.parquet", geometry_encoding="geoarrow", schema_version="1.1.0")
    first, second = shapes_of(opened(tmp_path / "a.parquet"), "geometry")
    assert first.geom_type == shape.geom_type
    assert first.equals(shape)
    assert second is None


@pytest.mark.parametrize("version", ["0.1.0", "0.4.0", "1.0.0", "1.1.0"])
def test_all_versions_of_geoparquet_are_read(tmp_path: Path, version: str) -> None:
    frame = geopandas.GeoDataFrame({"n": [1]}, geometry=[MADRID], crs=4326).to_crs(25830)
    frame.to_parquet(tmp_path / "a.parquet", schema_version=version)
    (shape,) = shapes_of(opened(tmp_path / "a.parquet"), "geometry")
    assert (shape.x, shape.y) == pytest.approx((MADRID.x, MADRID.y), abs=1e-6)


def test_several_geometry_columns_have_each_their_own_system(tmp_path: Path) -> None:
    frame = geopandas.GeoDataFrame({"n": [1]}, geometry=[MADRID], crs=4326)
    frame["other"] = frame.geometry.to_crs(3857)
    frame.to_parquet(tmp_path / "a.parquet")
    for column in ("geometry", "other"):
        (shape,) = shapes_of(opened(tmp_path / "a.parquet"), column)
        assert (shape.x, shape.y) == pytest.approx((MADRID.x, MADRID.y), abs=1e-6)


@pytest.mark.parametrize("footer", [True, False])
def test_metadata_in_the_footer_alone_count(tmp_path: Path, footer: bool) -> None:
    path = geoparquet(tmp_path / "a.parquet", {"encoding": "WKB"}, footer=footer)
    assert shapes_of(opened(path), "at") == [MADRID, None]


def test_a_system_that_is_not_named_is_longitude_and_latitude(tmp_path: Path) -> None:
    (chunk,) = opened(geoparquet(tmp_path / "a.parquet", {"encoding": "WKB"})).chunks
    assert chunk.geometry == {"at": Geometry(None, "planar")}


def test_an_unknown_system_is_refused_unless_it_is_given(tmp_path: Path) -> None:
    path = geoparquet(tmp_path / "a.parquet", {"encoding": "WKB", "crs": None})
    with pytest.raises(ValueError, match=r"a\.parquet.*\bat\b.*crs="):
        opened(path)
    (chunk,) = opened(path, crs="EPSG:3857").chunks
    assert pyproj.CRS.from_user_input(chunk.geometry["at"].crs) == pyproj.CRS(3857)


@pytest.mark.parametrize("crs", ["EPSG:4326", 4326, "OGC:CRS84", pyproj.CRS(4326)])
def test_a_system_that_is_given_again_is_taken(tmp_path: Path, crs: Any) -> None:
    (chunk,) = opened(geoparquet(tmp_path / "a.parquet", {"encoding": "WKB"}), crs=crs).chunks
    assert set(chunk.geometry) == {"at"}


def test_a_system_that_contradicts_the_file_is_refused(tmp_path: Path) -> None:
    path = geoparquet(tmp_path / "a.parquet", {"encoding": "WKB"})
    with pytest.raises(ValueError, match=r"a\.parquet.*EPSG:4326.*EPSG:3857"):
        opened(path, crs="EPSG:3857")


def test_edges_are_those_of_the_file_unless_they_are_given(tmp_path: Path) -> None:
    path = geoparquet(tmp_path / "a.parquet", {"encoding": "WKB", "edges": "spherical"})
    assert next(opened(path).chunks).geometry["at"].edges == "spherical"
    assert next(opened(path, edges="planar").chunks).geometry["at"].edges == "planar"
    path = geoparquet(tmp_path / "b.parquet", {"encoding": "WKB", "edges": "loxodromic"})
    with pytest.raises(ValueError, match=r"b\.parquet.*loxodromic"):
        opened(path)


@pytest.mark.parametrize("geo", ["no JSON", "[]", '{"columns": 3}', '{"columns": {"at": 3}}', '"x"'])
def test_damaged_metadata_are_named(tmp_path: Path, geo: str) -> None:
    with pytest.raises(ValueError, match=r"a\.parquet has damaged metadata"):
        opened(geoparquet(tmp_path / "a.parquet", {}, geo=geo))


def test_metadata_of_a_column_that_was_left_out_do_no_harm(tmp_path: Path) -> None:
    geo = {"columns": {"gone": {"encoding": "WKB", "crs": None}}}
    assert len(rows_of(opened(geoparquet(tmp_path / "a.parquet", {}, geo=geo)))) == 2


def geoarrow(metadata: dict[str, Any]) -> pyarrow.Table:
    extension = {"ARROW:extension:name": "geoarrow.wkb", "ARROW:extension:metadata": json.dumps(metadata)}
    return pyarrow.table([[MADRID.wkb]], pyarrow.schema([pyarrow.field("at", "binary", metadata=extension)]))


def test_geoarrow_marks_geometry_too(tmp_path: Path) -> None:
    pyarrow.parquet.write_table(geoarrow({"crs": "EPSG:3857", "edges": "spherical"}), tmp_path / "a.parquet")
    (chunk,) = opened(tmp_path / "a.parquet").chunks
    assert chunk.geometry == {"at": Geometry("EPSG:3857", "spherical")}
    pyarrow.parquet.write_table(geoarrow({}), tmp_path / "b.parquet")
    with pytest.raises(ValueError, match=r"b\.parquet.*crs="):
        opened(tmp_path / "b.parquet")


class GeoArrow(pyarrow.ExtensionType):
    """What makes pyarrow write Parquet's own types GEOMETRY and GEOGRAPHY."""

    def __init__(self, metadata: str = "{}") -> None:
        self.metadata = metadata
        super().__init__(pyarrow.binary(), "geoarrow.wkb")

    def __arrow_ext_serialize__(self) -> bytes:
        return self.metadata.encode()

    @classmethod
    def __arrow_ext_deserialize__(cls, _: pyarrow.DataType, serialized: bytes) -> GeoArrow:
        return cls(serialized.decode())


@pytest.mark.parametrize(
    ("metadata", "crs", "edges"),
    [
        ('{"crs": "EPSG:3857"}', "EPSG:3857", "planar"),
        ("{}", None, "planar"),
        ('{"crs": "OGC:CRS84", "edges": "spherical"}', None, "spherical"),
    ],
)
@pytest.mark.parametrize("is_registered", [True, False])
def test_parquets_own_types_are_geometry(
    tmp_path: Path, metadata: str, crs: str | None, edges: str, is_registered: bool
) -> None:
    pyarrow.register_extension_type(GeoArrow())
    try:
        storage = pyarrow.array([MADRID.wkb, None])
        table = pyarrow.table({"at": pyarrow.ExtensionArray.from_storage(GeoArrow(metadata), storage)})
        pyarrow.parquet.write_table(table, tmp_path / "a.parquet", store_schema=False)
        if not is_registered:
            pyarrow.unregister_extension_type("geoarrow.wkb")
        source = opened(tmp_path / "a.parquet")
        (chunk,) = source.chunks
        assert chunk.geometry == {"at": Geometry(crs, edges)}
    finally:
        if is_registered:
            pyarrow.unregister_extension_type("geoarrow.wkb")


def test_rows_are_counted_over_the_whole_file(tmp_path: Path) -> None:
    table = pyarrow.table({"a": range(25_000)})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet", row_group_size=7_000)
    chunks = list(opened(tmp_path / "a.parquet").chunks)
    assert [chunk.first_row for chunk in chunks] == [1 + chunk.data["a"][0].as_py() for chunk in chunks]
    assert sum(len(chunk.data) for chunk in chunks) == 25_000


def test_wide_rows_come_in_small_chunks(tmp_path: Path) -> None:
    table = pyarrow.table({"a": [f"{n:0100000}" for n in range(1_000)]})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet", use_dictionary=False)
    assert max(chunk.data.nbytes for chunk in opened(tmp_path / "a.parquet").chunks) < 10_000_000


def test_a_large_row_group_takes_little_memory(tmp_path: Path) -> None:
    """The peak is that of a process of its own, above what it took before the file was opened."""
    import numpy

    path, rows = tmp_path / "a.parquet", 300_000
    noise = numpy.random.default_rng(1).bytes(rows * 500)
    table = pyarrow.table({"a": pyarrow.array([noise[n * 500 : (n + 1) * 500] for n in range(rows)])})
    pyarrow.parquet.write_table(table, path, row_group_size=rows, use_dictionary=False)
    code = f"""
import resource, pathlib, pyarrow.parquet, pyproj
from carto_auth_integrations.warehouse.options import LoadOptions
from carto_auth_integrations.warehouse.sources.parquet import open_parquet
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for chunk in open_parquet(pathlib.Path({str(path)!r}), "a", LoadOptions()).chunks: pass
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    output = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout

    assert path.stat().st_size > 150_000_000
    assert int(output) < 75_000, "kilobytes"


@pytest.mark.parametrize("compression", ["uncompressed", "lz4"])
def test_arrow_files_and_streams_are_read(tmp_path: Path, compression: str) -> None:
    table = pyarrow.table({"a": range(20_000), "b": ["x"] * 20_000})
    pyarrow.feather.write_feather(table, tmp_path / "a.feather", compression=compression)
    with pyarrow.ipc.new_stream(tmp_path / "b.arrows", table.schema) as writer:
        writer.write_table(table)
    for name in ("a.feather", "b.arrows"):
        source = open_arrow(tmp_path / name, name, LoadOptions())
        assert rows_of(source) == table.to_pylist()
        assert source.found["format"] == "ARROW"


def test_arrow_files_declare_geometry(tmp_path: Path) -> None:
    pyarrow.feather.write_feather(geoarrow({"crs": "EPSG:4326"}), tmp_path / "a.feather")
    (chunk,) = open_arrow(tmp_path / "a.feather", "a", LoadOptions()).chunks
    assert set(chunk.geometry) == {"at"}


@pytest.mark.parametrize("content", [b"ARROW1\0\0", b"\xff\xff\xff\xff\x10", b"nonsense"])
def test_damaged_arrow_files_are_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.arrow").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.arrow cannot be read as Arrow"):
        rows_of(open_arrow(tmp_path / "a.arrow", "a.arrow", LoadOptions()))


@pytest.mark.parametrize(
    ("values", "is_plain"),
    [
        (pyarrow.array([1, None]), True),
        (pyarrow.array([1.5]), True),
        (pyarrow.array(["x"]), True),
        (pyarrow.array([True]), True),
        (pyarrow.array([b"x"]), True),
        (pyarrow.array([1], "date32"), True),
        (pyarrow.array([1], pyarrow.timestamp("us", "UTC")), True),
        (pyarrow.array([1], pyarrow.timestamp("us")), False),
        (pyarrow.array([1], pyarrow.timestamp("ns", "UTC")), False),
        (pyarrow.array([1], "uint64"), False),
        (pyarrow.array([[1]]), False),
        (pyarrow.array([{"a": 1}]), False),
        (pyarrow.nulls(1), False),
        (pyarrow.array(["x"]).dictionary_encode(), False),
        (pyarrow.array([1], pyarrow.decimal128(5, 2)), False),
        (pyarrow.array([], "int64"), False),
    ],
)
def test_only_plain_types_go_as_they_are(tmp_path: Path, values: pyarrow.Array, is_plain: bool) -> None:
    pyarrow.parquet.write_table(pyarrow.table({"a": values}), tmp_path / "a.parquet")
    assert plain_columns(tmp_path / "a.parquet") == (["a"] if is_plain else [])


def test_geometry_never_goes_as_it_is(tmp_path: Path) -> None:
    assert plain_columns(geoparquet(tmp_path / "a.parquet", {"encoding": "WKB"}, footer=True)) == []
    pyarrow.parquet.write_table(geoarrow({"crs": "EPSG:4326"}), tmp_path / "b.parquet")
    assert plain_columns(tmp_path / "b.parquet") == []


def test_codecs_that_bigquery_does_not_read_are_written_anew(tmp_path: Path) -> None:
    pyarrow.parquet.write_table(pyarrow.table({"a": [1]}), tmp_path / "a.parquet", compression="brotli")
    assert plain_columns(tmp_path / "a.parquet") == []
