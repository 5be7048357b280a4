"""Values in load jobs: each arrives exactly as its column's type, or the job fails with BigQuery's reason."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import pytest

bigquery = pytest.importorskip("google.cloud.bigquery")
pa = pytest.importorskip("pyarrow")

from tests.support.sandbox_loads import Loaded, Refused, lists  # noqa: E402 - after the check that it is there

UTC = dt.timezone.utc


def column(kind, mode="NULLABLE", **more):
    if kind.startswith("RANGE"):
        more["range_element_type"] = kind[6:-1]
        kind = "RANGE"
    return [bigquery.SchemaField("v", kind, mode, **more)]


EXACT = [
    ("INT64", 9007199254740993, 9007199254740993),
    ("INT64", "-9223372036854775808", -(2**63)),
    ("FLOAT64", 0.1, 0.1),
    ("FLOAT64", "Infinity", float("inf")),
    ("NUMERIC", "12345678901234567890123456789.123456789", Decimal("12345678901234567890123456789.123456789")),
    ("NUMERIC", 1.5, Decimal("1.5")),
    ("NUMERIC", "1e5", Decimal(100000)),
    ("BIGNUMERIC", "12345678901234567890.123456789012345678", Decimal("12345678901234567890.123456789012345678")),
    ("BOOL", True, True),
    ("BOOL", "false", False),
    ("STRING", "a\nb", "a\nb"),
    ("STRING", "", ""),
    ("BYTES", "AP8=", b"\x00\xff"),
    ("DATE", "2024-02-29", dt.date(2024, 2, 29)),
    ("TIME", "23:59:59.000001", dt.time(23, 59, 59, 1)),
    ("DATETIME", "2024-02-29T10:00:00.5", dt.datetime(2024, 2, 29, 10, 0, 0, 500_000)),
    ("DATETIME", "2024-02-29 10:00:00", dt.datetime(2024, 2, 29, 10)),
    ("TIMESTAMP", "2024-02-29T10:00:00.123456+02:00", dt.datetime(2024, 2, 29, 8, 0, 0, 123_456, UTC)),
    ("TIMESTAMP", "2024-02-29 10:00:00 UTC", dt.datetime(2024, 2, 29, 10, tzinfo=UTC)),
    ("TIMESTAMP", "2024-02-29T10:00:00Z", dt.datetime(2024, 2, 29, 10, tzinfo=UTC)),
    ("TIMESTAMP", "2024-02-29 10:00:00", dt.datetime(2024, 2, 29, 10, tzinfo=UTC)),
    ("TIMESTAMP", 1709200800.5, dt.datetime(2024, 2, 29, 10, 0, 0, 500_000, UTC)),
    ("JSON", {"a": [1, 2.5, None], "b": "x"}, {"a": [1, 2.5, None], "b": "x"}),
    ("JSON", "text", "text"),
    ("JSON", [], []),
    ("RANGE<DATE>", "[2024-01-01, 2024-02-01)", {"start": dt.date(2024, 1, 1), "end": dt.date(2024, 2, 1)}),
    ("RANGE<DATE>", "[2024-01-01, UNBOUNDED)", {"start": dt.date(2024, 1, 1), "end": None}),
    ("RANGE<DATE>", {"start": None, "end": "2024-02-01"}, {"start": None, "end": dt.date(2024, 2, 1)}),
    (
        "RANGE<TIMESTAMP>",
        "[2024-01-01T00:00:00Z, 2024-01-02 00:00:00+01)",
        {"start": dt.datetime(2024, 1, 1, tzinfo=UTC), "end": dt.datetime(2024, 1, 1, 23, tzinfo=UTC)},
    ),
]


@pytest.mark.parametrize(("kind", "value", "expected"), EXACT)
def test_a_json_value_arrives_exactly(loader, kind, value, expected):
    loaded = loader.load([{"v": value}, {"v": None}, {}], schema=column(kind))
    assert isinstance(loaded, Loaded), loaded
    assert loaded.rows == [(expected,), (None,), (None,)]


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("INT64", 2.5),
        ("INT64", "2.0"),
        ("INT64", 2**63),
        ("INT64", True),
        ("FLOAT64", "x"),
        ("NUMERIC", "0.1234567891"),
        ("NUMERIC", "100000000000000000000000000000"),
        ("NUMERIC", "x"),
        ("BOOL", "maybe"),
        ("BOOL", 1),
        ("BYTES", "$$"),
        ("DATE", "2024-02-30"),
        ("DATE", "2024-02-01T00:00:00"),
        ("TIME", "25:00:00"),
        ("DATETIME", "2024-02-29T10:00:00Z"),
        ("TIMESTAMP", "2024-02-29T10:00:00.123456789Z"),
        ("TIMESTAMP", "yesterday"),
        ("INTERVAL", "P1Y"),
        ("RANGE<DATE>", "[2024-01-01, 2024-02-01]"),
        ("RANGE<DATE>", "[2024-01-32, 2024-02-01)"),
        ("STRING", ["a"]),
        ("STRING", {"a": 1}),
    ],
)
def test_a_json_value_that_does_not_fit_fails(loader, kind, value):
    table = loader.new_table()
    refused = loader.load([{"v": None}, {"v": value}], schema=column(kind), table=table)
    assert isinstance(refused, Refused)
    assert (refused.status, refused.reason) == (400, "invalid")
    assert "v" in refused.message
    assert "Row 2" in refused.message
    assert not loader.has_table(table)


def test_arrays_and_records_of_json_arrive(loader):
    schema = [
        bigquery.SchemaField("tags", "STRING", "REPEATED"),
        bigquery.SchemaField(
            "lines",
            "RECORD",
            "REPEATED",
            fields=[bigquery.SchemaField("price", "NUMERIC"), bigquery.SchemaField("on", "DATE", "REPEATED")],
        ),
    ]
    rows = [{"tags": ["a", ""], "lines": [{"price": "1.10", "on": ["2024-01-01"]}, {}]}, {"tags": None}]
    assert loader.load(rows, schema=schema).rows == [
        (["a", ""], [{"price": Decimal("1.1"), "on": [dt.date(2024, 1, 1)]}, {"price": None, "on": []}]),
        ([], []),
    ]


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"tags": ["a", None]}, "NULL"),
        ({"tags": "a"}, "tags"),
        ({"tags": [["a"]]}, "tags"),
        ({"other": 1}, "No such field: other"),
        ({"rec": {"other": 1}}, "No such field: rec.other"),
        ({"rec": [1]}, "not a record"),
        ({"rec": {"n": None}}, "Missing required field: rec.n"),
    ],
)
def test_json_that_does_not_have_the_schemas_shape_fails(loader, row, why):
    schema = [
        bigquery.SchemaField("tags", "STRING", "REPEATED"),
        bigquery.SchemaField("rec", "RECORD", fields=[bigquery.SchemaField("n", "INT64", "REQUIRED")]),
    ]
    refused = loader.load([row], schema=schema)
    assert refused.reason == "invalid"
    assert why in refused.message


def test_unknown_keys_and_bad_records_may_be_allowed(loader):
    rows = [{"v": 1, "w": 2}, {"v": "x"}]
    options = {"schema": column("INT64"), "ignore_unknown_values": True}
    assert loader.load(rows, **options).reason == "invalid"
    assert loader.load(rows, max_bad_records=1, **options).rows == [(1,)]


def test_bad_records_may_be_allowed_for_geography_too(loader):
    rows = [{"v": "POINT(1 2)"}, {"v": "POINT(1 92)"}, {"v": "POINT(3 4)"}]
    schema = column("GEOGRAPHY")
    assert loader.load(rows, schema=schema, max_bad_records=1).rows == [("POINT(1 2)",), ("POINT(3 4)",)]


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("BIGNUMERIC", "0.1234567890123456789"),
        ("BIGNUMERIC", "123456789012345678901"),
        ("INTERVAL", "-1-2 3 4:5:6"),
        ("INTERVAL", "0-0 0 0:0:0.000001"),
    ],
)
def test_what_the_emulator_has_no_room_for_is_not_implemented(loader, kind, value):
    refused = loader.load([{"v": value}], schema=column(kind))
    assert (refused.status, refused.reason) == (501, "notImplemented")
    assert "The sandbox cannot do this" in refused.message


def test_an_interval_arrives(loader):
    (row,) = loader.load([{"v": "1-2 3 4:5:6.789"}], schema=column("INTERVAL")).rows
    interval = row[0]
    assert (interval.years, interval.months, interval.days, interval.hours) == (1, 2, 3, 4)
    assert (interval.minutes, interval.seconds, interval.microseconds) == (5, 6, 789_000)


MOMENT = dt.datetime(2024, 1, 1, 10)


@pytest.mark.parametrize(
    ("values", "schema", "expected"),
    [
        (pa.array([MOMENT], pa.timestamp("us")), None, MOMENT.replace(tzinfo=UTC)),
        (pa.array([MOMENT], pa.timestamp("us")), column("DATETIME"), MOMENT),
        (pa.array([MOMENT], pa.timestamp("ms", "Europe/Madrid")), None, MOMENT.replace(tzinfo=UTC)),
        (pa.array([dt.time(1, 2, 3, 4)]), None, dt.time(1, 2, 3, 4)),
        (pa.array([dt.date(2024, 1, 1)]), None, dt.date(2024, 1, 1)),
        (pa.array([b"ab"], pa.binary(2)), None, b"ab"),
        (pa.array(["x"]).dictionary_encode(), None, "x"),
        (pa.array([2**63 - 1], pa.uint64()), None, 2**63 - 1),
        (pa.array([Decimal("1.5")], pa.decimal128(38, 18)), None, Decimal("1.5")),
        (pa.array([Decimal("1.12")], pa.decimal256(76, 38)), column("BIGNUMERIC"), Decimal("1.12")),
        (pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int64())), None, {"key_value": [{"key": "k", "value": 1}]}),
        (pa.array([[1, 2]]), None, {"list": [{"element": 1}, {"element": 2}]}),
    ],
)
def test_a_parquet_value_arrives_exactly(loader, values, schema, expected):
    assert loader.load(pa.table({"v": values}), schema=schema).rows == [(expected,)]


@pytest.mark.parametrize(
    ("values", "schema", "why"),
    [
        (pa.array([1], pa.timestamp("ns")), None, "nanoseconds"),
        (pa.array([1], pa.time64("ns")), None, "nanoseconds"),
        (pa.array(["{}"], pa.json_(pa.string())), None, "JSON"),
        (pa.array(["{}"]), column("JSON"), "JSON"),
        (pa.array([b"0" * 16], pa.uuid()), None, "UUID"),
        (pa.array([1.5], pa.float16()), None, "FLOAT16"),
        (pa.nulls(1), None, "NULL"),
        (pa.array([[[1]]]), None, "list of lists"),
        (pa.array([2**63], pa.uint64()), None, "INT64"),
        (pa.array([Decimal("0.1234567891")], pa.decimal128(38, 18)), None, "precision"),
        (pa.array([Decimal("0.1234567891")], pa.decimal128(38, 18)), column("NUMERIC"), "precision"),
        (pa.array([1]), column("INT64", "REQUIRED"), "REQUIRED to NULLABLE"),
        (pa.array(["1"]), column("INT64"), "does not match"),
        (pa.array([1]), column("STRING"), "does not match"),
    ],
)
def test_a_parquet_value_that_bigquery_does_not_load_fails(loader, values, schema, why):
    refused = loader.load(pa.table({"v": values}), schema=schema)
    assert (refused.status, refused.reason) == (400, "invalid")
    assert why in refused.message


def test_lists_are_arrays_only_with_list_inference(loader):
    table = pa.table({"v": [[1, None, 2], None]})
    schema = column("INT64", "REPEATED")
    assert loader.load(table, schema=schema, parquet_options=lists()).rows == [([1, 2],), ([],)]
    assert loader.load(table, schema=schema).rows == [([],), ([],)]
    assert loader.load(table, parquet_options=lists()).columns == ["v INTEGER REPEATED"]


def test_fine_decimals_need_the_type_for_it(loader):
    table = pa.table({"v": pa.array([Decimal("0.123456789012345678")], pa.decimal128(38, 18))})
    wide = loader.load(table, decimal_target_types=["NUMERIC", "BIGNUMERIC"])
    assert wide.columns == ["v BIGNUMERIC NULLABLE"]
    assert wide.rows == [(Decimal("0.123456789012345678"),)]


def test_a_required_parquet_field_stays_required(loader):
    table = pa.table([[1]], schema=pa.schema([pa.field("v", pa.int64(), nullable=False)]))
    assert loader.load(table, schema=column("INT64", "REQUIRED")).columns == ["v INTEGER REQUIRED"]


def test_records_of_parquet_keep_their_types(loader):
    fields = [bigquery.SchemaField("n", "NUMERIC"), bigquery.SchemaField("g", "GEOGRAPHY")]
    table = pa.table({"v": [[{"n": Decimal("1.5"), "g": "POINT(1 2)"}]]})
    loaded = loader.load(table, schema=column("RECORD", "REPEATED", fields=fields), parquet_options=lists())
    assert loaded.rows == [([{"n": Decimal("1.5"), "g": "POINT(1 2)"}],)]
