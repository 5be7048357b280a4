"""Sources that are prepared for a load, and what BigQuery would read of the file that is uploaded."""

from __future__ import annotations

import base64
import datetime
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pyarrow.parquet

from carto_auth_integrations.waiting import Deadline
from carto_auth_integrations.warehouse import LoadOptions
from carto_auth_integrations.warehouse.sources.preparing import Preparation
from carto_auth_integrations.warehouse.tables import type_of

LARGEST_JSON_INTEGER = 2**53 - 1
"""BigQuery reads larger ones from JSON exactly only if they are text.

https://cloud.google.com/bigquery/docs/loading-data-cloud-storage-json#details_of_loading_json_data
"""


@dataclass(frozen=True)
class ReadBack:
    """A source as BigQuery would read it.

    Attributes:
        columns: The table's columns by name, with their types as SQL writes them.
        fields: The same as BigQuery's REST API writes them.
        rows: All rows, as Python values.
        format: `PARQUET` or `NEWLINE_DELIMITED_JSON`.
        rejects: The rows that did not fit, as they go into the table for them.
        reasons: What is said about the first of these.
        repaired: How many geometries were mended.
    """

    columns: dict[str, str]
    fields: list[Mapping[str, Any]]
    rows: list[dict[str, Any]]
    format: str
    rejects: list[dict[str, Any]]
    reasons: list[str]
    repaired: int


def read_back(source: Any, **options: Any) -> ReadBack:
    """Prepare a source, and read the file that would be uploaded as BigQuery reads it: by its schema."""
    with Preparation(source, LoadOptions(**options), Deadline()) as preparation:
        for _ in preparation.read():
            pass
        prepared = preparation.finish()
        if prepared.format == "PARQUET":
            rows = list(_rows_of_parquet(prepared.file, prepared.fields))
        else:
            rows = [_record(prepared.fields, strict_json(line)) for line in prepared.file.read().splitlines()]
        rejects = [strict_json(line) for line in prepared.rejects.read().splitlines()]
    assert len(rows) == prepared.rows
    assert len(rejects) == prepared.rejected
    columns = {each["name"]: type_of(each) for each in prepared.fields}
    reasons = [str(each) for each in preparation.examples]
    return ReadBack(columns, prepared.fields, rows, prepared.format, rejects, reasons, prepared.geography.repaired)


def rows_of(source: Any, **options: Any) -> list[dict[str, Any]]:
    """Return the rows of a source as BigQuery would read them."""
    return read_back(source, **options).rows


def columns_of(source: Any, **options: Any) -> dict[str, str]:
    """Return the columns of the table that a source would make, with their types."""
    return read_back(source, **options).columns


def strict_json(text: bytes | str) -> Any:
    """Parse JSON as its specification has it: without NaN, and with every key once."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        assert len(dict(pairs)) == len(pairs), f"a key appears twice in {text!r}"
        return dict(pairs)

    def never(constant: str) -> float:
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(text, object_pairs_hook=once, parse_constant=never)


def _rows_of_parquet(file: Any, fields: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    table = pyarrow.parquet.read_table(file)
    assert table.schema.names == [each["name"] for each in fields]
    for row in table.to_pylist():
        for name, value in row.items():
            assert not _has_null_in_array(value), f"{name} has an array with a NULL, which BigQuery drops"
        yield row


def _has_null_in_array(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_has_null_in_array, value.values()))
    if isinstance(value, list):
        return any(each is None or isinstance(each, list) or _has_null_in_array(each) for each in value)
    return False


def _record(fields: Sequence[Mapping[str, Any]], row: Mapping[str, Any]) -> dict[str, Any]:
    assert row.keys() <= {each["name"] for each in fields}, "BigQuery refuses unknown keys"
    return {each["name"]: _value(each, row.get(each["name"])) for each in fields}


def _value(field: Mapping[str, Any], value: Any) -> Any:
    if value is None:
        return None
    if field.get("mode") == "REPEATED":
        assert None not in value, "BigQuery refuses NULL in an array"
        return [_value({**field, "mode": "NULLABLE"}, each) for each in value]
    kind = field["type"]
    if kind == "RECORD":
        return _record(field["fields"], value)
    if kind == "INTEGER":
        assert isinstance(value, str) or abs(value) <= LARGEST_JSON_INTEGER
    return READ[kind](value) if kind in READ else value


READ: dict[str, Any] = {
    "INTEGER": int,
    "FLOAT": float,
    "NUMERIC": Decimal,
    "BIGNUMERIC": Decimal,
    "BYTES": base64.b64decode,
    "DATE": datetime.date.fromisoformat,
    "DATETIME": datetime.datetime.fromisoformat,
    "TIMESTAMP": datetime.datetime.fromisoformat,
    "TIME": datetime.time.fromisoformat,
}
"""How values of JSON lines are read, by the type of their column; others are as they are."""
