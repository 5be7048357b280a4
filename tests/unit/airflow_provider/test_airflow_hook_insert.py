"""INSERT statements from rows: their number, text and parameters."""

from __future__ import annotations

from airflow_provider.hooks.insert import MOST_PARAMETERS, inserts


def test_rows_are_in_one_statement_with_a_placeholder_per_value() -> None:
    assert list(inserts("shared.t", [(1, "a"), (2, "b")], ["id", "name"])) == [
        ("INSERT INTO shared.t (`id`, `name`) VALUES (%s, %s), (%s, %s)", [1, "a", 2, "b"], 2)
    ]


def test_a_missing_value_is_no_parameter() -> None:
    (insert,) = inserts("shared.t", [(None, "a"), (2, None)], None)
    assert insert == ("INSERT INTO shared.t VALUES (NULL, %s), (%s, NULL)", ["a", 2], 2)


def test_a_statement_has_as_many_rows_as_asked_for() -> None:
    assert [insert.rows for insert in inserts("t", ((number,) for number in range(7)), None, most_rows=3)] == [3, 3, 1]


def test_a_statement_has_no_more_parameters_than_bigquery_accepts() -> None:
    rows = [(1, 2, 3)] * MOST_PARAMETERS
    statements = list(inserts("t", rows, None))
    assert sum(insert.rows for insert in statements) == MOST_PARAMETERS
    assert max(len(insert.values) for insert in statements) <= MOST_PARAMETERS


def test_no_rows_are_no_statement() -> None:
    assert list(inserts("t", [], ["id"])) == []


def test_quoted_names_are_kept() -> None:
    (insert,) = inserts("`a-project`.shared.`100%`", [(1,)], ["`order`"])
    assert insert.sql == "INSERT INTO `a-project`.shared.`100%%` (`order`) VALUES (%s)"
