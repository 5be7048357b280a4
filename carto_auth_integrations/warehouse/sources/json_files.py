"""Read JSON: lines, arrays and single objects; and GeoJSON in every form, streamed even if it is one line."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import IO, TYPE_CHECKING, Any, Literal, NamedTuple

from .base import Chunk, Geometry, Source
from .json_values import Values, exact, object_parser, rough
from .reading import CHUNK_ROWS, geometry_of
from .texts import TextFile, text_file

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path
    from typing import TypeAlias

    from ..options import LoadOptions
    from .json_values import Parse

    Layout: TypeAlias = Literal["values", "array", "collection"]
    """Values one after the other, such as lines; an array of them; or the features of a FeatureCollection."""

GEOMETRY = "geom"
ID = "id"
SHAPES = frozenset(
    {"Point", "MultiPoint", "LineString", "MultiLineString", "Polygon", "MultiPolygon", "GeometryCollection"}
)
COORDINATES = frozenset({"coordinates", "geometries"})
OF_SHAPES = frozenset({"type", "bbox", "crs"}) | COORDINATES
OF_FEATURES = frozenset({"type", "bbox", "crs", "geometry", "properties", "id"})
"""Members that a standard defines: https://www.rfc-editor.org/rfc/rfc7946. Others become columns."""
NOTHING: Mapping[str, Any] = {}
CHUNK_CHARACTERS = 2 * 1024 * 1024
"""Characters of a chunk: as Python objects they take some ten times as much memory."""

_parse_feature: Parse = object_parser(COORDINATES | {"geometry"})


@dataclass
class _Progress:
    """Bytes that were read, in all passes over a file.

    Attributes:
        passes: How often the file is read.
    """

    passes: int
    done: int = 0
    current: IO[bytes] | None = None

    def position(self) -> int:
        return (self.done + (self.current.tell() if self.current else 0)) // self.passes


@dataclass
class _Survey:
    """What is to be known of all features before the first row.

    Attributes:
        features: How many there are.
        properties: Names of their properties.
        foreign: Names of their members that GeoJSON does not define.
        have_id: Whether any has an id.
        systems: The reference systems that members `crs` name, as JSON.
    """

    features: int = 0
    properties: dict[str, None] = field(default_factory=dict)
    foreign: dict[str, None] = field(default_factory=dict)
    have_id: bool = False
    systems: dict[str, None] = field(default_factory=dict)

    def add(self, feature: _Feature) -> None:
        self.features += 1
        if not feature.properties.keys() <= self.properties.keys():
            self.properties |= dict.fromkeys(feature.properties)
        if feature.foreign:
            self.foreign |= dict.fromkeys(feature.foreign)
        self.have_id = self.have_id or feature.id is not None
        if feature.system is not None:
            self.add_system(feature.system)

    def add_system(self, system: object) -> None:
        self.systems[json.dumps(system, sort_keys=True)] = None

    def columns(self) -> dict[str, str]:
        """Return the names of the columns of an id, of other members, and of the geometry, by what they are called."""
        taken = {name.lower() for name in self.properties}
        return {name: _free(name, taken) for name in (*([ID] if self.have_id else ()), *self.foreign, GEOMETRY)}


class _Feature(NamedTuple):
    """A feature; a geometry alone is one without properties. A named tuple is made faster than a dataclass."""

    properties: Mapping[str, Any]
    geometry: object
    id: object = None
    system: object = None
    foreign: Mapping[str, Any] = NOTHING


def open_json(path: Path, place: str, options: LoadOptions) -> Source:
    """Open JSON whose rows are objects: one a line, or an array of them, or a single one over several lines.

    GeoJSON is recognized, and read as `open_geojson` does. Integers of any size are exact; a number with a point is a
    `Decimal` where a float would be another number.

    Raises:
        ValueError: If the content is not JSON, has no rows, or one of them is not an object or has a key twice; the
            message names the line.
    """
    file = text_file(path, place, options.encoding)
    layout, first = _layout(file)
    if layout == "collection" or _is_feature(first) or _is_shape_alone(first):
        return _geojson(file, layout, options)
    _check_kind(first, place)
    progress = _Progress(passes=1)

    def chunks() -> Iterator[Chunk]:
        with _values(file, progress) as values:
            rows = values.items() if layout == "array" else values.all()
            yield from _gathered(_objects(rows, values), values, Chunk([], place=place))

    return Source(chunks(), {"format": "JSON", **_found(file)}, file.size, progress.position)


