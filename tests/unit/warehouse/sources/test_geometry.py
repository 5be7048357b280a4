"""Geometry: which forms are read, what arrives of them, and what is refused by which words."""

from __future__ import annotations

import datetime
import json
import math
import struct
from decimal import Decimal
from pathlib import Path

import numpy
import pandas
import pyarrow
import pyogrio
import pyproj
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely.geometry import Point, mapping

from carto_auth_integrations.warehouse.sources.base import Geometry
from carto_auth_integrations.warehouse.sources.geometry import Unreadable, convert, metadata_crs, points

POINT = Point(-122.4, 37.8)
COUNTRIES = Path(pyogrio.__file__).parent / "tests/fixtures/naturalearth_lowres/naturalearth_lowres.shp"
UNIT_SQUARE = shapely.box(0, 0, 1, 1)
BOW_TIE = "POLYGON ((0 0, 10 10, 10 0, 0 10, 0 0))"
POINT_TEXT = '{"type":"Point","coordinates":[-122.4,37.8]}'


def one(value, crs=None, edges="planar", **options):
    """Return the text of a value that converts."""
    converted = convert([value], Geometry(crs, edges), **options)
    assert not converted.defects
    return converted.texts[0].as_py()


def defect(value, crs=None, edges="planar", **options):
    """Return why a value does not convert; it has no text then."""
    converted = convert([value], Geometry(crs, edges), **options)
    assert converted.texts.to_pylist() == [None]
    return converted.defects[0]


def shapes_of(array, **options):
    converted = convert(array, Geometry(), **options)
    assert not converted.defects
    return [None if text is None else shapely.from_geojson(text).wkt for text in converted.texts.to_pylist()]


class GeoObject:
    def __init__(self, interface):
        self.__geo_interface__ = interface


