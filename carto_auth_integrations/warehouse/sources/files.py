"""Detect the format of files to load, and read GeoJSON and GeoParquet, whose geometry BigQuery does not load as is."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING

from .rows import WGS84, Batches, batches_of, required, with_wkt

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path
    from typing import Any

FORMATS = {
    **dict.fromkeys((".csv", ".tsv"), "CSV"),
    **dict.fromkeys((".json", ".jsonl", ".ndjson"), "JSON"),
    **dict.fromkeys((".geojson", ".geojsonl"), "GEOJSON"),
    **dict.fromkeys((".parquet", ".pq", ".geoparquet"), "PARQUET"),
    ".avro": "AVRO",
}
"""Formats by file extension."""
MAGIC = {b"PAR1": "PARQUET", b"Obj\x01": "AVRO", b"\x1f\x8b": "gzip", b"PK\x03\x04": "ZIP"}
"""Binary formats by the first bytes of their files."""
BIGQUERY_FORMATS = {"CSV": "CSV", "JSON": "NEWLINE_DELIMITED_JSON", "PARQUET": "PARQUET", "AVRO": "AVRO"}
"""Formats that BigQuery loads, and its names for them (`sourceFormat`)."""
GEOMETRY = "geom"
"""Column for the geometry of GeoJSON features; CARTO's own imports use the same name."""


def format_of(path: Path, named: str | None = None) -> str:
    """Return the format of a file, one of `FORMATS`: `named`, or else the one that its extension stands for.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is empty, its format is unknown, or its first bytes are of another format.
    """
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}: check the path.")
    if path.stat().st_size == 0:
        raise ValueError(f"{path} is empty: there is nothing to load.")
    expected = (named or FORMATS.get(path.suffix.lower()) or "").upper()
    if expected not in FORMATS.values():
        known = ", ".join(sorted(FORMATS))
        raise ValueError(f"{path}: unknown format; pass format=, or use one of the file extensions {known}.")
    with path.open("rb") as file:
        start = file.read(4)
    found = next((name for magic, name in MAGIC.items() if start.startswith(magic)), None)
    if found != (expected if expected in MAGIC.values() else None):
        content = found or "another format"
        raise ValueError(f"{path} is not {expected}, as its extension or format= says: its content is {content}.")
    return expected


def geojson_batches(path: Path) -> Batches:
    """Read a GeoJSON file: each property of the features becomes a column, and their geometry the column `geom`.

    A file with one feature per line is streamed. A FeatureCollection is one JSON document and read into memory as a
    whole. If the first feature has a property `geom`, the geometry column is `geom_`.

    Raises:
        ValueError: If the file is not GeoJSON; the message names the line or the feature.
    """
    features, crs = _features(path)
    head = list(itertools.islice(features, 1))
    column = f"{GEOMETRY}_" if head and GEOMETRY in (_properties(head[0]) or {}) else GEOMETRY
    batches = batches_of(_rows(path, itertools.chain(head, features), column), geometry=(column,), crs=crs)
    assert batches is not None, "rows are iterable"  # noqa: S101
    return batches


def geoparquet_batches(path: Path, crs: object = None) -> Batches | None:
    """Read a GeoParquet file in batches, or return None if the file is plain Parquet.

    The file's metadata names the geometry columns and their reference systems; `crs` replaces an unknown one:
    https://github.com/opengeospatial/geoparquet/blob/v1.0.0/format-specs/geoparquet.md

    Raises:
        ValueError: If the file or its geometry cannot be read.
    """
    arrow, parquet = required("pyarrow"), required("pyarrow.parquet")
    try:
        schema = parquet.read_schema(path)
    except arrow.ArrowInvalid as error:
        raise ValueError(f"{path} cannot be read as Parquet: {error}") from None
    metadata = (schema.metadata or {}).get(b"geo")
    if metadata is None:
        return None
    columns = json.loads(metadata).get("columns", {})
    systems = {name: _crs(column.get("crs", WGS84[0])) or crs for name, column in columns.items()}
    if None in systems.values():
        raise ValueError(f"{path} does not declare the reference system of its geometry: pass crs=.")
    return with_wkt(schema, parquet.ParquetFile(path).iter_batches(), systems)


def _rows(path: Path, features: Iterable[Any], geometry_column: str) -> Iterator[dict[str, object]]:
    """Yield one row per feature: its properties, and its geometry as WKT."""
    shapely = required("shapely")
    for number, feature in enumerate(features, start=1):
        properties = _properties(feature)
        if properties is None:
            raise ValueError(f"{path}: item {number} is not a GeoJSON feature.")
        if geometry_column in properties:
            raise ValueError(
                f"{path}: feature {number} has a property {geometry_column}, "
                "which is the name of the geometry column: rename the property."
            )
        shape = feature.get("geometry")
        try:
            geometry = shapely.geometry.shape(shape).wkt if shape else None
        except (AttributeError, KeyError, TypeError, ValueError, shapely.errors.ShapelyError):
            raise ValueError(f"{path}: feature {number} has an invalid geometry.") from None
        yield {**properties, geometry_column: geometry}


def _properties(feature: Any) -> dict[str, object] | None:
    """Return the properties of a GeoJSON feature, or None if the object is not a feature."""
    is_feature = isinstance(feature, dict) and feature.get("type") == "Feature"
    return feature.get("properties") or {} if is_feature else None


def _features(path: Path) -> tuple[Iterator[Any], str | None]:
    """Return the features of a file and its reference system, or None for longitude and latitude.

    Only GeoJSON from before RFC 7946 names another reference system, in its member `crs` (see section 4 there).
    """
    with path.open("rb") as file:
        try:
            head = json.loads(file.readline())
        except ValueError:
            head = None
    if _properties(head) is not None:
        return _features_by_line(path), None
    try:
        collection = json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} is not GeoJSON: {error}") from None
    if not isinstance(collection, dict) or not isinstance(collection.get("features"), list):
        raise ValueError(f"{path} is not a GeoJSON FeatureCollection: it has no list of features.")
    named = collection.get("crs") or {}
    return iter(collection["features"]), (named.get("properties") or {}).get("name")


def _features_by_line(path: Path) -> Iterator[Any]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                if line.strip():
                    yield json.loads(line)
            except ValueError as error:
                raise ValueError(f"{path}: line {number} is not JSON: {error}") from None


def _crs(declared: Any) -> object:
    """Return the code of a PROJJSON reference system, such as EPSG:4326, or what was declared."""
    identity = isinstance(declared, dict) and declared.get("id")
    return f"{identity.get('authority')}:{identity.get('code')}" if identity else declared
