"""Reference systems of geometry, and how their coordinates become longitude and latitude."""

from __future__ import annotations

import json
import math
from functools import lru_cache
from typing import TYPE_CHECKING

from ..packages import required

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import TypeAlias

    import numpy
    import pyproj
    import shapely

    Transform: TypeAlias = Callable[[numpy.ndarray, numpy.ndarray], tuple[numpy.ndarray, numpy.ndarray]]
    """Converts the x and y of points."""

WGS84 = "OGC:CRS84"
"""The reference system of BigQuery's GEOGRAPHY: longitude and latitude on the WGS 84 ellipsoid, in this order."""
WGS84_SRID = 4326
TOLERANCE = 1.0
"""How far in metres an edge may be from where it was before its ends were converted. BigQuery adds up to 10 metres."""
LONG_EDGE = 0.01
"""Degrees: about a kilometre. The error of shorter edges is far below the tolerance in every usual projection."""
METERS_PER_DEGREE = 111_320
PROBES = (0.25, 0.5, 0.75)
"""Where along an edge its error is measured. The middle alone is exact where an edge bends both ways."""
HALF_TURN = 90
"""Degrees of longitude that no point of an edge is off, unless the edge crosses 180 degrees or passes a pole."""
MOST_SEGMENTS = 4096
"""Segments that an edge is cut into at once."""
ROUNDS = 4
"""How often an edge is cut, since the error of very long ones is not the same all along."""


def metadata_crs(declared: object) -> object:
    """Return what `Geometry.crs` takes for the reference system that the metadata of a file declare.

    That is None for longitude and latitude on WGS 84, by whatever name.

    Args:
        declared: PROJJSON, WKT, a code, or Parquet's `srid:4326`. Where GeoParquet metadata have no member `crs`, pass
            `OGC:CRS84`: that is its default.

    Raises:
        ValueError: If it is None (in GeoParquet: unknown), or pyproj does not know it.
    """
    if declared is None:
        raise ValueError('The reference system is declared as unknown: name it with crs=, for example crs="EPSG:4326".')
    if isinstance(declared, str) and declared.lower().startswith("srid:"):
        declared = srid_name(int(declared[5:])) if declared[5:].isdigit() else declared
    return None if system(declared) is None else declared


def system(crs: object) -> pyproj.CRS | None:
    """Return the `pyproj.CRS` of a reference system, or None if it is longitude and latitude on WGS 84.

    Raises:
        ValueError: If pyproj does not know it, or cannot convert it.
    """
    if crs is None or str(crs).upper() in (WGS84, f"EPSG:{WGS84_SRID}", str(WGS84_SRID)):
        return None
    if hasattr(crs, "to_json"):
        return _known_system(crs.to_json())
    if isinstance(crs, dict):
        return _known_system(json.dumps(crs))
    return _known_system(crs if isinstance(crs, (str, int, tuple)) else str(crs))


def system_of_srid(srid: int) -> pyproj.CRS | None:
    """Return the same for the number that a geometry carries: a code of EPSG or, above theirs, of ESRI.

    Raises:
        ValueError: If pyproj does not know it.
    """
    return None if srid == WGS84_SRID else system(srid_name(srid))


def srid_name(srid: int) -> str:
    """Return the code of an SRID with its authority; EPSG's end before ESRI's begin."""
    return f"ESRI:{srid}" if 37_000 <= srid < 200_000 else f"EPSG:{srid}"


def name(known: pyproj.CRS | None) -> str:
    """Return what messages call a reference system: its code, else its name."""
    if known is None:
        return f"EPSG:{WGS84_SRID}"
    authority = known.to_authority()
    return ":".join(authority) if authority else str(known.name)


def srid_of(crs: object) -> int | None:
    """Return the SRID of a reference system, or None if it has none."""
    known = system(crs)
    if known is None:
        return WGS84_SRID
    authority, code = known.to_authority() or ("", "")
    return int(code) if authority in ("EPSG", "ESRI") and code.isdigit() else None


