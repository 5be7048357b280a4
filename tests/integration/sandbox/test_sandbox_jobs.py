"""Jobs of the sandbox: configuration, ids, locations, costs and uploads are as strict as BigQuery's."""

from __future__ import annotations

import io
import json
import threading
import uuid

import pytest
import requests

bigquery = pytest.importorskip("google.cloud.bigquery")
pa = pytest.importorskip("pyarrow")

from google.api_core import exceptions  # noqa: E402 - after the check that it is there

from tests.support.sandbox_loads import Loaded, Loader  # noqa: E402 - after the check that it is there

GRAIN = 256 * 1024
SCHEMA = [bigquery.SchemaField("n", "INT64"), bigquery.SchemaField("s", "STRING")]


class Rest:
    """BigQuery's REST API without a client that knows better."""

    def __init__(self, loader):
        self.loader = loader
        self.base = f"{loader.url}/bigquery/v2/projects/{loader.project}"

    def query(self, **body):
        return requests.post(f"{self.base}/queries", json=body, headers=self.loader.headers, timeout=30)

    def insert(self, configuration, **reference):
        body = {"configuration": configuration, "jobReference": {"projectId": self.loader.project, **reference}}
        return requests.post(f"{self.base}/jobs", json=body, headers=self.loader.headers, timeout=30)

    def job(self, job_id, **query):
        return requests.get(f"{self.base}/jobs/{job_id}", params=query, headers=self.loader.headers, timeout=30)

    def load_of(self, table, **options):
        project, dataset, name = table.split(".")
        destination = {"projectId": project, "datasetId": dataset, "tableId": name}
        fields = [{"name": "n", "type": "INT64"}, {"name": "s", "type": "STRING"}]
        return {
            "load": {"sourceFormat": "CSV", "destinationTable": destination, "schema": {"fields": fields}, **options}
        }

    def begin(self, configuration, **reference):
        return requests.post(
            f"{self.loader.url}/upload/bigquery/v2/projects/{self.loader.project}/jobs?uploadType=resumable",
            json={"configuration": configuration, "jobReference": {"projectId": self.loader.project, **reference}},
            headers=self.loader.headers,
            timeout=30,
        )

    def put(self, url, data, content_range):
        headers = {**self.loader.headers, "Content-Range": content_range}
        return requests.put(url, data=data, headers=headers, timeout=30)


@pytest.fixture
def rest(loader):
    return Rest(loader)


def reason_of(response):
    return response.json()["error"]["errors"][0]["reason"]


def test_a_query_without_use_legacy_sql_is_refused(rest):
    for body in ({}, {"useLegacySql": True}):
        response = rest.query(query="SELECT 1", **body)
        assert (response.status_code, reason_of(response)) == (400, "invalid")
        assert "legacy SQL is not supported here" in response.json()["error"]["message"]
    assert rest.query(query="SELECT 1", useLegacySql=False).status_code == 200
    assert rest.insert({"query": {"query": "SELECT 1"}}).status_code == 400


def test_a_used_id_is_a_duplicate_whatever_the_body(loader):
    first, failed = uuid.uuid4().hex, uuid.uuid4().hex
    assert isinstance(loader.load("1,a\n", "CSV", SCHEMA, job_id=first), Loaded)
    assert loader.load("x,a\n", "CSV", SCHEMA, job_id=failed).reason == "invalid"
    for job_id in (first, failed):
        again = loader.load([{"n": 1}], schema=SCHEMA, job_id=job_id, labels={"Not": "valid"})
        assert (again.status, again.reason) == (409, "duplicate")
        assert f"Already Exists: Job {loader.project}:US.{job_id}" in again.message


