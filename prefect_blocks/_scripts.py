"""Many runs of one statement as few jobs: scripts, each a transaction, with the parameters of all its runs."""

from __future__ import annotations

import re
from copy import copy
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any, TypeAlias

    Values: TypeAlias = Mapping[str, Any] | Sequence[Any]

MOST_PARAMETERS = 5_000
LONGEST_SCRIPT = 500_000
"""Half of what BigQuery takes of parameters, and of characters of a query.
https://cloud.google.com/bigquery/quotas#query_jobs"""
MOST_STATEMENTS = 200
"""A statement of a script takes BigQuery a second or so, and a job that dies does them all again."""

_TOKEN = re.compile(
    r"""
    \"{3}(?:\\.|[^\\])*?\"{3} | '{3}(?:\\.|[^\\])*?'{3}      # text, which may hold an @ of its own
    | "(?:\\.|[^"\\])*" | '(?:\\.|[^'\\])*' | `(?:\\.|[^`\\])*`
    | --[^\n]* | \#[^\n]* | /\*.*?\*/                        # comments
    | @@\w+ | @(?P<name>\w+)                                 # a system variable, a parameter
    """,
    re.VERBOSE | re.DOTALL,
)


def scripts(operation: str, rows: Sequence[Values]) -> Iterator[tuple[str, Values]]:
    """Give the scripts that run a statement once for each set of parameters, and the parameters of each script.

    Args:
        operation: A statement with `@name` or `?` in it.
        rows: For each run its values: mappings for `@name`, sequences for `?`.

    Raises:
        TypeError: If a column of values holds nothing but None.
    """
    statement = operation.strip().rstrip(";")
    rows = _with_typed_nulls(rows)
    size = _batch_size(statement, rows)
    for start in range(0, len(rows), size):
        batch = rows[start : start + size]
        if len(batch) == 1:
            yield statement, batch[0]
        else:
            yield _script(statement, batch)


def _batch_size(statement: str, rows: Sequence[Values]) -> int:
    """Say how many runs go into a script."""
    widest = max((len(row) for row in rows), default=1)
    longest = len(statement) + 8 * widest  # the number behind each name takes some room
    return max(1, min(MOST_STATEMENTS, MOST_PARAMETERS // max(widest, 1), LONGEST_SCRIPT // max(longest, 1)))


def _script(statement: str, batch: Sequence[Values]) -> tuple[str, Values]:
    named: dict[str, Any] = {}
    positional: list[Any] = []
    statements = []
    for number, row in enumerate(batch):
        if hasattr(row, "items"):
            statements.append(_numbered(statement, number))
            named.update({f"{name}_{number}": _renamed(value, f"{name}_{number}") for name, value in row.items()})
        else:
            statements.append(statement)
            positional.extend(row)
    lines = ["BEGIN TRANSACTION", *statements, "COMMIT TRANSACTION"]
    return "".join(f"{line}\n;\n" for line in lines), named or positional  # a last line may be a comment


def _numbered(statement: str, number: int) -> str:
    """Give each parameter the number of its run, `@name` as `@name_7`; text and comments stay as they are."""
    return _TOKEN.sub(lambda token: f"@{token['name']}_{number}" if token["name"] else token[0], statement)


def _renamed(value: Any, name: str) -> Any:
    """Give a value that is a BigQuery parameter of its own, name included, its new name."""
    if not hasattr(value, "to_api_repr"):
        return value
    twin = copy(value)
    twin.name = name
    return twin


def _with_typed_nulls(rows: Sequence[Values]) -> list[Values]:
    """Give each None the type that its column has in other rows: a null alone has none in Python."""
    columns: dict[Any, str] = {}
    for row in rows:
        for name, value in _items(row):
            if value is not None and name not in columns:
                columns[name] = _type_of(value)
    return [_typed(row, columns) if any(value is None for _, value in _items(row)) else row for row in rows]


def _typed(row: Values, columns: Mapping[Any, str]) -> Values:
    typed = {name: _null(name, columns) if value is None else value for name, value in _items(row)}
    return typed if hasattr(row, "items") else list(typed.values())


def _null(name: Any, columns: Mapping[Any, str]) -> Any:
    from google.cloud import bigquery

    if columns.get(name, "ARRAY") in ("ARRAY", "STRUCT"):
        raise TypeError(f"Parameter {name}: a null needs a type; give a ScalarQueryParameter with one.")
    return bigquery.ScalarQueryParameter(name if isinstance(name, str) else None, columns[name], None)


def _type_of(value: Any) -> str:
    from carto_auth_integrations.warehouse.parameters import query_parameters

    kind: str = query_parameters([value])[0].to_api_repr()["parameterType"]["type"]
    return kind


def _items(row: Values) -> Any:
    return row.items() if hasattr(row, "items") else enumerate(row)
