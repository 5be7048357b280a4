"""The options of queries and loads. Operators, tasks, blocks and the command line derive theirs from these."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypedDict, get_args

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import TypeAlias

    from google.cloud.bigquery import RangePartitioning, SchemaField, TimePartitioning

    from .results import JobProgress

    Parameters: TypeAlias = Mapping[str, object] | Sequence[object]
    OnProgress: TypeAlias = Callable[[JobProgress], object]
    Partitioning: TypeAlias = TimePartitioning | RangePartitioning


WriteDisposition = Literal["WRITE_APPEND", "WRITE_TRUNCATE", "WRITE_EMPTY"]
CreateDisposition = Literal["CREATE_IF_NEEDED", "CREATE_NEVER"]
FileFormat = Literal["CSV", "JSON", "GEOJSON", "PARQUET", "AVRO"]

MAX_ROWS = 1000
"""Rows of a query that come back as plain values by default: enough to look at, and for XCom."""


@dataclass(frozen=True)
class QueryOptions:
    """What a query does, beside its statement and parameters.

    Attributes:
        destination: A table for the rows, `dataset.table` or `project.dataset.table`.
        write_disposition: What happens to that table's rows: `WRITE_TRUNCATE` (replaced), `WRITE_APPEND` or
            `WRITE_EMPTY` (the query fails if there are any).
    """

    destination: str | None = None
    write_disposition: WriteDisposition = "WRITE_TRUNCATE"

    def __post_init__(self) -> None:
        """Raise if a disposition is unknown."""
        _check_choice("write_disposition", self.write_disposition, get_args(WriteDisposition))


@dataclass(frozen=True)
class LoadOptions:
    """How a source is loaded.

    Attributes:
        write_disposition: `WRITE_APPEND`, `WRITE_TRUNCATE` (replaces the rows at once) or `WRITE_EMPTY` (the load fails
            if there are rows).
        create_disposition: `CREATE_IF_NEEDED` or `CREATE_NEVER`.
        create_dataset: Whether a missing dataset is created.
        format: The file's format, if its name does not tell: `CSV`, `JSON`, `GEOJSON`, `PARQUET`, `AVRO`.
        schema: The table's schema; None to derive it from the data.
        geometry: Columns that hold geometry as WKB or WKT, and become GEOGRAPHY. GeoDataFrames, GeoJSON and GeoParquet
            name theirs.
        crs: The coordinate reference system of these columns; None for longitude and latitude.
        partitioning: A `bigquery.TimePartitioning` or `bigquery.RangePartitioning`.
        clustering: Columns to cluster by.
    """

    write_disposition: WriteDisposition = "WRITE_APPEND"
    create_disposition: CreateDisposition = "CREATE_IF_NEEDED"
    create_dataset: bool = False
    format: FileFormat | None = None
    schema: Sequence[SchemaField] | None = None
    geometry: Sequence[str] | str = ()
    crs: object = None
    partitioning: Partitioning | None = None
    clustering: Sequence[str] = ()

    def __post_init__(self) -> None:
        """Raise if a disposition is unknown."""
        _check_choice("write_disposition", self.write_disposition, get_args(WriteDisposition))
        _check_choice("create_disposition", self.create_disposition, get_args(CreateDisposition))

    @property
    def geometry_columns(self) -> tuple[str, ...]:
        """The columns that hold geometry."""
        return (self.geometry,) if isinstance(self.geometry, str) else tuple(self.geometry)


class QueryKeywords(TypedDict, total=False):
    """The keywords of `CartoWarehouse.query`, for functions that pass them on."""

    idempotency_key: str | None
    destination: str | None
    write_disposition: WriteDisposition
    max_rows: int
    labels: Mapping[str, str] | None
    timeout: float | None
    on_progress: OnProgress | None


class LoadKeywords(TypedDict, total=False):
    """The keywords of `CartoWarehouse.load`, for functions that pass them on."""

    idempotency_key: str | None
    write_disposition: WriteDisposition
    create_disposition: CreateDisposition
    create_dataset: bool
    format: FileFormat | None
    schema: Sequence[SchemaField] | None
    geometry: Sequence[str] | str
    crs: object
    partitioning: Partitioning | None
    clustering: Sequence[str]
    labels: Mapping[str, str] | None
    timeout: float | None
    on_progress: OnProgress | None


def _check_choice(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ValueError(f"{name} must be one of {', '.join(known)}, not {value!r}.")
