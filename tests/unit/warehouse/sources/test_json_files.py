"""JSON and GeoJSON in every layout: values exact, features whole, errors that name the line."""

from __future__ import annotations

import gzip
import json
import math
import tracemalloc
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from carto_auth_integrations.warehouse.options import LoadOptions
from carto_auth_integrations.warehouse.sources import json_values
from carto_auth_integrations.warehouse.sources.base import Chunk, Source
from carto_auth_integrations.warehouse.sources.geometry import convert
from carto_auth_integrations.warehouse.sources.json_files import open_geojson, open_json

POINT = {"type": "Point", "coordinates": [1.5, 2]}
COLLECTION: dict[str, Any] = {"type": "GeometryCollection", "geometries": [POINT]}
UTM = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::25832"}}


def feature(**members: Any) -> dict[str, Any]:
    return {"type": "Feature", "properties": {"n": 1}, "geometry": POINT, **members}


def collection(*features: Any, **members: Any) -> dict[str, Any]:
    return {"type": "FeatureCollection", "features": list(features), **members}


def opened(tmp_path: Path, content: Any, read: Any = open_json, **options: Any) -> Source:
    path = tmp_path / "a.json"
    if not isinstance(content, (str, bytes)):
        content = json.dumps(content)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    source: Source = read(path, "a.json", LoadOptions(**options))
    return source


def rows(tmp_path: Path, content: Any, read: Any = open_json, **options: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for chunk in opened(tmp_path, content, read, **options).chunks:
        assert all(isinstance(row, dict) for row in chunk.data)
        found += chunk.data  # type: ignore[arg-type]
    return found


def geography(tmp_path: Path, content: Any, read: Any = open_geojson, **options: Any) -> Chunk:
    return list(opened(tmp_path, content, read, **options).chunks)[-1]


@pytest.mark.parametrize(
    "content",
    [
        '{"a": 1}\n{"a": 2}\n',
        '{"a": 1}\r\n\r\n{"a": 2}',
        '[{"a": 1}, {"a": 2}]',
        '[\n  {\n    "a": 1\n  },\n  {"a":\n 2}\n]\n',
        '{\n  "a": 1\n}\n{\n  "a": 2\n}',
        '\x1e{"a": 1}\n\x1e{"a": 2}\n',
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
@pytest.mark.parametrize("is_compressed", [False, True])
def test_rows_are_objects_in_lines_or_an_array(
    tmp_path: Path, content: str, encoding: str, is_compressed: bool
) -> None:
    data = content.encode(encoding)
    assert rows(tmp_path, gzip.compress(data) if is_compressed else data) == [{"a": 1}, {"a": 2}]


def test_an_object_over_several_lines_is_one_row(tmp_path: Path) -> None:
    row = {"a": {"b": [1, 2]}, "features": [1, "x"], "type": "Feature"}
    assert rows(tmp_path, json.dumps(row, indent=2)) == [row]


def test_numbers_are_exact(tmp_path: Path) -> None:
    (row,) = rows(
        tmp_path,
        '{"i": 12345678901234567890123, "f": 0.1, "r": 0.30000000000000004, "d": 0.12345678901234567891, "e": 1e400, '
        '"l": [12345678901234567.89], "z": 1.10000000000000000000, "s": 1e-7, "n": -0.0}',
    )
    assert row["i"] == 12345678901234567890123
    assert (row["f"], row["r"], row["z"], row["s"]) == (0.1, 0.30000000000000004, 1.1, 1e-7)
    assert all(type(row[name]) is float for name in "frzsn")
    assert (row["d"], row["e"]) == (Decimal("0.12345678901234567891"), Decimal("1e400"))
    assert row["l"] == [Decimal("12345678901234567.89")]
    assert math.copysign(1, row["n"]) == -1


def test_what_python_writes_for_no_number_is_read(tmp_path: Path) -> None:
    (row,) = rows(tmp_path, '{"a": NaN, "b": -Infinity}')
    assert math.isnan(row["a"])
    assert row["b"] == -math.inf


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"a": 1}\n{"a": 1,}\n{"a": 2}', r"a\.json: line 2, character 9: not JSON: .*property name"),
        ('{"a": 1}\n\n{"a": \n', r"line \d.* of the value that begins in line 3: not JSON: .*: the file ends here"),
        ('{"a": 1}\n{"a": "x\n{"a": 2}', "line 2, character 9: not JSON: Invalid control character"),
        ('{"a": 1}\n[2]\n', r"line 2: row 2 is an array, not an object"),
        ('[{"a": 1},\n 5]', "line 2: row 2 is a number, not an object"),
        ('[{"a": 1}\n {"a": 2}]', r"line 2: '\{' where '\]' should be"),
        ('[{"a": 1}] 5', "line 1: '5' where the file should end"),
        ('[{"a": 1},\n', "not JSON: Expecting value: the file ends here"),
        ('{"a": 1}\n{"a": 1, "b": {"c": 1, "c": 2}}', "line 2: the key 'c' is twice in one object"),
        ('{"a": 1, "a": 1}', "line 1: the key 'a' is twice in one object"),
        ("{'a': 1}", "line 1: a key in quotes should be here"),
        ("[1, 2]", "the first value is a number, not an object"),
        ('["x"]', "the first value is a text, not an object"),
        ("[]", "holds an empty array: there is nothing to load"),
        ("", "there is nothing to load"),
        (" \n", "there is nothing to load"),
        ("3\n4", "line 1: '3' begins no object"),
        ("a,b\n1,2", "line 1: 'a' begins no object"),
        ("<kml/>", r"a\.json is XML or HTML, not JSON"),
        ('{"a": ' + "[" * 100_000, "line 1: the value is nested too deeply"),
        ('{"a": ' + "9" * 5000 + "}", "line 1: Exceeds the limit"),
        (b'{"a": 1}\n{"a": "\xe9"}', "line 2 is not utf-8: the byte 0xe9 does not fit; pass encoding="),
    ],
)
def test_what_is_no_json_with_rows_is_refused_with_its_line(tmp_path: Path, content: str | bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        rows(tmp_path, content)


def test_a_bad_line_far_into_a_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_values, "PIECE_CHARACTERS", 1000)
    with pytest.raises(ValueError, match="line 5001, character 6"):
        rows(tmp_path, '{"a": 1}\n' * 5000 + '{"a" 1}\n' + '{"a": 1}\n' * 5000)