def test_of_two_jobs_with_one_id_at_once_one_is_made(rest):
    job_id, statuses = uuid.uuid4().hex, []
    configuration = {"query": {"query": "SELECT 1", "useLegacySql": False}}

    def insert():
        statuses.append(rest.insert(configuration, jobId=job_id).status_code)

    threads = [threading.Thread(target=insert) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [200] + [409] * 7


@pytest.mark.parametrize(
    "labels",
    [
        {f"k{number}": "" for number in range(65)},
        {"Key": "v"},
        {"key": "Value"},
        {"1key": "v"},
        {"": "v"},
        {"k" * 64: "v"},
        {"key": "v" * 64},
        {"key": "a b"},
    ],
)
def test_labels_that_bigquery_does_not_take_are_refused(rest, labels):
    query = {"query": {"query": "SELECT 1", "useLegacySql": False}, "labels": labels}
    assert (rest.insert(query).status_code, reason_of(rest.insert(query))) == (400, "invalid")
    assert rest.query(query="SELECT 1", useLegacySql=False, labels=labels).status_code == 400


def test_labels_at_their_limits_are_taken(rest):
    labels = {"k" * 63: "v" * 63, "é_1-": "", **{f"k{number}": "0" for number in range(62)}}
    assert rest.query(query="SELECT 1", useLegacySql=False, labels=labels).status_code == 200


@pytest.mark.parametrize(
    "options",
    [
        {"sourceFormat": "XML"},
        {"writeDisposition": "APPEND"},
        {"createDisposition": "NEVER"},
        {"encoding": "UTF-7"},
        {"fieldDelimiter": "||"},
        {"jsonExtension": "GEOJSON"},
        {"columnNameCharacterMap": "V2"},
        {"decimalTargetTypes": ["DECIMAL"]},
        {"maxBadRecords": -1},
        {"nullMarker": "x", "nullMarkers": ["y"]},
        {"schema": {"fields": [{"name": "a", "type": "TEXT"}]}},
        {"schema": {"fields": [{"name": "a", "type": "RECORD"}]}},
        {"schema": {"fields": [{"name": "a", "type": "INT64", "mode": "OPTIONAL"}]}},
        {"clustering": {"fields": ["n", "n", "n", "n", "n"]}},
        {"timePartitioning": {"type": "DAY", "field": "n"}},
    ],
)
def test_a_bad_configuration_is_refused_before_the_upload(rest, options):
    response = rest.begin(rest.load_of(rest.loader.new_table(), **options))
    assert (response.status_code, reason_of(response)) == (400, "invalid")


@pytest.mark.parametrize("job_id", ["a b", "é", "x" * 1025])
def test_a_job_id_of_other_characters_is_refused(rest, job_id):
    response = rest.insert({"query": {"query": "SELECT 1", "useLegacySql": False}}, jobId=job_id)
    assert (response.status_code, reason_of(response)) == (400, "invalid")


def test_a_job_is_found_in_its_location_alone(rest):
    job_id = uuid.uuid4().hex
    rest.insert({"query": {"query": "SELECT 1", "useLegacySql": False}}, jobId=job_id)
    assert [rest.job(job_id, **query).status_code for query in ({}, {"location": "us"}, {"location": "EU"})] == [
        200,
        200,
        404,
    ]
    assert reason_of(rest.job(job_id, location="EU")) == "notFound"


def test_a_job_of_a_region_needs_the_location(rest, loader):
    name = f"madrid_{uuid.uuid4().hex[:8]}"
    dataset = bigquery.Dataset(f"{loader.project}.{name}")
    dataset.location = "europe-southwest1"
    loader.client.create_dataset(dataset)
    table, job_id = f"{loader.project}.{name}.t", uuid.uuid4().hex
    assert isinstance(loader.load("1,a\n", "CSV", SCHEMA, table=table, job_id=job_id), Loaded)
    assert rest.job(job_id).status_code == 404
    assert rest.job(job_id, location="europe-southwest1").json()["jobReference"]["location"] == "europe-southwest1"
    elsewhere = rest.query(query=f"SELECT * FROM `{table}`", useLegacySql=False, location="US")
    assert (elsewhere.status_code, reason_of(elsewhere)) == (404, "notFound")
    assert rest.insert(rest.load_of(table, sourceUris=["gs://b/x.csv"]), location="EU").status_code == 404


def test_a_dry_run_estimates_and_makes_no_job(rest, loader):
    table, job_id = loader.new_table(), uuid.uuid4().hex
    loader.load("1,a\n2,b\n", "CSV", SCHEMA, table=table)
    config = bigquery.QueryJobConfig(dry_run=True)
    job = loader.client.query(f"SELECT * FROM `{table}`", config, job_id=job_id, job_retry=None)
    assert job.total_bytes_processed == 2 * 2 * 8
    assert rest.job(job_id).status_code == 404
    assert (
        rest.query(query=f"SELECT n FROM `{table}`", useLegacySql=False, dryRun=True).json()["totalBytesProcessed"]
        == "32"
    )
    wrong = rest.query(query=f"SELECT nope FROM `{table}`", useLegacySql=False, dryRun=True)
    assert (wrong.status_code, reason_of(wrong)) == (400, "invalidQuery")


def test_a_query_above_its_limit_of_bytes_fails(rest, loader):
    table = loader.new_table()
    loader.load("1,a\n", "CSV", SCHEMA, table=table)
    select = {"query": f"SELECT * FROM `{table}`", "useLegacySql": False}
    refused = rest.query(**select, maximumBytesBilled="1000")
    assert (refused.status_code, reason_of(refused)) == (400, "bytesBilledLimitExceeded")
    assert "10485760 or higher required" in refused.json()["error"]["message"]
    assert rest.query(**select, maximumBytesBilled="10485760").status_code == 200
    assert rest.query(query="SELECT 1", useLegacySql=False, maximumBytesBilled="1").status_code == 200


def test_priority_and_cache_are_accepted(rest):
    for options in ({"priority": "BATCH"}, {"priority": "INTERACTIVE"}, {"useQueryCache": False}):
        configuration = {"query": {"query": "SELECT 1", "useLegacySql": False, **options}}
        assert rest.insert(configuration).status_code == 200
    assert rest.insert({"query": {"query": "SELECT 1", "useLegacySql": False, "priority": "HIGH"}}).status_code == 400


def test_a_request_that_is_sent_twice_is_answered_twice(rest):
    request_id = uuid.uuid4().hex
    answers = [rest.query(query="SELECT 7 AS n", useLegacySql=False, requestId=request_id) for _ in range(2)]
    assert [answer.json()["rows"] for answer in answers] == [[{"f": [{"v": "7"}]}]] * 2
    assert rest.query(query="SELECT 8 AS n", useLegacySql=False, requestId=request_id).status_code == 409


def test_a_required_column_may_be_relaxed(loader):
    table = loader.new_table()
    strict, relaxed = ([bigquery.SchemaField("n", "INT64", mode)] for mode in ("REQUIRED", "NULLABLE"))
    loader.load([{"n": 1}], schema=strict, table=table)
    assert "REQUIRED to NULLABLE" in loader.load([{"n": None}], schema=relaxed, table=table).message
    options = {"schema_update_options": ["ALLOW_FIELD_RELAXATION"]}
    assert loader.load([{"n": None}], schema=relaxed, table=table, **options).columns == ["n INTEGER NULLABLE"]


def test_one_partition_cannot_be_loaded_here(loader):
    refused = loader.load("1,a\n", "CSV", SCHEMA, table=f"{loader.new_table()}$20240101")
    assert (refused.status, refused.reason) == (501, "notImplemented")


@pytest.mark.parametrize("name", ["My table", "tábla 表", "a-b_1"])
def test_table_names_of_any_script_go_through(loader, name):
    table = f"{loader.project}.shared.{name} {uuid.uuid4().hex}"
    assert loader.load("1,a\n", "CSV", SCHEMA, table=table).rows == [(1, "a")]
    (row,) = loader.client.query_and_wait(f"SELECT COUNT(*) FROM `{table}`")
    assert row[0] == 1
    loader.client.delete_table(table)


def test_a_part_that_is_sent_twice_is_stored_once(rest, loader):
    table = loader.new_table()
    content = b"".join(b"%d,%s\n" % (number, b"x" * 50) for number in range(6000))
    first, rest_of_it = content[:GRAIN], content[GRAIN:]
    url = rest.begin(rest.load_of(table)).headers["Location"]
    for _ in range(2):
        response = rest.put(url, first, f"bytes 0-{GRAIN - 1}/*")
        assert (response.status_code, response.headers["Range"]) == (308, f"bytes=0-{GRAIN - 1}")
    beyond = rest.put(url, b"x" * GRAIN, f"bytes {2 * GRAIN}-{3 * GRAIN - 1}/*")
    assert (beyond.status_code, beyond.headers["Range"]) == (308, f"bytes=0-{GRAIN - 1}")
    last = rest.put(url, rest_of_it, f"bytes {GRAIN}-{len(content) - 1}/{len(content)}")
    assert last.status_code == 200
    job_id = last.json()["jobReference"]["jobId"]
    assert loader.client.get_job(job_id).result().output_rows == 6000
    assert rest.put(url, b"", f"bytes */{len(content)}").json()["jobReference"]["jobId"] == job_id


def test_the_state_of_an_upload_can_be_asked(rest):
    url = rest.begin(rest.load_of(rest.loader.new_table())).headers["Location"]
    assert "Range" not in rest.put(url, b"", "bytes */*").headers
    rest.put(url, b"x" * GRAIN, f"bytes 0-{GRAIN - 1}/*")
    assert rest.put(url, b"", "bytes */1000000").headers["Range"] == f"bytes=0-{GRAIN - 1}"


def test_a_part_of_another_size_is_refused(rest):
    url = rest.begin(rest.load_of(rest.loader.new_table())).headers["Location"]
    assert rest.put(url, b"x" * 1000, "bytes 0-999/*").status_code == 400


def test_an_unknown_upload_is_not_found(rest):
    url = f"{rest.loader.url}/upload/bigquery/v2/projects/{rest.loader.project}/jobs?uploadType=resumable&upload_id=x"
    assert rest.put(url, b"", "bytes */*").status_code == 404


def test_a_multipart_upload_keeps_every_byte(rest, loader):
    table = loader.new_table()
    content = b'1,"--b\r\n"\r\n2,--b--\r\n'
    job = {"configuration": rest.load_of(table, allowQuotedNewlines=True)}
    body = b"--b\r\nContent-Type: application/json\r\n\r\n" + json.dumps(job).encode()
    body += b"\r\n--b\r\nContent-Type: */*\r\n\r\n" + content + b"\r\n--b--\r\n"
    response = requests.post(
        f"{loader.url}/upload/bigquery/v2/projects/{loader.project}/jobs?uploadType=multipart",
        data=body,
        headers={**loader.headers, "Content-Type": 'multipart/related; boundary="b"'},
        timeout=30,
    )
    assert response.status_code == 200
    loader.client.get_job(response.json()["jobReference"]["jobId"]).result()
    assert [tuple(row.values()) for row in loader.client.list_rows(table)] == [(1, "--b\r\n"), (2, "--b--")]


def test_what_the_sandbox_cannot_do_is_not_implemented(rest):
    cannot = rest.begin(rest.load_of(rest.loader.new_table(), sourceFormat="PARQUET", columnNameCharacterMap="V2"))
    assert (cannot.status_code, reason_of(cannot)) == (501, "notImplemented")


@pytest.fixture
def lenient(make_sandbox, caller_of):
    sandbox = make_sandbox(strict=False)
    return Loader(sandbox, caller_of(sandbox).dw_token())


def test_a_lenient_sandbox_takes_what_bigquery_refuses(lenient):
    clockwise = [{"g": "POLYGON((0 0,0 1,1 1,1 0,0 0))"}, {"g": '{"type": "Point", "coordinates": [1, 2]}'}]
    loaded = lenient.load(clockwise, schema=[bigquery.SchemaField("g", "GEOGRAPHY")], labels={"Key": "v"})
    assert loaded.rows[1] == ("POINT(1 2)",)
    assert Rest(lenient).query(query="SELECT 1").status_code == 200


def test_a_failed_job_raises_googles_own_error(loader):
    table = loader.new_table()
    config = bigquery.LoadJobConfig(source_format="CSV", schema=SCHEMA)
    job = loader.client.load_table_from_file(io.BytesIO(b"x,a\n"), table, size=4, job_config=config)
    with pytest.raises(exceptions.BadRequest):
        job.result()
    assert job.state == "DONE"
    assert job.error_result["reason"] == "invalid"
    assert job.output_rows in (None, 0)
