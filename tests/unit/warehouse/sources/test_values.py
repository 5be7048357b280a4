"""Python values to Arrow: each is held exactly, or refused with a reason."""

from __future__ import annotations

import datetime
import enum
import uuid
from array import array
from collections import OrderedDict, UserDict, UserList, deque, namedtuple
from decimal import Decimal
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

import numpy
import pandas
import pyarrow
import pytest

from carto_auth_integrations.warehouse.sources.columns import Column
from carto_auth_integrations.warehouse.sources.values import typed

UTC = datetime.timezone.utc
DAY, MOMENT = datetime.date(2024, 2, 29), datetime.datetime(2024, 2, 29, 17, 30)
INSTANT = MOMENT.replace(tzinfo=UTC)


def converted(*values: Any, known: pyarrow.DataType | None = None) -> tuple[str, list[Any], dict[int, str]]:
    """Return the type of values, the values, and what is said against some of them."""
    column = Column("v", range(len(values)))
    found = typed(values, column, known)
    return str(found.type), found.to_pylist(), column.misfits


def held(*values: Any) -> list[Any]:
    _, found, misfits = converted(*values)
    assert misfits == {}
    return found


def refused(*values: Any) -> dict[int, str]:
    _, found, misfits = converted(*values)
    assert misfits, found
    return misfits


class Colour(str, enum.Enum):
    RED = "r"


class Level(enum.IntEnum):
    HIGH = 3


class Flags(enum.Flag):
    BOTH = 3


class Kind(enum.Enum):
    DAY = DAY
    NONE = None
    PAIR = (1, 2)
    NESTED = Colour.RED


class Moment(datetime.datetime):
    pass


class Name(str):
    __slots__ = ()

    def __str__(self) -> str:
        return "something else"


class Count(int):
    def __repr__(self) -> str:
        return "many"


class Ratio(float):
    def __float__(self) -> float:
        return 0.0


Point = namedtuple("Point", "x y")


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (True, "bool"),
        (1, "int64"),
        (-(2**63), "int64"),
        (1.5, "double"),
        ("x", "string"),
        (b"x", "binary"),
        (DAY, "date32[day]"),
        (datetime.time(1, 2, 3, 4), "time64[us]"),
        (MOMENT, "timestamp[us]"),
        (INSTANT, "timestamp[us, tz=UTC]"),
        (Decimal("1.50"), "decimal128(3, 2)"),
        (datetime.timedelta(hours=1), "duration[us]"),
        (None, "null"),
    ],
)
def test_each_type_of_python_has_a_type(value: Any, kind: str) -> None:
    assert converted(value) == (kind, [value], {})


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (Colour.RED, "r"),
        (Level.HIGH, 3),
        (Flags.BOTH, 3),
        (Kind.DAY, DAY),
        (Kind.NONE, None),
        (Kind.PAIR, [1, 2]),
        (Kind.NESTED, "r"),
        (Name("x"), "x"),
        (Count(7), 7),
        (Ratio(1.5), 1.5),
        (Moment(2024, 2, 29, 17, 30), MOMENT),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (bytearray(b"x"), b"x"),
        (memoryview(b"x"), b"x"),
        (Point(1, 2.5), {"x": 1, "y": 2.5}),
        (OrderedDict(a=1), {"a": 1}),
        (UserDict(a=1), {"a": 1}),
        ((1, 2), [1, 2]),
        (UserList([1]), [1]),
        (range(3), [0, 1, 2]),
    ],
)
def test_subclasses_and_enums_are_their_value(value: Any, plain: Any) -> None:
    assert held(value) == [plain]
    assert held({"in": value}) == [{"in": plain}]


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (numpy.int8(-3), -3),
        (numpy.uint64(2**64 - 1), Decimal(2**64 - 1)),
        (numpy.float32(0.1), float(numpy.float32(0.1))),
        (numpy.float16(0.5), 0.5),
        (numpy.bool_(True), True),
        (numpy.str_("x"), "x"),
        (numpy.bytes_(b"x"), b"x"),
        (numpy.datetime64("2024-02-29"), DAY),
        (numpy.datetime64("2024-02-29T17:30"), MOMENT),
        (numpy.datetime64("2024-02-29T17:30:00.000000000"), MOMENT),
        (numpy.datetime64("NaT"), None),
        (numpy.timedelta64(90, "s"), datetime.timedelta(seconds=90)),
        (numpy.array([1, 2]), [1, 2]),
        (numpy.array(["2024-02-29"], "datetime64[D]"), [DAY]),
        (numpy.array([], "int64"), []),
        (numpy.array([(1, "x")], dtype=[("n", "i4"), ("s", "U1")])[0], {"n": 1, "s": "x"}),
        (numpy.array([(1, "x")], dtype=[("n", "i4"), ("s", "U1")]), [{"n": 1, "s": "x"}]),
        (numpy.ma.masked, None),
        (pandas.Timestamp(MOMENT), MOMENT),
        (pandas.Timestamp(INSTANT), INSTANT),
        (pandas.Timedelta("90s"), datetime.timedelta(seconds=90)),
        (pandas.NaT, None),
        (pandas.NA, None),
        (pandas.Series([1, 2], index=[7, 8]), [1, 2]),
    ],
    ids=repr,
)
def test_scalars_and_arrays_of_numpy_and_pandas_are_their_values(value: Any, plain: Any) -> None:
    assert held(value) == [plain]


