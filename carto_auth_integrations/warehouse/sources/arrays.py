"""Arrow arrays of any type to the types that BigQuery has, exactly."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..packages import required
from .columns import (
    BIGNUMERIC_DIGITS,
    BIGNUMERIC_SCALE,
    MAX_LEVEL,
    NESTED_ARRAYS,
    NULL_IN_ARRAY,
    TOO_DEEP,
    Column,
    cast,
    decimal,
    list_array,
    parents,
    shown,
)

if TYPE_CHECKING:
    import pyarrow


def normalised(array: pyarrow.Array, column: Column) -> pyarrow.Array:
    """Return an array in one of the types that BigQuery has a type for.

    Integers become 64 bits wide, floats double, dictionaries their values, maps lists of key and value, UUIDs text,
    instants UTC, times microseconds.

    Args:
        array: The values.
        column: Gathers the values that cannot be held exactly; they become null.
    """
    arrow, compute = required("pyarrow"), required("pyarrow.compute")
    types, kind = arrow.types, array.type
    if isinstance(kind, arrow.BaseExtensionType):
        return _extension(array, column)
    if types.is_dictionary(kind):
        return normalised(_decoded(array), column)
    if str(kind).startswith("run_end_encoded"):
        return normalised(compute.run_end_decode(array), column)
    if types.is_map(kind):
        entry = arrow.struct([("key", kind.key_type), ("value", kind.item_type)])
        return normalised(array.cast(arrow.list_(entry)), column)
    for recognizes, convert in ((_is_list, _list), (types.is_struct, _struct), (types.is_decimal, _decimal)):
        if recognizes(kind):
            return convert(array, column)
    return _temporal(array, column) if types.is_temporal(kind) else _flat(array, column)


def _decoded(array: pyarrow.Array) -> pyarrow.Array:
    """Return the values of a dictionary array. Arrow does not decode one of string views."""
    arrow, kind = required("pyarrow"), array.type.value_type
    views = {"string_view": arrow.string(), "binary_view": arrow.binary()}
    if plain := views.get(str(kind)):
        array = arrow.DictionaryArray.from_arrays(array.indices, array.dictionary.cast(plain))
    return array.dictionary_decode()


def _flat(array: pyarrow.Array, column: Column) -> pyarrow.Array:
    arrow, kind = required("pyarrow"), array.type
    target = _flat_type(kind)
    if target is None:
        return unsupported(array, column, f"has the Arrow type {kind}, which BigQuery does not have: convert it")
    if arrow.types.is_uint64(kind) and (required("pyarrow.compute").max(array).as_py() or 0) >= 2**63:
        return array.cast(arrow.decimal128(20, 0))
    array = array if kind.equals(target) else array.cast(target)
    if arrow.types.is_string(target):  # Arrow checks text when it is cast, not when it comes from elsewhere
        array = cast(
            array.cast(arrow.binary()), target, column, lambda value: f"holds {shown(value)}, which is not UTF-8 text"
        )
    return array


def unsupported(array: pyarrow.Array, column: Column, reason: str) -> pyarrow.Array:
    """Note that no value of a column can be loaded, and return nulls."""
    arrow = required("pyarrow")
    for index in required("pyarrow.compute").indices_nonzero(array.is_valid()).to_pylist():
        column.refuse(index, reason)
    return arrow.nulls(len(array))


def _flat_type(kind: pyarrow.DataType) -> pyarrow.DataType | None:
    """Return what a type without parts becomes, or None if BigQuery has nothing for it."""
    arrow = required("pyarrow")
    types = arrow.types
    if types.is_null(kind) or types.is_boolean(kind):
        return kind
    if types.is_integer(kind):
        return arrow.int64()
    if types.is_floating(kind):
        return arrow.float64()
    if types.is_string(kind) or types.is_large_string(kind) or str(kind) == "string_view":
        return arrow.string()
    binary = types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind)
    return arrow.binary() if binary or str(kind) == "binary_view" else None


def _is_list(kind: pyarrow.DataType) -> bool:
    types = required("pyarrow").types
    plain = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
    return plain or str(kind).startswith(("list_view<", "large_list_view<"))


def _list(array: pyarrow.Array, column: Column) -> pyarrow.Array:
    elements = array.flatten()
    inner = column.inner("[]", parents(array, column))
    if _is_list(elements.type) or required("pyarrow").types.is_map(elements.type):
        return unsupported(array, column, NESTED_ARRAYS)
    for index in required("pyarrow.compute").indices_nonzero(elements.is_null()).to_pylist():
        inner.refuse(index, NULL_IN_ARRAY)
    child = normalised(elements, inner)
    if _is_list(child.type):  # a dictionary or an extension type of lists
        return unsupported(array, column, NESTED_ARRAYS)
    return list_array(array, child)


def _struct(array: pyarrow.Array, column: Column) -> pyarrow.Array:
    arrow, compute = required("pyarrow"), required("pyarrow.compute")
    fields = list(array.type)
    if not fields:
        return array
    if column.level > MAX_LEVEL:
        return unsupported(array, column, TOO_DEEP)
    children = [
        normalised(compute.struct_field(array, [number]), column.inner(f".{each.name}"))
        for number, each in enumerate(fields)
    ]
    named = [arrow.field(each.name, child.type) for each, child in zip(fields, children, strict=True)]
    return arrow.StructArray.from_arrays(children, fields=named, mask=array.is_null())


def _decimal(array: pyarrow.Array, column: Column) -> pyarrow.Array:
    arrow = required("pyarrow")
    kind = array.type
    scale = min(max(kind.scale, 0), BIGNUMERIC_SCALE)
    digits = min(max(kind.precision - kind.scale, 0), BIGNUMERIC_DIGITS)
    target = decimal(digits, scale) or arrow.decimal128(1, 0)
    if kind.equals(target):
        return array
    return cast(array, target, column, lambda value: f"holds {value}, which has more digits than BIGNUMERIC")


def _temporal(array: pyarrow.Array, column: Column) -> pyarrow.Array:
    arrow, compute = required("pyarrow"), required("pyarrow.compute")
    types, kind = arrow.types, array.type
    if types.is_interval(kind):
        return array
    if types.is_date(kind):
        target = arrow.date32()
    elif types.is_time(kind):
        target = arrow.time64("us")
    elif types.is_duration(kind):
        target = arrow.duration("us")
    else:
        target = arrow.timestamp("us", "UTC" if kind.tz else None)
    if not kind.equals(target):
        array = cast(
            array, target, column, lambda value: f"holds {value}, which microseconds cannot hold exactly: round it"
        )
    if types.is_date32(target) or types.is_timestamp(target):
        low, high = (arrow.scalar(each, arrow.date32()).cast(target) for each in (_FIRST_DAY, _LAST_DAY))
        if types.is_timestamp(target):
            high = arrow.scalar(high.value + 86_400_000_000 - 1, target)
        outside = compute.or_(compute.less(array, low), compute.greater(array, high))
        for index in compute.indices_nonzero(compute.fill_null(outside, False)).to_pylist():
            column.refuse(index, "holds a date outside of BigQuery's years 1 to 9999")
        array = compute.if_else(outside, arrow.scalar(None, target), array)
    return array


_FIRST_DAY, _LAST_DAY = -719_162, 2_932_896
"""0001-01-01 and 9999-12-31 in days since 1970."""


def _extension(array: pyarrow.Array, column: Column) -> pyarrow.Array:
    name = getattr(array.type, "extension_name", "")
    if name == "arrow.uuid":
        from uuid import UUID

        texts = [None if each is None else str(UUID(bytes=each)) for each in array.storage.to_pylist()]
        return required("pyarrow").array(texts, required("pyarrow").string())
    if name in PLAIN_EXTENSIONS:
        return normalised(array.storage, column)
    if name == "arrow.bool8":
        return normalised(array.storage.cast(required("pyarrow").bool_()), column)
    advice = PANDAS_ADVICE.get(name, "convert it")
    return unsupported(array, column, f"has the type {name}, which BigQuery does not have: {advice}")


PLAIN_EXTENSIONS = ("arrow.json",)
"""Extensions whose values are those that they are stored as."""
PANDAS_ADVICE = {
    "pandas.period": "use .dt.to_timestamp() or .astype(str)",
    "pandas.interval": "put both ends into columns of their own",
}
