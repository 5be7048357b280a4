"""INSERT statements of many rows: each statement is a BigQuery job, which takes a second or two."""

from __future__ import annotations

from itertools import chain, islice
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from carto_auth_integrations.warehouse.parameters import Parameter

MOST_PARAMETERS = 10_000
"""BigQuery's limit of parameters in one query. https://cloud.google.com/bigquery/quotas#query_jobs"""


class Insert(NamedTuple):
    """One statement with the values of its placeholders.

    Attributes:
        sql: The statement, with a `?` for each value.
        values: The values, each of its column's type.
        rows: How many rows it inserts.
    """

    sql: str
    values: list[Parameter]
    rows: int


def inserts(
    table: str, columns: Sequence[Mapping[str, Any]], rows: Iterable[Sequence[Any]], *, most_rows: int = 0
) -> Iterator[Insert]:
    """Yield statements that insert rows, as the rows come.

    Args:
        table: `project.dataset.table`.
        columns: The columns, as BigQuery's REST API describes them.
        rows: Each a sequence with a value per column.
        most_rows: Rows in one statement; 0 for as many as BigQuery accepts.

    Raises:
        TypeError: If a value is of another type than its column.
        ValueError: If a column cannot hold its value exactly, or a row has too few values or too many.
    """
    names = ", ".join(f"`{column['name']}`" for column in columns)
    fit = max(MOST_PARAMETERS // max(len(columns), 1), 1)
    into, placeholders = f"INSERT INTO `{table}` ({names}) ", f"({', '.join('?' * len(columns))})"
    numbered = enumerate(rows, 1)
    for first in numbered:
        chunk = [first, *islice(numbered, (min(most_rows, fit) if most_rows else fit) - 1)]
        values = chain.from_iterable(_values_of(row, number, columns) for number, row in chunk)
        yield Insert(f"{into}VALUES {', '.join([placeholders] * len(chunk))}", list(values), len(chunk))


def _values_of(row: Sequence[Any], number: int, columns: Sequence[Mapping[str, Any]]) -> Iterator[Parameter]:
    from carto_auth_integrations.warehouse.column_parameters import column_parameter

    if len(row) != len(columns):
        raise ValueError(f"Row {number} has {len(row)} values, and there are {len(columns)} columns.")
    return (column_parameter(column, value, f"Row {number}") for column, value in zip(columns, row, strict=True))


def columns_of(
    schema: Sequence[Mapping[str, Any]], names: Iterable[str] | None, table: str
) -> Sequence[Mapping[str, Any]]:
    """Return the columns of a table by their names, which may be quoted; all of them for None.

    Raises:
        ValueError: If the table has no column of a name.
    """
    wanted = [name.strip("`") for name in names or ()]
    if not wanted:
        return schema
    known = {column["name"].lower(): column for column in schema}
    for name in wanted:
        if name.lower() not in known:
            raise ValueError(f"{table} has no column {name}: its columns are {', '.join(known)}.")
    return [known[name.lower()] for name in wanted]
