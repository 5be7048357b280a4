"""Columns whose BigQuery type is given: values are converted to that type if nothing is lost, else refused."""

from __future__ import annotations

import base64
import binascii
import datetime
import json
import math
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypeAlias

from ..packages import required
from .arrays import normalised, unsupported
from .columns import NULL_IN_ARRAY, Column, cast, child_of, list_array, name_of, parents, shown
from .values import family_of, is_text, plain_values, typed

if TYPE_CHECKING:
    from collections.abc import Callable

    import pyarrow

    Reason: TypeAlias = Callable[[object], str]
    """Returns why a value cannot be loaded."""

Field: TypeAlias = Mapping[str, Any]
"""A column of BigQuery's table schema.

https://cloud.google.com/bigquery/docs/reference/rest/v2/tables#TableFieldSchema
"""

SQL_NAMES = {"INT64": "INTEGER", "FLOAT64": "FLOAT", "BOOL": "BOOLEAN", "STRUCT": "RECORD", "DECIMAL": "NUMERIC"}
SQL_NAMES |= {"BIGDECIMAL": "BIGNUMERIC", "INT": "INTEGER", "SMALLINT": "INTEGER", "BIGINT": "INTEGER"}
"""Names of GoogleSQL, and the table schema's names for the same types."""
TYPE = re.compile(r"(?P<name>[A-Z][A-Z0-9]*)\s*(?:\(\s*(?P<first>\d+)\s*(?:,\s*(?P<second>\d+)\s*)?\))?")
PART = re.compile(r"(?P<outer>ARRAY|RANGE)\s*<\s*(?P<inner>.+?)\s*>")
TEXT_TYPES = ("JSON", "INTERVAL", "RANGE", "GEOGRAPHY")
"""Types whose values are carried as text until they are uploaded."""
INTERVAL = re.compile(r"-?\d+-\d+ -?\d+ -?\d+:\d+:\d+(\.\d{1,6})?")
RANGE = re.compile(r"\[\s*(?P<start>[^,\[\]()]+?)\s*,\s*(?P<end>[^,\[\]()]+?)\s*\)")
OPEN_ENDS = ("UNBOUNDED", "NULL")
RANGE_ELEMENTS = ("DATE", "DATETIME", "TIMESTAMP")
JSON_LEVELS = 500
"""https://cloud.google.com/bigquery/docs/reference/standard-sql/data-types#json_type"""


def field_of(name: str, text: str) -> Field:
    """Return a column for a type as SQL writes it: `STRING`, `NUMERIC(10, 2)`, `ARRAY<INT64>`, `RANGE<DATE>`.

    Raises:
        ValueError: If there is no such type.
    """
    part = PART.fullmatch(text.strip().upper())
    if part and part["outer"] == "ARRAY" and not part["inner"].startswith("ARRAY"):
        return {**field_of(name, part["inner"]), "mode": "REPEATED"}
    if part and part["inner"] in RANGE_ELEMENTS:
        return {"name": name, "type": "RANGE", "rangeElementType": {"type": part["inner"]}}
    found = TYPE.fullmatch(text.strip().upper())
    kind = SQL_NAMES.get(found["name"], found["name"]) if found else ""
    if not found or kind not in (*_storage_types(), *TEXT_TYPES[:2], "GEOGRAPHY"):
        raise ValueError(
            f"column_types: {text!r} of column {name} is not a type of BigQuery: use a name such as STRING, INT64, "
            "NUMERIC, TIMESTAMP or ARRAY<STRING>; a STRUCT needs schema=."
        )
    sizes = ("maxLength",) if kind in ("STRING", "BYTES") else ("precision", "scale")
    given = zip(sizes, (found["first"], found["second"]), strict=False)
    return {"name": name, "type": kind, **{size: each for size, each in given if each is not None}}


def kind_of(field: Field) -> str:
    """Return the type of a column, by the name that a table schema has for it."""
    name: str = field["type"].upper()
    return SQL_NAMES.get(name, name)


def is_repeated(field: Field) -> bool:
    """Whether a column holds arrays."""
    return field.get("mode") == "REPEATED"


