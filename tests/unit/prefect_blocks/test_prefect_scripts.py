"""Many runs of a statement as scripts: names get numbers, text and comments stay, nulls have a type."""

from __future__ import annotations

import pytest
from google.cloud.bigquery import ScalarQueryParameter

from prefect_blocks._scripts import LONGEST_SCRIPT, MOST_PARAMETERS, MOST_STATEMENTS, scripts


def test_one_run_is_the_statement_itself() -> None:
    assert list(scripts("UPDATE t SET a = @a;", [{"a": 1}])) == [("UPDATE t SET a = @a", {"a": 1})]


def test_no_run_is_no_job() -> None:
    assert list(scripts("UPDATE t SET a = @a", [])) == []


def test_runs_are_one_transaction_and_each_has_parameters_of_its_own() -> None:
    ((sql, parameters),) = scripts("UPDATE t SET a = @a WHERE id = @id", [{"a": 1, "id": 2}, {"a": 3, "id": 4}])
    assert sql.split("\n;\n") == [
        "BEGIN TRANSACTION",
        "UPDATE t SET a = @a_0 WHERE id = @id_0",
        "UPDATE t SET a = @a_1 WHERE id = @id_1",
        "COMMIT TRANSACTION",
        "",
    ]
    assert parameters == {"a_0": 1, "id_0": 2, "a_1": 3, "id_1": 4}


def test_parameters_by_place_follow_each_other() -> None:
    ((sql, parameters),) = scripts("INSERT INTO t VALUES (?, ?)", [(1, "x"), (2, "y")])
    assert sql.count("INSERT INTO t VALUES (?, ?)") == 2
    assert parameters == [1, "x", 2, "y"]


@pytest.mark.parametrize(
    "part",
    [
        "'@a'",
        '"@a"',
        "'it\\'s @a'",
        r"r'\@a'",
        '"""@a \' " @a"""',
        "'''@a ' @a'''",
        "`@a`",
        "@@project_id",
        "-- @a\n",
        "# @a\n",
        "/* @a */",
    ],
)
def test_what_is_no_parameter_stays_as_it_is(part: str) -> None:
    statement = f"INSERT INTO t SELECT {part}, @a"
    ((sql, _),) = scripts(statement, [{"a": 1}, {"a": 2}])
    assert f"INSERT INTO t SELECT {part}, @a_0\n" in sql
    assert f"INSERT INTO t SELECT {part}, @a_1\n" in sql


def test_a_statement_that_ends_with_a_comment_hides_none_of_those_after_it() -> None:
    ((sql, _),) = scripts("DELETE FROM t WHERE id = @id -- gone", [{"id": 1}, {"id": 2}])
    assert "-- gone\n;" in sql


@pytest.mark.parametrize(("names", "size"), [(1, MOST_STATEMENTS), (100, MOST_PARAMETERS // 100)])
def test_a_job_takes_as_many_runs_as_bigquery_does(names: int, size: int) -> None:
    rows = [{f"p{n}": n for n in range(names)}] * (size + 1)
    first, second = scripts("SELECT " + ", ".join(f"@p{n}" for n in range(names)), rows)
    assert len(first[1]) == names * size
    assert len(second[1]) == names


def test_long_statements_go_into_more_jobs() -> None:
    jobs = list(scripts(f"SELECT @a, '{'x' * 100_000}'", [{"a": 1}] * 9))
    assert all(len(sql) <= LONGEST_SCRIPT for sql, _ in jobs)
    assert len(jobs) == 3


def test_a_null_has_the_type_of_the_other_values_of_its_name() -> None:
    ((_, parameters),) = scripts("INSERT INTO t VALUES (@a)", [{"a": None}, {"a": 1.5}])
    assert parameters["a_0"].to_api_repr() == {
        "name": "a_0",
        "parameterType": {"type": "FLOAT64"},
        "parameterValue": {"value": None},
    }


def test_a_null_by_place_has_the_type_of_the_others_in_its_place() -> None:
    ((_, parameters),) = scripts("INSERT INTO t VALUES (?, ?)", [(1, "x"), (None, "y")])
    assert parameters[2].to_api_repr()["parameterType"] == {"type": "INT64"}


def test_a_null_that_stands_alone_is_named() -> None:
    with pytest.raises(TypeError, match="Parameter a: a null needs a type"):
        list(scripts("INSERT INTO t VALUES (@a)", [{"a": None}, {"a": None}]))


def test_a_parameter_of_bigquerys_own_gets_its_number_and_stays_the_callers() -> None:
    given = ScalarQueryParameter("a", "NUMERIC", 1)
    ((_, parameters),) = scripts("INSERT INTO t VALUES (@a)", [{"a": given}, {"a": given}])
    assert [parameters[f"a_{number}"].name for number in (0, 1)] == ["a_0", "a_1"]
    assert given.name == "a"
