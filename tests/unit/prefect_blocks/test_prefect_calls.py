"""Calls of tasks: outside of a run, what a try reads, and what is part of the key of a call."""

from __future__ import annotations

import inspect
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from prefect import Task

from carto_auth_integrations.warehouse import CartoWarehouse, LoadOptions, QueryOptions
from carto_auth_integrations.warehouse.options import LoadKeywords, QueryKeywords
from prefect_blocks import CartoDataWarehouse, _calls, acarto_load, acarto_query, carto_load, carto_query, tasks

TASKS = {"query": (carto_query, acarto_query), "load": (carto_load, acarto_load)}
METHODS = {
    "query": ("fetch_one", "fetch_many", "fetch_all", "execute", "execute_many"),
    "load": ("load_table",),
}
KEYWORDS: dict[str, type] = {"query": QueryKeywords, "load": LoadKeywords}
OPTIONS: dict[str, type] = {"query": QueryOptions, "load": LoadOptions}


def keywords_only(function: Any) -> dict[str, inspect.Parameter]:
    parameters = inspect.signature(function).parameters.values()
    return {each.name: each for each in parameters if each.kind is each.KEYWORD_ONLY}


def passed_on(function: Any) -> str:
    """Return the annotation of the keywords that a function passes on."""
    (variadic,) = [each for each in inspect.signature(function).parameters.values() if each.kind is each.VAR_KEYWORD]
    return str(variadic.annotation)


@pytest.mark.parametrize("kind", KEYWORDS)
def test_tasks_and_blocks_accept_the_options_of_the_warehouse(kind: str) -> None:
    accepted = set(KEYWORDS[kind].__annotations__)
    assert accepted == set(keywords_only(getattr(CartoWarehouse, kind))) - {"parameters"}
    assert accepted >= {field.name for field in fields(OPTIONS[kind])}
    for task in TASKS[kind]:
        assert passed_on(task.fn) == f"Unpack[{KEYWORDS[kind].__name__}]"
    for name in METHODS[kind]:
        for method in (getattr(CartoDataWarehouse, name), getattr(CartoDataWarehouse, f"a{name}")):
            assert passed_on(method) == f"Unpack[{KEYWORDS[kind].__name__}]"


@pytest.mark.parametrize("kind", TASKS)
def test_a_task_and_its_coroutine_take_the_same_arguments(kind: str) -> None:
    sync, twin = TASKS[kind]
    assert inspect.signature(sync.fn).parameters == inspect.signature(twin.fn).parameters


def test_an_option_counts_if_it_says_what_a_job_does() -> None:
    given: Any = {
        "destination": "shared.t",
        "timeout": 3,
        "max_rows": 3,
        "labels": {"at": "noon"},
        "on_progress": print,
    }
    assert tasks._options_of(QueryOptions, given) == {"destination": "shared.t"}


def test_outside_of_a_run_there_is_no_key_and_no_label() -> None:
    assert _calls.idempotency_key("query", {"sql": "SELECT 1"}) is None
    assert _calls.run_labels() == {}


def test_a_task_with_other_options_still_counts_its_calls() -> None:
    twin = carto_load.with_options(retries=0, name="another")
    assert isinstance(twin, _calls.CountedTask)
    assert (twin.retries, twin.name, carto_load.retries) == (0, "another", tasks.RETRIES)
    assert twin.counted({"destination": "shared.t"}) is twin, "outside of a flow there is nothing to count"
    assert isinstance(carto_load, Task)


def test_a_function_returns_the_rows_of_each_try() -> None:
    assert _calls.readable_source(lambda: [1, 2]) == [1, 2]
    rows = iter([1])
    assert _calls.readable_source(rows) is rows, "outside of a run there is one try"


@pytest.mark.parametrize("source", ["a.csv", Path("a.csv"), "gs://bucket/a.csv", [1]])
def test_any_other_source_is_read_as_it_is(source: Any) -> None:
    assert _calls.readable_source(source) is source
