"""Digests of values that are the same in every process, for every hash seed, Python version and release."""

from __future__ import annotations

import dataclasses
import datetime
import functools
from collections import deque
from collections.abc import Mapping, Set
from decimal import Decimal
from enum import Enum
from hashlib import sha256
from pathlib import PurePath
from types import ModuleType
from typing import TYPE_CHECKING
from uuid import UUID

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

WINDOW = 65_536
"""Rows of a column that are converted at once: what is needed beside the data stays at some megabytes."""
NUMPY_TYPES = {"b": "?", "i": "<i8", "u": "<u8", "f": "<f8", "c": "<c16", "m": "<m8[us]", "M": "<M8[us]"}
"""How numbers and times are written, by the kind of their numpy type: the same on every platform."""
PLAIN: dict[type, Callable[[Any], tuple[bytes, bytes]]] = {
    type(None): lambda _: (b"none", b""),
    str: lambda value: (b"str", value.encode("utf-8", "surrogatepass")),
    bool: lambda value: (b"bool", b"%d" % value),
    int: lambda value: (b"int", b"%x" % value),
    float: lambda value: (b"float", value.hex().encode()),
    bytes: lambda value: (b"bytes", value),
    bytearray: lambda value: (b"bytes", bytes(value)),
    memoryview: lambda value: (b"bytes", bytes(value)),
    Decimal: lambda value: (b"decimal", str(value).encode()),
    datetime.datetime: lambda value: (b"time", value.isoformat().encode()),
    datetime.date: lambda value: (b"time", value.isoformat().encode()),
    datetime.time: lambda value: (b"time", value.isoformat().encode()),
    datetime.timedelta: lambda value: (b"timedelta", str(value).encode()),
    UUID: lambda value: (b"uuid", value.bytes),
}
"""How values of Python's own types are written, and those of their subclasses: the first one that fits."""


