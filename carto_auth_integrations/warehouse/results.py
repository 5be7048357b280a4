"""Results of queries and loads: frozen records that can be logged, compared and put into XCom."""

from __future__ import annotations

import base64
import datetime
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from decimal import Decimal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    import geopandas
    import pandas
    import polars
    import pyarrow

    from ..http import Json

    Row: TypeAlias = Mapping[str, Any]
    """A row: its values by column name."""

PENDING, READING, UPLOADING = "PENDING", "READING", "UPLOADING"
"""The state of a job that does not exist yet: requested, or made of data that is being read or sent."""


@dataclass(frozen=True)
class JobProgress:
    """The progress of a job, for a callback. The first one comes before the job is begun, so that it can be cancelled.

    Attributes:
        job_id: The BigQuery job. It may not exist yet.
        state: `READING` while a source is read, `UPLOADING` while it is sent; then BigQuery's own `PENDING`, `RUNNING`,
            `DONE`.
        seconds: Since the call began.
        bytes_sent: Bytes of a source that have been read, or of an upload that have been sent.
        bytes_total: Bytes of the whole source or upload; None before that is known, and if nothing is uploaded.
        location: Where the job runs; None while that is left to BigQuery.
        rows: Rows of a source that have been read.
    """

    job_id: str
    state: str
    seconds: float
    bytes_sent: int = 0
    bytes_total: int | None = None
    location: str | None = None
    rows: int = 0


@dataclass(frozen=True)
class JobReference:
    """A job that was begun. Another process can take its result by these.

    Attributes:
        job_id: The BigQuery job.
        location: Where it runs.
        reattached: Whether an earlier try had begun the job.
    """

    job_id: str
    location: str | None
    reattached: bool


@dataclass(frozen=True)
class QueryResult:
    """The result of a query.

    Attributes:
        job_id: The BigQuery job; empty for a dry run, which has none.
        location: Where it ran.
        statement_type: `SELECT`, `INSERT`, `CREATE_TABLE_AS_SELECT`, `SCRIPT` and so on.
        rows: The first rows, as plain JSON types by column name.
        total_rows: How many rows there are; 0 if the statement returns none.
        affected_rows: How many rows a DML statement changed; None for any other.
        bytes_processed: Bytes that the query read, or would read if this was a dry run.
        destination: The table that holds the rows, `project.dataset.table`; None if there is none.
        reattached: Whether an earlier try had begun the job.
    """

    job_id: str
    location: str | None
    statement_type: str | None
    rows: tuple[Row, ...]
    total_rows: int
    affected_rows: int | None
    bytes_processed: int
    destination: str | None
    reattached: bool
    _fetch: Callable[[], pyarrow.Table] | None = field(default=None, repr=False, compare=False)

    @property
    def truncated(self) -> bool:
        """Whether there are more rows than `rows` holds."""
        return self.total_rows > len(self.rows)

    def to_arrow(self) -> pyarrow.Table:
        """Return all rows as a pyarrow Table, by the Storage API if the token is allowed to, else by REST.

        Raises:
            RuntimeError: If the result has been pickled, so that it has no connection any more, or is of a dry run.
        """
        if not self.job_id:
            raise RuntimeError("A dry run has no rows: run the query without dry_run.")
        if self._fetch is None:
            raise RuntimeError(
                f"The rows of job {self.job_id} can only be fetched where the query ran: call to_arrow() there."
            )
        return self._fetch()

    def to_dataframe(self) -> pandas.DataFrame:
        """Return all rows as a pandas DataFrame, like `to_arrow`.

        INT64 and BOOL columns have pandas' nullable types, so that no number changes beside a NULL. NUMERIC and
        BIGNUMERIC are `Decimal`s, DATE and TIME Python's own objects. A NULL in a FLOAT64 column is NaN.
        """
        from .dataframes import to_pandas

        return to_pandas(self.to_arrow())

    def to_geodataframe(self, geometry: str | None = None, crs: object = 4326) -> geopandas.GeoDataFrame:
        """Return all rows as a GeoDataFrame, like `to_dataframe`, with geometry in all GEOGRAPHY columns.

        Args:
            geometry: The column that is the frame's geometry; left out, the only GEOGRAPHY column.
            crs: The reference system of the geometry; BigQuery's is longitude and latitude.

        Raises:
            ValueError: If there is no such column, or more than one.
        """
        from .dataframes import to_geopandas

        return to_geopandas(self.to_arrow(), geometry, crs)

    def to_polars(self) -> polars.DataFrame:
        """Return all rows as a polars DataFrame, like `to_arrow`.

        Raises:
            ValueError: If polars has no type for a column, such as a BIGNUMERIC with more than 38 digits.
        """
        from .dataframes import to_polars

        return to_polars(self.to_arrow())

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_fetch": None}


