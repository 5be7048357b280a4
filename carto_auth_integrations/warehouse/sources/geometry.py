"""Convert geometry of any form to text that BigQuery reads as what was meant, and name what it would not accept.

Planar edges go as GeoJSON: BigQuery adds vertices to such edges until they are straight in longitude and latitude
within 10 metres, and reads rings whatever their winding. Geodesic edges go as WKT, whose shells must be
counter-clockwise: https://cloud.google.com/bigquery/docs/geospatial-data#loading_geospatial_data
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from ..packages import required
from . import crs
from .crs import metadata_crs
from .shapes import Shapes, Unreadable, read

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import SupportsFloat, TypeGuard

    import numpy
    import pyarrow
    import pyproj
    import shapely

    from .base import Geometry

__all__ = ["Converted", "Unreadable", "convert", "metadata_crs", "points"]

NOISE = 1e-9
"""Degrees beyond the edge of the map, a tenth of a millimetre, that are taken for the noise of a computation."""
OPPOSITE = -1 + 1e-15
"""Cosine of an angle that differs from 180 degrees by less than a metre on the Earth."""
WKT_DECIMALS = 350
"""Decimals that are enough for any double; shapely writes the shortest text that is read back as the same number."""
REASON = re.compile(r"(.*?)\[(.*)\]")
"""What GEOS says about an invalid geometry: `Self-intersection[5 5]`."""
PROBLEMS = {
    "Self-intersection": "crosses itself",
    "Ring Self-intersection": "has a ring that touches itself",
    "Hole lies outside shell": "has a hole outside of its shell",
    "Holes are nested": "has a hole inside another hole",
    "Interior is disconnected": "has holes that cut it apart",
    "Nested shells": "has a polygon inside another one of its polygons",
    "Duplicate Rings": "has the same ring twice",
    "Too few points in geometry component": "has a line or ring with too few different points",
    "Ring is not closed": "has a ring that is not closed",
}
NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*", re.ASCII)
"""A number as text, as in a column of longitudes."""
MEND = 'correct it, or load with invalid_geometry="repair"'


@dataclass(frozen=True)
class Converted:
    """A converted column of geometry.

    Attributes:
        texts: GeoJSON for planar edges, WKT for spherical ones; null for null and for values with a defect.
        defects: Why a value cannot be loaded, by its index: the end of a sentence, with the next step.
        repaired: Areas in square metres before and after, by the index of each repaired value.
        bounds: Least longitude and latitude, and greatest; None if there are no coordinates.
    """

    texts: pyarrow.StringArray
    defects: Mapping[int, str]
    repaired: Mapping[int, tuple[float, float]]
    bounds: tuple[float, float, float, float] | None


def convert(
    values: pyarrow.Array | Sequence[object],
    geometry: Geometry,
    *,
    repair: bool = False,
    encoding: str | None = None,
) -> Converted:
    """Convert a column to two-dimensional geometry in longitude and latitude, as GeoJSON or WKT.

    Each value is one of: null; a shapely object or another one with `__geo_interface__`; a GeoJSON geometry or feature
    as a dict or text; WKT or EWKT; WKB or EWKB, also in hexadecimal; an `Unreadable`. An Arrow array may have a native
    encoding of GeoParquet 1.1 or GeoArrow. Altitudes and measures are dropped, repeated points as well, an empty
    geometry of any type becomes an empty collection. Everything else arrives exactly, or is a defect.

    Args:
        values: The column; an Arrow array (chunked, too) or any sequence.
        geometry: Its reference system and edges. Without a reference system, the SRID of each value is honoured.
        repair: Whether invalid geometries are repaired as by `shapely.make_valid`, and open rings closed.
        encoding: The native encoding that GeoParquet metadata name, such as `multipoint`; an extension type names its
            own.

    Raises:
        ValueError: If the reference system is unknown, or the Arrow type does not hold geometry.
    """
    known = crs.system(geometry.crs)
    shapes = read(values, encoding, repair)
    _flatten(shapes)
    _refuse_infinite(shapes)
    _convert_systems(shapes, geometry, known)
    _keep_in_range(shapes)
    crossing = _check_geodesics(shapes) if geometry.edges == "spherical" else {}
    repaired = _check_validity(shapes, crossing, repair)
    if geometry.edges == "spherical":
        _orient(shapes, crossing)
    return Converted(_texts(shapes.found, geometry.edges), shapes.defects, repaired, _bounds(shapes.found))


def points(lon: pyarrow.Array | Sequence[object], lat: pyarrow.Array | Sequence[object]) -> list[object]:
    """Return points for `convert`, from a column of longitudes and one of latitudes: numbers, or text of numbers.

    A point is None where either is null, and an `Unreadable` where either is no number.

    Raises:
        ValueError: If the columns differ in length.
    """
    np, shapely = required("numpy"), required("shapely")
    columns = [_numbers(column, name) for column, name in ((lon, "longitude"), (lat, "latitude"))]
    if len(columns[0][0]) != len(columns[1][0]):
        raise ValueError("The columns of longitudes and latitudes have different lengths.")
    found: list[object] = list(shapely.points(np.column_stack([numbers for numbers, _ in columns])))
    for index in {index: None for _, others in columns for index in others}:
        flaws = [others[index] for _, others in columns if index in others]
        found[index] = None if None in flaws else flaws[0]
    return found


def _numbers(column: pyarrow.Array | Sequence[object], name: str) -> tuple[numpy.ndarray, dict[int, Unreadable | None]]:
    """Return a column as doubles, and what cannot be one, by index."""
    np = required("numpy")
    arrow = required("pyarrow")
    if isinstance(column, (arrow.Array, arrow.ChunkedArray)):
        if arrow.types.is_floating(column.type) or arrow.types.is_integer(column.type):
            nulls = np.flatnonzero(np.asarray(column.is_null()))
            return np.asarray(column.fill_null(0), dtype=float), dict.fromkeys(nulls.tolist())
        column = column.to_pylist()
    numbers = np.zeros(len(column))
    others: dict[int, Unreadable | None] = {}
    for index, value in enumerate(column):
        if value is None or type(value).__name__ == "NAType":
            others[index] = None
        elif _is_number(value):
            numbers[index] = float(value)
        else:
            others[index] = Unreadable(f"has the {name} {value!r}, which is not a number: correct it")
    return numbers, others


def _is_number(value: object) -> TypeGuard[SupportsFloat | str]:
    if isinstance(value, str):
        return NUMBER.fullmatch(value) is not None
    return hasattr(value, "__float__") and type(value).__name__ not in ("bool", "bool_")


def _flatten(shapes: Shapes) -> None:
    """Drop altitudes and measures, and make lines of shapely's free rings, a type that no format has."""
    shapely = required("shapely")
    shapes.found[:] = shapely.force_2d(shapes.found)
    rings = shapely.get_type_id(shapes.found) == shapely.GeometryType.LINEARRING
    for index in rings.nonzero()[0].tolist():
        ring = shapes.found[index]
        shapes.found[index] = shapely.set_srid(shapely.LineString(ring), shapely.get_srid(ring))