class Digest:
    """A digest that values are added to, one after the other.

    Equal content has an equal digest: the order of a mapping or a set, list or tuple, and the chunks of an Arrow table
    make no difference. 1, True and 1.0 differ.

    Args:
        largest: The most members of a list, mapping or table that is read; None to read all of them.

    Attributes:
        exact: False once something was added that does not show all its content: a function and a file count by
            their names, and a lambda, an iterator or an object of an unknown class adds nothing at all.
    """

    def __init__(self, largest: int | None = None) -> None:
        self.exact = True
        self._largest = largest
        self._hash = sha256()

    def hexdigest(self) -> str:
        """Return the digest of all that was added."""
        return self._hash.hexdigest()

    def add(self, value: Any) -> None:
        """Add a value of any type."""
        plain = PLAIN.get(type(value))
        if plain:  # nearly every value
            self._write(*plain(value))
        elif type(value).__name__ == "NAType":  # pandas.NA
            self.add(None)
        elif isinstance(value, Enum):
            self._write(b"enum", f"{type(value).__qualname__}.{value.name}".encode())
        elif not (self._add_container(value) or self._add_scalar(value) or self._add_columns(value)):
            self._add_object(value)

    def _add_scalar(self, value: Any) -> bool:
        if isinstance(value, PurePath):
            self.add_file(value)
            return True
        for kind, plain in PLAIN.items():
            if isinstance(value, kind):
                self._write(*plain(value))
                return True
        return False

    def add_file(self, path: PurePath) -> None:
        """Add a file by its name: a retry may run in another directory."""
        self.exact = False
        self._write(b"file", path.name.encode("utf-8", "surrogatepass"))

    def _add_container(self, value: Any) -> bool:
        if isinstance(value, (dict, Mapping)):
            if self._is_read(value):
                self._write(b"mapping", b"%d" % len(value))
                for name in self._sorted(value):
                    self.add(name)
                    self.add(value[name])
        elif isinstance(value, (list, tuple, deque, range)):
            if self._is_read(value):
                self._write(b"list", b"%d" % len(value))
                for item in value:
                    self.add(item)
        elif isinstance(value, Set):
            if self._is_read(value):
                self._write(b"set", "".join(sorted(map(self._digest_of, value))).encode())
        else:
            return False
        return True

    def _is_read(self, value: Any) -> bool:
        if self._largest is None or len(value) <= self._largest:
            return True
        self._add_nothing()
        return False

    def _sorted(self, names: Iterable[Any]) -> list[Any]:
        return sorted(names, key=None if set(map(type, names)) == {str} else self._digest_of)

    def _digest_of(self, value: Any) -> str:
        digest = Digest(self._largest)
        digest.add(value)
        self.exact &= digest.exact
        return digest.hexdigest()

    def _add_columns(self, value: Any) -> bool:
        """Add an array, a frame or a table of numpy, pandas or pyarrow."""
        packages = _packages_of(value)
        if "numpy" in packages and hasattr(value, "dtype"):
            if value.ndim == 0:
                self._add_numpy_scalar(value)
            elif self._is_read(value):
                self._add_array(value)
        elif "pandas" in packages and hasattr(value, "iloc"):
            if self._is_read(value):
                self._add_pandas(value)
        elif "pyarrow" in packages and hasattr(value, "columns"):
            if self._is_read(value):
                self._add_arrow(value)
        else:
            return False
        return True

    def _add_numpy_scalar(self, value: Any) -> None:
        if value.dtype.kind in "mM":  # item() is a plain int for nanoseconds
            self._write(b"time", str(value.astype(NUMPY_TYPES[value.dtype.kind])).encode())
        else:
            self.add(value.item())

    def _add_array(self, array: Any) -> None:
        self._write(b"array", f"{array.dtype.kind}{array.shape}".encode())
        if array.dtype.kind not in NUMPY_TYPES:
            for item in array.flat:
                self.add(item.item() if array.dtype.kind == "V" else item)
            return
        for start in range(0, array.size, WINDOW):
            self._hash.update(array.flat[start : start + WINDOW].astype(NUMPY_TYPES[array.dtype.kind]).tobytes())

    def _add_pandas(self, value: Any) -> None:
        if value.ndim == 1:
            self._add_series(value)
            return
        self.add(list(value.columns))
        for number in range(len(value.columns)):
            self._add_series(value.iloc[:, number])

    def _add_series(self, series: Any) -> None:
        import numpy

        if isinstance(series.dtype, numpy.dtype) and series.dtype.kind in NUMPY_TYPES:
            self._add_array(series.to_numpy())
            return
        self._write(b"series", f"{getattr(series.dtype, 'kind', 'O')}{len(series)}".encode())
        for value, missing in zip(series, series.isna(), strict=True):
            self.add(None if missing else value)  # None, NaN or NA, by the version of pandas

    def _add_arrow(self, source: Any) -> None:
        import pyarrow

        table = pyarrow.table(source)
        self.add([(field.name, str(field.type)) for field in table.schema])
        self.add(len(table))
        for start in range(0, len(table), WINDOW):
            for column in table.slice(start, WINDOW).columns:
                self._add_arrow_column(column)

    def _add_arrow_column(self, column: Any) -> None:
        """Add a column's values, not its buffers: these depend on chunks, and hold anything where a value is null."""
        from pyarrow import compute, large_binary, types

        kind = column.type
        if types.is_string(kind) or types.is_large_string(kind) or types.is_binary(kind) or types.is_large_binary(kind):
            data = column.cast(large_binary())
            self._add_array(compute.binary_length(data).fill_null(-1).to_numpy())
            for chunk in compute.fill_null(data, b"").chunks:
                self._write_binary(chunk)
        elif types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind):
            self._add_array(column.is_null().to_numpy())
            self._add_array(column.fill_null(False if types.is_boolean(kind) else 0).to_numpy())
        elif types.is_null(kind):
            self.add(len(column))
        elif types.is_temporal(kind) and not types.is_interval(kind):
            self._add_arrow_column(column.cast(f"int{kind.bit_width}"))
        else:
            self.add(column.to_pylist())

    def _write_binary(self, chunk: Any) -> None:
        """Write the bytes of a chunk of texts, whose lengths are written already."""
        import numpy

        _, offsets, data = chunk.buffers()
        if len(chunk) and data is not None:
            ends = numpy.frombuffer(offsets, "<i8", len(chunk) + 1, chunk.offset * 8)
            self._hash.update(memoryview(data)[ends[0] : ends[-1]])

    def _add_object(self, value: Any) -> None:
        packages = _packages_of(value)
        if isinstance(value, functools.partial):
            self._write(b"partial")
            self.add([value.func, value.args, value.keywords])
        elif "shapely" in packages and hasattr(value, "geom_type"):
            import shapely

            self._write(b"geometry", shapely.to_wkb(value, byte_order=1))
        elif packages & {"google", "carto_auth_integrations"} and hasattr(value, "to_api_repr"):
            self._write(b"bigquery", type(value).__name__.encode())
            self.add(value.to_api_repr())
        elif dataclasses.is_dataclass(value) and not isinstance(value, type):
            self._write(b"dataclass", type(value).__qualname__.encode())
            self.add({field.name: getattr(value, field.name) for field in dataclasses.fields(value)})
        else:
            self._add_function(value)

    def _add_function(self, value: Any) -> None:
        """Add a function or a class by its name, without its module: that is `__main__` in one process, not in all."""
        name = getattr(value, "__qualname__", "<")
        if "<" in name:  # <lambda> or <locals>
            self._add_nothing()
            return
        self.exact = False
        self._write(b"function", name.encode())
        owner = getattr(value, "__self__", None)
        if not isinstance(owner, ModuleType):
            self.add(owner)

    def _add_nothing(self) -> None:
        self.exact = False
        self._write(b"?")

    def _write(self, kind: bytes, data: bytes = b"") -> None:
        self._hash.update(b"%b %d:%b" % (kind, len(data), data))


def _packages_of(value: Any) -> set[str]:
    """Return the packages that the classes of a value are from: nothing has to be imported to know a frame."""
    return {each.__module__.partition(".")[0] for each in type(value).__mro__}
