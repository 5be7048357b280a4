"""One stream of Arrow batches from whatever holds rows: types, geometry as WKT, and errors that name row and column."""

from __future__ import annotations

import datetime
import gc
import weakref
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import geopandas
import pandas
import pyarrow
import pyproj
import pytest
import shapely
from shapely.geometry import LineString, MultiPolygon, Point

from carto_auth_integrations.errors import MissingDependency
from carto_auth_integrations.warehouse.sources import rows as arrow
from carto_auth_integrations.warehouse.sources.rows import ROWS_PER_BATCH, Batches, batches_of, bigquery_schema

UTC = datetime.timezone.utc
MADRID = Point(-3.7038, 40.4168)


def known(source: Any, geometry: tuple[str, ...] = (), crs: Any = None) -> Batches:
    batches = batches_of(source, geometry, crs)
    assert batches is not None
    return batches


def rows_of(source: Any, geometry: tuple[str, ...] = (), crs: Any = None) -> list[dict[str, Any]]:
    return [row for batch in known(source, geometry, crs).stream for row in batch.to_pylist()]


def rows_or_message(source: Any) -> list[dict[str, Any]] | str:
    """Give the rows, or what is said against them: of some bad input both would do, and only silence would not."""
    try:
        return rows_of(source)
    except ValueError as error:
        return str(error)


def fields_of(source: Any, geometry: tuple[str, ...] = ()) -> dict[str, str]:
    return {field["name"]: field["type"] for field in bigquery_schema(known(source, geometry))}


def position(text: str) -> tuple[float, float]:
    point = shapely.from_wkt(text)
    return point.x, point.y


def reader_of(*batches: pyarrow.RecordBatch) -> pyarrow.RecordBatchReader:
    return pyarrow.RecordBatchReader.from_batches(batches[0].schema, iter(batches))


SOURCES: dict[str, Any] = {
    "table": lambda: pyarrow.table({"x": [1, 2]}),
    "batch": lambda: pyarrow.record_batch({"x": [1, 2]}),
    "reader": lambda: reader_of(pyarrow.record_batch({"x": [1]}), pyarrow.record_batch({"x": [2]})),
    "frame": lambda: pandas.DataFrame({"x": [1, 2]}, index=[7, 8]),
    "list of dicts": lambda: [{"x": 1}, {"x": 2}],
    "iterator of dicts": lambda: iter([{"x": 1}, {"x": 2}]),
    "generator of batches": lambda: (pyarrow.record_batch({"x": [number]}) for number in (1, 2)),
    "list of tables": lambda: [pyarrow.table({"x": [1]}), pyarrow.table({"x": [2]})],
    "generator of frames": lambda: (pandas.DataFrame({"x": [number]}) for number in (1, 2)),
}


@pytest.mark.parametrize("source", SOURCES)
def test_whatever_holds_rows_becomes_batches(source: str) -> None:
    assert rows_of(SOURCES[source]()) == [{"x": 1}, {"x": 2}]
    assert known(SOURCES[source]()).geography == frozenset()


@pytest.mark.parametrize("source", [3, 1.5, None, object(), "text", b"bytes"])
def test_what_holds_no_rows_is_nothing(source: Any) -> None:
    assert batches_of(source) is None


@pytest.mark.parametrize("source", [[], (), iter([]), {}, (row for row in ())])
def test_a_source_without_rows_says_that_there_is_nothing_to_learn_columns_from(source: Any) -> None:
    with pytest.raises(ValueError, match="no rows"):
        batches_of(source)


@pytest.mark.parametrize("source", [pyarrow.table({"x": pyarrow.array([], "int64")}), pandas.DataFrame({"x": []})])
def test_a_table_without_rows_still_has_its_columns(source: Any) -> None:
    assert rows_of(source) == []
    assert known(source).schema.names == ["x"]


@pytest.mark.parametrize("items", [[1, 2], ["a"], [None], [Point(1, 2)], [[1, 2]]])
def test_an_iterable_of_something_else_is_refused_by_its_type(items: list[Any]) -> None:
    with pytest.raises(TypeError, match=f"not {type(items[0]).__name__}"):
        batches_of(items)


