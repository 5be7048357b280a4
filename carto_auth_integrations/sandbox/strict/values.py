"""The text forms of values in CSV and JSON files: which ones BigQuery reads, and their SQL for DuckDB."""

from __future__ import annotations

import re

from .schema import Field

_DAY = r"\d{4}-\d{1,2}-\d{1,2}"
_CLOCK = r"\d{1,2}:\d{1,2}(?::\d{1,2}(?:\.\d{1,6})?)?"
_DECIMAL = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_ZONE = r"(?: ?(?:UTC|Z|z)| ?[+-]\d{1,2}(?::?\d{2})?)"
_INTERVAL = r"([+-]?)(\d+)-(\d+) ([+-]?\d+) ([+-]?)(\d+):(\d+):(\d+(?:\.\d{1,6})?)"
_BOUND = rf"(?:{_DAY}(?:[ Tt]{_CLOCK}{_ZONE}?)?|UNBOUNDED|NULL|unbounded|null)"

# Regular expressions that both Python and DuckDB (RE2) read. Types that are missing here take any text.
# https://cloud.google.com/bigquery/docs/loading-data-cloud-storage-csv#data_types
FORMS = {
    "INTEGER": r"[+-]?\d+",
    "FLOAT": rf"{_DECIMAL}|[+-]?(?i:nan|inf|infinity)",
    "NUMERIC": _DECIMAL,
    "BIGNUMERIC": _DECIMAL,
    "BOOLEAN": r"(?i:1|0|true|false|t|f|yes|no|y|n)",
    "DATE": _DAY,
    "TIME": r"\d{1,2}:\d{1,2}:\d{1,2}(?:\.\d{1,6})?",
    "DATETIME": rf"{_DAY}(?:[ Tt]{_CLOCK})?",
    "TIMESTAMP": rf"\d{{4}}[-/]\d{{1,2}}[-/]\d{{1,2}}(?:[ Tt]{_CLOCK}{_ZONE}?)?|[+-]?\d+(?:\.\d{{1,6}})?",
    "BYTES": r"[A-Za-z0-9+/\s]*={0,2}\s*",
    "INTERVAL": _INTERVAL,
    "RANGE": rf"\[\s*{_BOUND}\s*,\s*{_BOUND}\s*\)",
}
_COMPILED = {kind: re.compile(pattern) for kind, pattern in FORMS.items()}

# Digits after the point of NUMERIC, and of BIGNUMERIC in the emulator, which has 38 digits at most; BigQuery has 76.
SCALES = {"NUMERIC": 9, "BIGNUMERIC": 18}
_RANGE_MEMBERS = ("__range_start", "__range_end")
_ELEMENTS = {"DATE": "DATE", "DATETIME": "TIMESTAMP", "TIMESTAMP": "TIMESTAMPTZ"}
_SIMPLE = {"INTEGER": "BIGINT", "FLOAT": "DOUBLE", "BOOLEAN": "BOOLEAN", "DATE": "DATE", "TIME": "TIME", "JSON": "JSON"}


def has_form(kind: str, text: str) -> bool:
    """Whether a text has the form of a type. The value itself may still be none, like 31 February."""
    pattern = _COMPILED.get(kind)
    return pattern is None or pattern.fullmatch(text) is not None


def literal(text: str) -> str:
    """Return the text as a literal of SQL."""
    return "'" + text.replace("'", "''") + "'"


def from_text(x: str, field: Field) -> str:
    """Return the SQL expression that reads a text as the type of a field; other types than GEOGRAPHY.

    Args:
        x: The SQL expression of the text.
        field: The field.
    """
    kind = field.type
    if kind in _SIMPLE:
        return f"CAST({x} AS {_SIMPLE[kind]})"
    if kind in SCALES:
        return f"CAST({x} AS DECIMAL(38,{SCALES[kind]}))"
    if kind == "DATETIME":
        return _moment(x, "TIMESTAMP")
    if kind == "TIMESTAMP":
        number = f"make_timestamp(CAST(CAST({x} AS DECIMAL(38,6)) * 1000000 AS BIGINT)) AT TIME ZONE 'UTC'"
        return f"CASE WHEN regexp_full_match({x}, '[+-]?[0-9.]+') THEN {number} ELSE {_moment(x, 'TIMESTAMPTZ')} END"
    if kind == "BYTES":
        return f"from_base64(regexp_replace({x}, '\\s', '', 'g'))"
    if kind == "INTERVAL":
        return _interval(x)
    if kind == "RANGE":
        return _range(x, _ELEMENTS[field.element])
    return x


def _moment(x: str, target: str) -> str:
    """Read a date with or without a time; DuckDB knows neither the slash, nor the names UTC and Z after a blank."""
    day = f"replace(replace({x}, '/', '-'), 't', 'T')"
    return f"CAST(regexp_replace({day}, ' ?(UTC|Z|z)$', '+00') AS {target})"


def _interval(x: str) -> str:
    def part(number: int) -> str:
        return f"regexp_extract({x}, {literal(_INTERVAL)}, {number})"

    def sign(number: int) -> str:
        return f"CASE WHEN {part(number)} = '-' THEN -1 ELSE 1 END"

    months = f"({sign(1)}) * (CAST({part(2)} AS INTEGER) * 12 + CAST({part(3)} AS INTEGER))"
    clock = f"CAST({part(6)} AS BIGINT) * 3600000000 + CAST({part(7)} AS BIGINT) * 60000000"
    micros = f"({sign(5)}) * ({clock} + CAST(CAST({part(8)} AS DECIMAL(38,6)) * 1000000 AS BIGINT))"
    parts = f"to_months(CAST({months} AS INTEGER)) + to_days(CAST({part(4)} AS INTEGER)) + to_microseconds({micros})"
    return f"CASE WHEN {x} IS NOT NULL THEN {parts} END"


def no_parquet_interval(x: str) -> str:
    """Return the SQL condition that the emulator, which keeps tables as Parquet, has no room for an interval's text."""
    return rf"regexp_matches({x}, '(^| )-') OR regexp_matches({x}, '\.\d{{3}}\d*[1-9]')"


def _range(x: str, element: str) -> str:
    members = []
    for number, member in enumerate(_RANGE_MEMBERS, 1):
        bound = f"trim(regexp_extract({x}, '\\[([^,]*),([^)]*)\\)', {number}))"
        unbounded = f"upper({bound}) IN ('UNBOUNDED', 'NULL')"
        members.append(f"{member} := CASE WHEN NOT {unbounded} THEN {_moment(bound, element)} END")
    return f"CASE WHEN {x} IS NOT NULL THEN struct_pack({', '.join(members)}) END"


def loses_digits(x: str, kind: str) -> str:
    """Return the SQL condition that a decimal, given as text, does not fit NUMERIC or BIGNUMERIC of the emulator."""
    exact = f"regexp_replace({x}, '(\\.\\d*?)0+$', '\\1')"
    digits = f"length(regexp_extract({exact}, '\\.(\\d*)', 1))"
    return f"({digits} > {SCALES[kind]} AND NOT regexp_matches({x}, '[eE]'))"
