"""Fit the chunks of a source together: valid names, one type for each column, geometry as BigQuery reads it."""

from __future__ import annotations

import base64
import json
import logging
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..packages import required
from .arrays import normalised, unsupported
from .base import Geometry
from .columns import Column, bigquery_field, list_array, name_of, shown, stored, unify, widen
from .declared import Field, arrow_type, declared, field_of, kind_of, require
from .geometry import convert, points
from .names import valid_names
from .values import typed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pyarrow

    from ..options import LoadOptions
    from .base import Chunk

logger = logging.getLogger(__name__)

POINT = "geom"
"""The column that `lon=` and `lat=` make."""
NULLABLE: Field = {}
SHOWN = 10
"""Rejected rows and repaired geometries that are named; the others are counted."""
JSON_LEVELS = 100
"""Levels of a rejected row that are kept as JSON; what is deeper, or holds itself, becomes text."""


@dataclass(frozen=True)
class Rejected:
    """A row that does not fit.

    Attributes:
        source: The file or piece that it is from; None for rows without one.
        row_number: Its number there; the first is 1.
        reason: Why it does not fit, with the column.
        row: The row, as JSON.
    """

    source: str | None
    row_number: int
    reason: str
    row: str

    def __str__(self) -> str:
        place = f"{self.source}: row" if self.source else "Row"
        return f"{place} {self.row_number}: {self.reason}"


@dataclass
class Geography:
    """What the geometry of a source turned out to be.

    Attributes:
        columns: How each geometry column is meant.
        bounds: West, south, east and north of all of it, in degrees; None without any.
        repaired: How many geometries were mended.
        area_change: By how much their areas have changed together, in square metres.
    """

    columns: dict[str, Geometry] = field(default_factory=dict)
    bounds: tuple[float, float, float, float] | None = None
    repaired: int = 0
    area_change: float = 0.0

    def add(self, bounds: tuple[float, float, float, float] | None) -> None:
        """Extend the bounds."""
        if bounds and self.bounds:
            west, south, east, north = self.bounds
            bounds = min(west, bounds[0]), min(south, bounds[1]), max(east, bounds[2]), max(north, bounds[3])
        self.bounds = bounds or self.bounds