def same(one: pyproj.CRS | None, other: pyproj.CRS | None) -> bool:
    """Whether two systems of `system` differ in the order of their axes at most."""
    if one is None or other is None:
        return one is other
    return bool(one.equals(other, ignore_axis_order=True))


@lru_cache(maxsize=64)
def _known_system(crs: str | int | tuple[object, ...]) -> pyproj.CRS | None:
    pyproj = required("pyproj")
    try:
        known = pyproj.CRS.from_user_input(crs)
    except pyproj.exceptions.CRSError:
        text = str(crs) if len(str(crs)) <= 80 else f"{str(crs)[:80]}…"
        raise ValueError(f"Unknown reference system {text!r}: use a code such as EPSG:4326.") from None
    try:
        _transformer(known)
    except pyproj.exceptions.ProjError:
        raise ValueError(
            f"The reference system {name(known)} cannot be converted to longitude and latitude: use another one."
        ) from None
    return None if known.equals(pyproj.CRS(WGS84), ignore_axis_order=True) else known


@lru_cache(maxsize=64)
def _transformer(known: pyproj.CRS) -> pyproj.Transformer:
    transformer: pyproj.Transformer = required("pyproj").Transformer.from_crs(known, WGS84, always_xy=True)
    return transformer


class AcrossAntimeridian(ValueError):
    """An edge crosses 180 degrees of longitude, so that no straight line in longitude and latitude is the same edge."""


def to_longitude_latitude(shapes: numpy.ndarray, known: pyproj.CRS, straight_edges: bool) -> dict[int, str]:
    """Convert an array of shapely geometries in place, and return why some cannot be converted, by index.

    Straight edges get more vertices where they would be more than a metre off otherwise. How many depends on the edge
    alone, so that neighbours keep their common border.

    Args:
        shapes: The geometries, with finite coordinates.
        known: Their reference system, a `pyproj.CRS`.
        straight_edges: Whether their edges are straight lines in that system, rather than geodesics.
    """
    np, shapely = required("numpy"), required("shapely")
    transform = _transformer(known).transform
    source = shapes.copy()
    shapes[:] = shapely.transform(source, transform, interleaved=False)
    coordinates, owners = shapely.get_coordinates(shapes, return_index=True)
    defects = {}
    for index in np.unique(owners[~np.isfinite(coordinates).all(axis=1)]).tolist():
        place = shapely.get_coordinates(source[index])[0]
        defects[index] = (
            f"cannot be converted from {name(known)}, which ends before {place_of(place)}: check the reference system"
        )
        source[index] = None
    for index in _bent(source, transform) if straight_edges else ():
        try:
            shapes[index] = _bend(source[index], transform)
        except AcrossAntimeridian:
            defects[index] = (
                f"has an edge in {name(known)} that crosses 180 degrees of longitude: split it there, "
                'or load with edges="spherical"'
            )
    return defects


def place_of(coordinates: Iterable[float]) -> str:
    """Return what messages call a place: `-122.4 37.8`."""
    return " ".join(repr(float(number)).removesuffix(".0") for number in coordinates)


def _bent(source: numpy.ndarray, transform: Transform) -> list[int]:
    """Return the indexes of the geometries of which an edge would be off by more than the tolerance."""
    np, shapely = required("numpy"), required("shapely")
    chains, owners = chains_of(source)
    before, chain = shapely.get_coordinates(chains, return_index=True)
    if not len(before):
        return []
    after = _moved(before, transform)
    long = (chain[1:] == chain[:-1]) & (np.abs(after[1:] - after[:-1]).max(axis=1) > LONG_EDGE)
    error = _error(before[:-1][long], before[1:][long], after[:-1][long], after[1:][long], transform)
    bent: list[int] = np.unique(owners[chain[:-1][long][error > TOLERANCE]]).tolist()
    return bent


