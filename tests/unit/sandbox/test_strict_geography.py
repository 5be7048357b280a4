"""The check of single shapes: what it finds in WKB, whatever DuckDB and GEOS say of it."""

from __future__ import annotations

import pytest

shapely = pytest.importorskip("shapely")

from carto_auth_integrations.sandbox.strict.geography import problem_of  # noqa: E402 - after the check that it is there


def problem(text, *, valid=None, oriented=True):
    shape = shapely.from_wkt(text)
    wkb = shapely.to_wkb(shape, byte_order=1, flavor="iso")
    return problem_of(text, wkb, shape.is_valid if valid is None else valid, oriented=oriented)


@pytest.mark.parametrize(
    "exterior", [shapely.box(-10, -10, 10, 10), shapely.Point(0, 0).buffer(5), shapely.box(100, 50, 101, 89)]
)
def test_a_shell_is_right_in_one_direction_alone(exterior):
    right = shapely.orient_polygons(exterior)
    assert problem(right.wkt) is None
    assert "orientation" in problem(shapely.reverse(right).wkt)
    assert problem(shapely.reverse(right).wkt, oriented=False) is None


@pytest.mark.parametrize("west", [175.0, 179.5, 170.0])
def test_a_shell_across_the_antimeridian_is_seen_by_the_short_way(west):
    east = west + 10 - 360
    ring = [(west, 0), (east, 0), (east, 5), (west, 5), (west, 0)]
    assert problem(shapely.Polygon(ring).wkt) is None
    assert "orientation" in problem(shapely.Polygon(ring[::-1]).wkt)


@pytest.mark.parametrize(("latitude", "eastward_is_right"), [(70, True), (-70, False)])
def test_a_shell_round_a_pole_has_the_pole_on_its_left(latitude, eastward_is_right):
    eastward = [(0, latitude), (90, latitude), (180, latitude), (-90, latitude), (0, latitude)]
    right = eastward if eastward_is_right else eastward[::-1]
    assert problem(shapely.Polygon(right).wkt) is None
    assert "orientation" in problem(shapely.Polygon(right[::-1]).wkt)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("POLYGON((0 0,2 0,1 1,2 2,0 2,1 1,0 0))", "Edge 2 has duplicate vertex with edge 5"),
        ("POLYGON((0 0,4 4,4 0,0 4,0 0))", "Edge 0 crosses edge 2"),
        ("POLYGON((0 0,1 0,1 1,0 1,0 0),(5 5,5 6,6 6,6 5,5 5))", "Invalid nesting"),
        ("MULTIPOLYGON(((0 0,2 0,2 2,0 2,0 0)),((1 1,3 1,3 3,1 3,1 1)))", "Invalid"),
    ],
)
def test_an_invalid_ring_is_described(text, words):
    assert words in problem(text)


def test_text_that_is_no_shape_is_named():
    assert "not a valid" in problem_of("Madrid", None, None)


def test_what_is_not_wkb_of_two_dimensions_is_refused():
    wkb = shapely.to_wkb(shapely.Point(1, 2, 3), flavor="iso")
    assert "Z or M" in problem_of(wkb.hex(), wkb, True)


@pytest.mark.parametrize(
    "text", ["POINT EMPTY", "LINESTRING EMPTY", "POLYGON EMPTY", "MULTIPOLYGON EMPTY", "GEOMETRYCOLLECTION EMPTY"]
)
def test_empty_shapes_are_right(text):
    assert problem(text, valid=True) is None