class Fitter:
    """Turns chunks into Arrow batches that BigQuery holds exactly. Types become wider as the chunks go on.

    Args:
        options: How the source is loaded.
    """

    def __init__(self, options: LoadOptions) -> None:
        self.geography = Geography()
        self._options = options
        self._quarantine = options.bad_rows == "quarantine"
        self._repair = options.repairs
        given = [each.to_api_repr() for each in options.schema or ()]
        typed_columns = [field_of(name, text) for name, text in (options.column_types or {}).items()]
        self._declared: dict[str, Field] = {each["name"]: each for each in (*given, *typed_columns)}
        self._is_closed = bool(given)
        self._types: dict[str, pyarrow.DataType] = {each["name"]: arrow_type(each) for each in given}
        self._empty_types: dict[str, pyarrow.DataType] = {}
        self._names: dict[str, str] = {}
        self._absent = set(options.geometry_columns) | set(options.column_types or ())

    def fit(self, chunk: Chunk) -> tuple[pyarrow.RecordBatch, list[Rejected]]:
        """Return the rows of a chunk that fit, and those that do not.

        Raises:
            ValueError: If a row does not fit and `bad_rows` is `refuse`, or a name is not valid; the message names
                file, row and column.
        """
        arrow = required("pyarrow")
        columns = chunk.columns()
        count = len(columns[0][1]) if columns else len(chunk.data)
        if count and not columns and not self._types:
            raise ValueError(f"{chunk.row(0)}: the row has no columns: leave it out, or pass schema=.")
        misfits: dict[int, str] = {}
        try:
            names = self._valid_names([name for name, _ in columns])
            fitted = self._points(
                [
                    (name, self._column(raw, values, Column(name, range(count), misfits), chunk))
                    for name, (raw, values) in zip(names, columns, strict=True)
                ],
                Column(POINT, range(count), misfits),
                chunk,
            )
        except ValueError as error:
            raise ValueError(f"{chunk.place}: {error}" if chunk.place else str(error)) from None
        self._absent -= {name for name, _ in columns} | set(names)
        self._require_missing({name for name, _ in fitted}, Column("", range(count), misfits))
        if misfits and not self._quarantine:
            index = min(misfits)
            raise ValueError(f"{chunk.row(index)}: {misfits[index]}.")
        arrays = dict(fitted)
        whole = [
            widen(arrays[name], stored(kind), Column(name, range(count)))
            if name in arrays
            else arrow.nulls(count, stored(kind))
            for name, kind in self._types.items()
        ]
        batch = arrow.RecordBatch.from_arrays(whole, schema=self.schema())
        if not misfits:
            return batch, []
        kept = arrow.array([index not in misfits for index in range(count)], arrow.bool_())
        return batch.filter(kept), [_rejected(chunk, columns, index, misfits[index]) for index in sorted(misfits)]

    def schema(self) -> pyarrow.Schema:
        """Return the schema of the batches so far."""
        arrow = required("pyarrow")
        return arrow.schema(
            [
                arrow.field(name, stored(kind), self._declared.get(name, NULLABLE).get("mode") != "REQUIRED")
                for name, kind in self._types.items()
            ]
        )

    def final_schema(self) -> pyarrow.Schema:
        """Return the schema of all batches at the end: a column without values has the type it came with."""
        is_null = required("pyarrow").types.is_null
        for name, kind in self._types.items():
            if is_null(kind) and name in self._empty_types:
                self._types[name] = self._empty_types[name]
        return self.schema()

    def fields(self) -> list[Field]:
        """Return the columns of the whole source, as BigQuery's REST API writes them.

        Raises:
            ValueError: If there is none, or an option names a column that no row has.
        """
        if self._absent:
            name = min(self._absent)
            known = ", ".join(self._types) or "none"
            option = "geometry" if name in self._options.geometry_columns else "column_types"
            raise ValueError(f"{option}: there is no column {name}; the columns are {known}.")
        if not self._types:
            raise ValueError("The source has no rows, so its columns are unknown: pass rows or schema=.")
        if empty := next((name for name, kind in self._types.items() if _has_empty_struct(kind)), None):
            raise ValueError(
                f"Column {empty} holds only objects without a field, which BigQuery cannot store: leave it out."
            )
        return [self._declared.get(name) or bigquery_field(name, kind) for name, kind in self._types.items()]

    def _valid_names(self, names: Sequence[str]) -> list[str]:
        """Return the valid names of a chunk's columns. A name that was seen before has the same valid one."""
        if new := [name for name in dict.fromkeys(names) if name not in self._names]:
            taken = [*self._names, *new]
            self._names = dict(zip(taken, valid_names(taken, self._options.column_names), strict=True))
            for name in new:
                if name in self._declared and self._names[name] != name:  # column_types= has the source's name
                    self._declared[self._names[name]] = {**self._declared.pop(name), "name": self._names[name]}
        if len(set(names)) < len(names):
            return valid_names(names, self._options.column_names)
        return [self._names[name] for name in names]

    def _column(
        self, raw: str, values: pyarrow.Array | Sequence[object], column: Column, chunk: Chunk
    ) -> pyarrow.Array:
        name, arrow = column.path, required("pyarrow")
        is_arrow = isinstance(values, (arrow.Array, arrow.ChunkedArray))
        if isinstance(values, arrow.ChunkedArray):
            values = values.combine_chunks()
        if self._is_closed and name not in self._types:
            array = values if is_arrow else arrow.array([value is not None or None for value in values])
            return unsupported(array, column, "is not in schema=: add it there, or leave it out of the source")
        meant = self._geometry_of(raw, name, values, chunk)
        if meant is not None:
            return self._geographic(values, meant, column, chunk)
        if _is_json(values):
            self._declared.setdefault(name, {"name": name, "type": "JSON"})
        if name in self._declared:
            array = declared(values, self._declared[name], column)
            require(array.is_valid(), self._declared[name], column)
            self._types[name] = arrow_type(self._declared[name])
            return array
        known = self._types.get(name)
        array = normalised(values, column) if is_arrow else typed(values, column, known)
        return self._unified(array, known, column)

    def _unified(self, array: pyarrow.Array, known: pyarrow.DataType | None, column: Column) -> pyarrow.Array:
        """Convert an array to the type of the column so far, or the column to a wider one."""
        arrow = required("pyarrow")
        if reason := _lacks_type(array.type):
            array = unsupported(array, column, reason)
        array = _renamed(array, _valid_fields(array.type, column.path, self._options))
        if array.null_count == len(array):  # a null has no type yet
            self._empty_types.setdefault(column.path, array.type)
            array = arrow.nulls(len(array))
        kind = array.type if known is None else unify(known, array.type)
        if kind is None:
            assert known is not None, "an array has its own type"  # noqa: S101
            array = unsupported(
                array,
                column,
                f"holds {_first(array)} ({name_of(array.type)}), which does not fit {name_of(known)}, the type of the "
                "rows before: convert it, or give the type with column_types= or schema=",
            )
            kind = known
        self._types[column.path] = kind
        return array if arrow.types.is_null(kind) else widen(array, kind, column)

    def _geometry_of(
        self, raw: str, name: str, values: pyarrow.Array | Sequence[object], chunk: Chunk
    ) -> Geometry | None:
        """Return how a column of geometry is meant; None for any other column."""
        if raw in chunk.geometry:
            return chunk.geometry[raw]
        is_declared = name in self._declared and kind_of(self._declared[name]) == "GEOGRAPHY"
        if (
            {raw, name} & set(self._options.geometry_columns)
            or is_declared
            or name in self.geography.columns
            or _has_shapes(values)
        ):
            return self.geography.columns.get(name) or Geometry.of(self._options)
        return None

    def _geographic(
        self, values: pyarrow.Array | Sequence[object], meant: Geometry, column: Column, chunk: Chunk
    ) -> pyarrow.Array:
        """Return geometry as the text that BigQuery reads as it is meant."""
        name = column.path
        is_known = name in self._types and not required("pyarrow").types.is_null(self._types[name])
        if is_known and name not in self.geography.columns and name not in self._declared:
            raise ValueError(f"Column {name} holds geometry here, but did not in the rows before.")
        converted = convert(values, meant, repair=self._repair, encoding=meant.encoding)
        for index, reason in converted.defects.items():
            column.refuse(index, reason)
        for index, (before, after) in converted.repaired.items():
            if self.geography.repaired < SHOWN:
                logger.warning("%s: %s was repaired: %.0f m², before %.0f m².", chunk.row(index), name, after, before)
            self.geography.repaired += 1
            self.geography.area_change += abs(after - before)
        self.geography.columns.setdefault(name, meant)
        self.geography.add(converted.bounds)
        self._declared.setdefault(name, {"name": name, "type": "GEOGRAPHY"})
        self._types[name] = required("pyarrow").string()
        require(converted.texts.is_valid(), self._declared[name], column)
        return converted.texts

    def _points(
        self, fitted: list[tuple[str, pyarrow.Array]], column: Column, chunk: Chunk
    ) -> list[tuple[str, pyarrow.Array]]:
        """Add the points that `lon=` and `lat=` make."""
        lon, lat = self._options.lon, self._options.lat
        if lon is None or lat is None:
            return fitted
        arrays = dict(fitted)
        for option, name in (("lon", lon), ("lat", lat)):
            if self._names.get(name, name) not in arrays:
                raise ValueError(f"{option}: there is no column {name}; the columns are {', '.join(arrays)}.")
        if column.path in arrays:
            raise ValueError(f"There is a column {column.path} already, so lon= and lat= cannot make one: rename it.")
        shapes = points(arrays[self._names[lon]], arrays[self._names[lat]])
        return [*fitted, (column.path, self._geographic(shapes, Geometry.of(self._options), column, chunk))]

    def _require_missing(self, names: set[str], column: Column) -> None:
        """Note every row if a REQUIRED column is not there at all."""
        for name, each in self._declared.items():
            if name not in names and each.get("mode") == "REQUIRED":
                nothing = required("pyarrow").array([False] * len(column.rows))
                require(nothing, each, column.inner(name))


