"""Geographic files of GDAL: layers, reference systems, times and encodings as the files say."""

from __future__ import annotations

import datetime
import json
import zipfile
from pathlib import Path
from typing import Any

import geopandas
import pandas
import pyogrio
import pytest
import shapely

from carto_auth_integrations.warehouse.options import LoadOptions
from carto_auth_integrations.warehouse.sources.base import Source
from carto_auth_integrations.warehouse.sources.geometry import convert
from carto_auth_integrations.warehouse.sources.vector import open_vector

MADRID, BERLIN = shapely.Point(-3.7038, 40.4168), shapely.Point(13.405, 52.52)
DRIVERS = {
    "a.gpkg": "GPKG",
    "a.shp": "ESRI Shapefile",
    "a.fgb": "FlatGeobuf",
    "a.kml": "KML",
    "a.kmz": "LIBKML",
    "a.tab": "MapInfo File",
    "a.mif": "MapInfo File",
    "a.gml": "GML",
    "a.gdb": "OpenFileGDB",
    "a.sqlite": "SQLite",
}


def frame_of(crs: Any = 4326, **columns: Any) -> geopandas.GeoDataFrame:
    return geopandas.GeoDataFrame({"name": ["ñ", "b"], **columns}, geometry=[MADRID, BERLIN], crs=crs)


def written(path: Path, frame: Any = None, layer: str | None = None, **more: Any) -> Path:
    frame = frame_of() if frame is None else frame
    pyogrio.write_dataframe(frame, path, driver=DRIVERS.get(path.name, "GPKG"), layer=layer, **more)
    return path


def opened(path: Path | str, **options: Any) -> Source:
    name = path.name if isinstance(path, Path) else "a.zip"
    return open_vector(path, name, LoadOptions(**options), 1000)


def rows_of(source: Source) -> list[dict[str, Any]]:
    """Return the rows, with shapely objects for the geometry."""
    rows = []
    for chunk in source.chunks:
        found = chunk.data.to_pylist()
        for column, meant in chunk.geometry.items():
            converted = convert(chunk.data.column(column), meant)
            assert not converted.defects
            for row, text in zip(found, converted.texts.to_pylist(), strict=True):
                row[column] = text and shapely.from_geojson(text)
        rows += found
    return rows


@pytest.mark.parametrize("name", DRIVERS)
def test_every_format_gives_names_and_places(tmp_path: Path, name: str) -> None:
    source = opened(written(tmp_path / name))
    (column,) = source.found["geometry"]
    rows = {row.get("name") or row["Name"]: row[column] for row in rows_of(source)}
    assert rows.keys() == {"ñ", "b"}
    for found, expected in [(rows["ñ"], MADRID), (rows["b"], BERLIN)]:
        assert (found.x, found.y) == pytest.approx((expected.x, expected.y), abs=1e-5)
    assert source.found["format"] == "VECTOR"
    assert source.position() == source.size


@pytest.mark.parametrize("epsg", [3857, 25830])
@pytest.mark.parametrize("name", ["a.gpkg", "a.shp", "a.fgb", "a.mif"])
def test_the_reference_system_is_that_of_the_file(tmp_path: Path, name: str, epsg: int) -> None:
    source = opened(written(tmp_path / name, frame_of().to_crs(epsg)))
    rows = {row["name"]: row[source.found["geometry"][0]] for row in rows_of(source)}
    assert (rows["ñ"].x, rows["ñ"].y) == pytest.approx((MADRID.x, MADRID.y), abs=1e-5)


def test_the_geometry_is_called_as_in_the_file_or_geom(tmp_path: Path) -> None:
    assert opened(written(tmp_path / "a.gpkg", geometry_name="place")).found["geometry"] == ["place"]
    assert opened(written(tmp_path / "a.shp")).found["geometry"] == ["geom"]
    source = opened(written(tmp_path / "a.fgb", frame_of(geom=["x", "y"])))
    assert source.found["geometry"] == ["geom_"]
    assert sorted(row["geom"] for row in rows_of(source)) == ["x", "y"]


@pytest.mark.parametrize("name", ["a.shp", "a.gpkg"])
def test_a_missing_reference_system_is_refused_unless_it_is_given(tmp_path: Path, name: str) -> None:
    path = written(tmp_path / name, frame_of(crs=None))
    with pytest.raises(ValueError, match=rf"{name}: layer a has no known reference system: pass crs="):
        opened(path)
    source = opened(path, crs="EPSG:4326")
    assert rows_of(source)[0][source.found["geometry"][0]] == MADRID


def test_a_reference_system_that_contradicts_the_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"a\.gpkg.*EPSG:4326.*EPSG:3857"):
        opened(written(tmp_path / "a.gpkg"), crs="EPSG:3857")


def test_several_layers_are_refused_with_their_names(tmp_path: Path) -> None:
    path = written(tmp_path / "a.gpkg", layer="shops")
    written(path, frame_of(n=[1, 2]), layer="parks", append=True)
    with pytest.raises(ValueError, match=r"a\.gpkg has several layers.*layer=.*shops, parks"):
        opened(path)
    source = opened(path, layer="parks")
    assert (source.found["layer"], [row["n"] for row in rows_of(source)]) == ("parks", [1, 2])
    with pytest.raises(ValueError, match=r"a\.gpkg has no layer nope.*shops, parks"):
        opened(path, layer="nope")