def test_an_encoding_that_is_given_rules(tmp_path: Path) -> None:
    assert rows(tmp_path, '{"a": "é"}'.encode("latin-1"), encoding="latin-1") == [{"a": "é"}]


@pytest.mark.parametrize("piece", [1, 7, 1000])
def test_values_are_whole_wherever_the_file_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piece: int) -> None:
    monkeypatch.setattr(json_values, "PIECE_CHARACTERS", piece)
    expected = [{"a": number, 'é"\\': [True, None, -1.5e10, 'x\\y\n"', {}]} for number in range(50)]
    assert rows(tmp_path, expected) == expected
    assert rows(tmp_path, "\n".join(map(json.dumps, expected))) == expected
    features = [feature(id=number, properties=row) for number, row in enumerate(expected)]
    found = rows(tmp_path, collection(*features))
    assert [{name: value for name, value in row.items() if name not in ("id", "geom")} for row in found] == expected
    assert [json.loads(row["geom"]) for row in found] == [POINT] * 50


LAYOUTS = {
    "collection": collection(feature(), feature()),
    "pretty": json.dumps(collection(feature(), feature()), indent=2),
    "type last": {"features": [feature(), feature()], "bbox": [0, 0, 1, 1], "type": "FeatureCollection"},
    "array": [feature(), feature()],
    "lines": f"{json.dumps(feature())}\n{json.dumps(feature())}\n",
    "sequence": f"\x1e{json.dumps(feature())}\n\x1e{json.dumps(feature(), indent=1)}\n",
    "lines of collections": f"{json.dumps(feature())}\n{json.dumps(collection(feature()))}",
}


@pytest.mark.parametrize("content", LAYOUTS.values(), ids=LAYOUTS.keys())
@pytest.mark.parametrize("read", [open_json, open_geojson])
def test_features_are_read_in_every_layout(tmp_path: Path, content: Any, read: Any) -> None:
    source = opened(tmp_path, content, read)
    chunks = [chunk for chunk in source.chunks if chunk.data]
    (chunk,) = chunks
    assert source.found["format"] == "GEOJSON"
    assert chunk.geometry.keys() == {"geom"}
    assert dict(chunk.columns())["n"] == [1, 1]
    texts = convert(dict(chunk.columns())["geom"], chunk.geometry["geom"]).texts.to_pylist()
    assert [json.loads(text) for text in texts] == [{"type": "Point", "coordinates": [1.5, 2]}] * 2
    assert chunk.row(1) == "a.json: row 2"
    assert source.position() == source.size


