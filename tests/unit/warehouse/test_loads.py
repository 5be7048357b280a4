"""Loads: what is uploaded, what the job is told, and which names are tables."""

from __future__ import annotations

import base64
import datetime
import hashlib
import json
from collections.abc import Generator, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import geopandas
import pandas
import pyarrow
import pyarrow.parquet
import pyproj
import pytest
from google.cloud import bigquery
from shapely.geometry import Point

from carto_auth_integrations.errors import CallFailed
from carto_auth_integrations.waiting import Cancelled, Deadline, run
from carto_auth_integrations.warehouse import LoadOptions
from carto_auth_integrations.warehouse.jobs import JobPlan
from carto_auth_integrations.warehouse.loads import Upload, load_plan, upload_of, uris_of
from carto_auth_integrations.warehouse.parameters import query_parameters
from carto_auth_integrations.warehouse.tables import destination_of
from tests.support.accounts import account_for

PROJECT = "carto-dw-ac-1234abcd"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("shared.trips", f"{PROJECT}.shared.trips"),
        ("other-project.shared.trips", "other-project.shared.trips"),
        ("carto-dw-ac-1234abcd.private_some_one_1234.t", "carto-dw-ac-1234abcd.private_some_one_1234.t"),
        ("example.com:project.shared.trips", "example.com:project.shared.trips"),
        ("shared.trips$20240131", f"{PROJECT}.shared.trips$20240131"),
        ("shared.trips$__UNPARTITIONED__", f"{PROJECT}.shared.trips$__UNPARTITIONED__"),
        ("shared.a-b", f"{PROJECT}.shared.a-b"),
        ("shared.Fahrten in Köln", f"{PROJECT}.shared.Fahrten in Köln"),
    ],
)
def test_a_table_gets_its_full_name(text: str, expected: str) -> None:
    assert destination_of(text, PROJECT) == expected


def test_a_table_without_a_dataset_goes_into_the_default_one() -> None:
    assert destination_of("trips", PROJECT, "private_me") == f"{PROJECT}.private_me.trips"
    assert destination_of("shared.trips", PROJECT, "private_me") == f"{PROJECT}.shared.trips"


@pytest.mark.parametrize(
    "text",
    [
        "trips",
        "",
        ".",
        "shared.",
        ".trips",
        "a.b.c.d.e..f",
        "`shared`.`trips`",
        "`shared.trips`",
        "shared.trips`; DROP TABLE x; --",
        "shared.trips; DROP TABLE x",
        "shared.trips' OR '1'='1",
        'shared."trips"',
        "shared.trips\n",
        "shared\n.trips",
        "shared.trips/*",
        "shared/trips",
        "sha red.trips",
        "Project-A.shared.trips",
        "shared.trips$",
        "shared.trips$2024-01-31",
        "../shared.trips",
        "shared.tri\x00ps",
        "projects/p/datasets/d/tables/t",
        None,
        3,
        b"shared.trips",
    ],
)
def test_what_is_not_a_table_name_is_refused_and_shown(text: Any) -> None:
    with pytest.raises(ValueError, match="is not a table name") as error:
        destination_of(text, PROJECT)
    assert repr(text) in str(error.value)


def test_an_injection_does_not_hide_behind_the_default_dataset() -> None:
    for text in ("trips`; DROP TABLE x", "trips;", "", "a/b"):
        with pytest.raises(ValueError, match="is not a table name"):
            destination_of(text, PROJECT, "private_me")


def uploaded(source: Any, **options: Any) -> tuple[Upload, bytes]:
    with upload_of(source, LoadOptions(**options), Deadline()) as upload:
        return upload, upload.file.read() if upload.file else b""


class FakeApi:
    """BigQuery, as far as a load needs it: it takes note of the job's configuration, and has one dataset."""

    def __init__(self, *, fields: dict[str, Any] | None = None, failure: CallFailed | None = None) -> None:
        self.account = account_for("http://127.0.0.1:1", **(fields or {}))
        self.deadline = Deadline()
        self.told: dict[str, Any] = {}
        self.created: list[str] = []
        self._failure = failure

    def project(self) -> str:
        return PROJECT

    def reference(self, job_id: str, location: str | None) -> dict[str, Any]:
        return {"projectId": PROJECT, "jobId": job_id, "location": location}

    def dataset(self, project: str, dataset: str) -> Generator[float, None, dict[str, Any]]:
        yield 0.0
        if self._failure:
            raise self._failure
        return {"location": "europe-west1"}

    def create_dataset(self, project: str, dataset: str) -> Generator[float, None, dict[str, Any]]:
        yield 0.0
        self.created.append(f"{project}.{dataset}")
        if self._failure:
            raise self._failure
        return {}

    def insert(self, _job_id: str, _location: str | None, configuration: Any) -> Generator[float, None, None]:
        yield 0.0
        self.told = configuration