def _refuse_infinite(shapes: Shapes) -> None:
    np, shapely = required("numpy"), required("shapely")
    coordinates, owners = shapely.get_coordinates(shapes.found, return_index=True)
    for place in np.flatnonzero(~np.isfinite(coordinates).all(axis=1)).tolist():
        place_text = crs.place_of(coordinates[place])
        shapes.refuse(int(owners[place]), f"has a coordinate that is not a finite number: {place_text}")


def _convert_systems(shapes: Shapes, geometry: Geometry, known: pyproj.CRS | None) -> None:
    """Convert the geometries to longitude and latitude, each from its own reference system if the column has none."""
    np, shapely = required("numpy"), required("shapely")
    srids = shapely.get_srid(shapes.found)
    for srid in np.unique(srids[srids >= 0]).tolist():
        indexes = np.flatnonzero(srids == srid)
        system = known
        if srid:
            try:
                system = crs.system_of_srid(srid)
            except ValueError:
                _refuse_all(shapes, indexes, f"has the SRID {srid}, which is not known: convert it to EPSG:4326")
                continue
            if geometry.crs is not None and not crs.same(system, known):
                reason = f"has the SRID {srid}, but the column is in {crs.name(known)}: set either right"
                _refuse_all(shapes, indexes, reason)
                continue
        if system is not None:
            found = shapes.found[indexes]
            defects = crs.to_longitude_latitude(found, system, geometry.edges == "planar")
            shapes.found[indexes] = found
            for index, reason in defects.items():
                shapes.refuse(int(indexes[index]), reason)


