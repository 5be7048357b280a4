"""From tables, frames, batches and rows to one stream of Arrow batches, geometry as WKT, whatever the source was."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...errors import MissingDependency

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from typing import Any

    import pyarrow

ROWS_PER_BATCH = 10_000
"""Rows of Python dicts that become one Arrow batch: a few megabytes."""
WGS84 = ("EPSG:4326", "OGC:CRS84")
"""What BigQuery's GEOGRAPHY is in: longitude and latitude on this ellipsoid."""

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
"""Tests of `pyarrow.types`, and the BigQuery type of what passes them."""


@dataclass(frozen=True)
class Batches:
    """A stream of Arrow batches.

    Attributes:
        schema: Their schema, geometry columns as strings.
        geography: The columns that hold geometry, as WKT.
        stream: The batches; read once.
    """

    schema: pyarrow.Schema
    geography: frozenset[str]
    stream: Iterator[pyarrow.RecordBatch]


def batches_of(source: Any, geometry: Sequence[str] = (), crs: Any = None) -> Batches | None:
    """Give the batches of anything that holds rows; None if it is nothing of the kind.

    Args:
        source: A pyarrow Table, RecordBatch or RecordBatchReader, a pandas DataFrame or GeoDataFrame, or an iterable
            of dicts, batches or frames.
        geometry: Further columns that hold geometry, as WKB, WKT or shapely objects.
        crs: The reference system of these columns; None for longitude and latitude.

    Raises:
        TypeError: If what an iterable yields holds no rows.
        ValueError: If it has no rows to learn the columns from.
    """
    arrow = required("pyarrow")
    table = _table(source, geometry)
    if table is not None:
        systems = {**_systems_of(source), **dict.fromkeys(geometry, crs)}
        return _as_wkt(table.schema, iter(table.to_batches()), systems)
    if isinstance(source, (str, bytes)) or not hasattr(source, "__iter__"):
        return None
    if isinstance(source, arrow.RecordBatchReader):
        return _as_wkt(source.schema, iter(source), dict.fromkeys(geometry, crs))
    items = iter(source)
    nothing = object()
    first = next(items, nothing)
    if first is nothing:
        raise ValueError(
            "The source has no rows, so there are no columns to load: give one at least, or skip the load."
        )
    items = _all_of([first], items)
    if hasattr(first, "keys") and hasattr(first, "__getitem__") and _table(first) is None:
        return _of_dicts(items, dict.fromkeys(geometry, crs))
    return _of_tables(first, items, geometry, crs)


def _all_of(first: list[Any], items: Iterator[Any]) -> Iterator[Any]:
    yield first.pop()  # and not held to the end: it may be a large batch
    yield from items


def bigquery_schema(batches: Batches) -> list[Any]:
    """Give the BigQuery schema of a stream of batches."""
    return [_bigquery_field(field, batches.geography) for field in batches.schema]


def required(module: str) -> Any:
    """Import a package that loading needs.

    Raises:
        MissingDependency: If it is not installed (an `ImportError`).
    """
    from importlib import import_module

    try:
        return import_module(module)
    except ImportError:
        extra = 'pip install "carto-auth-integrations[load]"'
        raise MissingDependency(f"{module} is not installed, which this source needs: {extra}.") from None


def to_wgs84(crs: Any) -> Any:
    """Give what turns coordinates of a reference system into longitude and latitude; None if they are that already.

    Raises:
        ValueError: If nobody knows that reference system.
        MissingDependency: If it is another one and pyproj is not installed.
    """
    if crs is None or str(crs).upper() in WGS84:
        return None
    pyproj = required("pyproj")
    try:
        known = pyproj.CRS.from_user_input(crs)
    except pyproj.exceptions.CRSError:
        known = None
    if known is None:
        raise ValueError(f"Unknown reference system {crs!r}: name it as EPSG:4326 or another code.")
    if known.equals(pyproj.CRS("EPSG:4326"), ignore_axis_order=True):
        return None
    return pyproj.Transformer.from_crs(known, "EPSG:4326", always_xy=True)