def plan_of(
    source: Any,
    destination: str = "d.t",
    *,
    labels: dict[str, str] | None = None,
    key: str | None = None,
    api: Any = None,
    **options: Any,
) -> JobPlan:
    api = api or FakeApi()
    return run(load_plan(api, source, destination, LoadOptions(**options), key=key, labels=labels, on_progress=None))


def told_of(source: Any, **options: Any) -> dict[str, Any]:
    """Return the configuration that a load job is begun with."""
    api = FakeApi()

    def send_file(_api: Any, _file: Any, resource: Any, _on_sent: Any) -> Generator[float, None, None]:
        yield 0.0
        api.told = resource["configuration"]

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("carto_auth_integrations.warehouse.loads.send_file", send_file)
        run(plan_of(source, api=api, **options).begin("job"))
    return api.told


def config_of(source: Any, **options: Any) -> dict[str, Any]:
    config: dict[str, Any] = told_of(source, **options)["load"]
    return config


def digest_of(source: Any, destination: str = "d.t", **options: Any) -> str:
    return plan_of(source, destination, **options).digest


def csv_of(tmp_path: Path, name: str = "a.csv", content: str = "id,name\n1,x\n") -> Path:
    (tmp_path / name).write_text(content)
    return tmp_path / name


def test_a_file_that_bigquery_can_read_is_sent_as_it_is(tmp_path: Path) -> None:
    path = csv_of(tmp_path)
    for source in (path, str(path)):
        upload, content = uploaded(source)
        assert (content, upload.format, upload.schema) == (path.read_bytes(), "CSV", None)


def test_the_schema_of_text_is_left_to_bigquery_unless_given(tmp_path: Path) -> None:
    assert config_of(csv_of(tmp_path))["autodetect"] is True
    schema = [bigquery.SchemaField("id", "INTEGER")]
    config = config_of(csv_of(tmp_path), schema=schema)
    assert config["schema"]["fields"][0]["name"] == "id"
    assert not config.get("autodetect")


@pytest.mark.parametrize("schema", [None, [bigquery.SchemaField("a", "STRING"), bigquery.SchemaField("b", "STRING")]])
def test_the_header_of_a_csv_file_is_never_a_row(tmp_path: Path, schema: Any) -> None:
    """Without `skipLeadingRows`, detection takes the header of a file that holds only text for a row.

    https://cloud.google.com/bigquery/docs/reference/rest/v2/Job#JobConfigurationLoad.FIELDS.skip_leading_rows
    """
    assert config_of(csv_of(tmp_path, content="a,b\nx,y\n"), schema=schema)["skipLeadingRows"] == "1"


def test_a_file_with_tabs_is_read_with_tabs(tmp_path: Path) -> None:
    path = csv_of(tmp_path, "a.tsv", "id\tname\n1\tx\n")
    assert config_of(path, schema=[bigquery.SchemaField("id", "INTEGER")]).get("fieldDelimiter") == "\t"


def test_uris_are_left_in_cloud_storage() -> None:
    upload, _ = uploaded("gs://bucket/a.parquet")
    assert (upload.file, upload.uris, upload.format) == (None, ("gs://bucket/a.parquet",), "PARQUET")
    upload, _ = uploaded(["gs://bucket/a.csv", "gs://bucket/b.csv.gz"])
    assert (upload.uris, upload.format) == (("gs://bucket/a.csv", "gs://bucket/b.csv.gz"), "CSV")
    assert uploaded("gs://bucket/part-*", format="json")[0].format == "NEWLINE_DELIMITED_JSON"


@pytest.mark.parametrize("uris", ["gs://bucket/a", ["gs://b/a.csv", "gs://b/a.avro"], "gs://b/a.geojson", "gs://b/*"])
def test_uris_whose_format_is_not_clear_are_an_error(uris: Any) -> None:
    with pytest.raises(ValueError, match="format is not clear"):
        uploaded(uris)


def test_uris_and_files_are_not_mixed(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="can only hold gs:// URIs"):
        uploaded(["gs://bucket/a.csv", str(csv_of(tmp_path))])


