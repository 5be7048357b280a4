"""The SQL that turns the columns of files into the columns of a table, and finds the values that do not fit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from . import geography
from .engine import models, pyarrow, quote, types
from .refusal import Refusal, cannot
from .schema import Field
from .source import Source
from .values import FORMS, SCALES, from_text, literal, loses_digits, no_parquet_interval

# Types of columns that strings of Avro files are read as, beside STRING and GEOGRAPHY.
_AVRO_TEXTS = ("JSON", "DATETIME")


@dataclass(frozen=True)
class Value:
    """A value of a file as SQL.

    Attributes:
        sql: The expression of the value in its column's type.
        misfits: Conditions under which the value does not fit, each with the reason.
        shapes: Paths of geographies in the value, each with the expression of a list of their texts.
    """

    sql: str
    misfits: tuple[tuple[str, str], ...] = ()
    shapes: tuple[tuple[str, str], ...] = ()


@dataclass
class Fit:
    """How the rows of a source become rows of a table.

    Args:
        source: The source.
        lists: Whether Parquet lists are arrays. Without `enableListInference`, the arrays of a REPEATED column are
            loaded empty.

    Attributes:
        projection: The columns of the table, for a SELECT.
        misfits: Conditions on rows that do not fit, each with the reason.
        shapes: Columns of geography, each with the expression of a list of the texts in a row.

    Raises:
        Refusal: If a column has a type that its field cannot take.
    """

    source: Source
    lists: bool
    projection: str = ""
    misfits: list[tuple[str, str]] = field(default_factory=list)
    shapes: list[tuple[str, str]] = field(default_factory=list)
    _depth: int = 0

    def __post_init__(self) -> None:
        columns = {name.casefold(): (name, kind) for name, kind in self.source.columns.items()}
        selected = []
        for each in self.source.fields:
            name, kind = columns.get(each.name.casefold(), ("", None))
            value = self._missing(each) if kind is None else self._value(quote(name), kind, each, each.name)
            self.misfits += value.misfits
            self.shapes += value.shapes
            selected.append(f"CAST({value.sql} AS {duckdb_type(each)}) AS {quote(each.name)}")
        self.projection = ", ".join(selected)

    def _missing(self, each: Field) -> Value:
        misfits = (("true", f"Missing required field: {each.name}"),) if each.mode == "REQUIRED" else ()
        return Value("[]" if each.repeated else "NULL", misfits)

    def _value(self, x: str, kind: Any, each: Field, path: str) -> Value:
        if each.repeated:
            return self._array(x, kind, each, path)
        read = self._record if each.type == "RECORD" else self._scalar
        value = read(x, kind, each, path)
        if each.mode == "REQUIRED":
            missing = (f"{x} IS NULL", f"Missing required field: {path}")
            return Value(value.sql, (missing, *value.misfits), value.shapes)
        return value

    def _array(self, x: str, kind: Any, each: Field, path: str) -> Value:
        is_map = pyarrow.types.is_map(kind)
        if not is_map and not _is_list(kind):
            raise _mismatch(self.source.kind, path, kind, each)
        if not self.lists and not is_map:
            return Value("[]")
        if is_map:
            x, item = f"map_entries({x})", pyarrow.struct([("key", kind.key_type), ("value", kind.item_type)])
        else:
            item = kind.value_type
        element = f"e{self._depth}"
        self._depth += 1
        value = self._value(element, item, each.item, path)
        values = x if value.sql == element else _mapped(x, element, value.sql)
        # Nulls in arrays of Parquet are dropped; in JSON they are refused before.
        values = f"list_filter({values}, lambda {element}: {element} IS NOT NULL)"
        misfits = tuple((f"list_bool_or({_mapped(x, element, test)})", text) for test, text in value.misfits)
        shapes = tuple((at, f"flatten({_mapped(x, element, texts)})") for at, texts in value.shapes)
        return Value(f"coalesce({values}, [])", misfits, shapes)

    def _record(self, x: str, kind: Any, each: Field, path: str) -> Value:
        if _is_list(kind) and [child.name.casefold() for child in each.fields] == ["list"]:
            return self._list_as_record(x, kind, each.fields[0], path)
        if pyarrow.types.is_map(kind) and [child.name.casefold() for child in each.fields] == ["key_value"]:
            inner = self._array(x, kind, each.fields[0], f"{path}.key_value")
            sql = f"CASE WHEN {x} IS NOT NULL THEN struct_pack(key_value := {inner.sql}) END"
            return Value(sql, inner.misfits, inner.shapes)
        if not pyarrow.types.is_struct(kind):
            raise _mismatch(self.source.kind, path, kind, each)
        members = {kind.field(index).name.casefold(): kind.field(index) for index in range(kind.num_fields)}
        values = []
        for child in each.fields:
            member = members.get(child.name.casefold())
            if member is None:
                values.append(self._missing(child))
            else:
                values.append(self._value(f"{x}.{quote(member.name)}", member.type, child, f"{path}.{child.name}"))
        pairs = zip(each.fields, values, strict=True)
        packed = ", ".join(
            f"{quote(child.name)} := CAST({value.sql} AS {duckdb_type(child)})" for child, value in pairs
        )
        return Value(
            f"CASE WHEN {x} IS NOT NULL THEN struct_pack({packed}) END",
            tuple((f"{x} IS NOT NULL AND {test}", text) for value in values for test, text in value.misfits),
            tuple(shape for value in values for shape in value.shapes),
        )

    def _list_as_record(self, x: str, kind: Any, each: Field, path: str) -> Value:
        """Return what a Parquet list is without `enableListInference`: a RECORD `list` of RECORDs `element`."""
        element = f"e{self._depth}"
        self._depth += 1
        value = self._value(element, kind.value_type, each.fields[0], f"{path}.list.element")
        values = _mapped(x, element, f"struct_pack({quote(each.fields[0].name)} := {value.sql})")
        misfits = tuple((f"list_bool_or({_mapped(x, element, test)})", text) for test, text in value.misfits)
        shapes = tuple((at, f"flatten({_mapped(x, element, texts)})") for at, texts in value.shapes)
        return Value(f"CASE WHEN {x} IS NOT NULL THEN struct_pack({quote(each.name)} := {values}) END", misfits, shapes)

    def _scalar(self, x: str, kind: Any, each: Field, path: str) -> Value:
        for test, read in _READERS:
            if test(kind):
                value = read(self, x, kind, each, path)
                if value is not None:
                    return value
                break
        raise _mismatch(self.source.kind, path, kind, each)

    def _text(self, x: str, kind: Any, each: Field, path: str) -> Value | None:
        if each.type == "GEOGRAPHY":
            return Value(geography.from_text(x), (), ((path, f"[{x}]"),))
        if each.type == "STRING":
            return Value(x)
        if self.source.kind == "PARQUET" or (self.source.kind == "AVRO" and each.type not in _AVRO_TEXTS):
            return None
        sql = from_text(x, each)
        tests = [f"TRY({sql}) IS NULL"]
        if each.type in FORMS:
            tests.insert(0, f"NOT regexp_full_match({x}, {literal(FORMS[each.type])})")
        misfits = [
            (
                f"({x} IS NOT NULL AND ({' OR '.join(tests)}))",
                f"Could not parse a value as {each.type} for field {path}",
            )
        ]
        if each.type == "NUMERIC":
            misfits.append((loses_digits(x, "NUMERIC"), f"Invalid NUMERIC value for field {path}: too many digits"))
        if each.type == "BIGNUMERIC":
            exact = f"({loses_digits(x, 'BIGNUMERIC')} OR ({x} IS NOT NULL AND TRY({sql}) IS NULL))"
            misfits.insert(0, (exact, _too_wide(path)))
        if each.type == "INTERVAL":
            misfits.append((f"({no_parquet_interval(x)})", _no_interval(path)))
        return Value(f"TRY({sql})", tuple(misfits))

    def _binary(self, x: str, kind: Any, each: Field, path: str) -> Value | None:
        if each.type == "GEOGRAPHY":
            return Value(geography.from_wkb(x), (), ((path, f"[hex({x})]"),))
        if each.type == "BYTES":
            return Value(x)
        return Value(f"decode({x})") if each.type == "STRING" else None

    def _integer(self, x: str, kind: Any, each: Field, path: str) -> Value | None:
        if each.type != "INTEGER":
            return None
        if pyarrow.types.is_uint64(kind):
            return Value(
                f"TRY_CAST({x} AS BIGINT)", ((f"{x} > 9223372036854775807", f"Value of {path} is above INT64"),)
            )
        return Value(x)

    def _decimal(self, x: str, kind: Any, each: Field, path: str) -> Value | None:
        if each.type == "STRING":
            return Value(f"CAST({x} AS VARCHAR)")
        if each.type not in SCALES:
            return None
        sql = f"TRY_CAST({x} AS DECIMAL(38,{SCALES[each.type]}))"
        lossy = f"({x} IS NOT NULL AND ({sql} IS NULL OR CAST({sql} AS VARCHAR) <> {_padded(x, kind, each.type)}))"
        reason = (
            f"Value will lose precision after scaling down to a scale of 9 or does not fit NUMERIC, in column {path}"
        )
        return Value(sql, ((lossy, reason if each.type == "NUMERIC" else _too_wide(path)),))

    def _moment(self, x: str, kind: Any, each: Field, path: str) -> Value | None:
        if each.type == "TIMESTAMP":
            return Value(x if kind.tz else f"CAST({x} AS TIMESTAMP) AT TIME ZONE 'UTC'")
        if each.type == "DATETIME":
            return Value(f"{x} AT TIME ZONE 'UTC'" if kind.tz else x)
        return None


def _padded(x: str, kind: Any, target: str) -> str:
    """Return a decimal as text, with as many digits after the point as its target has."""
    scale = SCALES[target]
    if kind.scale <= scale:
        return f"CAST(TRY_CAST({x} AS DECIMAL(38,{scale})) AS VARCHAR)"
    return f"regexp_replace(CAST({x} AS VARCHAR), '0{{{kind.scale - scale}}}$', '')"


def _too_wide(path: str) -> str:
    return cannot(
        f"store a BIGNUMERIC of more than 20 digits before the point or 18 after it, in column {path}"
    ).message


def _no_interval(path: str) -> str:
    return cannot(f"store an INTERVAL that is negative or finer than a millisecond, in column {path}").message


def _only(target: str) -> Callable[[Fit, str, Any, Field, str], Value | None]:
    def read(_fit: Fit, x: str, _kind: Any, each: Field, _path: str) -> Value | None:
        return Value(x) if each.type == target else None

    return read


_READERS: Sequence[tuple[Callable[[Any], bool], Callable[[Fit, str, Any, Field, str], Value | None]]] = (
    (lambda kind: pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind), Fit._text),
    (lambda kind: pyarrow.types.is_binary(kind) or pyarrow.types.is_large_binary(kind), Fit._binary),
    (lambda kind: pyarrow.types.is_fixed_size_binary(kind), Fit._binary),
    (lambda kind: pyarrow.types.is_integer(kind), Fit._integer),
    (lambda kind: pyarrow.types.is_decimal(kind), Fit._decimal),
    (lambda kind: pyarrow.types.is_timestamp(kind), Fit._moment),
    (lambda kind: pyarrow.types.is_boolean(kind), _only("BOOLEAN")),
    (lambda kind: pyarrow.types.is_floating(kind), _only("FLOAT")),
    (lambda kind: pyarrow.types.is_date(kind), _only("DATE")),
    (lambda kind: pyarrow.types.is_time(kind), _only("TIME")),
)


def duckdb_type(each: Field) -> str:
    """Return DuckDB's type of a field."""
    return str(types.duckdb_type(models.TableFieldSchema.model_validate(each.resource())))


def _mapped(x: str, element: str, sql: str) -> str:
    return f"list_transform({x}, lambda {element}: {sql})"


def _is_list(kind: Any) -> bool:
    arrow = pyarrow.types
    return bool(arrow.is_list(kind) or arrow.is_large_list(kind) or arrow.is_fixed_size_list(kind))


def _mismatch(source: str, path: str, kind: Any, each: Field) -> Refusal:
    mode = f"{each.mode} " if each.repeated else ""
    return Refusal(
        f"Error while reading data, error message: {source.title()} column '{path}' has type {kind} which does not "
        f"match the target type {mode}{each.type}"
    )
