"""Read Parquet, GeoParquet and Arrow files in batches, with what they say about their geometry."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

from ..packages import required
from .base import Chunk, Source
from .columns import extension_of
from .crs import WGS84
from .reading import CHUNK_ROWS, check_text, geometry_of, guarded, rows_per_chunk, unreadable
from .shapes import TYPE_NAMES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    import pyarrow.parquet

    from ...http import Json
    from ..options import LoadOptions
    from .base import Geometry

READ_AHEAD = 1024 * 1024
"""Bytes of a column that are read at a time. Without it, Arrow reads the column of a whole row group into memory."""
PLAIN_TYPES = frozenset(
    ("bool", "int32", "int64", "float", "double", "string", "binary", "date32[day]", "timestamp[us, tz=UTC]")
)
"""Arrow types that BigQuery reads from Parquet exactly, whatever the values are."""
PLAIN_CODECS = frozenset({"UNCOMPRESSED", "SNAPPY", "GZIP", "ZSTD"})


def open_parquet(path: Path, place: str, options: LoadOptions) -> Source:
    """Open a Parquet file; the columns that GeoParquet, GeoArrow or Parquet's own types declare are geometry.

    https://geoparquet.org/releases/v1.1.0/ and, for files without its metadata, https://geoarrow.org/extension-types

    Raises:
        ValueError: If the file is damaged, its metadata are, or the reference system of its geometry is unknown.
    """
    arrow = required("pyarrow")
    errors = (OSError, arrow.lib.ArrowException, UnicodeDecodeError)
    try:
        file = required("pyarrow.parquet").ParquetFile(path, buffer_size=READ_AHEAD, pre_buffer=False)
        declared = _declared(file)
    except errors as error:
        raise unreadable(place, "Parquet", error) from None
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{place} has damaged metadata about its geometry: {error!r}. Write the file anew.") from None
    schema, size = file.schema_arrow, path.stat().st_size
    geometry = _geometry(schema, declared, options, place)
    counted = [0]

    def chunks() -> Iterator[Chunk]:
        batches = file.iter_batches(_batch_size(file.metadata))
        with file:
            for batch in guarded(batches, place, "Parquet", errors):
                check_text(batch, f"{place}: rows from {counted[0] + 1} on", "write the file anew")
                yield Chunk(batch, counted[0] + 1, place, geometry)
                counted[0] += len(batch)
            if not counted[0]:
                yield Chunk(arrow.RecordBatch.from_pylist([], schema), 1, place, geometry)

    found = {"format": "PARQUET", **_found(geometry)}
    return Source(chunks(), found, size, lambda: size * counted[0] // max(file.metadata.num_rows, 1))


def open_arrow(path: Path, place: str, options: LoadOptions) -> Source:
    """Open an Arrow IPC file or stream (`.arrow`, `.feather`); columns that GeoArrow declares are geometry.

    Raises:
        ValueError: If the file is damaged, or the reference system of its geometry is unknown.
    """
    arrow, ipc = required("pyarrow"), required("pyarrow.ipc")
    errors = (OSError, arrow.lib.ArrowException)
    try:
        mapped = arrow.memory_map(str(path))
        is_file = bytes(mapped.read(6)) == b"ARROW1"
        mapped.seek(0)
        reader = ipc.open_file(mapped) if is_file else ipc.open_stream(mapped)
    except errors as error:
        raise unreadable(place, "Arrow", error) from None
    count = reader.num_record_batches if is_file else 0
    batches = (reader.get_batch(number) for number in range(count)) if is_file else iter(reader)
    schema, size = reader.schema, path.stat().st_size
    geometry = _geometry(schema, {}, options, place)
    read = [0]

    def chunks() -> Iterator[Chunk]:
        first = 1
        for batch in guarded(batches, place, "Arrow", errors):
            check_text(batch, f"{place}: rows from {first} on", "write the file anew")
            step = rows_per_chunk(batch.nbytes, len(batch))
            for start in range(0, len(batch), step):
                yield Chunk(batch.slice(start, step), first, place, geometry)
                first += min(step, len(batch) - start)
            read[0] += 1
        if first == 1:
            yield Chunk(arrow.RecordBatch.from_pylist([], schema), 1, place, geometry)

    def position() -> int:
        return size * read[0] // max(count, 1) if is_file else int(mapped.tell())

    return Source(chunks(), {"format": "ARROW", **_found(geometry)}, size, position)


def plain_columns(path: Path) -> list[str]:
    """Return the columns of a file that BigQuery reads exactly as it is; none if there is any other column.

    Such a file has flat columns of plain types, and no geometry.
    """
    try:
        file = required("pyarrow.parquet").ParquetFile(path)
        declared = _declared(file)
    except (AttributeError, KeyError, OSError, TypeError, ValueError):
        return []  # `open_parquet` says what is wrong
    with file:
        metadata, schema = file.metadata, file.schema_arrow
        groups = (metadata.row_group(number) for number in range(metadata.num_row_groups))
        codecs = {group.column(number).compression for group in groups for number in range(group.num_columns)}
        is_geo = bool(declared) or any(_extension(field)[0] for field in schema)
        are_plain = {str(field.type) for field in schema} <= PLAIN_TYPES and codecs <= PLAIN_CODECS
        return list(schema.names) if are_plain and metadata.num_rows and not is_geo else []


def _batch_size(metadata: pyarrow.parquet.FileMetaData) -> int:
    """Return how many rows of the widest row group make a chunk."""
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    return min((rows_per_chunk(group.total_byte_size, group.num_rows) for group in groups), default=CHUNK_ROWS)


def _declared(file: pyarrow.parquet.ParquetFile) -> dict[str, Json]:
    """Return what GeoParquet's metadata, or else Parquet's own types, say about each geometry column."""
    footer = {**(file.schema_arrow.metadata or {}), **(file.metadata.metadata or {})}
    if b"geo" in footer:
        columns = json.loads(footer[b"geo"]).get("columns", {})
        return {name: {"crs": WGS84, **declared} for name, declared in columns.items()}
    found = {}
    for number in range(len(file.schema)):
        column = file.schema.column(number)
        logical = json.loads(column.logical_type.to_json() or "{}")
        if logical.get("Type") in ("Geometry", "Geography"):
            crs = logical.get("crs") or WGS84
            if crs.startswith("projjson:"):
                crs = footer[crs.removeprefix("projjson:").encode()].decode()
            edges = logical.get("algorithm", "spherical") if logical["Type"] == "Geography" else "planar"
            found[column.path] = {"crs": None if crs == "srid:0" else crs, "edges": edges}
    return found


def _geometry(
    schema: pyarrow.Schema, declared: Mapping[str, Json], options: LoadOptions, place: str
) -> dict[str, Geometry]:
    """Return how each geometry column is meant; GeoParquet's metadata rule over GeoArrow's."""
    found = {}
    for field in schema:
        extension, more = _extension(field)
        if field.name not in declared and not extension:
            continue
        meant = declared.get(field.name, more)
        where = f"{place}: the geometry in column {field.name}"
        known = geometry_of(meant.get("crs"), meant.get("edges"), options, where)
        encoding = str(meant.get("encoding") or extension.removeprefix("geoarrow.")).lower()
        found[field.name] = replace(known, encoding=encoding if encoding in TYPE_NAMES else None)
    return found


def _extension(field: pyarrow.Field) -> tuple[str, Json]:
    """Return a field's GeoArrow extension and its metadata; an empty name for any other field."""
    kind, metadata = field.type, field.metadata or {}
    name = extension_of(field)
    if not name.startswith("geoarrow.") or name == "geoarrow.box":
        return "", {}
    is_registered = hasattr(kind, "__arrow_ext_serialize__")
    text = kind.__arrow_ext_serialize__() if is_registered else metadata.get(b"ARROW:extension:metadata", b"")
    more = json.loads(text or b"{}")
    return name, more if isinstance(more, dict) else {}


def _found(geometry: Mapping[str, Geometry]) -> dict[str, object]:
    return {"geometry": sorted(geometry)} if geometry else {}