@pytest.mark.parametrize("source", [3, None, object()])
def test_what_cannot_be_loaded_is_refused_with_its_type(source: Any) -> None:
    with pytest.raises(TypeError, match=f"{type(source).__name__} cannot be loaded"):
        uploaded(source)


def parquet_of(source: Any, **options: Any) -> pyarrow.parquet.ParquetFile:
    return pyarrow.parquet.ParquetFile(pyarrow.BufferReader(uploaded(source, **options)[1]))


def test_rows_are_sent_as_parquet() -> None:
    upload, content = uploaded([{"a": 1}, {"a": 2}])
    assert (upload.format, content[:4]) == ("PARQUET", b"PAR1")
    assert parquet_of([{"a": 1}, {"a": 2}]).read().to_pylist() == [{"a": 1}, {"a": 2}]


def test_lists_in_parquet_are_read_as_lists() -> None:
    assert config_of([{"a": [1, 2]}])["parquetOptions"] == {"enableListInference": True}


@pytest.mark.parametrize("zone", [None, "Europe/Madrid"])
def test_timestamps_are_sent_in_microseconds_which_is_what_bigquery_has(zone: str | None) -> None:
    moments = pandas.Series(pandas.to_datetime(["2024-01-01T01:02:03.000004005"])).astype("datetime64[ns]")
    frame = pandas.DataFrame({"at": moments.dt.tz_localize(zone)})
    for source in (frame, pyarrow.table({"at": pyarrow.array(moments, pyarrow.timestamp("ns", zone))})):
        assert parquet_of(source).schema_arrow.field("at").type.unit == "us"


def test_with_geometry_the_schema_names_all_columns() -> None:
    frame = geopandas.GeoDataFrame({"n": [1], "name": ["x"]}, geometry=[Point(1, 2)], crs=4326)
    fields = config_of(frame)["schema"]["fields"]
    assert [(field["name"], field["type"]) for field in fields] == [
        ("n", "INTEGER"),
        ("name", "STRING"),
        ("geometry", "GEOGRAPHY"),
    ]


def test_an_explicit_schema_is_used() -> None:
    schema = [bigquery.SchemaField("n", "NUMERIC"), bigquery.SchemaField("geometry", "GEOGRAPHY")]
    frame = geopandas.GeoDataFrame({"n": [1]}, geometry=[Point(1, 2)], crs=4326)
    assert [field["type"] for field in config_of(frame, schema=schema)["schema"]["fields"]] == ["NUMERIC", "GEOGRAPHY"]


def test_geometry_in_plain_parquet_is_converted_if_it_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"at": [Point(-412305.1, 4926678.0).wkb]}), path)
    fields = config_of(path, geometry=("at",), crs="EPSG:3857")["schema"]["fields"]
    assert fields[0]["type"] == "GEOGRAPHY"
    (row,) = parquet_of(path, geometry=("at",), crs="EPSG:3857").read().to_pylist()
    assert row["at"].startswith("POINT (-3.70")


def test_a_source_that_raises_half_way_leaves_no_upload() -> None:
    def rows() -> Iterator[dict[str, int]]:
        yield {"x": 1}
        raise RuntimeError("half-way")

    with pytest.raises(RuntimeError, match="half-way"), upload_of(rows(), LoadOptions(), Deadline()):
        pytest.fail("there is nothing to send")


def test_options_are_passed_to_the_job(tmp_path: Path) -> None:
    config = config_of(
        csv_of(tmp_path),
        write_disposition="WRITE_TRUNCATE",
        create_disposition="CREATE_NEVER",
        partitioning=bigquery.TimePartitioning(field="day", type_="MONTH"),
        clustering=("id", "name"),
    )
    assert config["writeDisposition"] == "WRITE_TRUNCATE"
    assert config["createDisposition"] == "CREATE_NEVER"
    assert config["timePartitioning"] == {"field": "day", "type": "MONTH"}
    assert config["clustering"] == {"fields": ["id", "name"]}


def test_partitions_by_range_are_passed_to_the_job(tmp_path: Path) -> None:
    by_range = bigquery.RangePartitioning(field="id", range_=bigquery.PartitionRange(start=0, end=100, interval=10))
    config = config_of(csv_of(tmp_path), partitioning=by_range)
    assert config["rangePartitioning"] == {"field": "id", "range": {"start": "0", "end": "100", "interval": "10"}}
    assert "timePartitioning" not in config


