"""Rows that are in memory or come from an iterator: which objects hold rows, and how they are read."""

from __future__ import annotations

import datetime
import gc
import sys
import weakref
from collections import OrderedDict, UserDict
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import geopandas
import geopandas.testing
import numpy
import pandas
import polars
import pyarrow
import pytest
from shapely.geometry import GeometryCollection, LineString, MultiPolygon, Point, shape

from carto_auth_integrations.errors import MissingDependency
from carto_auth_integrations.waiting import Deadline
from carto_auth_integrations.warehouse import LoadOptions
from carto_auth_integrations.warehouse.sources import open_source
from carto_auth_integrations.warehouse.sources import rows as rows_module
from carto_auth_integrations.warehouse.sources.preparing import Preparation
from carto_auth_integrations.warehouse.sources.rows import open_rows
from tests.support.sources import columns_of, read_back, rows_of, strict_json

MADRID = Point(-3.7038, 40.4168)


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(rows_module, "ROWS_PER_CHUNK", 10)
    return 10


def reader_of(*batches: pyarrow.RecordBatch) -> pyarrow.RecordBatchReader:
    return pyarrow.RecordBatchReader.from_batches(batches[0].schema, iter(batches))


class CapsuleOfAStream:
    """A table of a package that is unknown here, and speaks Arrow."""

    def __init__(self, table: pyarrow.Table) -> None:
        self.__table = table

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self.__table.__arrow_c_stream__(requested_schema)


class CapsuleOfAnArray:
    """The same, of a package that has no streams."""

    def __init__(self, batch: pyarrow.RecordBatch) -> None:
        self.__batch = batch

    def __arrow_c_array__(self, requested_schema: object = None) -> object:
        return self.__batch.__arrow_c_array__(requested_schema)


class Record:
    """A row of a database driver: it has keys and values, and is no dict."""

    def __init__(self, **values: Any) -> None:
        self._values = values

    def keys(self) -> Any:
        return self._values.keys()

    def __getitem__(self, name: str) -> Any:
        return self._values[name]


SOURCES: dict[str, Any] = {
    "table": lambda: pyarrow.table({"x": [1, 2]}),
    "table of two chunks": lambda: pyarrow.concat_tables([pyarrow.table({"x": [1]}), pyarrow.table({"x": [2]})]),
    "slice of a table": lambda: pyarrow.table({"x": [0, 1, 2, 3]}).slice(1, 2),
    "batch": lambda: pyarrow.record_batch({"x": [1, 2]}),
    "reader": lambda: reader_of(pyarrow.record_batch({"x": [1]}), pyarrow.record_batch({"x": [2]})),
    "frame": lambda: pandas.DataFrame({"x": [1, 2]}, index=[7, 8]),
    "frame of objects": lambda: pandas.DataFrame({"x": pandas.Series([1, 2], dtype=object)}),
    "frame of Arrow": lambda: pandas.DataFrame({"x": pandas.Series([1, 2], dtype="int64[pyarrow]")}),
    "polars frame": lambda: polars.DataFrame({"x": [1, 2]}),
    "other Arrow stream": lambda: CapsuleOfAStream(pyarrow.table({"x": [1, 2]})),
    "other Arrow array": lambda: CapsuleOfAnArray(pyarrow.record_batch({"x": [1, 2]})),
    "list of dicts": lambda: [{"x": 1}, {"x": 2}],
    "tuple of dicts": lambda: ({"x": 1}, {"x": 2}),
    "list of other mappings": lambda: [OrderedDict(x=1), UserDict(x=2)],
    "rows of a database": lambda: [Record(x=1), Record(x=2)],
    "iterator of dicts": lambda: iter([{"x": 1}, {"x": 2}]),
    "generator of batches": lambda: (pyarrow.record_batch({"x": [number]}) for number in (1, 2)),
    "list of tables": lambda: [pyarrow.table({"x": [1]}), pyarrow.table({"x": [2]})],
    "generator of frames": lambda: (pandas.DataFrame({"x": [number]}) for number in (1, 2)),
    "polars and pandas": lambda: [polars.DataFrame({"x": [1]}), pandas.DataFrame({"x": [2]})],
}