@pytest.mark.parametrize("shape", [POINT, COLLECTION])
def test_a_geometry_alone_is_a_row(tmp_path: Path, shape: dict[str, Any]) -> None:
    (row,) = rows(tmp_path, json.dumps(shape, indent=2))
    assert json.loads(row["geom"]) == shape
    assert len(rows(tmp_path, f"{json.dumps(shape)}\n{json.dumps(feature())}", open_geojson)) == 2


def test_a_feature_alone_is_a_row(tmp_path: Path) -> None:
    (row,) = rows(tmp_path, json.dumps(feature(id="x"), indent=2))
    assert (row["id"], row["n"], json.loads(row["geom"])) == ("x", 1, POINT)


def test_rows_that_look_like_geometry_stay_rows(tmp_path: Path) -> None:
    expected = [{"type": "Point", "coordinates": [1, 2], "name": "x"}, {"type": "Feature", "price": 2}]
    assert rows(tmp_path, expected) == expected
    (row,) = rows(tmp_path, expected[:1], open_geojson)
    assert row["name"] == "x"


@pytest.mark.parametrize("geometry", [None, {"type": "Polygon", "coordinates": []}])
def test_features_without_geometry_or_properties(tmp_path: Path, geometry: Any) -> None:
    first, second = rows(tmp_path, [feature(geometry=geometry, properties=None), {"type": "Feature", "properties": {}}])
    assert first == {"geom": None if geometry is None else json.dumps(geometry)}
    assert second == {"geom": None}


def test_coordinates_keep_every_digit(tmp_path: Path) -> None:
    content = '{"type": "Point", "coordinates": [0.12345678901234567891, -73.98765432101234]}'
    assert rows(tmp_path, content)[0]["geom"] == content


def test_properties_are_exact(tmp_path: Path) -> None:
    content = json.dumps(feature(properties={"d": "?", "i": 2**70})).replace('"?"', "0.12345678901234567891")
    (row,) = rows(tmp_path, content)
    assert (row["d"], row["i"]) == (Decimal("0.12345678901234567891"), 2**70)


def test_a_late_property_is_in_its_row(tmp_path: Path) -> None:
    found = rows(tmp_path, collection(*[feature()] * 10_001, feature(properties={"n": 2, "late": "x"})))
    assert (len(found), found[-1]["late"]) == (10_002, "x")


@pytest.mark.parametrize("position", [0, -1])
def test_what_features_have_beside_their_properties_becomes_columns(tmp_path: Path, position: int) -> None:
    features = [feature() for _ in range(20_000)]
    features[position] |= {"id": 7, "bbox": [0, 0, 1, 1], "title": "t", "properties": {"n": 2}}
    found = rows(tmp_path, collection(*features))
    assert {name: value for name, value in found[position].items() if name != "geom"} == {"n": 2, "id": 7, "title": "t"}


@pytest.mark.parametrize("position", [0, -1])
def test_a_property_keeps_its_name_wherever_it_comes(tmp_path: Path, position: int) -> None:
    features = [feature(id=7, title="t") for _ in range(20_000)]
    features[position] = feature(id=8, title="u", properties={"ID": "p", "Geom": 1, "geom_": 2, "title": "v"})
    found = rows(tmp_path, collection(*features))
    assert {**found[position], "geom__": None} == {
        "ID": "p", "Geom": 1, "geom_": 2, "title": "v", "id_": 8, "title_": "u", "geom__": None,
    }  # fmt: skip
    assert {each["id_"] for each in found} == {7, 8}
    assert all(json.loads(each["geom__"]) == POINT for each in found)


@pytest.mark.parametrize(
    "content",
    [
        {"type": "FeatureCollection", "crs": UTM, "features": [feature()]},
        collection(feature(), crs=UTM),
        {"features": [feature()], "crs": UTM, "type": "FeatureCollection"},
        feature(crs=UTM),
        [feature(crs=UTM), feature(crs=UTM)],
        collection(feature(), crs={"type": "EPSG", "properties": {"code": 25832}}),
    ],
)
def test_the_old_member_crs_is_honoured(tmp_path: Path, content: Any) -> None:
    chunk = geography(tmp_path, content)
    assert str(chunk.geometry["geom"].crs) in ("EPSG:25832", "urn:ogc:def:crs:EPSG::25832")
    geometry = geography(tmp_path, content, crs="EPSG:25832").geometry["geom"]
    assert str(geometry.crs).endswith("25832")


