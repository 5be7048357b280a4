"""Types of columns whose values are text: a type is found only if every text says exactly what its value says."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime, timezone
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING

from ..packages import required
from .columns import BIGNUMERIC_DIGITS, BIGNUMERIC_SCALE, decimal

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pyarrow

PLAIN = r"^-?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]+)?|\.[0-9]+)$"
NUMBER = rf"{PLAIN[:-1]}(?:[eE][+-]?[0-9]+)?$"
SAFE = r"^-?[0-9.]{1,15}(?:[eE][+-]?[0-2]?[0-9]?[0-9])?$"
"""Numbers that 64 bits hold as they are written: at most 15 digits, and an exponent far from the limits."""
SAFE_LENGTH = 15
INT64_LENGTH = 18
"""Every integer of so many digits is an INTEGER."""
DATETIME = r"^\d{4}-\d\d-\d\d[ T]\d\d:\d\d(?::\d\d(?:\.\d{1,6})?)?$"
TIMESTAMP = rf"{DATETIME[:-1]}(?:Z| UTC|[+-]\d\d(?::?\d\d)?)$"
TIME = r"^\d\d:\d\d:\d\d(?:\.\d{1,6})?$"
CASES = {"true": "false", "True": "False", "TRUE": "FALSE"}
TESTS = ("true", "True", "TRUE", "date", "datetime", "timestamp", "time", "number")
"""What a column may be, until a text is something else; the first three are the ways to write BOOLEAN."""
PROBE = 64
"""Texts that are looked at first, since most types do not fit even a few texts of another one."""
FIRST_DAY, LAST_DAY = date(1, 1, 1), date(9999, 12, 31)


@dataclass
class _Numbers:
    """What all numbers of a column have in common.

    Attributes:
        are_integers: Whether all are INTEGER, as the number would be written: not `007`, `+7` or `-0`.
        are_floats: Whether all are what a FLOAT of 64 bits holds exactly as it is written.
        are_decimals: Whether all are decimals without an exponent.
        have_point: Whether one has a decimal point or an exponent.
        whole: Most digits before the point.
        scale: Most digits after the point.
    """

    are_integers: bool = True
    are_floats: bool = True
    are_decimals: bool = True
    have_point: bool = False
    whole: int = 0
    scale: int = 0

    def add(self, texts: pyarrow.StringArray) -> bool:
        """Note texts, and return whether all texts are numbers."""
        compute = required("pyarrow.compute")
        length = compute.max(compute.binary_length(texts)).as_py()
        if self.are_integers and _are_integers(texts):
            self.whole = max(self.whole, length)
            self.are_floats = self.are_floats and (length <= SAFE_LENGTH or _are_floats(texts, is_plain=True))
            return True
        self.are_integers = False
        is_plain = compute.all(compute.match_substring_regex(texts, PLAIN)).as_py()
        if not is_plain and not compute.all(compute.match_substring_regex(texts, NUMBER)).as_py():
            self.are_floats = self.are_decimals = False
            return False
        self.are_decimals = self.are_decimals and is_plain
        self.have_point = self.have_point or not is_plain
        self.are_floats = self.are_floats and ((is_plain and length <= SAFE_LENGTH) or _are_floats(texts, is_plain))
        if is_plain:
            self._measure(texts)
        return self.are_floats or self.are_decimals

    def _measure(self, texts: pyarrow.StringArray) -> None:
        compute = required("pyarrow.compute")
        digits = compute.utf8_ltrim(texts, "-")
        lengths, points = compute.binary_length(digits), compute.find_substring(digits, ".")
        has_point = compute.greater_equal(points, 0)
        whole = compute.max(compute.if_else(has_point, points, lengths)).as_py()
        scale = compute.max(
            compute.if_else(has_point, compute.subtract(compute.subtract(lengths, points), 1), 0)
        ).as_py()
        self.have_point = self.have_point or scale > 0
        self.whole, self.scale = max(self.whole, whole), max(self.scale, scale)
        if self.whole > BIGNUMERIC_DIGITS or self.scale > BIGNUMERIC_SCALE:
            self.are_decimals = False

    def kind(self) -> pyarrow.DataType | None:
        """Return the type of the numbers, or None if no type holds all of them exactly."""
        arrow = required("pyarrow")
        if self.are_integers:
            return arrow.int64()
        if self.have_point and self.are_floats:
            return arrow.float64()
        if self.are_decimals and (self.have_point or self.whole > INT64_LENGTH):
            return decimal(self.whole, self.scale)
        return None


@dataclass
class Kind:
    """What all texts of a column can be read as. Texts are added block by block.

    - INTEGER: whole numbers of 64 bits, as they are written: `007` and `+7` are codes, so they stay text, as `-0` does.
    - FLOAT: decimal numbers, some with a point or an exponent, whose digits 64 bits hold as they are written.
    - NUMERIC, BIGNUMERIC: decimal numbers of which one has more digits than that.
    - BOOLEAN: `true` and `false`, all in the same case: not `yes`, `t` or `1`.
    - DATE: `2026-11-25`. DATETIME: `2026-11-25 08:30`, with `T` or a blank, also with seconds and up to six digits of
      their fraction. TIMESTAMP: the same with `Z`, ` UTC` or an offset. TIME: `08:30:00`, also with a fraction.
    - STRING: everything else, every character of it.

    An empty text is no value of any type but STRING.
    """

    _numbers: _Numbers = field(default_factory=_Numbers)
    _tests: list[str] = field(default_factory=lambda: list(TESTS))
    _is_empty: bool = True
    _has_empty_texts: bool = False

    def add(self, texts: pyarrow.StringArray) -> None:
        """Note the texts of a block; nulls are none."""
        compute = required("pyarrow.compute")
        if not self._tests:
            return
        texts = texts.drop_null()
        if not len(texts):
            return
        if compute.min(compute.binary_length(texts)).as_py() == 0:
            self._has_empty_texts = True
            texts = texts.filter(compute.not_equal(texts, ""))
            if not len(texts):
                return
        self._is_empty = False
        for part in (texts[:PROBE], texts[PROBE:]):
            if len(part):
                self._tests = [name for name in self._tests if self._fits(name, part)]

    def _fits(self, name: str, texts: pyarrow.StringArray) -> bool:
        if name == "number":
            return self._numbers.add(texts)
        if name in CASES:
            compute, words = required("pyarrow.compute"), required("pyarrow").array((name, CASES[name]))
            return bool(compute.all(compute.is_in(texts, value_set=words)).as_py())
        return _are_times(name, texts)

    def type(self) -> pyarrow.DataType:
        """Return the Arrow type: `null` if there was no value at all."""
        arrow = required("pyarrow")
        if self._is_empty:
            return arrow.string() if self._has_empty_texts else arrow.null()
        if not self._tests:
            return arrow.string()
        if self._tests == ["number"]:
            return self._numbers.kind() or arrow.string()
        return _types()[self._tests[0]]


def text_kind(values: Iterable[str]) -> pyarrow.DataType:
    """Return the type of some texts, by the rules of `Kind`."""
    kind = Kind()
    kind.add(required("pyarrow").array(list(values), required("pyarrow").string()))
    return kind.type()


def read(texts: pyarrow.StringArray, kind: pyarrow.DataType) -> pyarrow.Array:
    """Return texts as a type that `Kind` found for them; empty texts are null in all but STRING."""
    arrow, compute = required("pyarrow"), required("pyarrow.compute")
    types = arrow.types
    if types.is_string(kind):
        return texts
    if types.is_null(kind):
        return arrow.nulls(len(texts))
    texts = without_empty(texts)
    if types.is_boolean(kind):
        return compute.equal(compute.utf8_lower(texts), "true")
    if types.is_time(kind):
        return compute.binary_join_element_wise("1970-01-01T", texts, "").cast(arrow.timestamp("us")).cast(kind)
    if types.is_timestamp(kind) and kind.tz:
        texts = compute.replace_substring(texts, " UTC", "Z")
    return texts.cast(kind)


def without_empty(texts: pyarrow.StringArray) -> pyarrow.StringArray:
    """Return texts with null instead of empty ones."""
    arrow, compute = required("pyarrow"), required("pyarrow.compute")
    if compute.min(compute.binary_length(texts)).as_py() != 0:
        return texts
    return compute.if_else(compute.equal(texts, ""), arrow.scalar(None, arrow.string()), texts)


def _types() -> dict[str, pyarrow.DataType]:
    arrow = required("pyarrow")
    return {
        **dict.fromkeys(CASES, arrow.bool_()),
        "date": arrow.date32(),
        "datetime": arrow.timestamp("us"),
        "timestamp": arrow.timestamp("us", "UTC"),
        "time": arrow.time64("us"),
    }


def _are_integers(texts: pyarrow.StringArray) -> bool:
    """Whether all texts are INTEGER: they are what the numbers are written as."""
    arrow, compute = required("pyarrow"), required("pyarrow.compute")
    try:
        return bool(compute.all(compute.equal(texts.cast(arrow.int64()).cast(arrow.string()), texts)).as_py())
    except arrow.ArrowInvalid:
        return False


def _are_floats(texts: pyarrow.StringArray, is_plain: bool) -> bool:
    """Whether FLOAT holds all numbers as they are written; plain ones have no exponent."""
    arrow, compute = required("pyarrow"), required("pyarrow.compute")
    rest = texts.filter(compute.greater(compute.binary_length(texts), SAFE_LENGTH))
    if not is_plain:
        rest = texts.filter(compute.invert(compute.match_substring_regex(texts, SAFE)))
    rest = rest.filter(compute.not_equal(rest.cast(arrow.float64()).cast(arrow.string()), rest))
    return all(is_exact_float(text) for text in rest.to_pylist())


def is_exact_float(text: str) -> bool:
    """Whether the shortest form of the float that a number is read as has the same decimal value."""
    try:
        return Decimal(text) == Decimal(repr(float(text)))
    except InvalidOperation:  # an exponent without end
        return False


def _are_times(name: str, texts: pyarrow.StringArray) -> bool:
    arrow, compute = required("pyarrow"), required("pyarrow.compute")
    patterns = {"datetime": DATETIME, "timestamp": TIMESTAMP, "time": TIME}
    if name in patterns and not compute.all(compute.match_substring_regex(texts, patterns[name])).as_py():
        return False
    kind = _types()[name]
    try:
        values = read(texts, kind)
    except arrow.ArrowInvalid:
        return False
    if name == "time":
        return True
    zone = timezone.utc if name == "timestamp" else None
    first: date = FIRST_DAY
    last: date = LAST_DAY
    if name != "date":
        first = datetime.combine(FIRST_DAY, datetime.min.time(), zone)
        last = datetime.combine(LAST_DAY, datetime.max.time(), zone)
    inside = compute.and_(
        compute.greater_equal(values, arrow.scalar(first, kind)), compute.less_equal(values, arrow.scalar(last, kind))
    )
    return bool(compute.all(inside).as_py())
