"""Values of every type, geography, bad rows and plans: what a real warehouse holds after a load."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import geopandas
import pandas
import polars
import pyarrow
import pytest
import shapely
from google.api_core.exceptions import BadRequest
from google.cloud import bigquery

from carto_auth_integrations.sandbox import Sandbox
from carto_auth_integrations.warehouse import CartoWarehouse, JobProgress

UTC = datetime.timezone.utc
ROW = {
    "integer": 2**63 - 1,
    "float": 0.1,
    "text": "Köln\n😀",
    "yes": True,
    "raw": b"\x00\xff",
    "day": datetime.date(1, 1, 1),
    "local": datetime.datetime(2026, 11, 25, 1, 2, 3, 4),
    "moment": datetime.datetime(2026, 11, 25, 1, 2, 3, 4, tzinfo=UTC),
    "hour": datetime.time(23, 59, 59, 999999),
    "exact": Decimal("1.000000001"),
    "list": [1, 2],
    "nested": {"a": [{"b": "x"}], "n": 1},
}
PLAIN = {
    **ROW,
    "raw": "AP8=",
    "day": "0001-01-01",
    "local": "2026-11-25T01:02:03.000004",
    "moment": "2026-11-25T01:02:03.000004+00:00",
    "hour": "23:59:59.999999",
    "exact": "1.000000001",
}
"""The same row as the results of a query have it."""
ROUTES: dict[str, Callable[[], Any]] = {
    "dicts": lambda: [ROW],
    "Arrow": lambda: pyarrow.Table.from_pylist([ROW]),
    "pandas": lambda: pandas.DataFrame([ROW]),
    "polars": lambda: polars.DataFrame([{name: value for name, value in ROW.items() if name != "day"}]).with_columns(
        polars.lit(ROW["day"]).alias("day")
    ),
}
BOW_TIE = "POLYGON ((0 0, 1 1, 1 0, 0 1, 0 0))"


def rows_in(warehouse: CartoWarehouse, table: str, order: str = "1") -> list[dict[str, Any]]:
    return [dict(row) for row in warehouse.query(f"SELECT * FROM `{table}` ORDER BY {order}").rows]


@pytest.mark.parametrize("route", ROUTES)
def test_a_value_of_each_type_is_read_back_exactly(warehouse: CartoWarehouse, table: str, route: str) -> None:
    warehouse.load(ROUTES[route](), table)
    (row,) = rows_in(warehouse, table)
    assert row == PLAIN


def test_a_later_chunk_makes_a_column_wider_and_brings_another(warehouse: CartoWarehouse, table: str) -> None:
    rows = [{"id": number, "v": 1} for number in range(10_000)] + [{"id": 10_000, "v": 2.5, "late": "x"}]
    assert warehouse.load(rows, table).rows == 10_001
    (last,) = warehouse.query(f"SELECT * FROM `{table}` WHERE id = 10000").rows
    assert last == {"id": 10_000, "v": 2.5, "late": "x"}


def test_json_columns_hold_what_was_given(warehouse: CartoWarehouse, table: str) -> None:
    values: list[Any] = [{"a": [1, None, "x"]}, [1, 2], "text", 2**53 + 1, None]
    schema = [bigquery.SchemaField("id", "INTEGER"), bigquery.SchemaField("at", "JSON")]
    warehouse.load([{"id": number, "at": value} for number, value in enumerate(values)], table, schema=schema)
    assert [row["at"] for row in rows_in(warehouse, table)] == values


def test_required_columns_go_into_a_table_that_requires_them(warehouse: CartoWarehouse, table: str) -> None:
    schema = [bigquery.SchemaField("id", "INTEGER", mode="REQUIRED"), bigquery.SchemaField("name", "STRING")]
    for _ in range(2):
        warehouse.load([{"id": 1}], table, schema=schema)
    assert rows_in(warehouse, table) == [{"id": 1, "name": None}] * 2
    with pytest.raises(ValueError, match=r"Row 2: column id holds no value, and is REQUIRED"):
        warehouse.load([{"id": 1}, {"name": "x"}], table, schema=schema)


@pytest.mark.parametrize("edges", ["planar", "spherical"])
def test_a_clockwise_square_is_the_square(warehouse: CartoWarehouse, table: str, edges: Any) -> None:
    square = shapely.box(0, 0, 1, 1, ccw=False)
    warehouse.load(geopandas.GeoDataFrame({"id": [1]}, geometry=[square], crs=4326), table, edges=edges)
    (row,) = warehouse.query(f"SELECT ST_AREA(geometry) AS area, ST_ASTEXT(geometry) AS shape FROM `{table}`").rows
    assert shapely.from_wkt(row["shape"]).equals(square)


BAD = [
    {"id": 1, "geom": "POINT (1 2)"},
    {"id": 2, "geom": BOW_TIE},
    {"id": "x", "geom": "POINT (1 2)"},
    {"id": 4, "geom": "POINT (500000 4649776)"},
    {"id": 5, "geom": None},
]


def test_bad_rows_go_into_a_table_of_their_own(warehouse: CartoWarehouse, table: str) -> None:
    result = warehouse.load(BAD, table, geometry="geom", bad_rows="quarantine", idempotency_key=table)

    assert (result.rows, result.rejected, result.rejected_table) == (2, 3, f"carto-dw-ac-sandbox.{table}__rejected")
    assert [row["id"] for row in rows_in(warehouse, table)] == [1, 5]
    rejected = rows_in(warehouse, f"{table}__rejected", "row_number")
    assert [(row["row_number"], row["row"]) for row in rejected] == [(2, BAD[1]), (3, BAD[2]), (4, BAD[3])]
    for row, reason in zip(rejected, ("crosses itself at 0.5 0.5", "holds 'x' (STRING)", "crs="), strict=True):
        assert reason in row["reason"]

    again = warehouse.load([{"never": "read"}], table, geometry="geom", bad_rows="quarantine", idempotency_key=table)
    assert (again.reattached, again.rejected, again.rejected_table) == (True, 3, result.rejected_table)


def test_a_retry_after_a_failed_load_does_not_reject_its_rows_twice(
    warehouse: CartoWarehouse, table: str, carto_sandbox: Sandbox
) -> None:
    options: dict[str, Any] = {"geometry": "geom", "bad_rows": "quarantine", "idempotency_key": table}
    body = {"error": {"code": 400, "message": "broken off"}}
    carto_sandbox.fault("upload", status=400, body=body, match="^PUT", skip=1)  # the second upload is of the good rows
    with pytest.raises(BadRequest, match="broken off"):
        warehouse.load(BAD, table, **options)
    carto_sandbox.clear_faults()

    result = warehouse.load(BAD, table, **options)

    assert (result.rows, result.rejected, len(rows_in(warehouse, f"{table}__rejected"))) == (2, 3, 3)


def test_invalid_geometry_is_repaired_and_counted(warehouse: CartoWarehouse, table: str) -> None:
    rows = [{"id": 1, "geom": "POINT (1 2)"}, {"id": 2, "geom": BOW_TIE}]
    with pytest.raises(ValueError, match="Row 2: column geom crosses itself"):
        warehouse.load(rows, table, geometry="geom")
    result = warehouse.load(rows, table, geometry="geom", invalid_geometry="repair")
    assert (result.rows, result.repaired) == (2, 1)
    assert result.area_change > 1e9, "a bow tie has as much area on one side as on the other"


def test_a_refused_source_leaves_no_job_and_the_table_as_it_was(
    warehouse: CartoWarehouse, table: str, carto_sandbox: Sandbox
) -> None:
    warehouse.load([{"v": 1}], table)
    before = carto_sandbox.stats().count("upload")
    with pytest.raises(ValueError, match="Row 2: column v holds 'x'"):
        warehouse.load([{"v": 1}, {"v": "x"}], table, write_disposition="WRITE_TRUNCATE")
    assert carto_sandbox.stats().count("upload") == before
    assert rows_in(warehouse, table) == [{"v": 1}]


def test_a_plan_tells_what_a_load_would_do(warehouse: CartoWarehouse, tmp_path: Path, carto_sandbox: Sandbox) -> None:
    path = tmp_path / "stores.csv"
    path.write_text("zip;x;y\n01234;-3.7;40.4\n5;2.2;48.9\n")
    asked = carto_sandbox.stats().count("bigquery")

    plan = warehouse.plan(path, lon="x", lat="y")

    assert plan.columns == {"zip": "STRING", "x": "FLOAT", "y": "FLOAT", "geom": "GEOGRAPHY"}
    assert (plan.rows, plan.bounds, plan.found["delimiter"]) == (2, (-3.7, 40.4, 2.2, 48.9), ";")
    assert plan.geometry == {"geom": "longitude and latitude, planar edges"}
    assert plan.first_rows[0]["zip"] == "01234"
    assert carto_sandbox.stats().count("bigquery") == asked


def test_progress_is_reported_while_a_source_is_read(
    warehouse: CartoWarehouse, table: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("carto_auth_integrations.warehouse.sources.preparing.PAUSE", 0.0)
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps({"id": number, "text": "x" * 100}) + "\n" for number in range(50_000)))
    seen: list[JobProgress] = []

    warehouse.load(path, table, on_progress=seen.append)

    reading = [progress for progress in seen if progress.state == "READING" and progress.bytes_total]
    assert len(reading) > 2
    assert [progress.bytes_sent for progress in reading] == sorted(progress.bytes_sent for progress in reading)
    assert (reading[-1].bytes_sent, reading[-1].bytes_total, reading[-1].rows) == (path.stat().st_size,) * 2 + (50_000,)
