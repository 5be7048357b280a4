"""How Prefect finds the blocks and shows them: entry point, names, forms, its own suite for blocks."""

from __future__ import annotations

import socket
from importlib.metadata import entry_points
from importlib.util import find_spec

import pytest
from prefect.blocks.core import Block
from prefect.testing.standard_test_suites import BlockStandardTestSuite

import prefect_blocks
from carto_auth_integrations import __version__
from prefect_blocks import CartoCredentials, CartoDataWarehouse
from tests.support.processes import run_processes

BLOCKS = [CartoCredentials, CartoDataWarehouse]
LOOKUP = 5
"""Seconds for finding out whether this machine reaches the internet."""


class StandardSuite(BlockStandardTestSuite):
    """What Prefect asks of every block. The logo is CARTO's own, so that test needs the internet."""

    def test_has_a_valid_image(self, block: type[Block]) -> None:
        if not find_spec("PIL"):
            pytest.skip("needs Pillow")
        try:
            socket.create_connection((block._logo_url.host, 443), LOOKUP).close()
        except OSError:
            pytest.skip(f"needs the internet: {block._logo_url}")
        super().test_has_a_valid_image(block)


class TestCredentials(StandardSuite):
    @pytest.fixture
    def block(self) -> type[Block]:
        return CartoCredentials


class TestDataWarehouse(StandardSuite):
    @pytest.fixture
    def block(self) -> type[Block]:
        return CartoDataWarehouse


def test_the_entry_point_is_a_module_with_blocks_and_a_version() -> None:
    (entry,) = entry_points(group="prefect.collections", name="prefect_blocks")
    module = entry.load()
    assert module.CartoCredentials is CartoCredentials
    assert module.CartoDataWarehouse is CartoDataWarehouse
    assert module.__version__ == __version__


def test_a_process_that_has_imported_nothing_finds_both_blocks() -> None:
    (output,) = run_processes(
        1,
        """
        from prefect.blocks.core import Block
        for slug in ("carto-credentials", "carto-data-warehouse"):
            print(Block.get_block_class_from_key(slug).__name__)
        """,
    )
    assert output.split() == ["CartoCredentials", "CartoDataWarehouse"]


@pytest.mark.parametrize("block", BLOCKS)
def test_prefect_knows_a_block_by_the_name_it_would_make_itself(block: type[Block]) -> None:
    schema = block._to_block_schema()
    assert schema.block_type is not None
    assert block.__dispatch_key__() == schema.block_type.slug


@pytest.mark.parametrize("block", BLOCKS)
def test_each_field_of_a_form_has_one_kind_and_a_title_in_plain_words(block: type[Block]) -> None:
    for name, shown in block.model_json_schema()["properties"].items():
        assert "anyOf" not in shown, name
        assert not {"Api", "Id", "Url", "Bigquery"} & set(shown.get("title", "").split())


def test_the_forms_hide_the_secrets_those_of_the_nested_account_too() -> None:
    secrets = {"client_secret", "access_token", "token_store"}
    assert set(CartoCredentials.model_json_schema()["secret_fields"]) == secrets
    nested = {f"credentials.{name}" for name in secrets}
    assert set(CartoDataWarehouse.model_json_schema()["secret_fields"]) == nested


def test_the_package_lists_what_it_gives() -> None:
    assert set(prefect_blocks.__all__) == set(dir(prefect_blocks))
    assert all(getattr(prefect_blocks, name) for name in prefect_blocks.__all__)
    with pytest.raises(AttributeError, match="no_such_name"):
        prefect_blocks.no_such_name  # noqa: B018
