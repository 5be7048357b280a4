"""Null parameters of a statement that runs many times get the type of the other values of their column."""

from __future__ import annotations

from typing import Any

import pytest
from google.cloud.bigquery import ScalarQueryParameter

from prefect_blocks._nulls import with_typed_nulls


def test_a_null_has_the_type_of_the_other_values_of_its_name() -> None:
    rows: Any = with_typed_nulls([{"a": None, "b": 1}, {"a": 1.5, "b": 2}])
    assert rows[0]["a"].to_api_repr() == {
        "name": "a",
        "parameterType": {"type": "FLOAT64"},
        "parameterValue": {"value": None},
    }
    assert (rows[0]["b"], rows[1]) == (1, {"a": 1.5, "b": 2})


def test_a_null_by_place_has_the_type_of_the_others_in_its_place() -> None:
    rows: Any = with_typed_nulls([(1, "x"), (None, "y")])
    assert rows[1][0].to_api_repr()["parameterType"] == {"type": "INT64"}
    assert (list(rows[0]), rows[1][1]) == ([1, "x"], "y")


@pytest.mark.parametrize("rows", [[{"a": None}, {"a": None}], [{"a": None}, {"a": [1]}]])
def test_a_null_without_a_type_is_named(rows: Any) -> None:
    with pytest.raises(TypeError, match="Parameter a: a null needs a type"):
        with_typed_nulls(rows)


def test_a_parameter_of_bigquery_gives_its_type_and_stays_as_it_is() -> None:
    given = ScalarQueryParameter("a", "NUMERIC", 1)
    rows: Any = with_typed_nulls([{"a": given}, {"a": None}])
    assert rows[0]["a"] is given
    assert rows[1]["a"].type_ == "NUMERIC"


def test_no_row_is_no_row() -> None:
    assert with_typed_nulls([]) == []