def test_the_only_layer_with_features_is_meant(tmp_path: Path) -> None:
    frame = geopandas.GeoDataFrame({"name": ["x"]}, geometry=[MADRID], crs=4326)
    pyogrio.write_dataframe(frame, tmp_path / "a.gpx", driver="GPX")
    source = opened(tmp_path / "a.gpx")  # which always has five layers
    assert source.found["layer"] == "waypoints"
    assert rows_of(source)[0]["name"] == "x"


def test_the_styles_that_qgis_keeps_in_a_geopackage_are_no_layer(tmp_path: Path) -> None:
    path = written(tmp_path / "a.gpkg", layer="shops")
    pyogrio.write_dataframe(pandas.DataFrame({"styleName": ["x"]}), path, layer="layer_styles", driver="GPKG")
    assert opened(path).found["layer"] == "shops"


def test_a_layer_without_geometry_is_a_table(tmp_path: Path) -> None:
    path = tmp_path / "a.gpkg"
    pyogrio.write_dataframe(pandas.DataFrame({"a": [1, 2]}), path, driver="GPKG")
    (chunk,) = opened(path).chunks
    assert (chunk.data.to_pylist(), chunk.geometry) == ([{"a": 1}, {"a": 2}], {})


def test_types_are_those_of_the_file(tmp_path: Path) -> None:
    columns = {
        "i": pandas.array([1, None], dtype="Int64"),
        "f": [1.5, None],
        "b": [True, False],
        "z": ["007", None],
        "big": [2**60, 1],
    }
    first, second = rows_of(opened(written(tmp_path / "a.gpkg", frame_of(**columns))))
    assert [first[name] for name in columns] == [1, 1.5, True, "007", 2**60]
    assert [second[name] for name in columns] == [None, None, False, None, 1]


@pytest.mark.parametrize("name", ["a.gpkg", "a.fgb"])
def test_times_keep_their_own_time_zones(tmp_path: Path, name: str) -> None:
    texts = ["2026-01-02T03:00:00.123+02:00", "2026-01-02T03:00:00-05:00"]
    times = pandas.Series([pandas.Timestamp(text) for text in texts], dtype=object)
    rows = rows_of(opened(written(tmp_path / name, frame_of(at=times))))
    assert {row["at"] for row in rows} == {datetime.datetime.fromisoformat(text) for text in texts}


@pytest.mark.parametrize("name", ["a.fgb", "a.tab", "a.gml"])
def test_times_without_a_time_zone_stay_without(tmp_path: Path, name: str) -> None:
    time = datetime.datetime(2026, 1, 2, 3, 4, 5)
    assert rows_of(opened(written(tmp_path / name, frame_of(at=[time, None]))))[0]["at"] in (time, None)


def test_times_with_and_without_a_time_zone_are_refused(tmp_path: Path) -> None:
    times = pandas.Series([pandas.Timestamp("2026-01-02T03:00:00+02:00"), pandas.Timestamp("2026-01-02")], dtype=object)
    path = tmp_path / "a.geojson"
    path.write_text(
        json.dumps(
            {
                "type": "FeatureCollection",
                "features": [{"type": "Feature", "properties": {"at": str(time)}, "geometry": None} for time in times],
            }
        )
    )
    with pytest.raises(ValueError, match=r"a\.geojson.*column at.*with a time zone and without"):
        rows_of(opened(path))


def test_dates_are_dates(tmp_path: Path) -> None:
    path = tmp_path / "a.geojson"
    path.write_text('{"type": "Feature", "properties": {"d": "2026-01-02"}, "geometry": null}')
    assert rows_of(opened(path))[0]["d"] == datetime.date(2026, 1, 2)


def test_a_key_column_that_the_file_names_is_loaded(tmp_path: Path) -> None:
    path = written(tmp_path / "a.gpkg", layer_options={"FID": "gid"})
    assert [row["gid"] for row in rows_of(opened(path))] == [1, 2]
    assert "fid" not in rows_of(opened(written(tmp_path / "b.gpkg")))[0]


def test_features_without_geometry_are_kept(tmp_path: Path) -> None:
    frame = geopandas.GeoDataFrame({"n": [1, 2]}, geometry=[MADRID, None], crs=4326)
    source = opened(written(tmp_path / "a.gpkg", frame))
    assert [row[source.found["geometry"][0]] for row in rows_of(source)] == [MADRID, None]


def test_altitudes_are_dropped(tmp_path: Path) -> None:
    frame = geopandas.GeoDataFrame({"n": [1]}, geometry=[shapely.Point(1, 2, 3)], crs=4326)
    assert rows_of(opened(written(tmp_path / "a.gpkg", frame)))[0]["geom"] == shapely.Point(1, 2)