def open_geojson(path: Path, place: str, options: LoadOptions) -> Source:
    """Open GeoJSON: a FeatureCollection, a Feature, a geometry, several of these in lines, an array or a sequence.

    A row has the properties of a feature. Its id becomes the column `id`, its geometry the column `geom`, and other
    members that GeoJSON does not define become columns of their names; with one or more `_` at the end where a property
    has that name, in capitals or not. Left out are `bbox`, and what a FeatureCollection has beside its features. The
    member `crs` of GeoJSON before RFC 7946 is honoured.

    Raises:
        ValueError: If the content is not GeoJSON, has no features, or names no known or several reference systems.
            Reading the chunks raises one for a feature that is malformed, naming the line.
    """
    file = text_file(path, place, options.encoding)
    layout, first = _layout(file)
    if layout != "collection" and not _is_feature(first) and not _is_shape(first):
        _check_kind(first, place)
        raise ValueError(
            f'{place} is JSON, but not GeoJSON: it has no features; pass format="JSON" to load its objects as rows.'
        )
    return _geojson(file, layout, options)


def _geojson(file: TextFile, layout: Layout, options: LoadOptions) -> Source:
    progress = _Progress(passes=2)

    def chunks() -> Iterator[Chunk]:
        survey, nothing = _Survey(), Chunk([], place=file.place)
        with _values(file, progress) as values:
            told = 0
            for feature in _features(values, layout, survey, rough):
                survey.add(feature)
                if values.characters > told + CHUNK_CHARACTERS:
                    told = values.characters
                    yield nothing  # so that the progress is seen to move
        if not survey.features:
            raise ValueError(f"{file.place} has no features: there is nothing to load.")
        columns = survey.columns()
        meant = {columns[GEOMETRY]: _reference(survey, file.place, options)}
        with _values(file, progress) as values:
            rows = (_row(feature, columns) for feature in _features(values, layout, _Survey(), _parse_feature))
            yield from _gathered(rows, values, replace(nothing, geometry=meant))

    return Source(chunks(), {"format": "GEOJSON", **_found(file)}, file.size, progress.position)


def _found(file: TextFile) -> dict[str, object]:
    return {"encoding": file.encoding, "compression": "gzip" if file.is_compressed else "none"}


@contextmanager
def _values(file: TextFile, progress: _Progress | None = None) -> Iterator[Values]:
    """Open a file, and count it as read at the end."""
    with file.open() as (stream, stored):
        if progress is None:
            yield Values(stream, file.place)
            return
        progress.current = stored
        try:
            yield Values(stream, file.place)
        finally:
            progress.current = None
        progress.done += file.size


def _gathered(rows: Iterator[dict[str, Any]], values: Values, pattern: Chunk) -> Iterator[Chunk]:
    """Gather rows into chunks."""
    gathered: list[dict[str, Any]] = []
    first, begin = 1, 0
    for number, row in enumerate(rows, start=1):
        gathered.append(row)
        if len(gathered) == CHUNK_ROWS or values.characters > begin + CHUNK_CHARACTERS:
            yield replace(pattern, data=gathered, first_row=first)
            gathered, first, begin = [], number + 1, values.characters
    if gathered:
        yield replace(pattern, data=gathered, first_row=first)


def _layout(file: TextFile) -> tuple[Layout, Any]:
    """Return how the values of a file are laid out, and the first one as far as it tells what it is."""
    with _values(file) as values:
        begin = values.peek()
        if begin == "[":
            first = next(values.items(_parse_feature), None)
            if first is None:
                raise ValueError(f"{file.place} holds an empty array: there is nothing to load.")
            return "array", first[0] if isinstance(first, tuple) else first
        if begin == "<":
            raise ValueError(f"{file.place} is XML or HTML, not JSON: check where it is from.")
        if begin != "{":
            raise values.error(f"{begin!r} begins no object" if begin else "there is nothing to load")
        return _layout_of_object(values)


def _layout_of_object(values: Values) -> tuple[Layout, dict[str, Any]]:
    members: dict[str, Any] = {}
    for key in values.members():
        if key == "features" and values.peek() == "[":
            items = values.items(_parse_feature)
            first = next(items, None)
            item = first[0] if isinstance(first, tuple) else first
            if members.get("type") == "FeatureCollection" or _is_feature(item):
                return "collection", members
            members[key] = [item]
            for _ in items:
                pass
        else:
            members[key] = values.value(exact)
    return ("collection" if members.get("type") == "FeatureCollection" else "values"), members


def _check_kind(first: Any, place: str) -> None:
    """Raise if a value is no object, or is of a format that other tools call JSON too."""
    if not isinstance(first, dict):
        raise ValueError(f"{place}: the first value is {_kind(first)}, not an object, so it has no columns.")
    convert = 'pass format="VECTOR", or convert it with ogr2ogr'
    if first.get("type") == "Topology" and "arcs" in first:
        raise ValueError(f"{place} is TopoJSON: {convert}.")
    if "features" in first and first.keys() & {"geometryType", "spatialReference", "fieldAliases", "displayFieldName"}:
        raise ValueError(f"{place} is the JSON of ESRI, not GeoJSON: {convert}, or ask the service for f=geojson.")


