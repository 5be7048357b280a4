"""Discovery, the user and the Data Warehouse exchange answer as CARTO's do."""

from __future__ import annotations

import json
import os
import stat
import time
from datetime import datetime, timezone

import pytest
import requests

from carto_auth_integrations.sandbox import Sandbox, SandboxError, SandboxOptions

GUARDED = ["/accounts", "/users/me", "/v3/connections/carto-dw/token"]
EXCHANGE = "/v3/connections/carto-dw/token"


@pytest.mark.parametrize("path", GUARDED)
@pytest.mark.parametrize("token", [None, "made-up"])
def test_without_a_live_token_the_api_answers_401_in_cartos_shape(caller, path, token):
    response = caller.get(path, token)
    assert response.status_code == 401
    assert response.json() == {"error": "Unauthorized", "status": 401}


@pytest.mark.parametrize("path", GUARDED)
def test_a_revoked_token_is_refused(caller, sandbox, path):
    token = caller.access_token()
    assert caller.get(path, token).status_code == 200
    sandbox.revoke("carto")
    assert caller.get(path, token).status_code == 401


@pytest.mark.parametrize("path", GUARDED)
def test_the_permanent_api_access_token_is_accepted(caller, sandbox, path):
    sandbox.revoke("carto")
    assert caller.get(path, sandbox.options.api_access_token).status_code == 200


def test_discovery_leads_back_to_the_sandbox(caller, sandbox):
    tenant = caller.get("/accounts", caller.access_token()).json()["tenant_domain"]
    assert sandbox.url == f"http://{tenant}"
    assert requests.get(f"http://{tenant}/config.yaml", timeout=30).text == f"apis:\n  baseUrl: {sandbox.url}\n"


def test_the_exchange_names_project_and_token_and_no_expiry(caller):
    answer = caller.get(EXCHANGE, caller.access_token()).json()
    assert answer.keys() == {"projectId", "token"}
    assert answer["projectId"] == "carto-dw-ac-sandbox"


@pytest.mark.parametrize("name", ["expires_in", "expires_at", "expiresAt"])
def test_the_exchange_can_tell_the_expiry(make_sandbox, caller_of, name):
    caller = caller_of(make_sandbox(dw_expiry_field=name, dw_token_lifetime=600))
    value = caller.get(EXCHANGE, caller.access_token()).json()[name]
    left = {
        "expires_in": lambda: value,
        "expires_at": lambda: value - time.time(),
        "expiresAt": lambda: (
            datetime.fromisoformat(value.replace("Z", "+00:00")) - datetime.now(timezone.utc)
        ).total_seconds(),
    }[name]()
    assert 590 < left <= 600


def test_the_exchange_can_hand_out_the_same_token_again(make_sandbox, caller_of):
    sandbox = make_sandbox(reuse_dw_token=True)
    caller = caller_of(sandbox)
    first = caller.dw_token()
    assert caller.dw_token() == first
    sandbox.revoke("dw")
    assert caller.dw_token() != first


def test_a_user_without_a_warehouse_gets_404_in_cartos_shape(make_sandbox, caller_of):
    caller = caller_of(make_sandbox(user_has_dw=False))
    response = caller.get(EXCHANGE, caller.access_token())
    assert response.status_code == 404
    assert response.json().keys() == {"error", "status"}


def test_an_unknown_path_is_404(caller):
    assert caller.get("/v3/maps").status_code == 404


def test_the_environment_has_the_account_under_the_names_of_the_house(sandbox):
    assert sandbox.environment()["CARTO_API_BASE_URL"] == sandbox.url
    assert sandbox.environment()["CARTO_BIGQUERY_ENDPOINT"] == sandbox.url
    assert sandbox.environment()["CARTO_CLIENT_SECRET"] == sandbox.options.client_secret


def test_the_credentials_file_is_for_its_owner_only(sandbox, tmp_path):
    path = sandbox.write_credentials(tmp_path / "credentials.json")
    if os.name == "posix":
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    content = json.loads(path.read_text())
    assert {"api_base_url", "client_id", "client_secret", "auth_url", "bigquery_endpoint"} <= content.keys()


def test_a_credentials_file_that_exists_is_left_alone(sandbox, tmp_path):
    path = tmp_path / "credentials.json"
    path.write_text("mine")
    with pytest.raises(FileExistsError):
        sandbox.write_credentials(path)
    assert path.read_text() == "mine"


def test_no_repr_shows_a_secret(sandbox):
    for text in (repr(sandbox), repr(sandbox.options), str(sandbox.options)):
        assert sandbox.options.client_secret not in text
        assert sandbox.options.api_access_token not in text


def test_a_sandbox_that_was_not_started_says_so():
    with pytest.raises(SandboxError, match="not been started"):
        _ = Sandbox().url


def test_an_unknown_expiry_field_is_refused():
    with pytest.raises(ValueError, match="expires_in"):
        SandboxOptions(dw_expiry_field="when")


def test_a_taken_port_is_an_error(sandbox):
    port = int(sandbox.url.rpartition(":")[2])
    with pytest.raises(OSError, match=r"in use|No socket could be created"):
        Sandbox(SandboxOptions(port=port)).start()
