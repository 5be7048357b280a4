"""Geography in load jobs: BigQuery's rules in front of the emulator."""

from __future__ import annotations

import io
import json

import pytest

bigquery = pytest.importorskip("google.cloud.bigquery")
pa = pytest.importorskip("pyarrow")
shapely = pytest.importorskip("shapely")

from tests.support.sandbox_loads import Loaded, Refused, lists  # noqa: E402 - after the check that it is there

SCHEMA = [bigquery.SchemaField("geom", "GEOGRAPHY")]
SQUARE = "POLYGON((0 0,1 0,1 1,0 1,0 0))"
CLOCKWISE = "POLYGON((0 0,0 1,1 1,1 0,0 0))"

GOOD = {
    "wkt": SQUARE,
    "wkt in lower case": "point(1 2)",
    "wkt with blanks around it": "  POINT (1 2) ",
    "hexadecimal wkb": shapely.to_wkb(shapely.Point(1, 2), hex=True),
    "big-endian wkb": shapely.to_wkb(shapely.Point(1, 2), hex=True, byte_order=0),
    "geojson": '{"type": "Point", "coordinates": [1, 2]}',
    "geojson of any winding": json.dumps(
        {"type": "Polygon", "coordinates": [[[0, 0], [0, 1], [1, 1], [1, 0], [0, 0]]]}
    ),
    "a clockwise hole": "POLYGON((0 0,3 0,3 3,0 3,0 0),(1 1,1 2,2 2,2 1,1 1))",
    "across the antimeridian": "POLYGON((170 0,-170 0,-170 10,170 10,170 0))",
    "round the north pole": "POLYGON((0 80,120 80,-120 80,0 80))",
    "the poles": "MULTIPOINT((0 90),(0 -90))",
    "an empty collection": "GEOMETRYCOLLECTION EMPTY",
    "the globe": "fullglobe",
    "an open line": "LINESTRING(0 0,1 1,1 0)",
    "a line that crosses itself": "LINESTRING(0 0,1 1,1 0,0 1)",
}

BAD = {
    "a clockwise shell": (CLOCKWISE, "orientation"),
    "a clockwise shell in wkb": (shapely.to_wkb(shapely.from_wkt(CLOCKWISE), hex=True), "orientation"),
    "a clockwise part": (f"MULTIPOLYGON(((5 5,6 5,6 6,5 6,5 5)),{CLOCKWISE[7:]})", "orientation"),
    "a clockwise polygon of a collection": (f"GEOMETRYCOLLECTION(POINT(1 2),{CLOCKWISE})", "orientation"),
    "a hole that runs like the shell": ("POLYGON((0 0,3 0,3 3,0 3,0 0),(1 1,2 1,2 2,1 2,1 1))", "hole"),
    "round the north pole, westward": ("POLYGON((0 80,-120 80,120 80,0 80))", "orientation"),
    "edges that cross": ("POLYGON((0 0,1 1,1 0,0 1,0 0))", "Edge 0 crosses edge 2"),
    "edges that cross, in geojson": (
        '{"type":"Polygon","coordinates":[[[0,0],[1,1],[1,0],[0,1],[0,0]]]}',
        "Edge 0 crosses edge 2",
    ),
    "a vertex twice": ("POLYGON((0 0,2 0,1 1,2 2,0 2,1 1,0 0))", "duplicate vertex"),
    "a hole outside": ("POLYGON((0 0,1 0,1 1,0 1,0 0),(5 5,5 6,6 6,6 5,5 5))", "Invalid nesting"),
    "an open ring": ("POLYGON((0 0,1 0,1 1,0 1))", "not closed"),
    "an open ring in geojson": ('{"type":"Polygon","coordinates":[[[0,0],[1,0],[1,1],[0,1]]]}', "not closed"),
    "three points": ("POLYGON((0 0,1 0,0 0))", "at least 4"),
    "z": ("POINT Z(1 2 3)", "Z or M"),
    "z without saying so": ("POINT(1 2 3)", "not a valid"),
    "m": ("LINESTRING M(0 0 1,1 1 2)", "Z or M"),
    "z in wkb": (shapely.to_wkb(shapely.Point(1, 2, 3), hex=True, flavor="iso"), "Z or M"),
    "z in geojson": ('{"type":"Point","coordinates":[1,2,3]}', "Z or M"),
    "ewkt": ("SRID=4326;POINT(1 2)", "EWKT"),
    "ewkb": (shapely.to_wkb(shapely.set_srid(shapely.Point(1, 2), 4326), hex=True, include_srid=True), "EWKB"),
    "latitude": ("POINT(1 90.5)", "Latitude"),
    "latitude in geojson": ('{"type":"LineString","coordinates":[[1,2],[1,-91]]}', "Latitude"),
    "longitude": ("LINESTRING(0 0,181 0)", "Longitude"),
    "a feature": ('{"type":"Feature","geometry":null,"properties":{}}', "not a"),
    "text": ("Madrid", "not a valid"),
    "nothing": ("", "not a valid"),
}