@pytest.mark.parametrize("source", SOURCES)
def test_whatever_holds_rows_is_read(source: str) -> None:
    assert rows_of(SOURCES[source]()) == [{"x": 1}, {"x": 2}]


@pytest.mark.parametrize("source", [3, 1.5, None, object(), "text", b"bytes", {}, {"x": [1]}])
def test_what_holds_no_rows_is_of_another_kind(source: Any) -> None:
    assert open_rows(source, LoadOptions()) is None


@pytest.mark.parametrize("source", [3, 1.5, None, object(), b"bytes", {"x": [1]}])
def test_what_cannot_be_loaded_is_refused_with_its_type(source: Any) -> None:
    with pytest.raises(TypeError, match=f"{type(source).__name__} cannot be loaded"):
        open_source(source, LoadOptions())


def test_a_lazy_frame_is_refused_with_what_to_call() -> None:
    with pytest.raises(TypeError, match=r"LazyFrame cannot be loaded.*collect\(\)"):
        open_source(polars.LazyFrame({"x": [1]}), LoadOptions())


@pytest.mark.parametrize("source", [[], (), iter([]), (row for row in ())])
def test_a_source_without_rows_says_that_there_is_nothing_to_learn_columns_from(source: Any) -> None:
    with pytest.raises(ValueError, match=r"no rows.*schema="):
        read_back(source)


@pytest.mark.parametrize(
    "source",
    [
        pyarrow.table({"x": pyarrow.array([], "int64")}),
        pandas.DataFrame({"x": pandas.Series([], dtype="int64")}),
        polars.DataFrame({"x": []}, schema={"x": polars.Int64}),
        reader_of(pyarrow.record_batch({"x": pyarrow.array([], "int64")})),
    ],
    ids=["table", "pandas", "polars", "reader"],
)
def test_a_table_without_rows_still_has_its_columns(source: Any) -> None:
    read = read_back(source)
    assert (read.rows, read.columns) == ([], {"x": "INTEGER"})


@pytest.mark.parametrize("items", [[1, 2], ["text", 1], [None], [Point(1, 2)], [[1, 2]], [b"x"]])
def test_an_iterable_of_something_else_is_refused_by_its_type(items: list[Any]) -> None:
    with pytest.raises(TypeError, match=f"not {type(items[0]).__name__}"):
        read_back(iter(items))


def test_a_piece_that_holds_no_rows_is_named() -> None:
    with pytest.raises(TypeError, match=r"Piece 2.*str"):
        read_back([pyarrow.record_batch({"x": [1]}), "text"])


@pytest.mark.parametrize("item", [1, None, [("x", 1)], "text"])
def test_a_row_that_is_none_is_named(item: Any) -> None:
    with pytest.raises(TypeError, match=rf"Row 2.*{type(item).__name__}"):
        read_back([{"x": 1}, item])


def test_a_piece_with_its_columns_in_another_order_is_taken() -> None:
    first, second = pyarrow.record_batch({"a": [1], "b": ["x"]}), pyarrow.record_batch({"b": ["y"], "a": [2]})
    assert rows_of([first, second]) == [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]


def test_a_piece_with_other_columns_adds_them() -> None:
    assert rows_of([pyarrow.record_batch({"x": [1]}), pyarrow.record_batch({"y": ["a"]})]) == [
        {"x": 1, "y": None},
        {"x": None, "y": "a"},
    ]


@pytest.mark.parametrize("make", [pyarrow.record_batch, pandas.DataFrame, polars.DataFrame])
def test_a_value_of_a_piece_that_does_not_fit_is_named_with_piece_and_row(make: Any) -> None:
    with pytest.raises(ValueError, match=r"^piece 2: row 1: column zip holds '01234'"):
        read_back(iter([make({"zip": [28001, 28002]}), make({"zip": ["01234"]})]))


