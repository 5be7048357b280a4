"""Null parameters of a statement that runs many times: each gets the type that its column has in other rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from carto_auth_integrations.warehouse.options import Parameters


def with_typed_nulls(rows: Sequence[Parameters]) -> list[Parameters]:
    """Return sets of parameters with each None as a null of a type; Python's None alone has none.

    Args:
        rows: Mappings for `@name`, or sequences for `?`.

    Raises:
        TypeError: If a column has no other value, or values that are no scalars.
    """
    types: dict[Any, str] = {}
    for row in rows:
        for name, value in _items(row):
            if value is not None and name not in types:
                types[name] = _type_of(value)
    return [_typed(row, types) for row in rows]


def _typed(row: Parameters, types: Mapping[Any, str]) -> Parameters:
    values = {name: _null(name, types) if value is None else value for name, value in _items(row)}
    return values if hasattr(row, "items") else list(values.values())


def _null(name: Any, types: Mapping[Any, str]) -> Any:
    from google.cloud import bigquery

    if types.get(name, "ARRAY") in ("ARRAY", "STRUCT"):
        raise TypeError(f"Parameter {name}: a null needs a type; pass a ScalarQueryParameter with one.")
    return bigquery.ScalarQueryParameter(name if isinstance(name, str) else None, types[name], None)


def _type_of(value: object) -> str:
    from carto_auth_integrations.warehouse.parameters import query_parameters

    kind: str = query_parameters([value])[0].to_api_repr()["parameterType"]["type"]
    return kind


def _items(row: Parameters) -> Iterable[tuple[Any, object]]:
    return row.items() if hasattr(row, "items") else enumerate(row)
