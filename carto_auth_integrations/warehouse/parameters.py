"""Query parameters: Python values as BigQuery's, with the types that follow from Python's."""

from __future__ import annotations

import base64
import datetime
import math
from collections.abc import Collection, Mapping, Set
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from os import PathLike
from types import NoneType
from typing import TYPE_CHECKING, Any, Protocol
from uuid import UUID

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy
    import pandas

    from ..http import Json

INT64 = range(-(2**63), 2**63)
NUMERIC, BIGNUMERIC = range(1 - 10**38, 10**38), range(-(2**255), 2**255)
"""The whole numbers of each type; of the last two, without the point before their last 9 and 38 digits.
https://cloud.google.com/bigquery/docs/reference/standard-sql/data-types#decimal_types"""
NUMERIC_SCALE, BIGNUMERIC_SCALE = 9, 38
MOST_DIGITS = 77
"""No BIGNUMERIC has more."""
LONGEST_INTERVAL = datetime.timedelta(days=3_660_000)
"""https://cloud.google.com/bigquery/docs/reference/standard-sql/data-types#interval_type"""
DECIMALS = ("INT64", "NUMERIC", "BIGNUMERIC")
"""Types of which each holds all values of those before it."""
MISSING = {"MaskedConstant", "NAType", "NaTType"}
"""The classes of numpy's and pandas' own missing values."""
PLAIN = (bool, int, float, str, bytes, Decimal, datetime.datetime, datetime.date, datetime.time, datetime.timedelta)
WITH_A_TYPE = "pass a bigquery.ScalarQueryParameter(name, type, value)"


class Told(Protocol):
    """A query parameter of any class: one of google's, or a `Parameter`."""

    def to_api_repr(self) -> Json:
        """Return it as BigQuery's REST API writes it."""


@dataclass(frozen=True)
class Parameter:
    """A query parameter as BigQuery's REST API writes it, like google's own classes without their import.

    https://cloud.google.com/bigquery/docs/reference/rest/v2/QueryParameter

    Attributes:
        name: Its name; None for a positional one.
        type_: Its `parameterType`.
        value: Its `parameterValue`.
    """

    name: str | None
    type_: Json
    value: Json

    def to_api_repr(self) -> Json:
        """Return it as BigQuery's REST API writes it."""
        named = {} if self.name is None else {"name": self.name}
        return {**named, "parameterType": self.type_, "parameterValue": self.value}


def query_parameters(parameters: Mapping[str, object] | Sequence[object]) -> list[Told]:
    """Return values as BigQuery's query parameters. Their types follow from Python's; google's own parameters stay.

    | Python | BigQuery |
    |---|---|
    | `bool`, `float`, `str`, `bytes`, `date`, `time` | BOOL, FLOAT64, STRING, BYTES, DATE, TIME |
    | `int`, `Decimal` | INT64, NUMERIC or BIGNUMERIC: the narrowest that holds the value exactly |
    | `datetime` without and with a time zone | DATETIME, TIMESTAMP |
    | `timedelta`, `relativedelta` | INTERVAL |
    | `UUID` | STRING |
    | an enum's member | its value |
    | shapely's geometries, objects with `__geo_interface__` | GEOGRAPHY, whose edges are geodesics |
    | scalars of numpy, pandas and pyarrow | those of Python |
    | lists, tuples, sets, arrays, series and any other collection | ARRAY; None in it is NULL |
    | mappings | STRUCT; in an ARRAY, a key that is missing is NULL |

    The values of an ARRAY have one type; integers become FLOAT64, NUMERIC or BIGNUMERIC beside such values.

    Args:
        parameters: Values for `@name` (a mapping) or `?` (a sequence).

    Raises:
        TypeError: If a value has no BigQuery type, such as None, an empty list, an iterator or an unknown object.
        ValueError: If no BigQuery type holds a value exactly.
    """
    if hasattr(parameters, "items"):
        return [_parameter(str(name), value, str(name)) for name, value in parameters.items()]
    return [_parameter(None, value, f"{number} (?)") for number, value in enumerate(parameters, 1)]


def _parameter(name: str | None, value: object, shown: str) -> Told:
    where = f"Parameter {shown}"
    if hasattr(value, "to_api_repr"):
        if name is None or getattr(value, "name", None) == name:
            return value
        resource = value.to_api_repr()
        return Parameter(name, resource["parameterType"], resource["parameterValue"])
    type_, (only,) = _column([plain_value(value, where)], where)
    return Parameter(name, type_, only)


