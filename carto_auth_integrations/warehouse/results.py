"""Results of queries and loads: frozen records that can be logged, compared and put into XCom."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import pandas
    import pyarrow

PENDING, UPLOADING = "PENDING", "UPLOADING"
"""The state of a job that does not exist yet: requested, or made of data that is being sent."""


@dataclass(frozen=True)
class JobProgress:
    """The progress of a job, for a callback. The first one comes before the job is begun, so that it can be cancelled.

    Attributes:
        job_id: The BigQuery job. It may not exist yet.
        state: `UPLOADING` while data is sent; then BigQuery's own `PENDING`, `RUNNING`, `DONE`.
        seconds: Since the call began.
        bytes_sent: Bytes of an upload so far.
        bytes_total: Bytes of the whole upload; None before that is known, and if nothing is uploaded.
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
        job_id: The BigQuery job.
        location: Where it ran.
        statement_type: `SELECT`, `INSERT`, `CREATE_TABLE_AS_SELECT`, `SCRIPT` and so on.
        rows: The first rows, as plain JSON types by column name.
        total_rows: How many rows there are; 0 if the statement returns none.
        affected_rows: How many rows a DML statement changed; None for any other.
        bytes_processed: Bytes that the query read.
        destination: The table that holds the rows, `project.dataset.table`; None if there is none.
        reattached: Whether an earlier try had begun the job.
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
        """Return all rows as a pyarrow Table, by the Storage API if the token is allowed to, else by REST.

        Raises:
            RuntimeError: If the result has been pickled: it has no connection any more.
        """
        if self._fetch is None:
            raise RuntimeError(
                f"The rows of job {self.job_id} can only be fetched where the query ran: call to_arrow() there."
            )
        return self._fetch()

    def to_dataframe(self) -> pandas.DataFrame:
        """Return all rows as a pandas DataFrame, like `to_arrow`."""
        frame: pandas.DataFrame = self.to_arrow().to_pandas()
        return frame

    def __getstate__(self) -> dict[str, Any]:
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
    """

    job_id: str
    location: str | None
    destination: str
    rows: int
    bytes: int
    reattached: bool


def plain_result(result: QueryResult | LoadResult) -> dict[str, Any]:
    """Return a result as plain JSON types, for XCom, task results and terminals.

    Args:
        result: The result of a query or a load.
    """
    told = {each.name: getattr(result, each.name) for each in fields(result) if each.repr}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in told.items()}
