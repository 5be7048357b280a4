"""The Prefect block: its fields, that no secret shows or is kept under a wrong name, and how it travels."""

from __future__ import annotations

import asyncio
import copy
import logging
import pickle
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
from prefect.blocks.core import Block
from prefect.testing.standard_test_suites import BlockStandardTestSuite
from pydantic import SecretStr, ValidationError

from carto_auth_integrations import AccountError, __version__
from carto_auth_integrations.fields import FIELDS
from carto_auth_integrations.sandbox import Sandbox
from prefect_blocks import CartoCredentials
from tests.support import BEARER, SECRET, assert_shows_no_secret, raised_by

BASE = "https://gcp-us-east1.api.carto.com"
HEAVY = ("google.auth", "google.cloud", "pandas", "pyarrow", "requests")


def block(**fields: Any) -> CartoCredentials:
    return CartoCredentials(**{"api_base_url": BASE, "client_id": "the-client", "client_secret": SECRET, **fields})


def sandbox_block(sandbox: Sandbox, tmp_path: Path) -> CartoCredentials:
    return CartoCredentials(**sandbox.account, token_store=str(tmp_path / "tokens.json"))


class TestStandardSuite(BlockStandardTestSuite):
    """What Prefect asks of every block, but a logo: that would be a picture on somebody's server."""

    test_has_a_valid_image = None  # type: ignore[assignment]

    @pytest.fixture
    def block(self) -> type[Block]:
        return CartoCredentials


def test_the_block_has_every_field_of_the_account_and_requires_none() -> None:
    assert set(CartoCredentials.model_fields) == set(FIELDS)
    assert not any(field.is_required() for field in CartoCredentials.model_fields.values())


def test_each_field_says_what_the_core_says() -> None:
    for name, field in FIELDS.items():
        assert CartoCredentials.model_fields[name].description == field.description


def test_the_block_is_known_under_its_name() -> None:
    assert CartoCredentials.get_block_type_name() == "CARTO Credentials"
    assert CartoCredentials.get_block_type_slug() == "carto-credentials"


def test_the_entry_point_is_a_module_with_blocks_and_a_version() -> None:
    (entry,) = entry_points(group="prefect.collections", name="prefect_blocks")
    module = entry.load()
    assert module.CartoCredentials is CartoCredentials
    assert module.__version__ == __version__


def test_no_secret_shows_in_the_block() -> None:
    redis = "redis://user:hunter2-redis-password@redis.example.org/0"
    made = block(access_token=BEARER, token_store=redis)
    shown = f"{made!r} {made} {vars(made)} {made.model_dump()} {made.model_dump_json()}"
    for secret in (SECRET, BEARER, "hunter2-redis-password"):
        assert secret not in shown


def test_a_validation_error_shows_no_secret() -> None:
    with pytest.raises(ValidationError) as info:
        block(auth_mode="no-such-mode", audience=["not text"])
    assert SECRET not in str(info.value)
    assert SECRET not in repr(info.value)


def test_a_mistyped_field_is_spoken_of(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        block(client_secert="x")
    assert "did you mean client_secret?" in caplog.text


def test_the_block_makes_the_account_it_describes() -> None:
    account = block(organization="org_abc", token_store="memory:").get_client().account
    assert (account.api_base_url, account.client_id, account.organization) == (BASE, "the-client", "org_abc")
    assert account.client_secret is not None
    assert account.client_secret.reveal() == SECRET


def test_empty_fields_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CARTO_API_BASE_URL", BASE)
    monkeypatch.setenv("CARTO_CLIENT_ID", "from-the-environment")
    monkeypatch.setenv("CARTO_CLIENT_SECRET", SECRET)
    assert CartoCredentials().get_client().account.client_id == "from-the-environment"


def test_a_missing_field_is_named_when_it_is_needed_and_the_error_shows_no_secret() -> None:
    made = block(client_id=None)
    error = raised_by(made.get_access_token)
    assert isinstance(error, AccountError)
    assert "client_id" in str(error)
    assert_shows_no_secret(error)


def test_making_and_loading_a_block_asks_nobody(carto_sandbox: Sandbox, tmp_path: Path) -> None:
    made = sandbox_block(carto_sandbox, tmp_path)
    CartoCredentials.model_validate(made.model_dump())
    assert not carto_sandbox.stats().requests


def test_the_block_gives_tokens_and_all_of_one_account_share_them(carto_sandbox: Sandbox, tmp_path: Path) -> None:
    made = sandbox_block(carto_sandbox, tmp_path)
    project, dw_token = made.get_carto_dw_credentials()
    twin = copy.deepcopy(made)
    assert project == carto_sandbox.options.project_id
    assert twin.get_carto_dw_credentials() == (project, dw_token)
    assert asyncio.run(twin.aget_carto_dw_credentials()) == (project, dw_token)
    assert asyncio.run(made.aget_access_token()) == made.get_access_token()
    assert carto_sandbox.stats().count("token") == 1


def test_the_blocks_client_queries_the_warehouse(carto_sandbox: Sandbox, tmp_path: Path) -> None:
    made = sandbox_block(carto_sandbox, tmp_path)
    assert [row.one for row in made.get_carto_dw_client().query_and_wait("SELECT 1 AS one")] == [1]
    assert asyncio.run(made.aget_carto_dw_client()).project == carto_sandbox.options.project_id


def test_the_block_travels_by_pickle_without_a_token(carto_sandbox: Sandbox, tmp_path: Path) -> None:
    made = sandbox_block(carto_sandbox, tmp_path)
    access_token = made.get_access_token()
    pickled = pickle.dumps(made)
    assert access_token.encode() not in pickled
    there = pickle.loads(pickled)
    assert there == made
    assert isinstance(there.client_secret, SecretStr)
    assert there.get_access_token() == access_token


def test_importing_the_blocks_imports_nothing_heavy() -> None:
    code = f"import sys, prefect_blocks; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "[]"