def _column(values: Sequence[Any], where: str) -> tuple[Json, list[Json]]:
    """Return the one type that values have together, and each of them: those of an ARRAY, or of a STRUCT's field.

    A parameter is a column of one value.
    """
    present = [value for value in values if value is not None]
    if not present:
        raise TypeError(f"{where}: None has no BigQuery type; {WITH_A_TYPE}, such as 'INT64' and None.")
    if all(isinstance(value, dict) for value in present):
        return _structs(values, where)
    if all(isinstance(value, list) for value in present):
        return _arrays(values, where)
    return _scalars(values, where)


def _structs(values: Sequence[dict[str, object] | None], where: str) -> tuple[Json, list[Json]]:
    names = list(dict.fromkeys(name for value in values for name in value or ()))
    if not names or not all(isinstance(name, str) and name for name in names):
        raise TypeError(f"{where}: a STRUCT needs fields, and names for them that are text.")
    fields = {name: _column([value and value.get(name) for value in values], f"{where}.{name}") for name in names}
    kind = {"type": "STRUCT", "structTypes": [{"name": name, "type": type_} for name, (type_, _) in fields.items()]}
    return kind, [
        {"value": None} if value is None else {"structValues": {name: fields[name][1][row] for name in names}}
        for row, value in enumerate(values)
    ]


def _arrays(values: Sequence[list[object] | None], where: str) -> tuple[Json, list[Json]]:
    members = [member for value in values for member in value or ()]
    if all(member is None for member in members):
        name = where.rpartition(" ")[2].rpartition(".")[2]
        raise TypeError(
            f"{where}: a list without values has no BigQuery type; pass a bigquery.ArrayQueryParameter with one, such "
            f"as ArrayQueryParameter({name!r}, 'INT64', [])."
        )
    type_, converted = _column(members, where)
    if type_["type"] == "ARRAY":
        raise TypeError(f"{where}: BigQuery has no arrays of arrays; make the inner ones fields of dicts.")
    left = iter(converted)
    return {"type": "ARRAY", "arrayType": type_}, [
        {"arrayValues": [next(left) for _ in value or ()]} for value in values
    ]


def _scalars(values: Sequence[object], where: str) -> tuple[Json, list[Json]]:
    typed = [None if value is None else typed_scalar(value, where) for value in values]
    kinds: list[Json] = []
    for each in typed:
        if each is not None and each[0] not in kinds:
            kinds.append(each[0])
    names = {kind["type"] for kind in kinds}
    if names == {"INT64", "FLOAT64"} and all(isinstance(value, (int, float, NoneType)) for value in values):
        return {"type": "FLOAT64"}, [{"value": None if value is None else _as_float(value, where)} for value in values]
    if len(kinds) > 1 and not names <= set(DECIMALS):
        raise TypeError(
            f"{where}: an array needs values of one type, and these are {', '.join(sorted(names))}; pass a "
            "bigquery.ArrayQueryParameter."
        )
    kind = max(kinds, key=lambda kind: DECIMALS.index(kind["type"])) if len(kinds) > 1 else kinds[0]
    return kind, [{"value": None} if each is None else each[1] for each in typed]


def _as_float(value: Any, where: str) -> object:
    if isinstance(value, int) and int(float(value)) != value:
        raise ValueError(f"{where}: FLOAT64, the type of the other values, does not hold {value} exactly.")
    return _float(float(value))[1]


def typed_scalar(value: object, where: str) -> tuple[Json, Json]:
    """Return the type of a value that is neither a list nor a dict, and the value."""
    if hasattr(value, "to_api_repr"):
        resource = value.to_api_repr()
        return resource["parameterType"], resource["parameterValue"]
    for kind, convert in CONVERSIONS:
        if isinstance(value, kind):
            try:
                type_, converted = convert(value)
            except (ValueError, OverflowError) as error:
                raise ValueError(f"{where}: {error}") from None
            return {"type": type_}, {"value": converted}
    if isinstance(value, (dict, list)):
        raise TypeError(f"{where}: an array needs values of one type, and some of these are lists or dicts.")
    raise TypeError(f"{where}: {_problem_with(value)}.")


def _problem_with(value: object) -> str:
    said = f"a {type(value).__name__} has no BigQuery type"
    if isinstance(value, PathLike):
        return f"{said}; pass its text, str(…)"
    if hasattr(value, "__next__"):
        return f"{said}, since it can be read only once; pass list(…) of it"
    if getattr(value, "ndim", 0) > 1:
        return f"{said}; pass one of its columns"
    return f"{said}; {WITH_A_TYPE}"


def _bool(value: bool) -> tuple[str, object]:
    return "BOOL", "true" if value else "false"


