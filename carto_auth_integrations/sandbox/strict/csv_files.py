"""CSV files, turned into Parquet with a text column for each column; the fit reads the texts."""

# ruff: noqa: S608 - the SQL is DuckDB's, and quotes whatever comes from a request

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .engine import duckdb, models, parquet, quote, types
from .parquet import plain_type
from .refusal import Refusal, cannot
from .schema import Field, check_names, field_of
from .source import Source
from .text import to_utf8
from .values import literal

# Bytes of a line, which is BigQuery's limit of a row: https://cloud.google.com/bigquery/quotas#load_jobs
MAX_LINE = 100_000_000

# What DuckDB says of a row with too few or too many values.
_COLUMNS = re.compile(r"Expected Number of Columns: (\d+) Found: (\d+)")
_LINE = re.compile(r"CSV Error on Line: (\d+)")

_FORMATS = ("dateFormat", "datetimeFormat", "timeFormat", "timestampFormat")
_KEEP_EMPTY = ("STRING", "BYTES")


def open_source(
    cursor: Any, load: Mapping[str, Any], files: Sequence[Path], fields: tuple[Field, ...], scratch: Path
) -> Source:
    """Turn CSV files into Parquet.

    Args:
        cursor: A cursor of DuckDB.
        load: The load configuration.
        files: The files.
        fields: The columns; empty to find them out.
        scratch: A folder for the Parquet files.

    Raises:
        Refusal: If a line is not as BigQuery accepts it.
    """
    for name in _FORMATS:
        if load.get(name):
            raise cannot(f"read dates and times by {name}")
    if load.get("timeZone") not in (None, "", "UTC", "Etc/UTC"):
        raise cannot("read times of another timeZone than UTC")
    turned, rejected, problem = [], 0, ""
    for number, file in enumerate(sorted(files)):
        plain, target = scratch / f"{number}.csv", scratch / f"{number}.parquet"
        encoding = load.get("encoding") or "UTF-8"
        to_utf8(file, plain, encoding, controls=bool(load.get("preserveAsciiControlCharacters")))
        lost, why = _turn(cursor, load, plain, target, fields)
        rejected, problem = rejected + lost, problem or why
        plain.unlink()
        turned.append(target)
    columns = {each.name: plain_type(each.type, each.name) for each in parquet.read_schema(turned[-1])}
    return Source("CSV", turned, columns, fields or derived(cursor, turned[-1]), rejected, problem)


def derived(cursor: Any, file: Path) -> tuple[Field, ...]:
    """Return the columns of a Parquet file that DuckDB wrote."""
    relation = cursor.sql(f"SELECT * FROM read_parquet({literal(str(file))})")
    found = (types.field(name, kind) for name, kind in zip(relation.columns, relation.types, strict=True))
    return tuple(field_of(models.TableFieldSchema.dump(each)) for each in found)


def _turn(cursor: Any, load: Mapping[str, Any], file: Path, target: Path, fields: Sequence[Field]) -> tuple[int, str]:
    """Write a CSV file as Parquet. Return how many lines could not be read, and why not the first."""
    if file.stat().st_size == 0 and fields:
        nothing = ", ".join(f"CAST(NULL AS VARCHAR) AS {quote(field.name)}" for field in fields)
        cursor.execute(f"COPY (SELECT {nothing} LIMIT 0) TO {literal(str(target))} (FORMAT parquet)")
        return 0, ""
    options = _options(load, file, fields)
    columns = ", ".join(_column(field, load) for field in fields) or "*"
    tests = _line_tests(load, fields)
    lenient = bool(load.get("maxBadRecords"))
    if lenient:
        options |= {"store_rejects": "true", "rejects_table": "'load_rejects'", "rejects_scan": "'load_scans'"}
    read = f"read_csv({literal(str(file))}{''.join(f', {key} = {value}' for key, value in options.items())})"
    where = f" WHERE NOT coalesce({tests}, false)" if tests and lenient else ""
    try:
        if tests and not lenient and cursor.sql(f"SELECT 1 FROM {read} WHERE {tests} LIMIT 1").fetchall():
            raise Refusal(
                "Error while reading data, error message: A quoted value has a newline; set allowQuotedNewlines"
            )
        cursor.execute(f"COPY (SELECT {columns} FROM {read}{where}) TO {literal(str(target))} (FORMAT parquet)")
    except duckdb.InvalidInputException as error:
        raise _refusal(str(error), load) from None
    return _rejects(cursor) if lenient else (0, "")


