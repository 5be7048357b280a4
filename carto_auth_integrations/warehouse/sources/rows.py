"""Convert tables, data frames, batches and rows to one stream of Arrow batches with geometry as WKT."""

from __future__ import annotations

import datetime
import itertools
from bisect import bisect_left
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

from ...errors import MissingDependency

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from types import ModuleType
    from typing import Any, TypeAlias

    import pyarrow

    GeometryColumns: TypeAlias = Mapping[str, object]

ROWS_PER_BATCH = 10_000
"""Number of dicts that become one Arrow batch: a few megabytes."""
WGS84 = ("EPSG:4326", "OGC:CRS84")
"""Names of the reference system of BigQuery's GEOGRAPHY: longitude and latitude on the WGS 84 ellipsoid."""

SIMPLE_TYPES = {
    "is_boolean": "BOOLEAN",
    "is_integer": "INTEGER",
    "is_floating": "FLOAT",
    "is_string": "STRING",
    "is_large_string": "STRING",
    "is_binary": "BYTES",
    "is_large_binary": "BYTES",
    "is_date": "DATE",
    "is_time": "TIME",
}
"""BigQuery types by the predicate of `pyarrow.types` that recognizes the Arrow type."""


@dataclass(frozen=True)
class Batches:
    """A stream of Arrow batches.

    Attributes:
        schema: The schema of every batch; geometry columns are strings.
        geography: The names of the geometry columns, which hold WKT.
        stream: The batches; can be read once.
    """

    schema: pyarrow.Schema
    geography: frozenset[str]
    stream: Iterator[pyarrow.RecordBatch]


def batches_of(source: Any, geometry: Sequence[str] = (), crs: object = None) -> Batches | None:
    """Return a source of rows as Arrow batches, or None if the source is of another kind.

    Only the first rows are read here. An error in later ones is raised while the stream is read.

    Args:
        source: A pyarrow Table, RecordBatch or RecordBatchReader, a pandas DataFrame or GeoDataFrame, or an iterable
            of dicts, tables, batches or data frames.
        geometry: Names of columns that hold geometry as WKB, WKT or shapely objects. The geometry columns of a
            GeoDataFrame are found without it.
        crs: The reference system of the columns in `geometry`; None for longitude and latitude.

    Raises:
        TypeError: If an iterable yields something that holds no rows.
        ValueError: If an iterable is empty, so that its columns are unknown, or if the data does not fit together.
        MissingDependency: If a package that this source needs is not installed.
    """
    columns = dict.fromkeys(geometry, crs)
    if _is_table(source):
        return _batches_of_tables(iter([source]), columns)
    if isinstance(source, required("pyarrow").RecordBatchReader):
        return with_wkt(source.schema, source, columns)
    if isinstance(source, (str, bytes)) or not hasattr(source, "__iter__"):
        return None
    items = iter(source)
    head = list(itertools.islice(items, 1))
    if not head:
        raise ValueError("The source has no rows, so its columns are unknown: pass at least one row, or skip the load.")
    is_row = hasattr(head[0], "keys") and hasattr(head[0], "__getitem__") and not _is_table(head[0])
    return (_batches_of_dicts if is_row else _batches_of_tables)(_prepend(head, items), columns)


def with_wkt(schema: pyarrow.Schema, stream: Iterable[pyarrow.RecordBatch], geometry: GeometryColumns) -> Batches:
    """Convert geometry columns to WKT in longitude and latitude, and dictionary columns to their values.

    `geometry` has the name of each geometry column and its reference system: whatever `pyproj.CRS.from_user_input`
    accepts, or None for longitude and latitude. Batches are converted one at a time, as the result is read.

    Raises:
        ValueError: If a geometry column does not exist, or pyproj does not know its reference system.
    """
    arrow = required("pyarrow")
    transforms = {name: _to_wgs84(crs) for name, crs in geometry.items()}
    if missing := [name for name in geometry if name not in schema.names]:
        raise ValueError(
            f"There is no column {missing[0]} to use as geometry; the columns are {', '.join(schema.names)}."
        )

    def plain(field: pyarrow.Field) -> pyarrow.Field:
        if field.name in geometry or field.type == arrow.null():  # BigQuery has no null columns
            return field.with_type(arrow.string())
        return field.with_type(field.type.value_type) if arrow.types.is_dictionary(field.type) else field

    def converted() -> Iterator[pyarrow.RecordBatch]:
        for batch in stream:
            columns = [
                _wkt(field.name, column, transforms[field.name]) if field.name in geometry else column.cast(field.type)
                for field, column in zip(target, batch.columns, strict=True)
            ]
            yield arrow.RecordBatch.from_arrays(columns, schema=target)

    target = arrow.schema([plain(field) for field in schema])
    return Batches(target, frozenset(geometry), converted())


def bigquery_schema(batches: Batches) -> list[dict[str, object]]:
    """Return the schema of a stream of batches as BigQuery's REST API writes its fields.

    https://cloud.google.com/bigquery/docs/reference/rest/v2/tables#TableFieldSchema

    Raises:
        ValueError: If BigQuery does not support the type of a column.
    """
    return [
        {"name": field.name, "type": "GEOGRAPHY"} if field.name in batches.geography else _bigquery_field(field)
        for field in batches.schema
    ]


