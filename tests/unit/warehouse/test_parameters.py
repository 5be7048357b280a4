"""Query parameters: each kind of Python value arrives exactly, or is refused with its name and the next step."""

from __future__ import annotations

import collections
import datetime
import enum
import json
import uuid
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy
import pandas
import polars
import pyarrow
import pytest
import shapely
from dateutil.relativedelta import relativedelta
from google.cloud import bigquery
from hypothesis import given
from hypothesis import strategies as st

from carto_auth_integrations.warehouse.parameters import query_parameters
from tests.support.processes import run_processes

UTC = datetime.timezone.utc
MOMENT = datetime.datetime(2024, 2, 29, 1, 2, 3, 4)


class Colour(str, enum.Enum):
    RED = "red"


class Size(enum.IntEnum):
    LARGE = 3


class Exact(enum.Enum):
    HALF = Decimal("0.5")


class Lazy(Sequence[int]):
    """As Airflow's lazy XCom sequences: a sequence that is no list."""

    def __getitem__(self, index: Any) -> Any:
        return [1, 2, 3][index]

    def __len__(self) -> int:
        return 3


class Place:
    @property
    def __geo_interface__(self) -> dict[str, Any]:
        return {"type": "Feature", "geometry": {"type": "Point", "coordinates": [1, 2]}, "properties": {}}


def sent(value: Any) -> tuple[Any, Any]:
    """Return type and value of a parameter, short: `INT64` and `"1"`; lists and dicts for arrays and structs."""
    (parameter,) = query_parameters({"p": value})
    resource = parameter.to_api_repr()
    assert resource["name"] == "p"
    json.dumps(resource, allow_nan=False)
    return short_type(resource["parameterType"]), short(resource["parameterValue"])


def short_type(kind: dict[str, Any]) -> Any:
    if kind["type"] == "ARRAY":
        return [short_type(kind["arrayType"])]
    if kind["type"] == "STRUCT":
        return {field["name"]: short_type(field["type"]) for field in kind["structTypes"]}
    return kind["type"]


def short(value: dict[str, Any]) -> Any:
    if "arrayValues" in value:
        return [short(each) for each in value["arrayValues"]]
    if "structValues" in value:
        return {name: short(each) for name, each in value["structValues"].items()}
    return value["value"]


SCALARS: list[tuple[Any, str, Any]] = [
    (True, "BOOL", "true"),
    (False, "BOOL", "false"),
    (7, "INT64", "7"),
    (-(2**63), "INT64", "-9223372036854775808"),
    (2**63, "NUMERIC", "9223372036854775808"),
    (10**29, "BIGNUMERIC", "1" + "0" * 29),
    (1.5, "FLOAT64", 1.5),
    (float("nan"), "FLOAT64", "nan"),
    (float("-inf"), "FLOAT64", "-inf"),
    ("Köln", "STRING", "Köln"),
    (b"\x00\xff", "BYTES", "AP8="),
    (bytearray(b"x"), "BYTES", "eA=="),
    (memoryview(b"x"), "BYTES", "eA=="),
    (Decimal("1.50"), "NUMERIC", "1.50"),
    (Decimal("9" * 29 + "." + "9" * 9), "NUMERIC", "9" * 29 + "." + "9" * 9),
    (Decimal("1.000000000000"), "NUMERIC", "1.000000000000"),
    (Decimal("0.12345678901234567890"), "BIGNUMERIC", "0.12345678901234567890"),
    (Decimal("-1E+29"), "BIGNUMERIC", "-1E+29"),
    (Decimal("9" * 38 + "." + "9" * 38), "BIGNUMERIC", "9" * 38 + "." + "9" * 38),
    (datetime.date(2024, 2, 29), "DATE", "2024-02-29"),
    (MOMENT, "DATETIME", "2024-02-29T01:02:03.000004"),
    (MOMENT.replace(tzinfo=UTC), "TIMESTAMP", "2024-02-29 01:02:03.000004+00:00"),
    (
        MOMENT.replace(tzinfo=datetime.timezone(datetime.timedelta(hours=2))),
        "TIMESTAMP",
        "2024-02-28 23:02:03.000004+00:00",
    ),
    (datetime.time(1, 2, 3, 4), "TIME", "01:02:03.000004"),
    (datetime.timedelta(days=3, hours=25, microseconds=5), "INTERVAL", "0-0 4 1:0:0.000005"),
    (datetime.timedelta(hours=-1), "INTERVAL", "0-0 0 -1:0:0"),
    (datetime.timedelta(days=-2, hours=-1), "INTERVAL", "0-0 -2 -1:0:0"),
    (relativedelta(years=-1, months=-2, days=3, hours=4, microseconds=5), "INTERVAL", "-1-2 3 4:0:0.000005"),
    (uuid.UUID(int=1), "STRING", "00000000-0000-0000-0000-000000000001"),
    (Colour.RED, "STRING", "red"),
    (Size.LARGE, "INT64", "3"),
    (Exact.HALF, "NUMERIC", "0.5"),
    (numpy.int8(-3), "INT64", "-3"),
    (numpy.uint64(2**64 - 1), "NUMERIC", str(2**64 - 1)),
    (numpy.float32(0.1), "FLOAT64", 0.10000000149011612),
    (numpy.float64(1.5), "FLOAT64", 1.5),
    (numpy.bool_(True), "BOOL", "true"),
    (numpy.str_("x"), "STRING", "x"),
    (numpy.bytes_(b"x"), "BYTES", "eA=="),
    (numpy.array(5), "INT64", "5"),
    (numpy.datetime64("2024-02-29"), "DATE", "2024-02-29"),
    (numpy.datetime64("2024-02-29T01:02:03.000004", "ns"), "DATETIME", "2024-02-29T01:02:03.000004"),
    (numpy.timedelta64(90, "m"), "INTERVAL", "0-0 0 1:30:0"),
    (pandas.Timestamp(MOMENT), "DATETIME", "2024-02-29T01:02:03.000004"),
    (pandas.Timestamp("2024-02-29 02:00", tz="Europe/Madrid"), "TIMESTAMP", "2024-02-29 01:00:00+00:00"),
    (pandas.Timedelta("-1h"), "INTERVAL", "0-0 0 -1:0:0"),
    (pyarrow.scalar(Decimal("1.5")), "NUMERIC", "1.5"),
    (pyarrow.scalar(7), "INT64", "7"),
]