def needs_json(field: Field) -> bool:
    """Whether Parquet cannot carry a column, so that its rows are uploaded as JSON lines.

    BigQuery reads no JSON, INTERVAL and RANGE from Parquet, and Arrow writes no NULL of a STRUCT with a REQUIRED field.
    https://cloud.google.com/bigquery/docs/loading-data-cloud-storage-parquet#type_conversions
    """
    inner = field.get("fields", ())
    return kind_of(field) in TEXT_TYPES[:3] or any(needs_json(each) or each.get("mode") == "REQUIRED" for each in inner)


def declared(values: pyarrow.Array | Sequence[object], field: Field, column: Column) -> pyarrow.Array:
    """Return values as the Arrow type that carries a declared column.

    Args:
        values: An Arrow array or Python values.
        field: The column.
        column: Gathers the values that do not fit; they become null.
    """
    if isinstance(values, required("pyarrow").Array):
        return _repeated(values, field, column) if is_repeated(field) else _single(values, field, column)
    return _of_python(values, field, column)


def arrow_type(field: Field) -> pyarrow.DataType:
    """Return the Arrow type that carries a column."""
    arrow = required("pyarrow")
    if is_repeated(field):
        return arrow.list_(arrow_type({**field, "mode": "NULLABLE"}))
    if kind_of(field) == "RECORD":
        return arrow.struct([(each["name"], arrow_type(each)) for each in field["fields"]])
    return _storage_types().get(kind_of(field), arrow.string())


def _storage_types() -> dict[str, pyarrow.DataType]:
    arrow = required("pyarrow")
    return {
        "STRING": arrow.string(),
        "BYTES": arrow.binary(),
        "INTEGER": arrow.int64(),
        "FLOAT": arrow.float64(),
        "NUMERIC": arrow.decimal128(38, 9),
        "BIGNUMERIC": arrow.decimal256(76, 38),
        "BOOLEAN": arrow.bool_(),
        "DATE": arrow.date32(),
        "DATETIME": arrow.timestamp("us"),
        "TIMESTAMP": arrow.timestamp("us", "UTC"),
        "TIME": arrow.time64("us"),
    }


def _of_python(values: Sequence[object], field: Field, column: Column) -> pyarrow.Array:
    arrow, compute = required("pyarrow"), required("pyarrow.compute")
    kind = kind_of(field)
    if is_repeated(field):
        return _repeated_of_python(values, field, column)
    if kind == "JSON":
        return arrow.array([_json(value, index, column) for index, value in enumerate(values)], arrow.string())
    values = plain_values(values, column)
    if kind == "RECORD":
        return _record_of_python(values, field, column)
    if kind == "RANGE":
        values = [_range_text(value) for value in values]
    families = dict.fromkeys(family_of(value) for value in values if value is not None)
    parts = [
        _single(
            typed([each if each is not None and family_of(each) == family else None for each in values], column),
            field,
            column,
        )
        for family in families
    ]
    if not parts:
        return _single(arrow.nulls(len(values)), field, column)
    return compute.coalesce(*parts)


def _repeated_of_python(values: Sequence[object], field: Field, column: Column) -> pyarrow.Array:
    arrow, numpy = required("pyarrow"), required("numpy")
    values = plain_values(values, column)
    for index, value in enumerate(values):
        if value is not None and not isinstance(value, (list, tuple)):
            column.refuse(index, f"holds {shown(value)}, which is not an array")
    lists = [value if isinstance(value, (list, tuple)) else () for value in values]
    lengths = [len(each) for each in lists]
    rows = numpy.repeat(numpy.asarray(column.rows), lengths)
    inner = column.inner("[]", rows)
    child = declared([item for each in lists for item in each], _element(field), inner)
    for index in required("pyarrow.compute").indices_nonzero(child.is_null()).to_pylist():
        inner.refuse(index, NULL_IN_ARRAY)
    ends = numpy.concatenate([[0], numpy.cumsum(lengths)]).astype("int32")
    return arrow.ListArray.from_arrays(arrow.array(ends), child)


