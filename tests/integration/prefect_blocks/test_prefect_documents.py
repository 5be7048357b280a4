"""Documents that a release has saved: every later one loads them, as Prefect's API gives them.

A release adds a folder to `documents/`; none is ever changed.
"""

from __future__ import annotations

import copy
import json
import logging
from pathlib import Path
from typing import Any

import pytest
from prefect.blocks.core import Block
from prefect.client.schemas.objects import BlockDocument
from pydantic import SecretStr

from carto_auth_integrations.account.fields import FIELDS
from prefect_blocks import CartoCredentials, CartoDataWarehouse

pytestmark = pytest.mark.usefixtures("prefect_server")

DOCUMENTS = Path(__file__).with_name("documents")
RELEASES = sorted(folder.name for folder in DOCUMENTS.iterdir())


def document(release: str, block: type[Block]) -> dict[str, Any]:
    return json.loads((DOCUMENTS / release / f"{block.get_block_type_slug()}.json").read_text())


def load(saved: dict[str, Any]) -> Any:
    """Make a block of a document as `load` does with the API's answer."""
    return Block._from_block_document(BlockDocument.model_validate(saved))


def fields_of(block: CartoCredentials) -> dict[str, Any]:
    values = {name: getattr(block, name) for name in FIELDS}
    return {name: value.get_secret_value() if isinstance(value, SecretStr) else value for name, value in values.items()}


@pytest.mark.parametrize("release", RELEASES)
def test_saved_credentials_load_with_every_field(release: str) -> None:
    saved = document(release, CartoCredentials)
    loaded = load(saved)
    assert isinstance(loaded, CartoCredentials)
    known = {name: value for name, value in fields_of(loaded).items() if name in saved["data"]}
    assert known == saved["data"]
    assert loaded.get_client().account.client_id == saved["data"]["client_id"]


@pytest.mark.parametrize("release", RELEASES)
def test_a_saved_warehouse_loads_with_its_account(release: str) -> None:
    saved = document(release, CartoDataWarehouse)
    loaded = load(saved)
    assert isinstance(loaded, CartoDataWarehouse)
    assert (loaded.fetch_size, loaded.job_timeout) == (saved["data"]["fetch_size"], saved["data"]["job_timeout"])
    assert fields_of(loaded.credentials)["client_secret"] == saved["data"]["credentials"]["client_secret"]


@pytest.mark.parametrize("release", RELEASES)
def test_a_field_of_another_release_does_no_harm_and_is_spoken_of(
    release: str, caplog: pytest.LogCaptureFixture
) -> None:
    credentials, warehouse = document(release, CartoCredentials), document(release, CartoDataWarehouse)
    for data in (credentials["data"], warehouse["data"], warehouse["data"]["credentials"]):
        data["of_another_release"] = "hunter2-of-another-release"
    with caplog.at_level(logging.WARNING):
        loaded = load(credentials), load(warehouse)
    assert loaded[0].client_id == loaded[1].credentials.client_id == credentials["data"]["client_id"]
    assert caplog.text.count("'of_another_release' is not a field") >= 3
    assert "hunter2-of-another-release" not in caplog.text


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("name", ["token_store", "location", "bigquery_endpoint"])
def test_credentials_without_an_optional_field_load(release: str, name: str) -> None:
    saved = document(release, CartoCredentials)
    del saved["data"][name]
    loaded = load(saved)
    assert getattr(loaded, name) is None
    assert loaded.client_id == saved["data"]["client_id"]


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize(("name", "default"), [("fetch_size", 1000), ("job_timeout", None)])
def test_a_warehouse_without_an_optional_field_loads(release: str, name: str, default: Any) -> None:
    saved = copy.deepcopy(document(release, CartoDataWarehouse))
    del saved["data"][name]
    assert getattr(load(saved), name) == default


def test_every_field_of_today_is_in_the_documents_of_the_newest_release() -> None:
    for block in (CartoCredentials, CartoDataWarehouse):
        assert document(RELEASES[-1], block)["data"].keys() == block.model_fields.keys()
