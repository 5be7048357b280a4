"""Python values to Arrow, exactly: one type for a column, and a reason for each value that does not fit it."""

from __future__ import annotations

import datetime
import itertools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence, Set
from decimal import Decimal
from enum import Enum
from types import NoneType
from typing import TYPE_CHECKING, Any
from uuid import UUID

from ..packages import required
from .columns import MAX_LEVEL, NESTED_ARRAYS, NULL_IN_ARRAY, TOO_DEEP, Column, decimal, name_of, shown

if TYPE_CHECKING:
    import pyarrow

FAMILIES: dict[type, str] = {
    bool: "BOOLEAN",
    int: "INTEGER",
    float: "FLOAT",
    Decimal: "NUMERIC",
    str: "STRING",
    bytes: "BYTES",
    datetime.date: "DATE",
    datetime.datetime: "DATETIME",
    datetime.time: "TIME",
    datetime.timedelta: "INTERVAL",
    dict: "STRUCT",
    list: "ARRAY",
    tuple: "ARRAY",
}
"""What Python's types are in BigQuery. A DATETIME with a time zone is a TIMESTAMP."""
TOGETHER = ({"INTEGER", "FLOAT"}, {"INTEGER", "NUMERIC"})
"""Families whose values have one type in common."""


def typed(values: Sequence[object], column: Column, known: pyarrow.DataType | None = None) -> pyarrow.Array:
    """Return Python values as an Arrow array of one type that BigQuery has.

    Args:
        values: None and the types of `FAMILIES`, their subclasses, enums, UUIDs, and the scalars and arrays of numpy
            and pandas.
        column: Gathers the values that fit no type or not that of the others; they become null.
        known: The type of the rows before these; a value that does not go with it does not fit.
    """
    values = plain_values(values, column)
    families = {FAMILIES[kind] for kind in set(map(type, values)) if kind is not NoneType}
    if "DATETIME" in families:
        families = {family_of(value) for value in values if value is not None}
    expected = {_family_of_type(known)} - {None} if known is not None else set()
    together = families | expected
    if len(together) > 1 and together not in TOGETHER:
        values = _one_family(values, column, expected)
        families = {family_of(value) for value in values if value is not None}
    if not families:
        return required("pyarrow").nulls(len(values))
    return _build(values, families, column, known)


def plain_values(values: Sequence[object], column: Column) -> Sequence[object]:
    """Return values as None and the types of `FAMILIES`; what cannot be one of them is noted, and None."""
    if set(map(type, values)) <= FAMILIES.keys() | {NoneType}:
        return values
    return [_plain(value, index, column) for index, value in enumerate(values)]


def _build(
    values: Sequence[object], families: set[str], column: Column, known: pyarrow.DataType | None
) -> pyarrow.Array:
    arrow = required("pyarrow")
    if families == {"STRUCT"}:
        return _structs(values, column, known)
    if families == {"ARRAY"}:
        return _lists(values, column, known)
    if families == {"INTEGER"}:
        try:
            return arrow.array(values, arrow.int64())
        except OverflowError:
            return _decimals(values, column)
    if "NUMERIC" in families:
        return _decimals(values, column)
    if families == {"TIME"}:
        values = [_without_zone(value, index, column) for index, value in enumerate(values)]
    if families == {"TIMESTAMP"}:
        values = [_in_utc(value, index, column) for index, value in enumerate(values)]
    kind = _types()["FLOAT" if "FLOAT" in families else families.pop()]
    try:
        return arrow.array(values, kind)
    except (arrow.ArrowInvalid, UnicodeEncodeError, OverflowError):
        return arrow.array([_alone(value, index, kind, column) for index, value in enumerate(values)], kind)


def _types() -> dict[str, pyarrow.DataType]:
    arrow = required("pyarrow")
    return {
        "BOOLEAN": arrow.bool_(),
        "FLOAT": arrow.float64(),
        "STRING": arrow.string(),
        "BYTES": arrow.binary(),
        "DATE": arrow.date32(),
        "DATETIME": arrow.timestamp("us"),
        "TIMESTAMP": arrow.timestamp("us", "UTC"),
        "TIME": arrow.time64("us"),
        "INTERVAL": arrow.duration("us"),
    }


def _alone(value: object, index: int, kind: pyarrow.DataType, column: Column) -> object:
    arrow = required("pyarrow")
    try:
        arrow.array([value], kind)
    except (arrow.ArrowInvalid, UnicodeEncodeError, OverflowError):
        column.refuse(index, f"holds {ascii(value)[:60]}, which {name_of(kind)} cannot hold exactly")
        return None
    return value


def _without_zone(value: object, index: int, column: Column) -> object:
    """Return a time of day, or None if it has a time zone: Arrow would drop that silently."""
    if getattr(value, "tzinfo", None) is None:
        return value
    column.refuse(index, f"holds {value}, a time of day with a time zone, which BigQuery does not have")
    return None


