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
Priority = Literal["INTERACTIVE", "BATCH"]
FileFormat = Literal["CSV", "JSON", "GEOJSON", "PARQUET", "AVRO", "EXCEL", "VECTOR"]
"""Formats of files. JSON is one object a line or an array, VECTOR what GDAL reads: GeoPackage, Shapefile, KML …"""
Edges = Literal["planar", "spherical"]
InvalidGeometry = Literal["refuse", "repair"]
BadRows = Literal["refuse", "quarantine"]
ColumnNames = Literal["strict", "sanitize"]

COSTS = ("maximum_bytes_billed", "priority", "use_query_cache")
"""Options of a query that change what it costs, not what it does: a retry with others finds its job all the same."""
MAX_ROWS = 1000
"""Rows of a query that come back as plain values by default: enough to look at, and for XCom."""


@dataclass(frozen=True)
class QueryOptions:
    """What a query does, beside its statement and parameters.

    Attributes:
        destination: A table for the rows, `dataset.table` or `project.dataset.table`.
        write_disposition: What happens to that table's rows: `WRITE_TRUNCATE` (replaced), `WRITE_APPEND` or
            `WRITE_EMPTY` (the query fails if there are any).
        maximum_bytes_billed: Bytes; a query that would bill more fails before it costs anything. None for the account's
            limit, if it has one.
        priority: `INTERACTIVE`, or `BATCH` to wait until the project has resources to spare.
        use_query_cache: Whether the rows may come from BigQuery's cache, which costs nothing; None for BigQuery's
            default, which is yes.
    """

    destination: str | None = None
    write_disposition: WriteDisposition = "WRITE_TRUNCATE"
    maximum_bytes_billed: int | None = None
    priority: Priority = "INTERACTIVE"
    use_query_cache: bool | None = None

    def __post_init__(self) -> None:
        """Raise if a choice is unknown, or a limit is no positive number."""
        _check_choice("write_disposition", self.write_disposition, get_args(WriteDisposition))
        _check_choice("priority", self.priority, get_args(Priority))
        limit = self.maximum_bytes_billed
        if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit <= 0):
            raise ValueError(f"maximum_bytes_billed must be a whole number of bytes above 0, not {limit!r}.")


