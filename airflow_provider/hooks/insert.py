"""INSERT statements of many rows: each statement is a BigQuery job, which takes a second or two."""

from __future__ import annotations

from itertools import chain, islice
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

MOST_PARAMETERS = 10_000
"""BigQuery's limit of parameters in one query. https://cloud.google.com/bigquery/quotas#query_jobs"""


class Insert(NamedTuple):
    """One statement with the values of its placeholders.

    Attributes:
        sql: The statement, with a `%s` for each value, as the DB-API wants it.
        values: The values, whose BigQuery types follow from their Python types.
        rows: How many rows it inserts.
    """

    sql: str
    values: list[Any]
    rows: int


def inserts(
    table: str, rows: Iterable[Sequence[Any]], columns: Iterable[str] | None, *, most_rows: int = 0
) -> Iterator[Insert]:
    """Yield statements that insert rows, as the rows come.

    Args:
        table: `dataset.table` or `project.dataset.table`.
        rows: Each a sequence with a value per column.
        columns: The columns' names; None for all, in the table's order.
        most_rows: Rows in one statement; 0 for as many as BigQuery accepts.
    """
    into = f"INSERT INTO {table} {_list_of(columns)}".replace("%", "%%")
    rows = iter(rows)
    for first in rows:
        fit = max(MOST_PARAMETERS // max(len(first), 1), 1)
        chunk = [first, *islice(rows, (min(most_rows, fit) if most_rows else fit) - 1)]
        listed = ", ".join(f"({', '.join(map(_placeholder, row))})" for row in chunk)
        values = [value for value in chain.from_iterable(chunk) if value is not None]
        yield Insert(f"{into}VALUES {listed}", values, len(chunk))


def _list_of(columns: Iterable[str] | None) -> str:
    names = ", ".join(name if name.startswith("`") else f"`{name}`" for name in columns or ())
    return f"({names}) " if names else ""


def _placeholder(value: Any) -> str:
    # None has no type, and the DB-API needs one for each parameter.
    return "NULL" if value is None else "%s"