class TestForms:
    @pytest.mark.parametrize(
        "value",
        [
            POINT,
            Point(-122.4, 37.8, 12),
            GeoObject(mapping(POINT)),
            GeoObject({"type": "Feature", "properties": {}, "geometry": mapping(POINT)}),
            mapping(POINT),
            {"type": "Point", "coordinates": (Decimal("-122.4"), numpy.float64(37.8))},
            {"type": "Point", "coordinates": numpy.array([-122.4, 37.8])},
            {"type": "Point", "coordinates": [-122.4, 37.8, 5, 6]},
            {"type": "Point", "coordinates": [-122.4, 37.8], "bbox": [-122.4, 37.8, -122.4, 37.8], "crs": None},
            POINT.wkb,
            bytearray(POINT.wkb),
            memoryview(POINT.wkb),
            shapely.to_wkb(POINT, byte_order=0),
            shapely.to_wkb(Point(-122.4, 37.8, 1), flavor="iso"),
            shapely.to_wkb(Point(-122.4, 37.8, 1), flavor="extended"),
            shapely.to_wkb(shapely.set_srid(POINT, 4326), include_srid=True),
            POINT.wkb_hex,
            POINT.wkb_hex.lower(),
            f"\\x{POINT.wkb_hex}",
            f"0x{POINT.wkb_hex}",
            POINT.wkb_hex.encode(),
            POINT.wkt,
            POINT.wkt.encode(),
            " point(-122.4 37.8)\n",
            "POINT Z (-122.4 37.8 9)",
            "POINT M (-122.4 37.8 9)",
            "POINT ZM (-122.4 37.8 9 9)",
            "SRID=4326;POINT (-122.4 37.8)",
            "srid=0; POINT (-122.4 37.8)",
            POINT_TEXT,
            '{"type": "Feature", "properties": {"a": 1}, "geometry": ' + POINT_TEXT + "}",
        ],
        ids=lambda value: repr(value)[:40],
    )
    def test_a_point_in_any_form_becomes_the_same_text(self, value):
        assert one(value) == POINT_TEXT

    @pytest.mark.parametrize(
        "wkt",
        [
            "POINT (1 2)",
            "LINESTRING (0 0, 1 1)",
            "POLYGON ((0 0, 4 0, 4 4, 0 4, 0 0), (1 1, 1 2, 2 2, 1 1))",
            "MULTIPOINT ((1 1), (2 2))",
            "MULTILINESTRING ((0 0, 1 1), (2 2, 3 3))",
            "MULTIPOLYGON (((0 0, 1 0, 1 1, 0 0)), ((2 2, 3 2, 3 3, 2 2)))",
            "GEOMETRYCOLLECTION (POINT (1 2), GEOMETRYCOLLECTION (LINESTRING (0 0, 1 1)))",
        ],
    )
    def test_all_seven_types_arrive_from_every_form(self, wkt):
        shape = shapely.from_wkt(wkt)
        forms = [shape, mapping(shape), shape.wkb, shape.wkb_hex, wkt, shapely.to_geojson(shape)]
        converted = convert(forms, Geometry())
        assert not converted.defects
        assert {shapely.from_geojson(text).wkt for text in converted.texts.to_pylist()} == {wkt}

    def test_null_in_any_form_stays_null(self):
        nulls = [None, math.nan, pandas.NA, {"type": "Feature", "geometry": None}, '{"type":"Feature","geometry":null}']
        converted = convert(nulls, Geometry())
        assert converted.texts.null_count == len(nulls)
        assert not converted.defects
        assert converted.bounds is None

    def test_a_ring_alone_arrives_as_a_line(self):
        ring = shapely.LinearRing([(0, 0), (1, 0), (1, 1)])
        assert shapely.from_geojson(one(ring)).wkt == "LINESTRING (0 0, 1 0, 1 1, 0 0)"
        assert one(ring, edges="spherical") == "LINESTRING (0 0, 1 0, 1 1, 0 0)"

    @pytest.mark.parametrize(
        ("value", "said"),
        [
            ("POINT(1", "is not WKT, WKB or GeoJSON: 'POINT(1'"),
            ("", "is not WKT, WKB or GeoJSON: ''"),
            ("POINT (1 2) and more", "is not WKT, WKB or GeoJSON: 'POINT (1 2) and more'"),
            (b"\xff\xfe", "is not WKT, WKB or GeoJSON: 'fffe'"),
            (b"", "is not WKT, WKB or GeoJSON: ''"),
            (POINT.wkb[:-1], f"is not WKT, WKB or GeoJSON: '{POINT.wkb[:-1].hex()}'"),
            ("01010000", "is not WKT, WKB or GeoJSON: '01010000'"),
            ({"type": "Point"}, 'is not WKT, WKB or GeoJSON: \'{"type": "Point"}\''),
            ({"type": "Point", "coordinates": ["1", "2"]}, "is not WKT, WKB or GeoJSON"),
            ({"type": "Point", "coordinates": [None, 2]}, "is not WKT, WKB or GeoJSON"),
            ({"type": "Point", "coordinates": [True, 2]}, "is not WKT, WKB or GeoJSON"),
            ({"type": "Point", "coordinates": [datetime.date(2026, 1, 1), 2]}, "is not a GeoJSON geometry"),
            ({"type": "Circle", "coordinates": [1, 2]}, "is not WKT, WKB or GeoJSON"),
            ({}, "is not WKT, WKB or GeoJSON: '{}'"),
            ('{"type":"Feature","geometry":[1]}', "is a GeoJSON feature whose geometry is no object: [1]"),
            ('{"type":"FeatureCollection","features":[]}', "is a FeatureCollection, not one geometry"),
            ({"type": "FeatureCollection", "features": []}, "is a FeatureCollection, not one geometry"),
            (5, "is a value of the type int, not a geometry: 5"),
            ((1.0, 2.0), "is a value of the type tuple, not a geometry: (1.0, 2.0)"),
            (Unreadable("is odd"), "is odd"),
        ],
        ids=lambda value: repr(value)[:40],
    )
    def test_a_value_that_is_no_geometry_is_named(self, value, said):
        assert defect(value).startswith(said)

    def test_at_most_sixty_characters_of_a_value_are_shown(self):
        assert defect("z" * 1000) == f"is not WKT, WKB or GeoJSON: '{'z' * 59}…'"

    @pytest.mark.parametrize(
        ("value", "kind"),
        [
            ("CIRCULARSTRING (0 0, 1 1, 2 0)", "CIRCULARSTRING"),
            ("COMPOUNDCURVE ((0 0, 1 1), CIRCULARSTRING (1 1, 2 2, 3 1))", "COMPOUNDCURVE"),
            ("CURVEPOLYGON Z EMPTY", "CURVEPOLYGON"),
            ("TIN (((0 0, 1 0, 1 1, 0 0)))", "TIN"),
            ("POLYHEDRALSURFACEZ (((0 0 0, 1 0 0, 1 1 0, 0 0 0)))", "POLYHEDRALSURFACE"),
            (struct.pack("<BII", 1, 8, 0), "CIRCULARSTRING"),
            (struct.pack(">BII", 0, 1016, 0), "TIN"),
            (struct.pack("<BII", 1, 0x80000000 | 12, 0).hex(), "MULTISURFACE"),
        ],
    )
    def test_types_that_bigquery_lacks_are_named_beside_values_that_arrive(self, value, kind):
        converted = convert([value, POINT.wkt, POINT.wkb], Geometry())
        assert converted.defects == {
            0: f"is a {kind}, which BigQuery does not have: linearise it to points, lines or polygons"
        }
        assert converted.texts.to_pylist() == [None, POINT_TEXT, POINT_TEXT]

    @pytest.mark.parametrize("levels", [101, 20_000])
    def test_collections_in_collections_do_not_end_the_process(self, levels):
        wkb = struct.pack("<BII", 1, 7, 1) * levels + POINT.wkb
        values = [
            "GEOMETRYCOLLECTION (" * levels + POINT.wkt + ")" * levels,
            '{"type":"GeometryCollection","geometries":[' * levels + POINT_TEXT + "]}" * levels,
            wkb,
            wkb.hex(),
        ]
        said = "has more than 100 levels of collections inside each other: take them apart"
        assert convert(values, Geometry()).defects == dict.fromkeys(range(4), said)
        assert convert(pyarrow.array([wkb, POINT.wkb]), Geometry()).defects == {0: said}

    def test_a_collection_of_many_parts_is_not_deep(self):
        shape = shapely.GeometryCollection([shapely.GeometryCollection([POINT])] * 200)
        assert not convert([shape, shape.wkt, shape.wkb, mapping(shape), shapely.to_geojson(shape)], Geometry()).defects

    def test_one_list_may_mix_all_forms_and_keeps_their_order(self):
        values = [
            "POINT (0 0)",
            None,
            Point(1, 1),
            "nothing",
            Point(2, 2).wkb,
            mapping(Point(3, 3)),
            Point(4, 4).wkb_hex,
        ]
        converted = convert(values, Geometry())
        found = [text and json.loads(text)["coordinates"][0] for text in converted.texts.to_pylist()]
        assert found == [0, None, 1, None, 2, 3, 4]
        assert list(converted.defects) == [3]
        assert converted.bounds == (0, 0, 4, 4)