@dataclass(frozen=True)
class LoadOptions:
    """How a source is loaded.

    Attributes:
        write_disposition: `WRITE_APPEND`, `WRITE_TRUNCATE` (replaces the rows at once) or `WRITE_EMPTY` (the load fails
            if there are rows).
        create_disposition: `CREATE_IF_NEEDED` or `CREATE_NEVER`.
        create_dataset: Whether a missing dataset is created.
        format: The file's format, if its name does not tell: `CSV`, `JSON`, `GEOJSON`, `PARQUET`, `AVRO`, `EXCEL`, or
            `VECTOR` for GeoPackage, Shapefile, KML and whatever else GDAL reads.
        schema: The table's schema; None to derive it from the data.
        geometry: Columns that hold geometry as WKB, WKT, GeoJSON or shapely objects, and become GEOGRAPHY.
            GeoDataFrames, GeoJSON and other geographic files name theirs.
        crs: The coordinate reference system of the geometry; None for what the source names, else longitude and
            latitude.
        edges: What the edges of the geometry are: `planar`, straight lines on a map of longitude and latitude, or
            `spherical`, geodesics; None for what the source names, else planar.
        lon: A column of longitudes. With `lat`, it becomes a column `geom` of points.
        lat: A column of latitudes.
        invalid_geometry: `refuse` names the first invalid geometry; `repair` mends it as `shapely.make_valid` does.
        make_valid: Whether invalid geometry is mended: a short form of `invalid_geometry="repair"`.
        bad_rows: `refuse` ends the load at the first row that does not fit; `quarantine` loads such rows into
            `<table>__rejected`, with the reason.
        column_names: `strict` refuses names that BigQuery does not accept; `sanitize` makes them valid.
        column_types: BigQuery types by column, for columns whose type is not to be derived from the data.
        layer: The layer of a geographic file, or the sheet of a workbook; None for its only or first one.
        delimiter: The column delimiter of a CSV file; None to find it.
        encoding: The encoding of a text file; None to find it.
        quote: The quote character of a CSV file.
        null_marker: The text that stands for NULL in a CSV file, beside an empty field.
        skip_rows: Lines before the header of a CSV file or a sheet.
        header: Whether the first line of a CSV file or a sheet names the columns; without it they are `column_1` and so
            on.
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
    edges: Edges | None = None
    lon: str | None = None
    lat: str | None = None
    invalid_geometry: InvalidGeometry = "refuse"
    make_valid: bool = False
    bad_rows: BadRows = "refuse"
    column_names: ColumnNames = "strict"
    column_types: Mapping[str, str] | None = None
    layer: str | None = None
    delimiter: str | None = None
    encoding: str | None = None
    quote: str = '"'
    null_marker: str | None = None
    skip_rows: int = 0
    header: bool = True
    partitioning: Partitioning | None = None
    clustering: Sequence[str] = ()

    def __post_init__(self) -> None:
        """Raise if a choice is unknown, or one option needs another."""
        for name, known in CHOICES.items():
            _check_choice(name, getattr(self, name), get_args(known))
        if self.format is not None:
            _check_choice("format", self.format.upper(), get_args(FileFormat))
        if self.edges is not None:
            _check_choice("edges", self.edges, get_args(Edges))
        if (self.lon is None) != (self.lat is None):
            raise ValueError("lon= and lat= name the columns of a point together: give both.")

    @property
    def repairs(self) -> bool:
        """Whether invalid geometry is mended."""
        return self.make_valid or self.invalid_geometry == "repair"

    @property
    def geometry_columns(self) -> tuple[str, ...]:
        """The columns that hold geometry."""
        return (self.geometry,) if isinstance(self.geometry, str) else tuple(self.geometry)


CHOICES = {
    "write_disposition": WriteDisposition,
    "create_disposition": CreateDisposition,
    "invalid_geometry": InvalidGeometry,
    "bad_rows": BadRows,
    "column_names": ColumnNames,
}
"""Options of a load with a few values."""


class QueryKeywords(TypedDict, total=False):
    """The keywords of `CartoWarehouse.query`, for functions that pass them on."""

    idempotency_key: str | None
    destination: str | None
    write_disposition: WriteDisposition
    maximum_bytes_billed: int | None
    priority: Priority
    use_query_cache: bool | None
    dry_run: bool
    max_rows: int
    labels: Mapping[str, str] | None
    timeout: float | None
    on_progress: OnProgress | None


class SourceKeywords(TypedDict, total=False):
    """The keywords of `CartoWarehouse.load` that say how a source is read."""

    format: FileFormat | None
    schema: Sequence[SchemaField] | None
    geometry: Sequence[str] | str
    crs: object
    edges: Edges | None
    lon: str | None
    lat: str | None
    invalid_geometry: InvalidGeometry
    make_valid: bool
    bad_rows: BadRows
    column_names: ColumnNames
    column_types: Mapping[str, str] | None
    layer: str | None
    delimiter: str | None
    encoding: str | None
    quote: str
    null_marker: str | None
    skip_rows: int
    header: bool


class LoadKeywords(SourceKeywords, total=False):
    """The keywords of `CartoWarehouse.load`, for functions that pass them on."""

    idempotency_key: str | None
    write_disposition: WriteDisposition
    create_disposition: CreateDisposition
    create_dataset: bool
    partitioning: Partitioning | None
    clustering: Sequence[str]
    labels: Mapping[str, str] | None
    timeout: float | None
    on_progress: OnProgress | None


def _check_choice(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ValueError(f"{name} must be one of {', '.join(known)}, not {value!r}.")