@pytest.mark.parametrize(("value", "kind", "expected"), SCALARS, ids=lambda value: repr(value)[:40])
def test_a_value_has_the_type_that_holds_it_exactly(value: Any, kind: str, expected: Any) -> None:
    assert sent(value) == (kind, expected)


GOOGLE = [each for each in SCALARS if type(each[0]) in (bool, int, float, str, bytes, Decimal, datetime.date)]
GOOGLE += [(MOMENT, "DATETIME", None), (datetime.time(1, 2, 3, 4), "TIME", None)]


@pytest.mark.parametrize(("value", "kind"), [each[:2] for each in GOOGLE], ids=lambda value: repr(value)[:40])
def test_parameters_are_sent_as_google_sends_them(value: Any, kind: str) -> None:
    same = Decimal(value) if kind in ("NUMERIC", "BIGNUMERIC") else value
    theirs = bigquery.ScalarQueryParameter("p", kind, same).to_api_repr()
    ours = query_parameters({"p": value})[0].to_api_repr()
    if value in (float("inf"), float("-inf")) or value != value:
        theirs["parameterValue"]["value"] = str(theirs["parameterValue"]["value"]).lower()
    assert ours == theirs


def test_arrays_and_structs_are_sent_as_google_sends_them() -> None:
    array = bigquery.ArrayQueryParameter("p", "INT64", [1, 2])
    assert query_parameters({"p": [1, 2]})[0].to_api_repr() == array.to_api_repr()
    struct = bigquery.StructQueryParameter(
        "p",
        bigquery.ScalarQueryParameter("a", "INT64", 1),
        bigquery.ArrayQueryParameter("b", "STRING", ["x"]),
        bigquery.StructQueryParameter("c", bigquery.ScalarQueryParameter("d", "DATE", datetime.date(2024, 1, 1))),
    )
    ours = query_parameters({"p": {"a": 1, "b": ["x"], "c": {"d": datetime.date(2024, 1, 1)}}})[0]
    assert ours.to_api_repr() == struct.to_api_repr()
    row = bigquery.StructQueryParameter(None, bigquery.ScalarQueryParameter("a", "INT64", 1))
    rows = bigquery.ArrayQueryParameter("p", "STRUCT", [row, row])
    assert query_parameters({"p": [{"a": 1}, {"a": 1}]})[0].to_api_repr() == rows.to_api_repr()