@pytest.mark.parametrize("encoding", ["UTF-8", "ISO-8859-1", "CP1251"])
def test_a_shapefile_is_read_in_the_encoding_that_it_names(tmp_path: Path, encoding: str) -> None:
    text = "Привет" if encoding == "CP1251" else "ñandú"
    frame = geopandas.GeoDataFrame({"name": [text]}, geometry=[MADRID], crs=4326)
    path = written(tmp_path / "a.shp", frame, encoding=encoding)
    assert rows_of(opened(path))[0]["name"] == text


def test_an_encoding_that_is_given_is_stronger_than_the_one_of_a_shapefile(tmp_path: Path) -> None:
    frame = geopandas.GeoDataFrame({"name": ["Привет"]}, geometry=[MADRID], crs=4326)
    path = written(tmp_path / "a.shp", frame, encoding="CP1251")
    (tmp_path / "a.cpg").write_text("ISO-8859-1")
    assert rows_of(opened(path, encoding="CP1251"))[0]["name"] == "Привет"


def test_a_shapefile_that_names_no_encoding_is_read_as_utf_8_or_refused(tmp_path: Path) -> None:
    frame = geopandas.GeoDataFrame({"name": ["ñandú"]}, geometry=[MADRID], crs=4326)
    for encoding in ("UTF-8", "ISO-8859-1"):
        path = written(tmp_path / "a.shp", frame, encoding=encoding)
        (tmp_path / "a.cpg").unlink()
        if encoding == "UTF-8":
            assert rows_of(opened(path))[0]["name"] == "ñandú"
    with pytest.raises(ValueError, match=r"a\.shp: rows from 1 on: column name .*not UTF-8.*pass encoding="):
        rows_of(opened(path))
    assert rows_of(opened(path, encoding="ISO-8859-1"))[0]["name"] == "ñandú"


def test_a_shapefile_in_an_archive_is_read_there(tmp_path: Path) -> None:
    written(tmp_path / "a.shp")
    with zipfile.ZipFile(tmp_path / "my data.zip", "w") as archive:
        for part in tmp_path.glob("a.*"):
            archive.write(part, f"in side/{part.name}")
    source = opened(f"/vsizip/{{{tmp_path / 'my data.zip'}}}/in side/a.shp")
    assert [row["name"] for row in rows_of(source)] == ["ñ", "b"]


def test_a_file_that_only_points_to_another_one_is_refused(tmp_path: Path) -> None:
    source = written(tmp_path / "a.gpkg")
    path = tmp_path / "b.kml"
    path.write_text(
        f'<OGRVRTDataSource><OGRVRTLayer name="a"><SrcDataSource>{source}</SrcDataSource></OGRVRTLayer>'
        "</OGRVRTDataSource>"
    )
    with pytest.raises(ValueError, match=r"b\.kml only points to other sources"):
        opened(path)


def test_arcs_are_named_as_what_they_are(tmp_path: Path) -> None:
    path = tmp_path / "a.gml"
    path.write_text(
        '<ogr:FeatureCollection xmlns:ogr="http://ogr.maptools.org/" xmlns:gml="http://www.opengis.net/gml">'
        '<gml:featureMember><ogr:a gml:id="a.1"><ogr:geometryProperty><gml:Curve srsName="EPSG:4326"><gml:segments>'
        "<gml:Arc><gml:posList>0 0 1 1 2 0</gml:posList></gml:Arc></gml:segments></gml:Curve></ogr:geometryProperty>"
        "</ogr:a></gml:featureMember></ogr:FeatureCollection>"
    )
    source = opened(path)
    (chunk,) = source.chunks
    ((column, meant),) = chunk.geometry.items()
    assert "CIRCULARSTRING" in convert(chunk.data.column(column), meant).defects[0].upper()


@pytest.mark.parametrize("name", ["a.gpkg", "a.shp", "a.kml", "a.fgb", "a.tab"])
def test_a_damaged_file_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"nonsense")
    with pytest.raises(ValueError, match=rf"{name} cannot be read as a geographic file"):
        opened(tmp_path / name)


def test_a_truncated_file_is_named(tmp_path: Path) -> None:
    frame = geopandas.GeoDataFrame({"n": range(5000)}, geometry=[MADRID.buffer(1)] * 5000, crs=4326)
    path = written(tmp_path / "a.fgb", frame)
    path.write_bytes(path.read_bytes()[:-100_000])
    with pytest.raises(ValueError, match=r"a\.fgb"):
        rows_of(opened(path))


def test_large_shapes_come_in_small_chunks(tmp_path: Path) -> None:
    shape = MADRID.buffer(1, quad_segs=10_000)
    path = written(tmp_path / "a.gpkg", geopandas.GeoDataFrame({"n": range(100)}, geometry=[shape] * 100, crs=4326))
    source = open_vector(path, "a.gpkg", LoadOptions(), path.stat().st_size)
    chunks = list(source.chunks)
    assert max(chunk.data.nbytes for chunk in chunks) < 20_000_000
    assert [chunk.first_row for chunk in chunks] == [1 + chunk.data["n"][0].as_py() for chunk in chunks]