def _record_of_python(values: Sequence[object], field: Field, column: Column) -> pyarrow.Array:
    arrow = required("pyarrow")
    fields = field["fields"]
    names = {each["name"] for each in fields}
    for index, value in enumerate(values):
        if value is not None and not isinstance(value, dict):
            column.refuse(index, f"holds {shown(value)}, which is not a STRUCT")
        elif value is not None and not names >= value.keys():
            column.refuse(
                index, f"has a field {sorted(map(str, value.keys() - names))[0]}, which the schema does not have"
            )
    there = arrow.array([isinstance(value, dict) for value in values], arrow.bool_())
    children = [
        declared(
            [value.get(each["name"]) if isinstance(value, dict) else None for value in values],
            each,
            column.inner(f".{each['name']}"),
        )
        for each in fields
    ]
    return _checked_record(children, field, there, column)


def _checked_record(children: list[pyarrow.Array], field: Field, there: pyarrow.Array, column: Column) -> pyarrow.Array:
    arrow, compute = required("pyarrow"), required("pyarrow.compute")
    for child, each in zip(children, field["fields"], strict=True):
        require(compute.or_(child.is_valid(), compute.invert(there)), each, column.inner(f".{each['name']}"))
    fields = [arrow.field(each["name"], child.type) for child, each in zip(children, field["fields"], strict=True)]
    return arrow.StructArray.from_arrays(children, fields=fields, mask=compute.invert(there))


def require(present: pyarrow.Array, field: Field, column: Column) -> None:
    """Note the rows without a value in a REQUIRED column."""
    if field.get("mode") == "REQUIRED":
        compute = required("pyarrow.compute")
        for index in compute.indices_nonzero(compute.invert(present)).to_pylist():
            column.refuse(index, "holds no value, and is REQUIRED")


def _element(field: Field) -> Field:
    return {**field, "mode": "NULLABLE"}


def _repeated(array: pyarrow.Array, field: Field, column: Column) -> pyarrow.Array:
    arrow, compute = required("pyarrow"), required("pyarrow.compute")
    if arrow.types.is_null(array.type):
        return arrow.nulls(len(array), arrow_type(field))
    array = array if kind_of(field) == "JSON" else normalised(array, column)
    if not arrow.types.is_list(array.type):
        return _none(array, column, lambda value: f"holds {shown(value)}, which is not an array")
    elements = array.flatten()
    inner = column.inner("[]", parents(array, column))
    for index in compute.indices_nonzero(elements.is_null()).to_pylist():
        inner.refuse(index, NULL_IN_ARRAY)
    return list_array(array, _single(elements, _element(field), inner))


def _none(array: pyarrow.Array, column: Column, reason: Reason) -> pyarrow.Array:
    for index in required("pyarrow.compute").indices_nonzero(array.is_valid()).to_pylist():
        column.refuse(index, reason(array[index].as_py()))
    return required("pyarrow").nulls(len(array))


def _single(array: pyarrow.Array, field: Field, column: Column) -> pyarrow.Array:
    """Return an array as the storage type of a column that is not repeated."""
    arrow = required("pyarrow")
    kind = kind_of(field)
    if kind == "JSON":
        return _json_of_arrow(array, column)
    if kind == "GEOGRAPHY":  # columns of geometry never come here
        return unsupported(array, column, "is geometry inside of a STRUCT: put it into a column of its own").cast(
            arrow.string()
        )
    array = normalised(array, column)
    if kind == "RECORD":
        return _record(array, field, column)
    target = arrow_type(field)
    if arrow.types.is_null(array.type):
        return arrow.nulls(len(array), target)
    if kind in ("INTERVAL", "RANGE"):
        converted = _checked_text(array, kind, field, column)
    elif array.type.equals(target):
        converted = array
    else:
        converted = _converted(array, kind, target, column)
    _check_size(converted, field, column)
    return converted


