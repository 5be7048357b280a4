"""Law 11: no value is changed or dropped without a word.

What is read back from the file that would be uploaded is what was given, or the load was refused with row and column.
"""

from __future__ import annotations

import datetime
import enum
import math
import re
import uuid
from collections import namedtuple
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import numpy
import pandas
import pyarrow
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from carto_auth_integrations.warehouse.sources import rows as rows_module
from tests.support.sources import ReadBack, read_back

UTC = datetime.timezone.utc
ROWS_PER_CHUNK = 3
"""So that a few rows make several chunks."""
EXAMPLES = 150
REFUSAL = re.compile(
    r"(Row \d+|piece \d+: row \d+): (column \w|the row has no columns)"
    r"|(piece \d+: )?Column .* has a name that BigQuery does not accept"
    r"|Column \w+ holds only objects without a field"
)
"""What a refusal begins with: it names row and column, or the column if that is wrong as a whole."""

the_settings = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows_module, "ROWS_PER_CHUNK", ROWS_PER_CHUNK)


class Colour(str, enum.Enum):
    RED = "r"
    NONE = ""


class Size(enum.IntEnum):
    SMALL = 1
    HUGE = 2**63


class Anything(enum.Enum):
    NOTHING = None
    HALF = 0.5
    DAY = datetime.date(2024, 2, 29)


class Text(str):
    __slots__ = ()


class Whole(int):
    def __repr__(self) -> str:
        return "many"


class Moment(datetime.datetime):
    pass


Pair = namedtuple("Pair", "left right")  # callers have these


# The oracle: it knows nothing of Arrow's conversions


def is_missing(value: Any) -> bool:
    if isinstance(value, (numpy.datetime64, numpy.timedelta64)):
        return bool(numpy.isnat(value))
    return value is None or value is pandas.NA or value is pandas.NaT


def plain(value: Any) -> Any:
    """Return a value without the wrappers that mean nothing."""
    if isinstance(value, enum.Enum):
        return plain(value.value)
    if isinstance(value, pandas.Timestamp):
        return value.to_pydatetime() if not value.nanosecond else object()
    if isinstance(value, numpy.datetime64):
        return pandas.Timestamp(value).to_pydatetime()
    if isinstance(value, numpy.ndarray):
        return list(value)
    if isinstance(value, numpy.generic):
        return value.item()
    if isinstance(value, uuid.UUID):
        return str(value)
    if isinstance(value, Pair):
        return value._asdict()
    return value


def same_number(given: float | Decimal, read: Any) -> bool:
    if isinstance(read, bool) or not isinstance(read, (int, float, Decimal)):
        return False
    if isinstance(given, float):
        if math.isnan(given):
            return isinstance(read, float) and math.isnan(read)
        return isinstance(read, float) and read == given and math.copysign(1, read) == math.copysign(1, given)
    if isinstance(given, Decimal):
        return isinstance(read, Decimal) and read == given
    if isinstance(read, float):
        return math.isfinite(read) and int(read) == given
    return read == given


def same_moment(given: datetime.datetime, read: Any) -> bool:
    if not isinstance(read, datetime.datetime) or (given.tzinfo is None) != (read.tzinfo is None):
        return False
    if given.tzinfo is None:
        return read.replace(fold=0) == datetime.datetime.combine(given.date(), given.time()).replace(fold=0)
    return read.replace(tzinfo=None) == given.replace(tzinfo=None) - (given.utcoffset() or datetime.timedelta())


def same(given: Any, read: Any) -> bool:
    """Whether what was read is what was given, after the widenings that the documentation names."""
    if is_missing(given):
        return read is None or read == []
    given = plain(given)
    if is_missing(given):
        return read is None or read == []
    if isinstance(given, bool):
        return read is given
    if isinstance(given, (int, float, Decimal)):
        return same_number(given, read)
    if isinstance(given, datetime.datetime):
        return same_moment(given, read)
    if isinstance(given, (datetime.date, datetime.time)):
        return type(read) is type(given) and read == given and not isinstance(read, datetime.datetime)
    if isinstance(given, Mapping):
        return (
            isinstance(read, dict)
            and given.keys() <= read.keys()
            and all(same(given.get(name), value) for name, value in read.items())
        )
    if isinstance(given, (list, tuple)):
        return isinstance(read, list) and len(read) == len(given) and all(map(same, given, read))
    if isinstance(given, (str, bytes)):
        return isinstance(read, type(given).__mro__[-2]) and read == given
    return False