def never_read() -> Iterator[dict[str, Any]]:
    raise AssertionError("a plan does not read its source")
    yield {}


def test_a_plan_does_not_read_its_source(tmp_path: Path) -> None:
    plan_of(never_read())
    plan_of(tmp_path / "nothing.csv")


def test_only_strings_that_begin_so_are_uris_of_cloud_storage(tmp_path: Path) -> None:
    assert uris_of("gs://b/1") == uris_of(["gs://b/1"]) == ("gs://b/1",)
    for source in ("a.csv", tmp_path, [{"a": 1}], (), None, 3):
        assert uris_of(source) == ()


# Labels, digest and location


def test_the_labels_hold_the_digest_and_the_name_of_the_file(tmp_path: Path) -> None:
    plan = plan_of(csv_of(tmp_path, "Visits (1).csv"))
    labels = told_of(csv_of(tmp_path, "Visits (1).csv"), labels={"DAG Id": "Nightly"})["labels"]
    assert labels == {"dag_id": "nightly", "carto-digest": plan.digest, "carto-source": "visits__1__csv"}
    assert plan.source == "visits__1__csv"


@pytest.mark.parametrize("source", ["gs://bucket/a.csv", ["gs://bucket/a.csv"], [{"a": 1}]])
def test_what_is_no_local_file_has_no_name(source: Any) -> None:
    assert plan_of(source).source is None
    assert "carto-source" not in told_of(source)["labels"]


def test_the_digest_is_the_same_in_every_release() -> None:
    """A retry may run in a later release than the try before it: this text must never change."""
    told = {
        "createDisposition": "CREATE_IF_NEEDED",
        "destinationTable": {"datasetId": "d", "projectId": PROJECT, "tableId": "t"},
        "writeDisposition": "WRITE_APPEND",
    }
    text = json.dumps({"load": {"createDisposition": told["createDisposition"], "crs": "", **told}}, sort_keys=True)
    expected = base64.b32encode(hashlib.sha256(text.replace(", ", ",").replace(": ", ":").encode()).digest())
    assert digest_of([{"a": 1}]) == expected.decode().rstrip("=").lower()