def required(module: str) -> ModuleType:
    """Import and return a module that loading needs.

    Raises:
        MissingDependency: If it is not installed (an `ImportError`).
    """
    try:
        return import_module(module)
    except ImportError:
        install = 'pip install "carto-auth-integrations[load]"'
        raise MissingDependency(f"This source needs {module}, which is not installed: {install}.") from None


def _prepend(first: list[Any], items: Iterator[Any]) -> Iterator[Any]:
    """Yield the elements of `first` without keeping a reference to them, since batches may be large, then the items."""
    while first:
        yield first.pop(0)
    yield from items


def _is_table(source: object) -> bool:
    arrow = required("pyarrow")
    is_frame = type(source).__name__ in ("DataFrame", "GeoDataFrame") and hasattr(source, "columns")
    return is_frame or isinstance(source, (arrow.Table, arrow.RecordBatch))


def _batches_of_tables(items: Iterator[Any], geometry: GeometryColumns) -> Batches:
    """Convert tables, batches or data frames; the first one sets the columns, their types and reference systems."""
    first, columns = _table_of(next(items), geometry, 1)
    schema = first.schema

    def later() -> Iterator[pyarrow.RecordBatch]:
        for number, item in enumerate(items, start=2):
            table, systems = _table_of(item, geometry, number)
            if systems != columns:
                raise ValueError(
                    f"Piece {number} of the source does not have the reference system of the first piece: convert it."
                )
            yield from _cast(table, schema, number).to_batches()

    return with_wkt(schema, _prepend(first.to_batches(), later()), columns)


def _table_of(source: Any, geometry: GeometryColumns, number: int) -> tuple[pyarrow.Table, GeometryColumns]:
    """Return a piece of a source as a table without shapely objects, and all its geometry columns."""
    arrow = required("pyarrow")
    if not _is_table(source):
        kind = type(source).__name__
        raise TypeError(f"Piece {number} of the source must be a dict, an Arrow batch or a data frame, not {kind}.")
    if isinstance(source, arrow.Table):
        return source, geometry
    if isinstance(source, arrow.RecordBatch):
        return arrow.Table.from_batches([source]), geometry
    found = {str(name): source[name].crs for name, dtype in source.dtypes.items() if str(dtype) == "geometry"}
    if None in found.values():
        name = next(name for name, crs in found.items() if crs is None)
        raise ValueError(f"Column {name} has no reference system: set it, for example with set_crs('EPSG:4326').")
    columns = {**found, **geometry}
    frame = required("pandas").DataFrame(source)
    for name in columns.keys() & set(frame.columns):
        frame[name] = _shapes_to_wkb(source[name].to_numpy())
    return arrow.Table.from_pandas(frame, preserve_index=False), columns


def _cast(table: pyarrow.Table, schema: pyarrow.Schema, number: int) -> pyarrow.Table:
    """Convert the columns of a piece to the order and the types of the first piece."""
    arrow = required("pyarrow")
    if different := ", ".join(sorted(set(table.schema.names) ^ set(schema.names))):
        raise ValueError(f"Piece {number}: only it or the first piece, but not both, has the columns {different}.")
    columns = []
    for name, kind in zip(schema.names, schema.types, strict=True):
        try:
            columns.append(table.column(name).cast(kind))
        except (arrow.ArrowInvalid, arrow.ArrowNotImplementedError):
            raise ValueError(
                f"Piece {number}: column {name} does not fit {kind}, its type in the first piece."
            ) from None
    return arrow.Table.from_arrays(columns, schema=schema)


def _batches_of_dicts(rows: Iterator[Mapping[str, object]], geometry: GeometryColumns) -> Batches:
    """Convert dicts; the first `ROWS_PER_BATCH` set the columns, and a later row may lack a column, but not add one."""
    arrow = required("pyarrow")
    chunks = iter(lambda: [dict(row) for row in itertools.islice(rows, ROWS_PER_BATCH)], [])
    head = next(chunks)
    names = list(dict.fromkeys(itertools.chain.from_iterable(head)))
    shapes = [name for name in names if any(hasattr(type(row.get(name)), "__geo_interface__") for row in head)]
    columns = {**dict.fromkeys(shapes), **geometry}
    first = _batch_of_dicts(head, dict.fromkeys(names), columns, 1)
    types = {field.name: arrow.string() if field.type == arrow.null() else field.type for field in first.schema}
    later = (
        _batch_of_dicts(chunk, types, columns, number * ROWS_PER_BATCH + 1)
        for number, chunk in enumerate(chunks, start=1)
    )
    return with_wkt(arrow.schema(types), _prepend([first], later), columns)


