"""Column types: those of Arrow that BigQuery has, how two of them become one, and BigQuery's names for them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..packages import required

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import pyarrow

INT64_DIGITS = 19
NUMERIC_DIGITS, NUMERIC_SCALE = 29, 9
"""Digits of NUMERIC before and after the decimal point; BIGNUMERIC has 38 of each, and a part of the 39th."""
BIGNUMERIC_DIGITS = BIGNUMERIC_SCALE = 38
"""https://cloud.google.com/bigquery/docs/reference/standard-sql/data-types#decimal_types"""
NESTED_ARRAYS = "holds an array of arrays, which BigQuery cannot store: put the inner one into a STRUCT"
NULL_IN_ARRAY = "holds an array with a NULL inside, which BigQuery cannot store: leave the NULL out"
TOO_DEEP = "holds a STRUCT inside of 15 others, and BigQuery stores 15 levels: flatten it, or load it as JSON"
MAX_LEVEL = 15
"""https://cloud.google.com/bigquery/docs/nested-repeated#limitations"""
SHOWN_BITS = 1000
"""Python refuses to write integers of more than some 14,000 bits."""
DECIMAL128_DIGITS, DECIMAL256_DIGITS = 38, 76


@dataclass(frozen=True)
class Column:
    """A column or a part of a nested one, while its values are converted.

    Attributes:
        path: What messages call it: `size`, `address.city`, `tags[]`.
        rows: The row that each value belongs to, as an index in the chunk.
        misfits: Gathers why a row cannot be loaded, by that index.
        level: How many STRUCTs a STRUCT in this place makes.
    """

    path: str
    rows: Sequence[int]
    misfits: dict[int, str] = field(default_factory=dict)
    level: int = 1

    def refuse(self, index: int, reason: str) -> None:
        """Note that a value cannot be loaded; the first reason of a row stays."""
        self.misfits.setdefault(int(self.rows[index]), f"column {self.path} {reason}")

    def inner(self, path: str, rows: Sequence[int] | None = None) -> Column:
        """Return a part of this column."""
        level = self.level + path.startswith(".")
        return Column(f"{self.path}{path}", self.rows if rows is None else rows, self.misfits, level)


def unify(one: pyarrow.DataType, other: pyarrow.DataType) -> pyarrow.DataType | None:
    """Return the type that holds the values of both types exactly, or None if there is none.

    The widenings: NULL to anything, INTEGER to FLOAT, INTEGER to NUMERIC, a decimal to a wider one, a STRUCT to one
    with more fields; the same inside of arrays and STRUCTs. Whether an INTEGER fits a FLOAT is for `widen` to see.
    """
    arrow = required("pyarrow")
    types = arrow.types
    if one.equals(other) or types.is_null(other):
        return one
    if types.is_null(one):
        return other
    if types.is_list(one) and types.is_list(other):
        inner = unify(one.value_type, other.value_type)
        return None if inner is None else arrow.list_(inner)
    if types.is_struct(one) and types.is_struct(other):
        return _unify_structs(one, other)
    if {one, other} == {arrow.int64(), arrow.float64()}:
        return arrow.float64()
    if all(types.is_decimal(each) or types.is_int64(each) for each in (one, other)):
        (digits, scale), (more, finer) = _digits(one), _digits(other)
        return decimal(max(digits, more), max(scale, finer))
    return None


def _unify_structs(one: pyarrow.StructType, other: pyarrow.StructType) -> pyarrow.DataType | None:
    arrow = required("pyarrow")
    fields = {each.name: each.type for each in one}
    for each in other:
        inner = unify(fields[each.name], each.type) if each.name in fields else each.type
        if inner is None:
            return None
        fields[each.name] = inner
    return arrow.struct(list(fields.items()))


def _digits(kind: pyarrow.DataType) -> tuple[int, int]:
    """Return how many digits a decimal or integer type has before and after the decimal point."""
    return (INT64_DIGITS, 0) if required("pyarrow").types.is_int64(kind) else (kind.precision - kind.scale, kind.scale)


def decimal(digits: int, scale: int) -> pyarrow.DataType | None:
    """Return the decimal type with so many digits before and after the point, or None if BIGNUMERIC has fewer."""
    arrow = required("pyarrow")
    if digits > BIGNUMERIC_DIGITS or scale > BIGNUMERIC_SCALE:
        return None
    precision = max(digits + scale, 1)
    return arrow.decimal128(precision, scale) if precision <= DECIMAL128_DIGITS else arrow.decimal256(precision, scale)


def widen(array: pyarrow.Array, kind: pyarrow.DataType, column: Column) -> pyarrow.Array:
    """Convert values to a type that `unify` returned for theirs. What does not fit exactly is noted, and null."""
    arrow = required("pyarrow")
    types = arrow.types
    if array.type.equals(kind):
        return array
    if types.is_list(kind) and types.is_list(array.type):
        child = widen(array.flatten(), kind.value_type, column.inner("[]", parents(array, column)))
        return list_array(array, child)
    if types.is_struct(kind) and types.is_struct(array.type):
        children = [
            arrow.nulls(len(array), each.type)
            if array.type.get_field_index(each.name) < 0
            else widen(child_of(array, each.name), each.type, column.inner(f".{each.name}"))
            for each in kind
        ]
        return arrow.StructArray.from_arrays(children, fields=list(kind), mask=array.is_null())
    if array.null_count == len(array):
        return arrow.nulls(len(array), kind)
    return cast(array, kind, column, lambda value: f"holds {shown(value)}, which {name_of(kind)} cannot hold exactly")