def _refuse_all(shapes: Shapes, indexes: numpy.ndarray, reason: str) -> None:
    for index in indexes.tolist():
        shapes.refuse(index, reason)


def _keep_in_range(shapes: Shapes) -> None:
    """Refuse coordinates that are off the map, except for the noise of computations."""
    np, shapely = required("numpy"), required("shapely")
    limits = np.array([180.0, 90.0])
    coordinates, owners = shapely.get_coordinates(shapes.found, return_index=True)
    off = np.flatnonzero((np.abs(coordinates) > limits).any(axis=1))
    for place in off[(np.abs(coordinates[off]) > limits + NOISE).any(axis=1)].tolist():
        shapes.refuse(int(owners[place]), _describe_place(*coordinates[place].tolist()))
    noisy = np.unique(owners[off])
    shapes.found[noisy] = shapely.transform(shapes.found[noisy], lambda xy: np.clip(xy, -limits, limits))


def _describe_place(x: float, y: float) -> str:
    place = f"has the coordinates {crs.place_of((x, y))}, beyond longitude and latitude:"
    if abs(x) > 360 or abs(y) > 360:
        return f"{place} if they are metres or feet, name the reference system with crs="
    if abs(x) <= 90 < abs(y) <= 180:
        return f"{place} latitude and longitude seem to be exchanged; longitude comes first"
    if 180 < x <= 360 and abs(y) <= 90:
        return f"{place} longitudes go from -180 to 180, so subtract 360 from those above 180"
    return f"{place} correct them, or name the reference system with crs="


def _check_geodesics(shapes: Shapes) -> dict[int, shapely.Geometry]:
    """Refuse what no geodesics can be, and return polygons across 180 degrees of longitude in unbroken longitudes.

    A geodesic takes the short side of the Earth, so such a polygon looks inside out on the map.
    """
    np, shapely = required("numpy"), required("shapely")
    chains, owners = crs.chains_of(shapes.found)
    coordinates, chain = shapely.get_coordinates(chains, return_index=True)
    edges = np.flatnonzero(chain[1:] == chain[:-1])
    start, end = coordinates[edges], coordinates[edges + 1]
    across = np.abs(end[:, 0] - start[:, 0])
    (low, high), turn = np.radians((start[:, 1], end[:, 1])), np.radians(across)
    for edge in np.flatnonzero(np.sin(low) * np.sin(high) + np.cos(low) * np.cos(high) * np.cos(turn) <= OPPOSITE):
        reason = (
            f"has an edge of 180 degrees, from {crs.place_of(start[edge])} to {crs.place_of(end[edge])}, "
            "which may go either way: add a point on it"
        )
        shapes.refuse(int(owners[chain[edges[edge]]]), reason)
    is_ring = shapely.get_type_id(chains) == shapely.GeometryType.LINEARRING
    for ring in np.unique(chain[(np.abs(coordinates[:, 1]) == 90) | (coordinates[:, 0] == -180)]).tolist():
        if is_ring[ring] and _meets_itself(shapely.get_coordinates(chains[ring])):
            reason = (
                "has a ring with two corners at one place of the globe, at a pole or at 180 degrees: split it there"
            )
            shapes.refuse(int(owners[ring]), reason)
    crossing = {}
    for index in np.unique(owners[chain[edges[across >= 180]]]).tolist():
        if shapes.found[index] is not None:
            try:
                crossing[index] = _unbroken(shapes.found[index])
            except _AroundPole:
                shapes.refuse(index, "has a ring around or through a pole: split it along a meridian")
    return crossing


