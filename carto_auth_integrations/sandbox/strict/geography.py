"""Geography of loads: the SQL that reads WKT, WKB and GeoJSON, and the check of each shape."""

# ruff: noqa: S608 - the SQL is DuckDB's, and quotes whatever comes from a request

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from .values import literal

Ring = Sequence[tuple[float, float]]

# The whole globe, which the emulator has no shape of its own for.
_GLOBE = "POLYGON((-180 -90,180 -90,180 90,-180 90,-180 -90))"

_HEX = "(?:[0-9A-Fa-f]{2})+"
_SRID_FLAG = 0x20000000
_TYPES_WITH_Z_OR_M = re.compile(r"(?i)[A-Z]\s*(?:ZM|Z|M)\s*(?:\(|EMPTY)")
_SHAPES = ("Point", "LineString", "Polygon", "MultiPoint", "MultiLineString", "MultiPolygon", "GeometryCollection")

# Edges of a ring up to which an error names those that cross: the search compares each with each other.
_NAMED_EDGES = 2_000

_POINT, _LINE, _POLYGON = 1, 2, 3


def from_text(x: str) -> str:
    """Return the SQL expression that reads a text as GEOMETRY; NULL if it is none.

    Args:
        x: The SQL expression of the text: WKT, hexadecimal WKB or a GeoJSON geometry.
    """
    text = f"trim({x}, ' \t\n\r')"
    return (
        f"TRY(CASE WHEN {text} LIKE '{{%' THEN ST_GeomFromGeoJSON({text}) "
        f"WHEN regexp_full_match({text}, '{_HEX}') THEN ST_GeomFromHEXWKB({text}) "
        f"WHEN lower({text}) = 'fullglobe' THEN ST_GeomFromText({literal(_GLOBE)}) ELSE ST_GeomFromText({text}) END)"
    )


def from_wkb(x: str) -> str:
    """Return the SQL expression that reads a binary value as GEOMETRY; NULL if it is none."""
    return f"TRY(ST_GeomFromWKB({x}))"


def suspects(texts: str, *, oriented: bool = True) -> str:
    """Return the query of the shapes that need a look: those that are not certainly right.

    A GeoJSON geometry is right if GEOS says so, as its winding does not matter. The polygons of WKT and WKB are looked
    at each, for their winding.

    Args:
        texts: A query with the columns `ord`, any number of the row, and `x`, the text of a shape.
        oriented: Whether the winding of WKT and WKB matters.
    """
    others = " OR x NOT LIKE '{%' AND (x ILIKE '%SRID%' OR x NOT LIKE 'POINT%')" if oriented else ""
    return (
        f"SELECT ord, x, CAST(ST_AsWKB(g) AS BLOB) AS wkb, valid FROM (SELECT *, TRY(ST_IsValid(g)) AS valid "
        f"FROM (SELECT *, {from_text('x')} AS g FROM ({texts}) WHERE x IS NOT NULL)) "
        "WHERE g IS NULL OR valid IS NOT TRUE OR ST_HasZ(g) OR ST_HasM(g) OR ST_YMax(g) > 90 OR ST_YMin(g) < -90 "
        f"OR ST_XMax(g) > 180 OR ST_XMin(g) < -180{others}"
    )


def problem_of(text: str, wkb: bytes | None, valid: bool | None, *, oriented: bool = True) -> str | None:
    """Return what is wrong with a shape, in BigQuery's words where they are known; None for a shape that is right.

    Args:
        text: Its text: WKT, hexadecimal WKB or GeoJSON.
        wkb: The shape as DuckDB reads it, as two-dimensional or wider WKB; None if it cannot.
        valid: Whether GEOS calls it valid; None if it cannot tell.
        oriented: Whether the winding of WKT and WKB matters.
    """
    text = text.strip()
    if text.lower() == "fullglobe":
        return None
    if wkb is None:
        return "not a valid WKT, WKB or GeoJSON geometry"
    if (problem := _form_problem(text)) is not None:
        return problem
    try:
        shapes = list(_read(wkb))
    except (ValueError, struct.error):
        return "ST_GeogFromWKB does not support Z or M coordinates"
    for shape in shapes:
        if (problem := _shape_problem(shape)) is not None:
            return problem
    oriented = oriented and not text.startswith("{")
    # GEOS sees a plane: it cannot tell of edges that cross the antimeridian by the short way.
    if valid is not True and not (oriented and any(map(_crosses_antimeridian, shapes))):
        return next(filter(None, map(_crossing, shapes)), "Invalid polygon loop: Invalid nesting")
    if oriented:
        return next(filter(None, map(_orientation_problem, shapes)), None)
    return None