def _table(source: Any, geometry: Sequence[str] = ()) -> pyarrow.Table | None:
    """Give one piece of data as a table; None if it is not one."""
    arrow = required("pyarrow")
    if isinstance(source, arrow.Table):
        return source
    if isinstance(source, arrow.RecordBatch):
        return arrow.Table.from_batches([source])
    if type(source).__name__ not in ("DataFrame", "GeoDataFrame") or not hasattr(source, "columns"):
        return None
    frame = required("pandas").DataFrame(source)
    for name in {*_systems_of(source), *(name for name in geometry if _holds_objects(source, name))}:
        frame[name] = required("shapely").to_wkb(source[name].to_numpy())
    return arrow.Table.from_pandas(frame, preserve_index=False)


def _systems_of(source: Any) -> dict[str, Any]:
    """Give the geometry columns of a GeoDataFrame with their reference systems; none of anything else.

    Raises:
        ValueError: If one has no reference system.
    """
    systems = {}
    for name, dtype in getattr(source, "dtypes", {}).items():
        if str(dtype) == "geometry":
            systems[str(name)] = source[name].crs
            if source[name].crs is None:
                raise ValueError(
                    f"Column {name} has no reference system: set it with set_crs('EPSG:4326') or what it is."
                )
    return systems


def _holds_objects(source: Any, name: str) -> bool:
    return name in source.columns and any(hasattr(value, "__geo_interface__") for value in source[name])


def _of_tables(first: Any, items: Iterable[Any], geometry: Sequence[str], crs: Any) -> Batches:
    table = _table(first, geometry)
    if table is None:
        raise TypeError(f"An iterable has to yield dicts, Arrow batches or frames, not {type(first).__name__}.")
    schema, systems = table.schema, _systems_of(first)

    def stream() -> Iterator[pyarrow.RecordBatch]:
        for number, item in enumerate(items, start=1):
            piece = _table(item, geometry)
            if piece is None:
                raise TypeError(f"Piece {number} of the source holds no rows but is a {type(item).__name__}.")
            if set(piece.schema.names) != set(schema.names):
                other = ", ".join(sorted(set(piece.schema.names) ^ set(schema.names)))
                raise ValueError(f"Piece {number} of the source has other columns than the first: {other}.")
            if _systems_of(item) != systems:
                raise ValueError(
                    f"Piece {number} of the source is in another reference system than the first: convert it."
                )
            yield from _like(schema, piece, number).to_batches()

    return _as_wkt(schema, stream(), {**systems, **dict.fromkeys(geometry, crs)})


def _like(schema: pyarrow.Schema, piece: pyarrow.Table, number: int) -> pyarrow.Table:
    """Give a piece the types of the first.

    Raises:
        ValueError: If a column does not fit; the message names it.
    """
    arrow = required("pyarrow")
    columns = []
    for field in schema:
        try:
            columns.append(piece.column(field.name).cast(field.type))
        except (arrow.ArrowInvalid, arrow.ArrowNotImplementedError):
            fits = False
        else:
            fits = True
        if not fits:
            raise ValueError(
                f"Piece {number}: column {field.name} does not hold {field.type}, as the first piece does."
            )
    return arrow.Table.from_arrays(columns, schema=schema)


def _of_dicts(rows: Iterable[Mapping[str, Any]], geometry: Mapping[str, Any]) -> Batches:
    """Learn the columns from the first rows; a later row may lack one, but not bring another."""
    arrow = required("pyarrow")
    rows = iter(rows)
    head = [dict(row) for row in itertools.islice(rows, ROWS_PER_BATCH)]
    names = list(dict.fromkeys(name for row in head for name in row))
    of_rows = {name: None for name in names if any(hasattr(row.get(name), "__geo_interface__") for row in head)}
    of_rows.update(geometry)
    schema = arrow.schema([(name, _type_in(head, name, of_rows)) for name in names])

    def stream() -> Iterator[pyarrow.RecordBatch]:
        nonlocal head
        first_row, chunk, head = 1, head, []  # not held to the end: there may be millions more to come
        while chunk:
            yield _batch(chunk, schema, of_rows, first_row)
            first_row += len(chunk)
            chunk = [dict(row) for row in itertools.islice(rows, ROWS_PER_BATCH)]

    return _as_wkt(schema, stream(), of_rows)


