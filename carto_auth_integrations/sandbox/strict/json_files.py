"""JSON lines and GeoJSON lines, checked value by value and turned into Parquet."""

# ruff: noqa: S608 - the SQL is DuckDB's, and quotes whatever comes from a request

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from . import csv_files
from .engine import parquet, pyarrow
from .parquet import plain_type
from .refusal import Refusal
from .schema import Field
from .source import Source
from .text import open_bytes
from .values import has_form, literal

# Rows that are written together: few enough to be small in memory.
_BATCH = 10_000

# Bytes of a line: https://cloud.google.com/bigquery/quotas#load_jobs
MAX_LINE = 100_000_000

_INT64 = range(-(2**63), 2**63)
_GEOMETRY = Field("geometry", "GEOGRAPHY")
_FEATURE_MEMBERS = ("type", "geometry", "properties")

Convert = Callable[[Any], Any]


class Misfit(Exception):
    """A value that does not fit its column, with the reason."""


def open_source(
    cursor: Any, load: Mapping[str, Any], files: Sequence[Path], fields: tuple[Field, ...], scratch: Path
) -> Source:
    """Turn files of JSON lines into Parquet.

    Args:
        cursor: A cursor of DuckDB.
        load: The load configuration; with `jsonExtension` GEOJSON, each line is a Feature.
        files: The files.
        fields: The columns; empty to find them out.
        scratch: A folder for the Parquet files.

    Raises:
        Refusal: If a line is not a JSON object that fits, and there are no bad records left.
    """
    features = load.get("jsonExtension") == "GEOJSON"
    read = _feature_of if features else _row_of
    if not fields:
        return _detect(cursor, files, scratch, features)
    convert = row_converter(fields, unknown=bool(load.get("ignoreUnknownValues")))
    exact = any(_has_decimals(field) for field in fields)
    allowed = int(load.get("maxBadRecords") or 0)
    schema = pyarrow.schema([(field.name, _arrow_type(field)) for field in fields])
    turned, rejected, problem = [], 0, ""
    for number, file in enumerate(sorted(files)):
        rows: list[dict[str, Any]] = []
        with parquet.ParquetWriter(scratch / f"{number}.parquet", schema) as writer:
            for line, text in _lines(file):
                try:
                    rows.append(convert(read(_parsed(text, exact))))
                except Misfit as misfit:
                    rejected, problem = rejected + 1, problem or f"Row {line + 1}: {misfit}"
                    if rejected > allowed:
                        raise Refusal(_failure(line, rejected, problem)) from None
                if len(rows) == _BATCH:
                    writer.write_table(pyarrow.Table.from_pylist(rows, schema))
                    rows.clear()
            writer.write_table(pyarrow.Table.from_pylist(rows, schema))
        turned.append(scratch / f"{number}.parquet")
    return Source("JSON", turned, dict(zip(schema.names, schema.types, strict=True)), fields, rejected, problem)


def _failure(line: int, errors: int, problem: str) -> str:
    return (
        "Error while reading data, error message: JSON table encountered too many errors, giving up. "
        f"Rows: {line + 1}; errors: {errors}. Please look into the errors[] collection for more details. {problem}"
    )


def _lines(file: Path) -> Iterator[tuple[int, bytes]]:
    with open_bytes(file) as stream:
        for number, line in enumerate(iter(lambda: stream.readline(MAX_LINE + 1), b"")):
            if len(line) > MAX_LINE:
                raise Refusal(
                    f"Error while reading data, error message: Row {number + 1} is larger than {MAX_LINE} bytes"
                )
            if line := line.strip(b" \t\r\n\xef\xbb\xbf" if number == 0 else b" \t\r\n"):
                yield number, line


def _parsed(line: bytes, exact: bool) -> Any:
    try:
        return json.loads(line, parse_float=Decimal) if exact else json.loads(line)
    except (ValueError, RecursionError) as error:
        raise Misfit(f"Parser terminated before end of string: {error}") from None