class TestArrow:
    WKB = (POINT.wkb, None, Point(1, 2).wkb)
    WKT = (POINT.wkt, None, "POINT (1 2)")

    VIEWS = ("binary_view", "string_view")  # from pyarrow 16 on

    @pytest.mark.parametrize(
        "array",
        [
            *(
                pyarrow.array(values, getattr(pyarrow, kind)())
                for kind, values in zip(VIEWS, (WKB, WKT), strict=True)
                if hasattr(pyarrow, kind)
            ),
            pyarrow.array(WKB),
            pyarrow.array(WKB, pyarrow.large_binary()),
            pyarrow.array(WKB, pyarrow.binary(21)),
            pyarrow.array(WKB).dictionary_encode(),
            pyarrow.chunked_array([WKB[:1], WKB[1:]]),
            pyarrow.array([None, *WKB]).slice(1),
            pyarrow.array(WKT),
            pyarrow.array(WKT, pyarrow.large_string()),
            pyarrow.array(WKT).dictionary_encode(),
            pyarrow.array([POINT.wkt.encode(), None, Point(1, 2).wkb]),
            pyarrow.array([mapping(POINT), None, mapping(Point(1, 2))]),
        ],
        ids=lambda array: str(array.type),
    )
    def test_columns_of_bytes_text_and_geojson_are_read(self, array):
        assert shapes_of(array) == ["POINT (-122.4 37.8)", None, "POINT (1 2)"]

    def test_a_column_of_nulls_has_no_geometry(self):
        assert shapes_of(pyarrow.nulls(2)) == [None, None]

    def test_an_empty_column_is_read(self):
        for array in ([], pyarrow.array([], pyarrow.binary()), pyarrow.array([], pyarrow.string())):
            for edges in ("planar", "spherical"):
                assert len(convert(array, Geometry("EPSG:3857", edges)).texts) == 0

    def test_values_that_fail_are_named_by_their_index(self):
        array = pyarrow.array([POINT.wkb, b"\x01\x01", None, struct.pack("<BII", 1, 8, 0)])
        assert list(convert(array, Geometry()).defects) == [1, 3]

    def test_a_column_of_numbers_holds_no_geometry(self):
        assert convert(pyarrow.array([1]), Geometry()).defects[0].startswith("is a value of the type int")

    COORDINATES = pyarrow.struct([("x", pyarrow.float64()), ("y", pyarrow.float64())])

    @staticmethod
    def nested(shape, levels, point=COORDINATES, size=2):
        kind = point
        for _ in range(levels):
            kind = pyarrow.list_(kind)

        def plain(item, level):
            if level:
                return [plain(part, level - 1) for part in item]
            if pyarrow.types.is_struct(point):
                return dict(zip("xyzm", [*item, 7, 8][: point.num_fields], strict=False))
            return [*item, 7, 8][:size]

        return pyarrow.array(
            [None if one is None else plain(mapping(one)["coordinates"], levels) for one in shape], kind
        )

    @pytest.mark.parametrize("points_as", ["struct", "struct with z", "struct with z and m", "list", "list of 3"])
    @pytest.mark.parametrize(
        ("encoding", "levels", "wkt"),
        [
            ("point", 0, "POINT (1 2)"),
            ("linestring", 1, "LINESTRING (0 0, 1 1, 2 0)"),
            ("multipoint", 1, "MULTIPOINT ((0 0), (1 1))"),
            ("polygon", 2, "POLYGON ((0 0, 4 0, 4 4, 0 4, 0 0), (1 1, 1 2, 2 2, 1 1))"),
            ("multilinestring", 2, "MULTILINESTRING ((0 0, 1 1), (2 2, 3 3))"),
            ("multipolygon", 3, "MULTIPOLYGON (((0 0, 1 0, 1 1, 0 0)), ((2 2, 3 2, 3 3, 2 2)))"),
        ],
    )
    def test_native_encodings_are_read(self, encoding, levels, wkt, points_as):
        number = pyarrow.float64()
        point, size = {
            "struct": (self.COORDINATES, 2),
            "struct with z": (pyarrow.struct([(name, number) for name in "xyz"]), 2),
            "struct with z and m": (pyarrow.struct([(name, number) for name in "xyzm"]), 2),
            "list": (pyarrow.list_(number, 2), 2),
            "list of 3": (pyarrow.list_(number, 3), 3),
        }[points_as]
        shape = shapely.from_wkt(wkt)
        array = self.nested([None, shape, None, shape, shape], levels, point, size).slice(1)
        assert shapes_of(array, encoding=encoding) == [wkt, None, wkt, wkt]

    @pytest.mark.parametrize("encoding", ["multipoint", "wkb", "wkt"])
    def test_an_extension_type_names_its_encoding(self, encoding):
        shape = shapely.from_wkt("MULTIPOINT ((0 0), (1 1))")
        written = {"multipoint": self.nested([shape], 1), "wkb": pyarrow.array([shape.wkb])}
        storage = written.get(encoding, pyarrow.array([shape.wkt]))

        class GeoArrow(pyarrow.ExtensionType):
            def __init__(self):
                super().__init__(storage.type, f"geoarrow.{encoding}")

            def __arrow_ext_serialize__(self):
                return b""

            @classmethod
            def __arrow_ext_deserialize__(cls, storage_type, serialized):
                return cls()

        assert shapes_of(pyarrow.ExtensionArray.from_storage(GeoArrow(), storage)) == [shape.wkt]

    def test_the_names_of_list_items_tell_the_encoding(self):
        kind = pyarrow.list_(pyarrow.field("points", self.COORDINATES))
        array = pyarrow.array([[{"x": 0.0, "y": 0.0}, {"x": 1.0, "y": 1.0}]], kind)
        assert shapes_of(array) == ["MULTIPOINT ((0 0), (1 1))"]

    def test_lists_that_may_be_lines_or_points_are_refused(self):
        array = self.nested([shapely.from_wkt("LINESTRING (0 0, 1 1)")], 1)
        with pytest.raises(ValueError, match="may be of several types of geometry: name the type"):
            convert(array, Geometry())
        with pytest.raises(ValueError, match="but are not polygon"):
            convert(array, Geometry(), encoding="polygon")

    @pytest.mark.parametrize("kind", [pyarrow.list_(pyarrow.int64()), pyarrow.struct([("a", pyarrow.int8())])])
    def test_other_nested_types_are_refused(self, kind):
        with pytest.raises(ValueError, match="does not hold geometry that can be read: write it as WKB"):
            convert(pyarrow.nulls(1, kind), Geometry())

    def test_native_values_with_a_defect_are_named_and_the_others_arrive(self):
        good, empty = [[[0, 0], [1, 0], [1, 1], [0, 0]]], []
        rows = [good, [[[0, 0], [1, 0], [1, 1], [2, 2]]], None, empty, [[[0, 0], [1, 1]]], good]
        array = pyarrow.array(rows, pyarrow.list_(pyarrow.list_(pyarrow.list_(pyarrow.float64(), 2))))
        converted = convert(array, Geometry(), encoding="polygon")
        assert {index: reason.split(":")[0] for index, reason in converted.defects.items()} == {
            1: "has a ring that is not closed",
            4: "has a ring that is not closed",
        }
        assert [text is not None for text in converted.texts.to_pylist()] == [True, False, False, True, False, True]

    def test_native_points_of_nan_are_empty(self):
        array = pyarrow.array([{"x": math.nan, "y": math.nan}, {"x": 1.0, "y": 2.0}], self.COORDINATES)
        assert shapes_of(array) == ["GEOMETRYCOLLECTION EMPTY", "POINT (1 2)"]


