"""BigQuery behind the token check, through Google's own client."""

from __future__ import annotations

import io
import time
import uuid

import pytest
import requests

bigquery = pytest.importorskip("google.cloud.bigquery")

from google.api_core import exceptions  # noqa: E402 - after the check that it is there
from google.auth.credentials import Credentials  # noqa: E402
from google.auth.exceptions import RefreshError  # noqa: E402

# Google's client sends files from 5 MB on in several chunks when asked; 256 KiB is the smallest it allows.
CHUNK = 256 * 1024


class OneToken(Credentials):
    """A token that cannot be renewed."""

    def __init__(self, token):
        super().__init__()
        self.token = token

    @property
    def expired(self):
        return False

    def refresh(self, request):
        raise RefreshError("401 from BigQuery")


class Renewed(OneToken):
    """A token that is exchanged anew after a 401."""

    def __init__(self, exchange):
        super().__init__(exchange())
        self._exchange = exchange

    def refresh(self, request):
        self.token = self._exchange()


@pytest.fixture(autouse=True)
def _emulator(server):
    server.start_emulator()


@pytest.fixture
def client_for(sandbox):
    def make(credentials):
        return bigquery.Client(
            project=sandbox.options.project_id,
            credentials=credentials,
            client_options={"api_endpoint": sandbox.url},
        )

    return make


@pytest.fixture
def client(client_for, caller):
    return client_for(OneToken(caller.dw_token()))


@pytest.fixture
def table(sandbox):
    return f"{sandbox.options.project_id}.shared.t_{uuid.uuid4().hex}"


def first_row(client, sql):
    (row,) = client.query_and_wait(sql)
    return tuple(row.values())


def csv_of(rows):
    return io.BytesIO(b"".join(b"%d,%s\n" % (number, b"x" * 40) for number in range(rows)))


CSV = {
    "source_format": "CSV",
    "schema": [bigquery.SchemaField("n", "INT64"), bigquery.SchemaField("s", "STRING")],
}


def load_csv(client, table, rows, **settings):
    job = client.load_table_from_file(csv_of(rows), table, job_config=bigquery.LoadJobConfig(**CSV), **settings)
    return job.result()


def test_a_query_is_answered(client):
    assert first_row(client, "SELECT 1 + 1") == (2,)


def test_the_datasets_of_the_warehouse_are_there(client):
    assert {dataset.dataset_id for dataset in client.list_datasets()} >= {"shared", "private_sandbox"}


def test_a_geography_is_made_from_text(client, table):
    client.query_and_wait(f"CREATE TABLE `{table}` AS SELECT ST_GEOGFROMTEXT('POINT(-3.7 40.4)') AS geom")
    assert client.get_table(table).schema[0].field_type == "GEOGRAPHY"
    assert first_row(client, f"SELECT ST_X(geom), ST_Y(geom) FROM `{table}`") == (-3.7, 40.4)


def test_bad_sql_is_a_bad_request(client):
    with pytest.raises(exceptions.BadRequest):
        client.query_and_wait("SELEKT 1")


def test_a_small_file_is_loaded_in_one_request(client, sandbox, table):
    load_csv(client, table, 10, size=csv_of(10).getbuffer().nbytes)
    assert client.get_table(table).num_rows == 10
    assert sandbox.stats().count("upload") == 1


def test_a_large_file_is_loaded_in_chunks_through_the_proxy(client, sandbox, table, monkeypatch):
    monkeypatch.setattr("google.cloud.bigquery.client._DEFAULT_CHUNKSIZE", CHUNK)
    load_csv(client, table, 100_000)
    assert first_row(client, f"SELECT COUNT(*), SUM(n) FROM `{table}`") == (100_000, 4_999_950_000)
    assert sandbox.stats().count("upload") > 10


def test_an_upload_continues_at_the_proxys_own_address(client, sandbox, caller):
    response = requests.post(
        f"{sandbox.url}/upload/bigquery/v2/projects/{sandbox.options.project_id}/jobs?uploadType=resumable",
        json={"configuration": {"load": {}}},
        headers={"Authorization": f"Bearer {caller.dw_token()}"},
        timeout=30,
    )
    assert response.headers["Location"].startswith(f"{sandbox.url}/upload/bigquery/v2/")


def test_a_parquet_file_is_loaded(client, table):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    file = io.BytesIO()
    parquet.write_table(pyarrow.table({"n": list(range(200_000)), "s": ["x"] * 200_000}), file)
    config = bigquery.LoadJobConfig(source_format="PARQUET")
    client.load_table_from_file(file, table, rewind=True, job_config=config).result()
    assert first_row(client, f"SELECT COUNT(*), MAX(n) FROM `{table}`") == (200_000, 199_999)


