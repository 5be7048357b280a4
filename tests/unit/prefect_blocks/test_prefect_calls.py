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
from prefect_blocks._digests import Digest

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


EARLIER = {
    "write_disposition": "WRITE_APPEND",
    "create_disposition": "CREATE_IF_NEEDED",
    "create_dataset": False,
    "format": None,
    "schema": None,
    "geometry": (),
    "crs": None,
    "partitioning": None,
    "clustering": (),
}
"""The options that loads have always had, with their defaults."""
DEFAULTS = {field.name: field.default for field in fields(LoadOptions)}
OTHER: dict[str, Any] = {
    "edges": "spherical",
    "lon": "x",
    "lat": "y",
    "invalid_geometry": "repair",
    "make_valid": True,
    "bad_rows": "quarantine",
    "column_names": "sanitize",
    "column_types": {"zip": "STRING"},
    "layer": "shops",
    "delimiter": ";",
    "encoding": "latin-1",
    "quote": "'",
    "null_marker": "NA",
    "skip_rows": 1,
    "header": False,
}


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that returns what the key of a load is made of."""
    seen: list[dict[str, Any]] = []
    monkeypatch.setattr(_calls, "idempotency_key", lambda _, what: seen.append(dict(what)))

    def what(**options: Any) -> dict[str, Any]:
        tasks._load_key("a.csv", "shared.t", options)  # type: ignore[arg-type]  # the options of a load
        return seen.pop()

    return what


def test_every_option_of_a_load_changes_its_key(counted: Any) -> None:
    assert OTHER.keys() | EARLIER.keys() == DEFAULTS.keys()
    for name, value in OTHER.items():
        assert counted(**{name: value}) == {**counted(), name: value}


def test_an_option_at_its_default_leaves_the_key_as_it_is(counted: Any) -> None:
    assert counted(**{name: DEFAULTS[name] for name in OTHER}) == counted()


def test_the_keys_of_calls_that_use_no_new_option_stay_as_they_were(counted: Any) -> None:
    assert {name: DEFAULTS[name] for name in EARLIER} == EARLIER
    assert counted(**EARLIER) == {**counted(), **EARLIER}


def digest_of(source: Any) -> tuple[str, bool]:
    digest = Digest()
    _calls._add_call(digest, "load", {"source": source, "destination": "shared.t"})
    return digest.hexdigest(), digest.exact


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("/tmp/1/a.csv", "/tmp/2/a.csv"),
        (["/tmp/1/a.csv", "/tmp/1/b.csv"], ["/tmp/2/a.csv", "/tmp/2/b.csv"]),
        (["/tmp/1/a.csv"], (Path("/tmp/2/a.csv"),)),
        ("https://a.example/x/a.csv?signature=one&to=/b", "https://a.example/x/a.csv?signature=two&to=/c"),
        ("s3://bucket/1/a.csv", "s3://bucket/2/a.csv"),
        ("/tmp/1/*.csv", Path("/tmp/2/*.csv")),
    ],
)
def test_files_count_by_their_names_wherever_they_are(one: Any, other: Any) -> None:
    assert digest_of(one) == digest_of(other)
    assert digest_of(one)[1] is False, "so the position of the call in its flow counts too"
    assert digest_of(["/tmp/1/a.csv"]) != digest_of(["/tmp/1/b.csv"])


def test_objects_of_cloud_storage_count_with_their_buckets() -> None:
    assert digest_of("gs://one/a.csv")[0] != digest_of("gs://two/a.csv")[0]
    assert digest_of(["gs://one/a.csv"])[0] != digest_of(["gs://two/a.csv"])[0]
    assert digest_of(["gs://one/a.csv"])[1] is True


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
