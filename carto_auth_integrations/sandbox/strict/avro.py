"""Avro files, turned into Parquet with the types that BigQuery gives their columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from .engine import emulator_loads, fastavro, parquet, pyarrow
from .parquet import decimal_target, scalar_type
from .refusal import Refusal, cannot
from .schema import Field
from .source import Source

_BATCH = 10_000


def open_source(load: Mapping[str, Any], files: Sequence[Path], fields: tuple[Field, ...], scratch: Path) -> Source:
    """Turn Avro files into Parquet.

    Without `useAvroLogicalTypes`, dates and times are integers, as in BigQuery.

    Raises:
        Refusal: If a file is not Avro.
    """
    turned, physical = [], None
    for number, file in enumerate(sorted(files)):
        target = scratch / f"{number}.parquet"
        physical = _turn(file, target, bool(load.get("useAvroLogicalTypes")))
        turned.append(target)
    if physical is None:
        raise Refusal("No Avro file was given")
    columns = {each.name: each.type for each in physical}
    derived = tuple(_field(name, kind, load) for name, kind in columns.items())
    return Source("AVRO", turned, columns, fields or derived)


def _turn(file: Path, target: Path, logical: bool) -> Any:
    with file.open("rb") as stream:
        try:
            reader = fastavro.reader(stream)
        except (ValueError, EOFError, KeyError, IndexError) as error:
            raise Refusal(
                f"Error while reading data, error message: The Apache Avro file is not valid: {error}"
            ) from None
        try:
            decoded = pyarrow.schema(emulator_loads._arrow_type(reader.writer_schema, True))
            physical = pyarrow.schema(emulator_loads._arrow_type(reader.writer_schema, logical))
        except (KeyError, TypeError):
            raise cannot("load Avro files with unions of several types, or with types that refer to others") from None
        with parquet.ParquetWriter(target, physical) as writer:
            while rows := list(islice(reader, _BATCH)):
                writer.write_table(pyarrow.Table.from_pylist(rows, decoded).cast(physical))
    return physical


def _field(name: str, kind: Any, load: Mapping[str, Any]) -> Field:
    arrow = pyarrow.types
    if arrow.is_list(kind):
        item = _field(name, kind.value_type, load)
        return Field(name, item.type, "REPEATED", item.fields)
    if arrow.is_map(kind):
        return Field(
            name, "RECORD", "REPEATED", (_field("key", kind.key_type, load), _field("value", kind.item_type, load))
        )
    if arrow.is_struct(kind):
        members = [kind.field(index) for index in range(kind.num_fields)]
        return Field(name, "RECORD", fields=tuple(_field(each.name, each.type, load) for each in members))
    if arrow.is_decimal(kind):
        targets = load.get("decimalTargetTypes") or ("NUMERIC", "BIGNUMERIC")
        return Field(name, decimal_target(kind.precision, kind.scale, targets))
    if arrow.is_timestamp(kind) and not kind.tz:
        return Field(name, "DATETIME")
    return Field(name, scalar_type(kind))
