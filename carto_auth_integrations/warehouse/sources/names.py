"""Column names: which BigQuery accepts, and valid ones for those that it does not.

https://cloud.google.com/bigquery/docs/schemas#column_names
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from unicodedata import category

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..options import ColumnNames

MAX_LENGTH = 300
RESERVED = ("_TABLE_", "_FILE_", "_PARTITION", "_ROW_TIMESTAMP", "__ROOT__", "_COLIDENTIFIER", "_CHANGE_")
"""Prefixes that BigQuery keeps for itself, in any case."""
SIGNS = frozenset(" &%=+:'<>#|")
CATEGORIES = ("L", "N", "M", "Pc", "Pd")
"""Unicode's categories of the characters that are allowed beside these signs: letters, numbers, marks, `_` and `-`."""


def valid_names(names: Sequence[str], mode: ColumnNames, inside: str = "") -> list[str]:
    """Return the names of columns, or of the fields of a STRUCT, as BigQuery accepts them.

    Args:
        names: As the source has them.
        mode: `strict` refuses what BigQuery does not accept; `sanitize` changes it.
        inside: The STRUCT that they are fields of.

    Raises:
        ValueError: If a name is not valid, or appears twice without regard to case.
    """
    if mode == "sanitize":
        return _sanitized(names)
    seen: dict[str, str] = {}
    for number, name in enumerate(names, start=1):
        where = f"Column {number}, {inside}{name!r}"
        advice = 'rename it, or pass column_names="sanitize".'
        if reason := _defect(name):
            raise ValueError(f"{where}, has a name that BigQuery does not accept, for {reason}: {advice}")
        if name.casefold() in seen:
            other = seen[name.casefold()]
            raise ValueError(f"{where}, is there twice, as {other!r} too, for BigQuery ignores the case: {advice}")
        seen[name.casefold()] = name
    return list(names)


def _defect(name: object) -> str | None:
    if not isinstance(name, str):
        return "it is not text"
    if not name:
        return "it is empty"
    if len(name) > MAX_LENGTH:
        return f"it has more than {MAX_LENGTH} characters"
    if name.upper().startswith(RESERVED):
        return "its beginning is reserved"
    wrong = next((each for each in name if not _is_allowed(each)), None)
    return None if wrong is None else f"it has the character {wrong!r}"


def _is_allowed(character: str) -> bool:
    return character in SIGNS or category(character).startswith(CATEGORIES)


def _sanitized(names: Sequence[str]) -> list[str]:
    """Return valid names: `_` for other characters, `column_3` for none, a number behind the second of two."""
    valid: list[str] = []
    seen: set[str] = set()
    for number, name in enumerate(names, start=1):
        clean = "".join(each if _is_allowed(each) else "_" for each in str(name).strip())
        if not clean.strip("_"):
            clean = f"column_{number}"
        if clean.upper().startswith(RESERVED):
            clean = f"column{clean}"
        unique, count = clean[:MAX_LENGTH], 1
        while unique.casefold() in seen:
            count += 1
            unique = f"{clean[: MAX_LENGTH - len(str(count)) - 1]}_{count}"
        seen.add(unique.casefold())
        valid.append(unique)
    return valid
