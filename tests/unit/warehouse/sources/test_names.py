"""Column names: which BigQuery accepts, and what becomes of the others."""

from __future__ import annotations

from typing import Any

import pandas
import pyarrow
import pytest

from carto_auth_integrations.warehouse.sources.names import valid_names
from tests.support.sources import columns_of, read_back, rows_of

# fmt: off
VALID = ["a", "A1", "_x", "1a", "Größe", "名前", "with space", "a-b", "a&b",
         "50%", "a=b", "a+b", "a:b", "it's", "<a>",
         "#", "a|b", "e\u0301", "x" * 300, "_TABLE", "_COLUMN"]
INVALID = ["", "a.b", "a,b", "a;b", "a/b", "a\\b", "a?b", "a@b", "a[0]",
           "a{b}", "(a)", "a!", 'a"b', "a$b", "a*b", "a^b",
           "a~b", "a`b", "a\nb", "a\tb", "a\0b", "\ufeffa", "😀", "€", "x" * 301, "_TABLE_x", "_table_x", "_FILE_x",
           "_PARTITIONTIME", "_partition", "_ROW_TIMESTAMP", "__ROOT__x", "_COLIDENTIFIER_1", "_CHANGE_TYPE"]
# fmt: on


@pytest.mark.parametrize("name", VALID)
def test_names_that_bigquery_accepts_stay_as_they_are(name: str) -> None:
    assert valid_names([name], "strict") == [name]


@pytest.mark.parametrize("name", INVALID)
def test_names_that_bigquery_refuses_are_refused_with_their_place(name: str) -> None:
    with pytest.raises(ValueError, match=r"^Column 2, .*sanitize") as error:
        valid_names(["first", name], "strict")
    assert repr(name) in str(error.value)


@pytest.mark.parametrize("name", [1, None, 1.5, ("a", "b"), b"a", True])
def test_names_that_are_no_text_are_refused(name: Any) -> None:
    with pytest.raises(ValueError, match=r"^Column 1, .*not text"):
        read_back([{name: 1}])


@pytest.mark.parametrize(("one", "other"), [("Name", "name"), ("STRASSE", "straße"), ("a", "A"), ("É", "é")])
def test_names_that_differ_by_case_alone_are_refused(one: str, other: str) -> None:
    for source in ([{one: 1, other: 2}], [{one: 1}, {other: 2}], pandas.DataFrame({one: [1], other: [2]})):
        with pytest.raises(ValueError, match=rf"^Column 2, '{other}', is there twice, as '{one}' too"):
            read_back(source)
    with pytest.raises(ValueError, match=rf"^piece 2: Column 2, '{other}', is there twice"):
        read_back(iter([pyarrow.table({one: [1]}), pyarrow.table({other: [2]})]))


@pytest.mark.parametrize("row", [{"s": {"a.b": 1}}, {"s": [{"a": 1, "A": 2}]}, {"s": {"t": {"": 1}}}])
def test_the_fields_of_structs_have_the_same_rules(row: dict[str, Any]) -> None:
    for source in ([row], pyarrow.Table.from_pylist([row])):
        with pytest.raises(ValueError, match=r"Column \d, s\."):
            read_back(source)


@pytest.mark.parametrize(
    ("names", "valid"),
    [
        (["a.b"], ["a_b"]),
        (["a.b", "A_B"], ["a_b", "A_B_2"]),
        (["a.b", "a_b", "a/b"], ["a_b", "a_b_2", "a_b_3"]),
        (["x", "", "😀"], ["x", "column_2", "column_3"]),
        (["_TABLE_x"], ["column_TABLE_x"]),
        ([" a "], ["a"]),
        (["Größe (m²)"], ["Größe _m²_"]),
        (["a", "a"], ["a", "a_2"]),
        ([1, None], ["1", "None"]),
    ],
)
def test_sanitized_names_are_valid_and_differ(names: list[Any], valid: list[str]) -> None:
    assert valid_names(names, "sanitize") == valid
    assert valid_names(valid, "strict") == valid


@pytest.mark.parametrize("name", INVALID)
def test_every_invalid_name_has_a_valid_one(name: str) -> None:
    (valid,) = valid_names([name], "sanitize")
    assert valid_names([valid], "strict") == [valid]


def test_long_names_stay_apart() -> None:
    names = valid_names(["x" * 301, "x" * 302], "sanitize")
    assert valid_names(names, "strict") == names


@pytest.mark.parametrize("name", VALID)
def test_valid_names_are_not_sanitized(name: str) -> None:
    assert valid_names([name], "sanitize") == [name]


def test_sanitized_columns_keep_their_values_wherever_they_come() -> None:
    rows = rows_of([{"a.b": 1, "s": {"x.y": [{"z!": 2}]}}, {"a_b": 3, "a.b": 4}], column_names="sanitize")
    assert rows == [
        {"a_b": 1, "s": {"x_y": [{"z_": 2}]}, "a_b_2": None},
        {"a_b": 4, "s": None, "a_b_2": 3},
    ]


@pytest.mark.parametrize("name", ["a.b", "a_b"])
def test_options_name_a_sanitized_column_by_either_name(name: str) -> None:
    options: dict[str, Any] = {"column_names": "sanitize"}
    assert columns_of([{"a.b": "1"}], column_types={name: "INT64"}, **options) == {"a_b": "INTEGER"}
    assert columns_of([{"a.b": "POINT (1 2)"}], geometry=name, **options) == {"a_b": "GEOGRAPHY"}