def _has_shapes(values: pyarrow.Array | Sequence[object]) -> bool:
    """Whether Python values are geometries of shapely or of a package like it."""
    if not isinstance(values, (list, tuple)):
        return False
    return any(hasattr(kind, "__geo_interface__") for kind in set(map(type, values)))


def _is_json(values: pyarrow.Array | Sequence[object]) -> bool:
    return getattr(getattr(values, "type", None), "extension_name", "") == "arrow.json"


def _lacks_type(kind: pyarrow.DataType) -> str | None:
    """Return why BigQuery has no column of a type unless one is declared; None if it has."""
    types = required("pyarrow").types
    if types.is_duration(kind) or types.is_interval(kind):
        return 'holds a length of time: pass column_types={"…": "INTERVAL"}, or convert it to a number'
    if types.is_list(kind):
        return _lacks_type(kind.value_type)
    if types.is_struct(kind):
        return next((reason for each in kind if (reason := _lacks_type(each.type))), None)
    return None


def _has_empty_struct(kind: pyarrow.DataType) -> bool:
    types = required("pyarrow").types
    if types.is_list(kind):
        return _has_empty_struct(kind.value_type)
    return types.is_struct(kind) and (not len(kind) or any(_has_empty_struct(each.type) for each in kind))


def _valid_fields(kind: pyarrow.DataType, path: str, options: LoadOptions) -> pyarrow.DataType:
    """Return a type with valid names of all fields of its STRUCTs."""
    arrow = required("pyarrow")
    if arrow.types.is_list(kind):
        return arrow.list_(_valid_fields(kind.value_type, path, options))
    if not arrow.types.is_struct(kind) or not len(kind):
        return kind
    names = valid_names([each.name for each in kind], options.column_names, f"{path}.")
    inner = [_valid_fields(each.type, f"{path}.{name}", options) for each, name in zip(kind, names, strict=True)]
    return arrow.struct(list(zip(names, inner, strict=True)))