def test_the_rows_of_a_piece_are_counted_in_the_piece(small_chunks: int) -> None:
    amounts = pandas.Series([*range(12), "x"], dtype=object)
    with pytest.raises(ValueError, match=r"^piece 2: row 13: column n holds 'x'"):
        read_back(iter([pandas.DataFrame({"n": [1]}), pandas.DataFrame({"n": amounts})]))
    with pytest.raises(ValueError, match=r"^Row 13: column n holds 'x'"):
        read_back(pandas.DataFrame({"n": amounts}))


def test_rows_stream_a_chunk_at_a_time(small_chunks: int) -> None:
    read = []

    def rows() -> Iterator[dict[str, int]]:
        for number in range(100):
            read.append(number)
            yield {"x": number}

    chunks = open_source(rows(), LoadOptions()).chunks
    assert len(next(chunks).data) == small_chunks
    assert len(read) == small_chunks
    assert sum(len(chunk.data) for chunk in chunks) == 90


def test_a_large_frame_is_read_in_pieces_with_their_first_rows(small_chunks: int) -> None:
    chunks = list(open_source(pandas.DataFrame({"x": range(25)}), LoadOptions()).chunks)
    assert [chunk.first_row for chunk in chunks] == [1, 11, 21]
    assert [value.as_py() for chunk in chunks for _, column in chunk.columns() for value in column] == list(range(25))


def test_rows_that_have_been_read_are_not_held() -> None:
    class Value(str):
        __slots__ = ("__weakref__",)

    seen: list[Any] = []

    def rows() -> Iterator[dict[str, Any]]:
        for _ in range(3 * rows_module.ROWS_PER_CHUNK):
            value = Value("x")
            seen.append(weakref.ref(value))
            yield {"name": value}
        gc.collect()
        assert not any(value() for value in seen[: rows_module.ROWS_PER_CHUNK])

    with Preparation(rows(), LoadOptions(), Deadline()) as preparation:
        for _ in preparation.read():
            pass
        assert preparation.finish().rows == len(seen)


def test_tables_that_have_been_read_are_not_held() -> None:
    seen: list[Any] = []

    def tables() -> Iterator[pyarrow.Table]:
        for number in range(3):
            table = pyarrow.table({"x": [number]})
            seen.append(weakref.ref(table))
            yield table

    chunks = open_source(tables(), LoadOptions()).chunks
    for _ in range(2):
        next(chunks)
    gc.collect()
    assert seen[0]() is None


def test_an_error_of_the_source_passes_through() -> None:
    def rows() -> Iterator[dict[str, int]]:
        yield {"x": 1}
        raise RuntimeError("half-way")

    with pytest.raises(RuntimeError, match="half-way"):
        read_back(rows())


@pytest.mark.parametrize("module", ["pyproj", "shapely"])
def test_a_package_that_is_missing_is_named_with_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingDependency, match=rf"{module}.*pip install"):
        read_back([{"at": MADRID.wkb}], geometry="at", crs="EPSG:32748")  # a system that no other test has looked up


def test_without_pyarrow_rows_are_refused_with_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingDependency, match=r"pyarrow.*pip install"):
        read_back([{"x": 1}])


# pandas


def test_a_frame_is_not_changed_by_its_load() -> None:
    frame = geopandas.GeoDataFrame(
        {"a": [1], "kind": pandas.Categorical(["x"]), "o": pandas.Series([None], dtype=object)},
        geometry=[MADRID],
        crs=4326,
    )
    before = frame.copy(deep=True)
    read_back(frame)
    geopandas.testing.assert_geodataframe_equal(frame, before)