def _integer(value: int) -> tuple[str, object]:
    whole = int(value)  # of a subclass, whose text may be another
    return ("INT64", str(whole)) if whole in INT64 else _decimal(Decimal(whole))


def _float(value: float) -> tuple[str, object]:
    return "FLOAT64", float(value) if math.isfinite(value) else str(float(value))


def _text(value: str) -> tuple[str, object]:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"the text is not Unicode: {error}.") from None
    return "STRING", str.__str__(value)


def _bytes(value: bytes | bytearray | memoryview) -> tuple[str, object]:
    return "BYTES", base64.b64encode(value).decode()


def _decimal(value: Decimal) -> tuple[str, object]:
    for kind, whole, scale in (("NUMERIC", NUMERIC, NUMERIC_SCALE), ("BIGNUMERIC", BIGNUMERIC, BIGNUMERIC_SCALE)):
        number = _without_point(value, scale)
        if number is not None and number in whole:
            return kind, str(value)
    raise ValueError(f"no BigQuery type holds the number {value!s:.100} exactly; round it, or pass its text.")


def _without_point(value: Decimal, scale: int) -> int | None:
    """Return a number times ten to the power of a scale; None if that is not whole, or larger than any BIGNUMERIC."""
    sign, digits, exponent = value.as_tuple()
    if not isinstance(exponent, int):  # NaN or infinite
        return None
    number, shift = int("".join(map(str, digits))), exponent + scale
    if number == 0:
        return 0
    if len(digits) + shift > MOST_DIGITS or -shift > len(digits):  # before a power of ten that fills the memory
        return None
    whole, rest = (number * 10**shift, 0) if shift >= 0 else divmod(number, 10**-shift)
    return None if rest else -whole if sign else whole


def _datetime(value: datetime.datetime) -> tuple[str, object]:
    if getattr(value, "nanosecond", 0):
        raise ValueError(f"BigQuery has microseconds, and {value} has nanoseconds; round it.")
    if value.tzinfo is None:
        return "DATETIME", value.isoformat()
    return "TIMESTAMP", value.astimezone(datetime.timezone.utc).isoformat(" ")


def _date(value: datetime.date) -> tuple[str, object]:
    return "DATE", value.isoformat()


def _time(value: datetime.time) -> tuple[str, object]:
    if value.tzinfo is not None:
        raise ValueError(f"{value} has a time zone, and a TIME has none; pass a datetime, or replace(tzinfo=None).")
    return "TIME", value.isoformat()


def _interval(value: datetime.timedelta) -> tuple[str, object]:
    if getattr(value, "nanoseconds", 0):
        raise ValueError(f"BigQuery has microseconds, and {value} has nanoseconds; round it.")
    if getattr(value, "years", 0) or getattr(value, "months", 0):  # pendulum's, which counts a month as 30 days
        raise ValueError(f"{value!r} has years or months, which a timedelta does not; pass a dateutil relativedelta.")
    if abs(value) > LONGEST_INTERVAL:
        raise ValueError(f"an INTERVAL has at most {LONGEST_INTERVAL.days} days, and {value} has more.")
    total = (value.days * 86_400 + value.seconds) * 1_000_000 + value.microseconds
    days, rest = divmod(abs(total), 86_400 * 1_000_000)
    sign = "-" if total < 0 else ""
    return "INTERVAL", f"0-0 {sign if days else ''}{days} {sign if rest else ''}{_clock(rest)}"


def _relative(value: Any) -> tuple[str, object]:
    """Return an INTERVAL of dateutil's `relativedelta`, which google's client returns for one."""
    if any(
        getattr(value, name) is not None for name in ("year", "month", "day", "weekday", "hour", "minute", "second")
    ):
        raise ValueError(f"{value!r} sets parts of a date, which an INTERVAL does not.")
    months = value.years * 12 + value.months
    micros = ((value.hours * 60 + value.minutes) * 60 + value.seconds) * 1_000_000 + value.microseconds
    if any(part != int(part) for part in (months, value.days, micros)):
        raise ValueError(f"{value!r} has fractions of days or microseconds.")
    years, left = divmod(abs(int(months)), 12)
    signs = ["-" if part < 0 else "" for part in (months, micros)]
    return "INTERVAL", f"{signs[0]}{years}-{left} {int(value.days)} {signs[1]}{_clock(abs(int(micros)))}"


def _clock(micros: int) -> str:
    seconds, fraction = divmod(micros, 1_000_000)
    return f"{seconds // 3600}:{seconds // 60 % 60}:{seconds % 60}" + (f".{fraction:06}" if fraction else "")


def _uuid(value: UUID) -> tuple[str, object]:
    return "STRING", str(value)