def assert_nothing_changed(given: list[dict[str, Any]], read: list[dict[str, Any]]) -> None:
    assert len(read) == len(given)
    for number, (one, other) in enumerate(zip(given, read, strict=True), start=1):
        for name in one.keys() | other.keys():
            value, found = one.get(name), other.get(name)
            assert same(value, found), f"row {number}, {name}: {value!r} became {found!r}"


def read_or_refusal(source: Any, **options: Any) -> ReadBack | str:
    """Return what is read back, or what is said against it. There is no third outcome."""
    try:
        return read_back(source, **options)
    except ValueError as error:
        refusal = error
    assert type(refusal) is ValueError, f"{type(refusal)} is of a library: {refusal}"
    said = str(refusal)
    assert said.startswith("The source has no rows") or REFUSAL.match(said), f"neither row nor column: {said}"
    return said


# Values


ZONES = st.sampled_from([UTC, ZoneInfo("Europe/Madrid"), ZoneInfo("America/St_Johns"), ZoneInfo("Asia/Kathmandu")])
OFFSETS = st.timedeltas(datetime.timedelta(hours=-23), datetime.timedelta(hours=23)).map(datetime.timezone)
INTEGERS = st.one_of(
    st.integers(-3, 3),
    st.integers(-(2**63), 2**63 - 1),
    st.sampled_from([2**53, 2**53 + 1, -(2**53) - 1, 2**63 - 1, 2**63, 2**64, -(2**63) - 1, 10**38, 10**39]),
)
FLOATS = st.one_of(st.floats(), st.sampled_from([0.0, -0.0, math.inf, -math.inf, math.nan, 5e-324, 1e308]))
DECIMALS = st.one_of(
    st.decimals(),
    st.decimals(-(10**6), 10**6, places=2),
    st.sampled_from([Decimal("1E+5"), Decimal("1E-38"), Decimal("1E-39"), Decimal("-0"), Decimal("0E-60")]),
)
TEXTS = st.one_of(
    st.text(max_size=4),
    st.text(st.characters(), max_size=2),
    st.sampled_from(
        ["", "\0", "\ud800", "😀", "a\r\nb", "1", "true", "null", "NaN", "2024-01-01", "e\u0301", "\ufeff"]
    ),
)
SCALARS: dict[str, st.SearchStrategy[Any]] = {
    "booleans": st.one_of(st.booleans(), st.booleans().map(numpy.bool_)),
    "numbers": st.one_of(
        INTEGERS,
        FLOATS,
        st.sampled_from([Size.SMALL, Size.HUGE, Anything.HALF, Whole(7)]),
        st.integers(0, 255).map(numpy.uint8),
        st.floats(width=32).map(numpy.float32),
        st.integers(2**63, 2**64 - 1).map(numpy.uint64),
    ),
    "decimals": st.one_of(DECIMALS, INTEGERS),
    "texts": st.one_of(TEXTS, st.sampled_from([Colour.RED, Text("x"), numpy.str_("y")]), st.uuids()),
    "bytes": st.one_of(st.binary(max_size=3), st.binary(max_size=3).map(bytearray).map(bytes)),
    "dates": st.one_of(st.dates(), st.sampled_from([Anything.DAY, datetime.date.min, datetime.date.max])),
    "local": st.one_of(
        st.datetimes(),
        st.datetimes(datetime.datetime(1700, 1, 1), datetime.datetime(2200, 1, 1)).map(pandas.Timestamp),
        st.datetimes(datetime.datetime(1700, 1, 1), datetime.datetime(2200, 1, 1)).map(numpy.datetime64),
        st.just(Moment(2024, 1, 1, 12, fold=1)),
        st.integers(0, 10**18).map(pandas.Timestamp),
    ),
    "instants": st.one_of(st.datetimes(timezones=ZONES), st.datetimes(timezones=OFFSETS)),
    "times": st.one_of(st.times(), st.times(timezones=st.none() | st.just(UTC))),
}
NOTHING = st.sampled_from([None, None, None, pandas.NA, pandas.NaT, Anything.NOTHING, numpy.datetime64("NaT")])
NAMES = st.sampled_from(["a", "b", "c"])