def _record(array: pyarrow.Array, field: Field, column: Column) -> pyarrow.Array:
    arrow = required("pyarrow")
    if arrow.types.is_null(array.type):
        return arrow.nulls(len(array), arrow_type(field))
    if not arrow.types.is_struct(array.type):
        nothing = _none(array, column, lambda value: f"holds {shown(value)}, which is not a STRUCT")
        return nothing.cast(arrow_type(field))
    names = {each["name"] for each in field["fields"]}
    if unknown := sorted({each.name for each in array.type} - names):
        _none(array, column, lambda _: f"has a field {unknown[0]}, which the schema does not have")
    children = [
        arrow.nulls(len(array), arrow_type(each))
        if array.type.get_field_index(each["name"]) < 0
        else declared(child_of(array, each["name"]), each, column.inner(f".{each['name']}"))
        for each in field["fields"]
    ]
    return _checked_record(children, field, array.is_valid(), column)


def _converted(array: pyarrow.Array, kind: str, target: pyarrow.DataType, column: Column) -> pyarrow.Array:
    """Convert to another scalar type by one of the rules; everything else does not fit."""
    arrow = required("pyarrow")
    source = name_of(array.type)

    def misfit(value: object) -> str:
        return f"holds {shown(value)} ({source}), which does not fit its type {kind}: convert it, or change the type"

    rules = CONVERSIONS.get(kind, ())
    if source not in rules and not (arrow.types.is_decimal(array.type) and "NUMERIC" in rules):
        return _none(array, column, misfit).cast(target)
    if source == "STRING":
        return _parsed(array, kind, target, column, misfit)
    if source == "FLOAT" and kind in ("NUMERIC", "BIGNUMERIC"):
        return _decimals_of_floats(array, target, column, misfit)
    return cast(array, target, column, misfit)


CONVERSIONS = {
    "INTEGER": ("FLOAT", "NUMERIC", "STRING"),
    "FLOAT": ("INTEGER", "STRING"),
    "NUMERIC": ("INTEGER", "FLOAT", "NUMERIC", "STRING"),
    "BIGNUMERIC": ("INTEGER", "FLOAT", "NUMERIC", "STRING"),
    "BOOLEAN": ("STRING",),
    "BYTES": ("STRING",),
    "DATE": ("STRING",),
    "DATETIME": ("DATE", "STRING"),
    "TIMESTAMP": ("DATETIME", "STRING"),
    "TIME": ("STRING",),
}
"""What a declared type accepts beside itself, each value only if it is held exactly. A DATETIME is taken for UTC in a
TIMESTAMP column, and text for what it says, as BigQuery does."""


def _decimals_of_floats(
    array: pyarrow.Array, target: pyarrow.DataType, column: Column, misfit: Reason
) -> pyarrow.Array:
    """Convert floats whose decimal form fits: 0.1 is 0.1, and 1/3 does not fit."""
    arrow = required("pyarrow")
    exact: list[Decimal | None] = []
    for index, value in enumerate(array.to_pylist()):
        number = None if value is None else Decimal(repr(value))
        if number is not None and not (math.isfinite(value) and _scale(number) <= target.scale):
            column.refuse(index, misfit(value))
            number = None
        exact.append(number)
    return cast(arrow.array(exact, arrow.decimal256(76, target.scale)), target, column, misfit)


def _scale(number: Decimal) -> int:
    """Return how many digits a finite number has after the point."""
    exponent = number.as_tuple().exponent
    return -exponent if isinstance(exponent, int) else 0


def _parsed(array: pyarrow.Array, kind: str, target: pyarrow.DataType, column: Column, misfit: Reason) -> pyarrow.Array:
    arrow, compute = required("pyarrow"), required("pyarrow.compute")
    if kind == "BYTES":
        return arrow.array([_bytes(each, index, column) for index, each in enumerate(array.to_pylist())], target)
    if kind == "FLOAT":
        return _floats_of_text(array, target, column, misfit)
    if kind == "INTEGER":  # Arrow reads 0x1F as well
        decimals = compute.fill_null(compute.match_substring_regex(array, r"^-?\d+$"), True)
        array = compute.if_else(decimals, array, compute.binary_join_element_wise("not ", array, ""))
        return cast(array, target, column, lambda value: misfit(str(value).removeprefix("not ")))
    if kind == "TIME":
        moments = compute.binary_join_element_wise(arrow.scalar("1970-01-01T"), array, "")
        return cast(moments, arrow.timestamp("us"), column, lambda value: misfit(str(value)[11:])).cast(target)
    if kind == "TIMESTAMP":
        array = compute.replace_substring_regex(array, r" ?(UTC|Z)$", "Z")
        zone = compute.match_substring_regex(array, r"(Z|[+-]\d\d(:?\d\d)?)$")
        is_date = compute.match_substring_regex(array, r"^\d{4}-\d\d-\d\d$")
        zoned = compute.and_(zone, compute.invert(is_date))
        array = compute.if_else(zoned, array, compute.binary_join_element_wise(array, arrow.scalar("Z"), ""))
        array = compute.if_else(is_date, compute.replace_substring_regex(array, "Z$", "T00:00:00Z"), array)
    return cast(array, target, column, misfit)


