"""Read geometry of any form, value by value or a column at a time, as shapely objects."""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from ..packages import required
from . import crs

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy
    import pyarrow
    import shapely

HEXADECIMAL = re.compile(r"(?:\\x|0x)?((?:[0-9A-Fa-f]{2}){5,})")
"""Hexadecimal WKB, with the prefix of PostgreSQL or SQL Server if there is one."""
EWKT = re.compile(r"SRID\s*=\s*(\d+)\s*;(.*)", re.IGNORECASE | re.DOTALL)
KEYWORD = re.compile(r"\s*([A-Za-z]+)")
COLLECTION = 7
"""The code of a geometry collection in WKB."""
COLLECTION_HEADER = 9
"""Bytes before the parts of a collection in WKB: byte order, type, number of parts."""
SRID_FLAG = 0x20000000
SRID_BYTES = 4
MOST_LEVELS = 100
"""Collections inside each other. GEOS ends the process at some ten thousand."""
SHOWN = 60
"""Characters of an unreadable value that its message shows."""
UNSUPPORTED = {
    8: "CIRCULARSTRING",
    9: "COMPOUNDCURVE",
    10: "CURVEPOLYGON",
    11: "MULTICURVE",
    12: "MULTISURFACE",
    13: "CURVE",
    14: "SURFACE",
    15: "POLYHEDRALSURFACE",
    16: "TIN",
    17: "TRIANGLE",
}
"""Types by their code in WKB that BigQuery does not have."""
NESTING = {"linestring": 1, "multipoint": 1, "polygon": 2, "multilinestring": 2, "multipolygon": 3}
"""Levels of lists of the native encodings of GeoParquet and GeoArrow above their points."""
TYPE_NAMES = {
    "point": "Point",
    "linestring": "LineString",
    "polygon": "Polygon",
    "multipoint": "MultiPoint",
    "multilinestring": "MultiLineString",
    "multipolygon": "MultiPolygon",
}
"""Types of GeoJSON by native encoding."""
LISTS_BY_NAME = {"points": "multipoint", "linestrings": "multilinestring", "rings": "polygon", "vertices": "linestring"}
"""Native encodings by the name that GeoArrow recommends for the items of their lists."""


@dataclass(frozen=True)
class Unreadable:
    """A value that cannot become a geometry.

    Attributes:
        reason: Why, as the end of a sentence: `has the longitude 'abc', which is not a number`.
    """

    reason: str


TOO_DEEP = Unreadable(f"has more than {MOST_LEVELS} levels of collections inside each other: take them apart")


@dataclass(frozen=True)
class Shapes:
    """Geometries of a column while they are checked.

    Attributes:
        found: shapely objects; None for null, and for those with a defect.
        defects: Why a value cannot be loaded, by its index.
        closed: Indexes of those whose rings had to be closed.
    """

    found: numpy.ndarray
    defects: dict[int, str] = field(default_factory=dict)
    closed: set[int] = field(default_factory=set)

    def refuse(self, index: int, reason: str) -> None:
        """Note the defect of a value; its first one counts."""
        self.defects.setdefault(index, reason)
        self.found[index] = None


class Content(NamedTuple):
    """A value in one of the forms that shapely reads, with the SRID that it names otherwise."""

    form: Literal["null", "shape", "wkb", "wkt", "geojson"]
    value: Any = None
    srid: int = 0


def read(values: pyarrow.Array | Sequence[object], encoding: str | None, repair: bool) -> Shapes:
    """Read geometry of any form; SRIDs are kept, values that are no geometry become defects.

    Args:
        values: The column.
        encoding: Its native encoding in GeoParquet, such as `multipoint`, if it has one.
        repair: Whether rings that are not closed are closed.

    Raises:
        ValueError: If an Arrow type holds no geometry, or does not tell which kind.
    """
    np = required("numpy")
    shapes = Shapes(np.full(len(values), None, dtype=object))
    is_arrow = hasattr(values, "to_pylist")
    _read_items(shapes, _read_arrow(shapes, values, encoding) if is_arrow else enumerate(values), repair)
    return shapes