@dataclass(frozen=True)
class LoadResult:
    """The result of a load.

    Attributes:
        job_id: The BigQuery job.
        location: Where it ran.
        destination: The table, `project.dataset.table`.
        rows: How many rows this load wrote.
        bytes: How many bytes BigQuery read.
        reattached: Whether an earlier try had begun the job; then the source was not read.
        rejected: How many rows did not fit and went to `rejected_table`, with `bad_rows="quarantine"`.
        rejected_table: Their table, `project.dataset.table__rejected`; None without any.
        repaired: How many geometries were repaired, with `invalid_geometry="repair"`.
        area_change: By how many square metres their areas have changed together.
    """

    job_id: str
    location: str | None
    destination: str
    rows: int
    bytes: int
    reattached: bool
    rejected: int = 0
    rejected_table: str | None = None
    repaired: int = 0
    area_change: int = 0

    @property
    def treated(self) -> dict[str, int | str]:
        """The numbers of rejected rows and repaired geometries, and the rejected rows' table, where there are any."""
        told = {name: getattr(self, name) for name in ("rejected", "rejected_table", "repaired", "area_change")}
        return {name: value for name, value in told.items() if value}

    @property
    def rejection(self) -> str:
        """How many rows were rejected, and where they are, as a sentence."""
        return f"{counted(self.rejected, 'row')} did not fit, and went to {self.rejected_table} with the reasons."

    @property
    def repair(self) -> str:
        """How many geometries were repaired, and by how much their areas changed, as a sentence."""
        return f"{counted(self.repaired, 'geometry', 'geometries')} repaired; areas changed by {self.area_change:,} m²."


@dataclass(frozen=True)
class LoadPlan:
    """What a load would do, from reading its whole source.

    Attributes:
        columns: The table's columns by name, with BigQuery's types; `ARRAY<…>` for repeated ones.
        rows: How many rows would be loaded.
        first_rows: The first of them.
        rejected: How many rows do not fit, with `bad_rows="quarantine"`.
        reasons: Why, for the first ten of them.
        geometry: The geometry columns, each with its reference system and edges.
        bounds: Least longitude and latitude, and greatest; None without geometry.
        repaired: How many geometries would be repaired.
        area_change: By how many square metres their areas would change together.
        found: What was found out about the source: format, delimiter, encoding, layer and so on.
    """

    columns: Mapping[str, str]
    rows: int
    first_rows: tuple[Row, ...]
    rejected: int
    reasons: tuple[str, ...]
    geometry: Mapping[str, str]
    bounds: tuple[float, float, float, float] | None
    repaired: int
    area_change: int
    found: Mapping[str, object]


def counted(number: int, noun: str, plural: str = "") -> str:
    """Return a number and what it counts: `1 row`, `1,200 rows`."""
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


def plain_json(value: object, text_of: Callable[[object], str] = str) -> object:
    """Return a value as plain JSON types. What JSON does not have is text.

    Dates are in ISO 8601, decimals in digits, bytes in Base64.

    Args:
        value: A value, or a list or dict of values.
        text_of: Returns the text of any other type.
    """
    if isinstance(value, Mapping):
        return {str(name): plain_json(each, text_of) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain_json(each, text_of) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, Decimal):
        return f"{value:f}"
    return value.isoformat() if isinstance(value, (datetime.date, datetime.time)) else text_of(value)


def plain_result(result: QueryResult | LoadResult) -> Json:
    """Return a result as plain JSON types, for XCom, task results and terminals.

    Args:
        result: The result of a query or a load.
    """
    told = {each.name: getattr(result, each.name) for each in fields(result) if each.repr}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in told.items()}