@pytest.mark.parametrize(
    "value",
    [
        {1, 2},
        frozenset("a"),
        object(),
        1j,
        Fraction(1, 3),
        int,
        len,
        deque([1]).__iter__(),
        array,
        numpy.longdouble("0.1"),
        numpy.complex64(1j),
        numpy.datetime64("2024-02-29T17:30:00.000000001"),
        numpy.timedelta64(1, "ns"),
        pandas.Timestamp(1),
        pandas.Timedelta(1, "ns"),
        pandas.Period("2024"),
        pandas.Interval(0, 1),
        pandas.DataFrame({"a": [1]}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_no_table_can_store_is_refused_by_name(value: Any) -> None:
    assert refused(value)[0].startswith("column v holds ")
    assert refused([value])[0].startswith("column v[] holds ")
    assert refused({"a": value})[0].startswith("column v.a holds ")


def test_a_set_is_refused_with_what_to_pass_instead() -> None:
    assert "pass a sorted list" in refused({1, 2})[0]


@pytest.mark.parametrize(
    ("values", "read", "kind"),
    [
        ([1, 2.5, None], [1.0, 2.5, None], "double"),
        ([2**53, 0.5], [float(2**53), 0.5], "double"),
        ([1, Decimal("2.5")], [Decimal(1), Decimal("2.5")], "decimal128(2, 1)"),
        ([2**63], [Decimal(2**63)], "decimal128(19, 0)"),
        ([-(2**63) - 1, 1], [Decimal(-(2**63) - 1), Decimal(1)], "decimal128(19, 0)"),
        ([Decimal("9.99"), Decimal("100.00")], [Decimal("9.99"), Decimal("100.00")], "decimal128(5, 2)"),
        ([Decimal("1E+5"), Decimal("1E-3")], [Decimal(100000), Decimal("0.001")], "decimal128(9, 3)"),
        ([Decimal("1E-38"), 1], [Decimal("1E-38"), Decimal(1)], "decimal256(39, 38)"),
    ],
)
def test_numbers_become_wider_together(values: list[Any], read: list[Any], kind: str) -> None:
    assert converted(*values) == (kind, read, {})
    assert held([value for value in values if value is not None]) == [[value for value in read if value is not None]]
    assert [row["n"] for row in held(*({"n": value} for value in values))] == read


@pytest.mark.parametrize(
    "values",
    [
        [2**53 + 1, 0.5],
        [-(2**53) - 1, 0.5],
        [2**63 - 1, 0.5],
        [Decimal("NaN")],
        [Decimal("Infinity")],
        [Decimal("sNaN")],
        [Decimal("1E+38")],
        [Decimal("1E-39")],
        [10**5000],
        [Decimal("1E+100000")],
        ["\ud800"],
        [{"\ud800": 1}],
        [{1: 2}],
        [{None: 2}],
    ],
)
def test_what_its_type_cannot_hold_exactly_is_refused(values: list[Any]) -> None:
    assert list(refused(*values)) == [0]


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), 5e-324, 1.7976931348623157e308, -0.0, 0.1])
def test_floats_keep_every_bit(value: float) -> None:
    assert held(value)[0].hex() == value.hex()


@pytest.mark.parametrize("value", ["", "\0", "😀", "e\u0301", "\ufeffa", "a\r\nb", "NULL", "\u2028", " x "])
def test_text_keeps_every_character(value: str) -> None:
    assert held(value, "x") == [value, "x"]


@pytest.mark.parametrize(
    ("most", "other"),
    [
        (1, "x"),
        (1, True),
        (True, 1),
        (True, 0.5),
        ("x", 1),
        ("x", b"x"),
        (b"x", "x"),
        (DAY, MOMENT),
        (MOMENT, DAY),
        (MOMENT, INSTANT),
        (INSTANT, MOMENT),
        (0.5, Decimal("0.5")),
        (Decimal("0.5"), 0.5),
        ("2024-01-01", DAY),
        ({"a": 1}, [1]),
        ([1], 1),
        ({"a": 1}, 1),
        (datetime.time(1), MOMENT),
    ],
)
def test_types_that_do_not_go_together_are_refused_and_the_majority_decides(most: Any, other: Any) -> None:
    for values, place in (([most, other, most], 1), ([other, most, most], 0)):
        misfits = refused(*values)
        assert list(misfits) == [place]
        assert "which does not fit" in misfits[place]
        assert "schema=" in misfits[place]
    if not isinstance(most, list):
        assert list(refused([most], [other], [most])) == [1]
    assert list(refused({"a": most}, {"a": most}, {"a": other})) == [2]