def test_where_the_file_lies_is_not_in_the_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path)
    sources = ["a.csv", Path("a.csv"), tmp_path / "a.csv", tmp_path / "other" / "a.csv"]
    assert len({digest_of(source) for source in sources}) == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"clustering": ["a"]}, {"clustering": ("a",)}),
        ({"geometry": "at"}, {"geometry": ["at"]}),
        ({}, {"clustering": ()}),
        ({}, {"labels": {"try": "2"}}),
        ({}, {"key": "other"}),
        ({"partitioning": bigquery.TimePartitioning("DAY")}, {"partitioning": bigquery.TimePartitioning("DAY")}),
        ({"schema": [bigquery.SchemaField("a", "STRING")]}, {"schema": (bigquery.SchemaField("a", "STRING"),)}),
        ({"crs": "EPSG:3857"}, {"crs": pyproj.CRS("EPSG:3857")}),
    ],
)
def test_what_may_differ_between_tries_is_not_in_the_digest(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert digest_of([{"a": 1}], **one) == digest_of([{"a": 1}], **other)


@pytest.mark.parametrize(
    "options",
    [
        {"destination": "d.other"},
        {"write_disposition": "WRITE_TRUNCATE"},
        {"create_disposition": "CREATE_NEVER"},
        {"format": "CSV"},
        {"schema": [bigquery.SchemaField("a", "STRING")]},
        {"geometry": "a"},
        {"crs": "EPSG:3857"},
        {"clustering": ["a"]},
        {"partitioning": bigquery.TimePartitioning("DAY")},
    ],
)
def test_what_the_load_does_is_in_the_digest(options: dict[str, Any]) -> None:
    assert digest_of([{"a": 1}], **options) != digest_of([{"a": 1}])


def test_the_order_of_clustering_columns_is_in_the_digest() -> None:
    assert digest_of([{"a": 1}], clustering=["a", "b"]) != digest_of([{"a": 1}], clustering=["b", "a"])


def test_the_uris_are_in_the_digest() -> None:
    assert len({digest_of(uris) for uris in ("gs://b/1.csv", "gs://b/2.csv", ["gs://b/1.csv", "gs://b/2.csv"])}) == 3
    assert digest_of("gs://b/1.csv") == digest_of(["gs://b/1.csv"])


def failed(status: int) -> CallFailed:
    return CallFailed(f"answered {status}", transient=False, status=status)


def test_a_load_runs_in_the_accounts_location_or_where_its_dataset_is() -> None:
    assert plan_of([{"a": 1}]).location == "europe-west1"
    assert plan_of([{"a": 1}], api=FakeApi(fields={"location": "EU"}, failure=failed(500))).location == "EU"
    assert plan_of([{"a": 1}], api=FakeApi(failure=failed(403))).location is None, "a dataset that may not be seen"


def test_a_dataset_that_does_not_exist_is_an_error_before_the_upload() -> None:
    with pytest.raises(CallFailed, match="404"):
        plan_of(never_read(), api=FakeApi(failure=failed(404)))


def test_a_dataset_is_created_if_that_is_wanted_and_may_exist() -> None:
    api = FakeApi(fields={"location": "EU"})
    plan_of([{"a": 1}], "other-project.d.t", api=api, create_dataset=True)
    assert api.created == ["other-project.d"]
    plan_of([{"a": 1}], api=FakeApi(fields={"location": "EU"}, failure=failed(409)), create_dataset=True)
    with pytest.raises(CallFailed, match="403"):
        plan_of([{"a": 1}], api=FakeApi(fields={"location": "EU"}, failure=failed(403)), create_dataset=True)


@pytest.mark.parametrize(("source", "state"), [([{"a": 1}], "UPLOADING"), ("gs://b/a.csv", "PENDING")])
def test_the_first_state_says_whether_there_is_an_upload(source: Any, state: str) -> None:
    assert plan_of(source).first_state == state


# Deadlines


def test_reading_a_source_ends_at_the_deadline() -> None:
    with pytest.raises(TimeoutError, match="still being read"), upload_of([{"a": 1}], LoadOptions(), Deadline(0)):
        pytest.fail("there is nothing to send")


def test_reading_a_source_ends_when_the_caller_is_cancelled() -> None:
    deadline = Deadline()
    deadline.cancel()
    with pytest.raises(Cancelled), upload_of([{"a": 1}], LoadOptions(), deadline):
        pytest.fail("there is nothing to send")


# Rows and parameters


@pytest.mark.parametrize("source", ["table", "frame"])
def test_small_pieces_are_gathered_into_row_groups_of_some_size(source: str) -> None:
    piece: Any = pyarrow.table({"x": [1]})
    pieces = (piece if source == "table" else piece.to_pandas() for _ in range(1000))
    file = parquet_of(pieces)
    assert file.metadata.num_rows == 1000
    assert file.metadata.num_row_groups < 100, "small row groups grow the file and slow the load"


@pytest.mark.parametrize(
    ("value", "expected"),
    [(True, "BOOL"), (1, "INT64"), (1.5, "FLOAT64"), ("x", "STRING"), (b"x", "BYTES")],
)
def test_parameters_get_their_type_from_the_value(value: Any, expected: str) -> None:
    (named,) = query_parameters({"p": value})
    (placed,) = query_parameters([value])
    assert (named.name, named.type_, placed.name, placed.type_) == ("p", expected, None, expected)


def test_googles_own_parameters_stay_as_they_are() -> None:
    own = bigquery.ScalarQueryParameter("p", "GEOGRAPHY", "POINT(1 2)")
    assert query_parameters([own]) == [own]
    assert query_parameters({"p": own}) == [own]


@pytest.mark.parametrize("value", [None, [], object(), [1, "x"], {"a": 1}, [[1]], {1, 2}])
def test_parameters_without_a_type_are_refused_with_their_name(value: Any) -> None:
    with pytest.raises(TypeError, match="since"):
        query_parameters({"since": value})


@pytest.mark.parametrize(
    "value",
    [True, -7, 1.5, "Köln", b"\x00\xff", Decimal("1.500000001"), datetime.date(2024, 2, 29), [1, 2], ["a"]],
)
def test_parameters_are_sent_as_google_sends_them(value: Any) -> None:
    (ours,) = query_parameters({"p": value})
    kind = ours.type_
    if isinstance(value, list):
        theirs: Any = bigquery.ArrayQueryParameter("p", kind, value)
    else:
        theirs = bigquery.ScalarQueryParameter("p", kind, value)
    assert ours.to_api_repr() == theirs.to_api_repr()


def test_the_configuration_can_be_sent(tmp_path: Path) -> None:
    json.dumps(config_of(csv_of(tmp_path), clustering=("id",)))