def test_a_chunked_request_passes_too(sandbox, caller):
    response = requests.post(
        f"{sandbox.url}/bigquery/v2/projects/{sandbox.options.project_id}/queries",
        data=iter([b'{"query": "SELECT 7", ', b'"useLegacySql": false}']),
        headers={"Authorization": f"Bearer {caller.dw_token()}", "Content-Type": "application/json"},
        timeout=30,
    )
    assert response.json()["rows"] == [{"f": [{"v": "7"}]}]


@pytest.mark.parametrize("token", [None, "made-up"])
def test_without_a_live_token_bigquery_answers_401_in_googles_shape(sandbox, caller, token):
    response = caller.get(f"/bigquery/v2/projects/{sandbox.options.project_id}/datasets", token)
    error = response.json()["error"]
    assert response.status_code == error["code"] == 401
    assert error["status"] == "UNAUTHENTICATED"
    assert error["errors"][0]["reason"] == "authError"
    assert "WWW-Authenticate" in response.headers


def test_a_carto_token_is_no_warehouse_token(caller):
    assert caller.get("/bigquery/v2/projects", caller.access_token()).status_code == 401


def test_an_expired_token_is_refused_for_queries(client_for, caller, sandbox):
    sandbox.set_lifetimes(dw=1)
    client = client_for(OneToken(caller.dw_token()))
    time.sleep(1.1)
    with pytest.raises(RefreshError):
        client.query_and_wait("SELECT 1", retry=None, job_retry=None)
    assert sandbox.stats().dw_unauthorized >= 1


def test_a_revoked_token_is_refused_for_queries_and_uploads(client, sandbox, table):
    load_csv(client, table, 1)
    sandbox.revoke("dw")
    with pytest.raises(RefreshError):
        client.query_and_wait("SELECT 1", retry=None, job_retry=None)
    with pytest.raises(RefreshError):
        load_csv(client, table, 100_000)


def test_a_large_upload_with_a_dead_token_gets_its_401_and_keeps_the_connection(sandbox):
    with requests.Session() as session:
        response = session.post(
            f"{sandbox.url}/upload/bigquery/v2/projects/p/jobs?uploadType=multipart",
            data=bytes(32 * 1024 * 1024),
            headers={"Authorization": "Bearer made-up"},
            timeout=30,
        )
        assert response.status_code == 401
        assert session.get(f"{sandbox.url}/config.yaml", timeout=30).status_code == 200


def test_a_client_that_renews_its_token_does_not_notice_a_revocation(client_for, caller, sandbox, table):
    client = client_for(Renewed(caller.dw_token))
    sandbox.revoke("dw")
    assert first_row(client, "SELECT 1") == (1,)
    sandbox.revoke("dw")
    load_csv(client, table, 100_000)
    assert client.get_table(table).num_rows == 100_000
    assert sandbox.stats().issued["dw"] == 3


def test_a_token_that_dies_between_two_chunks_is_refused_there(client_for, caller, sandbox, table, monkeypatch):
    monkeypatch.setattr("google.cloud.bigquery.client._DEFAULT_CHUNKSIZE", CHUNK)
    sandbox.fault("upload", status=401, skip=3, count=1)
    load_csv(client_for(Renewed(caller.dw_token)), table, 100_000)
    assert sandbox.stats().issued["dw"] == 2


def test_a_job_whose_answer_was_lost_was_started_all_the_same(client, caller, sandbox, table):
    sandbox.fault("bigquery", match=r"^POST .*/jobs$", cut="after", count=1)
    job_id = uuid.uuid4().hex
    body = {
        "jobReference": {"jobId": job_id, "projectId": sandbox.options.project_id},
        "configuration": {"query": {"query": f"CREATE TABLE `{table}` AS SELECT 1 AS n", "useLegacySql": False}},
    }
    with pytest.raises(requests.ConnectionError):
        requests.post(
            f"{sandbox.url}/bigquery/v2/projects/{sandbox.options.project_id}/jobs",
            json=body,
            headers={"Authorization": f"Bearer {caller.dw_token()}"},
            timeout=30,
        )
    assert client.get_job(job_id).result() is not None
    assert client.get_table(table).num_rows == 1


def test_an_answer_of_bigquery_can_break_off(caller, sandbox):
    token = caller.dw_token()
    sandbox.fault("bigquery", cut="body", count=1)
    with pytest.raises((requests.exceptions.ChunkedEncodingError, requests.ConnectionError)):
        caller.get(f"/bigquery/v2/projects/{sandbox.options.project_id}/datasets", token)


def test_another_sandbox_can_use_an_emulator_that_runs_already(server, make_sandbox, caller_of):
    sandbox = make_sandbox(emulator_url=server._emulator.url(), datasets=("shared", "other"))
    caller = caller_of(sandbox)
    answer = caller.get(f"/bigquery/v2/projects/{sandbox.options.project_id}/datasets", caller.dw_token())
    names = {dataset["datasetReference"]["datasetId"] for dataset in answer.json()["datasets"]}
    assert {"shared", "other"} <= names