def _row_of(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        kind = "an array" if isinstance(value, list) else "a value"
        raise Misfit(f"Parser error: a JSON object is expected in each line, not {kind}")
    return value


def _feature_of(value: Any) -> dict[str, Any]:
    row = _row_of(value)
    if row.get("type") != "Feature":
        raise Misfit(f"GeoJSON: the type must be Feature, one in each line, not {row.get('type')}")
    properties, geometry = row.get("properties") or {}, row.get("geometry")
    if geometry is not None and not isinstance(geometry, dict):
        raise Misfit("GeoJSON: the geometry must be an object or null")
    if not isinstance(properties, dict):
        raise Misfit("GeoJSON: the properties must be an object or null")
    others = {name: member for name, member in row.items() if name not in _FEATURE_MEMBERS}
    if clash := set(properties) & {*others, "geometry", "type"}:
        raise Misfit(f"GeoJSON: the property {min(clash)} has the name of a member of the Feature")
    return {**others, **properties, "geometry": None if geometry is None else json.dumps(geometry, default=float)}


def row_converter(fields: Sequence[Field], *, unknown: bool, path: str = "") -> Convert:
    """Return the function that checks a JSON object and makes it a row for Arrow; it raises Misfit.

    Args:
        fields: The columns.
        unknown: Whether keys without a column are ignored.
        path: The path of the RECORD that the object is a value of, with a point at its end.
    """
    converters = {
        field.name.casefold(): (field.name, _converter(field, unknown, path + field.name)) for field in fields
    }
    required = [field.name for field in fields if field.mode == "REQUIRED"]
    repeated = [field.name for field in fields if field.repeated]

    def convert(row: Any) -> dict[str, Any]:
        if not isinstance(row, dict):
            raise Misfit(f"This field: {path.rstrip('.')} is not a record.")
        result: dict[str, Any] = {name: [] for name in repeated}
        for key, value in row.items():
            found = converters.get(key.casefold())
            if found is None:
                if unknown:
                    continue
                raise Misfit(f"No such field: {path}{key}.")
            result[found[0]] = found[1](value)
        for name in required:
            if result.get(name) is None:
                raise Misfit(f"Missing required field: {path}{name}.")
        return result

    return convert


def _converter(field: Field, unknown: bool, path: str) -> Convert:
    if field.type == "RECORD":
        one = row_converter(field.fields, unknown=unknown, path=f"{path}.")
    else:
        one = _scalar(field, path)

    def nullable(value: Any) -> Any:
        return None if value is None else one(value)

    def array(value: Any) -> list[Any]:
        if value is None:
            return []
        if not isinstance(value, list):
            raise Misfit(f"Array specified for non-repeated field or value for repeated field: {path}.")
        if None in value:
            raise Misfit(f"Only optional fields can be set to NULL. Field: {path}; Value: NULL")
        return [one(item) for item in value]

    return array if field.repeated else nullable


def _scalar(field: Field, path: str) -> Convert:
    if field.type == "JSON":
        return lambda value: json.dumps(value, default=float, ensure_ascii=False)
    read: Callable[[Any, Field], Any] = _READERS.get(field.type, _text)

    def convert(value: Any) -> Any:
        if isinstance(value, list):
            raise Misfit(f"Array specified for non-repeated field: {path}.")
        if isinstance(value, dict) and field.type not in ("RANGE", "GEOGRAPHY"):
            raise Misfit(f"JSON object specified for non-record field: {path}")
        try:
            return read(value, field)
        except (ValueError, ArithmeticError):
            shown = json.dumps(value, default=str)[:60]
            raise Misfit(f"Could not convert value to {field.type.lower()}. Field: {path}; Value: {shown}") from None

    return convert


def _text(value: Any, _field: Field) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else str(value)


def _formed(value: Any, field: Field) -> str:
    if not isinstance(value, str) or not has_form(field.type, value.strip()):
        raise ValueError(value)
    return value.strip()


def _timestamp(value: Any, field: Field) -> str:
    if isinstance(value, bool):
        raise ValueError(value)
    return _formed(value if isinstance(value, str) else format(Decimal(str(value)), "f"), field)


def _integer(value: Any, field: Field) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise ValueError(value)
    number = int(_formed(value, field)) if isinstance(value, str) else value
    if number not in _INT64:
        raise ValueError(value)
    return number


def _float(value: Any, field: Field) -> float:
    if isinstance(value, bool):
        raise ValueError(value)
    return float(_formed(value, field) if isinstance(value, str) else value)


def _boolean(value: Any, field: Field) -> bool:
    if isinstance(value, bool):
        return value
    return _formed(value, field).lower() in ("1", "true", "t", "yes", "y")


def _bytes(value: Any, field: Field) -> bytes:
    try:
        return base64.b64decode(_formed(value, field))
    except binascii.Error:
        raise ValueError(value) from None


def _decimal(value: Any, field: Field) -> str:
    if isinstance(value, bool):
        raise ValueError(value)
    return format(Decimal(_formed(str(value), field)), "f")


def _range(value: Any, field: Field) -> str:
    if isinstance(value, dict):
        bounds = (value.get("start"), value.get("end"))
        value = "[{}, {})".format(*("UNBOUNDED" if bound is None else bound for bound in bounds))
    return _formed(value, field)


def _shape(value: Any, _field: Field) -> str:
    if not isinstance(value, str):
        raise ValueError(value)
    return value


_READERS: Mapping[str, Callable[[Any, Field], Any]] = {
    "INTEGER": _integer,
    "FLOAT": _float,
    "BOOLEAN": _boolean,
    "BYTES": _bytes,
    "NUMERIC": _decimal,
    "BIGNUMERIC": _decimal,
    "DATE": _formed,
    "TIME": _formed,
    "DATETIME": _formed,
    "TIMESTAMP": _timestamp,
    "INTERVAL": _formed,
    "RANGE": _range,
    "GEOGRAPHY": _shape,
}


def _arrow_type(field: Field) -> Any:
    arrow = {
        "INTEGER": pyarrow.int64(),
        "FLOAT": pyarrow.float64(),
        "BOOLEAN": pyarrow.bool_(),
        "BYTES": pyarrow.binary(),
    }
    kind = arrow.get(field.type, pyarrow.string())
    if field.type == "RECORD":
        kind = pyarrow.struct([(each.name, _arrow_type(each)) for each in field.fields])
    return pyarrow.list_(kind) if field.repeated else kind


def _has_decimals(field: Field) -> bool:
    return field.type in ("NUMERIC", "BIGNUMERIC") or any(map(_has_decimals, field.fields))


def _detect(cursor: Any, files: Sequence[Path], scratch: Path, features: bool) -> Source:
    """Find out the columns of JSON lines with DuckDB, after a check that each line is an object."""
    turned = []
    for number, file in enumerate(sorted(files)):
        plain, target = scratch / f"{number}.json", scratch / f"{number}.parquet"
        with plain.open("w", encoding="utf-8") as out:
            for line, text in _lines(file):
                try:
                    row = (_feature_of if features else _row_of)(_parsed(text, False))
                    _check_arrays(row)
                except Misfit as misfit:
                    raise Refusal(_failure(line, 1, f"Row {line + 1}: {misfit}")) from None
                out.write(json.dumps(row) + "\n")
        options = "format = 'newline_delimited', sample_size = -1, map_inference_threshold = -1"
        read = f"read_json({literal(str(plain))}, {options})"
        cursor.execute(f"COPY (SELECT * FROM {read}) TO {literal(str(target))} (FORMAT parquet)")
        turned.append(target)
    fields = csv_files.derived(cursor, turned[-1])
    if features:
        fields = tuple(_GEOMETRY if field.name == "geometry" else field for field in fields)
    columns = {each.name: plain_type(each.type, each.name) for each in parquet.read_schema(turned[-1])}
    return Source("JSON", turned, columns, fields)


def _check_arrays(value: Any, in_array: bool = False) -> None:
    if isinstance(value, dict):
        for member in value.values():
            _check_arrays(member)
    elif isinstance(value, list):
        if in_array:
            raise Misfit("Nested arrays are not supported")
        for item in value:
            if item is None:
                raise Misfit("Only optional fields can be set to NULL: an array has a null")
            _check_arrays(item, in_array=True)