def _in_utc(value: Any, index: int, column: Column) -> object:
    """Return an instant in UTC: Arrow would drop the microseconds of its offset, and go on before the year 1."""
    if value is None or value.tzinfo is datetime.timezone.utc:
        return value
    try:
        return (value.replace(tzinfo=None) - value.utcoffset()).replace(tzinfo=datetime.timezone.utc)
    except (OverflowError, TypeError):  # TypeError: a zone without an offset
        column.refuse(index, f"holds {value}, which is not in the years 1 to 9999 in UTC, as a TIMESTAMP is")
        return None


def _decimals(values: Sequence[object], column: Column) -> pyarrow.Array:
    """Return integers and decimals as the narrowest decimal type that holds all of them."""
    arrow = required("pyarrow")
    found: list[Decimal | None] = []
    digits = scale = 0
    for index, value in enumerate(values):
        number = None if value is None else Decimal(value)  # type: ignore[arg-type]  # an int or a Decimal
        size = (0, 0) if number is None else _size(number)
        if size is None or decimal(max(digits, size[0]), max(scale, size[1])) is None:
            column.refuse(index, f"holds {shown(value)}, which has more digits than BIGNUMERIC")
            number, size = None, (0, 0)
        found.append(number)
        digits, scale = max(digits, size[0]), max(scale, size[1])
    return arrow.array(found, decimal(digits, scale))


def _size(number: Decimal) -> tuple[int, int] | None:
    """Return how many digits a number has before and after the point; None if it is not finite."""
    _, digits, exponent = number.as_tuple()
    if not isinstance(exponent, int):
        return None
    scale = max(0, -exponent)
    return (len(digits) + exponent if any(digits) else 0), scale


def _structs(values: Sequence[object], column: Column, known: pyarrow.DataType | None) -> pyarrow.Array:
    arrow = required("pyarrow")
    there = [value for value in values if isinstance(value, dict)]
    names = list(dict.fromkeys(itertools.chain.from_iterable(there)))
    if not all(map(is_text, names)):
        for index, value in enumerate(values):
            if isinstance(value, dict) and not all(map(is_text, value)):
                column.refuse(index, "holds an object whose keys are not all text")
        values = [value if isinstance(value, dict) and all(map(is_text, value)) else None for value in values]
        names = list(filter(is_text, names))
    if column.level > MAX_LEVEL:
        for index, value in enumerate(values):
            if value is not None:
                column.refuse(index, TOO_DEEP)
        return arrow.nulls(len(values))
    before = {each.name: each.type for each in known} if known is not None and arrow.types.is_struct(known) else {}
    children = [
        typed(
            [value.get(name) if isinstance(value, dict) else None for value in values],
            column.inner(f".{name}"),
            before.get(name),
        )
        for name in names
    ]
    missing = arrow.array([value is None for value in values], arrow.bool_())
    fields = [arrow.field(name, child.type) for name, child in zip(names, children, strict=True)]
    if not any(value is not None for value in values):
        return arrow.nulls(len(values))
    if not fields:
        return arrow.array([None if value is None else {} for value in values], arrow.struct([]))
    return arrow.StructArray.from_arrays(children, fields=fields, mask=missing)


def is_text(value: object) -> bool:
    """Whether a value is text that UTF-8 has: half of a surrogate pair is none."""
    if not isinstance(value, str):
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _lists(values: Sequence[object], column: Column, known: pyarrow.DataType | None) -> pyarrow.Array:
    arrow = required("pyarrow")
    lengths = [len(value) if isinstance(value, (list, tuple)) else 0 for value in values]
    rows: Sequence[int] = required("numpy").repeat(list(column.rows), lengths)
    inner = column.inner("[]", rows)
    flat = plain_values([item for value in values if isinstance(value, (list, tuple)) for item in value], inner)
    if {NoneType, list, tuple} & set(map(type, flat)):
        flat = [_element(value, index, inner) for index, value in enumerate(flat)]
    ends = list(itertools.accumulate(lengths))
    starts = [None if value is None else end - length for value, end, length in zip(values, ends, lengths, strict=True)]
    before = known.value_type if known is not None and arrow.types.is_list(known) else None
    child = typed(flat, inner, before)
    return arrow.ListArray.from_arrays(arrow.array([*starts, len(flat)], arrow.int32()), child)


def _element(value: object, index: int, column: Column) -> object:
    """Return an element of an array, or None if no array of BigQuery can hold it."""
    if value is None:
        column.refuse(index, NULL_IN_ARRAY)
    elif isinstance(value, (list, tuple)):
        column.refuse(index, NESTED_ARRAYS)
        return None
    return value