def _read_arrow(shapes: Shapes, values: pyarrow.Array, encoding: str | None) -> Iterable[tuple[int, object]]:
    """Read what can be read a column at a time, and return the other values with their indexes."""
    arrow, np = required("pyarrow"), required("numpy")
    if isinstance(values, arrow.ChunkedArray):
        values = values.combine_chunks()
    if isinstance(values.type, arrow.BaseExtensionType):
        encoding = encoding or values.type.extension_name.removeprefix("geoarrow.")
        values = values.storage
    if arrow.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    if arrow.types.is_struct(values.type) and values.type.get_field_index("type") >= 0:  # GeoJSON objects
        return enumerate(values.to_pylist())
    if arrow.types.is_nested(values.type) or arrow.types.is_fixed_size_list(values.type):  # both, before pyarrow 16
        return _read_native(shapes, values, native_encoding(values.type, encoding))
    items = np.empty(len(values), dtype=object)
    items[:] = values.to_pylist()
    if _holds_bytes(values.type):
        shapes.found[:] = _parse_all("wkb", np.array([_unless_deep(item) for item in items], dtype=object))
    else:
        shapes.found[:] = _parse_all("wkt", np.array([_unless_special(item) for item in items], dtype=object))
    present = np.asarray(values.is_valid())
    failed = np.flatnonzero(present & np.equal(shapes.found, None))
    return [(index, items[index]) for index in failed.tolist()]


def _unless_deep(item: bytes | None) -> bytes | None:
    if item is not None and len(item) > MOST_LEVELS * COLLECTION_HEADER and _is_deep_wkb(item):
        return None
    return item


def _unless_special(item: object) -> object:
    """Return text that looks like WKT of one geometry; None for collections, which may be deep, and anything else."""
    return item if isinstance(item, str) and item[:1] in "PLM" else None


def _holds_bytes(kind: pyarrow.DataType) -> bool:
    return str(kind).startswith(("binary", "large_binary", "fixed_size_binary"))


def native_encoding(kind: pyarrow.DataType, encoding: str | None) -> str:
    """Return the native encoding of a nested Arrow type: `point`, `linestring`, … `multipolygon`.

    Raises:
        ValueError: If it has none, or `encoding` does not fit, or is needed because lists of points may be either.
    """
    levels = 0
    names: list[str] = []
    types = required("pyarrow").types
    while types.is_list(kind) or types.is_large_list(kind):
        levels, names, kind = levels + 1, [*names, kind.value_field.name], kind.value_type
    named = (encoding or "").lower()
    if not _is_point(kind) or named in ("box", "geometry", "geometrycollection"):
        raise ValueError(f"The type {kind} does not hold geometry that can be read: write it as WKB or WKT.")
    if levels == 0 or levels == 3:
        named = named or ("multipolygon" if levels else "point")
    elif not named:
        named = LISTS_BY_NAME.get(names[0], "")
    if NESTING.get(named, 0 if named == "point" else -1) != levels:
        raise ValueError(
            f"{levels} levels of lists of points may be of several types of geometry"
            f"{f', but are not {named}' if named else ''}: name the type in the metadata, or write WKB or WKT."
        )
    return named


def _is_point(kind: pyarrow.DataType) -> bool:
    types = required("pyarrow").types
    if types.is_struct(kind):
        names = [kind.field(index).name for index in range(kind.num_fields)]
        return names[:2] == ["x", "y"] and {*names[2:]} <= {"z", "m"} and bool(types.is_floating(kind.field(0).type))
    return (
        bool(types.is_fixed_size_list(kind)) and 2 <= kind.list_size <= 4 and bool(types.is_floating(kind.value_type))
    )