def _meets_itself(ring: numpy.ndarray) -> bool:
    """Whether a ring has corners that differ on the map, but not on the globe."""
    np = required("numpy")
    globe = ring + 0.0
    globe[globe[:, 0] == -180, 0] = 180
    globe[np.abs(globe[:, 1]) == 90, 0] = 0
    return len(np.unique(globe, axis=0)) < len(np.unique(ring, axis=0))


class _AroundPole(ValueError):
    """A ring does not close in unbroken longitudes."""


def _unbroken(shape: shapely.Geometry, west: float | None = None) -> shapely.Geometry:
    """Return a geometry with the longitudes of its rings going on beyond 180; those of holes are east of `west`."""
    np, shapely = required("numpy"), required("shapely")
    if hasattr(shape, "geoms"):
        return type(shape)([_unbroken(part) for part in shape.geoms])
    if isinstance(shape, shapely.Polygon):
        shell = _unbroken(shape.exterior, -180)
        return shapely.Polygon(shell, [_unbroken(hole, shell.bounds[0]) for hole in shape.interiors])
    if west is None:
        return shape
    coordinates = shapely.get_coordinates(shape)
    lon = np.unwrap(coordinates[:, 0], period=360)
    if abs(lon[0] - lon[-1]) > 180:
        raise _AroundPole
    lon += 360 * np.ceil((west - lon.min()) / 360)
    return type(shape)(np.column_stack([lon, coordinates[:, 1]]))


def _oriented(shape: shapely.Geometry, unbroken: shapely.Geometry) -> shapely.Geometry:
    """Return a geometry with its shells counter-clockwise and its holes clockwise, as they are in `unbroken`."""
    shapely = required("shapely")
    if hasattr(shape, "geoms"):
        parts = zip(shape.geoms, unbroken.geoms, strict=True)
        return type(shape)([_oriented(part, whole) for part, whole in parts])
    if not isinstance(shape, shapely.Polygon):
        return shape
    shell = shape.exterior if unbroken.exterior.is_ccw else shape.exterior.reverse()
    holes = zip(shape.interiors, unbroken.interiors, strict=True)
    return shapely.Polygon(shell, [hole.reverse() if whole.is_ccw else hole for hole, whole in holes])


def _orient(shapes: Shapes, crossing: Mapping[int, shapely.Geometry]) -> None:
    oriented = required("shapely").orient_polygons(shapes.found)
    for index, unbroken in crossing.items():
        if shapes.found[index] is not None:
            oriented[index] = _oriented(shapes.found[index], unbroken)
    shapes.found[:] = oriented


def _check_validity(
    shapes: Shapes, crossing: Mapping[int, shapely.Geometry], repair: bool
) -> dict[int, tuple[float, float]]:
    """Refuse or repair invalid geometries, and return areas before and after by index."""
    np, shapely = required("numpy"), required("shapely")
    checked = shapes.found.copy()
    for index, shape in crossing.items():
        checked[index] = shape
    present = ~np.equal(shapes.found, None)
    repaired = {}
    for index in np.flatnonzero(present & ~shapely.is_valid(checked)).tolist():
        shape = shapes.found[index]
        mended = _mended(shape) if repair and index not in crossing else None
        if mended is None:
            shapes.refuse(index, _describe_problem(checked[index], index in crossing, repair))
        else:
            shapes.found[index] = mended
            repaired[index] = (_area(shape), _area(mended))
    for index in shapes.closed - repaired.keys() - shapes.defects.keys():
        repaired[index] = (_area(shapes.found[index]),) * 2
    return repaired


