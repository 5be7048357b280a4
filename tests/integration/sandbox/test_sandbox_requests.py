"""Every request that this package sends to BigQuery is as Google's description of the API has it."""

from __future__ import annotations

import datetime as dt
import uuid
from decimal import Decimal

import pytest

pytest.importorskip("googleapiclient")
bigquery = pytest.importorskip("google.cloud.bigquery")
pa = pytest.importorskip("pyarrow")
geopandas = pytest.importorskip("geopandas")
shapely = pytest.importorskip("shapely")

from flask import request  # noqa: E402 - after the checks that they are there

from carto_auth_integrations.sandbox import bigquery_proxy  # noqa: E402
from tests.support.accounts import auth_for  # noqa: E402
from tests.support.discovery import Request, problems_of, problems_of_request  # noqa: E402


@pytest.fixture
def sent(monkeypatch):
    """The requests that have reached BigQuery."""
    requests, body_of = [], bigquery_proxy._request_body

    def recorded():
        blocks = body_of()
        body = b"" if blocks is None else b"".join(blocks)
        requests.append(Request(request.method, request.full_path.rstrip("?"), request.content_type or "", body))
        return iter([body]) if blocks is not None else None

    monkeypatch.setattr(bigquery_proxy, "_request_body", recorded)
    return requests


@pytest.fixture
def warehouse(sandbox, tmp_path, sent):
    sandbox.start_emulator()
    return auth_for(sandbox, tmp_path).warehouse()


@pytest.fixture
def table():
    return f"shared.t_{uuid.uuid4().hex}"


def all_problems(sent):
    return [problem for each in sent for problem in problems_of_request(each)]


ROWS = [
    {"id": 1, "name": "a", "price": Decimal("1.10"), "on": dt.date(2024, 1, 1), "tags": ["x"], "rec": {"n": 1}},
    {"id": 2, "name": None, "price": None, "on": None, "tags": [], "rec": None},
]


def test_loads_are_as_the_api_describes_them(warehouse, sent, table):
    warehouse.load(ROWS, table, labels={"team": "geo"}, idempotency_key="k1")
    warehouse.load(pa.table({"id": [1, 2]}), f"{table}_arrow", write_disposition="WRITE_TRUNCATE", clustering=("id",))
    day = bigquery.TimePartitioning(field="on")
    warehouse.load(ROWS, f"{table}_days", partitioning=day, create_disposition="CREATE_IF_NEEDED")
    frame = geopandas.GeoDataFrame({"n": [1]}, geometry=[shapely.box(0, 0, 1, 1)], crs=4326)
    warehouse.load(frame, f"{table}_shapes")
    warehouse.load(pa.table({"id": [3]}), f"new_{uuid.uuid4().hex}.t", create_dataset=True)
    assert sum("/upload/" in each.target and not each.is_data for each in sent) == 5
    assert all_problems(sent) == []


def test_queries_are_as_the_api_describes_them(warehouse, sent, table):
    parameters = {"n": 1, "s": "x", "day": dt.date(2024, 1, 1), "all": [1, 2], "price": Decimal("1.1"), "rec": {"a": 1}}
    selected = ", ".join(f"@{name}" for name in parameters)
    warehouse.query(f"SELECT {selected}", parameters=parameters, labels={"team": "geo"}, idempotency_key="q1")
    warehouse.query("SELECT ?", parameters=[1])
    warehouse.query("SELECT 1 AS n", destination=table, write_disposition="WRITE_TRUNCATE", max_rows=5)
    job = warehouse.query("SELECT 2 AS n")
    warehouse.cancel(job.job_id, job.location)
    assert sum(each.target.rpartition("/")[2].startswith(("jobs", "queries")) for each in sent if each.body) >= 4
    assert all_problems(sent) == []


def test_costs_are_as_the_api_describes_them(warehouse, sent):
    warehouse.query("SELECT 1", maximum_bytes_billed=10**9, priority="BATCH", use_query_cache=False)
    warehouse.query("SELECT 1", dry_run=True)
    assert any(b"maximumBytesBilled" in each.body for each in sent)
    assert all_problems(sent) == []


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ({"configuration": {"load": {"sourceFormats": "CSV"}}}, "sourceFormats: unknown"),
        ({"configuration": {"load": {"columnNameCharacterMap": "V3"}}}, "none of"),
        ({"configuration": {"load": {"skipLeadingRows": "1"}}}, "no integer"),
        ({"configuration": {"load": {"autodetect": "true"}}}, "no boolean"),
        ({"configuration": {"load": {"sourceUris": "gs://b/x"}}}, "no array"),
        ({"configuration": {"query": {"maximumBytesBilled": "1 GB"}}}, "no string"),
        ({"configuration": {"labels": {"k": 1}}}, "no string"),
        ({"id": "x"}, "only BigQuery"),
    ],
)
def test_the_check_finds_what_is_wrong(body, problem):
    (found,) = problems_of("Job", body)
    assert problem in found


def test_the_check_knows_paths_and_parameters():
    ok = Request("GET", "/bigquery/v2/projects/p/jobs/j?location=EU", "", b"")
    assert problems_of_request(ok) == []
    assert problems_of_request(Request("GET", "/bigquery/v2/projects/p/jobs/j?place=EU", "", b"")) != []
    assert problems_of_request(Request("GET", "/bigquery/v2/projects/p/job/j", "", b"")) != []
    assert (
        problems_of_request(Request("POST", "/bigquery/v2/projects/p/queries", "application/json", b'{"sql": ""}'))
        != []
    )
