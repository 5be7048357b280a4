"""The BigQuery client: which endpoint it talks to, and that nothing replaces its token."""

from __future__ import annotations

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest

from carto_auth_integrations.bigquery.client import make_client
from carto_auth_integrations.errors import InvalidField
from tests.support.bigquery import TinyBigQuery, auth_of, bigquery, calls_to
from tests.support.servers import Server, reply


@pytest.fixture
def server() -> Iterator[TinyBigQuery]:
    with TinyBigQuery() as server:
        yield server


@pytest.fixture
def _netrc(own_home: Path) -> None:
    netrc = own_home / ".netrc"
    netrc.write_text("default login someone password else\n")
    netrc.chmod(0o600)


@pytest.mark.usefixtures("_netrc")
def test_netrc_replaces_no_token_of_client_load_query_and_to_arrow(server: TinyBigQuery, tmp_path: Path) -> None:
    pyarrow.parquet.write_table(pyarrow.table({"a": [1]}), tmp_path / "a.parquet")
    auth = auth_of(server.url, location="EU")
    warehouse = auth.warehouse()

    loaded = warehouse.load(tmp_path / "a.parquet", "d.t")
    result = warehouse.query("SELECT 1 AS x")

    assert server.loaded()[0] == (tmp_path / "a.parquet").read_bytes()
    assert result.rows == ({"x": 1},)
    assert result.to_arrow().to_pylist() == [{"x": 1}]
    assert auth.get_carto_dw_client().get_job(loaded.job_id).job_id == loaded.job_id
    assert set(server.bearers) == {"Bearer hunter2-dw-1"}


@pytest.mark.usefixtures("_netrc")
def test_netrc_replaces_no_token_over_https(server: TinyBigQuery) -> None:
    """Plain http looks at nothing of the environment, so the session is asked for the request that it would send."""
    import requests

    client = make_client(auth_of(server.url, bigquery_endpoint="https://bigquery.example.org").dw_tokens, "p", {})
    session: Any = client._http

    prepared = session.prepare_request(requests.Request("GET", "https://bigquery.example.org/", headers={"A": "b"}))

    assert session.trust_env
    assert "Authorization" not in prepared.headers
    plain = requests.Session().prepare_request(requests.Request("GET", "https://bigquery.example.org/"))
    assert plain.headers["Authorization"].startswith("Basic"), "so would a session without an auth of its own"


@pytest.fixture
def settings_server() -> Iterator[Server]:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        reply(handler, 404, "{}")

    with bigquery(answer) as server:
        yield server


def test_the_client_has_the_accounts_settings_and_names_this_package(settings_server: Server) -> None:
    auth = auth_of(settings_server.url, location="EU", default_dataset="mine")
    client: Any = auth.get_carto_dw_client()

    assert (client.project, client.location) == ("p", "EU")
    assert client.default_query_job_config.default_dataset.dataset_id == "mine"
    with pytest.raises(Exception, match="404"):
        client.get_job("j", retry=None)
    assert [call[1] for call in calls_to(settings_server)] == ["/bigquery/v2/projects/p/jobs/j"]
    assert "carto-auth-integrations/" in settings_server.requests[-1].headers["user-agent"]


def test_options_replace_the_accounts_settings(settings_server: Server) -> None:
    auth = auth_of(settings_server.url, location="EU")
    assert auth.get_carto_dw_client(location="US", project="other").location == "US"
    assert auth.get_carto_dw_client(location="US", project="other").project == "other"


def test_the_emulators_variable_names_the_endpoint(server: TinyBigQuery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", server.url)
    client: Any = auth_of(server.url, bigquery_endpoint=None).get_carto_dw_client()
    assert server.url == client._connection.API_BASE_URL


@pytest.mark.parametrize("host", ["http://somewhere.example:9050", "somewhere.example:9050", "http://10.0.0.7:9050"])
def test_plain_http_to_another_machine_is_refused(
    server: TinyBigQuery, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", host)
    with pytest.raises(InvalidField, match="BIGQUERY_EMULATOR_HOST"):
        auth_of(server.url, bigquery_endpoint=None).get_carto_dw_client()


def test_plain_http_goes_through_no_proxy(server: TinyBigQuery) -> None:
    client: Any = auth_of(server.url).get_carto_dw_client()
    assert not client._http.trust_env
