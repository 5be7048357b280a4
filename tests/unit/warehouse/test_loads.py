"""Loads: what is uploaded, what the job is told, and which names are tables."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Generator, Iterator
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
from carto_auth_integrations.warehouse.loads import load_plan, uris_of
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


def begun(source: Any, *, deadline: Deadline | None = None, **options: Any) -> tuple[dict[str, Any], bytes]:
    """Return the configuration that a load job is begun with, and what is sent."""
    api = FakeApi()
    api.deadline = deadline or api.deadline
    sent: list[bytes] = []

    def send_file(_api: Any, file: Any, resource: Any, _on_sent: Any) -> Generator[float, None, None]:
        yield 0.0
        sent.append(file.read())
        api.told = resource["configuration"]

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("carto_auth_integrations.warehouse.loads.send_file", send_file)
        run(plan_of(source, api=api, **options).begin("job"))
    return api.told, b"".join(sent)


def told_of(source: Any, **options: Any) -> dict[str, Any]:
    return begun(source, **options)[0]


def config_of(source: Any, **options: Any) -> dict[str, Any]:
    config: dict[str, Any] = told_of(source, **options)["load"]
    return config


def digest_of(source: Any, destination: str = "d.t", **options: Any) -> str:
    return plan_of(source, destination, **options).digest


def csv_of(tmp_path: Path, name: str = "a.csv", content: str = "id,name\n1,x\n") -> Path:
    (tmp_path / name).write_text(content)
    return tmp_path / name


def test_a_parquet_file_of_plain_types_is_sent_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"id": [1], "name": ["x"]}), path)
    for source in (path, str(path)):
        told, content = begun(source)
        assert (content, told["load"]["sourceFormat"]) == (path.read_bytes(), "PARQUET")
        assert [field["type"] for field in told["load"]["schema"]["fields"]] == ["INTEGER", "STRING"]


def test_a_csv_file_is_read_here_and_its_schema_is_told(tmp_path: Path) -> None:
    config = config_of(csv_of(tmp_path))
    assert (config["sourceFormat"], config.get("autodetect")) == ("PARQUET", None)
    assert [(field["name"], field["type"]) for field in config["schema"]["fields"]] == [
        ("id", "INTEGER"),
        ("name", "STRING"),
    ]


def test_columns_that_parquet_cannot_carry_go_as_json_lines() -> None:
    schema = [bigquery.SchemaField("at", "JSON")]
    told, content = begun([{"at": {"a": [1, None]}}, {"at": "x"}], schema=schema)
    assert told["load"]["sourceFormat"] == "NEWLINE_DELIMITED_JSON"
    assert [json.loads(line) for line in content.splitlines()] == [{"at": {"a": [1, None]}}, {"at": "x"}]


def test_uris_are_left_in_cloud_storage() -> None:
    told, content = begun("gs://bucket/a.parquet")
    assert (told["load"]["sourceUris"], told["load"]["sourceFormat"], content) == (
        ["gs://bucket/a.parquet"],
        "PARQUET",
        b"",
    )
    config = config_of(["gs://bucket/a.csv", "gs://bucket/b.csv.gz"])
    assert (config["sourceUris"], config["sourceFormat"]) == (["gs://bucket/a.csv", "gs://bucket/b.csv.gz"], "CSV")
    assert config_of("gs://bucket/part-*", format="json")["sourceFormat"] == "NEWLINE_DELIMITED_JSON"


def test_csv_files_in_cloud_storage_are_read_as_the_options_say() -> None:
    config = config_of("gs://b/a.csv", delimiter=";", skip_rows=2, encoding="iso-8859-1", null_marker="NA", quote="'")
    assert (config["fieldDelimiter"], config["skipLeadingRows"], config["encoding"]) == (";", "3", "ISO-8859-1")
    assert (config["nullMarker"], config["quote"], config["autodetect"]) == ("NA", "'", True)
    assert config_of("gs://b/a.tsv")["fieldDelimiter"] == "\t"
    assert config_of("gs://b/a.csv", header=False)["skipLeadingRows"] == "0"


def test_geojson_in_cloud_storage_is_read_by_bigquerys_own_loader() -> None:
    config = config_of("gs://b/a.geojson")
    assert (config["sourceFormat"], config["jsonExtension"]) == ("NEWLINE_DELIMITED_JSON", "GEOJSON")
    assert config_of("gs://b/a.avro")["useAvroLogicalTypes"] is True


@pytest.mark.parametrize(
    "options", [{"geometry": "g"}, {"crs": 3857}, {"bad_rows": "quarantine"}, {"make_valid": True}, {"layer": "x"}]
)
def test_options_for_what_is_read_here_are_refused_for_cloud_storage(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"BigQuery reads gs://b/a\.csv by itself"):
        plan_of("gs://b/a.csv", **options)


@pytest.mark.parametrize("uris", ["gs://bucket/a", ["gs://b/a.csv", "gs://b/a.avro"], "gs://b/a.gpkg", "gs://b/*"])
def test_uris_whose_format_is_not_clear_are_an_error(uris: Any) -> None:
    with pytest.raises(ValueError, match="format is not clear"):
        plan_of(uris)


def test_uris_and_files_are_not_mixed(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="can only hold gs:// URIs"):
        plan_of(["gs://bucket/a.csv", str(csv_of(tmp_path))])


@pytest.mark.parametrize("source", [3, None, object()])
def test_what_cannot_be_loaded_is_refused_with_its_type(source: Any) -> None:
    with pytest.raises(TypeError, match=f"{type(source).__name__} cannot be loaded"):
        begun(source)


def parquet_of(source: Any, **options: Any) -> pyarrow.parquet.ParquetFile:
    return pyarrow.parquet.ParquetFile(pyarrow.BufferReader(begun(source, **options)[1]))


def test_rows_are_sent_as_parquet() -> None:
    told, content = begun([{"a": 1}, {"a": 2}])
    assert (told["load"]["sourceFormat"], content[:4]) == ("PARQUET", b"PAR1")
    assert parquet_of([{"a": 1}, {"a": 2}]).read().to_pylist() == [{"a": 1}, {"a": 2}]


def test_lists_in_parquet_are_read_as_lists() -> None:
    assert config_of([{"a": [1, 2]}])["parquetOptions"] == {"enableListInference": True}


@pytest.mark.parametrize("zone", [None, "Europe/Madrid"])
def test_timestamps_are_sent_in_microseconds_which_is_what_bigquery_has(zone: str | None) -> None:
    moments = pandas.Series(pandas.to_datetime(["2024-01-01T01:02:03.000004"])).astype("datetime64[ns]")
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
    assert row["at"].startswith('{"type":"Point","coordinates":[-3.70')


def test_a_source_that_raises_half_way_leaves_no_upload() -> None:
    def rows() -> Iterator[dict[str, int]]:
        yield {"x": 1}
        raise RuntimeError("half-way")

    with pytest.raises(RuntimeError, match="half-way"):
        begun(rows())


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


@pytest.mark.parametrize(("source", "state"), [([{"a": 1}], "READING"), ("gs://b/a.csv", "PENDING")])
def test_the_first_state_says_whether_there_is_an_upload(source: Any, state: str) -> None:
    assert plan_of(source).first_state == state


# Deadlines


def test_reading_a_source_ends_at_the_deadline() -> None:
    with pytest.raises(TimeoutError, match="still being read"):
        begun([{"a": 1}], deadline=Deadline(0))


def test_reading_a_source_ends_when_the_caller_is_cancelled() -> None:
    deadline = Deadline()
    deadline.cancel()
    with pytest.raises(Cancelled):
        begun([{"a": 1}], deadline=deadline)


# Rows


@pytest.mark.parametrize("source", ["table", "frame"])
def test_small_pieces_are_gathered_into_row_groups_of_some_size(source: str) -> None:
    piece: Any = pyarrow.table({"x": [1]})
    pieces = (piece if source == "table" else piece.to_pandas() for _ in range(1000))
    file = parquet_of(pieces)
    assert file.metadata.num_rows == 1000
    assert file.metadata.num_row_groups < 100, "small row groups grow the file and slow the load"


def test_the_configuration_can_be_sent(tmp_path: Path) -> None:
    json.dumps(config_of(csv_of(tmp_path), clustering=("id",)))