def test_the_rows_before_decide_more_than_the_majority() -> None:
    kind, values, misfits = converted(MOMENT, MOMENT, DAY, known=pyarrow.date32())
    assert (kind, values, list(misfits)) == ("date32[day]", [None, None, DAY], [0, 1])


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ([1, None], "leave the NULL out"),
        ([None], "leave the NULL out"),
        ([1, pandas.NA], "leave the NULL out"),
        ([Kind.NONE], "leave the NULL out"),
        (numpy.array([1, None], dtype=object), "leave the NULL out"),
        (numpy.array(["2024", "NaT"], "datetime64[D]"), "leave the NULL out"),
        ([[1]], "array of arrays"),
        ([[]], "array of arrays"),
        ([(1,), (2,)], "array of arrays"),
        ([numpy.array([1])], "array of arrays"),
        ([UserList([1])], "array of arrays"),
        (numpy.array([[1, 2], [3, 4]]), "array of arrays"),
    ],
    ids=repr,
)
def test_arrays_that_bigquery_cannot_store_are_refused(value: Any, said: str) -> None:
    assert said in refused(value)[0]
    assert said in refused({"a": [{"b": value}]})[0]


def test_lists_and_objects_keep_their_shape_at_any_depth() -> None:
    value = {"tags": ["a"], "parts": [{"n": 1, "at": {"x": [1, 2]}}, {"n": None, "at": None}], "none": None}
    assert held(value, None, {}) == [value, None, {"tags": None, "parts": None, "none": None}]


def test_a_field_that_comes_late_is_null_before() -> None:
    assert held({"a": 1}, {"a": 2, "b": "x"}) == [{"a": 1, "b": None}, {"a": 2, "b": "x"}]
    assert held([{"a": 1}], [{"b": 2}]) == [[{"a": 1, "b": None}], [{"a": None, "b": 2}]]


def test_empty_arrays_are_not_null() -> None:
    assert held([], ["x"], None) == [[], ["x"], None]


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = {"a": value}
    return value


def test_bigquery_stores_fifteen_levels() -> None:
    assert held(nested(15)) == [nested(15)]
    for value in (nested(16), nested(3000)):
        assert "15 levels" in refused(value)[0]


def test_what_holds_itself_is_refused() -> None:
    ring: dict[str, Any] = {}
    ring["me"] = ring
    assert "15 levels" in refused(ring)[0]


@pytest.mark.parametrize(
    "value",
    [
        datetime.datetime(2024, 1, 1, 2, tzinfo=datetime.timezone(datetime.timedelta(hours=2))),
        datetime.datetime(2024, 7, 1, 12, tzinfo=ZoneInfo("Europe/Madrid")),
        datetime.datetime(2024, 10, 27, 2, 30, fold=0, tzinfo=ZoneInfo("Europe/Madrid")),
        datetime.datetime(2024, 10, 27, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Madrid")),
        datetime.datetime(1900, 1, 1, tzinfo=ZoneInfo("Europe/Madrid")),
        datetime.datetime(2024, 1, 1, tzinfo=datetime.timezone(datetime.timedelta(seconds=1, microseconds=1))),
        pandas.Timestamp("2024-07-01 12:00", tz="America/St_Johns"),
    ],
    ids=str,
)
def test_moments_of_any_zone_are_the_same_moment(value: datetime.datetime) -> None:
    (read,) = held(value)
    assert read.replace(tzinfo=None) == value.replace(tzinfo=None) - (value.utcoffset() or datetime.timedelta())


def test_a_moment_outside_of_the_years_of_utc_is_refused() -> None:
    east, west = (datetime.timezone(datetime.timedelta(hours=hours)) for hours in (1, -1))
    assert "years 1 to 9999" in refused(datetime.datetime(1, 1, 1, tzinfo=east))[0]
    assert "years 1 to 9999" in refused(datetime.datetime.max.replace(tzinfo=west))[0]


def test_a_time_of_day_with_a_zone_is_refused() -> None:
    assert "time zone" in refused(datetime.time(1, tzinfo=UTC))[0]


def test_a_reason_is_short_whatever_the_value() -> None:
    assert len(refused(1, 2, "x" * 10_000)[2]) < 250