@pytest.mark.parametrize(
    ("values", "read"),
    [
        (pandas.Categorical(["a", None]), ["a", None]),
        (pandas.Categorical([1, None]), [1, None]),
        (pandas.Categorical([1.5, None]), [1.5, None]),
        (pandas.Categorical([datetime.date(2024, 1, 1), None]), [datetime.date(2024, 1, 1), None]),
        (pandas.array([True, None], dtype="boolean"), [True, None]),
        (pandas.array([2**53 + 1, None], dtype="Int64"), [2**53 + 1, None]),
        (pandas.array(["x", None], dtype="string"), ["x", None]),
        (pandas.arrays.SparseArray([1, 0]), [1, 0]),
        (pandas.Series([1.5, numpy.nan]), [1.5, None]),
        (pandas.Series(["x", numpy.nan], dtype=object), ["x", None]),
        (pandas.Series([Decimal("1.5"), Decimal("NaN")], dtype=object), [Decimal("1.5"), None]),
        (pandas.Series(pandas.to_datetime(["2024-01-01", None])), [datetime.datetime(2024, 1, 1), None]),
        (pandas.Series([[1], [2.5]], dtype=object), [[1.0], [2.5]]),
    ],
    ids=lambda values: str(getattr(values, "dtype", "")),
)
@pytest.mark.parametrize("beside_geometry", [False, True])
def test_each_dtype_of_pandas_is_read(values: Any, read: list[Any], beside_geometry: bool) -> None:
    frame = pandas.DataFrame({"x": values})
    if beside_geometry:
        frame = geopandas.GeoDataFrame(frame, geometry=[MADRID] * len(frame), crs=4326)
    assert [row["x"] for row in rows_of(frame)] == read


@pytest.mark.parametrize(
    "frame",
    [
        pandas.DataFrame({"d": [pandas.Timedelta("1h")]}),
        pandas.DataFrame({"d": pandas.Series([datetime.timedelta(1)], dtype=object)}),
        pandas.DataFrame({"d": pandas.period_range("2020", "2021", freq="Y")}),
        pandas.DataFrame({"d": pandas.interval_range(0, 2)}),
        pandas.DataFrame({"d": [1j]}),
        pandas.DataFrame({"d": [{1, 2}]}),
        pandas.DataFrame({"d": [[datetime.timedelta(1)]]}),
    ],
    ids=["timedelta64", "timedelta", "period", "interval", "complex", "set", "in a list"],
)
@pytest.mark.parametrize("beside_geometry", [False, True])
def test_what_bigquery_has_no_type_for_is_refused_with_its_column(frame: Any, beside_geometry: bool) -> None:
    if beside_geometry:
        frame = geopandas.GeoDataFrame(frame, geometry=[MADRID] * len(frame), crs=4326)
    with pytest.raises(ValueError, match=r"^Row 1: column d"):
        read_back(frame)


@pytest.mark.parametrize("value", ["sNaN", "-sNaN"])
def test_a_signalling_nan_is_refused_with_its_row(value: str) -> None:
    with pytest.raises(ValueError, match=r"^Row 2: column d holds"):
        read_back(pandas.DataFrame({"d": pandas.Series([Decimal(1), Decimal(value)], dtype=object)}))


def test_a_length_of_time_can_be_an_interval() -> None:
    frame = pandas.DataFrame({"d": [pandas.Timedelta("-1 days 02:03:04.5"), None]})
    read = read_back(frame, column_types={"d": "INTERVAL"})
    assert read.columns == {"d": "INTERVAL"}
    assert [row["d"] for row in read.rows] == ["0-0 0 -21:56:55.500000", None]


def test_the_moments_of_a_frame_keep_whether_they_have_a_zone() -> None:
    local = pandas.to_datetime(["2024-01-01T01:02:03.000004"])
    assert columns_of(pandas.DataFrame({"a": local, "b": local.tz_localize("Europe/Madrid")})) == {
        "a": "DATETIME",
        "b": "TIMESTAMP",
    }


