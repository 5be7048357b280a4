"""Query parameters: Python values as BigQuery's, with the types that follow from Python's."""

from __future__ import annotations

import base64
import datetime
import math
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

TYPES: tuple[tuple[type, str], ...] = (
    (bool, "BOOL"),
    (int, "INT64"),
    (float, "FLOAT64"),
    (str, "STRING"),
    (bytes, "BYTES"),
    (Decimal, "NUMERIC"),
    (datetime.datetime, "DATETIME"),
    (datetime.date, "DATE"),
    (datetime.time, "TIME"),
)
"""Python's types and BigQuery's; the first match counts."""


@dataclass(frozen=True)
class Parameter:
    """A query parameter, like google's `ScalarQueryParameter` and `ArrayQueryParameter` without their import.

    Attributes:
        name: Its name; None for a positional one.
        type_: BigQuery's type of the value, or of each value of an array.
        value: A value, or a list of them for an array.
    """

    name: str | None
    type_: str
    value: Any

    def to_api_repr(self) -> dict[str, Any]:
        """Return it as BigQuery's REST API writes it."""
        named = {} if self.name is None else {"name": self.name}
        if not isinstance(self.value, list):
            return {
                **named,
                "parameterType": {"type": self.type_},
                "parameterValue": {"value": _as_json(self.value)},
            }
        return {
            **named,
            "parameterType": {"type": "ARRAY", "arrayType": {"type": self.type_}},
            "parameterValue": {"arrayValues": [{"value": _as_json(item)} for item in self.value]},
        }


def query_parameters(parameters: Mapping[str, Any] | Sequence[Any]) -> list[Any]:
    """Return values as BigQuery's query parameters. Their types follow from Python's; google's own parameters stay.

    Raises:
        TypeError: If a value has no BigQuery type: None, an empty list, or an object.
    """
    if hasattr(parameters, "items"):
        return [_parameter(str(name), value) for name, value in parameters.items()]
    return [_parameter(None, value) for value in parameters]


def _parameter(name: str | None, value: Any) -> Any:
    if hasattr(value, "to_api_repr"):
        return value
    if isinstance(value, (list, tuple)):
        kinds = {_type_of(name, item) for item in value}
        if len(kinds) != 1:
            raise TypeError(f"Parameter {name or '?'}: an array needs values of one type; pass an ArrayQueryParameter.")
        return Parameter(name, kinds.pop(), list(value))
    return Parameter(name, _type_of(name, value), value)


def _type_of(name: str | None, value: Any) -> str:
    if isinstance(value, datetime.datetime) and value.tzinfo is not None:
        return "TIMESTAMP"
    for kind, name_in_bigquery in TYPES:
        if isinstance(value, kind):
            return name_in_bigquery
    raise TypeError(
        f"Parameter {name or '?'}: a {type(value).__name__} has no BigQuery type; pass a ScalarQueryParameter with one."
    )


def _as_json(value: Any) -> str | float:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and math.isfinite(value):
        return value
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, datetime.datetime) and value.tzinfo is not None:
        return value.astimezone(datetime.timezone.utc).isoformat(" ")
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    return str(value)
