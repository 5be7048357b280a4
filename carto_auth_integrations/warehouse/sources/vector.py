"""Read geographic files through GDAL: GeoPackage, Shapefile, KML, FlatGeobuf, MapInfo, file geodatabases and others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..packages import required
from .base import Chunk, Source
from .crs import name, system
from .reading import CHUNK_ROWS, check_text, geometry_of, rows_per_chunk, unreadable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pyarrow

    from ...http import Json
    from ..options import LoadOptions
    from .base import Geometry

GEOMETRY = "geom"
"""Name of a geometry column that has none in the file; CARTO's own imports use the same name."""
UNNAMED_GEOMETRY = "wkb_geometry"
"""What GDAL calls such a column."""
INVENTED_FIDS = frozenset({"", "fid", "ogc_fid"})
"""Names of row numbers that GDAL makes up. A key column that a file names itself is loaded."""
STYLES = "layer_styles"
"""A table that QGIS writes into GeoPackages, for itself."""
INDIRECT = frozenset({"CSW", "GDALG", "HTTP", "OAPIF", "OGCAPI", "OGR_VRT", "WFS"})
"""Drivers of GDAL for files that name other files or servers, which a file from elsewhere must not make us read."""


def open_vector(path: Path | str, place: str, options: LoadOptions, size: int) -> Source:
    """Open one layer of a geographic file. Layers without geometry are loaded as tables.

    GDAL holds times in milliseconds, and gives arcs as they are: `geometry.convert` refuses them.

    Args:
        path: The file, or its path in GDAL's virtual file systems.
        place: What messages call it.
        options: `layer`, if there are several; `encoding` for shapefiles that do not name theirs; `crs` likewise.
        size: Its bytes.

    Raises:
        ValueError: If the file cannot be read, has several layers and none is named, or its reference system is not
            known.
    """
    pyogrio, arrow = required("pyogrio", "files"), required("pyarrow")
    errors = (RuntimeError, OSError, ValueError, arrow.lib.ArrowException)
    layer = _layer(path, place, options)
    asked = {"layer": layer, "encoding": options.encoding}
    try:
        info = pyogrio.read_info(str(path), **asked)
    except errors as error:
        raise unreadable(place, "a geographic file", error) from None
    if info["driver"] in INDIRECT:
        raise ValueError(f"{place} only points to other sources ({info['driver']}): load these themselves.")
    has_fid = info.get("fid_column", "").lower() not in INVENTED_FIDS
    rows = rows_per_chunk(size, info["features"]) if info["features"] > 0 else CHUNK_ROWS
    columns = _columns(info)
    geometry: dict[str, Geometry] = {}
    if info["geometry_type"] is not None:
        where = f"{place}: layer {layer}"
        geometry = {columns[_geometry_column(info)]: geometry_of(info["crs"], None, options, where)}
    counted = [0]

    def batches() -> Iterator[pyarrow.RecordBatch]:
        stream = pyogrio.raw.open_arrow(
            str(path), **asked, return_fids=has_fid, batch_size=rows, use_pyarrow=True, datetime_as_string=True
        )
        try:
            with stream as (_, reader):
                yield from reader
        except errors as error:
            raise unreadable(place, "a geographic file", error) from None

    def chunks() -> Iterator[Chunk]:
        for batch in batches():
            first = counted[0] + 1
            counted[0] += len(batch)
            yield Chunk(_named(batch, columns, f"{place}: rows from {first} on"), first, place, geometry)

    found = {"format": "VECTOR", "driver": info["driver"], "layer": layer}
    if geometry:
        found |= {"geometry": sorted(geometry), "crs": name(system(info["crs"] or options.crs))}
    return Source(chunks(), found, size, lambda: size * counted[0] // max(info["features"], counted[0], 1))


def _layer(path: Path | str, place: str, options: LoadOptions) -> str:
    """Return the name of the layer that is meant: the named one, or the only one that has features."""
    pyogrio = required("pyogrio", "files")
    try:
        layers = [str(each) for each, _ in pyogrio.list_layers(str(path)).tolist()]
        if options.layer is None and len(layers) > 1:
            layers = [each for each in layers if each != STYLES]
            layers = [each for each in layers if _features(path, each)] or layers
    except (RuntimeError, OSError, ValueError) as error:
        raise unreadable(place, "a geographic file", error) from None
    if not layers:
        raise ValueError(f"{place} has no layers: there is nothing to load.")
    names = ", ".join(layers)
    if options.layer is not None and options.layer not in layers:
        raise ValueError(f"{place} has no layer {options.layer}: pass layer= with one of {names}.")
    if options.layer is None and len(layers) > 1:
        raise ValueError(f"{place} has several layers: name one with layer=, one of {names}.")
    return options.layer or layers[0]


def _features(path: Path | str, layer: str) -> int:
    features: int = required("pyogrio").read_info(str(path), layer=layer, force_feature_count=True)["features"]
    return features


def _geometry_column(info: Json) -> str:
    return str(info["geometry_name"] or UNNAMED_GEOMETRY)


def _columns(info: Json) -> dict[str, str]:
    """Return the names of columns by their names in GDAL's stream."""
    fields = [str(each) for each in info["fields"]]
    names = {each: each for each in fields}
    if info["geometry_type"] is not None and not info["geometry_name"]:
        names[UNNAMED_GEOMETRY] = f"{GEOMETRY}_" if GEOMETRY in fields else GEOMETRY
    elif info["geometry_type"] is not None:
        names[info["geometry_name"]] = info["geometry_name"]
    return names


def _named(batch: pyarrow.RecordBatch, columns: dict[str, str], where: str) -> pyarrow.RecordBatch:
    """Rename the columns of a batch, and read its points in time, which come as text."""
    arrow = required("pyarrow")
    check_text(batch, where, 'pass encoding=, for example encoding="CP1252"')
    arrays, names = [], []
    for field, array in zip(batch.schema, batch.columns, strict=True):
        column = columns.get(field.name, field.name)
        is_time = (field.metadata or {}).get(b"GDAL:OGR:type") == b"DateTime"
        arrays.append(_instants(array, f"{where}: column {column}") if is_time else array)
        names.append(column)
    return arrow.RecordBatch.from_arrays(arrays, names)


def _instants(texts: pyarrow.StringArray, where: str) -> pyarrow.Array:
    """Return points in time: with a time zone if all have one, without if none has.

    As text, GDAL gives each value with its own time zone; as timestamps it drops different ones.
    """
    arrow = required("pyarrow")
    if texts.null_count == len(texts):
        return arrow.nulls(len(texts))
    for zone in (None, "UTC"):
        try:
            return texts.cast(arrow.timestamp("us", zone))
        except arrow.ArrowInvalid:
            pass
    raise ValueError(
        f"{where} holds points in time with a time zone and without one: load it as text, or make them alike."
    )