def _renamed(array: pyarrow.Array, kind: pyarrow.DataType) -> pyarrow.Array:
    """Return an array with other names of the fields of its STRUCTs.

    Arrow's own cast breaks arrays of STRUCTs that have a field of nulls alone.
    """
    arrow = required("pyarrow")
    if array.type.equals(kind):
        return array
    if arrow.types.is_list(kind):
        return list_array(array, _renamed(array.flatten(), kind.value_type))
    children = [
        _renamed(required("pyarrow.compute").struct_field(array, [number]), each.type)
        for number, each in enumerate(kind)
    ]
    return arrow.StructArray.from_arrays(children, fields=list(kind), mask=array.is_null())


def _first(array: pyarrow.Array) -> str:
    values = array.drop_null()
    return shown(values[0].as_py()) if len(values) else "nothing"


def _rejected(
    chunk: Chunk, columns: Sequence[tuple[str, pyarrow.Array | Sequence[object]]], index: int, reason: str
) -> Rejected:
    row: dict[str, object] = {}
    for name, values in columns:
        value = values[index]
        row[name] = value.as_py() if hasattr(value, "as_py") else value
    text = json.dumps(_as_json(row), ensure_ascii=False)
    return Rejected(chunk.place or None, chunk.first_row + index, reason, text)


def _as_json(value: object, level: int = 0) -> object:
    """Return a value as the JSON that BigQuery holds; what it does not hold, as text or as parts that it does."""
    if isinstance(value, dict) and level < JSON_LEVELS:
        return {_as_text(name): _as_json(each, level + 1) for name, each in value.items()}
    if isinstance(value, (list, tuple)) and level < JSON_LEVELS:
        return [_as_json(each, level + 1) for each in value]
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if -(2**63) <= value < 2**63 else shown(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return base64.b64encode(bytes(value)).decode()
    shape: Mapping[str, object] | None = getattr(value, "__geo_interface__", None)
    return _as_text(value) if shape is None else shape


def _as_text(value: object) -> str:
    return str(value).encode(errors="backslashreplace").decode()
