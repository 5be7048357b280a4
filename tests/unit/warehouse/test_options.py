"""The options of queries and loads: the same fields everywhere, and values that are checked."""

from __future__ import annotations

import dataclasses
import inspect
import pickle
from typing import Any

import pytest

from carto_auth_integrations.warehouse import CartoWarehouse, LoadOptions, QueryOptions
from carto_auth_integrations.warehouse.options import COSTS, LoadKeywords, QueryKeywords, SourceKeywords

OF_THE_TABLE = {
    "write_disposition",
    "create_disposition",
    "create_dataset",
    "partitioning",
    "clustering",
}
"""Options of a load that say nothing about how its source is read."""
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
    besides = {*OF_THE_CALL, "parameters", "max_rows", "dry_run"}
    assert {name: keywords[name] for name in keywords if name not in besides} == defaults_of(QueryOptions)


def test_the_typed_keywords_are_those_of_the_methods() -> None:
    assert set(LoadKeywords.__annotations__) == set(keywords_of(CartoWarehouse.load))
    assert set(QueryKeywords.__annotations__) == set(keywords_of(CartoWarehouse.query)) - {"parameters"}


@pytest.mark.parametrize("method", [CartoWarehouse.plan, CartoWarehouse.aplan])
def test_a_plan_takes_the_options_of_a_load_that_say_how_a_source_is_read(method: Any) -> None:
    keywords = keywords_of(method)
    of_the_source = {name: value for name, value in defaults_of(LoadOptions).items() if name not in OF_THE_TABLE}
    assert {name: keywords[name] for name in keywords if name not in OF_THE_CALL} == of_the_source
    assert set(SourceKeywords.__annotations__) == set(of_the_source)


def test_each_option_of_a_load_has_one_type_wherever_it_is_named() -> None:
    fields = {field.name: field.type for field in dataclasses.fields(LoadOptions)}
    parameters = inspect.signature(CartoWarehouse.load).parameters
    for name, kind in fields.items():
        assert parameters[name].annotation == kind
        assert LoadKeywords.__annotations__[name].__forward_arg__ == kind


@pytest.mark.parametrize("method", [CartoWarehouse.load, LoadOptions])
def test_every_option_of_a_load_is_described(method: Any) -> None:
    described = inspect.getdoc(method) or ""
    assert [name for name in defaults_of(LoadOptions) if f"    {name}: " not in described] == []


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (LoadOptions, {"write_disposition": "REPLACE"}),
        (LoadOptions, {"create_disposition": "CREATE_MAYBE"}),
        (LoadOptions, {"edges": "curved"}),
        (LoadOptions, {"invalid_geometry": "drop"}),
        (LoadOptions, {"bad_rows": "skip"}),
        (LoadOptions, {"column_names": "SANITIZE"}),
        (LoadOptions, {"format": "ORC"}),
        (QueryOptions, {"write_disposition": "write_append"}),
        (QueryOptions, {"priority": "batch"}),
    ],
)
def test_an_unknown_choice_is_refused_with_the_known_ones(kind: type[Any], options: dict[str, str]) -> None:
    ((name, value),) = options.items()
    with pytest.raises(ValueError, match=f"^{name} must be one of .*, not {value!r}"):
        kind(**options)


@pytest.mark.parametrize("limit", [0, -1, True, 1.5, "10 GB"])
def test_a_limit_that_is_no_number_of_bytes_is_refused(limit: Any) -> None:
    with pytest.raises(ValueError, match="maximum_bytes_billed must be a whole number of bytes above 0, not"):
        QueryOptions(maximum_bytes_billed=limit)


def test_what_a_query_may_cost_is_a_part_of_its_options() -> None:
    assert set(COSTS) < set(defaults_of(QueryOptions))


@pytest.mark.parametrize("options", [{"lon": "x"}, {"lat": "y"}])
def test_a_longitude_needs_a_latitude(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="give both"):
        LoadOptions(**options)


@pytest.mark.parametrize(
    ("options", "repairs"), [({}, False), ({"make_valid": True}, True), ({"invalid_geometry": "repair"}, True)]
)
def test_both_spellings_of_a_repair_are_one(options: dict[str, Any], repairs: bool) -> None:
    assert LoadOptions(**options).repairs is repairs


def test_options_are_frozen_and_can_be_pickled() -> None:
    for options in (LoadOptions(clustering=("a",)), QueryOptions("d.t")):
        with pytest.raises(dataclasses.FrozenInstanceError):
            options.write_disposition = "WRITE_EMPTY"  # type: ignore[misc]
        assert pickle.loads(pickle.dumps(options)) == options


def test_one_geometry_column_may_be_named_by_itself() -> None:
    assert LoadOptions(geometry="at").geometry_columns == ("at",)
    assert LoadOptions(geometry=["at", "to"]).geometry_columns == ("at", "to")
    assert LoadOptions().geometry_columns == ()
