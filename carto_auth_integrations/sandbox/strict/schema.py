"""Columns of tables, and the rules for their names and schemas."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .refusal import Refusal

# https://cloud.google.com/bigquery/docs/schemas#column_names
NAME_LENGTH = 300
_FORBIDDEN_CHARACTERS = frozenset('!"$()*,./;?@[\\]^`{}~')
_FORBIDDEN_PREFIXES = (
    "_TABLE_",
    "_FILE_",
    "_PARTITION",
    "_ROW_TIMESTAMP",
    "__ROOT__",
    "_COLIDENTIFIER",
    "_CHANGE_SEQUENCE_NUMBER",
    "_CHANGE_TYPE",
    "_CHANGE_TIMESTAMP",
)

# https://cloud.google.com/bigquery/quotas#load_jobs
MAX_COLUMNS = 10_000
MAX_DEPTH = 15

_ALIASES = {
    "INT64": "INTEGER",
    "FLOAT64": "FLOAT",
    "BOOL": "BOOLEAN",
    "STRUCT": "RECORD",
    "BIGDECIMAL": "BIGNUMERIC",
    "DECIMAL": "NUMERIC",
}
_NUMBERS = ("INTEGER", "FLOAT", "NUMERIC", "BIGNUMERIC", "BOOLEAN")
_TIMES = ("TIMESTAMP", "DATE", "TIME", "DATETIME", "INTERVAL", "RANGE")
_TYPES = frozenset((*_NUMBERS, *_TIMES, "STRING", "BYTES", "GEOGRAPHY", "JSON", "RECORD"))
_RANGE_ELEMENTS = ("DATE", "DATETIME", "TIMESTAMP")


@dataclass(frozen=True)
class Field:
    """A column, or a field of a RECORD.

    Attributes:
        name: Its name.
        type: Its type, in the names of BigQuery's REST API, such as INTEGER and RECORD.
        mode: NULLABLE, REQUIRED or REPEATED.
        fields: The fields of a RECORD.
        element: The type of a RANGE's bounds.
    """

    name: str
    type: str
    mode: str = "NULLABLE"
    fields: tuple[Field, ...] = ()
    element: str = ""

    @property
    def repeated(self) -> bool:
        """Whether the field holds an array."""
        return self.mode == "REPEATED"

    @property
    def item(self) -> Field:
        """The field of one element of the array."""
        return replace(self, mode="NULLABLE")

    def resource(self) -> dict[str, Any]:
        """Return the field as in BigQuery's REST API."""
        resource: dict[str, Any] = {"name": self.name, "type": self.type, "mode": self.mode}
        if self.fields:
            resource["fields"] = [field.resource() for field in self.fields]
        if self.element:
            resource["rangeElementType"] = {"type": self.element}
        return resource


def field_of(resource: Mapping[str, Any]) -> Field:
    """Return the field of a REST resource.

    Raises:
        Refusal: If its type or mode is unknown, or a RECORD has no fields.
    """
    name, given = str(resource.get("name") or ""), str(resource.get("type") or "STRING").upper()
    kind = _ALIASES.get(given, given)
    mode = str(resource.get("mode") or "NULLABLE").upper()
    element = str((resource.get("rangeElementType") or {}).get("type") or "").upper()
    if kind not in _TYPES:
        raise Refusal(f"Invalid value for type: {given} is not a valid value")
    if mode not in ("NULLABLE", "REQUIRED", "REPEATED"):
        raise Refusal(f"Invalid value for mode: {mode} is not a valid value")
    if kind == "RANGE" and element not in _RANGE_ELEMENTS:
        raise Refusal(f"Field {name} is type RANGE but has no valid rangeElementType")
    fields = tuple(field_of(each) for each in resource.get("fields") or ())
    if kind == "RECORD" and not fields:
        raise Refusal(f"Field {name} is type RECORD but has no schema")
    return Field(name, kind, mode, fields, element)


def check_columns(fields: Sequence[Field]) -> None:
    """Check names, nesting and number of columns.

    Raises:
        Refusal: If BigQuery accepts no table of these columns.
    """
    if _count(fields) > MAX_COLUMNS:
        raise Refusal(f"Too many columns: a table has at most {MAX_COLUMNS}, nested ones included")
    _check_level(fields, 0)


def _count(fields: Sequence[Field]) -> int:
    return sum(1 + _count(field.fields) for field in fields)


def _check_level(fields: Sequence[Field], depth: int) -> None:
    if depth > MAX_DEPTH:
        raise Refusal(f"The schema is nested too deeply: RECORDs nest at most {MAX_DEPTH} levels")
    check_names(field.name for field in fields)
    for field in fields:
        if field.fields:
            _check_level(field.fields, depth + 1)


def check_names(names: Iterable[str]) -> None:
    """Check the names of columns of one level.

    Raises:
        Refusal: If a name is not valid, or used twice, whatever the case of its letters.
    """
    seen: set[str] = set()
    for name in names:
        if not name or len(name) > NAME_LENGTH or _FORBIDDEN_CHARACTERS.intersection(name) or not name.isprintable():
            raise Refusal(
                f'Invalid field name "{name[: NAME_LENGTH + 1]}". Fields must contain the allowed characters, and be '
                f"at most {NAME_LENGTH} characters long. For allowed characters, please refer to "
                "https://cloud.google.com/bigquery/docs/schemas#column_names"
            )
        if name.upper().startswith(_FORBIDDEN_PREFIXES):
            raise Refusal(
                f'Invalid field name "{name}". Field names are not allowed to start with the (case-insensitive) '
                f"prefixes {', '.join(_FORBIDDEN_PREFIXES)}"
            )
        if name.casefold() in seen:
            raise Refusal(f"Duplicate field name: {name}. Field names are case-insensitive.")
        seen.add(name.casefold())


def check_fits_table(given: Sequence[Field], table: Sequence[Field], label: str, updates: Sequence[str]) -> None:
    """Check that rows of one schema can be appended to a table of another.

    Args:
        given: The schema of the load, or of its files.
        table: The schema of the table.
        label: The table's name in messages, `project:dataset.table`.
        updates: The job's `schemaUpdateOptions`.

    Raises:
        Refusal: If they do not match.
    """
    known = {field.name.casefold(): field for field in table}
    prefix = f"Provided Schema does not match Table {label}. "
    for field in given:
        old = known.get(field.name.casefold())
        if old is None:
            if "ALLOW_FIELD_ADDITION" not in updates:
                raise Refusal(f"{prefix}Cannot add fields (field: {field.name})")
            if field.mode == "REQUIRED":
                raise Refusal(f"{prefix}Cannot add required fields to an existing schema. (field: {field.name})")
            continue
        _check_same(field, old, prefix, label, updates)


def _check_same(field: Field, old: Field, prefix: str, label: str, updates: Sequence[str]) -> None:
    if (field.type, field.element) != (old.type, old.element):
        raise Refusal(f"{prefix}Field {field.name} has changed type from {old.type} to {field.type}")
    relaxed = (old.mode, field.mode) == ("REQUIRED", "NULLABLE") and "ALLOW_FIELD_RELAXATION" in updates
    if field.mode != old.mode and not relaxed and (old.mode, field.mode) != ("NULLABLE", "REQUIRED"):
        raise Refusal(f"{prefix}Field {field.name} has changed mode from {old.mode} to {field.mode}")
    check_fits_table(field.fields, old.fields, label, updates)