class TestCoordinates:
    @settings(max_examples=200, deadline=None)
    @given(st.floats(-180, 180), st.floats(-90, 90))
    def test_coordinates_arrive_exactly(self, lon, lat):
        shape = Point(lon, lat)
        for value in (shape, shape.wkb, mapping(shape), f"POINT ({lon!r} {lat!r})", json.dumps(mapping(shape))):
            assert json.loads(one(value))["coordinates"] == [lon, lat]
            wkt = one(value, edges="spherical")
            assert [float(number) for number in wkt.removeprefix("POINT (")[:-1].split()] == [lon, lat]

    @pytest.mark.parametrize("lon", [0.1 + 0.2, 1 / 3, 5e-324, 1e-7, -122.41941550000001, 179.99999999999997, 1e-17])
    def test_awkward_numbers_arrive_exactly(self, lon):
        assert json.loads(one(Point(lon, 0)))["coordinates"][0] == lon
        assert float(one(Point(lon, 0), edges="spherical")[7:].split()[0]) == lon

    @pytest.mark.parametrize(
        ("x", "y", "cause"),
        [
            (553_000, 4_183_000, "if they are metres or feet, name the reference system with crs="),
            (37.8, -122.4, "latitude and longitude seem to be exchanged; longitude comes first"),
            (237.6, 37.8, "longitudes go from -180 to 180, so subtract 360 from those above 180"),
            (180.001, 0, "longitudes go from -180 to 180, so subtract 360 from those above 180"),
            (-190, 5, "correct them, or name the reference system with crs="),
            (0, 90.001, "latitude and longitude seem to be exchanged"),
        ],
    )
    def test_coordinates_off_the_map_are_named_with_the_likely_cause(self, x, y, cause):
        said = defect(f"LINESTRING (1 1, {x} {y})")
        assert said.startswith(f"has the coordinates {x} {y}, beyond longitude and latitude: {cause}")

    def test_the_noise_of_computations_at_the_edge_of_the_map_is_cut_off(self):
        assert json.loads(one("POINT (180.0000000001 -90.0000000001)"))["coordinates"] == [180, -90]
        assert "beyond longitude" in defect("POINT (180.00000001 0)")

    @pytest.mark.parametrize(
        "value",
        [
            "POINT (inf 1)",
            Point(math.nan, 1),
            Point(math.nan, math.nan),
            {"type": "Point", "coordinates": [math.nan, 1]},
            '{"type":"Point","coordinates":[1e400,1]}',
            shapely.to_wkb(shapely.LineString([(0, 0), (math.inf, 1)])),
        ],
        ids=str,
    )
    def test_numbers_that_are_not_finite_are_named(self, value, recwarn):
        assert defect(value).startswith("has a coordinate that is not a finite number")
        assert not recwarn.list

    def test_altitudes_and_measures_are_dropped(self):
        assert one("LINESTRING ZM (0 0 1 2, 1 1 3 4)", edges="spherical") == "LINESTRING (0 0, 1 1)"
        assert one("POINT Z (1 2 nan)", edges="spherical") == "POINT (1 2)"

    @pytest.mark.parametrize(
        "wkt",
        [
            "POINT EMPTY",
            "POINT Z EMPTY",
            "LINESTRING EMPTY",
            "POLYGON EMPTY",
            "MULTIPOLYGON EMPTY",
            "GEOMETRYCOLLECTION EMPTY",
        ],
    )
    def test_an_empty_geometry_becomes_an_empty_collection(self, wkt):
        assert one(wkt) == '{"type":"GeometryCollection","geometries":[]}'
        assert one(shapely.from_wkt(wkt).wkb, edges="spherical") == "GEOMETRYCOLLECTION EMPTY"

    @pytest.mark.parametrize(
        ("wkt", "kept"),
        [
            ("MULTIPOLYGON (EMPTY, ((0 0, 1 0, 1 1, 0 0)))", "MULTIPOLYGON (((0 0, 1 0, 1 1, 0 0)))"),
            (
                "GEOMETRYCOLLECTION (POINT EMPTY, GEOMETRYCOLLECTION EMPTY, POINT (1 2))",
                "GEOMETRYCOLLECTION (POINT (1 2))",
            ),
        ],
    )
    def test_empty_parts_are_left_out(self, wkt, kept):
        assert shapely.from_geojson(one(wkt)).wkt == kept
        assert one(wkt, edges="spherical") == kept