@pytest.mark.parametrize("text", GOOD.values(), ids=GOOD)
def test_geography_is_loaded_from(loader, text):
    loaded = loader.load([{"geom": text}, {"geom": None}], schema=SCHEMA)
    assert isinstance(loaded, Loaded), loaded
    assert loaded.columns == ["geom GEOGRAPHY NULLABLE"]
    assert loaded.rows[1] == (None,)


@pytest.mark.parametrize(("text", "why"), BAD.values(), ids=BAD)
def test_a_job_fails_over(loader, text, why):
    table = loader.new_table()
    refused = loader.load([{"geom": "POINT(1 2)"}, {"geom": text}], schema=SCHEMA, table=table)
    assert isinstance(refused, Refused)
    assert (refused.status, refused.reason) == (400, "invalid")
    assert "Row 2" in refused.message
    assert why in refused.message
    assert not loader.has_table(table)


def test_each_format_says_it_in_its_own_words(loader):
    assert "Could not convert JSON value to geography" in loader.load([{"geom": CLOCKWISE}], schema=SCHEMA).message
    assert "Could not parse 'POLYGON" in loader.load(f'"{CLOCKWISE}"\n', "CSV", SCHEMA).message
    binary = pa.table({"geom": [shapely.to_wkb(shapely.from_wkt(CLOCKWISE))]})
    assert "Invalid geography value" in loader.load(binary, schema=SCHEMA).message


def test_csv_and_parquet_take_every_form(loader):
    geojson = '{"type": "Point", "coordinates": [1, 2]}'
    forms = ["POINT(1 2)", shapely.to_wkb(shapely.Point(1, 2), hex=True), geojson]
    quoted = "".join('"{}"\n'.format(form.replace('"', '""')) for form in forms)
    assert loader.load(quoted, "CSV", SCHEMA).rows == [("POINT(1 2)",)] * 3
    assert loader.load(pa.table({"geom": forms}), schema=SCHEMA).rows == [("POINT(1 2)",)] * 3
    binary = pa.table({"geom": [shapely.to_wkb(shapely.Point(1, 2)), None]})
    assert loader.load(binary, schema=SCHEMA).rows == [("POINT(1 2)",), (None,)]


def test_geography_in_arrays_and_records_is_checked_too(loader):
    schema = [
        bigquery.SchemaField("all", "GEOGRAPHY", "REPEATED"),
        bigquery.SchemaField("one", "RECORD", "REPEATED", fields=[bigquery.SchemaField("at", "GEOGRAPHY")]),
    ]
    row = {"all": ["POINT(1 2)", SQUARE], "one": [{"at": "POINT(3 4)"}, {"at": None}]}
    assert loader.load([row], schema=schema).rows[0][1] == [{"at": "POINT(3 4)"}, {"at": None}]
    assert "field all" in loader.load([{"all": ["POINT(1 2)", CLOCKWISE]}], schema=schema).message.replace(
        "Field: ", "field "
    )
    assert "one.at" in loader.load([{"one": [{"at": "POINT(1 2)"}, {"at": "POINT(1 91)"}]}], schema=schema).message


def test_functions_of_geography_work_on_what_was_loaded(loader):
    table = loader.new_table()
    loader.load(
        [{"geom": '{"type":"Polygon","coordinates":[[[0,0],[0,1],[1,1],[1,0],[0,0]]]}'}], schema=SCHEMA, table=table
    )
    (row,) = loader.client.query_and_wait(f"SELECT ST_AREA(geom), ST_NUMPOINTS(geom) FROM `{table}`")
    assert row[0] == pytest.approx(1.236e10, rel=0.01)
    assert row[1] == 5