def nested(leaves: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Return values of one family in arrays and objects of any depth; now and then one that has no place there."""
    return st.one_of(
        st.lists(leaves, max_size=3),
        st.dictionaries(NAMES, leaves, max_size=2),
        st.builds(Pair, leaves, leaves),
        st.lists(leaves, max_size=2).map(tuple),
        st.lists(leaves, max_size=2).map(lambda values: numpy.array([*values, None], dtype=object)[:-1]),
    )


LEAVES = st.one_of(NOTHING, *SCALARS.values())
ANYTHING = st.recursive(LEAVES, nested, max_leaves=5)


@st.composite
def kinds(draw: Callable[..., Any]) -> st.SearchStrategy[Any]:
    """Return the values of one column: mostly of one kind."""
    values = SCALARS[draw(st.sampled_from(sorted(SCALARS)))]
    for _ in range(draw(st.integers(0, 2))):
        wrap = draw(st.sampled_from(["list", "object", "objects"]))
        if wrap == "list":
            values = st.lists(values, max_size=3)
        elif wrap == "object":
            values = st.dictionaries(NAMES, st.one_of(NOTHING, values), max_size=2)
        else:
            values = st.lists(st.dictionaries(NAMES, values, min_size=1, max_size=2), max_size=2)
    rare = draw(st.sampled_from([0, 0, 0, 1]))
    return st.one_of(*[values] * 6, NOTHING, *[ANYTHING] * rare)


@st.composite
def some_rows(draw: Callable[..., Any]) -> list[dict[str, Any]]:
    columns = {name: draw(kinds()) for name in draw(st.sets(st.sampled_from(["x", "y", "z"]), min_size=1))}
    row = st.fixed_dictionaries({}, optional=columns) if draw(st.booleans()) else st.fixed_dictionaries(columns)
    return draw(st.lists(row, min_size=1, max_size=3 * ROWS_PER_CHUNK))


@given(some_rows())
@the_settings
def test_dicts_arrive_as_they_are_or_are_refused(given: list[dict[str, Any]]) -> None:
    read = read_or_refusal(given)
    if isinstance(read, ReadBack):
        assert_nothing_changed(given, read.rows)


@given(some_rows())
@the_settings
def test_of_dicts_that_do_not_fit_the_others_arrive_as_they_are(given: list[dict[str, Any]]) -> None:
    read = read_or_refusal(given, bad_rows="quarantine")
    if isinstance(read, ReadBack):
        rejected = {each["row_number"] for each in read.rejects}
        assert len(rejected) == len(read.rejects)
        assert_nothing_changed([row for number, row in enumerate(given, 1) if number not in rejected], read.rows)


@given(some_rows(), some_rows())
@the_settings
def test_pieces_of_a_stream_arrive_as_they_are_or_are_refused(
    first: list[dict[str, Any]], second: list[dict[str, Any]]
) -> None:
    frames = [
        pandas.DataFrame({name: pandas.Series([row.get(name) for row in rows], dtype=object) for name in "xyz"})
        for rows in (first, second)
    ]
    read = read_or_refusal(iter(frames))
    if isinstance(read, ReadBack):
        assert_nothing_changed([without_nan(row) for row in first + second], read.rows)


def without_nan(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row as pandas means it: NaN is nothing."""
    return {name: None if is_nan(value) else value for name, value in row.items()}


def is_nan(value: Any) -> bool:
    value = plain(value) if isinstance(value, (enum.Enum, numpy.generic)) else value
    return value.is_nan() if isinstance(value, Decimal) else isinstance(value, float) and math.isnan(value)


SERIES: dict[str, st.SearchStrategy[Any]] = {
    "int64": st.integers(-(2**63), 2**63 - 1),
    "uint64": st.integers(0, 2**64 - 1),
    "Int64": st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1)),
    "float64": FLOATS,
    "Float64": st.one_of(st.none(), st.floats(allow_nan=False)),
    "float32": st.floats(width=32),
    "bool": st.booleans(),
    "boolean": st.one_of(st.none(), st.booleans()),
    "string": st.one_of(st.none(), st.text(max_size=3)),
    "object": st.one_of(TEXTS, NOTHING),
    "category": st.one_of(st.none(), st.sampled_from(["a", "b", "😀"])),
    "datetime64[ns]": st.integers(-(10**18), 10**18),
    "datetime64[us]": st.integers(-(10**16), 10**16),
    "datetime64[s]": st.integers(-(10**12), 10**12),
    "datetime64[ns, Europe/Madrid]": st.integers(0, 10**18),
    "timedelta64[ns]": st.integers(-(10**18), 10**18),
    "int64[pyarrow]": st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1)),
    "large_string[pyarrow]": st.one_of(st.none(), st.text(st.characters(codec="utf-8"), max_size=3)),
    "double[pyarrow]": st.one_of(st.none(), st.floats(allow_nan=False)),
}
"""Values by the dtype of pandas that holds them."""


