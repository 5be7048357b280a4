"""Loads against the sandbox: every source, whole or not at all, once for each key, and every kind of bad input."""

from __future__ import annotations

import asyncio
import datetime
import json
import threading
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import fastavro
import geopandas
import pandas
import pyarrow
import pyarrow.parquet
import pytest
import shapely
from google.api_core.exceptions import BadRequest, GoogleAPICallError, NotFound
from google.cloud import bigquery
from shapely.geometry import LineString, Point

from carto_auth_integrations.bigquery import uploads
from carto_auth_integrations.sandbox import Sandbox
from carto_auth_integrations.warehouse import CartoWarehouse, JobProgress, JobReference, RunKey
from tests.support.accounts import auth_for
from tests.support.processes import run_processes

MADRID = Point(-3.7038, 40.4168)
SMALLEST_CHUNK = 256 * 1024
"""Bytes of the smallest chunk that a resumable upload allows."""


@pytest.fixture
def client(warehouse: CartoWarehouse, carto_sandbox: Sandbox, tmp_path: Path) -> bigquery.Client:
    return auth_for(carto_sandbox, tmp_path).get_carto_dw_client()


def rows_in(warehouse: CartoWarehouse, table: str) -> list[dict[str, Any]]:
    return [dict(row) for row in warehouse.query(f"SELECT * FROM `{table}` ORDER BY 1").rows]


def count_in(warehouse: CartoWarehouse, table: str) -> int:
    count: int = warehouse.query(f"SELECT COUNT(*) AS n FROM `{table}`").rows[0]["n"]
    return count


def is_there(client: bigquery.Client, table: str) -> bool:
    try:
        client.get_table(table)
    except NotFound:
        return False
    return True


def csv_of(folder: Path, rows: str = "1,x\n2,y\n") -> Path:
    path = folder / "a.csv"
    path.write_text("id,name\n" + rows)
    return path


def json_of(folder: Path) -> Path:
    path = folder / "a.jsonl"
    path.write_text('{"id": 1, "name": "x"}\n{"id": 2, "name": "y"}\n')
    return path


def parquet_of(folder: Path) -> Path:
    pyarrow.parquet.write_table(pyarrow.table({"id": [1, 2], "name": ["x", "y"]}), folder / "a.parquet")
    return folder / "a.parquet"


def avro_of(folder: Path) -> Path:
    schema = {
        "type": "record",
        "name": "r",
        "fields": [{"name": "id", "type": "long"}, {"name": "name", "type": "string"}],
    }
    with (folder / "a.avro").open("wb") as file:
        fastavro.writer(file, schema, [{"id": 1, "name": "x"}, {"id": 2, "name": "y"}])
    return folder / "a.avro"


def dicts(*rows: dict[str, Any]) -> list[dict[str, Any]]:
    return list(rows) or [{"id": 1, "name": "x"}, {"id": 2, "name": "y"}]


def frame() -> pandas.DataFrame:
    return pandas.DataFrame(dicts())


PLAIN: dict[str, Callable[[Path], Any]] = {
    "CSV": csv_of,
    "path as text": lambda folder: str(csv_of(folder)),
    "newline JSON": json_of,
    "Parquet": parquet_of,
    "Avro": avro_of,
    "URI": lambda folder: "gs://" + str(parquet_of(folder)),
    "DataFrame": lambda _: frame(),
    "Table": lambda _: pyarrow.Table.from_pandas(frame()),
    "RecordBatchReader": lambda _: pyarrow.Table.from_pandas(frame()).to_reader(),
    "iterator of dicts": lambda _: iter(dicts()),
    "iterator of batches": lambda _: iter(pyarrow.Table.from_pandas(frame()).to_batches()),
    "iterator of frames": lambda _: (frame()[number : number + 1] for number in range(2)),
}


@pytest.mark.parametrize("source", [name for name in PLAIN if name != "URI"])
def test_every_source_is_read_back_as_it_was(
    warehouse: CartoWarehouse, table: str, tmp_path: Path, source: str
) -> None:
    result = warehouse.load(PLAIN[source](tmp_path), table)
    assert rows_in(warehouse, table) == dicts()
    assert (result.rows, result.destination, result.location) == (2, f"carto-dw-ac-sandbox.{table}", "US")
    assert not result.reattached
    assert result.bytes > 0