def _one_family(values: Sequence[object], column: Column, expected: set[str | None]) -> list[object]:
    """Replace the values that do not go with most others, or with the rows before them, by None, and note them."""
    counts = Counter(family_of(value) for value in values if value is not None)
    accepted = {family for family in expected if family} or {counts.most_common(1)[0][0]}
    kept = list(values)
    for family in counts:
        together = accepted | {family}
        accepted = together if len(together) == 1 or together in TOGETHER else accepted
    others = " and ".join(sorted(accepted))
    for index, value in enumerate(values):
        if value is not None and family_of(value) not in accepted:
            column.refuse(
                index,
                f"holds {shown(value)} ({family_of(value)}), which does not fit {others}, the type of other rows: "
                "convert it, or give the type with column_types= or schema=",
            )
            kept[index] = None
    return kept


def family_of(value: object) -> str:
    """Return what BigQuery calls the type of a value of `FAMILIES`."""
    if isinstance(value, datetime.datetime):
        return "DATETIME" if value.tzinfo is None else "TIMESTAMP"
    return FAMILIES[type(value)]


def _family_of_type(kind: pyarrow.DataType) -> str | None:
    types = required("pyarrow").types
    if types.is_null(kind):
        return None
    return "NUMERIC" if types.is_decimal(kind) else name_of(kind)


def _plain(value: object, index: int, column: Column) -> object:
    """Return a value as one of the types of `FAMILIES`, exactly, or None if that cannot be done."""
    if value is None or type(value) in FAMILIES:
        return value
    if isinstance(value, Enum):
        return _plain(value.value, index, column)
    if type(value).__name__ in ("NAType", "NaTType"):
        return None
    if hasattr(value, "dtype") and hasattr(value, "tolist"):
        return _plain_of_numpy(value, index, column)
    if getattr(value, "nanosecond", 0) or getattr(value, "nanoseconds", 0):
        column.refuse(index, f"holds {value}, which has nanoseconds; BigQuery keeps microseconds: round it")
        return None
    for kind, convert in BASES:
        if isinstance(value, kind):
            return convert(value)
    order = ": a set has no order, so pass a sorted list" if isinstance(value, Set) else ""
    column.refuse(index, f"holds a {type(value).__name__}, which cannot be stored in a table{order}")
    return None


def _plain_of_numpy(value: Any, index: int, column: Column) -> object:
    """Return a numpy scalar, a numpy array or a pandas series as Python values."""
    arrow = required("pyarrow")
    if names := getattr(value.dtype, "names", None):  # numpy's record arrays
        rows = value.tolist()
        if isinstance(rows, tuple):
            return dict(zip(names, rows, strict=True))
        return [dict(zip(names, row, strict=True)) for row in rows]
    if getattr(value, "ndim", 0):
        if value.dtype.kind in "mM":
            return [_plain(each, index, column) for each in value]
        return value.tolist()
    try:
        plain = _moment_of_numpy(value) if value.dtype.kind in "mM" else value.tolist()
    except (arrow.ArrowInvalid, arrow.ArrowNotImplementedError):
        plain = value
    if type(plain) in FAMILIES or plain is None:
        return plain
    column.refuse(index, f"holds {shown(value)}, a {type(value).__name__} that BigQuery cannot hold exactly")
    return None


def _moment_of_numpy(value: Any) -> object:
    """Return a datetime64 or timedelta64 as Python's; numpy's own conversion drops nanoseconds."""
    arrow, numpy = required("pyarrow"), required("numpy")
    if numpy.isnat(value):
        return None
    if numpy.datetime_data(value.dtype)[0] in ("h", "m"):  # Arrow has no hours and minutes
        value = value.astype(f"{value.dtype.kind}8[s]")
    scalar = arrow.array(numpy.asarray([value]))[0]
    if arrow.types.is_date(scalar.type):
        return scalar.as_py()
    is_interval = arrow.types.is_duration(scalar.type)
    return scalar.cast(arrow.duration("us") if is_interval else arrow.timestamp("us")).as_py()


BASES: tuple[tuple[type, Callable[[Any], object]], ...] = (
    (str, str.__str__),
    (int, int.__int__),
    (float, float.__float__),
    (Decimal, Decimal),
    (bytes, bytes),
    (bytearray, bytes),
    (memoryview, bytes),
    (datetime.datetime, lambda value: datetime.datetime.combine(value.date(), datetime.datetime.timetz(value))),
    (datetime.date, lambda value: datetime.date(value.year, value.month, value.day)),
    (
        datetime.time,
        lambda value: datetime.time(value.hour, value.minute, value.second, value.microsecond, value.tzinfo),
    ),
    (datetime.timedelta, lambda value: datetime.timedelta(value.days, value.seconds, value.microseconds)),
    (UUID, str),
    (Mapping, dict),
    (tuple, lambda value: dict(value._asdict()) if hasattr(value, "_asdict") else list(value)),
    (Sequence, list),
)
"""How subclasses become what they are in BigQuery. A datetime is a date too, so it comes first."""
