"""Read Avro files with their logical types."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from ..packages import required
from .base import Chunk, Source
from .reading import CHUNK_BYTES, CHUNK_ROWS, guarded, unreadable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path
    from typing import TypeAlias

    from ...http import Json
    from ..options import LoadOptions

    Schema: TypeAlias = Any
    """A type as Avro writes it: its name, a list of the types of a union, or an object."""
    Convert: TypeAlias = Callable[[Any], Any]

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
NANOSECONDS = {"timestamp-nanos": EPOCH, "local-timestamp-nanos": EPOCH.replace(tzinfo=None)}
"""Logical types that fastavro gives as numbers of nanoseconds, and their epochs."""
EXACT_TYPES = frozenset({"boolean", "int", "long", "float", "double", "string", "bytes", "enum", "fixed"})
EXACT_LOGICAL = frozenset(
    {
        "date", "time-millis", "time-micros", "timestamp-millis", "timestamp-micros",
        "local-timestamp-millis", "local-timestamp-micros",
    }
)  # fmt: skip
"""Logical types that BigQuery reads exactly with `useAvroLogicalTypes`."""
EXACT_CODECS = frozenset({"null", "deflate", "snappy"})
MOST_BLOCK_BYTES = 16 * 1024 * 1024
"""https://cloud.google.com/bigquery/docs/loading-data-cloud-storage-avro"""


def open_avro(path: Path, place: str, options: LoadOptions) -> Source:  # noqa: ARG001  # as the other readers
    """Open an Avro file. A map becomes an array of `key` and `value`, as in BigQuery.

    Raises:
        ValueError: If the file is damaged, its schema is no record, or a value has nanoseconds that BigQuery cannot
            hold.
    """
    fastavro = required("fastavro", "files")
    errors = _errors()
    file = path.open("rb")
    try:
        reader = fastavro.reader(file)
    except errors as error:
        file.close()
        raise unreadable(place, "Avro", error) from None
    schema, size = reader.writer_schema, path.stat().st_size
    if not (isinstance(schema, dict) and schema.get("type") == "record"):
        file.close()
        raise ValueError(f"{place} holds values of the type {schema}, not records with fields: it has no columns.")
    try:
        convert = _record(schema, {})
    except ValueError as error:
        file.close()
        raise ValueError(f"{place}: {error}") from None

    def chunks() -> Iterator[Chunk]:
        rows: list[Mapping[str, object]] = []
        first, start = 1, 0
        with file:
            for number, row in enumerate(guarded(reader, place, "Avro", errors), start=1):
                try:
                    rows.append(convert(row) if convert else row)
                except ValueError as error:
                    raise ValueError(f"{place}: row {number}: {error}") from None
                if len(rows) == CHUNK_ROWS or file.tell() - start >= CHUNK_BYTES:
                    yield Chunk(rows, first, place)
                    first, start, rows = number + 1, file.tell(), []
            if rows:
                yield Chunk(rows, first, place)
            elif first == 1:
                yield Chunk([(field["name"], list[object]()) for field in schema["fields"]], first, place)

    found = {"format": "AVRO", "codec": reader.codec}
    return Source(chunks(), found, size, lambda: size if file.closed else file.tell())


def plain_columns(path: Path) -> list[str]:
    """Return the columns of a file that BigQuery reads exactly with `useAvroLogicalTypes`; none if any is another."""
    fastavro = required("fastavro", "files")
    try:
        with path.open("rb") as file:
            reader = fastavro.block_reader(file)
            schema = reader.writer_schema
            if reader.codec not in EXACT_CODECS or not isinstance(schema, dict) or schema.get("type") != "record":
                return []
            if not all(_is_exact(field["type"]) for field in schema["fields"]):
                return []
            rows, start = 0, file.tell()
            for block in reader:
                rows, size, start = rows + block.num_records, file.tell() - start, file.tell()
                if size > MOST_BLOCK_BYTES:
                    return []
            return [field["name"] for field in schema["fields"]] if rows else []
    except _errors():
        return []  # `open_avro` says what is wrong


def _errors() -> tuple[type[BaseException], ...]:
    """Return what fastavro raises for damaged files: it has few errors of its own."""
    return (ArithmeticError, AssertionError, EOFError, LookupError, OSError, TypeError, ValueError, ImportError)


def _is_exact(schema: Schema) -> bool:
    """Whether BigQuery reads every value of a type: a plain one, or one beside null."""
    if isinstance(schema, list):
        others = [each for each in schema if each != "null"]
        return len(others) == 1 and _is_exact(others[0])
    if isinstance(schema, str):
        return schema in EXACT_TYPES
    return schema.get("logicalType") in EXACT_LOGICAL | {None} and schema.get("type") in EXACT_TYPES


def _converter(schema: Schema, named: dict[str, Convert | None]) -> Convert | None:
    """Return what converts the values of a type, or None if they are right as fastavro gives them."""
    if isinstance(schema, str):
        return named.get(schema)
    if isinstance(schema, list):
        return _union(schema, named)
    logical, kind = schema.get("logicalType"), schema["type"]
    if logical in NANOSECONDS:
        return lambda value: _instant(value, NANOSECONDS[logical])
    if kind == "record":
        return _record(schema, named)
    if kind == "array":
        inner = _converter(schema["items"], named)
        return (lambda values: [inner(each) for each in values]) if inner else None
    if kind == "map":
        of_value = _converter(schema["values"], named) or _same
        return lambda value: [{"key": key, "value": of_value(each)} for key, each in value.items()]
    return _converter(kind, named) if isinstance(kind, (dict, list)) else None


def _record(schema: Json, named: dict[str, Convert | None]) -> Convert | None:
    """Return what converts a record."""
    name = schema["name"]
    named[name] = lambda row: convert(row)  # for the fields of a type that contains itself
    converted: dict[str, Convert] = {}
    for field in schema["fields"]:
        try:
            if each := _converter(field["type"], named):
                converted[field["name"]] = each
        except ValueError as error:
            raise ValueError(f"column {field['name']}: {error}") from None

    def convert(row: Json) -> Json:
        new = {}
        for key, each in converted.items():
            try:
                new[key] = each(row[key])
            except ValueError as error:
                raise ValueError(f"column {key}: {error}") from None
        return {**row, **new}

    named[name] = convert if converted else None
    return named[name]


def _union(schemas: Sequence[Schema], named: dict[str, Convert | None]) -> Convert | None:
    converters = [_converter(each, named) for each in schemas if each != "null"]
    if not any(converters):
        return None
    if len(converters) > 1:
        raise ValueError("a union of several types holds maps or nanoseconds: give each type a column of its own.")
    (inner,) = converters
    return lambda value: None if value is None or inner is None else inner(value)


def _same(value: object) -> object:
    return value


def _instant(nanoseconds: int, epoch: datetime) -> datetime:
    microseconds, rest = divmod(nanoseconds, 1000)
    if rest:
        raise ValueError(f"{nanoseconds} ns since 1970 is not a whole number of microseconds: round it.")
    return epoch + timedelta(microseconds=microseconds)