class TestSystems:
    UTM = pyproj.Transformer.from_crs("EPSG:4326", "EPSG:32610", always_xy=True).transform(-122.4, 37.8)

    @pytest.mark.parametrize(
        "crs",
        [
            None,
            4326,
            "EPSG:4326",
            "epsg:4326",
            "OGC:CRS84",
            "urn:ogc:def:crs:OGC:1.3:CRS84",
            "urn:ogc:def:crs:OGC::CRS84",
            "urn:ogc:def:crs:EPSG::4326",
            "http://www.opengis.net/def/crs/OGC/1.3/CRS84",
            "+proj=longlat +datum=WGS84 +no_defs",
            pyproj.CRS("EPSG:4326"),
            pyproj.CRS("EPSG:4326").to_wkt("WKT1_ESRI"),
            pyproj.CRS("OGC:CRS84").to_json_dict(),
            pyproj.CRS("EPSG:4326").to_json(),
        ],
        ids=lambda crs: str(crs)[:40],
    )
    def test_longitude_and_latitude_by_any_name_change_no_number(self, crs):
        assert one(Point(0.1 + 0.2, 1 / 3), crs) == one(Point(0.1 + 0.2, 1 / 3))
        assert one("SRID=4326;POINT (1 2)", crs) == one("POINT (1 2)")

    @pytest.mark.parametrize(
        "crs",
        [
            32610,
            "EPSG:32610",
            "urn:ogc:def:crs:EPSG::32610",
            "+proj=utm +zone=10 +datum=WGS84",
            pyproj.CRS("EPSG:32610"),
            pyproj.CRS("EPSG:32610").to_wkt(),
            pyproj.CRS("EPSG:32610").to_json_dict(),
        ],
        ids=lambda crs: str(crs)[:40],
    )
    def test_a_reference_system_in_any_form_is_converted(self, crs):
        lon, lat = json.loads(one(Point(self.UTM), crs))["coordinates"]
        assert (lon, lat) == pytest.approx((-122.4, 37.8), abs=1e-9)

    def test_systems_whose_axes_are_latitude_first_are_read_as_x_and_y(self):
        lon, lat = json.loads(one("POINT (-122.4 37.8)", "EPSG:4269"))["coordinates"]
        assert (lon, lat) == pytest.approx((-122.4, 37.8), abs=1e-4)

    @pytest.mark.parametrize("crs", ["nope", "EPSG:99999", 99999, "", {"a": 1}, 5.5, object()])
    def test_an_unknown_reference_system_is_refused(self, crs):
        with pytest.raises(ValueError, match=r"Unknown reference system .*: use a code such as EPSG:4326\."):
            convert(["POINT (1 1)"], Geometry(crs))

    @pytest.mark.parametrize(
        "crs",
        [
            'LOCAL_CS["Undefined Cartesian", UNIT["metre", 1]]',
            'ENGCRS["Plan",EDATUM["Hall"],CS[Cartesian,2],AXIS["x",east],AXIS["y",north],LENGTHUNIT["metre",1]]',
            "IAU_2015:30100",  # the Moon
        ],
    )
    def test_a_system_that_is_nowhere_on_earth_is_refused(self, crs):
        with pytest.raises(ValueError, match=r"reference system .* (cannot be converted|use a code)"):
            convert(["POINT (1 1)"], Geometry(crs))

    @pytest.mark.parametrize("crs", [None, "EPSG:32610"])
    def test_the_srid_of_a_value_is_honoured(self, crs):
        utm = shapely.set_srid(Point(self.UTM), 32610)
        member = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32610"}}
        values = [
            utm,
            shapely.to_wkb(utm, include_srid=True),
            shapely.to_wkb(utm, include_srid=True, hex=True),
            f"SRID=32610;{utm.wkt}",
            {**mapping(utm), "crs": member},
            {"type": "Feature", "geometry": mapping(utm), "crs": member},
            json.dumps({**mapping(utm), "crs": member}),
            *([POINT] if crs is None else [Point(self.UTM)]),
        ]
        converted = convert(values, Geometry(crs))
        assert not converted.defects
        for text in converted.texts.to_pylist():
            assert json.loads(text)["coordinates"] == pytest.approx((-122.4, 37.8), abs=1e-7)

    def test_srids_of_one_column_may_differ_in_arrow_too(self):
        wkb = [
            shapely.to_wkb(shapely.set_srid(Point(self.UTM), 32610), include_srid=True),
            shapely.to_wkb(shapely.set_srid(Point(111319.49079327357, 0), 102100), include_srid=True),
            POINT.wkb,
        ]
        found = [json.loads(text)["coordinates"] for text in convert(pyarrow.array(wkb), Geometry()).texts.to_pylist()]
        assert found[0] == pytest.approx((-122.4, 37.8), abs=1e-9)
        assert found[1] == pytest.approx((1, 0), abs=1e-9)
        assert found[2] == [-122.4, 37.8]

    @pytest.mark.parametrize(("srid", "crs"), [(32610, "EPSG:4326"), (4326, "EPSG:32610"), (32611, "EPSG:32610")])
    def test_an_srid_that_contradicts_the_column_is_named(self, srid, crs):
        assert defect(f"SRID={srid};POINT (1 1)", crs) == (
            f"has the SRID {srid}, but the column is in {crs}: set either right"
        )

    def test_unknown_srids_and_members_are_named(self):
        assert defect("SRID=99999;POINT (1 1)") == "has the SRID 99999, which is not known: convert it to EPSG:4326"
        for crs in ({"type": "name", "properties": {"name": "moon"}}, {"type": "link"}, "EPSG:4326"):
            assert defect({**mapping(POINT), "crs": crs}).startswith("names a reference system that is not known: ")

    def test_what_cannot_be_converted_is_named_and_the_rest_arrives(self):
        converted = convert([Point(1e9, 1e9), Point(self.UTM)], Geometry("EPSG:32610"))
        assert converted.defects == {
            0: "cannot be converted from EPSG:32610, which ends before 1000000000 1000000000: "
            "check the reference system"
        }
        assert converted.texts[1].is_valid

    @pytest.mark.parametrize(
        ("crs", "wkt"),
        [
            ("EPSG:32632", "LINESTRING (200000 5000000, 800000 5600000)"),
            ("EPSG:3035", "LINESTRING (3000000 2000000, 6000000 2500000, 5000000 4500000)"),
            ("EPSG:3857", "LINESTRING (-8000000 -5000000, 8000000 5000000)"),
            ("EPSG:3857", "LINESTRING (-13692000 6275000, -10575000 6275000)"),
            (
                "EPSG:2154",
                "POLYGON ((100000 6100000, 1200000 6100000, 1200000 7100000, 100000 7100000, 100000 6100000))",
            ),
        ],
    )
    def test_long_edges_stay_where_they_are(self, crs, wkt):
        source = shapely.from_wkt(wkt)
        arrived = shapely.from_geojson(one(wkt, crs))
        dense = shapely.get_coordinates(shapely.segmentize(source, source.length / 5000))
        meant = shapely.points(*pyproj.Transformer.from_crs(crs, "EPSG:4326", always_xy=True).transform(*dense.T))
        line = arrived if arrived.geom_type == "LineString" else arrived.exterior
        assert shapely.distance(meant, line).max() * 111_320 < 2

    def test_neighbours_get_the_same_vertices_on_their_common_border(self):
        left = "POLYGON ((200000 5000000, 500000 5000000, 550000 5400000, 200000 5400000, 200000 5000000))"
        right = "POLYGON ((550000 5400000, 500000 5000000, 900000 5000000, 900000 5400000, 550000 5400000))"
        converted = convert([left, right], Geometry("EPSG:32632"))
        one_side, other = (shapely.from_geojson(text) for text in converted.texts.to_pylist())
        border = shapely.intersection(one_side, other)
        assert border.length > 3
        assert border.area == 0
        assert shapely.intersection(one_side.exterior, other.exterior).length == pytest.approx(border.length)

    def test_edges_that_need_no_vertices_get_none(self):
        assert len(json.loads(one("LINESTRING (0 0, 0 5000000)", "EPSG:3857"))["coordinates"]) == 2
        assert one("LINESTRING (200000 5000000, 800000 5600000)", "EPSG:32632", "spherical").count(",") == 1

    @pytest.mark.parametrize(
        ("crs", "wkt"),
        [
            (
                "EPSG:3413",
                "POLYGON ((-100000 -100000, 100000 -100000, 100000 100000, -100000 100000, -100000 -100000))",
            ),
            ("EPSG:3832", "LINESTRING (3000000 0, 3500000 100000)"),
        ],
    )
    def test_edges_across_180_degrees_in_another_system_are_refused(self, crs, wkt):
        assert defect(wkt, crs) == (
            f"has an edge in {crs} that crosses 180 degrees of longitude: split it there, "
            'or load with edges="spherical"'
        )


