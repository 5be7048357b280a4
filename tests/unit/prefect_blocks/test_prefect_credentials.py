"""The Prefect block: its fields, that no secret shows or is kept under a wrong name, and how it travels."""

from __future__ import annotations

import asyncio
import copy
import logging
import pickle
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from carto_auth_integrations import AccountError
from carto_auth_integrations.account.fields import FIELDS
from carto_auth_integrations.sandbox import Sandbox
from prefect_blocks import CartoCredentials
from tests.support.accounts import BEARER, SECRET
from tests.support.leaks import assert_shows_no_secret, raised_by

BASE = "https://gcp-us-east1.api.carto.com"


def block(**fields: Any) -> CartoCredentials:
    return CartoCredentials(**{"api_base_url": BASE, "client_id": "the-client", "client_secret": SECRET, **fields})


def sandbox_block(sandbox: Sandbox, tmp_path: Path) -> CartoCredentials:
    return CartoCredentials(**sandbox.account, token_store=str(tmp_path / "tokens.json"))


def test_the_block_has_every_field_of_the_account_and_requires_none() -> None:
    assert set(CartoCredentials.model_fields) == set(FIELDS)
    assert not any(field.is_required() for field in CartoCredentials.model_fields.values())


def test_each_field_says_what_the_core_says() -> None:
    for name, field in FIELDS.items():
        assert CartoCredentials.model_fields[name].description == field.description


def test_the_block_is_known_under_its_name() -> None:
    assert CartoCredentials.get_block_type_name() == "CARTO Credentials"
    assert CartoCredentials.get_block_type_slug() == "carto-credentials"


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


def test_a_deep_copy_has_no_token_and_works(carto_sandbox: Sandbox, tmp_path: Path) -> None:
    made = sandbox_block(carto_sandbox, tmp_path)
    access_token = made.get_access_token()
    twin = copy.deepcopy(made)
    assert access_token not in repr(vars(twin))
    assert twin.get_access_token() == access_token


def test_a_block_of_a_file_needs_the_file_no_more(carto_sandbox: Sandbox, tmp_path: Path) -> None:
    path = carto_sandbox.write_credentials(tmp_path / "credentials.json")
    made = CartoCredentials.from_file(path)
    path.unlink()
    assert isinstance(made.client_secret, SecretStr)
    assert made.get_carto_dw_credentials()[0] == carto_sandbox.options.project_id


def test_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere\.json"):
        CartoCredentials.from_file(tmp_path / "nowhere.json")


def test_a_block_of_the_environment_needs_the_environment_no_more(
    carto_sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as environment:
        for name, value in {**carto_sandbox.environment(), "CARTO_TOKEN_STORE": str(tmp_path / "tokens.json")}.items():
            environment.setenv(name, value)
        made = CartoCredentials.from_env()
    assert carto_sandbox.options.client_secret not in f"{made!r} {vars(made)}"
    assert made.get_carto_dw_credentials()[0] == carto_sandbox.options.project_id


def test_an_environment_without_an_account_says_what_is_missing() -> None:
    with pytest.raises(AccountError, match=r"CARTO_(CLIENT_ID|API_BASE_URL)"):
        CartoCredentials.from_env()


def test_a_check_goes_through_the_stages_of_the_command_line(carto_sandbox: Sandbox, tmp_path: Path) -> None:
    made = sandbox_block(carto_sandbox, tmp_path)
    results = made.check()
    assert [result.name for result in results] == ["credentials", "CARTO API", "DW token", "SELECT 1"]
    assert all(result.ok for result in results)
    assert [result.name for result in asyncio.run(made.acheck())] == [result.name for result in results]


def test_a_check_tells_what_is_wrong_and_no_secret(carto_sandbox: Sandbox, tmp_path: Path) -> None:
    made = sandbox_block(carto_sandbox, tmp_path).model_copy(update={"client_secret": SecretStr(SECRET)})
    (result,) = made.check()
    assert not result.ok
    assert "client_secret" in result.detail
    assert SECRET not in f"{result} {result!r}"
