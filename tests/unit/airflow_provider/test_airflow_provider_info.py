"""The provider information, and that all modules and classes in it exist."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import distribution
from pathlib import Path

import airflow
import jsonschema
import pytest
from airflow.providers.common.compat.sdk import Connection
from airflow.providers_manager import ProvidersManager

from airflow_provider import get_provider_info
from airflow_provider.hooks.carto import CartoHook

NAME = "carto-auth-integrations"


def modules_named() -> Iterator[str]:
    info = get_provider_info()
    for part in ("hooks", "operators", "triggers"):
        for entry in info[part]:
            yield from entry["python-modules"]


def classes_named() -> Iterator[str]:
    info = get_provider_info()
    yield from info["extra-links"]
    yield from (entry["class-name"] for entry in info["task-decorators"])
    yield from (entry["hook-class-name"] for entry in info["connection-types"])


def test_provider_info_fits_airflows_schema_and_this_distribution() -> None:
    schema = json.loads((Path(airflow.__file__).parent / "provider_info.schema.json").read_text())
    info = get_provider_info()
    jsonschema.validate(info, schema)
    assert info["package-name"] == distribution(NAME).name


def test_airflow_loads_provider_info_from_the_entry_point() -> None:
    assert ProvidersManager().providers[NAME].data.items() >= get_provider_info().items()


@pytest.mark.parametrize("module", modules_named())
def test_every_module_named_is_there(module: str) -> None:
    if module == "airflow_provider.hooks.bigquery":
        pytest.importorskip("airflow.providers.google", reason="the module needs the google provider")
    import_module(module)


@pytest.mark.parametrize("path", classes_named())
def test_every_class_named_is_there(path: str) -> None:
    module, _, name = path.rpartition(".")
    assert hasattr(import_module(module), name)


def test_airflow_finds_the_hook_by_its_connection_type() -> None:
    assert isinstance(Connection(conn_id="any", conn_type="carto").get_hook(), CartoHook)
    assert ProvidersManager().hooks["carto"].connection_testable


def test_airflow_builds_the_form() -> None:
    if airflow.__version__.startswith("3.1."):  # its API builds the form with or without; the test of the API sees it
        pytest.importorskip("flask_appbuilder", reason="without FAB, forms are built in Airflow's API alone")
    manager = ProvidersManager()
    behaviour = manager.field_behaviours["carto"]
    assert behaviour["relabeling"] == {"host": "API base URL", "login": "Client ID", "password": "Client secret"}
    assert {"port", "schema"} <= set(behaviour["hidden_fields"])
    fields = {name for name in manager.connection_form_widgets if name.startswith("extra__carto__")}
    assert fields == {f"extra__carto__{name}" for name in get_provider_info()["connection-types"][0]["conn-fields"]}
    assert manager.connection_form_widgets["extra__carto__access_token"].is_sensitive
