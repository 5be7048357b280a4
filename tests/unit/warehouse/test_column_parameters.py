"""Parameters of a column's type: what the column holds exactly arrives, the rest is refused by its place."""

from __future__ import annotations

import datetime
from decimal import Decimal
from typing import Any

import pytest

from carto_auth_integrations.warehouse.column_parameters import column_parameter

STRUCT = {
    "name": "s",
    "type": "RECORD",
    "fields": [{"name": "a", "type": "INTEGER"}, {"name": "b", "type": "STRING", "mode": "REPEATED"}],
}
DAY = datetime.date(2024, 2, 29)


def column(kind: str, mode: str = "NULLABLE", **others: Any) -> dict[str, Any]:
    return {"name": "c", "type": kind, "mode": mode, **others}


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        (column("INTEGER"), None, {"value": None}),
        (column("INTEGER"), 7, {"value": "7"}),
        (column("FLOAT"), 7, {"value": 7.0}),
        (column("FLOAT"), Decimal("0.5"), {"value": 0.5}),
        (column("NUMERIC"), 7, {"value": "7"}),
        (column("NUMERIC"), 0.1, {"value": "0.1"}),
        (column("BIGNUMERIC"), Decimal("1.5"), {"value": "1.5"}),
        (column("DATE"), DAY, {"value": "2024-02-29"}),
        (column("DATE"), "2024-02-29", {"value": "2024-02-29"}),
        (column("GEOGRAPHY"), "POINT(1 2)", {"value": "POINT(1 2)"}),
        (column("BYTES"), b"x", {"value": "eA=="}),
        (column("JSON"), {"a": [1, None]}, {"value": '{"a": [1, null]}'}),
        (column("JSON"), "Köln", {"value": '"Köln"'}),
        (column("STRING", "REPEATED"), [], {"arrayValues": []}),
        (column("STRING", "REPEATED"), None, {"arrayValues": []}),
        (column("STRING", "REPEATED"), ["a"], {"arrayValues": [{"value": "a"}]}),
        (STRUCT, None, {"value": None}),
        (STRUCT, {"a": None}, {"structValues": {"a": {"value": None}, "b": {"arrayValues": []}}}),
        (
            {**STRUCT, "mode": "REPEATED"},
            [{}],
            {"arrayValues": [{"structValues": {"a": {"value": None}, "b": {"arrayValues": []}}}]},
        ),
        (
            column("RANGE", rangeElementType={"type": "DATE"}),
            {"start": DAY, "end": None},
            {"rangeValue": {"start": {"value": "2024-02-29"}, "end": {"value": None}}},
        ),
    ],
)
def test_a_value_is_sent_as_its_columns_type(field: dict[str, Any], value: Any, expected: dict[str, Any]) -> None:
    assert column_parameter(field, value, "Row 1").to_api_repr()["parameterValue"] == expected


def test_types_have_the_names_of_parameters_at_any_depth() -> None:
    told = column_parameter({**STRUCT, "mode": "REPEATED"}, [], "Row 1").to_api_repr()["parameterType"]
    assert told == {
        "type": "ARRAY",
        "arrayType": {
            "type": "STRUCT",
            "structTypes": [
                {"name": "a", "type": {"type": "INT64"}},
                {"name": "b", "type": {"type": "ARRAY", "arrayType": {"type": "STRING"}}},
            ],
        },
    }
    ranged = column_parameter(column("RANGE", rangeElementType={"type": "DATE"}), None, "Row 1").to_api_repr()
    assert ranged["parameterType"] == {"type": "RANGE", "rangeElementType": {"type": "DATE"}}


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        (column("INTEGER"), 2**63, "it is INT64, and this value is NUMERIC"),
        (column("INTEGER"), 1.0, "it is INT64, and this value is FLOAT64"),
        (column("FLOAT"), 2**53 + 1, "it is FLOAT64"),
        (column("FLOAT"), Decimal("0.1"), "it is FLOAT64"),
        (column("NUMERIC"), Decimal("1E-10"), "it is NUMERIC, and this value is BIGNUMERIC"),
        (column("NUMERIC"), float("nan"), "exactly"),
        (column("STRING"), 1, "it is STRING"),
        (column("BYTES"), "x", "it is BYTES"),
        (column("DATETIME"), DAY, "it is DATETIME, and this value is DATE"),
        (column("JSON"), float("nan"), "not JSON"),
        (column("STRING", "REPEATED"), "abc", "an ARRAY needs a list"),
        (STRUCT, [1], "a STRUCT needs a dict"),
        (STRUCT, {"a": "x", "c": 1}, "no field c"),
        (STRUCT, {"a": b"x"}, r"column s\.a: it is INT64"),
    ],
)
def test_what_the_column_does_not_hold_is_refused_by_row_and_column(
    field: dict[str, Any], value: Any, reason: str
) -> None:
    with pytest.raises((TypeError, ValueError), match=rf"^Row 3, (?=column {field['name']}).*{reason}"):
        column_parameter(field, value, "Row 3")