def _error(
    start: numpy.ndarray, end: numpy.ndarray, new_start: numpy.ndarray, new_end: numpy.ndarray, transform: Transform
) -> numpy.ndarray:
    """Return how far in metres edges are from the lines between their converted ends; inf across 180 degrees."""
    np = required("numpy")
    error: numpy.ndarray = np.zeros(len(start))
    with np.errstate(all="ignore"):
        chord = new_end - new_start
        for share in PROBES if len(start) else ():
            point = _moved(start + (end - start) * share, transform)
            off = point - (new_start + chord * share)
            scale = np.column_stack([np.cos(np.radians(point[:, 1])), np.ones(len(point))]) * METERS_PER_DEGREE
            (x, y), (dx, dy) = (off * scale).T, (chord * scale).T
            aside = np.abs(x * dy - y * dx) / np.hypot(dx, dy)
            error = np.fmax(error, np.where(np.abs(off[:, 0]) > HALF_TURN, np.inf, aside))
    return error


def _bend(shape: shapely.Geometry, transform: Transform) -> shapely.Geometry:
    """Return a converted geometry with the vertices that keep its edges where they are."""
    shapely = required("shapely")
    if hasattr(shape, "geoms"):
        return type(shape)([_bend(part, transform) for part in shape.geoms])
    if isinstance(shape, shapely.Polygon):
        return shapely.Polygon(
            _bend(shape.exterior, transform), [_bend(interior, transform) for interior in shape.interiors]
        )
    points = shapely.get_coordinates(shape)
    for _ in range(ROUNDS):
        moved = _moved(points, transform)
        error = _error(points[:-1], points[1:], moved[:-1], moved[1:], transform)
        if math.isinf(error.max(initial=0)):
            raise AcrossAntimeridian
        if (error <= TOLERANCE).all():
            break
        points = _split(points, error)
    return type(shape)(_moved(points, transform))


def _split(points: numpy.ndarray, error: numpy.ndarray) -> numpy.ndarray:
    """Return the points of a line with more between them: the error falls with the square of the segments' number."""
    np = required("numpy")
    start, end = points[:-1], points[1:]
    counts = np.clip(np.ceil(np.sqrt(error / TOLERANCE)), 1, MOST_SEGMENTS).astype(int)
    edge = np.repeat(np.arange(len(counts)), counts)
    step = np.arange(len(edge)) - np.repeat(np.cumsum(counts) - counts, counts)
    # From the lesser end, so that a border gets the same vertices in both directions.
    flip = ((start[:, 0] > end[:, 0]) | ((start[:, 0] == end[:, 0]) & (start[:, 1] > end[:, 1])))[edge][:, None]
    low, high = np.where(flip, end[edge], start[edge]), np.where(flip, start[edge], end[edge])
    share = np.where(flip[:, 0], counts[edge] - step, step)[:, None] / counts[edge][:, None]
    split: numpy.ndarray = np.vstack([low + (high - low) * share, points[-1:]])
    split[:-1][step == 0] = start
    return split


def _moved(points: numpy.ndarray, transform: Transform) -> numpy.ndarray:
    moved: numpy.ndarray = required("numpy").column_stack(transform(*points.T))
    return moved


def chains_of(shapes: numpy.ndarray) -> tuple[numpy.ndarray, numpy.ndarray]:
    """Return all lines and rings of an array of geometries, and the index of the geometry that each is part of."""
    np, shapely = required("numpy"), required("shapely")
    parts, owners = shapes, np.arange(len(shapes))
    first_of_multiple = 4  # shapely.GeometryType: MULTIPOINT and the other collections
    while len(parts) and (shapely.get_type_id(parts) >= first_of_multiple).any():
        parts, index = shapely.get_parts(parts, return_index=True)
        owners = owners[index]
    kinds = shapely.get_type_id(parts)
    lines = np.isin(kinds, (shapely.GeometryType.LINESTRING, shapely.GeometryType.LINEARRING))
    polygons = kinds == shapely.GeometryType.POLYGON
    rings, index = shapely.get_rings(parts[polygons], return_index=True)
    return np.concatenate([parts[lines], rings]), np.concatenate([owners[lines], owners[polygons][index]])