@pytest.mark.parametrize("zone", [None, "Europe/Madrid"])
def test_nanoseconds_that_microseconds_cannot_hold_are_refused(zone: str | None) -> None:
    moments = pandas.Series(
        pandas.to_datetime(["2024-01-01T00:00:00", "2024-01-01T01:02:03.000004005"], format="ISO8601")
    ).dt.as_unit("ns")
    frame = pandas.DataFrame({"at": moments.dt.tz_localize(zone)})
    for source in (frame, pyarrow.Table.from_pandas(frame), polars.from_pandas(frame)):
        with pytest.raises(ValueError, match=r"^Row 2: column at holds .*microseconds"):
            read_back(source)
    assert rows_of(frame.head(1).astype(frame.dtypes))[0]["at"].year in (2023, 2024)


def test_columns_of_several_levels_are_refused_with_how_to_join_them() -> None:
    frame = pandas.DataFrame([[1]], columns=pandas.MultiIndex.from_tuples([("a", "b")]))
    with pytest.raises(ValueError, match=r"\('a', 'b'\) has several levels.*join"):
        read_back(frame)


def test_labels_that_are_no_text_become_text() -> None:
    assert columns_of(pandas.DataFrame([[1, "x"]])) == {"0": "INTEGER", "1": "STRING"}


@pytest.mark.parametrize("columns", [["a", "a"], ["a", "A"]])
def test_two_columns_of_one_name_are_refused(columns: list[str]) -> None:
    with pytest.raises(ValueError, match=r"Column 2, '[aA]', is there twice"):
        read_back(pandas.DataFrame([[1, 2]], columns=columns))


def test_polars_types_are_read_through_arrow() -> None:
    frame = polars.DataFrame(
        {
            "text": ["x", None],
            "list": [[1], [2, 3]],
            "struct": [{"a": 1, "b": "x"}, {"a": None, "b": "y"}],
            "day": [datetime.date(2024, 1, 1), None],
            "kind": polars.Series(["a", "b"], dtype=polars.Categorical),
            "exact": polars.Series([Decimal("1.50"), None], dtype=polars.Decimal(10, 2)),
        }
    )
    assert columns_of(frame) == {
        "text": "STRING",
        "list": "ARRAY<INTEGER>",
        "struct": "STRUCT<a INTEGER, b STRING>",
        "day": "DATE",
        "kind": "STRING",
        "exact": "NUMERIC",
    }
    assert rows_of(frame) == frame.to_dicts()


# Geometry


def position(text: str) -> tuple[float, float]:
    point = shape(strict_json(text))
    return point.x, point.y


@pytest.mark.parametrize("value", [MADRID, MADRID.wkb, MADRID.wkt], ids=["shapely", "WKB", "WKT"])
@pytest.mark.parametrize("form", ["rows", "table", "frame", "reader"])
def test_geometry_of_every_kind_becomes_geojson(value: Any, form: str) -> None:
    if form == "rows":
        source: Any = [{"at": value}, {"at": None}]
    elif form == "frame":
        source = pandas.DataFrame({"at": pandas.Series([value, None], dtype=object)})
    else:
        source = pyarrow.table({"at": [value.wkb if isinstance(value, Point) else value, None]})
        source = source if form == "table" else source.to_reader()

    read = read_back(source, geometry="at")
    assert read.columns == {"at": "GEOGRAPHY"}
    assert position(read.rows[0]["at"]) == (MADRID.x, MADRID.y)
    assert read.rows[1]["at"] is None


def test_with_spherical_edges_geometry_becomes_wkt() -> None:
    (row,) = rows_of([{"at": MADRID}], edges="spherical")
    assert row["at"] == "POINT (-3.7038 40.4168)"


def test_shapely_objects_in_rows_say_themselves_that_they_are_geometry() -> None:
    assert columns_of([{"at": None}, {"at": MADRID}]) == {"at": "GEOGRAPHY"}


@pytest.mark.parametrize("nothing", [None, []])
def test_shapely_objects_may_come_late(small_chunks: int, nothing: Any) -> None:
    source = [{"at": None, "tags": nothing}] * 25 + [{"at": MADRID, "tags": ["x"]}]
    assert columns_of(source) == {"at": "GEOGRAPHY", "tags": "ARRAY<STRING>"}