def feature(n: int, at: Any) -> dict[str, Any]:
    return {"type": "Feature", "properties": {"n": n}, "geometry": at and json.loads(shapely.to_geojson(at))}


def geojson_of(folder: Path, shapes: list[Any]) -> Path:
    features = [feature(number, shape) for number, shape in enumerate(shapes)]
    (folder / "a.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return folder / "a.geojson"


def geoframe_of(shapes: list[Any], epsg: int = 4326) -> geopandas.GeoDataFrame:
    return (
        geopandas.GeoDataFrame({"n": range(len(shapes))}, geometry=shapes, crs=4326)
        .rename_geometry("geom")
        .to_crs(epsg)
    )


def geoparquet_of(folder: Path, shapes: list[Any], epsg: int) -> Path:
    geoframe_of(shapes, epsg).to_parquet(folder / "g.parquet")
    return folder / "g.parquet"


SPATIAL: dict[str, Callable[[Path, list[Any]], Any]] = {
    "GeoJSON": geojson_of,
    "GeoParquet": lambda folder, shapes: geoparquet_of(folder, shapes, 4326),
    "GeoParquet elsewhere": lambda folder, shapes: geoparquet_of(folder, shapes, 25830),
    "GeoDataFrame": lambda _, shapes: geoframe_of(shapes),
    "GeoDataFrame elsewhere": lambda _, shapes: geoframe_of(shapes, 3857),
    "iterator of dicts": lambda _, shapes: ({"n": number, "geom": shape} for number, shape in enumerate(shapes)),
}


@pytest.mark.parametrize("source", SPATIAL)
def test_geometry_becomes_geography_in_longitude_and_latitude(
    warehouse: CartoWarehouse, client: bigquery.Client, table: str, tmp_path: Path, source: str
) -> None:
    shapes = [MADRID, LineString([(-3, 40), (-4, 41)]), None]
    warehouse.load(SPATIAL[source](tmp_path, shapes), table)

    kinds = {field.name: field.field_type for field in client.get_table(table).schema}
    back = [row["geom"] and shapely.from_wkt(row["geom"]) for row in rows_in(warehouse, table)]

    assert kinds["geom"] == "GEOGRAPHY"
    assert back[0].distance(MADRID) < 1e-6
    assert (back[1].geom_type, back[2]) == ("LineString", None)


@pytest.mark.parametrize("form", ["WKB", "WKT"])
def test_geometry_in_a_column_that_is_named_becomes_geography(
    warehouse: CartoWarehouse, client: bigquery.Client, table: str, form: str
) -> None:
    value = MADRID.wkb if form == "WKB" else MADRID.wkt
    warehouse.load(pyarrow.table({"at": [value, None]}), table, geometry="at")
    assert client.get_table(table).schema[0].field_type == "GEOGRAPHY"
    assert count_in(warehouse, table) == 2


def test_values_of_every_type_are_read_back_as_they_were(warehouse: CartoWarehouse, table: str) -> None:
    row = {
        "whole": 2**60,
        "real": 1.5,
        "yes": True,
        "text": "Köln 🌍",
        "raw": b"\x00\xff",
        "day": datetime.date(2024, 2, 29),
        "hour": datetime.time(1, 2, 3, 4),
        "local": datetime.datetime(2024, 2, 29, 1, 2, 3, 4),
        "moment": datetime.datetime(2024, 2, 29, 1, 2, 3, 4, tzinfo=datetime.timezone.utc),
        "exact": Decimal("1.50"),
        "list": ["a", "b"],
        "record": {"a": 1, "b": "x"},
    }
    warehouse.load([row, {"whole": 1}], table)
    nothing, back = rows_in(warehouse, table)
    assert (back["whole"], back["real"], back["yes"], back["text"]) == (2**60, 1.5, True, "Köln 🌍")
    assert (back["raw"], back["day"], back["hour"]) == ("AP8=", "2024-02-29", "01:02:03.000004")
    assert (back["list"], back["record"], Decimal(back["exact"])) == (["a", "b"], {"a": 1, "b": "x"}, Decimal("1.5"))
    assert back["local"] == "2024-02-29T01:02:03.000004"
    assert back["moment"] == "2024-02-29T01:02:03.000004+00:00"
    assert (nothing["text"], nothing["record"]) == (None, None)


def test_append_adds_truncate_replaces_and_empty_wants_an_empty_table(warehouse: CartoWarehouse, table: str) -> None:
    warehouse.load(dicts(), table)
    warehouse.load(dicts(), table)
    assert count_in(warehouse, table) == 4
    warehouse.load(dicts({"id": 9, "name": "z"}), table, write_disposition="WRITE_TRUNCATE")
    assert rows_in(warehouse, table) == [{"id": 9, "name": "z"}]
    with pytest.raises(GoogleAPICallError, match="Already Exists"):
        warehouse.load(dicts(), table, write_disposition="WRITE_EMPTY")
    assert count_in(warehouse, table) == 1


def test_a_table_that_must_exist_is_not_created(warehouse: CartoWarehouse, client: bigquery.Client, table: str) -> None:
    with pytest.raises(NotFound, match=table.partition(".")[2]):
        warehouse.load(dicts(), table, create_disposition="CREATE_NEVER")
    assert not is_there(client, table)


def test_a_missing_dataset_is_an_error_unless_it_is_to_be_created(
    warehouse: CartoWarehouse, client: bigquery.Client, table: str
) -> None:
    dataset = table.replace("shared.t_", "d_")
    with pytest.raises(NotFound, match=dataset):
        warehouse.load(dicts(), f"{dataset}.t")
    warehouse.load(dicts(), f"{dataset}.t", create_dataset=True)
    warehouse.load(dicts(), f"{dataset}.t", create_dataset=True)
    assert count_in(warehouse, f"{dataset}.t") == 4


def test_a_table_without_a_dataset_goes_into_the_accounts_own(
    carto_sandbox_bigquery: Sandbox, tmp_path: Path, table: str
) -> None:
    warehouse = auth_for(carto_sandbox_bigquery, tmp_path, default_dataset="private_sandbox").warehouse()
    name = table.partition(".")[2]
    assert warehouse.load(dicts(), name).destination == f"carto-dw-ac-sandbox.private_sandbox.{name}"


def failing_half_way() -> Iterator[dict[str, Any]]:
    yield from dicts()
    raise RuntimeError("the source broke")


@pytest.mark.parametrize("write_disposition", ["WRITE_APPEND", "WRITE_TRUNCATE", "WRITE_EMPTY"])
def test_an_iterator_that_raises_half_way_leaves_nothing(
    warehouse: CartoWarehouse, client: bigquery.Client, table: str, write_disposition: str
) -> None:
    with pytest.raises(RuntimeError, match="the source broke"):
        warehouse.load(failing_half_way(), table, write_disposition=write_disposition, idempotency_key=table)
    assert not is_there(client, table)
    assert warehouse.load(dicts(), table, write_disposition=write_disposition, idempotency_key=table).rows == 2


def test_a_replacement_that_fails_half_way_leaves_the_old_table(
    warehouse: CartoWarehouse, table: str, tmp_path: Path
) -> None:
    schema = [bigquery.SchemaField("id", "INTEGER"), bigquery.SchemaField("name", "STRING")]
    warehouse.load(dicts(), table)
    bad = csv_of(tmp_path, rows="".join(f"{number},x\n" for number in range(5000)) + "no number,x\n")
    for source in (bad, failing_half_way()):
        with pytest.raises((ValueError, RuntimeError)):
            warehouse.load(source, table, schema=schema, write_disposition="WRITE_TRUNCATE")
    assert rows_in(warehouse, table) == dicts()


def test_an_upload_that_breaks_off_leaves_the_old_table(
    warehouse: CartoWarehouse, table: str, carto_sandbox: Sandbox
) -> None:
    warehouse.load(dicts(), table)
    carto_sandbox.fault("upload", status=400, body={"error": {"code": 400, "message": "broken off"}}, match="^PUT")
    with pytest.raises(BadRequest, match="broken off"):
        warehouse.load(dicts(), table, write_disposition="WRITE_TRUNCATE")
    carto_sandbox.clear_faults()
    assert rows_in(warehouse, table) == dicts()


def test_partitioning_and_clustering_are_passed_on(
    warehouse: CartoWarehouse, client: bigquery.Client, table: str
) -> None:
    source = [{"id": 1, "day": datetime.date(2024, 2, 29)}]
    by_day = bigquery.TimePartitioning(field="day", type_="MONTH")
    result = warehouse.load(source, table, partitioning=by_day, clustering=("id",), labels={"DAG Id": "Nightly!"})

    job: Any = client.get_job(result.job_id)

    assert (job.time_partitioning.field, job.time_partitioning.type_) == ("day", "MONTH")
    assert job.clustering_fields == ["id"]
    assert {name: job.labels[name] for name in job.labels if name != "carto-digest"} == {"dag_id": "nightly_"}
    assert client.get_table(table).clustering_fields == ["id"]


def test_partitions_by_range_are_passed_on(warehouse: CartoWarehouse, client: bigquery.Client, table: str) -> None:
    by_range = bigquery.RangePartitioning(field="id", range_=bigquery.PartitionRange(start=0, end=100, interval=10))
    job: Any = client.get_job(warehouse.load(dicts(), table, partitioning=by_range).job_id)
    assert job.range_partitioning.field == "id"


def test_uris_are_passed_on_without_an_upload(
    warehouse: CartoWarehouse, client: bigquery.Client, carto_sandbox: Sandbox, table: str
) -> None:
    uris = ["gs://bucket/a.csv", "gs://bucket/b.csv"]
    carto_sandbox.fault("upload", status=500)
    with pytest.raises(GoogleAPICallError):
        warehouse.load(uris, table, timeout=20, idempotency_key=table)
    jobs = [job for job in client.list_jobs(max_results=20) if table.partition(".")[2] in job.job_id]
    assert [job.source_uris for job in jobs] == [uris]


def test_a_load_of_the_same_key_happens_once(warehouse: CartoWarehouse, table: str) -> None:
    def never_read() -> Iterator[dict[str, Any]]:
        raise AssertionError("a retry does not read its source")
        yield {}

    first = warehouse.load(dicts(), table, idempotency_key=table, labels={"try": "1"})
    again = warehouse.load(never_read(), table, idempotency_key=table, labels={"try": "2"}, timeout=60)
    assert (first.reattached, again.reattached) == (False, True)
    assert (again.rows, again.job_id, again.bytes) == (2, first.job_id, first.bytes)
    assert count_in(warehouse, table) == 2


def test_the_same_key_for_another_load_is_an_error_that_names_the_job(
    warehouse: CartoWarehouse, table: str, tmp_path: Path
) -> None:
    first = warehouse.load(csv_of(tmp_path), table, idempotency_key=table)
    others: list[tuple[str, dict[str, Any]]] = [(f"{table}b", {}), (table, {"write_disposition": "WRITE_TRUNCATE"})]
    for destination, options in others:
        with pytest.raises(ValueError, match=f"{first.job_id}.*another idempotency_key"):
            warehouse.load(csv_of(tmp_path), destination, idempotency_key=table, **options)
        with pytest.raises(ValueError, match=first.job_id):
            asyncio.run(warehouse.aload(csv_of(tmp_path), destination, idempotency_key=table, **options))
    assert count_in(warehouse, table) == 2


def test_a_connectors_key_for_another_load_is_a_warning_and_loads_nothing(
    warehouse: CartoWarehouse, table: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    key = RunKey(table)
    first = warehouse.load(csv_of(tmp_path), table, idempotency_key=key)
    again = warehouse.load(csv_of(tmp_path), f"{table}b", idempotency_key=key)
    assert (again.job_id, again.destination, again.reattached) == (first.job_id, first.destination, True)
    assert first.job_id in caplog.text
    assert count_in(warehouse, table) == 2


def test_another_file_under_the_same_key_is_a_warning_and_loads_nothing(
    warehouse: CartoWarehouse, table: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = warehouse.load(csv_of(tmp_path), table, idempotency_key=table)
    again = warehouse.load(json_of(tmp_path), table, idempotency_key=table)
    assert (again.job_id, again.reattached) == (first.job_id, True)
    assert "a_csv" in caplog.text
    assert "a_jsonl" in caplog.text
    assert count_in(warehouse, table) == 2


def test_the_same_file_is_loaded_once_from_any_working_directory_and_by_any_path(
    warehouse: CartoWarehouse, table: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "exports").mkdir()
    path = csv_of(tmp_path / "exports")
    ids = set()
    for folder, source in (
        (tmp_path, "exports/a.csv"),
        (tmp_path, path),
        (tmp_path / "exports", "a.csv"),
        (Path("/"), str(path)),
    ):
        monkeypatch.chdir(folder)
        ids.add(warehouse.load(source, table, idempotency_key=table).job_id)
    assert len(ids) == 1
    assert count_in(warehouse, table) == 2


def test_clustering_as_a_list_or_as_a_tuple_is_the_same_load(warehouse: CartoWarehouse, table: str) -> None:
    first = warehouse.load(dicts(), table, clustering=["id"], idempotency_key=table)
    again = warehouse.load(dicts(), table, clustering=("id",), idempotency_key=table)
    assert (again.job_id, again.reattached) == (first.job_id, True)
    assert count_in(warehouse, table) == 2


def test_after_a_load_that_failed_the_same_key_begins_anew(
    warehouse: CartoWarehouse, client: bigquery.Client, table: str
) -> None:
    options: dict[str, Any] = {"write_disposition": "WRITE_EMPTY", "idempotency_key": table}
    warehouse.load(dicts(), table)
    for _ in range(2):
        with pytest.raises(GoogleAPICallError, match="Already Exists"):
            warehouse.load(dicts(), table, **options)
    client.delete_table(table)

    result = warehouse.load(dicts(), table, **options)

    assert (result.rows, result.reattached, result.job_id[-2:]) == (2, False, "_3")
    assert warehouse.load(dicts(), table, **options).reattached
    assert count_in(warehouse, table) == 2


@pytest.mark.parametrize("key", ["a key", None])
@pytest.mark.parametrize("lost", ["^POST", "^PUT"], ids=["of the beginning", "of the last byte"])
def test_a_load_whose_answer_was_lost_happens_once(
    warehouse: CartoWarehouse, table: str, carto_sandbox: Sandbox, key: str | None, lost: str
) -> None:
    carto_sandbox.fault("upload", cut="after", count=1, match=lost)
    result = warehouse.load(dicts(), table, idempotency_key=key and f"{key} {table}")
    assert result.rows == 2
    assert count_in(warehouse, table) == 2


@pytest.mark.parametrize("status", [429, 500, 503])
def test_an_upload_is_repeated_after_a_transient_failure(
    warehouse: CartoWarehouse, table: str, carto_sandbox: Sandbox, status: int
) -> None:
    carto_sandbox.fault("upload", status=status, count=1, match="^PUT")
    warehouse.load(dicts(), table)
    assert count_in(warehouse, table) == 2


def test_two_processes_with_the_same_key_at_once_load_once(
    warehouse: CartoWarehouse, table: str, carto_sandbox: Sandbox
) -> None:
    """One of the two is held back at its last byte, so that the other is certain to be faster."""
    carto_sandbox.fault("upload", delay=1.5, count=1, match="^PUT")
    outputs = run_processes(
        2,
        f"""
        from carto_auth_integrations import CartoAuth
        result = CartoAuth.from_env().warehouse().load([{{"id": 1}}, {{"id": 2}}], "{table}", idempotency_key="{table}")
        print(result.rows, result.job_id, result.reattached)
        """,
        **carto_sandbox.environment(),
    )
    assert {output.split()[1] for output in outputs} == {outputs[0].split()[1]}
    assert sorted(output.split()[2] for output in outputs) == ["False", "True"]
    assert count_in(warehouse, table) == 2


def noise(rows: int) -> Iterator[pyarrow.RecordBatch]:
    """Yield batches that no compression makes small."""
    import random

    numbers = random.Random(7)
    for start in range(0, rows, 10_000):
        ids = list(range(start, min(start + 10_000, rows)))
        yield pyarrow.record_batch({"id": ids, "noise": [numbers.random() for _ in ids]})


def test_an_upload_goes_on_past_the_end_of_many_tokens(
    carto_sandbox_bigquery: Sandbox, table: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    carto_sandbox_bigquery.set_lifetimes(dw=2)
    monkeypatch.setattr(uploads, "CHUNK", SMALLEST_CHUNK)
    warehouse = auth_for(carto_sandbox_bigquery, tmp_path).warehouse()
    warehouse.query("SELECT 1")
    carto_sandbox_bigquery.fault("upload", delay=0.7)
    started = time.monotonic()

    result = warehouse.load(noise(70_000), table)

    assert time.monotonic() - started > 2 * 2, "an upload of several lifetimes"
    assert (result.rows, count_in(warehouse, table)) == (70_000, 70_000)
    assert carto_sandbox_bigquery.stats().count("dw_token") > 1


def test_progress_reports_the_bytes_and_then_the_job(
    warehouse: CartoWarehouse, table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "CHUNK", SMALLEST_CHUNK)
    seen: list[JobProgress] = []

    result = warehouse.load(noise(70_000), table, on_progress=seen.append)

    sending = [progress for progress in seen if progress.state == "UPLOADING"]
    sent = [progress.bytes_sent for progress in sending]
    assert len(sent) > 3
    assert sent == sorted(set(sent))
    assert sent[0] == SMALLEST_CHUNK
    assert [progress.bytes_total for progress in sending] == [sent[-1]] * len(sent)
    assert [seen[0].state, max(progress.rows for progress in seen if progress.state == "READING")] == [
        "READING",
        70_000,
    ]
    assert seen[-1].state == "DONE"
    assert {(progress.job_id, progress.location) for progress in seen} == {(result.job_id, "US")}


def test_a_load_is_begun_and_waited_for_by_another_object(
    warehouse: CartoWarehouse, table: str, tmp_path: Path, carto_sandbox: Sandbox
) -> None:
    begun = warehouse.begin_load(dicts(), table, idempotency_key=table)
    elsewhere = auth_for(carto_sandbox, tmp_path).warehouse()
    elsewhere.wait_for(begun.job_id, location=begun.location)
    done = elsewhere.load([{"never": "read"}], table, idempotency_key=table)

    assert begun == JobReference(done.job_id, "US", reattached=False)
    assert (done.rows, done.reattached, count_in(warehouse, table)) == (2, True, 2)
    assert warehouse.begin_load(dicts(), table, idempotency_key=table).reattached


def test_a_load_that_fails_after_it_was_begun_is_an_error_for_who_waits(warehouse: CartoWarehouse, table: str) -> None:
    warehouse.load(dicts(), table)
    begun = warehouse.begin_load(dicts(), table, write_disposition="WRITE_EMPTY")
    with pytest.raises(GoogleAPICallError, match="Already Exists"):
        warehouse.wait_for(begun)


def test_progress_names_the_job_before_it_exists(
    warehouse: CartoWarehouse, client: bigquery.Client, table: str
) -> None:
    def cancel(progress: JobProgress) -> None:
        with pytest.raises(NotFound, match=progress.job_id):
            warehouse.cancel(progress.job_id)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        warehouse.load(dicts(), table, on_progress=cancel)
    assert not is_there(client, table)


def test_a_callback_that_raises_breaks_the_upload_and_leaves_nothing(
    warehouse: CartoWarehouse, client: bigquery.Client, table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(_: JobProgress) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(uploads, "CHUNK", SMALLEST_CHUNK)
    with pytest.raises(KeyboardInterrupt):
        warehouse.load(noise(70_000), table, on_progress=stop)
    assert not is_there(client, table)


@pytest.mark.parametrize("stage", ["while it reads", "while it sends"])
def test_a_load_that_is_cancelled_loads_nothing(
    warehouse: CartoWarehouse,
    client: bigquery.Client,
    table: str,
    carto_sandbox: Sandbox,
    monkeypatch: pytest.MonkeyPatch,
    stage: str,
) -> None:
    monkeypatch.setattr(uploads, "CHUNK", SMALLEST_CHUNK)
    carto_sandbox.fault("upload", delay=0.2, match="^PUT")
    reading, ended = threading.Event(), threading.Event()

    def source() -> Iterator[pyarrow.RecordBatch]:
        try:
            for batch in noise(100_000):
                yield batch
                reading.set()
                time.sleep(0.1)
        finally:
            ended.set()

    async def cancel() -> None:
        task = asyncio.ensure_future(warehouse.aload(source(), table, idempotency_key=table))
        sends = stage == "while it sends"
        while not (carto_sandbox.stats().count("upload") > 1 if sends else reading.is_set()):
            assert not task.done(), task.result()
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel())

    assert ended.wait(20)
    time.sleep(2)  # for what is still on its way
    assert not is_there(client, table)
    assert warehouse.load(dicts(), table, idempotency_key=table).rows == 2


def test_async_is_the_same_and_the_loop_goes_on(warehouse: CartoWarehouse, table: str, carto_sandbox: Sandbox) -> None:
    carto_sandbox.fault("upload", delay=0.3)

    async def load() -> tuple[list[Any], int]:
        turns = 0
        loads = asyncio.gather(*(warehouse.aload(dicts(), table, idempotency_key=f"{table}-{n}") for n in range(3)))
        while not loads.done():
            await asyncio.sleep(0.01)
            turns += 1
        return await loads, turns

    results, turns = asyncio.run(load())
    again = asyncio.run(warehouse.aload(dicts(), table, idempotency_key=f"{table}-0"))

    assert turns > 5, "a load that held the loop would leave it one turn"
    assert [result.rows for result in results] == [2, 2, 2]
    assert (again.reattached, again.job_id) == (True, results[0].job_id)
    assert count_in(warehouse, table) == 6


def test_async_errors_are_the_same(warehouse: CartoWarehouse, table: str) -> None:
    with pytest.raises(RuntimeError, match="the source broke"):
        asyncio.run(warehouse.aload(failing_half_way(), table))
    with pytest.raises(ValueError, match="is not a table name"):
        asyncio.run(warehouse.aload(dicts(), "a;b"))


@pytest.mark.parametrize(
    ("source", "options", "error", "message"),
    [
        ("nothing.csv", {}, FileNotFoundError, "nothing.csv"),
        ("empty.csv", {}, ValueError, "empty.csv is empty"),
        ("other.csv", {}, ValueError, "other.csv is not CSV"),
        ("other.parquet", {}, ValueError, "other.parquet"),
        ("broken.geojson", {}, ValueError, "broken.geojson"),
        ("a.xlsx", {}, ValueError, "a.xlsx is not EXCEL"),
        ("a.bin", {}, ValueError, "unknown format"),
        ([{"n": 1}, {"n": "x"}], {}, ValueError, "Row 2.*n"),
        ([{"at": b"x"}], {"geometry": "at"}, ValueError, "at"),
        ([{"at": MADRID}], {"geometry": "at", "crs": "EPSG:1"}, ValueError, "[Uu]nknown reference system"),
        ([{"at": MADRID}], {"geometry": "where"}, ValueError, "no column where"),
        ([], {}, ValueError, "no rows"),
        (3, {}, TypeError, "int cannot be loaded"),
        ([{"n": 1}], {"write_disposition": "REPLACE"}, ValueError, "write_disposition"),
        ([{"n": 1}], {"create_disposition": "CREATE_MAYBE"}, ValueError, "create_disposition"),
    ],
)
def test_bad_input_is_refused_by_name_before_there_is_a_job(
    warehouse: CartoWarehouse,
    client: bigquery.Client,
    table: str,
    tmp_path: Path,
    source: Any,
    options: dict[str, Any],
    error: type[Exception],
    message: str,
) -> None:
    for name, content in {
        "empty.csv": b"",
        "other.csv": b"PAR1....",
        "other.parquet": b"PAR1....",
        "broken.geojson": b'{"type": ',
        "a.xlsx": b"x",
        "a.bin": b"x",
    }.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(error, match=message):
        warehouse.load(tmp_path / source if isinstance(source, str) else source, table, **options)
    assert not is_there(client, table)


def test_a_column_that_does_not_fit_the_table_is_bigquerys_own_error(warehouse: CartoWarehouse, table: str) -> None:
    warehouse.load(dicts(), table)
    with pytest.raises(BadRequest, match=r"(?i)schema|reading data"):
        warehouse.load([{"id": "text", "name": "x"}], table)
    assert count_in(warehouse, table) == 2


def test_a_job_of_others_is_never_taken(
    warehouse: CartoWarehouse, client: bigquery.Client, table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.query("SELECT 1", job_id=f"carto_{table[7:]}", job_retry=None).result()
    monkeypatch.setattr("carto_auth_integrations.warehouse.jobs.JobPlan.job_id", lambda *_: f"carto_{table[7:]}")
    with pytest.raises(ValueError, match="another idempotency_key"):
        warehouse.load(dicts(), table, idempotency_key=table)
    with pytest.raises(ValueError, match="another idempotency_key"):
        warehouse.query("SELECT 2", idempotency_key=table)
