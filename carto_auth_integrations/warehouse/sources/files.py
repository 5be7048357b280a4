"""Files that can be loaded: what format they are by their content, and what of them BigQuery takes as it is."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import TYPE_CHECKING

from .rows import WGS84, Batches, batches_of, required

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

FORMATS = {
    ".csv": "CSV",
    ".tsv": "CSV",
    ".json": "JSON",
    ".jsonl": "JSON",
    ".ndjson": "JSON",
    ".geojson": "GEOJSON",
    ".geojsonl": "GEOJSON",
    ".parquet": "PARQUET",
    ".pq": "PARQUET",
    ".geoparquet": "PARQUET",
    ".avro": "AVRO",
}
MAGIC = {b"PAR1": "PARQUET", b"Obj\x01": "AVRO", b"\x1f\x8b": "gzip", b"PK\x03\x04": "ZIP"}
BIGQUERY_FORMATS = {"CSV": "CSV", "JSON": "NEWLINE_DELIMITED_JSON", "PARQUET": "PARQUET", "AVRO": "AVRO"}
GEOMETRY = "geom"
"""The column that a GeoJSON feature's geometry goes into, as CARTO's own imports call it."""


def format_of(path: Path, named: str | None = None) -> str:
    """Tell a file's format by its name, and see whether its content agrees.

    Args:
        path: The file.
        named: The format, if the caller names it: `CSV`, `JSON`, `GEOJSON`, `PARQUET` or `AVRO`.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is empty, of an unknown format, or not what its name says.
    """
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}: check the path.")
    if path.stat().st_size == 0:
        raise ValueError(f"{path} is empty: there is nothing to load.")
    expected = (named or FORMATS.get(path.suffix.lower()) or "").upper()
    if expected not in (*BIGQUERY_FORMATS, "GEOJSON"):
        known = ", ".join(sorted(FORMATS))
        raise ValueError(f"{path}: unknown format; name it with format=, or give the file one of the endings {known}.")
    with path.open("rb") as file:
        start = file.read(4)
    found = next((name for magic, name in MAGIC.items() if start.startswith(magic)), None)
    is_binary = expected in ("PARQUET", "AVRO")
    if (is_binary and found != expected) or (not is_binary and found is not None):
        raise ValueError(f"{path} is not {expected}, as its name says, but {found or 'something else'}.")
    return expected


def geojson_batches(path: Path) -> Batches:
    """Read a GeoJSON file: its features' properties as columns, their geometry as `geom`.

    A file with a feature on each line is streamed; a FeatureCollection is read whole, as JSON has to be. Where a
    property is called `geom` already, the geometry is `geom_`.

    Raises:
        ValueError: If it is no GeoJSON; the message names the feature.
    """
    features, crs = _features(path)
    first = next(features, None)
    name = GEOMETRY if GEOMETRY not in (_properties(first) or {}) else f"{GEOMETRY}_"
    features = itertools.chain([] if first is None else [first], features)
    batches = batches_of(_rows(path, features, name), geometry=(name,), crs=crs)
    assert batches is not None, "rows are iterable"  # noqa: S101
    return batches


def geoparquet_batches(path: Path, crs: Any = None) -> Batches | None:
    """Read a GeoParquet file row group by row group; None if the file is plain Parquet.

    Args:
        path: The file.
        crs: Its reference system, where the file says that it is not known.

    Raises:
        ValueError: If the file or its geometry cannot be read.
    """
    arrow, parquet = required("pyarrow"), required("pyarrow.parquet")
    try:
        file = parquet.ParquetFile(path)
    except arrow.ArrowInvalid as error:
        raise ValueError(f"{path} cannot be read as Parquet: {error}") from None
    described = (file.schema_arrow.metadata or {}).get(b"geo")
    if described is None:
        file.close()
        return None
    columns = json.loads(described).get("columns", {})
    systems = {name: _crs(column.get("crs", WGS84[0])) or crs for name, column in columns.items()}
    if None in systems.values():
        raise ValueError(f"{path} does not say in which reference system its geometry is: give crs=.")
    if len({str(system) for system in systems.values()}) > 1:
        raise ValueError(f"{path} has geometry columns in different reference systems: convert them to one.")
    reader = arrow.RecordBatchReader.from_batches(file.schema_arrow, file.iter_batches())
    return batches_of(reader, geometry=tuple(columns), crs=next(iter(systems.values()), None))


def _rows(path: Path, features: Iterator[Any], name: str) -> Iterator[dict[str, Any]]:
    shapely = required("shapely")
    for number, feature in enumerate(features, start=1):
        properties = _properties(feature)
        if properties is None:
            raise ValueError(f"{path}: item {number} is no GeoJSON feature.")
        if name in properties:
            raise ValueError(f"{path}: feature {number} has a property {name}, as the geometry's column is: rename it.")
        shape = feature.get("geometry")
        try:
            geometry = shapely.geometry.shape(shape).wkt if shape else None
        except (AttributeError, KeyError, TypeError, ValueError, shapely.errors.ShapelyError):
            geometry = ""
        if geometry == "":
            raise ValueError(f"{path}: feature {number} has a geometry that is none.")
        yield {**properties, name: geometry}


def _properties(feature: Any) -> dict[str, Any] | None:
    if not isinstance(feature, dict) or feature.get("type") != "Feature":
        return None
    return feature.get("properties") or {}


def _features(path: Path) -> tuple[Iterator[Any], Any]:
    """Give a file's features, and the reference system it names, as GeoJSON did before RFC 7946."""
    with path.open("rb") as file:
        try:
            head = json.loads(file.readline())
        except ValueError:
            head = None
        if isinstance(head, dict) and head.get("type") == "Feature":
            return _lines(path), None
        file.seek(0)
        try:
            collection = json.load(file)
        except ValueError as error:
            raise ValueError(f"{path} is no GeoJSON: {error}") from None
    if not isinstance(collection, dict) or not isinstance(collection.get("features"), list):
        raise ValueError(f"{path} is no GeoJSON FeatureCollection: it has no list of features.")
    named = collection.get("crs") or {}
    return iter(collection["features"]), (named.get("properties") or {}).get("name")


def _lines(path: Path) -> Iterator[Any]:
    """Read a file that has a feature on each line."""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                feature = json.loads(line)
            except ValueError as error:
                raise ValueError(f"{path}: line {number} is no JSON: {error}") from None
            yield feature


def _crs(described: Any) -> Any:
    """Give a reference system as GeoParquet describes it: PROJJSON, or nothing for longitude and latitude."""
    if isinstance(described, dict):
        identity = described.get("id") or {}
        code = f"{identity.get('authority')}:{identity.get('code')}"
        return code if identity else json.dumps(described)
    return described