@st.composite
def some_frame(draw: Callable[..., Any]) -> pandas.DataFrame:
    count = draw(st.integers(0, 2 * ROWS_PER_CHUNK))
    columns = {}
    for name in draw(st.sets(st.sampled_from(["x", "y", "z"]), min_size=1)):
        dtype = draw(st.sampled_from(sorted(SERIES)))
        values = draw(st.lists(SERIES[dtype], min_size=count, max_size=count))
        columns[name] = pandas.Series(values, dtype=dtype)
    return pandas.DataFrame(columns, index=range(7, 7 + count))


@given(some_frame())
@the_settings
def test_frames_arrive_as_they_are_or_are_refused(frame: pandas.DataFrame) -> None:
    before = frame.copy(deep=True)
    read = read_or_refusal(frame)
    pandas.testing.assert_frame_equal(frame, before)
    if isinstance(read, ReadBack):
        columns = [[None if pandas.isna(value) else value for value in frame[name].tolist()] for name in frame]
        rows = [dict(zip(frame.columns, values, strict=True)) for values in zip(*columns, strict=True)]
        assert_nothing_changed(rows, read.rows)


ARROW_SCALARS: list[tuple[pyarrow.DataType, st.SearchStrategy[Any]]] = [
    (pyarrow.int8(), st.integers(-128, 127)),
    (pyarrow.uint64(), st.integers(0, 2**64 - 1)),
    (pyarrow.int64(), st.integers(-(2**63), 2**63 - 1)),
    (pyarrow.float32(), st.floats(width=32)),
    (pyarrow.float64(), st.floats()),
    (pyarrow.bool_(), st.booleans()),
    (pyarrow.string(), st.text(st.characters(codec="utf-8"), max_size=3)),
    (pyarrow.large_string(), st.text(st.characters(codec="utf-8"), max_size=3)),
    (pyarrow.binary(), st.binary(max_size=3)),
    (pyarrow.binary(2), st.binary(min_size=2, max_size=2)),
    (pyarrow.date32(), st.dates()),
    (pyarrow.date64(), st.dates()),
    (pyarrow.time32("s"), st.times().map(lambda time: time.replace(microsecond=0))),
    (pyarrow.time64("ns"), st.times()),
    (pyarrow.timestamp("s"), st.datetimes().map(lambda moment: moment.replace(microsecond=0))),
    (pyarrow.timestamp("us"), st.datetimes()),
    (pyarrow.timestamp("us", "Europe/Madrid"), st.datetimes(datetime.datetime(2, 1, 1), timezones=st.just(UTC))),
    (pyarrow.timestamp("ns"), st.datetimes(datetime.datetime(1700, 1, 1), datetime.datetime(2200, 1, 1))),
    (pyarrow.decimal128(9, 2), st.decimals(-(10**6), 10**6, places=2)),
    (pyarrow.decimal128(5, -2), st.integers(-999, 999).map(lambda number: Decimal(number * 100))),
    (pyarrow.decimal256(76, 40), st.decimals(-(10**30), 10**30, places=40)),
    (pyarrow.null(), st.none()),
    (pyarrow.duration("us"), st.timedeltas(datetime.timedelta(-1000), datetime.timedelta(1000))),
]