def test_mixed_geometry_in_a_column_is_kept() -> None:
    shapes = [MADRID, LineString([(0, 0), (1, 1)]), MultiPolygon([MADRID.buffer(1)]), GeometryCollection([MADRID])]
    frame = geopandas.GeoDataFrame({"n": range(4)}, geometry=shapes, crs=4326)
    for source in (frame, [{"geometry": each} for each in shapes]):
        back = [shape(strict_json(row["geometry"])) for row in rows_of(source)]
        assert [each.geom_type for each in back] == [each.geom_type for each in shapes]


def test_coordinates_keep_every_digit() -> None:
    point = Point(-3.703790123456789, 40.41677512345678)
    (row,) = rows_of([{"at": point}])
    assert position(row["at"]) == (point.x, point.y)


def test_each_geometry_column_of_a_frame_has_its_own_system() -> None:
    frame = geopandas.GeoDataFrame({"n": [1]}, geometry=geopandas.GeoSeries([MADRID], crs=4326))
    frame["mercator"] = geopandas.GeoSeries([MADRID], crs=4326).to_crs(3857)
    (row,) = rows_of(frame)
    assert position(row["geometry"]) == pytest.approx((MADRID.x, MADRID.y))
    assert position(row["mercator"]) == pytest.approx((MADRID.x, MADRID.y))


def test_a_frame_without_a_system_is_an_error_that_names_the_column() -> None:
    frame = geopandas.GeoDataFrame({"n": [1]}, geometry=[MADRID])
    with pytest.raises(ValueError, match="Column geometry has no reference system"):
        read_back(frame)
    assert columns_of(frame, crs=4326) == {"n": "INTEGER", "geometry": "GEOGRAPHY"}


@pytest.mark.parametrize("crs", ["EPSG:999999", "nonsense", 0, "", {"type": "none"}])
def test_an_unknown_system_is_a_clear_error(crs: Any) -> None:
    with pytest.raises(ValueError, match=r"[Uu]nknown reference system"):
        read_back([{"at": MADRID}], geometry="at", crs=crs)


def test_frames_of_a_stream_in_different_systems_are_never_mixed_up() -> None:
    first = geopandas.GeoDataFrame({"n": [1]}, geometry=[MADRID], crs=4326)
    for row in rows_of([first, first.to_crs(3857)]):
        assert position(row["geometry"]) == pytest.approx((MADRID.x, MADRID.y))


@pytest.mark.parametrize("bad", [b"no geometry", "POINT(", 7, Point(1e30, 1e30)])
def test_what_is_no_geometry_is_an_error_that_names_row_and_column(bad: Any) -> None:
    with pytest.raises(ValueError, match=r"^Row 2: column at "):
        read_back([{"at": Point(440291, 4474255)}, {"at": bad}], geometry="at", crs="EPSG:25830")


@pytest.mark.parametrize("option", [{"geometry": "shape"}, {"column_types": {"shape": "STRING"}}])
def test_a_column_that_is_not_there_is_named_with_those_that_are(option: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"no column shape.*\bat\b"):
        read_back([{"at": "POINT (1 2)"}], **option)


def test_longitude_and_latitude_become_points_beside_their_columns() -> None:
    read = read_back([{"x": 1.5, "y": 2}, {"x": None, "y": None}], lon="x", lat="y")
    assert read.columns == {"x": "FLOAT", "y": "INTEGER", "geom": "GEOGRAPHY"}
    assert position(read.rows[0]["geom"]) == (1.5, 2)
    assert read.rows[1]["geom"] is None


@pytest.mark.parametrize(("x", "column"), [("z", "z"), ("y", None)])
def test_longitude_needs_its_column(x: str, column: str | None) -> None:
    if column:
        with pytest.raises(ValueError, match="lon: there is no column z; the columns are y"):
            read_back([{"y": 1.0}], lon=x, lat="y")
    else:
        assert columns_of([{"y": 1.0}], lon="y", lat="y")["geom"] == "GEOGRAPHY"