def cast(
    array: pyarrow.Array, kind: pyarrow.DataType, column: Column, reason: Callable[[object], str]
) -> pyarrow.Array:
    """Convert values as Arrow does if nothing is lost. The others are noted with a reason, and null."""
    arrow = required("pyarrow")
    try:
        return array.cast(kind)
    except (arrow.ArrowInvalid, arrow.ArrowNotImplementedError):
        if len(array) == 1:
            column.refuse(0, reason(_python(array[0])))
            return arrow.nulls(1, kind)
    middle = len(array) // 2
    rows = column.rows
    halves = (
        cast(array[:middle], kind, column.inner("", rows[:middle]), reason),
        cast(array[middle:], kind, column.inner("", rows[middle:]), reason),
    )
    return arrow.concat_arrays(halves)


def parents(array: pyarrow.Array, column: Column) -> Sequence[int]:
    """Return the row of each element of an array of lists."""
    compute, numpy = required("pyarrow.compute"), required("numpy")
    lengths = compute.fill_null(compute.list_value_length(array), 0).to_numpy(zero_copy_only=False)
    rows: Sequence[int] = numpy.repeat(numpy.asarray(column.rows), lengths)
    return rows


def list_array(array: pyarrow.Array, child: pyarrow.Array) -> pyarrow.Array:
    """Return an array of lists with the lengths and nulls of `array`, and other elements."""
    arrow, compute = required("pyarrow"), required("pyarrow.compute")
    lengths = compute.fill_null(compute.list_value_length(array), 0).cast(arrow.int32())
    ends = compute.cumulative_sum(lengths)
    starts = compute.subtract(ends, lengths)
    starts = compute.if_else(array.is_valid(), starts, arrow.scalar(None, arrow.int32()))
    last = arrow.array([len(child)], arrow.int32())
    return arrow.ListArray.from_arrays(arrow.concat_arrays([starts, last]), child)


def child_of(array: pyarrow.Array, name: str) -> pyarrow.Array:
    """Return the values of a field of an array of structs; null where the struct is null."""
    return required("pyarrow.compute").struct_field(array, [array.type.get_field_index(name)])


def extension_of(field: pyarrow.Field) -> str:
    """Return the name of the extension type of an Arrow field, registered here or not; empty for any other type."""
    declared: bytes = (field.metadata or {}).get(b"ARROW:extension:name", b"")
    return str(getattr(field.type, "extension_name", declared.decode()))


def shown(value: object) -> str:
    """Return a value for a message, shortened."""
    if isinstance(value, int) and value.bit_length() > SHOWN_BITS:
        return f"an integer of {value.bit_length()} bits"
    text = repr(value) if isinstance(value, (str, bytes)) else str(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def bigquery_field(name: str, kind: pyarrow.DataType) -> dict[str, object]:
    """Return a column of BigQuery's table schema for one of the types of `unify`.

    https://cloud.google.com/bigquery/docs/reference/rest/v2/tables#TableFieldSchema
    """
    types = required("pyarrow").types
    if types.is_list(kind):
        return {**bigquery_field(name, kind.value_type), "mode": "REPEATED"}
    if types.is_struct(kind):
        return {"name": name, "type": "RECORD", "fields": [bigquery_field(each.name, each.type) for each in kind]}
    return {"name": name, "type": name_of(kind)}


def name_of(kind: pyarrow.DataType) -> str:
    """Return BigQuery's name of a type. A column of nulls alone is a STRING."""
    types = required("pyarrow").types
    if types.is_decimal(kind):
        fits = kind.scale <= NUMERIC_SCALE and kind.precision - kind.scale <= NUMERIC_DIGITS
        return "NUMERIC" if fits else "BIGNUMERIC"
    if types.is_timestamp(kind):
        return "TIMESTAMP" if kind.tz else "DATETIME"
    for test, name in NAMES.items():
        if getattr(types, test)(kind):
            return name
    return "ARRAY" if types.is_list(kind) else "STRUCT"


NAMES = {
    "is_null": "STRING",
    "is_boolean": "BOOLEAN",
    "is_int64": "INTEGER",
    "is_float64": "FLOAT",
    "is_string": "STRING",
    "is_binary": "BYTES",
    "is_date32": "DATE",
    "is_time64": "TIME",
    "is_duration": "INTERVAL",
}
"""BigQuery's types by the predicate of `pyarrow.types` that recognizes the Arrow type."""


def stored(kind: pyarrow.DataType) -> pyarrow.DataType:
    """Return the type as Parquet stores it, which has no type for nulls alone and none for a STRUCT without fields."""
    arrow = required("pyarrow")
    if arrow.types.is_null(kind):
        return arrow.string()
    if arrow.types.is_list(kind):
        return arrow.list_(stored(kind.value_type))
    if arrow.types.is_struct(kind):
        return arrow.struct([(each.name, stored(each.type)) for each in kind] or [("_", arrow.string())])
    return kind


def _python(scalar: pyarrow.Scalar) -> object:
    try:
        return scalar.as_py()
    except (ValueError, OverflowError):  # outside of the range of Python's datetime
        return str(scalar.cast(required("pyarrow").int64()))