def test_a_piece_that_holds_no_rows_is_named() -> None:
    with pytest.raises(TypeError, match=r"Piece 2.*str"):
        rows_of([pyarrow.record_batch({"x": [1]}), "text"])


def test_a_piece_with_other_columns_is_named_with_them() -> None:
    with pytest.raises(ValueError, match=r"Piece 2.*y"):
        rows_of([pyarrow.record_batch({"x": [1]}), pyarrow.record_batch({"y": [1]})])


def test_a_piece_with_its_columns_in_another_order_is_taken() -> None:
    first, second = pyarrow.record_batch({"a": [1], "b": ["x"]}), pyarrow.record_batch({"b": ["y"], "a": [2]})
    assert rows_of([first, second]) == [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]


def test_a_column_of_a_piece_that_does_not_fit_is_named_with_the_piece() -> None:
    with pytest.raises(ValueError, match=r"Piece 2.*\bamount\b"):
        rows_of([pyarrow.record_batch({"amount": [1]}), pyarrow.record_batch({"amount": ["x"]})])


def test_rows_stream_a_batch_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrow, "ROWS_PER_BATCH", 10)
    read = []

    def rows() -> Iterator[dict[str, int]]:
        for number in range(100):
            read.append(number)
            yield {"x": number}

    stream = known(rows()).stream
    assert next(stream).num_rows == 10
    assert len(read) <= 20
    assert sum(batch.num_rows for batch in stream) == 90


def test_types_are_learnt_from_the_rows() -> None:
    row = {
        "whole": 1,
        "real": 1.5,
        "yes": True,
        "text": "x",
        "raw": b"x",
        "day": datetime.date(2024, 2, 29),
        "hour": datetime.time(1, 2),
        "local": datetime.datetime(2024, 2, 29, 1),
        "moment": datetime.datetime(2024, 2, 29, 1, tzinfo=UTC),
        "exact": Decimal("1.50"),
        "nothing": None,
    }
    assert fields_of([row]) == {
        "whole": "INTEGER",
        "real": "FLOAT",
        "yes": "BOOLEAN",
        "text": "STRING",
        "raw": "BYTES",
        "day": "DATE",
        "hour": "TIME",
        "local": "DATETIME",
        "moment": "TIMESTAMP",
        "exact": "NUMERIC",
        "nothing": "STRING",
    }
    (back,) = rows_of([row])
    assert back == {**row, "moment": row["moment"]}


def test_lists_and_records_keep_their_shape() -> None:
    source = [{"tags": ["a", "b"], "place": {"name": "x", "at": [1, 2]}, "parts": [{"n": 1}]}, {"tags": []}]
    tags, place, parts = bigquery_schema(known(source))
    assert tags == {"name": "tags", "type": "STRING", "mode": "REPEATED"}
    name, at = {"name": "name", "type": "STRING"}, {"name": "at", "type": "INTEGER", "mode": "REPEATED"}
    assert place == {"name": "place", "type": "RECORD", "fields": [name, at]}
    n = {"name": "n", "type": "INTEGER"}
    assert parts == {"name": "parts", "type": "RECORD", "mode": "REPEATED", "fields": [n]}
    assert rows_of(source)[0] == source[0]


def test_a_row_may_lack_a_column() -> None:
    assert rows_of([{"a": 1}, {"b": "x"}, {}]) == [{"a": 1, "b": None}, {"a": None, "b": "x"}, {"a": None, "b": None}]


def test_whole_numbers_and_real_ones_become_real() -> None:
    assert rows_of([{"x": 1}, {"x": 2.5}]) == [{"x": 1.0}, {"x": 2.5}]


def test_a_late_new_column_is_named_with_its_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrow, "ROWS_PER_BATCH", 2)
    with pytest.raises(ValueError, match=r"Row 4 .*\bb\b"):
        rows_of([{"a": 1}, {"a": 2}, {"a": 3}, {"a": 4, "b": 5}])