def _describe_problem(shape: shapely.Geometry, is_crossing: bool, repair: bool) -> str:
    match = REASON.fullmatch(required("shapely").is_valid_reason(shape))
    reason, place = match.groups() if match else ("Invalid geometry", "")
    step = MEND
    if reason.startswith("Too few points"):
        step = "give it more, or make it null"
    elif is_crossing:
        step = "correct it, or split it at 180 degrees of longitude"
    elif repair:
        step = "nothing of its own dimension is left if it is repaired, so correct it"
    return f"{PROBLEMS.get(reason, 'is invalid')} at {place} ({reason}): {step}"


def _mended(shape: shapely.Geometry) -> shapely.Geometry | None:
    """Return a geometry made valid, without what has lost a dimension; None if nothing is left."""
    shapely = required("shapely")
    if isinstance(shape, shapely.GeometryCollection):
        parts = [part if part.is_valid else _mended(part) for part in shape.geoms]
        kept = [part for part in parts if part is not None]
        return shapely.GeometryCollection(kept) if kept else None
    valid = shapely.make_valid(shape)
    parts, dimension = shapely.get_parts(shapely.get_parts(valid)), shapely.get_dimensions(shape)
    kept = parts[shapely.get_dimensions(parts) == dimension]
    if not len(kept):
        return None
    if len(kept) == 1:
        return kept[0]
    return (shapely.MultiPoint, shapely.MultiLineString, shapely.MultiPolygon)[dimension](list(kept))


def _area(shape: shapely.Geometry) -> float:
    """Return the area of a geometry in longitude and latitude, in square metres on the ellipsoid."""
    pyproj, shapely = required("pyproj"), required("shapely")
    if hasattr(shape, "geoms"):
        return math.fsum(_area(part) for part in shape.geoms)
    if not isinstance(shape, shapely.Polygon):
        return 0.0
    geod = pyproj.Geod(ellps="WGS84")
    return abs(float(geod.geometry_area_perimeter(shapely.orient_polygons(shape))[0]))


def _texts(shapes: numpy.ndarray, edges: str) -> pyarrow.StringArray:
    """Return geometries as GeoJSON or WKT, without repeated points and empty parts."""
    arrow, np, shapely = required("pyarrow"), required("numpy"), required("shapely")
    compute = required("pyarrow.compute")
    shapes[:] = shapely.remove_repeated_points(shapes)
    empty = shapely.is_empty(shapes)
    shapes[empty] = shapely.GeometryCollection()

    write = shapely.to_geojson if edges == "planar" else partial(shapely.to_wkt, rounding_precision=WKT_DECIMALS)
    texts = write(shapes)
    marked = compute.match_substring(arrow.array(texts, arrow.string()), "[]" if edges == "planar" else "EMPTY")
    for index in np.flatnonzero(np.asarray(marked.fill_null(False)) & ~empty).tolist():
        shapes[index] = _without_empty_parts(shapes[index])
        texts[index] = write(shapes[index])
    return arrow.array(texts, arrow.string())


def _without_empty_parts(shape: shapely.Geometry) -> shapely.Geometry:
    if not hasattr(shape, "geoms"):
        return shape
    return type(shape)([_without_empty_parts(part) for part in shape.geoms if not part.is_empty])


def _bounds(shapes: numpy.ndarray) -> tuple[float, float, float, float] | None:
    coordinates = required("shapely").get_coordinates(shapes)
    if not len(coordinates):
        return None
    (west, south), (east, north) = coordinates.min(axis=0).tolist(), coordinates.max(axis=0).tolist()
    return west, south, east, north
