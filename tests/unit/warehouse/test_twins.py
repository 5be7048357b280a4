"""Async twins: the same signature, documentation, results and errors as their sync methods."""

from __future__ import annotations

import asyncio
import inspect
import pickle
from collections.abc import Iterator
from typing import Any

import pytest
from google.api_core.exceptions import NotFound

from carto_auth_integrations.warehouse import CartoWarehouse
from tests.support.bigquery import TinyBigQuery, auth_of

TWINS = {
    "query": "aquery",
    "begin_query": "abegin_query",
    "load": "aload",
    "begin_load": "abegin_load",
    "plan": "aplan",
    "result": "aresult",
    "wait_for": "await_for",
    "cancel": "acancel",
}


@pytest.fixture
def warehouse() -> Iterator[CartoWarehouse]:
    with TinyBigQuery() as server:
        yield auth_of(server.url, location="EU").warehouse()


def test_every_method_has_a_twin() -> None:
    public = {name for name in vars(CartoWarehouse) if not name.startswith("_")}
    assert public == {*TWINS, *TWINS.values()}


@pytest.mark.parametrize("name", TWINS)
def test_a_twin_has_the_signature_of_its_method(name: str) -> None:
    method, twin = getattr(CartoWarehouse, name), getattr(CartoWarehouse, TWINS[name])
    ours, theirs = inspect.signature(method), inspect.signature(twin)

    assert theirs.parameters == ours.parameters
    assert not [each for each in ours.parameters.values() if each.kind in (each.VAR_KEYWORD, each.VAR_POSITIONAL)]


@pytest.mark.parametrize("name", TWINS)
def test_a_twin_has_a_name_and_documentation_of_its_own(name: str) -> None:
    method, twin = getattr(CartoWarehouse, name), getattr(CartoWarehouse, TWINS[name])

    assert (method.__name__, method.__qualname__) == (name, f"CartoWarehouse.{name}")
    assert (twin.__name__, twin.__qualname__) == (TWINS[name], f"CartoWarehouse.{TWINS[name]}")
    assert twin.__module__ == method.__module__ == CartoWarehouse.__module__
    assert twin.__doc__.startswith(method.__doc__.rstrip()[:40])
    assert "coroutine" in inspect.getdoc(twin)


@pytest.mark.parametrize("name", TWINS)
def test_a_twin_is_a_coroutine_function_and_its_method_is_none(name: str) -> None:
    assert inspect.iscoroutinefunction(getattr(CartoWarehouse, TWINS[name]))
    assert not inspect.iscoroutinefunction(getattr(CartoWarehouse, name))
    assert not inspect.isgeneratorfunction(inspect.unwrap(getattr(CartoWarehouse, name), stop=lambda _: True))


def test_a_twin_returns_what_its_method_returns(warehouse: CartoWarehouse) -> None:
    first = warehouse.query("SELECT 1", idempotency_key="key")
    second = asyncio.run(warehouse.aquery("SELECT 1", idempotency_key="key"))
    third = asyncio.run(warehouse.aresult(first.job_id))

    assert (first.rows, first.job_id) == (second.rows, second.job_id) == (third.rows, third.job_id)
    assert (first.reattached, second.reattached) == (False, True)


def test_a_twin_raises_what_its_method_raises(warehouse: CartoWarehouse) -> None:
    with pytest.raises(NotFound) as of_method:
        warehouse.cancel("never_was")
    with pytest.raises(NotFound) as of_twin:
        asyncio.run(warehouse.acancel("never_was"))
    assert str(of_twin.value) == str(of_method.value)


def test_a_wrong_argument_is_a_type_error_in_both(warehouse: CartoWarehouse) -> None:
    call: Any = warehouse
    with pytest.raises(TypeError, match="no_such_option"):
        call.query("SELECT 1", no_such_option=1)
    with pytest.raises(TypeError, match="no_such_option"):
        asyncio.run(call.aquery("SELECT 1", no_such_option=1))


def test_methods_of_a_pickled_warehouse_work(warehouse: CartoWarehouse) -> None:
    there = pickle.loads(pickle.dumps(warehouse))
    assert there.query("SELECT 1").rows == ({"x": 1},)