@pytest.mark.parametrize("head", [2, 100])
@pytest.mark.parametrize("bad", ["x", [1], {"y": 1}, b"x", 2**70, object()])
def test_a_value_that_does_not_fit_is_named_with_row_and_column(
    monkeypatch: pytest.MonkeyPatch, head: int, bad: Any
) -> None:
    monkeypatch.setattr(arrow, "ROWS_PER_BATCH", head)
    with pytest.raises(ValueError, match=r"Row 4\b.*\bamount\b"):
        rows_of([{"id": number, "amount": bad if number == 4 else number} for number in range(1, 6)])


def test_an_object_that_is_no_value_is_named_with_its_column_even_in_the_first_row() -> None:
    with pytest.raises(ValueError, match=r"Row 1\b.*\bamount\b"):
        rows_of([{"amount": object()}])


def test_a_column_of_days_and_moments_loses_no_hour() -> None:
    source = [{"at": datetime.date(2024, 1, 1)}, {"at": datetime.datetime(2024, 1, 1, 17, 30)}]
    back = rows_or_message(source)
    assert "Row 2: column at" in back if isinstance(back, str) else back[1]["at"] == source[1]["at"]


def test_moments_of_any_zone_are_the_same_moment() -> None:
    plus2 = datetime.timezone(datetime.timedelta(hours=2))
    (row,) = rows_of([{"at": datetime.datetime(2024, 1, 1, 2, tzinfo=plus2)}])
    assert row["at"] == datetime.datetime(2024, 1, 1, 0, tzinfo=UTC)


def test_the_hours_of_a_frame_keep_whether_they_have_a_zone() -> None:
    local = pandas.to_datetime(["2024-01-01T01:02:03.000004"])
    assert fields_of(pandas.DataFrame({"a": local, "b": local.tz_localize("Europe/Madrid")})) == {
        "a": "DATETIME",
        "b": "TIMESTAMP",
    }


def test_a_frame_of_geometry_is_not_changed_by_its_load() -> None:
    frame = geopandas.GeoDataFrame({"a": [1]}, geometry=[MADRID], crs=4326)
    rows_of(frame)
    assert str(frame.dtypes["geometry"]) == "geometry"
    assert frame.geometry[0] == MADRID


def test_categories_are_text_beside_geometry() -> None:
    frame = geopandas.GeoDataFrame({"kind": pandas.Categorical(["a"])}, geometry=[MADRID], crs=4326)
    assert fields_of(frame) == {"kind": "STRING", "geometry": "GEOGRAPHY"}


def test_a_column_without_values_is_text_beside_geometry() -> None:
    frame = geopandas.GeoDataFrame({"nothing": [None]}, geometry=[MADRID], crs=4326)
    assert fields_of(frame) == {"nothing": "STRING", "geometry": "GEOGRAPHY"}


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (pyarrow.decimal128(38, 9), "NUMERIC"),
        (pyarrow.decimal128(10, 2), "NUMERIC"),
        (pyarrow.decimal128(38, 0), "BIGNUMERIC"),
        (pyarrow.decimal128(38, 18), "BIGNUMERIC"),
        (pyarrow.decimal256(76, 38), "BIGNUMERIC"),
        (pyarrow.uint8(), "INTEGER"),
        (pyarrow.float32(), "FLOAT"),
        (pyarrow.large_string(), "STRING"),
        (pyarrow.large_binary(), "BYTES"),
        (pyarrow.large_list(pyarrow.int64()), "INTEGER"),
        (pyarrow.date64(), "DATE"),
        (pyarrow.time64("us"), "TIME"),
        (pyarrow.timestamp("ns"), "DATETIME"),
        (pyarrow.timestamp("s", "UTC"), "TIMESTAMP"),
    ],
)
def test_each_arrow_type_has_its_bigquery_type(kind: pyarrow.DataType, expected: str) -> None:
    assert fields_of(pyarrow.table({"x": pyarrow.array([], kind)})) == {"x": expected}


@pytest.mark.parametrize("kind", [pyarrow.duration("s"), pyarrow.map_(pyarrow.string(), pyarrow.int64())])
def test_a_type_that_bigquery_does_not_have_is_named_with_its_column(kind: pyarrow.DataType) -> None:
    with pytest.raises(ValueError, match="Column x"):
        fields_of(pyarrow.table({"x": pyarrow.array([], kind)}))