ARRAYS: list[tuple[Any, Any, Any]] = [
    ([1, 2], ["INT64"], ["1", "2"]),
    ((1, None), ["INT64"], ["1", None]),
    ([1, 2.5], ["FLOAT64"], [1.0, 2.5]),
    ([1, 2**63], ["NUMERIC"], ["1", str(2**63)]),
    ([1, Decimal("1.5")], ["NUMERIC"], ["1", "1.5"]),
    ([Decimal("1.5"), Decimal("1E-20")], ["BIGNUMERIC"], ["1.5", "1E-20"]),
    ([Colour.RED, "blue"], ["STRING"], ["red", "blue"]),
    ({3, 1, 2}, ["INT64"], ["1", "2", "3"]),
    (frozenset("ba"), ["STRING"], ["a", "b"]),
    ({None, 1}, ["INT64"], [None, "1"]),
    ({Size.LARGE}, ["INT64"], ["3"]),
    ({"b": 1, "a": 2}.keys(), ["STRING"], ["a", "b"]),
    ({"b": 1, "a": 2}.values(), ["INT64"], ["1", "2"]),
    (range(2), ["INT64"], ["0", "1"]),
    (collections.deque([True]), ["BOOL"], ["true"]),
    (Lazy(), ["INT64"], ["1", "2", "3"]),
    (numpy.array([1, 2]), ["INT64"], ["1", "2"]),
    (numpy.array(["2024-01-01", "NaT"], "M8[ns]"), ["DATETIME"], ["2024-01-01T00:00:00", None]),
    (numpy.ma.array([1, 2], mask=[False, True]), ["INT64"], ["1", None]),
    (pandas.Series([1, None], dtype="Int64"), ["INT64"], ["1", None]),
    (pandas.Series(["a", None]), ["STRING"], ["a", None]),
    (pandas.Series(["a", float("nan")], dtype=object), ["STRING"], ["a", None]),
    (pandas.Series([1.5, float("nan")]), ["FLOAT64"], [1.5, "nan"]),
    (pandas.Series(pandas.to_datetime(["2024-01-01", None])), ["DATETIME"], ["2024-01-01T00:00:00", None]),
    (pandas.Categorical(["a", None]), ["STRING"], ["a", None]),
    (pandas.Index([1.5]), ["FLOAT64"], [1.5]),
    (pandas.array([True, None], dtype="boolean"), ["BOOL"], ["true", None]),
    (polars.Series([1, None]), ["INT64"], ["1", None]),
    (pyarrow.array(["a", None]), ["STRING"], ["a", None]),
    (pyarrow.table({"a": [1]}), [{"a": "INT64"}], [{"a": "1"}]),
    ([{"a": 1}, {"b": "x"}], [{"a": "INT64", "b": "STRING"}], [{"a": "1", "b": None}, {"a": None, "b": "x"}]),
    ([{"a": 1}, {"a": 2.5}], [{"a": "FLOAT64"}], [{"a": 1.0}, {"a": 2.5}]),
    ([{"a": []}, {"a": [1]}, {"a": None}], [{"a": ["INT64"]}], [{"a": []}, {"a": ["1"]}, {"a": []}]),
    ([{"a": 1}, None], [{"a": "INT64"}], [{"a": "1"}, None]),
]


@pytest.mark.parametrize(("value", "kind", "expected"), ARRAYS, ids=lambda value: repr(value)[:40].replace("\n", " "))
def test_collections_of_any_kind_are_arrays_of_one_type(value: Any, kind: Any, expected: Any) -> None:
    assert sent(value) == (kind, expected)


def test_mappings_are_structs_of_any_depth() -> None:
    value = {"id": 1, "tags": {"b", "a"}, "at": {"lon": 1.5, "when": [MOMENT.date()]}}
    assert sent(value) == (
        {"id": "INT64", "tags": ["STRING"], "at": {"lon": "FLOAT64", "when": ["DATE"]}},
        {"id": "1", "tags": ["a", "b"], "at": {"lon": 1.5, "when": ["2024-02-29"]}},
    )


def test_a_set_has_the_same_order_in_every_process() -> None:
    code = """
        from carto_auth_integrations.warehouse.parameters import query_parameters
        print(query_parameters([{"Köln", "Madrid", "Sevilla", None}])[0].to_api_repr())
        """
    outputs = {run_processes(1, code, PYTHONHASHSEED=seed)[0] for seed in ("1", "2", "3")}
    assert len(outputs) == 1


