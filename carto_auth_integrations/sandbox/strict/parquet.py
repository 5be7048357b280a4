"""Parquet files: what BigQuery refuses in them, and the columns that they become without a schema."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from .engine import parquet, pyarrow
from .refusal import Refusal, cannot
from .schema import Field
from .source import Source

# https://cloud.google.com/bigquery/docs/loading-data-cloud-storage-parquet#parquet_compression
_CODECS = frozenset(("UNCOMPRESSED", "SNAPPY", "GZIP", "ZSTD", "LZ4", "LZ4_RAW", "LZO"))
_LOGICAL_TYPES = frozenset(("NONE", "STRING", "ENUM", "INT", "DECIMAL", "DATE", "TIME", "TIMESTAMP", "LIST", "MAP"))
_LONGITUDE_LATITUDE = frozenset((("OGC", "CRS84"), ("EPSG", "4326")))

# Digits of DuckDB's decimals, and of BIGNUMERIC in the emulator.
_MAX_PRECISION = 38
_SCALE = 18

# Digits of NUMERIC before its point, and of BIGNUMERIC.
_DIGITS = {"NUMERIC": (29, 9), "BIGNUMERIC": (38, 38)}

_BATCH = 10_000


def open_source(load: Mapping[str, Any], files: Sequence[Path], fields: tuple[Field, ...], scratch: Path) -> Source:
    """Check Parquet files and return what they hold.

    Args:
        load: The load configuration.
        files: The files.
        fields: The columns that the configuration names; empty to take those of the files.
        scratch: A folder for files that are written anew.

    Raises:
        Refusal: If BigQuery does not load the files.
    """
    opened = [_open(file) for file in sorted(files)]
    for each in opened:
        _check_file(each)
    last = opened[-1]
    columns = {each.name: plain_type(each.type, each.name) for each in last.schema_arrow}
    geographies = _geographies(last)
    derived = tuple(_field(name, kind, load, geographies) for name, kind in columns.items())
    if fields:
        _check_given(fields, {each.name.casefold(): each for each in last.schema_arrow}, load)
    if any(_is_wide(kind) for kind in columns.values()):
        files = [_narrowed(each, scratch / f"{number}.parquet") for number, each in enumerate(opened)]
        columns = {each.name: each.type for each in parquet.read_schema(files[-1])}
    planar = frozenset(name for name, edges in geographies.items() if edges == "planar")
    return Source("PARQUET", files, columns, fields or derived, planar=planar)


def _open(file: Path) -> Any:
    try:
        return parquet.ParquetFile(file)
    except (pyarrow.ArrowInvalid, OSError) as error:
        raise Refusal(
            f"Error while reading data, error message: Input file is not in Parquet format. {error}"
        ) from None


def _check_file(file: Any) -> None:
    metadata = file.metadata
    for group in range(metadata.num_row_groups):
        for column in range(metadata.num_columns):
            codec = metadata.row_group(group).column(column).compression
            if codec not in _CODECS:
                raise Refusal(f"Error while reading data, error message: Unsupported Parquet compression codec {codec}")
    for name in file.schema_arrow.names:
        if "." in name:
            raise Refusal(f'Invalid field name "{name}". Parquet columns must not have a period in their names.')
    for index in range(len(file.schema)):
        column = file.schema.column(index)
        logical = json.loads(column.logical_type.to_json())
        kind = str(logical.get("Type") or "None").upper()
        if kind in ("GEOMETRY", "GEOGRAPHY"):
            raise Refusal(f"Cannot annotate {kind.title()} from {column.physical_type} for field {column.path}")
        if kind not in _LOGICAL_TYPES:
            raise Refusal(f"Unsupported Parquet logical type {kind} for field {column.path}")
        if str(logical.get("timeUnit")) == "nanoseconds":
            raise Refusal(f"Unsupported Parquet type {kind} in nanoseconds for field {column.path}")


def plain_type(kind: Any, path: str) -> Any:
    """Return the type that a column has in a Parquet file, without what Arrow notes beside it."""
    arrow = pyarrow.types
    if isinstance(kind, pyarrow.BaseExtensionType):
        return plain_type(kind.storage_type, path)
    if arrow.is_null(kind):
        raise Refusal(f"Unsupported Parquet type: column {path} has nothing but nulls and no type")
    if arrow.is_float16(kind):
        raise Refusal(f"Unsupported Parquet logical type FLOAT16 for field {path}")
    if arrow.is_dictionary(kind):
        return plain_type(kind.value_type, path)
    if arrow.is_duration(kind):
        return pyarrow.int64()
    if kind == pyarrow.string_view():
        return pyarrow.string()
    if kind == pyarrow.binary_view():
        return pyarrow.binary()
    if arrow.is_struct(kind):
        members = [kind.field(index) for index in range(kind.num_fields)]
        return pyarrow.struct([(each.name, plain_type(each.type, f"{path}.{each.name}")) for each in members])
    if arrow.is_map(kind):
        return pyarrow.map_(plain_type(kind.key_type, path), plain_type(kind.item_type, path))
    return _plain_list(kind, path)


def _plain_list(kind: Any, path: str) -> Any:
    arrow = pyarrow.types
    if not (arrow.is_list(kind) or arrow.is_large_list(kind) or arrow.is_fixed_size_list(kind)):
        return kind
    item = plain_type(kind.value_type, path)
    if arrow.is_list(item):
        raise Refusal(f"Unsupported Parquet type: column {path} is a list of lists")
    return pyarrow.list_(item)


def _geographies(file: Any) -> dict[str, str]:
    """Return the geometry columns of GeoParquet, each with what its edges are."""
    text = (file.metadata.metadata or {}).get(b"geo")
    if text is None:
        return {}
    try:
        columns = json.loads(text)["columns"]
    except (ValueError, KeyError, TypeError):
        raise Refusal("Error while reading data, error message: Invalid GeoParquet metadata") from None
    for name, column in columns.items():
        if column.get("encoding") != "WKB":
            raise Refusal(f"GeoParquet column {name} has encoding {column.get('encoding')}: only WKB is supported")
        identity = (column.get("crs") or {}).get("id") or {}
        is_right = (str(identity.get("authority")), str(identity.get("code"))) in _LONGITUDE_LATITUDE
        if "crs" in column and not is_right:
            raise Refusal(f"GeoParquet column {name} has a CRS other than WGS 84 in longitude and latitude")
    # A column without `edges` is taken as spherical: https://github.com/geopandas/geopandas/issues/3489
    return {name: column.get("edges", "spherical") for name, column in columns.items()}


def _field(name: str, kind: Any, load: Mapping[str, Any], geographies: Mapping[str, str]) -> Field:
    """Return the column that a column of a file becomes without a schema."""
    arrow, options = pyarrow.types, load.get("parquetOptions") or {}
    if name in geographies:
        return Field(name, "GEOGRAPHY")
    if arrow.is_list(kind):
        item = _field("element", kind.value_type, load, {})
        if options.get("enableListInference"):
            return Field(name, item.type, "REPEATED", item.fields)
        return Field(name, "RECORD", fields=(Field("list", "RECORD", "REPEATED", (item,)),))
    if arrow.is_map(kind):
        pair = (_field("key", kind.key_type, load, {}), _field("value", kind.item_type, load, {}))
        if options.get("mapTargetType") == "ARRAY_OF_STRUCT":
            return Field(name, "RECORD", "REPEATED", pair)
        return Field(name, "RECORD", fields=(Field("key_value", "RECORD", "REPEATED", pair),))
    if arrow.is_struct(kind):
        members = [kind.field(index) for index in range(kind.num_fields)]
        return Field(name, "RECORD", fields=tuple(_field(each.name, each.type, load, {}) for each in members))
    if arrow.is_decimal(kind):
        return Field(name, decimal_target(kind.precision, kind.scale, load.get("decimalTargetTypes") or ()))
    return Field(name, scalar_type(kind))


def scalar_type(kind: Any) -> str:
    """Return the BigQuery type of an Arrow type that has no fields and no digits to choose by."""
    arrow = pyarrow.types
    tests = (
        (arrow.is_boolean, "BOOLEAN"),
        (arrow.is_integer, "INTEGER"),
        (arrow.is_floating, "FLOAT"),
        (arrow.is_date, "DATE"),
        (arrow.is_time, "TIME"),
        (arrow.is_timestamp, "TIMESTAMP"),
        (lambda each: arrow.is_string(each) or arrow.is_large_string(each), "STRING"),
        (lambda each: arrow.is_binary(each) or arrow.is_large_binary(each), "BYTES"),
        (arrow.is_fixed_size_binary, "BYTES"),
    )
    for test, name in tests:
        if test(kind):
            return name
    raise Refusal(f"Unsupported Parquet type: {kind}")


def decimal_target(precision: int, scale: int, targets: Sequence[str]) -> str:
    """Return the type of a decimal column.

    https://cloud.google.com/bigquery/docs/reference/rest/v2/Job#JobConfigurationLoad.FIELDS.decimal_target_types
    """
    for target in ("NUMERIC", "BIGNUMERIC"):
        digits, after = _DIGITS[target]
        if target in targets and precision - scale <= digits and scale <= after:
            return target
    if "STRING" in targets:
        return "STRING"
    return "BIGNUMERIC" if "BIGNUMERIC" in targets else "NUMERIC"


def _check_given(fields: Sequence[Field], columns: Mapping[str, Any], load: Mapping[str, Any]) -> None:
    prefix = "Error while reading data, error message: Provided Schema does not match the Parquet file. "
    for field in fields:
        column = columns.get(field.name.casefold())
        if field.mode == "REQUIRED" and column is not None and column.nullable:
            raise Refusal(f"{prefix}Field {field.name} has changed mode from REQUIRED to NULLABLE")
        if field.type == "JSON":
            raise Refusal(
                f"Unsupported type JSON of field {field.name}: Parquet files cannot be loaded into JSON columns"
            )
    known = {field.name.casefold() for field in fields}
    for name, column in columns.items():
        if name not in known and not load.get("ignoreUnknownValues"):
            raise Refusal(f"{prefix}The file has the field {column.name}, which the schema lacks")


def _is_wide(kind: Any) -> bool:
    """Whether a type has a decimal of more digits than DuckDB reads."""
    arrow = pyarrow.types
    if arrow.is_decimal(kind):
        return bool(kind.precision > _MAX_PRECISION)
    return any(_is_wide(each) for each in _children(kind))


def _children(kind: Any) -> Iterator[Any]:
    for index in range(kind.num_fields):
        yield kind.field(index).type


def _narrowed(file: Any, target: Path) -> Path:
    """Write a file anew, with decimals of as many digits as DuckDB reads."""
    schema = pyarrow.schema([(each.name, _narrow(plain_type(each.type, each.name))) for each in file.schema_arrow])
    with parquet.ParquetWriter(target, schema) as writer:
        for batch in file.iter_batches(batch_size=_BATCH):
            try:
                table = pyarrow.Table.from_batches([batch]).cast(schema)
            except pyarrow.ArrowInvalid:
                raise cannot("store decimals of more than 20 digits before the point or 18 after it") from None
            writer.write_table(table)
    return target


def _narrow(kind: Any) -> Any:
    arrow = pyarrow.types
    if arrow.is_decimal(kind) and kind.precision > _MAX_PRECISION:
        return pyarrow.decimal128(_MAX_PRECISION, min(kind.scale, _SCALE))
    if arrow.is_list(kind):
        return pyarrow.list_(_narrow(kind.value_type))
    if arrow.is_struct(kind):
        members = [kind.field(index) for index in range(kind.num_fields)]
        return pyarrow.struct([(each.name, _narrow(each.type)) for each in members])
    return kind