@pytest.mark.parametrize("value", [MADRID, MADRID.wkb, MADRID.wkt], ids=["shapely", "WKB", "WKT"])
@pytest.mark.parametrize("form", ["rows", "table", "frame", "reader"])
def test_geometry_of_every_kind_becomes_wkt(value: Any, form: str) -> None:
    if form == "rows":
        source: Any = [{"at": value}, {"at": None}]
    elif form == "frame":
        source = pandas.DataFrame({"at": pandas.Series([value, None], dtype=object)})
    else:
        source = pyarrow.table({"at": [value.wkb if isinstance(value, Point) else value, None]})
        source = source if form == "table" else source.to_reader()

    batches = known(source, ("at",))
    first, second = (row["at"] for batch in batches.stream for row in batch.to_pylist())

    assert batches.geography == {"at"}
    assert position(first) == (MADRID.x, MADRID.y)
    assert second is None


def test_shapely_objects_in_rows_say_themselves_that_they_are_geometry() -> None:
    assert fields_of([{"at": None}, {"at": MADRID}]) == {"at": "GEOGRAPHY"}


def test_mixed_geometry_in_a_column_is_kept() -> None:
    shapes = [
        MADRID,
        LineString([(0, 0), (1, 1)]),
        MultiPolygon([MADRID.buffer(1)]),
        shapely.GeometryCollection(MADRID),
    ]
    frame = geopandas.GeoDataFrame({"n": range(4)}, geometry=shapes, crs=4326)
    for source in (frame, [{"geometry": shape} for shape in shapes]):
        back = [shapely.from_wkt(row["geometry"]) for row in rows_of(source)]
        assert [shape.geom_type for shape in back] == [shape.geom_type for shape in shapes]


def test_coordinates_keep_every_digit() -> None:
    point = Point(-3.703790123456789, 40.41677512345678)
    (row,) = rows_of([{"at": point}])
    assert position(row["at"]) == (point.x, point.y)


@pytest.mark.parametrize("crs", [None, "EPSG:4326", "epsg:4326", 4326, "OGC:CRS84", pyproj.CRS(4326), "WGS84"])
def test_longitude_and_latitude_stay_as_they_are(crs: Any) -> None:
    (row,) = rows_of([{"at": MADRID.wkb}], ("at",), crs)
    assert position(row["at"]) == (MADRID.x, MADRID.y)


@pytest.mark.parametrize(
    ("crs", "there"),
    [
        ("EPSG:3857", (-412305.1, 4926678.0)),
        ("EPSG:25830", (440291.0, 4474255.0)),
        (pyproj.CRS(3857), (-412305.1, 4926678.0)),
        (pyproj.CRS(3857).to_wkt(), (-412305.1, 4926678.0)),
        (pyproj.CRS(3857).to_json_dict(), (-412305.1, 4926678.0)),
        ("EPSG:4258", (MADRID.x, MADRID.y)),
    ],
    ids=["code", "UTM", "object", "WKT", "PROJJSON", "ETRS89"],
)
@pytest.mark.parametrize("form", ["WKB", "WKT", "shapely"])
def test_other_reference_systems_are_converted(crs: Any, there: tuple[float, float], form: str) -> None:
    value: Any = {"WKB": Point(there).wkb, "WKT": Point(there).wkt, "shapely": Point(there)}[form]
    (row, nothing) = rows_of([{"at": value}, {"at": None}], ("at",), crs)
    assert position(row["at"]) == pytest.approx((MADRID.x, MADRID.y), abs=1e-3)
    assert nothing["at"] is None


def test_systems_that_name_north_first_are_read_as_every_gis_writes_them() -> None:
    wellington = geopandas.GeoDataFrame(geometry=[Point(174.776, -41.289)], crs=4326).to_crs(2193)
    assert wellington.geometry[0].x < wellington.geometry[0].y, "easting, then northing"
    (row,) = rows_of(wellington)
    assert position(row["geometry"]) == pytest.approx((174.776, -41.289), abs=1e-6)


