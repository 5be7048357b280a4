"""Frames of a query's rows: no value changes beside a NULL, and what a frame cannot hold is refused by column."""

from __future__ import annotations

import datetime
import sys
from decimal import Decimal

import pandas
import polars
import pyarrow
import pytest
import shapely

from carto_auth_integrations.errors import MissingDependency
from carto_auth_integrations.warehouse.dataframes import GEOGRAPHY, to_geopandas, to_pandas, to_polars

LARGE = 9007199254740993
MOMENT = datetime.datetime(9999, 12, 31, 23, 59, 59, 999999)


def geography(name: str = "at") -> pyarrow.Field:
    """Return a field as google's client describes a GEOGRAPHY column."""
    return pyarrow.field(name, pyarrow.string(), metadata={b"ARROW:extension:name": GEOGRAPHY})


def places(*names: str) -> pyarrow.Table:
    columns = [pyarrow.array(["POINT(1 2)", None]) for _ in names]
    return pyarrow.Table.from_arrays(columns, schema=pyarrow.schema([geography(name) for name in names]))


def test_integers_and_booleans_beside_a_null_stay_what_they_are() -> None:
    frame = to_pandas(
        pyarrow.table({"id": [LARGE, None], "ok": [True, None], "none": pyarrow.nulls(2, pyarrow.int64())})
    )
    assert [str(kind) for kind in frame.dtypes] == ["Int64", "boolean", "Int64"]
    assert (frame["id"][0], frame["ok"][0]) == (LARGE, True)
    assert (frame["id"][1], frame["ok"][1], frame["none"][0]) == (pandas.NA, pandas.NA, pandas.NA)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (pyarrow.decimal128(38, 9), Decimal("0.100000001")),
        (pyarrow.decimal256(76, 38), Decimal("1." + "1" * 38)),
        (pyarrow.date32(), datetime.date(1, 1, 1)),
        (pyarrow.time64("us"), datetime.time(1, 2, 3, 4)),
        (pyarrow.timestamp("us"), MOMENT),
        (pyarrow.timestamp("us", "UTC"), MOMENT.replace(tzinfo=datetime.timezone.utc)),
        (pyarrow.binary(), b"\x00"),
        (pyarrow.string(), "Köln"),
        (pyarrow.struct([("a", pyarrow.int64())]), {"a": LARGE}),
    ],
    ids=str,
)
def test_every_other_type_is_exact_in_pandas_beside_a_null(kind: pyarrow.DataType, value: object) -> None:
    frame = to_pandas(pyarrow.table({"x": pyarrow.array([value, None], kind)}))
    assert frame["x"][0] == value
    assert pandas.isna(frame["x"][1])


def test_lists_keep_large_integers() -> None:
    frame = to_pandas(pyarrow.table({"x": [[LARGE, 1], []]}))
    assert [list(each) for each in frame["x"]] == [[LARGE, 1], []]


def test_a_geography_column_becomes_geometry_in_longitude_and_latitude() -> None:
    frame = to_geopandas(places("at"), None, 4326)
    assert frame.geometry.name == "at"
    assert frame.crs.to_epsg() == 4326
    assert list(frame["at"]) == [shapely.Point(1, 2), None]


def test_of_several_geography_columns_one_is_chosen_and_all_are_geometry() -> None:
    with pytest.raises(ValueError, match=r"2 GEOGRAPHY columns \(start, end\): pass geometry="):
        to_geopandas(places("start", "end"), None, 4326)
    frame = to_geopandas(places("start", "end"), "end", 4326)
    assert (frame.geometry.name, frame["start"][0]) == ("end", shapely.Point(1, 2))


def test_without_a_geography_column_a_column_of_wkt_may_be_named() -> None:
    table = pyarrow.table({"wkt": ["POINT(1 2)"]})
    with pytest.raises(ValueError, match="0 GEOGRAPHY columns"):
        to_geopandas(table, None, 4326)
    with pytest.raises(ValueError, match="no column nowhere: the columns are wkt"):
        to_geopandas(table, "nowhere", 4326)
    assert to_geopandas(table, "wkt", 4326).geometry[0] == shapely.Point(1, 2)


def test_polars_has_the_same_values_in_its_own_types() -> None:
    table = pyarrow.table({"id": [LARGE, None], "n": pyarrow.array([Decimal("1.5"), None], pyarrow.decimal128(38, 9))})
    table = table.append_column(geography(), pyarrow.array(["POINT(1 2)", None]))
    frame = to_polars(table)
    assert frame.schema == {"id": polars.Int64(), "n": polars.Decimal(38, 9), "at": polars.String()}
    assert frame.rows() == [(LARGE, Decimal("1.5"), "POINT(1 2)"), (None, None, None)]


@pytest.mark.parametrize("value", [Decimal("1.5"), Decimal("0." + "1" * 38), Decimal("9" * 30 + ".12345678")])
def test_a_bignumeric_that_polars_can_hold_is_exact(value: Decimal) -> None:
    frame = to_polars(pyarrow.table({"x": pyarrow.array([value, None], pyarrow.decimal256(76, 38))}))
    assert frame["x"].to_list() == [value, None]


@pytest.mark.parametrize(
    "column",
    [
        pyarrow.array([Decimal("9" * 30 + ".123456789")], pyarrow.decimal256(76, 38)),
        pyarrow.array([{"a": Decimal(1)}], pyarrow.struct([("a", pyarrow.decimal256(76, 38))])),
        pyarrow.array([(1, 2, 3)], pyarrow.month_day_nano_interval()),
    ],
    ids=["digits", "nested", "interval"],
)
def test_what_polars_cannot_hold_is_refused_by_column(column: pyarrow.Array) -> None:
    with pytest.raises(ValueError, match=r"Column big: .* CAST it to STRING"):
        to_polars(pyarrow.table({"big": column}))


def test_a_table_without_rows_has_its_types() -> None:
    table = places("at").slice(0, 0)
    assert (len(to_pandas(table)), len(to_geopandas(table, None, 4326)), len(to_polars(table))) == (0, 0, 0)


@pytest.mark.parametrize("module", ["geopandas", "polars"])
def test_a_missing_package_is_named_with_its_extra(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    convert = {"geopandas": lambda: to_geopandas(places("at"), None, 4326), "polars": lambda: to_polars(places("at"))}
    with pytest.raises(MissingDependency, match=rf"{module}.*\[frames\]"):
        convert[module]()