@pytest.mark.parametrize(
    ("value", "next_step"),
    [
        (None, r"ScalarQueryParameter.*None"),
        (pandas.NA, "ScalarQueryParameter"),
        (pandas.NaT, "ScalarQueryParameter"),
        (numpy.datetime64("NaT"), "ScalarQueryParameter"),
        ([], r"ArrayQueryParameter\('since', 'INT64', \[\]\)"),
        ([bigquery.ScalarQueryParameter(None, "INT64", 1), 1.5], r"FLOAT64, INT64; pass a bigquery\.Array"),
        ([None], "ArrayQueryParameter"),
        (set(), "ArrayQueryParameter"),
        (numpy.array([]), "ArrayQueryParameter"),
        ({}, "fields"),
        ({1: 2}, "names"),
        ({"a": None}, r"since\.a.*ScalarQueryParameter"),
        ({"a": []}, r"since\.a.*ArrayQueryParameter\('a'"),
        ([[1]], "fields of dicts"),
        (numpy.array([[1]]), "fields of dicts"),
        ([1, "x"], "INT64, STRING"),
        ([True, 1], "BOOL, INT64"),
        ([1.5, Decimal(1)], "FLOAT64, NUMERIC"),
        ([MOMENT, MOMENT.date()], "DATE, DATETIME"),
        ([MOMENT, MOMENT.replace(tzinfo=UTC)], "DATETIME, TIMESTAMP"),
        ([{"a": 1}, 3], "lists or dicts"),
        ([[1], 3], "lists or dicts"),
        ((each for each in [1]), r"list\(…\)"),
        (iter([1]), r"list\(…\)"),
        (map(str, [1]), r"list\(…\)"),
        (Path("a.csv"), r"str\(…\)"),
        (pandas.DataFrame({"a": [1]}), "one of its columns"),
        (pandas.Period("2024-01"), "ScalarQueryParameter"),
        (numpy.complex64(1), "ScalarQueryParameter"),
        (numpy.longdouble(1), "ScalarQueryParameter"),
        (numpy.array([(1, 2)], "i8,i8"), "ScalarQueryParameter"),
        (1j, "ScalarQueryParameter"),
        (object(), "ScalarQueryParameter"),
        (int, "ScalarQueryParameter"),
    ],
    ids=lambda value: repr(value)[:30].replace("\n", " "),
)
def test_what_has_no_type_is_refused_with_its_name_and_the_next_step(value: Any, next_step: str) -> None:
    with pytest.raises(TypeError, match=rf"(?s)^Parameter (?=since).*{next_step}"):
        query_parameters({"since": value})


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (2**200, "exactly"),
        (Decimal("6E+38"), "exactly"),
        (Decimal("1E-39"), "exactly"),
        (Decimal("1E+1000000"), "exactly"),
        (Decimal("1E-1000000"), "exactly"),
        (Decimal("NaN"), "exactly"),
        (Decimal("-Infinity"), "exactly"),
        ([2**53 + 1, 2.5], "FLOAT64.* does not hold 9007199254740993"),
        (datetime.time(1, tzinfo=UTC), "time zone"),
        (datetime.datetime(1, 1, 1, tzinfo=datetime.timezone(datetime.timedelta(hours=1))), "out of range"),
        (datetime.timedelta.max, "3660000 days"),
        (relativedelta(year=2024), "parts of a date"),
        (relativedelta(hours=0.1234567891), "fractions"),
        (pandas.Timestamp("2024-01-01 00:00:00.000000001"), "nanoseconds"),
        (pandas.Timedelta(1, "ns"), "nanoseconds"),
        (numpy.datetime64("2024-01-01T00:00:00.000000001"), "microseconds"),
        (numpy.datetime64(10**15, "s"), "exactly"),
        (numpy.timedelta64(1, "M"), "exactly"),
        (polars.Series([MOMENT]).cast(polars.Datetime("ns")), "microseconds"),
        ("\ud800", "not Unicode"),
        (shapely.Point(1, 95), "since"),
        (shapely.Polygon([(0, 0), (1, 1), (1, 0), (0, 1)]), "since"),
        (shapely.set_srid(shapely.Point(1, 2), 999999), "since"),
    ],
    ids=lambda value: repr(value)[:30].replace("\n", " "),
)
def test_what_no_type_holds_exactly_is_refused_with_its_name(value: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=rf"(?s)^Parameter (?=since).*{reason}"):
        query_parameters({"since": value})