@dataclass(frozen=True)
class _Geography:
    text: str


@dataclass(frozen=True)
class _Relative:
    delta: object


CONVERSIONS: tuple[tuple[type | tuple[type, ...], Callable[[Any], tuple[str, object]]], ...] = (
    (bool, _bool),
    (int, _integer),
    (float, _float),
    (str, _text),
    ((bytes, bytearray, memoryview), _bytes),
    (Decimal, _decimal),
    (datetime.datetime, _datetime),
    (datetime.date, _date),
    (datetime.time, _time),
    (datetime.timedelta, _interval),
    (UUID, _uuid),
    (_Relative, lambda value: _relative(value.delta)),
    (_Geography, lambda value: ("GEOGRAPHY", value.text)),
)
"""How each of Python's types is converted; the first match counts."""


def plain_value(value: object, where: str) -> object:
    """Return a value as None, one of Python's scalars, a list or a dict; an unknown object as it is.

    Packages are known by the classes' modules: importing them for a look would take longer than the query.
    """
    if value is None or type(value) in PLAIN or hasattr(value, "to_api_repr"):
        return value
    if isinstance(value, Enum):
        return plain_value(value.value, where)
    packages = {each.__module__.partition(".")[0] for each in type(value).__mro__}
    if type(value).__name__ in MISSING and packages & {"numpy", "pandas"}:
        return None
    if packages & {"numpy", "pandas", "polars", "pyarrow"}:
        return _of_a_table(value, packages, where)
    if "dateutil" in packages and hasattr(value, "weekday") and hasattr(value, "years"):
        return _Relative(value)
    if "shapely" in packages or hasattr(value, "__geo_interface__"):
        return _geography(value, where)
    return _members(value, where)


def _members(value: object, where: str) -> object:
    if isinstance(value, Mapping):
        return {name: plain_value(each, f"{where}.{name}") for name, each in value.items()}
    if isinstance(value, (str, bytes, bytearray, memoryview)) or not isinstance(value, Collection):
        return value
    members = [plain_value(each, where) for each in value]
    return _in_order(members) if isinstance(value, Set) else members


def _in_order(members: list[Any]) -> list[object]:
    """Return the members of a set in an order that is the same in every process, as the job's digest needs it."""
    try:
        return sorted(members)
    except TypeError:
        return sorted(members, key=lambda member: (type(member).__name__, repr(member)))


def _of_a_table(value: Any, packages: set[str], where: str) -> object:
    """Return a scalar, an array, a column or an Arrow table in Python's types."""
    if hasattr(value, "as_py"):
        return plain_value(value.as_py(), where)
    if hasattr(value, "to_pylist"):
        return [plain_value(each, where) for each in value.to_pylist()]
    if getattr(getattr(value, "dtype", None), "time_unit", None) == "ns":
        raise ValueError(f"{where}: BigQuery has microseconds; cast the polars series to them.")
    if "numpy" in packages and getattr(value, "ndim", None) == 0:
        return value if value.dtype.kind == "V" else _item(value, where)
    if "pandas" in packages and hasattr(value, "isna"):
        return value if value.ndim > 1 else _of_a_series(value, where)
    return _members(value, where)


def _of_a_series(value: pandas.Series, where: str) -> list[object]:
    """Return the values of a series, an index or an array of pandas, which writes NaN for a text that is missing."""
    if getattr(value, "crs", None) is not None:
        value = value.to_crs("OGC:CRS84")
    missing = value.isna() if value.dtype.kind != "f" else [False] * len(value)
    return [None if lacks else plain_value(each, where) for each, lacks in zip(value, missing, strict=True)]


def _item(value: numpy.generic, where: str) -> object:
    """Return a numpy scalar as Python's; one that Python has no type for as it is."""
    if value.dtype.kind not in "mM":
        item = value.item()
        return value if hasattr(item, "dtype") else plain_value(item, where)
    finer = value.dtype.str[-3:-1] in ("ns", "ps", "fs", "as")
    micros = value.astype(f"{value.dtype.kind}8[us]") if finer else value
    item = micros.item()
    if item is not None and (micros != value or isinstance(item, int)):
        raise ValueError(f"{where}: BigQuery does not hold {value!s} exactly; round it to microseconds.")
    return item


def _geography(value: object, where: str) -> _Geography:
    """Return a geometry as WKT, checked and oriented as BigQuery reads it."""
    from .sources.base import Geometry
    from .sources.geometry import convert

    converted = convert([value], Geometry(edges="spherical"))
    if converted.defects:
        raise ValueError(f"{where} {converted.defects[0]}.")
    return _Geography(converted.texts[0].as_py())
