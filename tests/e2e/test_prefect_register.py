"""The blocks on a real Prefect server: registered, saved in one process, loaded in another, masked in every answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from carto_auth_integrations.sandbox import Sandbox

if TYPE_CHECKING:
    from tests.support.prefect_site import PrefectSite

pytest_plugins = ["tests.support.prefect_site"]

TYPES = {"carto-credentials": "CARTO Credentials", "carto-data-warehouse": "CARTO Data Warehouse"}
MASK = "********"

SAVE = """
from prefect_blocks import CartoCredentials, CartoDataWarehouse
CartoDataWarehouse(credentials=CartoCredentials.load("nested")).save("around-saved")
CartoDataWarehouse(credentials=CartoCredentials.load("nested").model_copy()).save("around-new")
"""
LOAD = """
from prefect_blocks import CartoDataWarehouse
for name in ("around-saved", "around-new"):
    print(name, CartoDataWarehouse.load(name).fetch_one("SELECT 6 * 7 AS answer"))
"""


def test_registering_makes_both_types_known(prefect_site: PrefectSite, registered_blocks: str) -> None:
    types = {each["slug"]: each for each in prefect_site.all_of("block_types")}
    for slug, name in TYPES.items():
        assert name in registered_blocks
        assert types[slug]["name"] == name
        assert types[slug]["documentation_url"].startswith("https://")
        assert types[slug]["code_example"]


@pytest.fixture
def saved(prefect_site: PrefectSite, carto_sandbox_bigquery: Sandbox, tmp_path: Path) -> PrefectSite:
    """The server, with credentials saved by one process, and warehouses that hold them by another."""
    prefect_site.save_block("nested", {**carto_sandbox_bigquery.account, "token_store": str(tmp_path / "tokens.json")})
    prefect_site.run("save-warehouses", ["python", "-c", SAVE])
    return prefect_site


def test_what_one_process_saves_another_loads_and_the_server_masks(
    saved: PrefectSite, carto_sandbox_bigquery: Sandbox
) -> None:
    said = saved.run("load-warehouses", ["python", "-c", LOAD])
    assert "around-saved (42,)" in said
    assert "around-new (42,)" in said
    assert carto_sandbox_bigquery.stats().count("token") == 1

    documents = saved.all_of("block_documents")
    names = {document["name"] for document in documents}
    assert {"nested", "around-saved", "around-new"} <= names
    answers = [*documents]
    for document in documents:
        slug, name = document["block_type"]["slug"], document["name"]
        answers.append(saved.api.get(f"/block_documents/{document['id']}"))
        if name is not None:
            answers.append(saved.api.get(f"/block_types/slug/{slug}/block_documents/name/{name}"))
    assert MASK in json.dumps(answers)
    assert carto_sandbox_bigquery.options.client_secret not in json.dumps(answers)
    plain = saved.all_of("block_documents", include_secrets=True)
    assert carto_sandbox_bigquery.options.client_secret in json.dumps(plain), "it was there to be masked"