@pytest.mark.parametrize("name", ["urn:ogc:def:crs:OGC:1.3:CRS84", "EPSG:4326", "urn:ogc:def:crs:EPSG::4326"])
def test_longitude_and_latitude_may_be_named(tmp_path: Path, name: str) -> None:
    content = collection(feature(), crs={"type": "name", "properties": {"name": name}})
    assert geography(tmp_path, content).geometry["geom"].crs is None


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        (collection(feature(), crs=UTM), {"crs": "EPSG:3857"}, r"a\.json.*EPSG:25832, and not crs=EPSG:3857"),
        (collection(feature(), crs=None), {}, "no known reference system: pass crs="),
        (collection(feature(), crs={"type": "link", "properties": {"href": "x"}}), {}, "names no reference system"),
        (collection(feature(), crs={"type": "name", "properties": {"name": "moon"}}), {}, r"a\.json.*Unknown"),
        (
            [feature(crs=UTM), feature(crs={**UTM, "properties": {"name": "EPSG:4326"}})],
            {},
            "several reference systems",
        ),
    ],
)
def test_reference_systems_that_are_not_clear_are_refused(
    tmp_path: Path, content: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        geography(tmp_path, content, **options)


def test_options_say_how_geometry_is_meant(tmp_path: Path) -> None:
    geometry = geography(tmp_path, feature(), crs="EPSG:3857", edges="spherical").geometry["geom"]
    assert (geometry.crs, geometry.edges) == ("EPSG:3857", "spherical")
    geometry = geography(tmp_path, feature()).geometry["geom"]
    assert (geometry.crs, geometry.edges) == (None, "planar")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (collection(), "has no features: there is nothing to load"),
        ({"type": "FeatureCollection"}, "has no features: there is nothing to load"),
        ({"a": 1}, 'is JSON, but not GeoJSON: .* pass format="JSON"'),
        ([1, 2], "the first value is a number, not an object"),
        ({"type": "Topology", "arcs": [], "objects": {}}, 'is TopoJSON: pass format="VECTOR"'),
        ({"geometryType": "esriGeometryPoint", "features": [{"attributes": {}}]}, "is the JSON of ESRI"),
        (collection(feature(), {"a": 1}), "line 1: an object of the type None is neither a feature nor a geometry"),
        (collection(feature(), 5), "line 1: what is no object is neither a feature nor a geometry"),
        (collection(feature(properties=[1])), "the properties of a feature are an array, not an object"),
        (json.dumps(collection(feature()))[:-1], "line 1: the end of the file where '}' should be"),
        (json.dumps(collection(feature())) + "x", "line 1: 'x' where the file should end"),
        (f"{json.dumps(feature())}\n{json.dumps(feature())[:-20]}\n{json.dumps(feature())}\n", "line [23].*not JSON"),
        (json.dumps(feature()).replace('"n": 1', '"n": 1, "n": 2'), "line 1: the key 'n' is twice"),
        (json.dumps(feature()).replace("{", '{"id": 1, "id": 2, ', 1), "the key 'id' is twice"),
        (f"[{json.dumps(feature())},\n{json.dumps(feature()).replace(':', '', 1)}]", "line 2.*Expecting ':' delimiter"),
    ],
)
def test_what_is_no_geojson_is_refused(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        rows(tmp_path, content, open_geojson)


def test_one_long_line_takes_little_memory_and_progress_moves(tmp_path: Path) -> None:
    ring = [[0.123456789 + index, 1.5] for index in range(100)]
    text = json.dumps(feature(geometry={"type": "Polygon", "coordinates": [ring]}))
    content = '{"type": "FeatureCollection", "features": [' + ",".join([text] * 10_000) + "]}"
    source = opened(tmp_path, content, open_geojson)
    positions, count = [], 0
    tracemalloc.start()
    for chunk in source.chunks:
        positions.append(source.position())
        count += len(chunk.data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (count, positions) == (10_000, sorted(positions))
    assert len(set(positions)) > 10
    assert peak < len(content)