def _floats_of_text(array: pyarrow.Array, target: pyarrow.DataType, column: Column, misfit: Reason) -> pyarrow.Array:
    """Return the floats next to what texts say; whole numbers only if they are held exactly."""
    compute = required("pyarrow.compute")
    floats = cast(array, target, column, misfit)
    large = compute.fill_null(compute.greater_equal(compute.abs(floats), float(2**53)), False)
    for index in compute.indices_nonzero(large).to_pylist():
        text, number = array[index].as_py(), floats[index].as_py()
        is_infinite = math.isinf(number) and "inf" not in text.lower()
        if is_infinite or (text.lstrip("+-").isdigit() and Decimal(text) != Decimal(number)):
            column.refuse(index, misfit(text))
    return floats


def _bytes(text: str | None, index: int, column: Column) -> bytes | None:
    try:
        return None if text is None else base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        column.refuse(index, f"holds {shown(text)}, which is not Base64, as BYTES in text are")
        return None


def _check_size(array: pyarrow.Array, field: Field, column: Column) -> None:
    """Note the values that a parameterized type such as STRING(10) or NUMERIC(10, 2) does not hold."""
    compute, arrow = required("pyarrow.compute"), required("pyarrow")
    kind = kind_of(field)
    if length := field.get("maxLength"):
        sizes = compute.utf8_length(array) if kind == "STRING" else compute.binary_length(array)
        over = compute.greater(sizes, int(length))
        said = f"is longer than {length}"
    elif precision := field.get("precision"):
        scale = int(field.get("scale") or 0)
        sized = f"{kind}({precision}, {scale})"
        exact = arrow.decimal256(int(precision), scale)
        cast(array, exact, column, lambda value: f"holds {shown(value)}, which does not fit {sized}")
        return
    else:
        return
    for index in compute.indices_nonzero(compute.fill_null(over, False)).to_pylist():
        column.refuse(index, f"holds {shown(array[index].as_py())}, which {said}")


def _checked_text(array: pyarrow.Array, kind: str, field: Field, column: Column) -> pyarrow.Array:
    """Return INTERVAL or RANGE values as BigQuery's text for them."""
    arrow = required("pyarrow")
    found: list[str | None] = []
    for index, value in enumerate(array.to_pylist()):
        text = _interval_text(value) if kind == "INTERVAL" else _range_text(value)
        if value is not None and not (isinstance(text, str) and _is_valid_text(text, kind, field)):
            example = "1-2 3 4:5:6.5" if kind == "INTERVAL" else "[2026-01-01, UNBOUNDED)"
            column.refuse(index, f"holds {shown(value)}, which is not {kind}: write it as {example!r}")
            text = None
        found.append(text if isinstance(text, str) else None)
    return arrow.array(found, arrow.string())


def _is_valid_text(text: str, kind: str, field: Field) -> bool:
    if kind == "INTERVAL":
        return INTERVAL.fullmatch(text) is not None
    ends = range_ends(text)
    if ends is None:
        return False
    element = {"name": "", "type": field.get("rangeElementType", {}).get("type", "DATE")}
    misfits = Column("", range(2))
    found = declared([end for end in ends if end is not None], element, misfits).to_pylist()
    return not misfits.misfits and (len(found) < len(ends) or found[0] < found[1])


def range_ends(text: str) -> tuple[str | None, str | None] | None:
    """Return both ends of a RANGE's text, `[2026-01-01, UNBOUNDED)`; None for an open end, or if it is no range."""
    found = RANGE.fullmatch(text)
    if not found:
        return None
    start, end = (None if found[each].upper() in OPEN_ENDS else found[each] for each in ("start", "end"))
    return start, end