def _type_in(rows: list[dict[str, Any]], name: str, geometry: Mapping[str, Any]) -> pyarrow.DataType:
    """Learn a column's type from its values; one without any is text.

    Raises:
        ValueError: If they do not fit one type; the message names the row.
    """
    arrow = required("pyarrow")
    values = [row.get(name) for row in rows]
    if name in geometry:
        values = [_without_object(value) for value in values]
    kind: Any = None
    for number, value in enumerate(values, start=1):
        if value is not None:
            kind = _inferred([value])
            if kind is None:
                raise ValueError(f"Row {number}: column {name} holds a {type(value).__name__}, which no table can.")
            break
    learnt = _inferred(values)
    if learnt is None:
        message = _misfit([{name: value} for value in values], arrow.schema([(name, kind)]), 1)
        raise ValueError(message or f"Column {name} holds values of different types.")
    return arrow.string() if learnt == arrow.null() else learnt


def _inferred(values: list[Any]) -> Any:
    arrow = required("pyarrow")
    try:
        return arrow.infer_type(values)
    except (arrow.ArrowInvalid, arrow.ArrowTypeError, OverflowError):
        return None


def _batch(
    rows: list[dict[str, Any]], schema: pyarrow.Schema, geometry: Mapping[str, Any], first_row: int
) -> pyarrow.RecordBatch:
    """Make a batch, and name the row and the column that do not fit.

    Raises:
        ValueError: If one does not.
    """
    arrow = required("pyarrow")
    if more := set().union(*rows).difference(schema.names):
        number, row = next((number, row) for number, row in enumerate(rows, first_row) if not more.isdisjoint(row))
        names = ", ".join(sorted(more & row.keys()))
        raise ValueError(f"Row {number} has a column that the rows before do not have: {names}.")
    _refuse_moments_among_days(rows, schema, first_row)
    plain = _without_objects(rows, geometry)
    try:
        return arrow.RecordBatch.from_pylist(plain, schema=schema)
    except (arrow.ArrowInvalid, arrow.ArrowTypeError, OverflowError) as error:
        raise ValueError(_misfit(plain, schema, first_row) or str(error)) from None


def _refuse_moments_among_days(rows: list[dict[str, Any]], schema: pyarrow.Schema, first_row: int) -> None:
    """Raise where Arrow would take a datetime for its day, and lose the hour."""
    import datetime

    days = [field.name for field in schema if required("pyarrow").types.is_date(field.type)]
    for number, row in enumerate(rows if days else (), start=first_row):
        for name in days:
            if isinstance(row.get(name), datetime.datetime):
                raise ValueError(f"Row {number}: column {name} holds a moment, and the rows before hold days.")


def _misfit(rows: list[dict[str, Any]], schema: pyarrow.Schema, first_row: int) -> str | None:
    arrow = required("pyarrow")
    for number, row in enumerate(rows, start=first_row):
        for field in schema:
            try:
                arrow.array([row.get(field.name)], type=field.type)
            except (arrow.ArrowInvalid, arrow.ArrowTypeError, OverflowError):
                return f"Row {number}: column {field.name} does not hold {field.type}, as the rows before."
    return None


