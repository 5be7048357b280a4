"""Query parameters for the columns of a table: each has its column's type, so that NULL and `[]` have one too."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from .parameters import DECIMALS, Parameter, plain_value, typed_scalar

if TYPE_CHECKING:
    from ..http import Json
    from .sources.declared import Field

IN_PARAMETERS = {"INTEGER": "INT64", "FLOAT": "FLOAT64", "BOOLEAN": "BOOL", "RECORD": "STRUCT"}
"""The names of a table's schema, and those of parameters for the same types."""


def column_parameter(field: Field, value: object, where: str) -> Parameter:
    """Return a value as a positional parameter of a column's type.

    Whole numbers become NUMERIC, BIGNUMERIC and FLOAT64 where these hold them, floats NUMERIC by their digits; text is
    read by BigQuery as the column's type; anything becomes JSON. A field that a dict lacks is NULL.

    Args:
        field: The column. https://cloud.google.com/bigquery/docs/reference/rest/v2/tables#TableFieldSchema
        value: The value.
        where: What messages call its place.

    Raises:
        TypeError: If the value is of another type than the column.
        ValueError: If the column cannot hold it exactly.
    """
    where = f"{where}, column {field['name']}"
    return Parameter(None, _type_of(field), _value_of(field, plain_value(value, where), where))


def _type_of(field: Field) -> Json:
    if field.get("mode") == "REPEATED":
        return {"type": "ARRAY", "arrayType": _type_of({**field, "mode": "NULLABLE"})}
    kind = _kind_of(field)
    if kind == "STRUCT":
        return {
            "type": kind,
            "structTypes": [{"name": each["name"], "type": _type_of(each)} for each in field["fields"]],
        }
    return {"type": kind, "rangeElementType": field["rangeElementType"]} if kind == "RANGE" else {"type": kind}


def _kind_of(field: Field) -> str:
    kind: str = field["type"]
    return IN_PARAMETERS.get(kind, kind)


def _value_of(field: Field, value: object, where: str) -> Json:
    if field.get("mode") == "REPEATED":
        if not isinstance(value, (list, type(None))):
            raise TypeError(f"{where}: an ARRAY needs a list, and this is a {type(value).__name__}.")
        return {"arrayValues": [_value_of({**field, "mode": "NULLABLE"}, each, where) for each in value or ()]}
    if value is None:
        return {"value": None}
    kind = _kind_of(field)
    if kind == "STRUCT":
        return _struct_of(field["fields"], value, where)
    if kind == "JSON":
        return {"value": _json_of(value, where)}
    if kind == "RANGE" and isinstance(value, dict):  # as google's client returns it
        ends = {
            end: _value_of({**field["rangeElementType"], "name": end}, value.get(end), where)
            for end in ("start", "end")
        }
        return {"rangeValue": ends}
    return _told_as(kind, value, where)


def _struct_of(fields: list[Field], value: object, where: str) -> Json:
    if not isinstance(value, dict):
        raise TypeError(f"{where}: a STRUCT needs a dict, and this is a {type(value).__name__}.")
    unknown = value.keys() - {field["name"] for field in fields}
    if unknown:
        raise ValueError(f"{where}: the column has no field {', '.join(map(str, sorted(unknown, key=str)))}.")
    names = [field["name"] for field in fields]
    told = [_value_of(field, value.get(field["name"]), f"{where}.{field['name']}") for field in fields]
    return {"structValues": dict(zip(names, told, strict=True))}


def _json_of(value: object, where: str) -> str:
    try:
        return json.dumps(value, allow_nan=False, ensure_ascii=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}: the value is not JSON: {error}.") from None


def _told_as(kind: str, value: Any, where: str) -> Json:
    """Return a scalar as a column's type, if that holds it exactly."""
    if kind in DECIMALS[1:] and isinstance(value, float):
        value = Decimal(repr(float(value)))  # the digits that everyone sees; NaN and infinity are refused
    type_, told = typed_scalar(value, where)
    own = type_["type"]
    if own == kind or (own == "STRING" and kind != "BYTES"):
        return told
    if own in DECIMALS and kind in DECIMALS and DECIMALS.index(own) <= DECIMALS.index(kind):
        return told
    if own in DECIMALS and kind == "FLOAT64" and Decimal(float(value)) == value:
        return {"value": float(value)}
    raise TypeError(f"{where}: it is {kind}, and this value is {own}.")
