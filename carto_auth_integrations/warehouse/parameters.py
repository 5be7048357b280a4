"""Query parameters: Python values as BigQuery's, their types by Python's own."""

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
"""Python's types and BigQuery's; the first that fits is taken."""


@dataclass(frozen=True)
class Parameter:
    """A query parameter, as google's `ScalarQueryParameter` and `ArrayQueryParameter` but without their import.

    Attributes:
        name: Its name; None for one that is told by its place.
        type_: BigQuery's type of the value, or of each value of an array.
        value: A value, or a list of them for an array.
    """

    name: str | None
    type_: str
    value: Any

    def to_api_repr(self) -> dict[str, Any]:
        """Give it as BigQuery's REST API has it."""
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
    """Give values as BigQuery's query parameters, their types by Python's; google's own are left as they are.

    Raises:
        TypeError: If a value's type says nothing: None, an empty list, or an object.
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
            raise TypeError(f"Parameter {name or '?'}: an array needs values of one type; give an ArrayQueryParameter.")
        return Parameter(name, kinds.pop(), list(value))
    return Parameter(name, _type_of(name, value), value)


def _type_of(name: str | None, value: Any) -> str:
    if isinstance(value, datetime.datetime) and value.tzinfo is not None:
        return "TIMESTAMP"
    for kind, name_in_bigquery in TYPES:
        if isinstance(value, kind):
            return name_in_bigquery
    raise TypeError(
        f"Parameter {name or '?'}: a {type(value).__name__} has no BigQuery type; give a ScalarQueryParameter with one."
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
