"""The options of queries and loads: the same fields everywhere, and values that are checked."""

from __future__ import annotations

import dataclasses
import inspect
import pickle
from typing import Any

import pytest

from carto_auth_integrations.warehouse import CartoWarehouse, LoadOptions, QueryOptions
from carto_auth_integrations.warehouse.options import LoadKeywords, QueryKeywords

OF_THE_CALL = {"idempotency_key", "labels", "timeout", "on_progress"}
"""Keywords of a call that say nothing about what it does."""


def keywords_of(method: Any) -> dict[str, Any]:
    """Return the keywords of a method with their defaults."""
    parameters = inspect.signature(method).parameters.values()
    return {each.name: each.default for each in parameters if each.kind is each.KEYWORD_ONLY}


def defaults_of(options: type[Any]) -> dict[str, Any]:
    return {field.name: field.default for field in dataclasses.fields(options)}


@pytest.mark.parametrize("method", [CartoWarehouse.load, CartoWarehouse.begin_load])
def test_load_options_are_the_keywords_of_a_load(method: Any) -> None:
    keywords = keywords_of(method)
    assert {name: keywords[name] for name in keywords if name not in OF_THE_CALL} == defaults_of(LoadOptions)


@pytest.mark.parametrize("method", [CartoWarehouse.query, CartoWarehouse.begin_query])
def test_query_options_are_the_keywords_of_a_query(method: Any) -> None:
    keywords = keywords_of(method)
    besides = {*OF_THE_CALL, "parameters", "max_rows"}
    assert {name: keywords[name] for name in keywords if name not in besides} == defaults_of(QueryOptions)


def test_the_typed_keywords_are_those_of_the_methods() -> None:
    assert set(LoadKeywords.__annotations__) == set(keywords_of(CartoWarehouse.load))
    assert set(QueryKeywords.__annotations__) == set(keywords_of(CartoWarehouse.query)) - {"parameters"}


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (LoadOptions, {"write_disposition": "REPLACE"}),
        (LoadOptions, {"create_disposition": "CREATE_MAYBE"}),
        (QueryOptions, {"write_disposition": "write_append"}),
    ],
)
def test_an_unknown_disposition_is_refused_with_the_known_ones(kind: type[Any], options: dict[str, str]) -> None:
    ((name, value),) = options.items()
    with pytest.raises(ValueError, match=f"{name} must be one of .*, not {value!r}"):
        kind(**options)


def test_options_are_frozen_and_can_be_pickled() -> None:
    for options in (LoadOptions(clustering=("a",)), QueryOptions("d.t")):
        with pytest.raises(dataclasses.FrozenInstanceError):
            options.write_disposition = "WRITE_EMPTY"  # type: ignore[misc]
        assert pickle.loads(pickle.dumps(options)) == options


def test_one_geometry_column_may_be_named_by_itself() -> None:
    assert LoadOptions(geometry="at").geometry_columns == ("at",)
    assert LoadOptions(geometry=["at", "to"]).geometry_columns == ("at", "to")
    assert LoadOptions().geometry_columns == ()