def test_a_parameter_without_a_name_is_named_by_its_position() -> None:
    with pytest.raises(TypeError, match=r"^Parameter 2 "):
        query_parameters([1, None])


def test_googles_own_parameters_stay_as_they_are() -> None:
    own = bigquery.ScalarQueryParameter("p", "GEOGRAPHY", "POINT(1 2)")
    assert query_parameters([own]) == [own]
    assert query_parameters({"p": own}) == [own]


def test_a_null_has_the_type_of_googles_parameter_at_any_depth() -> None:
    null = bigquery.ScalarQueryParameter(None, "INT64", None)
    assert sent(null) == ("INT64", None)
    assert sent({"a": null}) == ({"a": "INT64"}, {"a": None})
    assert sent([null, 1]) == (["INT64"], [None, "1"])
    assert sent({"a": bigquery.ArrayQueryParameter(None, "DATE", [])}) == ({"a": ["DATE"]}, {"a": []})


def test_the_name_in_a_mapping_is_the_parameters() -> None:
    other = bigquery.ScalarQueryParameter("other", "INT64", 1)
    assert (
        query_parameters({"p": other})[0].to_api_repr() == bigquery.ScalarQueryParameter("p", "INT64", 1).to_api_repr()
    )


@pytest.mark.parametrize("value", [shapely.Point(1, 2), Place(), shapely.set_srid(shapely.Point(1, 2), 4326)])
def test_geometry_becomes_geography(value: Any) -> None:
    kind, text = sent(value)
    assert (kind, shapely.from_wkt(text)) == ("GEOGRAPHY", shapely.Point(1, 2))


def test_rings_are_oriented_as_bigquery_reads_them() -> None:
    clockwise = shapely.Polygon([(0, 0), (0, 1), (1, 1), (1, 0)])
    _, text = sent(clockwise)
    assert shapely.from_wkt(text).exterior.is_ccw


def test_a_series_of_geometry_brings_its_reference_system() -> None:
    geopandas = pytest.importorskip("geopandas")
    series = geopandas.GeoSeries([shapely.Point(1, 2), None], crs="OGC:CRS84").to_crs(3857)
    kind, (text, missing) = sent(series)
    assert (kind, missing) == (["GEOGRAPHY"], None)
    assert shapely.from_wkt(text).distance(shapely.Point(1, 2)) < 1e-9


def test_coordinates_keep_all_their_digits() -> None:
    point = shapely.Point(0.1, 1 / 3)
    assert shapely.from_wkt(sent(point)[1]) == point


VALUES = st.recursive(
    st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.booleans()
    | st.decimals(allow_nan=False, allow_infinity=False)
    | st.datetimes()
    | st.none(),
    lambda children: st.lists(children) | st.dictionaries(st.text("abc", min_size=1), children),
    max_leaves=12,
)


@given(VALUES)
def test_any_value_is_sent_whole_or_refused(value: Any) -> None:
    try:
        kind, text = sent(value)
    except (TypeError, ValueError):
        return
    assert_same(value, kind, text)


def assert_same(value: Any, kind: Any, text: Any) -> None:
    if isinstance(kind, list):
        assert len(value or ()) == len(text)
        for each, told in zip(value or (), text, strict=True):
            assert_same(each, kind[0], told)
    elif isinstance(kind, dict) and value is not None:
        assert set(value) <= set(kind)
        for name in kind:
            assert_same(value.get(name), kind[name], text[name])
    elif value is None:
        assert text is None
    elif kind in ("INT64", "NUMERIC", "BIGNUMERIC"):
        assert Decimal(text) == Decimal(value)
    elif kind == "FLOAT64":
        assert float(text) == value


def test_converting_imports_neither_google_nor_numpy() -> None:
    code = """
        import sys
        from carto_auth_integrations.warehouse.parameters import query_parameters
        query_parameters({"a": [1, 2.5], "b": {"c": {"x"}}})
        print({name.partition(".")[0] for name in sys.modules} & {"google", "numpy", "pandas", "pyarrow", "shapely"})
        """
    assert run_processes(1, code)[0].strip() == "set()"