def test_each_geometry_column_of_a_frame_has_its_own_system() -> None:
    frame = geopandas.GeoDataFrame({"n": [1]}, geometry=geopandas.GeoSeries([MADRID], crs=4326))
    frame["mercator"] = geopandas.GeoSeries([MADRID], crs=4326).to_crs(3857)
    (row,) = rows_of(frame)
    assert position(row["geometry"]) == pytest.approx((MADRID.x, MADRID.y))
    assert position(row["mercator"]) == pytest.approx((MADRID.x, MADRID.y))


def test_a_frame_without_a_system_is_an_error_that_names_the_column() -> None:
    with pytest.raises(ValueError, match="Column geometry has no reference system"):
        batches_of(geopandas.GeoDataFrame({"n": [1]}, geometry=[MADRID]))


@pytest.mark.parametrize("crs", ["EPSG:999999", "nonsense", 0, "", {"type": "none"}])
def test_an_unknown_system_is_a_clear_error(crs: Any) -> None:
    with pytest.raises(ValueError, match=r"[Uu]nknown reference system"):
        batches_of([{"at": MADRID}], ("at",), crs)


def test_frames_of_a_stream_in_different_systems_are_never_mixed_up() -> None:
    first = geopandas.GeoDataFrame({"n": [1]}, geometry=[MADRID], crs=4326)
    back = rows_or_message([first, first.to_crs(3857)])
    if isinstance(back, str):
        assert "Piece 2" in back
    else:
        assert position(back[1]["geometry"]) == pytest.approx((MADRID.x, MADRID.y))


def test_positions_that_have_no_longitude_are_an_error_that_names_the_column() -> None:
    with pytest.raises(ValueError, match=r"\bat\b"):
        rows_of([{"at": Point(1e30, 1e30)}], ("at",), "EPSG:25830")


@pytest.mark.parametrize("bad", [b"no geometry", "POINT(", 7])
def test_what_is_no_geometry_is_an_error_that_names_the_column(bad: Any) -> None:
    with pytest.raises(ValueError, match=r"\bat\b"):
        rows_of([{"at": bad}], ("at",), "EPSG:3857")


def test_a_geometry_column_that_is_not_there_is_named_with_those_that_are() -> None:
    with pytest.raises(ValueError, match=r"no column shape.*\bat\b"):
        batches_of([{"at": MADRID}], ("shape",))


def test_an_error_of_the_source_passes_through() -> None:
    def rows() -> Iterator[dict[str, int]]:
        yield {"x": 1}
        raise RuntimeError("half-way")

    with pytest.raises(RuntimeError, match="half-way"):
        rows_of(rows())


@pytest.mark.parametrize("module", ["pyproj", "shapely"])
def test_a_package_that_is_missing_is_named_with_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    monkeypatch.setitem(__import__("sys").modules, module, None)
    with pytest.raises(MissingDependency, match=rf"{module}.*pip install"):
        rows_of([{"at": MADRID.wkb}], ("at",), "EPSG:3857")


def test_rows_that_have_been_sent_are_not_held() -> None:
    """The first are looked at before the others, and then go like them."""

    class Value(str):
        __slots__ = ("__weakref__",)

    seen: list[Any] = []

    def rows() -> Iterator[dict[str, Any]]:
        for _ in range(3 * ROWS_PER_BATCH):
            value = Value("x")
            seen.append(weakref.ref(value))
            yield {"name": value}

    batches = known(rows())
    for _ in range(2):
        next(batches.stream)
    gc.collect()
    assert not any(value() for value in seen[:ROWS_PER_BATCH])


def test_the_first_batch_is_not_held_either() -> None:
    def tables() -> Iterator[pyarrow.Table]:
        for number in range(3):
            table = pyarrow.table({"x": [number]})
            seen.append(weakref.ref(table))
            yield table

    seen: list[Any] = []
    batches = known(tables())
    for _ in range(2):
        next(batches.stream)
    gc.collect()
    assert seen[0]() is None
