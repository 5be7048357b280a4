"""What a query or a load came to: small frozen records that can be logged, compared and put into XCom."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    import pandas
    import pyarrow

PENDING, UPLOADING = "PENDING", "UPLOADING"
"""The state of a job that is about to begin: asked for, or sent as data of which it will be made."""


@dataclass(frozen=True)
class JobProgress:
    """How far a job is, for a progress callback.

    The first one comes before the job is begun, so that whoever may have to cancel it knows its id in time.

    Attributes:
        job_id: The BigQuery job, or the one that is about to be.
        state: `UPLOADING` while data is sent, of which BigQuery makes the job with the last byte; then BigQuery's own
            `PENDING`, `RUNNING`, `DONE`.
        seconds: Since the call began.
        bytes_sent: Of an upload so far.
        bytes_total: Of the whole upload; None before that is known, and if nothing is uploaded.
        location: Where the job runs; None while that is left to BigQuery.
    """

    job_id: str
    state: str
    seconds: float
    bytes_sent: int = 0
    bytes_total: int | None = None
    location: str | None = None


@dataclass(frozen=True)
class JobReference:
    """A job that was begun: what another process, later, has to know to wait for it.

    Attributes:
        job_id: The BigQuery job.
        location: Where it runs.
        reattached: Whether the job was there already, begun by an earlier try.
    """

    job_id: str
    location: str | None
    reattached: bool


@dataclass(frozen=True)
class QueryResult:
    """What a query came to.

    Attributes:
        job_id: The BigQuery job.
        location: Where it ran.
        statement_type: `SELECT`, `INSERT`, `CREATE_TABLE_AS_SELECT`, `SCRIPT` and so on, as BigQuery says.
        rows: The first rows, as plain JSON types by column name.
        total_rows: How many rows there are; 0 where a statement gives none.
        affected_rows: How many rows a DML statement changed; None for any other.
        bytes_processed: Bytes that were read to answer.
        destination: The table that holds the rows, `project.dataset.table`; None where there is none.
        reattached: Whether the job was there already, begun by an earlier try.
    """

    job_id: str
    location: str | None
    statement_type: str | None
    rows: tuple[Mapping[str, Any], ...]
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
        """Fetch all rows as a pyarrow Table, by the Storage API where the token may, else by REST.

        Raises:
            RuntimeError: If the result has travelled to another process; it has no connection there.
        """
        if self._fetch is None:
            raise RuntimeError(f"The rows of job {self.job_id} are fetched where the query ran: call to_arrow() there.")
        return self._fetch()

    def to_dataframe(self) -> pandas.DataFrame:
        """Fetch all rows as a pandas DataFrame, like `to_arrow`."""
        frame: pandas.DataFrame = self.to_arrow().to_pandas()
        return frame

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_fetch": None}


@dataclass(frozen=True)
class LoadResult:
    """What a load came to.

    Attributes:
        job_id: The BigQuery job.
        location: Where it ran.
        destination: The table, `project.dataset.table`.
        rows: How many rows this load wrote.
        bytes: How many bytes BigQuery read.
        reattached: Whether the job was there already, begun by an earlier try; the source was not read then.
    """

    job_id: str
    location: str | None
    destination: str
    rows: int
    bytes: int
    reattached: bool


def plain_result(result: QueryResult | LoadResult) -> dict[str, Any]:
    """Give a result as plain JSON types, for XCom, task results and terminals.

    Args:
        result: What a query or a load came to.
    """
    told = {each.name: getattr(result, each.name) for each in fields(result) if each.repr}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in told.items()}