def _kind(value: object) -> str:
    names = {bool: "a boolean", str: "a text", list: "an array", type(None): "null"}
    return names.get(type(value), "a number")


def _objects(rows: Iterator[Any], values: Values) -> Iterator[dict[str, Any]]:
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise values.error(f"row {number} is {_kind(row)}, not an object")
        yield row
    values.end()


def _is_feature(value: Any) -> bool:
    return (
        isinstance(value, dict) and value.get("type") == "Feature" and bool(value.keys() & {"geometry", "properties"})
    )


def _is_shape(value: Any) -> bool:
    return isinstance(value, dict) and value.get("type") in SHAPES and bool(value.keys() & COORDINATES)


def _is_shape_alone(value: Any) -> bool:
    """Whether a value is a geometry, and not a row that looks like one."""
    return _is_shape(value) and value.keys() <= OF_SHAPES


def _features(values: Values, layout: Layout, survey: _Survey, parse: Parse) -> Iterator[_Feature]:
    """Read all features of a file; what a FeatureCollection says of its reference system is noted."""
    if layout == "collection":
        yield from _features_of_collection(values, survey, parse)
        values.end()
        return
    for item in values.items(parse) if layout == "array" else values.all(parse):
        members = item[0] if isinstance(item, tuple) else item
        if isinstance(members, dict) and members.get("type") == "FeatureCollection":
            if "crs" in members:
                survey.add_system(members["crs"])
            for each in members.get("features") or ():
                yield _feature(each, values)
        else:
            yield _feature(item, values)
    values.end()


def _features_of_collection(values: Values, survey: _Survey, parse: Parse) -> Iterator[_Feature]:
    seen: set[str] = set()
    for key in values.members():
        if key in seen:
            raise values.error(f"the key {key!r} is twice in one object: remove or rename one")
        seen.add(key)
        if key == "features" and values.peek() == "[":
            for item in values.items(parse):
                yield _feature(item, values)
            continue
        member = values.value(parse)
        if key == "crs":
            survey.add_system(member[0] if isinstance(member, tuple) else member)


def _feature(item: Any, values: Values) -> _Feature:
    members, text = item if isinstance(item, tuple) else (item, item)
    if _is_feature(members):
        properties = members.get("properties")
        if not isinstance(properties, (dict, type(None))):
            raise values.error(f"the properties of a feature are {_kind(properties)}, not an object")
        foreign = NOTHING
        if not members.keys() <= OF_FEATURES:
            foreign = {name: value for name, value in members.items() if name not in OF_FEATURES}
        return _Feature(properties or {}, members.get("geometry"), members.get("id"), members.get("crs"), foreign)
    if _is_shape(members):
        return _Feature({}, text, foreign={name: value for name, value in members.items() if name not in OF_SHAPES})
    said = f"an object of the type {members.get('type')!r}" if isinstance(members, dict) else "what is no object"
    raise values.error(f"{said} is neither a feature nor a geometry of GeoJSON")


def _row(feature: _Feature, columns: Mapping[str, str]) -> dict[str, Any]:
    row = {columns[ID]: feature.id} if feature.id is not None else {}
    row |= feature.properties
    for name, value in feature.foreign.items():
        row[columns[name]] = value
    row[columns[GEOMETRY]] = feature.geometry
    return row


def _free(name: str, taken: set[str]) -> str:
    """Return a name that is not taken, and take it."""
    while name.lower() in taken:
        name += "_"
    taken.add(name.lower())
    return name


def _reference(survey: _Survey, place: str, options: LoadOptions) -> Geometry:
    """Return how the geometry of a file is meant.

    Raises:
        ValueError: If it names several reference systems, none that is known, or another one than `crs=`.
    """
    if len(survey.systems) > 1:
        raise ValueError(f"{place} names several reference systems: {', '.join(survey.systems)}. Load them alone.")
    if not survey.systems:
        return Geometry.of(options)
    return geometry_of(_declared(json.loads(next(iter(survey.systems))), place), None, options, place)


def _declared(member: Any, place: str) -> object:
    """Return what a member `crs` names.

    https://geojson.org/geojson-spec.html#coordinate-reference-system-objects
    """
    if member is None:
        return None
    properties = member.get("properties") if isinstance(member, dict) else None
    named = properties if isinstance(properties, dict) else {}
    if isinstance(named.get("name"), str):
        return named["name"]
    if "code" in named:
        return f"EPSG:{named['code']}"
    raise ValueError(
        f"{place}: its member crs names no reference system: {json.dumps(member)}. Remove it, and pass crs=."
    )
