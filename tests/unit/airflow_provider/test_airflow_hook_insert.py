"""INSERT statements from rows: their number, text and parameters."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider.hooks.insert import MOST_PARAMETERS, columns_of, inserts

COLUMNS = [{"name": "id", "type": "INTEGER", "mode": "NULLABLE"}, {"name": "name", "type": "STRING"}]
ID = COLUMNS[:1]
TABLE = "a-project.shared.t"


def told(parameters: list[Any]) -> list[tuple[str, Any]]:
    resources = [parameter.to_api_repr() for parameter in parameters]
    return [(each["parameterType"]["type"], each["parameterValue"]["value"]) for each in resources]


def test_rows_are_in_one_statement_with_a_placeholder_per_value() -> None:
    (insert,) = inserts(TABLE, COLUMNS, [(1, "a"), (2, "b")])
    assert (insert.sql, insert.rows) == ("INSERT INTO `a-project.shared.t` (`id`, `name`) VALUES (?, ?), (?, ?)", 2)
    assert told(insert.values) == [("INT64", "1"), ("STRING", "a"), ("INT64", "2"), ("STRING", "b")]


def test_a_missing_value_is_a_null_of_its_columns_type() -> None:
    (insert,) = inserts(TABLE, COLUMNS, [(None, "a"), (2, None)])
    assert told(insert.values) == [("INT64", None), ("STRING", "a"), ("INT64", "2"), ("STRING", None)]


def test_a_statement_has_as_many_rows_as_asked_for() -> None:
    assert [insert.rows for insert in inserts("t", ID, ((number,) for number in range(7)), most_rows=3)] == [3, 3, 1]


def test_a_statement_has_no_more_parameters_than_bigquery_accepts() -> None:
    statements = list(inserts("t", [*COLUMNS, *ID], [(1, "x", 3)] * MOST_PARAMETERS))
    assert sum(insert.rows for insert in statements) == MOST_PARAMETERS
    assert max(len(insert.values) for insert in statements) <= MOST_PARAMETERS


def test_no_rows_are_no_statement() -> None:
    assert list(inserts("t", ID, [])) == []


def test_a_row_of_another_length_is_named() -> None:
    with pytest.raises(ValueError, match="Row 2 has 1 values, and there are 2 columns"):
        list(inserts("t", COLUMNS, [(1, "a"), (2,)]))


def test_a_value_that_does_not_fit_is_named_by_row_and_column() -> None:
    with pytest.raises(TypeError, match="Row 2, column id: it is INT64, and this value is BOOL"):
        list(inserts("t", ID, [(1,), (True,)]))


def test_columns_are_found_by_names_that_may_be_quoted_in_any_order_and_case() -> None:
    assert columns_of(COLUMNS, ["`Name`", "id"], TABLE) == [COLUMNS[1], COLUMNS[0]]
    assert columns_of(COLUMNS, None, TABLE) == COLUMNS
    with pytest.raises(ValueError, match=r"shared\.t has no column age: its columns are id, name"):
        columns_of(COLUMNS, ["age"], TABLE)