def _refusal(error: str, load: Mapping[str, Any]) -> Refusal:
    """Return the refusal of a file that DuckDB cannot read."""
    count = _COLUMNS.search(error)
    line = _LINE.search(error)
    if count and int(count[2]) > int(count[1]) and load.get("ignoreUnknownValues"):
        return cannot("ignore the additional values of CSV rows")
    problem = f"Expected {count[1]} columns, found {count[2]}" if count else error.splitlines()[0]
    row = line[1] if line else "1"
    return Refusal(
        "Error while reading data, error message: CSV table encountered too many errors, giving up. "
        f"Rows: {row}; errors: 1. Please look into the errors[] collection for more details. Row {row}: {problem}"
    )


def _rejects(cursor: Any) -> tuple[int, str]:
    [(count, why)] = cursor.sql("SELECT count(DISTINCT line), any_value(error_message) FROM load_rejects").fetchall()
    cursor.execute("DROP TABLE load_rejects; DROP TABLE load_scans")
    return int(count), str(why or "")


def _line_tests(load: Mapping[str, Any], fields: Sequence[Field]) -> str:
    """Return the condition that a row has a newline in a value, in SQL; empty if that is allowed."""
    if load.get("allowQuotedNewlines") or not fields:
        return ""
    names = [quote(field.name) for field in fields]
    return " OR ".join(f"contains({name}, chr(10)) OR contains({name}, chr(13))" for name in names)


def _column(field: Field, load: Mapping[str, Any]) -> str:
    """Return a column of texts; an empty one is NULL, but in STRING and BYTES if it is quoted."""
    name: str = quote(field.name)
    if field.repeated or field.type == "RECORD":
        raise Refusal(f"Invalid schema: CSV has no {'arrays' if field.repeated else 'records'} (field: {field.name})")
    if field.type in _KEEP_EMPTY or load.get("nullMarker") or load.get("nullMarkers"):
        return name
    return f"nullif({name}, '') AS {name}"


def _options(load: Mapping[str, Any], file: Path, fields: Sequence[Field]) -> dict[str, str]:
    delimiter = {"tab": "\t", "\\t": "\t"}.get(load.get("fieldDelimiter") or ",", load.get("fieldDelimiter") or ",")
    quoted = load.get("quote")
    quoted = '"' if quoted is None else quoted
    markers = load.get("nullMarkers") or [load.get("nullMarker") or ""]
    skip = int(load.get("skipLeadingRows") or 0)
    options = {
        "delim": literal(delimiter),
        "quote": literal(quoted),
        "escape": literal(quoted),
        "nullstr": f"[{', '.join(map(literal, markers))}]",
        "allow_quoted_nulls": "false",
        "null_padding": str(bool(load.get("allowJaggedRows"))).lower(),
        "max_line_size": str(MAX_LINE),
        "strict_mode": "true",
    }
    if fields:
        names = [field.name for field in fields]
        if load.get("sourceColumnMatch") == "NAME":
            names = _header(file, skip, delimiter, quoted or '"', names)
        pairs = ", ".join(f"{literal(name)}: 'VARCHAR'" for name in names)
        return options | {"columns": f"{{{pairs}}}", "header": "false", "skip": str(skip), "auto_detect": "false"}
    del options["strict_mode"], options["escape"]
    if skip:
        return options | {"header": "true", "skip": str(skip - 1), "sample_size": "-1"}
    return options | {"sample_size": "-1"}


def _header(file: Path, skip: int, delimiter: str, quoted: str, names: Sequence[str]) -> list[str]:
    """Return the names in the last of the lines that are skipped, as the schema spells them."""
    if not skip:
        raise Refusal("sourceColumnMatch NAME needs a header: set skipLeadingRows")
    with file.open(encoding="utf-8", newline="") as stream:
        rows = csv.reader(stream, delimiter=delimiter, quotechar=quoted)
        header = [row for row, _ in zip(rows, range(skip), strict=False)][-1]
    check_names(header)
    known = {name.casefold(): name for name in names}
    if missing := set(known) - {name.casefold() for name in header}:
        raise Refusal(f"The header lacks the columns {', '.join(sorted(known[name] for name in missing))}")
    return [known.get(name.casefold(), name) for name in header]
