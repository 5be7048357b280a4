"""Parameters and rows of the DB-API: plain JSON types for XCom, and Arrow tables of a size for frames."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from carto_auth_integrations.warehouse.results import plain_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import pyarrow


@dataclass(frozen=True)
class AsTheyAre:
    """Rows that stay as google's client returns them.

    Attributes:
        rows: A row, a list of rows, or None.
    """

    rows: Any


def plain_parameters(parameters: Any) -> Any:
    """Return the parameters of a statement in Python's own types, which google's DB-API takes: no enums, sets, arrays.

    Args:
        parameters: Values by name or by position; None for no parameters.
    """
    from carto_auth_integrations.warehouse.parameters import plain_value  # not needed to parse a DAG file

    if not parameters:
        return parameters
    if hasattr(parameters, "items"):
        return {name: plain_value(value, f"Parameter {name}") for name, value in parameters.items()}
    return [plain_value(value, f"Parameter {number}") for number, value in enumerate(parameters, 1)]


def plain_row(row: Iterable[Any]) -> tuple[Any, ...]:
    """Return a row of google's client as plain JSON types, the same that the result of a CARTO query has.

    What JSON does not have is text: dates in ISO 8601, decimals in digits, bytes in Base64. A RANGE is a dict of its
    `start` and `end`.
    """
    return tuple(plain_json(value, _interval_text) for value in row)


def _interval_text(value: object) -> str:
    from carto_auth_integrations.warehouse.parameters import query_parameters

    text: str = query_parameters([value])[0].to_api_repr()["parameterValue"]["value"]
    return text


def tables_of(batches: Iterable[pyarrow.RecordBatch], size: int) -> Iterator[pyarrow.Table]:
    """Yield the rows of Arrow batches in tables of a size; BigQuery's pages are smaller where rows are large.

    Args:
        batches: The batches.
        size: Rows of each table but the last; no rows are one empty table.
    """
    import pyarrow

    left: pyarrow.Table | None = None
    tables = 0
    for batch in batches:
        piece = pyarrow.Table.from_batches([batch])
        left = piece if left is None else pyarrow.concat_tables([left, piece])
        while left.num_rows >= size:
            yield left.slice(0, size)
            left, tables = left.slice(size), tables + 1
    if left is not None and (left.num_rows or not tables):
        yield left