def _read_native(shapes: Shapes, values: pyarrow.Array, encoding: str) -> Iterable[tuple[int, object]]:
    """Read a column of a native encoding at once; if that fails, return its values as GeoJSON objects."""
    np, shapely = required("numpy"), required("shapely")
    present = np.flatnonzero(np.asarray(values.is_valid()))
    column = values.take(required("pyarrow").array(present))
    offsets: list[numpy.ndarray] = []
    for _ in range(NESTING.get(encoding, 0)):
        offsets.insert(0, np.asarray(column.offsets))
        column = column.values
    points = _coordinates(column)
    rings = offsets[0] if encoding.endswith("polygon") else np.zeros(1, dtype=int)
    filled = rings[:-1][np.diff(rings) > 0], rings[1:][np.diff(rings) > 0] - 1
    is_empty_point = encoding == "point" and np.isnan(points).all(axis=1).any()
    if not column.null_count and not is_empty_point and (points[filled[0]] == points[filled[1]]).all():
        try:
            kind = shapely.GeometryType[encoding.upper()]
            shapes.found[present] = shapely.from_ragged_array(kind, points, tuple(offsets) or None)
            return ()
        except (shapely.errors.GEOSException, ValueError):
            pass  # one of them is no geometry: by itself, it can be named
    items = values.to_pylist()
    return [(index, _native_object(items[index], encoding)) for index in present.tolist()]


def _coordinates(column: pyarrow.Array) -> numpy.ndarray:
    """Return x and y of an Arrow array of points as an array of two columns."""
    np = required("numpy")
    if required("pyarrow").types.is_struct(column.type):
        both: numpy.ndarray = np.column_stack([np.asarray(part, dtype=float) for part in column.flatten()[:2]])
        return both
    size = column.type.list_size
    items = np.asarray(column.values[column.offset * size : (column.offset + len(column)) * size], dtype=float)
    first_two: numpy.ndarray = np.ascontiguousarray(items.reshape(-1, size)[:, :2])
    return first_two


def _native_object(value: object, encoding: str) -> dict[str, object]:
    def positions(item: Any, levels: int) -> Any:
        if levels and item is not None:
            return [positions(part, levels - 1) for part in item]
        return [item["x"], item["y"]] if isinstance(item, dict) else item and item[:2]

    coordinates = positions(value, NESTING.get(encoding, 0))
    if encoding == "point" and all(number is not None and math.isnan(number) for number in coordinates):
        coordinates = []  # how both formats write an empty point
    return {"type": TYPE_NAMES[encoding], "coordinates": coordinates}


def _read_items(shapes: Shapes, items: Iterable[tuple[int, object]], repair: bool) -> None:
    """Sort values by their form, and read each form at once."""
    np, shapely = required("numpy"), required("shapely")
    contents: dict[str, dict[int, Content]] = {"wkb": {}, "wkt": {}, "geojson": {}}
    for index, item in items:
        content = content_of(item)
        if isinstance(content, Unreadable):
            shapes.refuse(index, content.reason)
        elif content.form == "shape":
            shapes.found[index] = content.value
        elif content.form != "null":
            contents[content.form][index] = content
    for form, found in contents.items():
        if not found:
            continue
        indexes = np.fromiter(found, dtype=int)
        texts = np.empty(len(found), dtype=object)
        texts[:] = [content.value for content in found.values()]
        parsed = _parse_all(form, texts)
        for position in np.flatnonzero(np.equal(parsed, None)).tolist():
            index = int(indexes[position])
            parsed[position] = _read_alone(shapes, index, found[index], repair)
        srids = np.fromiter((content.srid for content in found.values()), dtype=int)
        if srids.any():
            parsed[srids > 0] = shapely.set_srid(parsed[srids > 0], srids[srids > 0])
        shapes.found[indexes] = parsed


def _parse_all(form: str, values: numpy.ndarray) -> numpy.ndarray:
    """Return values as shapely objects, with None for those that are no geometry."""
    np, shapely = required("numpy"), required("shapely")
    parse = getattr(shapely, f"from_{form}")
    with np.errstate(all="ignore"):  # GEOS leaves the flags of an overflow behind
        try:
            parsed: numpy.ndarray = parse(values, on_invalid="ignore")
        except NotImplementedError:  # a curve, even if invalid geometry is to be ignored
            parsed = np.full(len(values), None, dtype=object)
            for index, value in enumerate(values):
                try:
                    parsed[index] = parse(value, on_invalid="ignore")
                except NotImplementedError:
                    pass
        return parsed