class TestValidity:
    DEFECTS = (
        (BOW_TIE, "crosses itself at 5 5 (Self-intersection)"),
        (
            "POLYGON ((0 0, 10 0, 10 10, 5 0, 0 10, 0 0))",
            "has a ring that touches itself at 5 0 (Ring Self-intersection)",
        ),
        (
            "POLYGON ((0 0, 10 0, 10 10, 0 10, 0 0), (20 20, 21 20, 21 21, 20 20))",
            "has a hole outside of its shell at 20 20 (Hole lies outside shell)",
        ),
        (
            "POLYGON ((0 0, 10 0, 10 10, 0 10, 0 0), (1 1, 9 1, 9 9, 1 9, 1 1), (2 2, 3 2, 3 3, 2 2))",
            "has a hole inside another hole at 2 2 (Holes are nested)",
        ),
        (
            "POLYGON ((0 0, 10 0, 10 10, 0 10, 0 0), (0 5, 5 0, 10 5, 5 10, 0 5))",
            "has holes that cut it apart at 5 0 (Interior is disconnected)",
        ),
        (
            "MULTIPOLYGON (((0 0, 10 0, 10 10, 0 10, 0 0)), ((1 1, 2 1, 2 2, 1 2, 1 1)))",
            "has a polygon inside another one of its polygons at 1 1 (Nested shells)",
        ),
        ("POLYGON ((0 0, 10 0, 10 10, 0 10, 0 0), (0 0, 10 0, 10 10, 0 10, 0 0))", "crosses itself at"),
        ("MULTIPOLYGON (((0 0, 1 0, 1 1, 0 0)), ((0 0, 1 0, 1 1, 0 0)))", "crosses itself at"),
        ("GEOMETRYCOLLECTION (POINT (1 1), POLYGON ((0 0, 2 2, 2 0, 0 2, 0 0)))", "crosses itself at 1 1"),
    )

    @pytest.mark.parametrize(("wkt", "said"), DEFECTS)
    @pytest.mark.parametrize("edges", ["planar", "spherical"])
    def test_an_invalid_polygon_is_named_with_place_and_next_step(self, wkt, said, edges):
        found = defect(wkt, edges=edges)
        assert found.startswith(said)
        assert found.endswith('correct it, or load with invalid_geometry="repair"')

    @pytest.mark.parametrize(("wkt", "_said"), DEFECTS)
    @pytest.mark.parametrize("edges", ["planar", "spherical"])
    def test_repair_makes_it_valid_and_tells_the_areas(self, wkt, _said, edges):
        converted = convert(["POINT (1 1)", wkt], Geometry(edges=edges), repair=True)
        assert not converted.defects
        text = converted.texts[1].as_py()
        shape = shapely.from_geojson(text) if edges == "planar" else shapely.from_wkt(text)
        assert shape.is_valid
        assert shapely.get_dimensions(shape) == 2
        assert list(converted.repaired) == [1]
        before, after = converted.repaired[1]
        assert before >= 0
        assert after > 1e9

    def test_the_areas_of_a_repair_are_square_metres_on_the_ellipsoid(self):
        spike = "POLYGON ((0 0, 1 0, 1 1, 0 1, 0 0, 0.5 0.5, 0 0))"
        before, after = convert([spike], Geometry(), repair=True).repaired[0]
        square = pyproj.Geod(ellps="WGS84").geometry_area_perimeter(UNIT_SQUARE)[0]
        assert (before, after) == pytest.approx((square, square))

    @pytest.mark.parametrize(
        "value",
        [
            "POLYGON ((0 0, 1 0, 1 1))",
            {"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1]]]},
            {"type": "MultiPolygon", "coordinates": [[[[0, 0], [1, 0], [1, 1]]]]},
            '{"type": "Polygon", "coordinates": [[[0, 0, 5], [1, 0, 5], [1, 1, 5]]]}',
            struct.pack("<BIII6d", 1, 3, 1, 3, 0, 0, 1, 0, 1, 1),
            struct.pack("<BIII6d", 1, 3, 1, 3, 0, 0, 1, 0, 1, 1).hex(),
            GeoObject({"type": "Polygon", "coordinates": (((0, 0), (1, 0), (1, 1)),)}),
        ],
        ids=lambda value: repr(value)[:40],
    )
    def test_an_open_ring_is_named_and_repair_closes_it(self, value):
        assert defect(value).startswith("has a ring that is not closed: repeat its first point at the end")
        converted = convert([value], Geometry(edges="spherical"), repair=True)
        assert converted.texts[0].as_py() in ("POLYGON ((0 0, 1 0, 1 1, 0 0))", "MULTIPOLYGON (((0 0, 1 0, 1 1, 0 0)))")
        before, after = converted.repaired[0]
        assert before == after > 0

    @pytest.mark.parametrize("repair", [False, True])
    @pytest.mark.parametrize(
        "wkt",
        [
            "LINESTRING (1 1)",
            "LINESTRING (1 1, 1 1)",
            "LINESTRING Z (1 1 0, 1 1 5)",
            "POLYGON ((0 0, 0 0, 0 0, 0 0))",
            "POLYGON ((0 0, 1 0, 0 0))",
            "POLYGON ((0 0, 1 1, 2 2, 0 0))",
        ],
    )
    def test_what_has_collapsed_is_refused_even_if_it_is_to_be_repaired(self, wkt, repair):
        assert defect(wkt, repair=repair)

    def test_repair_drops_the_part_that_has_collapsed(self):
        wkt = "MULTILINESTRING ((0 0, 1 1), (2 2, 2 2))"
        assert "too few different points at 2 2" in defect(wkt)
        assert shapely.from_geojson(one(wkt, repair=True)).wkt == "LINESTRING (0 0, 1 1)"

    def test_repeated_points_are_dropped(self):
        converted = convert(["POLYGON ((0 0, 0 0, 1 0, 1 0, 1 1, 0 0))", "LINESTRING (0 0, 0 0, 1 1)"], Geometry())
        assert [shapely.from_geojson(text).wkt for text in converted.texts.to_pylist()] == [
            "POLYGON ((0 0, 1 0, 1 1, 0 0))",
            "LINESTRING (0 0, 1 1)",
        ]
        assert not converted.repaired

    def test_valid_geometry_is_not_touched_by_repair(self):
        wkt = "POLYGON ((0 0, 0 4, 4 4, 4 0, 0 0), (1 1, 1 2, 2 2, 1 1))"
        converted = convert([wkt], Geometry(), repair=True)
        assert shapely.from_geojson(converted.texts[0].as_py()).wkt == wkt
        assert not converted.repaired


class TestEdges:
    def test_planar_edges_go_as_geojson_and_geodesic_ones_as_wkt(self):
        wkt = "LINESTRING (-123 49, -95 49)"
        assert one(wkt) == '{"type":"LineString","coordinates":[[-123.0,49.0],[-95.0,49.0]]}'
        assert one(wkt, edges="spherical") == wkt

    @pytest.mark.parametrize("turned", [True, False])
    def test_geodesic_shells_are_counter_clockwise_and_holes_clockwise(self, turned):
        shell, hole = [(0, 0), (4, 0), (4, 4), (0, 4), (0, 0)], [(1, 1), (1, 2), (2, 2), (1, 1)]
        polygon = shapely.Polygon(shell[::-1] if turned else shell, [hole[::-1] if turned else hole])
        for shape in (polygon, shapely.MultiPolygon([polygon]), shapely.GeometryCollection([polygon, POINT])):
            arrived = shapely.from_wkt(one(shape, edges="spherical"))
            part = arrived if shape is polygon else arrived.geoms[0]
            assert part.exterior.is_ccw
            assert not part.interiors[0].is_ccw
            assert part.equals(polygon)

    @pytest.mark.parametrize("turned", [True, False])
    def test_a_geodesic_polygon_across_180_degrees_is_the_small_one(self, turned):
        """On the map it looks clockwise if it goes east first: 170 is west of -170."""
        east_first = [(170, -10), (-170, -10), (-170, 10), (170, 10), (170, -10)]
        hole_west_first = [(175, -5), (175, 5), (-175, 5), (-175, -5), (175, -5)]
        step = -1 if turned else 1
        polygon = shapely.Polygon(east_first[::step], [hole_west_first[::step]])
        arrived = shapely.from_wkt(one(polygon, edges="spherical"))
        assert pyproj.Geod(ellps="WGS84").polygon_area_perimeter(*arrived.exterior.xy)[0] > 0
        assert pyproj.Geod(ellps="WGS84").polygon_area_perimeter(*arrived.interiors[0].xy)[0] < 0

    def test_a_geodesic_polygon_across_180_degrees_is_checked_there(self):
        bow_tie = "POLYGON ((170 -10, -170 10, -170 -10, 170 10, 170 -10))"
        found = defect(bow_tie, edges="spherical")
        assert found.startswith("crosses itself at 180 0 (Self-intersection): correct it, or split it at 180 degrees")
        assert defect(bow_tie, edges="spherical", repair=True) == found

    @pytest.mark.parametrize(
        ("wkt", "said"),
        [
            ("LINESTRING (0 0, 180 0)", "has an edge of 180 degrees, from 0 0 to 180 0"),
            ("LINESTRING (10 20, -170 -20)", "has an edge of 180 degrees, from 10 20 to -170 -20"),
            ("LINESTRING (5 90, 7 -90)", "has an edge of 180 degrees, from 5 90 to 7 -90"),
            ("POLYGON ((0 60, 120 60, -120 60, 0 60))", "has a ring around or through a pole"),
            ("POLYGON ((-180 -10, 180 -10, 180 10, -180 10, -180 -10))", "has a ring with two corners at one place"),
            ("POLYGON ((0 80, 10 80, 10 90, 0 90, 0 80))", "has a ring with two corners at one place of the globe"),
        ],
    )
    def test_what_no_geodesics_can_be_is_refused(self, wkt, said):
        assert defect(wkt, edges="spherical").startswith(said)

    @pytest.mark.parametrize(
        "wkt", ["LINESTRING (170 0, -170 0)", "LINESTRING (0 10, 180 20)", "POLYGON ((0 80, 10 80, 5 90, 0 80))"]
    )
    def test_geodesics_may_cross_180_degrees_and_poles(self, wkt):
        assert one(wkt, edges="spherical") == wkt

    def test_countries_arrive_as_they_are(self):
        _, _, wkb, _ = pyogrio.raw.read(COUNTRIES)
        shapes = shapely.from_wkb(wkb)
        planar = convert(pyarrow.array(list(wkb)), Geometry())
        assert not planar.defects
        arrived = shapely.from_geojson(planar.texts.to_pylist())
        assert shapely.equals_exact(arrived, shapes, tolerance=1e-9).all()
        assert shapely.total_bounds(shapes)[2] > 180  # Russia: 180.00000000000006
        assert planar.bounds == (-180, -90, 180, shapely.total_bounds(shapes)[3])
        spherical = convert(list(wkb), Geometry(edges="spherical"))
        refused = [shapes[index].bounds[1] for index in spherical.defects]
        assert refused == [-90]  # Antarctica, which is around a pole
        for text, shape in zip(spherical.texts.to_pylist(), shapes, strict=True):
            if text is not None:
                arrived = shapely.from_wkt(text)
                assert all(part.exterior.is_ccw for part in shapely.get_parts(arrived))
                assert arrived.normalize().equals_exact(shape.normalize(), tolerance=1e-9)


class TestPoints:
    @pytest.mark.parametrize(
        ("lon", "lat"),
        [
            (pyarrow.array([-122.4, None, 1.0]), pyarrow.array([37.8, 1.0, None])),
            (pyarrow.array(["-122.4", None, "1"]), pyarrow.array([" 37.8 ", "x", None])),
            (pyarrow.chunked_array([[-122.4], [None, 1.0]]), pyarrow.chunked_array([[37.8, 1.0, None]])),
            ([Decimal("-122.4"), None, 1], [37.8, 1, pandas.NA]),
            (pyarrow.array([Decimal("-122.4"), None, 1]), pyarrow.array(["37.80", "1", None]).dictionary_encode()),
            (["-1.224e2", None, "+1"], ["37.8", "5.", None]),
        ],
        ids=["floats", "text", "chunks", "objects", "decimals", "exponents"],
    )
    def test_two_columns_become_points_and_null_where_either_is(self, lon, lat):
        converted = convert(points(lon, lat), Geometry())
        assert converted.texts.to_pylist() == [POINT_TEXT, None, None]
        assert not converted.defects

    @pytest.mark.parametrize(
        "value", ["abc", "", "1,5", "1_000", "0x1F", "nan", "inf", "\u0661", "12°W", True, b"1", [1]]
    )
    def test_what_is_no_number_is_named(self, value):
        converted = convert(points([value, 1], [2, value]), Geometry())
        assert converted.defects == {
            0: f"has the longitude {value!r}, which is not a number: correct it",
            1: f"has the latitude {value!r}, which is not a number: correct it",
        }

    def test_integers_in_another_reference_system_are_converted(self):
        converted = convert(points(pyarrow.array([500000]), pyarrow.array([4000000])), Geometry("EPSG:32610"))
        assert json.loads(converted.texts[0].as_py())["coordinates"] == pytest.approx([-123, 36.1447181], abs=1e-7)

    def test_points_off_the_map_and_not_finite_are_named(self):
        converted = convert(points([37.8, math.nan], [-122.4, 1]), Geometry())
        assert "seem to be exchanged" in converted.defects[0]
        assert converted.defects[1] == "has a coordinate that is not a finite number: nan 1"

    def test_columns_of_different_lengths_are_refused(self):
        with pytest.raises(ValueError, match="different lengths"):
            points([1], [1, 2])

    def test_no_rows_are_no_points(self):
        assert points([], []) == []


class TestMetadata:
    @pytest.mark.parametrize(
        "declared", ["OGC:CRS84", pyproj.CRS("OGC:CRS84").to_json_dict(), "srid:4326", "EPSG:4326"]
    )
    def test_longitude_and_latitude_need_no_reference_system(self, declared):
        assert metadata_crs(declared) is None

    @pytest.mark.parametrize(
        "declared",
        ["EPSG:32610", "srid:32610", pyproj.CRS("EPSG:32610").to_json_dict(), pyproj.CRS("EPSG:32610").to_wkt()],
    )
    def test_other_systems_are_converted(self, declared):
        crs = metadata_crs(declared)
        assert json.loads(one(Point(TestSystems.UTM), crs))["coordinates"] == pytest.approx((-122.4, 37.8), abs=1e-9)

    def test_an_unknown_one_is_refused(self):
        with pytest.raises(ValueError, match="declared as unknown: name it with crs="):
            metadata_crs(None)
        with pytest.raises(ValueError, match="Unknown reference system 'moon'"):
            metadata_crs("moon")