@st.composite
def some_type(draw: Callable[..., Any], depth: int = 2) -> tuple[pyarrow.DataType, st.SearchStrategy[Any]]:
    """Return an Arrow type, and the values that it has."""
    form = draw(st.sampled_from(["scalar", "scalar", "list", "large_list", "struct", "map", "dictionary"]))
    if form == "scalar" or not depth:
        kind, values = draw(st.sampled_from(ARROW_SCALARS))
        return kind, st.one_of(st.none(), values)
    if form == "dictionary":
        return pyarrow.dictionary(pyarrow.int8(), pyarrow.string()), st.sampled_from([None, "a", "b"])
    if form == "struct":
        fields = {name: draw(some_type(depth - 1)) for name in draw(st.sets(NAMES, max_size=2))}
        values = st.fixed_dictionaries({name: each for name, (_, each) in fields.items()})
        return pyarrow.struct([(name, each) for name, (each, _) in fields.items()]), st.one_of(st.none(), values)
    kind, values = draw(some_type(depth - 1))
    if form == "map":
        return pyarrow.map_(pyarrow.string(), kind), st.lists(st.tuples(st.sampled_from("kl"), values), max_size=2)
    nulls = values if draw(st.integers(0, 5)) == 0 else values.filter(lambda value: value is not None)
    is_null = pyarrow.types.is_null(kind)
    of = pyarrow.list_ if form == "list" else pyarrow.large_list
    return of(kind), st.one_of(st.none(), st.lists(nulls, max_size=2) if not is_null else st.just([]))


@st.composite
def some_table(draw: Callable[..., Any]) -> pyarrow.Table:
    count, skipped = draw(st.integers(0, 5)), draw(st.integers(0, 2))
    columns = {}
    for name in draw(st.sets(st.sampled_from(["x", "y", "z"]), min_size=1)):
        kind, values = draw(some_type())
        columns[name] = pyarrow.array(draw(st.lists(values, min_size=count, max_size=count)), kind)
    table = pyarrow.table(columns)
    return pyarrow.concat_tables([table.slice(skipped), table[:1]])


@given(some_table())
@the_settings
def test_arrow_tables_arrive_as_they_are_or_are_refused(table: pyarrow.Table) -> None:
    read = read_or_refusal(table)
    if isinstance(read, ReadBack):
        assert_nothing_changed([without_maps(row, table.schema) for row in table.to_pylist()], read.rows)


def without_maps(row: Mapping[str, Any], fields: Any) -> dict[str, Any]:
    """Return a row with maps as arrays of key and value, which is how they are stored."""
    return {each.name: without_map(row[each.name], each.type) for each in fields}


def without_map(value: Any, kind: pyarrow.DataType) -> Any:
    types = pyarrow.types
    if value is None:
        return None
    if types.is_map(kind):
        return [{"key": key, "value": without_map(item, kind.item_type)} for key, item in value]
    if types.is_struct(kind):
        return without_maps(value, kind)
    if types.is_list(kind) or types.is_large_list(kind):
        return [without_map(each, kind.value_type) for each in value]
    return value