def _range_text(value: object) -> object:
    """Return a mapping of start and end as a RANGE's text, and anything else as it is."""
    if not isinstance(value, dict) or not value.keys() <= {"start", "end"}:
        return value
    start, end = ("UNBOUNDED" if value.get(each) is None else str(value[each]) for each in ("start", "end"))
    return f"[{start}, {end})"


def _interval_text(value: Any) -> object:
    """Return a length of time as BigQuery's text, `years-months days hours:minutes:seconds`; text as it is."""
    if isinstance(value, datetime.timedelta):
        micros = value // datetime.timedelta(microseconds=1)
        sign, (seconds, rest) = ("-" if micros < 0 else ""), divmod(abs(micros), 1_000_000)
        fraction = f".{rest:06}" if rest else ""
        return f"0-0 0 {sign}{seconds // 3600}:{seconds // 60 % 60}:{seconds % 60}{fraction}"
    if hasattr(value, "months") and hasattr(value, "days"):
        months, micros = value.months, value.nanoseconds // 1000
        if value.nanoseconds % 1000:
            return value
        years = f"{'-' if months < 0 else ''}{abs(months) // 12}-{abs(months) % 12}"
        time = str(_interval_text(datetime.timedelta(microseconds=micros))).rpartition(" ")[2]
        return f"{years} {value.days} {time}"
    return value


def _json(value: object, index: int, column: Column) -> str | None:
    """Return a Python value as JSON text. Text is a JSON string, as in the rows of a JSON file."""
    try:
        text = None if value is None else json.dumps(value, allow_nan=False, ensure_ascii=False)
        _check_json(value)
    except (TypeError, ValueError, RecursionError) as error:
        column.refuse(index, f"holds a value that is not JSON: {error}")
        return None
    return _json_text(text, index, column)


def _json_text(text: str | None, index: int, column: Column) -> str | None:
    """Return JSON text that BigQuery holds exactly: its numbers are 64 bits wide.

    https://cloud.google.com/bigquery/docs/reference/standard-sql/data-types#json_type
    """
    try:
        if text is not None:
            parsed = json.loads(
                text,
                parse_float=_exact_number,
                parse_int=_exact_number,
                parse_constant=_no_number,
                object_pairs_hook=_unique_keys,
            )
            _check_json(parsed)
    except (ValueError, RecursionError) as error:
        column.refuse(index, f"holds {shown(text)}, which JSON in BigQuery cannot hold: {error}")
        return None
    return text


def _check_json(value: object, level: int = 1) -> None:
    """Raise if a value has keys or text that JSON does not have, or more levels than BigQuery."""
    if level > JSON_LEVELS:
        raise ValueError(f"it has more than {JSON_LEVELS} levels")
    if isinstance(value, str):
        value.encode()
    elif isinstance(value, Mapping):
        if not all(map(is_text, value)):
            raise ValueError("an object has a key that is not text")
        for each in value.values():
            _check_json(each, level + 1)
    elif isinstance(value, (list, tuple)):
        for each in value:
            _check_json(each, level + 1)


def _unique_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key appears twice in an object")
    return found


def _no_number(constant: str) -> float:
    raise ValueError(f"JSON has no {constant}")


def _exact_number(text: str) -> float:
    if Decimal(text) != Decimal(repr(float(text))) and not (text.lstrip("-").isdigit() and abs(int(text)) < 2**63):
        raise ValueError(f"the number {shown(text)} has more digits than 64 bits hold")
    return 0.0


def _json_of_arrow(array: pyarrow.Array, column: Column) -> pyarrow.Array:
    """Return an array as JSON texts. An array of text holds JSON documents already."""
    arrow = required("pyarrow")
    if isinstance(array.type, arrow.BaseExtensionType):
        array = array.storage
    values = array.to_pylist()
    is_text = all(value is None or isinstance(value, str) for value in values)
    convert = _json_text if is_text else _json
    return arrow.array([convert(value, index, column) for index, value in enumerate(values)], arrow.string())
