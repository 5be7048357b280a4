"""Rows that are in memory or come from an iterator: dicts, data frames and everything that speaks Arrow."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from ..packages import required
from .base import Chunk, Geometry, Source
from .columns import extension_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from typing import TypeGuard

    import pandas
    import pyarrow

    from ..options import LoadOptions

ROWS_PER_CHUNK = 10_000
"""Number of dicts or rows of a frame that are converted at a time: a few megabytes."""


def open_rows(source: object, options: LoadOptions) -> Source | None:
    """Return a source of rows, or None if it is of another kind.

    Args:
        source: A data frame of pandas, geopandas or polars, a pyarrow Table, RecordBatch or RecordBatchReader, anything
            else with `__arrow_c_stream__`, or an iterable of dicts, tables, batches or frames.
        options: How it is loaded.
    """
    if _is_table(source):
        return Source(_chunks_of(source, options, ""))
    if isinstance(source, (str, bytes, dict)) or not hasattr(source, "__iter__"):
        return None
    return Source(_chunks_of_items(iter(source), options))


def chunks_of_rows(
    rows: Iterable[Mapping[str, object]], place: str = "", geometry: Mapping[str, Geometry] | None = None
) -> Iterator[Chunk]:
    """Gather dicts into chunks."""
    items, first = iter(rows), 1
    while chunk := list(itertools.islice(items, ROWS_PER_CHUNK)):
        yield Chunk(chunk, first, place, geometry or {})
        first += len(chunk)


def _chunks_of_items(items: Iterator[object], options: LoadOptions) -> Iterator[Chunk]:
    """Yield chunks of an iterator of rows or of tables."""
    first = list(itertools.islice(items, 1))
    if first and _is_row(first[0]):
        yield from chunks_of_rows(_rows(_chained(first, items)))
        return
    for number, item in enumerate(_chained(first, items), start=1):
        if not _is_table(item):
            kind = type(item).__name__
            raise TypeError(f"Piece {number} of the source must be a dict, an Arrow batch or a frame, not {kind}.")
        yield from _chunks_of(item, options, f"piece {number}")


def _chained(first: list[Any], items: Iterator[Any]) -> Iterator[Any]:
    """Yield a first item and the others, without holding the first, which may be a large table."""
    while first:
        yield first.pop()
    yield from items


def _rows(items: Iterator[Any]) -> Iterator[Mapping[str, object]]:
    for number, item in enumerate(items, start=1):
        if not _is_row(item):
            raise TypeError(
                f"Row {number} of the source must be a dict, as the rows before it, not {type(item).__name__}."
            )
        yield item if isinstance(item, dict) else dict(item)


def _is_row(item: object) -> TypeGuard[Mapping[str, object]]:
    return isinstance(item, dict) or (hasattr(item, "keys") and hasattr(item, "__getitem__") and not _is_table(item))


def _is_table(source: object) -> bool:
    return _is_pandas(source) or hasattr(source, "__arrow_c_stream__") or hasattr(source, "__arrow_c_array__")


def _is_pandas(source: object) -> TypeGuard[pandas.DataFrame]:
    return type(source).__name__ in ("DataFrame", "GeoDataFrame") and hasattr(source, "iloc")


def _chunks_of(table: object, options: LoadOptions, place: str) -> Iterator[Chunk]:
    """Yield chunks of one table; a table without rows yields one chunk, for its columns."""
    if _is_pandas(table):
        yield from _chunks_of_pandas(table, options, place)
        return
    reader = _reader(table)
    geometry = {each.name: Geometry.of(options) for each in reader.schema if extension_of(each).startswith("geoarrow.")}
    first = 1
    for batch in reader:
        yield Chunk(batch, first, place, geometry)
        first += len(batch)
    if first == 1:
        yield Chunk(required("pyarrow").RecordBatch.from_pylist([], schema=reader.schema), 1, place, geometry)


def _reader(table: object) -> pyarrow.RecordBatchReader:
    arrow = required("pyarrow")
    if isinstance(table, arrow.RecordBatchReader):
        return table
    if isinstance(table, arrow.Table):
        return table.to_reader()
    if hasattr(table, "__arrow_c_stream__"):
        return arrow.RecordBatchReader.from_stream(table)
    batch = table if isinstance(table, arrow.RecordBatch) else arrow.record_batch(table)
    return arrow.RecordBatchReader.from_batches(batch.schema, [batch])


def _chunks_of_pandas(frame: pandas.DataFrame, options: LoadOptions, place: str) -> Iterator[Chunk]:
    geometry: dict[str, Geometry] = {}
    for name, dtype in frame.dtypes.items():
        if str(dtype) != "geometry":
            continue
        crs = frame[name].crs or options.crs
        if crs is None:
            raise ValueError(
                f"Column {name} has no reference system: set it, for example with set_crs('EPSG:4326'), or pass crs=."
            )
        geometry[str(name)] = Geometry.of(options, crs)
    names = [_label(name) for name in frame.columns]
    for start in range(0, max(len(frame), 1), ROWS_PER_CHUNK):
        piece = frame.iloc[start : start + ROWS_PER_CHUNK]
        columns = [(name, _column(piece.iloc[:, number])) for number, name in enumerate(names)]
        yield Chunk(columns, start + 1, place, geometry)


def _label(name: object) -> str:
    """Return a column's label as text."""
    if isinstance(name, tuple):
        raise ValueError(f"Column {name!r} has several levels: join them, for example with df.columns.map('_'.join).")
    return str(name)


def _column(series: pandas.Series) -> pyarrow.Array | Sequence[object]:
    """Return a column of a frame: an Arrow array, or Python's objects where pandas has only these.

    What pandas calls missing (NaN, NaT, NA) is null.
    """
    arrow = required("pyarrow")
    if series.dtype not in (object, "geometry"):
        try:
            array = arrow.Array.from_pandas(series)
            return array.combine_chunks() if isinstance(array, arrow.ChunkedArray) else array
        except (arrow.ArrowInvalid, arrow.ArrowNotImplementedError, arrow.ArrowTypeError, TypeError):
            pass
    objects = series.astype(object)
    try:
        objects = objects.where(series.notna(), None)
    except ArithmeticError:  # pandas cannot compare a signalling NaN, which no type holds: it is refused with its row
        pass
    values: list[object] = objects.tolist()
    return values
