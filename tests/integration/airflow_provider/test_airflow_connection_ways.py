"""A `carto` connection in a real Airflow, through API, CLI, secrets backend and environment, and what they show."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from airflow_provider import get_provider_info
from carto_auth_integrations.sandbox import Sandbox
from tests.support.accounts import BEARER
from tests.support.airflow_connection import VARIABLE, connection_of
from tests.support.airflow_home import PATIENCE, AirflowHome

needs_api = pytest.mark.skipif(find_spec("airflow.api_fastapi") is None, reason="this Airflow's forms are no API's")

ASK_THE_API = """
import json, sys
from fastapi.testclient import TestClient
from airflow.api_fastapi.app import create_app

with TestClient(create_app("core")) as client:
    client.headers["Authorization"] = "Bearer " + client.get("/auth/token").json()["access_token"]
    answers = [client.request(method, path, json=body) for method, path, body in json.loads(sys.argv[1])]
    print("\\n" + json.dumps([[answer.status_code, answer.json()] for answer in answers]))
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> AirflowHome:
    return AirflowHome(
        tmp_path_factory.mktemp("airflow"),
        CORE__TEST_CONNECTION="Enabled",
        CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS="True",
        API_AUTH__JWT_ISSUER="airflow",  # 3.0 has no default that today's pyjwt takes
        SECRETS__BACKEND="airflow.secrets.local_filesystem.LocalFilesystemBackend",
        SECRETS__BACKEND_KWARGS=json.dumps(
            {"connections_file_path": str(tmp_path_factory.mktemp("secrets") / "connections.json")}
        ),
    )


@pytest.fixture
def connection(carto_sandbox_bigquery: Sandbox, tmp_path: Path) -> dict[str, Any]:
    return connection_of(carto_sandbox_bigquery, tmp_path / "tokens.json")


def body_of(connection: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """Return what the UI sends for a connection."""
    body = {**connection, "connection_id": "carto_default", **fields}
    return {**body, "extra": json.dumps(body["extra"])}


def asked(home: AirflowHome, *requests: tuple[str, str, Any]) -> list[tuple[int, Any]]:
    printed = home.python("-W", "ignore", "-c", ASK_THE_API, json.dumps(requests))
    return json.loads(printed.strip().splitlines()[-1])


@needs_api
def test_the_api_returns_the_form_stores_and_tests_the_connection_and_shows_no_secret(
    home: AirflowHome, connection: dict[str, Any]
) -> None:
    body = body_of(connection, extra={**connection["extra"], "access_token": BEARER, "auth_mode": "m2m"})
    bad = body_of(connection, password="wrong-but-long")
    answers = asked(
        home,
        ("GET", "/ui/connections/hook_meta", None),
        ("POST", "/api/v2/connections", body),
        ("GET", "/api/v2/connections/carto_default", None),
        ("POST", "/api/v2/connections/test", body_of(connection)),
        ("POST", "/api/v2/connections/test", bad),
    )
    assert [status for status, _ in answers] == [200, 201, 200, 200, 200]
    forms, created, kept, passed, failed = [answer for _, answer in answers]

    (form,) = (form for form in forms if form["connection_type"] == "carto")
    assert form["hook_name"] == "CARTO"
    assert form["extra_fields"].keys() == get_provider_info()["connection-types"][0]["conn-fields"].keys()
    assert all(field["description"] for field in form["extra_fields"].values())
    assert form["extra_fields"]["auth_mode"]["schema"]["enum"] == ["m2m", "oauth", "token"]
    assert form["extra_fields"]["access_token"]["schema"]["format"] == "password"
    standard = form["standard_fields"]
    assert [standard[name]["title"] for name in ("host", "login", "password")] == [
        "API base URL",
        "Client ID",
        "Client secret",
    ]
    assert standard["port"]["hidden"]
    assert standard["url_schema"]["hidden"]

    shown = json.loads(kept["extra"])
    assert (shown["access_token"], shown["token_store"], shown["auth_mode"]) == ("***", "***", "m2m")
    assert (passed["status"], failed["status"]) == (True, False)
    assert "All 4 stages passed" in passed["message"]
    assert failed["message"].startswith("credentials: ")
    assert "client_secret" in failed["message"]
    for secret in (connection["password"], "wrong-but-long", BEARER):
        assert secret not in json.dumps([created, kept, passed, failed])


def test_airflow_tests_the_connection_from_the_command_line_a_backend_and_the_environment(
    home: AirflowHome, connection: dict[str, Any]
) -> None:
    backend = Path(json.loads(home.variables["AIRFLOW__SECRETS__BACKEND_KWARGS"])["connections_file_path"])
    backend.write_text(json.dumps({"carto_backend": connection}))
    fields = {"host": connection["host"], "login": connection["login"], "password": connection["password"]}
    options = [option for name, value in fields.items() for option in (f"--conn-{name}", value)]
    extra = ["--conn-extra", json.dumps(connection["extra"])]
    home.run("connections", "add", "carto_cli", "--conn-type", "carto", *options, *extra)

    bad = json.dumps({**connection, "password": "wrong-but-long"})
    # One after the other: at once, the imports of three processes would take up the time of a test.
    printed = {}
    for name in ("carto_cli", "carto_backend", "carto_default"):
        test = home.start("-m", "airflow", "connections", "test", name, **{VARIABLE: bad})
        printed[name] = test.communicate(timeout=PATIENCE)[0]
    assert "Connection success!" in printed["carto_cli"]
    assert "Connection success!" in printed["carto_backend"]
    assert "Connection failed!" in printed["carto_default"]
    said = " ".join(printed["carto_default"].split())
    assert "credentials: CARTO access token of" in said
    assert "client_secret" in said
    for secret in (connection["password"], "wrong-but-long"):
        assert secret not in "".join(printed.values())