def _form_problem(text: str) -> str | None:
    if text.startswith("{"):
        kind = re.search(r'"type"\s*:\s*"(\w+)"', text)
        return None if kind and kind[1] in _SHAPES else "a GeoJSON text must be a geometry, not a Feature"
    if text[:4].upper() == "SRID":
        return "EWKT is not supported: remove the SRID"
    if text[0].isdigit():
        order = "<" if text.startswith("01") else ">"
        (kind,) = struct.unpack_from(f"{order}I", bytes.fromhex(text[2:10]))
        return "EWKB is not supported: remove the SRID" if kind & _SRID_FLAG else None
    return "WKT with Z or M coordinates is not supported" if _TYPES_WITH_Z_OR_M.search(text) else None


@dataclass(frozen=True)
class _Shape:
    """A point, line or polygon of a geometry; the first ring of a polygon is its shell."""

    kind: int
    rings: tuple[Ring, ...]


def _read(wkb: bytes) -> Iterator[_Shape]:
    """Yield the shapes of WKB in little-endian order, which is DuckDB's."""
    position = 0

    def unpack(form: str) -> Any:
        nonlocal position
        values = struct.unpack_from(form, wkb, position)
        position += struct.calcsize(form)
        return values

    def ring() -> Ring:
        (count,) = unpack("<I")
        numbers = unpack(f"<{2 * count}d")
        return list(zip(numbers[::2], numbers[1::2], strict=True))

    def shapes() -> Iterator[_Shape]:
        _, kind = unpack("<BI")
        if kind == _POINT:
            yield _Shape(kind, ([unpack("<2d")],))
        elif kind == _LINE:
            yield _Shape(kind, (ring(),))
        elif kind == _POLYGON:
            yield _Shape(kind, tuple(ring() for _ in range(unpack("<I")[0])))
        elif kind <= len(_SHAPES):
            for _ in range(unpack("<I")[0]):
                yield from shapes()
        else:
            raise ValueError(f"WKB of type {kind}")

    yield from shapes()


def _shape_problem(shape: _Shape) -> str | None:
    for ring in shape.rings:
        for x, y in ring:
            if y > 90 or y < -90:
                return f"Latitude must be between -90 and 90 degrees, not {y:g}"
            if x > 180 or x < -180:
                return f"Longitude must be between -180 and 180 degrees, not {x:g}"
        if shape.kind == _LINE and len(ring) == 1:
            return "a LineString must have at least two points"
        if shape.kind == _POLYGON and ring and ring[0] != ring[-1]:
            return "Invalid polygon loop: the ring is not closed, its first and last point differ"
        if shape.kind == _POLYGON and 0 < len(ring) < 4:
            return f"Invalid polygon loop: a ring must have at least 4 points, not {len(ring)}"
    return None


def _orientation_problem(shape: _Shape) -> str | None:
    if shape.kind != _POLYGON:
        return None
    for number, ring in enumerate(shape.rings):
        if (_twice_area(ring) > 0) != (number == 0):
            if number:
                return "Polygon's hole is counter-clockwise: holes must be clockwise"
            return (
                "Polygon has overlap area larger than hemisphere. Check if the polygon orientation is correct: the "
                "shell must be counter-clockwise"
            )
    return None


def _twice_area(ring: Ring) -> float:
    """Return twice the signed area of a ring, positive if it is counter-clockwise; edges take the short way round."""
    total, shift, previous = 0.0, 0.0, ring[0]
    origin_x, origin_y = previous
    left_x, left_y = 0.0, 0.0
    for x, y in ring[1:]:
        step = x - previous[0]
        shift += -360 if step > 180 else 360 if step < -180 else 0
        right_x, right_y = x + shift - origin_x, y - origin_y
        total += left_x * right_y - right_x * left_y
        left_x, left_y, previous = right_x, right_y, (x, y)
    if previous[0] + shift != origin_x:  # it goes round a pole: eastward, its left is the north
        return (previous[0] + shift - origin_x) * sum(y for _, y in ring)
    return total


def _crosses_antimeridian(shape: _Shape) -> bool:
    return any(abs(x - other) > 180 for ring in shape.rings for (x, _), (other, _) in pairwise(ring))


def _crossing(shape: _Shape) -> str | None:
    """Return which vertices or edges of a ring meet, for rings that are not too long to compare each with each."""
    for ring in shape.rings if shape.kind == _POLYGON else ():
        seen: dict[tuple[float, float], int] = {}
        for number, point in enumerate(ring[:-1]):
            if seen.setdefault(point, number) != number:
                return f"Invalid polygon loop: Edge {seen[point]} has duplicate vertex with edge {number}"
        edges = list(pairwise(ring[: _NAMED_EDGES + 1]))
        for first in range(len(edges)):
            for second in range(first + 2, len(edges)):
                if _cross(edges[first], edges[second]):
                    return f"Invalid polygon loop: Edge {first} crosses edge {second}"
    return None


def _cross(first: Ring, second: Ring) -> bool:
    (a, b), (c, d) = first, second
    return _side(a, b, c) * _side(a, b, d) < 0 and _side(c, d, a) * _side(c, d, b) < 0


def _side(a: tuple[float, float], b: tuple[float, float], c: tuple[float, float]) -> float:
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