def _batch_of_dicts(
    rows: list[dict[str, object]],
    types: Mapping[str, pyarrow.DataType | None],
    geometry: GeometryColumns,
    first_row: int,
) -> pyarrow.RecordBatch:
    """Convert rows to a batch. A type of None is inferred; `first_row` is the number of the first row in messages."""
    for number, row in enumerate(rows, start=first_row):
        if not row.keys() <= types.keys():
            unknown = ", ".join(sorted(row.keys() - types.keys()))
            raise ValueError(f"Row {number} has a column that the earlier rows do not have: {unknown}.")
    columns = []
    for name, kind in types.items():
        values = [row.get(name) for row in rows]
        if name in geometry:
            values = _shapes_to_wkb(values)
        array = _array(values, kind)
        if array is None:
            raise ValueError(_describe_misfit(name, values, kind, first_row))
        columns.append(array)
    return required("pyarrow").RecordBatch.from_arrays(columns, names=list(types))


def _array(values: list[object], kind: pyarrow.DataType | None) -> pyarrow.Array | None:
    """Return values as an Arrow array, of an inferred type if `kind` is None; None if they do not fit one type."""
    arrow = required("pyarrow")
    try:
        array = arrow.array(values, kind)
    except (arrow.ArrowInvalid, arrow.ArrowTypeError, OverflowError):
        return None
    if arrow.types.is_date(array.type) and any(isinstance(value, datetime.datetime) for value in values):
        return None  # Arrow would drop the time of day silently
    return array


def _describe_misfit(name: str, values: list[object], kind: pyarrow.DataType | None, first_row: int) -> str:
    """Return a message about the first value that does not fit those before it."""
    index = bisect_left(range(len(values)), True, key=lambda last: _array(values[: last + 1], kind) is None)
    known = kind or getattr(_array(values[:index], None), "type", None)
    place, value = f"Row {first_row + index}: column {name}", type(values[index]).__name__
    if known is None or known == required("pyarrow").null():
        return f"{place} holds a {value}, which cannot be stored in a table."
    return f"{place} holds a {value}, which does not fit {known}, its type in the earlier rows."


def _shapes_to_wkb(values: Iterable[object]) -> list[object]:
    """Return values with shapely objects as WKB; WKB and WKT stay as they are."""
    shapely = required("shapely")
    converted = required("numpy").fromiter(values, dtype=object)
    shapes = shapely.is_geometry(converted)
    converted[shapes] = shapely.to_wkb(converted[shapes])
    return list(converted)


def _to_wgs84(crs: object) -> Any:
    """Return a `pyproj.Transformer` from a reference system to longitude and latitude, or None if none is needed."""
    if crs is None or str(crs).upper() in WGS84:
        return None
    pyproj = required("pyproj")
    try:
        known = pyproj.CRS.from_user_input(crs)
    except pyproj.exceptions.CRSError:
        raise ValueError(f"Unknown reference system {crs!r}: use a code such as EPSG:4326.") from None
    if known.equals(pyproj.CRS("EPSG:4326"), ignore_axis_order=True):
        return None
    return pyproj.Transformer.from_crs(known, "EPSG:4326", always_xy=True)


def _wkt(name: str, column: pyarrow.Array, transform: Any) -> pyarrow.Array:
    """Convert a column of WKB or WKT to WKT in longitude and latitude, with a `pyproj.Transformer` if one is needed."""
    arrow, shapely = required("pyarrow"), required("shapely")
    is_text = arrow.types.is_string(column.type) or arrow.types.is_large_string(column.type)
    if is_text and transform is None:
        return column.cast(arrow.string())
    values = column.to_numpy(zero_copy_only=False)
    try:
        shapes = shapely.from_wkt(values) if is_text else shapely.from_wkb(values)
    except (shapely.errors.GEOSException, TypeError) as error:
        raise ValueError(f"Column {name} holds an invalid geometry: {error}") from None
    if transform is not None:
        shapes = shapely.transform(shapes, transform.transform, interleaved=False)
    if not required("numpy").isfinite(shapely.get_coordinates(shapes)).all():
        raise ValueError(
            f"Column {name} holds coordinates without a finite longitude and latitude: check its reference system."
        )
    return arrow.array(shapely.to_wkt(shapes, rounding_precision=-1), type=arrow.string())


def _bigquery_field(field: pyarrow.Field) -> dict[str, object]:
    types, kind = required("pyarrow").types, field.type
    if types.is_list(kind) or types.is_large_list(kind):
        return {**_bigquery_field(kind.value_field.with_name(field.name)), "mode": "REPEATED"}
    if types.is_struct(kind):
        return {"name": field.name, "type": "RECORD", "fields": [_bigquery_field(inner) for inner in kind]}
    if types.is_decimal(kind):
        # NUMERIC holds 29 digits before the decimal point and 9 after it, BIGNUMERIC more:
        # https://cloud.google.com/bigquery/docs/reference/standard-sql/data-types#decimal_types
        fits = kind.scale <= 9 and kind.precision - kind.scale <= 29
        return {"name": field.name, "type": "NUMERIC" if fits else "BIGNUMERIC"}
    if types.is_timestamp(kind):
        return {"name": field.name, "type": "TIMESTAMP" if kind.tz else "DATETIME"}
    for test, name in SIMPLE_TYPES.items():
        if getattr(types, test)(kind):
            return {"name": field.name, "type": name}
    raise ValueError(f"Column {field.name} has the type {kind}, which BigQuery does not support: convert it.")
