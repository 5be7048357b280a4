"""Rows of a query as frames of pandas, geopandas and polars, each value exactly as it is in BigQuery."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from .packages import required
from .sources.columns import extension_of

if TYPE_CHECKING:
    from types import ModuleType

    import geopandas
    import pandas
    import polars
    import pyarrow

GEOGRAPHY = "google:sqlType:geography"
"""What google's client, and the Storage API, call a GEOGRAPHY column of an Arrow table."""
EXTRA = "frames"
POLARS_DIGITS = 38
"""Digits of a decimal in polars; BIGNUMERIC has up to 77."""


def to_pandas(table: pyarrow.Table) -> pandas.DataFrame:
    """Return a table as a pandas DataFrame. INT64 and BOOL columns have pandas' nullable types.

    NUMERIC and BIGNUMERIC are `Decimal`s, DATE and TIME Python's own objects, DATETIME and TIMESTAMP have microseconds.
    A NULL in a FLOAT64 column is NaN, as everywhere in pandas.
    """
    arrow, frames = required("pyarrow"), required("pandas")
    nullable = {arrow.int64(): frames.Int64Dtype(), arrow.bool_(): frames.BooleanDtype()}
    frame: pandas.DataFrame = table.to_pandas(types_mapper=nullable.get)
    return frame


def to_geopandas(table: pyarrow.Table, geometry: str | None, crs: object) -> geopandas.GeoDataFrame:
    """Return a table as a GeoDataFrame, whose GEOGRAPHY columns hold geometry.

    Args:
        table: The table.
        geometry: The column that is the frame's geometry; None for the only GEOGRAPHY column.
        crs: The reference system of the geometry.

    Raises:
        ValueError: If there is no such column, or more than one.
    """
    frames, shapely = required("geopandas", EXTRA), required("shapely")
    found = [field.name for field in table.schema if extension_of(field) == GEOGRAPHY]
    if geometry is None and len(found) != 1:
        raise ValueError(
            f"There are {len(found)} GEOGRAPHY columns ({', '.join(found)}): pass geometry=, the column's name."
        )
    name = geometry or found[0]
    if name not in table.column_names:
        raise ValueError(f"There is no column {name}: the columns are {', '.join(table.column_names)}.")
    frame = to_pandas(table)
    for each in dict.fromkeys([*found, name]):
        shapes = shapely.from_wkt(table.column(each).to_pylist())
        frame[each] = frames.GeoSeries(shapes, index=frame.index, crs=crs)
    result: geopandas.GeoDataFrame = frames.GeoDataFrame(frame, geometry=name)
    return result


def to_polars(table: pyarrow.Table) -> polars.DataFrame:
    """Return a table as a polars DataFrame.

    Raises:
        ValueError: If polars has no type for a column, or none that is wide enough.
    """
    arrow, frames = required("pyarrow"), required("polars", EXTRA)
    columns = [_for_polars(field, table.column(index), arrow) for index, field in enumerate(table.schema)]
    # Without the metadata, of which polars makes types of its own.
    schema = arrow.schema(
        [arrow.field(name, column.type) for name, column in zip(table.column_names, columns, strict=True)]
    )
    frame: polars.DataFrame = frames.from_arrow(arrow.Table.from_arrays(columns, schema=schema))
    return frame


def _for_polars(field: pyarrow.Field, column: pyarrow.ChunkedArray, arrow: ModuleType) -> pyarrow.ChunkedArray:
    if arrow.types.is_decimal256(field.type):
        scale = max((_scale_of(value) for value in column.to_pylist() if value is not None), default=0)
        try:
            return column.cast(arrow.decimal128(POLARS_DIGITS, scale))
        except arrow.ArrowInvalid:  # it would cut digits
            pass
    elif not any(name in str(field.type) for name in ("decimal256", "interval")):
        return column
    raise ValueError(
        f"Column {field.name}: polars has no type for its {field.type} values; CAST it to STRING in the query."
    )


def _scale_of(value: Decimal) -> int:
    return len(f"{value:f}".partition(".")[2].rstrip("0"))
