"""What a source of rows is once it has been opened: chunks of rows, and how their geometry is meant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import TypeAlias

    import pyarrow

    from ..options import Edges, LoadOptions

    Named: TypeAlias = tuple[str, pyarrow.Array | Sequence[object]]
    """A column: its name and its values."""


@dataclass(frozen=True)
class Geometry:
    """How a geometry column is meant.

    Attributes:
        crs: Its reference system, whatever `pyproj.CRS.from_user_input` accepts; None for longitude and latitude.
        edges: `planar` for straight lines on the map, `spherical` for geodesics.
        encoding: The native encoding that GeoParquet's metadata name, such as `multipoint`; None for any other.
    """

    crs: object = None
    edges: Edges = "planar"
    encoding: str | None = None

    @classmethod
    def of(cls, options: LoadOptions, crs: object = None) -> Geometry:
        """Return how a column is meant that says nothing of its edges, by the options of its load."""
        return cls(options.crs if crs is None else crs, options.edges or "planar")

    def __str__(self) -> str:
        system = "longitude and latitude" if self.crs is None else getattr(self.crs, "name", str(self.crs))
        return f"{system}, {self.edges} edges"


@dataclass(frozen=True)
class Chunk:
    """Some rows of a source, as they were read.

    Attributes:
        data: An Arrow batch, a list of dicts, or a list of columns: a name, and an Arrow array or Python values.
        first_row: The number of its first row within `place`; the first of all is 1.
        place: What messages call the place of these rows: a file's name or `piece 3`; empty for rows without one.
        geometry: The columns that hold geometry in any form that `geometry.convert` reads.
    """

    data: pyarrow.RecordBatch | Sequence[Mapping[str, object]] | Sequence[Named]
    first_row: int = 1
    place: str = ""
    geometry: Mapping[str, Geometry] = field(default_factory=dict)

    def columns(self) -> list[Named]:
        """Return the columns in order; a key that a dict does not have is None in it."""
        if not isinstance(self.data, Sequence):
            return list(zip(self.data.schema.names, self.data.columns, strict=True))
        rows = [each for each in self.data if not isinstance(each, tuple)]
        names = dict.fromkeys(chain.from_iterable(rows))
        return [each for each in self.data if isinstance(each, tuple)] or [
            (name, [row.get(name) for row in rows]) for name in names
        ]

    def row(self, index: int) -> str:
        """Return what messages call a row, by its index in this chunk: `stores.csv: row 17`."""
        return f"{self.place}: row {self.first_row + index}" if self.place else f"Row {self.first_row + index}"


@dataclass(frozen=True)
class Source:
    """A source that has been opened.

    Attributes:
        chunks: Its rows; can be read once.
        found: What was found out about it, by name: `format`, `delimiter`, `encoding`, `layer` …
        size: Its bytes; None if that is not known.
        position: Returns how many of them have been read.
    """

    chunks: Iterator[Chunk]
    found: Mapping[str, object] = field(default_factory=dict)
    size: int | None = None
    position: Callable[[], int] = lambda: 0
