"""The file that is uploaded: batches are written as they come, and once more if a column became wider on the way."""

from __future__ import annotations

import base64
import datetime
import json
import math
import tempfile
from bisect import bisect_right
from dataclasses import replace
from typing import IO, TYPE_CHECKING, Any

from ..packages import required
from .base import Chunk
from .columns import Column, widen
from .declared import Field, is_repeated, kind_of, needs_json, range_ends

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    import pyarrow

ROW_GROUP = 16 * 1024 * 1024
"""Bytes of Arrow that are gathered into a row group: small ones grow the file, large ones the memory."""

SAFE_INTEGER = 2**53 - 1
"""BigQuery reads larger integers in JSON exactly only if they are text.

https://cloud.google.com/bigquery/docs/loading-data-cloud-storage-json#details_of_loading_json_data
"""
NO_CHUNK = Chunk(())


class Spool:
    """Temporary Parquet files, one for each schema that the batches have had. `close` removes them."""

    def __init__(self) -> None:
        self.rows = 0
        self._parts: list[tuple[IO[bytes], pyarrow.Schema]] = []
        self._origins: list[tuple[int, Chunk, Sequence[int]]] = []
        self._writer: Any = None
        self._gathered: list[pyarrow.RecordBatch] = []
        self._size = 0

    def write(self, batch: pyarrow.RecordBatch, chunk: Chunk = NO_CHUNK, without: Sequence[int] = ()) -> None:
        """Add a batch. Its schema is that of the batches before it, or wider.

        Args:
            batch: The rows.
            chunk: Where they are from, for messages; its data is not held.
            without: The rows of the chunk that are not in the batch, as sorted indices.
        """
        self._origins.append((self.rows, replace(chunk, data=()), without))
        if not self._parts or not self._parts[-1][1].equals(batch.schema):
            self._end_part()
            file = tempfile.TemporaryFile(prefix="carto-load-")  # noqa: SIM115  # `close` closes it
            self._parts.append((file, batch.schema))
            self._writer = required("pyarrow.parquet").ParquetWriter(file, batch.schema)
        self._gathered.append(batch)
        self._size += batch.nbytes
        self.rows += len(batch)
        if self._size >= ROW_GROUP:
            self._flush()

    def finish(self, schema: pyarrow.Schema, fields: list[Field]) -> tuple[IO[bytes], str]:
        """Return the file to upload, at its beginning, and its format as BigQuery calls it.

        Args:
            schema: The final schema of the batches.
            fields: The columns as BigQuery has them.

        Raises:
            ValueError: If a value of an earlier batch does not fit the type that its column has now.
        """
        if not self._parts:
            self.write(required("pyarrow").RecordBatch.from_pylist([], schema=schema))
        self._end_part()
        if any(needs_json(each) for each in fields):
            return self._rewritten(_write_json_lines(self._batches(schema), fields)), "NEWLINE_DELIMITED_JSON"
        if len(self._parts) == 1 and self._parts[0][1].equals(schema):
            file = self._parts[0][0]
            file.seek(0)
            return file, "PARQUET"
        whole = Spool()
        for batch in self._batches(schema):
            whole.write(batch)
        self.close()
        self._parts = whole._parts
        return whole.finish(schema, fields)

    def close(self) -> None:
        """Remove the files."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        for file, _ in self._parts:
            file.close()

    def _rewritten(self, file: IO[bytes]) -> IO[bytes]:
        self.close()
        self._parts = [(file, None)]
        file.seek(0)
        return file

    def _end_part(self) -> None:
        self._flush()
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _flush(self) -> None:
        if self._gathered:
            self._writer.write_table(required("pyarrow").Table.from_batches(self._gathered))
        self._gathered, self._size = [], 0

    def _batches(self, schema: pyarrow.Schema) -> Iterator[pyarrow.RecordBatch]:
        """Yield all batches with the final schema."""
        arrow, first = required("pyarrow"), 0
        for batch in self._stored_batches():
            misfits: dict[int, str] = {}
            arrays = [
                arrow.nulls(len(batch), each.type)
                if each.name not in batch.schema.names
                else widen(batch.column(each.name), each.type, Column(each.name, range(len(batch)), misfits))
                for each in schema
            ]
            if misfits:
                raise ValueError(f"{self._row(first + min(misfits))}: {misfits[min(misfits)]}.")
            yield arrow.RecordBatch.from_arrays(arrays, schema=schema)
            first += len(batch)

    def _row(self, index: int) -> str:
        """Return what messages call a row, by its index in all batches."""
        first, chunk, without = self._origins[bisect_right(self._origins, index, key=lambda each: each[0]) - 1]
        place = index - first
        for absent in without:
            place += absent <= place
        return chunk.row(place)

    def _stored_batches(self) -> Iterator[pyarrow.RecordBatch]:
        for file, _ in self._parts:
            file.seek(0)
            stored = required("pyarrow.parquet").ParquetFile(file)
            for group in range(stored.num_row_groups):
                yield from stored.read_row_group(group).to_batches()


def _write_json_lines(batches: Iterable[pyarrow.RecordBatch], fields: list[Field]) -> IO[bytes]:
    """Write rows as JSON lines, which carry every type of BigQuery.

    https://cloud.google.com/bigquery/docs/loading-data-cloud-storage-json#data_types
    """
    file = tempfile.TemporaryFile(prefix="carto-load-")  # noqa: SIM115  # the spool closes it
    for batch in batches:
        for row in batch.to_pylist():
            file.write(json.dumps(_record(fields, row), ensure_ascii=False).encode() + b"\n")
    return file


def _record(fields: Iterable[Field], row: Mapping[str, object]) -> dict[str, object]:
    return {each["name"]: _value(each, row[each["name"]]) for each in fields if row.get(each["name"]) is not None}


def _value(field: Field, value: Any) -> object:
    if is_repeated(field):
        return [_value({**field, "mode": "NULLABLE"}, item) for item in value]
    kind = kind_of(field)
    if kind == "RECORD":
        return _record(field["fields"], value)
    if kind == "JSON":
        return json.loads(value)
    if kind == "RANGE":
        ends = zip(("start", "end"), range_ends(value) or (), strict=False)
        return {name: end for name, end in ends if end is not None}
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    is_plain = isinstance(value, (bool, str)) or (isinstance(value, int) and abs(value) <= SAFE_INTEGER)
    return value if is_plain else str(value)
