"""Files: told by their content, read as what they are, and errors that name the file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import geopandas
import pyarrow
import pyarrow.parquet
import pytest
import shapely
from shapely.geometry import Point

from carto_auth_integrations.warehouse.sources.files import format_of, geojson_batches, geoparquet_batches
from carto_auth_integrations.warehouse.sources.rows import bigquery_schema

MADRID = Point(-3.7038, 40.4168)
CONTENT = {"CSV": b"a,b\n1,2\n", "JSON": b'{"a": 1}\n', "GEOJSON": b"{}", "PARQUET": b"PAR1....", "AVRO": b"Obj\x01..."}


def written(path: Path, content: bytes | str) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def feature(at: Any = MADRID, **properties: Any) -> dict[str, Any]:
    return {"type": "Feature", "properties": properties, "geometry": at and json.loads(shapely.to_geojson(at))}


def collection(*features: Any, **more: Any) -> str:
    return json.dumps({"type": "FeatureCollection", "features": features, **more})


def rows_of(batches: Any) -> list[dict[str, Any]]:
    return [row for batch in batches.stream for row in batch.to_pylist()]


def rows_or_message(read: Callable[[], Any]) -> list[dict[str, Any]] | str:
    """Give the rows, or what is said against them: of some bad input both would do, and only silence would not."""
    try:
        return rows_of(read())
    except ValueError as error:
        return str(error)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.csv", "CSV"),
        ("a.CSV", "CSV"),
        ("a.tsv", "CSV"),
        ("a.json", "JSON"),
        ("a.jsonl", "JSON"),
        ("a.ndjson", "JSON"),
        ("a.b.geojson", "GEOJSON"),
        ("a.parquet", "PARQUET"),
        ("a.geoparquet", "PARQUET"),
        ("a.avro", "AVRO"),
    ],
)
def test_the_name_tells_the_format(tmp_path: Path, name: str, expected: str) -> None:
    assert format_of(written(tmp_path / name, CONTENT[expected])) == expected


def test_a_format_that_is_given_is_stronger_than_the_name(tmp_path: Path) -> None:
    assert format_of(written(tmp_path / "data.txt", CONTENT["CSV"]), "csv") == "CSV"
    assert format_of(written(tmp_path / "data.json", CONTENT["GEOJSON"]), "GEOJSON") == "GEOJSON"


@pytest.mark.parametrize("name", ["nothing.csv", "."])
def test_a_file_that_is_not_there_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(FileNotFoundError, match=str(tmp_path)):
        format_of(tmp_path / name)


@pytest.mark.parametrize("name", ["empty.csv", "empty.parquet", "empty.geojson"])
def test_an_empty_file_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=rf"{name} is empty"):
        format_of(written(tmp_path / name, b""))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", b"PAR1...."),
        ("a.json", b"Obj\x01..."),
        ("a.parquet", b"a,b\n1,2\n"),
        ("a.parquet", b"Obj\x01..."),
        ("a.avro", b'{"a": 1}'),
        ("a.geojson", b"PK\x03\x04..."),
        ("a.csv", b"\x1f\x8b..."),
    ],
)
def test_a_file_of_another_format_than_its_name_is_named_with_both(tmp_path: Path, name: str, content: bytes) -> None:
    with pytest.raises(ValueError, match=rf"{name} is not {name[2:].upper()}"):
        format_of(written(tmp_path / name, content))


@pytest.mark.parametrize("name", ["a.xlsx", "a", "a.gpkg"])
def test_an_unknown_format_is_an_error_that_says_what_there_is(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=r"unknown format.*\.parquet"):
        format_of(written(tmp_path / name, b"x"))


def test_a_format_that_is_given_and_unknown_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="unknown format"):
        format_of(written(tmp_path / "a.csv", b"x"), "XLSX")


def test_features_become_rows_with_their_geometry(tmp_path: Path) -> None:
    path = written(tmp_path / "a.geojson", collection(feature(name="x", n=1), feature(None, name="y", n=2)))
    batches = geojson_batches(path)
    assert [field["type"] for field in bigquery_schema(batches)] == ["STRING", "INTEGER", "GEOGRAPHY"]
    first, second = rows_of(batches)
    assert shapely.from_wkt(first["geom"]) == MADRID
    assert second == {"name": "y", "n": 2, "geom": None}


def test_mixed_geometry_and_properties_that_only_some_features_have_are_taken(tmp_path: Path) -> None:
    path = written(tmp_path / "a.geojson", collection(feature(a=1), feature(MADRID.buffer(1), b="x")))
    first, second = rows_of(geojson_batches(path))
    assert (first["a"], first["b"], second["a"], second["b"]) == (1, None, None, "x")
    assert [shapely.from_wkt(row["geom"]).geom_type for row in (first, second)] == ["Point", "Polygon"]


def test_features_line_by_line_are_read_without_the_file_in_memory(tmp_path: Path) -> None:
    lines = "\n".join(json.dumps(feature(n=number)) for number in range(3)) + "\n\n"
    for name in ("a.geojson", "a.geojsonl"):
        assert [row["n"] for row in rows_of(geojson_batches(written(tmp_path / name, lines)))] == [0, 1, 2]


def test_a_broken_line_is_named_with_its_number(tmp_path: Path) -> None:
    path = written(tmp_path / "a.geojsonl", json.dumps(feature(n=1)) + '\n{"type": \n')
    with pytest.raises(ValueError, match=rf"{path.name}.*\b2\b"):
        rows_of(geojson_batches(path))


@pytest.mark.parametrize(
    "content",
    [
        "no JSON",
        "[]",
        "{}",
        '{"type": "FeatureCollection"}',
        '{"type": "FeatureCollection", "features": 3}',
        '{"type": "FeatureCollection", "features": [',
        '{"type": "Topology", "objects": {}}',
        b"\xff\xfe\x00",
    ],
)
def test_a_file_that_is_no_geojson_is_named(tmp_path: Path, content: bytes | str) -> None:
    path = written(tmp_path / "a.geojson", content)
    with pytest.raises(ValueError, match=path.name):
        rows_of(geojson_batches(path))


@pytest.mark.parametrize(
    "bad",
    [
        {"type": "Nonsense", "coordinates": [1, 2]},
        {"type": "Point"},
        {"type": "Point", "coordinates": "x"},
        {"type": "Polygon", "coordinates": [[[0, 0]]]},
        {"coordinates": [1, 2]},
        [1, 2],
        "POINT(1 2)",
    ],
)
def test_a_feature_with_a_bad_geometry_is_named_by_its_number(tmp_path: Path, bad: Any) -> None:
    path = written(
        tmp_path / "a.geojson", collection(feature(), {"type": "Feature", "properties": {}, "geometry": bad})
    )
    with pytest.raises(ValueError, match=rf"{path.name}.*feature 2\b"):
        rows_of(geojson_batches(path))


@pytest.mark.parametrize("bad", [3, None, {"type": "Point", "coordinates": [1, 2]}, []])
def test_an_item_that_is_no_feature_is_named_by_its_number(tmp_path: Path, bad: Any) -> None:
    path = written(tmp_path / "a.geojson", collection(feature(), bad))
    with pytest.raises(ValueError, match=rf"{path.name}.*item 2\b"):
        rows_of(geojson_batches(path))


def test_a_collection_without_features_says_so(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no rows"):
        geojson_batches(written(tmp_path / "a.geojson", collection()))


def test_a_property_called_like_the_geometry_column_is_kept_as_it_is(tmp_path: Path) -> None:
    path = written(tmp_path / "a.geojson", collection(feature(geom="the tall one"), feature(geom=None)))
    batches = geojson_batches(path)
    kinds = {field["name"]: field["type"] for field in bigquery_schema(batches)}
    first, _ = rows_of(batches)
    assert kinds == {"geom": "STRING", "geom_": "GEOGRAPHY"}
    assert (first["geom"], shapely.from_wkt(first["geom_"])) == ("the tall one", MADRID)


def test_geojson_in_another_system_is_not_taken_for_longitude_and_latitude(tmp_path: Path) -> None:
    crs = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::3857"}}
    path = written(tmp_path / "a.geojson", collection(feature(Point(-412305.1, 4926678.0)), crs=crs))
    outcome = rows_or_message(lambda: geojson_batches(path))
    if isinstance(outcome, str):
        assert "3857" in outcome
    else:
        assert shapely.from_wkt(outcome[0]["geom"]).x == pytest.approx(MADRID.x, abs=1e-3)


def test_geojson_that_names_longitude_and_latitude_is_taken(tmp_path: Path) -> None:
    crs = {"type": "name", "properties": {"name": "urn:ogc:def:crs:OGC:1.3:CRS84"}}
    (row,) = rows_of(geojson_batches(written(tmp_path / "a.geojson", collection(feature(), crs=crs))))
    assert shapely.from_wkt(row["geom"]) == MADRID


def frame_of(**fields: Any) -> geopandas.GeoDataFrame:
    return geopandas.GeoDataFrame({"n": [1]}, geometry=[MADRID], crs=4326, **fields)


@pytest.mark.parametrize("epsg", [4326, 3857, 25830, 2193])
def test_geoparquet_says_itself_what_its_geometry_is(tmp_path: Path, epsg: int) -> None:
    frame_of().to_crs(epsg).to_parquet(tmp_path / "a.parquet")
    batches = geoparquet_batches(tmp_path / "a.parquet")
    assert batches is not None
    assert [field["type"] for field in bigquery_schema(batches)] == ["INTEGER", "GEOGRAPHY"]
    (row,) = rows_of(batches)
    point = shapely.from_wkt(row["geometry"])
    assert (point.x, point.y) == pytest.approx((MADRID.x, MADRID.y), abs=1e-6)


def geoparquet(path: Path, crs: Any = ...) -> Path:
    column = {"encoding": "WKB", "geometry_types": []} | ({} if crs is ... else {"crs": crs})
    geo = {"version": "1.1.0", "primary_column": "at", "columns": {"at": column}}
    table = pyarrow.table({"at": [MADRID.wkb, None]}).replace_schema_metadata({"geo": json.dumps(geo)})
    pyarrow.parquet.write_table(table, path)
    return path


def test_geoparquet_that_names_no_system_is_in_longitude_and_latitude(tmp_path: Path) -> None:
    first, second = rows_of(geoparquet_batches(geoparquet(tmp_path / "a.parquet")))
    assert (shapely.from_wkt(first["at"]), second["at"]) == (MADRID, None)


def test_geoparquet_whose_system_is_said_to_be_unknown_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"a\.parquet|\bat\b"):
        geoparquet_batches(geoparquet(tmp_path / "a.parquet", crs=None))


def test_plain_parquet_is_left_to_bigquery(tmp_path: Path) -> None:
    pyarrow.parquet.write_table(pyarrow.table({"x": [1]}), tmp_path / "a.parquet")
    assert geoparquet_batches(tmp_path / "a.parquet") is None


def test_broken_parquet_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"broken\.parquet"):
        geoparquet_batches(written(tmp_path / "broken.parquet", b"PAR1" + b"x" * 100 + b"PAR1"))


def test_geoparquet_whose_geometry_is_no_wkb_names_the_column(tmp_path: Path) -> None:
    frame_of().to_parquet(tmp_path / "a.parquet", geometry_encoding="geoarrow")
    outcome = rows_or_message(lambda: geoparquet_batches(tmp_path / "a.parquet"))
    if isinstance(outcome, str):
        assert "geometry" in outcome
    else:
        assert shapely.from_wkt(outcome[0]["geometry"]) == MADRID


def test_geoparquet_is_read_a_part_at_a_time(tmp_path: Path) -> None:
    rows = 200_000
    geopandas.GeoDataFrame({"n": range(rows)}, geometry=[MADRID] * rows, crs=4326).to_parquet(tmp_path / "a.parquet")
    batches = geoparquet_batches(tmp_path / "a.parquet")
    assert batches is not None
    assert next(batches.stream).num_rows < rows