def _without_objects(rows: list[dict[str, Any]], geometry: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Give the rows with shapely's objects as WKB; the same rows where there are none."""
    held = [name for name in geometry if _are_objects([row.get(name) for row in rows])]
    if not held:
        return rows
    return [{**row, **{name: _without_object(row[name]) for name in held if name in row}} for row in rows]


def _are_objects(values: list[Any]) -> bool:
    if set(map(type, values)) <= {str, bytes, type(None)}:  # WKT or WKB, told at the cost of a glance
        return False
    return any(hasattr(value, "__geo_interface__") for value in values)


def _without_object(value: Any) -> Any:
    return value.wkb if hasattr(value, "__geo_interface__") else value


def _as_wkt(schema: pyarrow.Schema, stream: Iterator[pyarrow.RecordBatch], geometry: Mapping[str, Any]) -> Batches:
    """Turn geometry into WKT in longitude and latitude, and what only Arrow has into plain columns, batch by batch."""
    arrow = required("pyarrow")
    for name in geometry:
        if name not in schema.names:
            raise ValueError(f"There is no column {name} to take as geometry; there are {', '.join(schema.names)}.")
    plain = arrow.schema([field.with_type(_plain_type(field, geometry)) for field in schema])
    transforms = {name: to_wgs84(crs) for name, crs in geometry.items()}

    def converted() -> Iterator[pyarrow.RecordBatch]:
        for batch in stream:
            columns = [
                _wkt_column(field.name, column, transforms[field.name])
                if field.name in geometry
                else column.cast(field.type)
                for field, column in zip(plain, batch.columns, strict=True)
            ]
            yield arrow.RecordBatch.from_arrays(columns, schema=plain)

    return Batches(plain, frozenset(geometry), converted())


def _plain_type(field: pyarrow.Field, geometry: Mapping[str, Any]) -> pyarrow.DataType:
    arrow = required("pyarrow")
    if field.name in geometry or field.type == arrow.null():
        return arrow.string()
    return field.type.value_type if arrow.types.is_dictionary(field.type) else field.type


def _wkt_column(name: str, column: pyarrow.Array, transform: Any) -> pyarrow.Array:
    arrow, shapely = required("pyarrow"), required("shapely")
    is_text = arrow.types.is_string(column.type) or arrow.types.is_large_string(column.type)
    if is_text and transform is None:
        return column.cast(arrow.string())
    values = column.to_numpy(zero_copy_only=False)
    try:
        shapes = shapely.from_wkt(values) if is_text else shapely.from_wkb(values)
    except (shapely.errors.GEOSException, TypeError) as error:
        raise ValueError(f"Column {name} holds something that is no geometry: {error}") from None
    if transform is not None:
        shapes = shapely.transform(shapes, transform.transform, interleaved=False)
    if not required("numpy").isfinite(shapely.get_coordinates(shapes)).all():
        raise ValueError(
            f"Column {name} holds a position that has no longitude and latitude: check its reference system."
        )
    return arrow.array(shapely.to_wkt(shapes, rounding_precision=-1), type=arrow.string())


def _bigquery_field(field: pyarrow.Field, geography: frozenset[str] = frozenset()) -> Any:
    from google.cloud.bigquery import SchemaField

    arrow = required("pyarrow")
    if field.name in geography:
        return SchemaField(field.name, "GEOGRAPHY")
    if arrow.types.is_list(field.type) or arrow.types.is_large_list(field.type):
        inner = _bigquery_field(field.type.value_field.with_name(field.name))
        return SchemaField(field.name, inner.field_type, mode="REPEATED", fields=inner.fields)
    if arrow.types.is_struct(field.type):
        inner_fields = [_bigquery_field(field.type.field(number)) for number in range(field.type.num_fields)]
        return SchemaField(field.name, "RECORD", fields=inner_fields)
    if arrow.types.is_decimal(field.type):
        whole = field.type.precision - field.type.scale
        return SchemaField(field.name, "NUMERIC" if field.type.scale <= 9 and whole <= 29 else "BIGNUMERIC")
    if arrow.types.is_timestamp(field.type):
        return SchemaField(field.name, "TIMESTAMP" if field.type.tz else "DATETIME")
    for test, name in SIMPLE_TYPES.items():
        if getattr(arrow.types, test)(field.type):
            return SchemaField(field.name, name)
    raise ValueError(f"Column {field.name} is of type {field.type}, which BigQuery does not have: convert it.")