def content_of(value: object) -> Content | Unreadable:
    """Return a value in a form that shapely reads."""
    if value is None or type(value).__name__ == "NAType" or (isinstance(value, float) and math.isnan(value)):
        return Content("null")
    if isinstance(value, Unreadable):
        return value
    if isinstance(value, str):
        return _text_content(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return _binary_content(bytes(value))
    if isinstance(value, Mapping):
        return _object_content(value)
    if isinstance(value, required("shapely").Geometry):
        return Content("shape", value)
    if hasattr(value, "__geo_interface__"):
        return content_of(value.__geo_interface__)
    return Unreadable(f"is a value of the type {type(value).__name__}, not a geometry: {_cut(repr(value))}")


def _text_content(text: str) -> Content | Unreadable:
    text = text.strip().removeprefix("\ufeff")
    if text.count("(") + text.count("{") > MOST_LEVELS and _is_deep_text(text):
        return TOO_DEEP
    if text.startswith("{"):
        if '"crs"' not in text and '"Feature' not in text:
            return Content("geojson", text)
        try:
            return _object_content(json.loads(text))
        except (ValueError, RecursionError):
            return Content("geojson", text)
    if text.startswith(("0", "\\")) and (match := HEXADECIMAL.fullmatch(text)):
        return _binary_content(bytes.fromhex(match[1]))
    if text.startswith(("S", "s")) and (match := EWKT.fullmatch(text)):
        return Content("wkt", match[2], int(match[1]))
    return Content("wkt", text)


def _binary_content(value: bytes) -> Content | Unreadable:
    """Return bytes as WKB, or as the text that they are, as columns of bytes hold it at times."""
    if value[:1] not in (b"\x00", b"\x01"):
        try:
            return _text_content(value.decode())
        except UnicodeDecodeError:
            pass
    return TOO_DEEP if _is_deep_wkb(value) else Content("wkb", value)


def _is_deep_text(text: str) -> bool:
    steps = {"(": 1, "{": 1, ")": -1, "}": -1}
    return max(itertools.accumulate(steps.get(character, 0) for character in text)) > MOST_LEVELS


def _is_deep_wkb(value: bytes) -> bool:
    start = 0
    for _ in range(MOST_LEVELS):
        code = _type_code(value[start:])
        if code is None or (code & 0x0FFFFFFF) % 1000 != COLLECTION:
            return False
        start += COLLECTION_HEADER + (SRID_BYTES if code & SRID_FLAG else 0)
    return True


def _type_code(wkb: bytes) -> int | None:
    """Return the type in the header of WKB: with the flags of EWKB, or the thousands of ISO for Z and M."""
    return int.from_bytes(wkb[1:5], "little" if wkb[0] else "big") if len(wkb) >= 5 else None


def _object_content(value: Mapping[str, object]) -> Content | Unreadable:
    kind, system = value.get("type"), value.get("crs")
    if kind == "FeatureCollection":
        return Unreadable("is a FeatureCollection, not one geometry: load it as a GeoJSON file, a row for each feature")
    if kind == "Feature":
        shape = value.get("geometry")
        if shape is None:
            return Content("null")
        if not isinstance(shape, Mapping):
            return Unreadable(f"is a GeoJSON feature whose geometry is no object: {_cut(repr(shape))}")
        value = shape if system is None else {"crs": system, **shape}
        return _object_content(value)
    srid = 0
    if system is not None:
        found = _srid_of_member(system)
        if isinstance(found, Unreadable):
            return found
        srid = found
    try:
        members = {name: member for name, member in value.items() if member is not None}
        text = _encoder().encode(members)
    except (TypeError, ValueError, RecursionError):
        return Unreadable(f"is not a GeoJSON geometry: {_cut(repr(value))}")
    return TOO_DEEP if kind == "GeometryCollection" and _is_deep_text(text) else Content("geojson", text, srid)


@lru_cache(maxsize=1)
def _encoder() -> json.JSONEncoder:
    return json.JSONEncoder(default=_plain)


def _plain(value: object) -> object:
    """Return Decimals, numpy's numbers and arrays as what JSON has."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, (str, bytes)) or not hasattr(value, "__float__"):
        raise TypeError
    return float(value)


def _srid_of_member(member: object) -> int | Unreadable:
    """Return the SRID of the member `crs` that GeoJSON had before RFC 7946."""
    properties = member.get("properties") if isinstance(member, Mapping) else None
    named = properties.get("name") if isinstance(properties, Mapping) else None
    try:
        srid = None if named is None else crs.srid_of(named)
    except ValueError:
        srid = None
    if srid is None:
        return Unreadable(f"names a reference system that is not known: {_cut(repr(member))}; convert it to EPSG:4326")
    return srid


def _read_alone(shapes: Shapes, index: int, content: Content, repair: bool) -> shapely.Geometry | None:
    """Return a value that could not be read with the others, with its rings closed if need be, or note its defect."""
    shapely = required("shapely")
    expected = (shapely.errors.ShapelyError, NotImplementedError, TypeError, ValueError, RecursionError)
    try:
        return _parsed(content, close=False)
    except expected as error:
        problem = str(error)
    if repair:
        try:
            shape = _parsed(content, close=True)
        except expected:
            shape = None  # the first problem stays
        if shape is not None:
            shapes.closed.add(index)
            return shape
    shapes.refuse(index, _diagnosis(content, problem))
    return None


def _parsed(content: Content, close: bool) -> shapely.Geometry:
    shapely = required("shapely")
    if content.form == "geojson":
        return shapely.from_geojson(json.dumps(_two_dimensional(json.loads(content.value), close), allow_nan=False))
    reader = shapely.from_wkb if content.form == "wkb" else shapely.from_wkt
    return reader(content.value, on_invalid="fix" if close else "raise")


def _two_dimensional(shape: dict[str, Any], close: bool) -> dict[str, Any]:
    """Return a GeoJSON geometry with two numbers in each position, since shapely reads no more than three."""

    def positions(item: Any) -> Any:
        if not isinstance(item, list) or not item:
            return item
        if isinstance(item[0], list):
            return [positions(part) for part in item]
        return item[:2] if len(item) > 2 else item

    if isinstance(shape.get("geometries"), list):
        return {**shape, "geometries": [_two_dimensional(part, close) for part in shape["geometries"]]}
    coordinates = positions(shape.get("coordinates"))
    if close and shape.get("type") == "Polygon":
        coordinates = [_closed(ring) for ring in coordinates]
    elif close and shape.get("type") == "MultiPolygon":
        coordinates = [[_closed(ring) for ring in polygon] for polygon in coordinates]
    return {**shape, "coordinates": coordinates}


def _closed(ring: list[object]) -> list[object]:
    return ring if ring[:1] == ring[-1:] else [*ring, ring[0]]


def _diagnosis(content: Content, problem: str) -> str:
    """Return what is wrong with a value, given what GEOS says about it."""
    if kind := _unsupported_type(content):
        return f"is a {kind}, which BigQuery does not have: linearise it to points, lines or polygons"
    if "closed linestring" in problem:
        return (
            'has a ring that is not closed: repeat its first point at the end, or load with invalid_geometry="repair"'
        )
    if "must contain 0 or >1" in problem:
        return "has a line of a single point: make it a point, or give it another point"
    if "number of points in LinearRing" in problem:
        return "has a ring of fewer than four points: give it at least three different ones, and repeat the first"
    if "Out of range float" in problem:  # what json says about NaN and infinity
        return f"has a coordinate that is not a finite number: {_shown(content.value)}"
    value = content.value.hex() if isinstance(content.value, bytes) else content.value
    return f"is not WKT, WKB or GeoJSON: {_shown(value)}"


def _unsupported_type(content: Content) -> str | None:
    if content.form == "wkt":
        match = KEYWORD.match(content.value)
        word = match[1].upper() if match else ""
        return next(
            (kind for kind in UNSUPPORTED.values() if word in (kind, f"{kind}Z", f"{kind}M", f"{kind}ZM")), None
        )
    code = _type_code(content.value) if content.form == "wkb" else None
    return None if code is None else UNSUPPORTED.get((code & 0x0FFFFFFF) % 1000)


def _shown(value: str) -> str:
    return repr(_cut(value))


def _cut(text: str) -> str:
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"