def test_without_a_schema_geography_is_text(loader):
    assert loader.load(pa.table({"geom": [CLOCKWISE]})).columns == ["geom STRING NULLABLE"]
    assert loader.load("geom,n\nPOINT(1 2),1\n", "CSV", autodetect=True).columns[0] == "geom STRING NULLABLE"


def geoparquet(shape, **column):
    metadata = {
        "version": "1.1.0",
        "primary_column": "geom",
        "columns": {"geom": {"encoding": "WKB", "geometry_types": [], **column}},
    }
    table = pa.table({"n": [1], "geom": [shapely.to_wkb(shape)]})
    return table.replace_schema_metadata({"geo": json.dumps(metadata)})


def test_geoparquet_makes_geography_by_itself(loader):
    loaded = loader.load(geoparquet(shapely.box(0, 0, 1, 1), edges="spherical"))
    assert loaded.columns == ["n INTEGER NULLABLE", "geom GEOGRAPHY NULLABLE"]


def test_geoparquet_is_oriented_unless_its_edges_are_planar(loader):
    clockwise = shapely.box(0, 0, 1, 1, ccw=False)
    assert "orientation" in loader.load(geoparquet(clockwise)).message
    assert "orientation" in loader.load(geoparquet(clockwise, edges="spherical")).message
    assert isinstance(loader.load(geoparquet(clockwise, edges="planar")), Loaded)
    assert "crosses" in loader.load(geoparquet(shapely.from_wkt(BAD["edges that cross"][0]), edges="planar")).message


def test_geoparquet_of_another_crs_or_encoding_fails(loader):
    mercator = {"id": {"authority": "EPSG", "code": 3857}}
    assert "CRS" in loader.load(geoparquet(shapely.Point(1, 2), crs=mercator)).message
    assert "CRS" in loader.load(geoparquet(shapely.Point(1, 2), crs=None)).message
    degrees = {"id": {"authority": "EPSG", "code": 4326}}
    assert isinstance(loader.load(geoparquet(shapely.Point(1, 2), crs=degrees)), Loaded)
    assert "encoding" in loader.load(geoparquet(shapely.Point(1, 2), encoding="point")).message


def test_a_geodataframe_in_geoparquet_is_loaded(loader):
    geopandas = pytest.importorskip("geopandas")
    file = io.BytesIO()
    geopandas.GeoDataFrame({"n": [1]}, geometry=[shapely.box(0, 0, 1, 1)], crs=4326).to_parquet(file)
    assert loader.load(file.getvalue(), "PARQUET").columns[1] == "geometry GEOGRAPHY NULLABLE"


FEATURE = {"type": "Feature", "id": "a", "geometry": {"type": "Point", "coordinates": [1, 2]}, "properties": {"n": 7}}


def test_features_become_rows(loader):
    loaded = loader.load([FEATURE, {**FEATURE, "geometry": None}], json_extension="GEOJSON", autodetect=True)
    assert set(loaded.columns) == {"id STRING NULLABLE", "n INTEGER NULLABLE", "geometry GEOGRAPHY NULLABLE"}
    schema = [bigquery.SchemaField(*each) for each in (("n", "INT64"), ("id", "STRING"), ("geometry", "GEOGRAPHY"))]
    assert loader.load([FEATURE], schema=schema, json_extension="GEOJSON").rows == [(7, "a", "POINT(1 2)")]


@pytest.mark.parametrize(
    "document",
    [
        {"type": "FeatureCollection", "features": [FEATURE]},
        FEATURE["geometry"],
        [FEATURE],
        {**FEATURE, "properties": {"geometry": 1}},
    ],
)
def test_only_one_feature_a_line_is_geojson(loader, document):
    refused = loader.load(json.dumps(document), "NEWLINE_DELIMITED_JSON", json_extension="GEOJSON", autodetect=True)
    assert (refused.status, refused.reason) == (400, "invalid")


def test_arrays_of_geography_come_from_parquet_lists(loader):
    schema = [bigquery.SchemaField("geoms", "GEOGRAPHY", "REPEATED")]
    table = pa.table({"geoms": [["POINT(1 2)", "POINT(3 4)"], []]})
    assert loader.load(table, schema=schema, parquet_options=lists()).rows == [(["POINT(1 2)", "POINT(3 4)"],), ([],)]
