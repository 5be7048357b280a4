"""CartoDataWarehouse: the CARTO Data Warehouse as a Prefect database block."""

from __future__ import annotations

from asyncio import to_thread
from itertools import islice
from threading import Lock
from typing import TYPE_CHECKING, Any

from prefect.blocks.abstract import DatabaseBlock
from pydantic import ConfigDict, Field, PrivateAttr, model_validator

from ._forms import DOCUMENTATION_URL, LOGO_URL, title_of, warn_of_unknown_fields, without_null
from .credentials import CartoCredentials

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import TypeAlias

    from google.cloud import bigquery
    from typing_extensions import Self

    from carto_auth_integrations.warehouse import CartoWarehouse, LoadResult, QueryResult

    Parameters: TypeAlias = Mapping[str, Any] | Sequence[Any] | None
    Row: TypeAlias = tuple[Any, ...]

FETCH_SIZE = 1000
"""Rows that come with one request unless the block says otherwise: a second's work for BigQuery, little for memory."""


class CartoDataWarehouse(DatabaseBlock):
    """The CARTO Data Warehouse, which is BigQuery: fetch rows, execute statements, load tables.

    It connects with the first statement, and again whenever it must. The fetching methods go on with a result: a call
    with the same statement and parameters gives the next rows, until there are none, or until `reset_cursors`. Rows
    come in pages, as they are asked for.

    Each method takes the options of `CartoWarehouse.query` by keyword as well, such as `idempotency_key`, `labels` and
    `timeout`. A block travels like its credentials, without its connection.

    Example:
        Load a stored block and fetch rows:
        ```python
        from prefect_blocks import CartoDataWarehouse

        warehouse = CartoDataWarehouse.load("BLOCK_NAME")
        with warehouse:
            while rows := warehouse.fetch_many("SELECT name, geom FROM shared.airports", size=500):
                print(len(rows))
        ```
    """

    _block_type_name = "CARTO Data Warehouse"
    _block_type_slug = "carto-data-warehouse"
    _documentation_url = DOCUMENTATION_URL
    _logo_url = LOGO_URL
    # Prefect's pages would break the docstring's lines where they end here.
    _description = "The CARTO Data Warehouse, which is BigQuery: fetch rows, execute statements, load tables."

    model_config = ConfigDict(hide_input_in_errors=True)

    # Fields to come are optional, so that documents saved today load for ever.
    credentials: CartoCredentials = Field(title="Credentials", description="The CARTO account whose warehouse it is.")
    fetch_size: int = Field(
        default=FETCH_SIZE,
        ge=1,
        title=title_of("fetch_size"),
        description="How many rows fetch_many gives unless told otherwise, and how many come with one request.",
    )
    job_timeout: float | None = Field(
        default=None,
        gt=0,
        title=title_of("job_timeout"),
        description="Seconds after which a query or load is cancelled; left out, it takes as long as it takes.",
        json_schema_extra=without_null,
    )

    _connection: _Connection = PrivateAttr(default_factory=lambda: _Connection())

    @classmethod
    def __dispatch_key__(cls) -> str:
        """Say under which name Prefect finds the class; it would make the whole schema to come to the same name."""
        return cls.get_block_type_slug()

    @model_validator(mode="before")
    @classmethod
    def _warn_of_unknown_fields(cls, given: Any) -> Any:
        fields = cls.model_fields.keys()
        warn_of_unknown_fields(
            "CartoDataWarehouse", given, fields, lambda _: f"; the fields are {', '.join(sorted(fields))}"
        )
        return given

    def get_carto_warehouse(self) -> CartoWarehouse:
        """Give what this block stands on: queries and loads that happen exactly once."""
        return self._connection.warehouse_of(self.credentials)

    # Prefect's abstract methods are coroutines; here, as in Prefect's own integrations, the plain names are sync and
    # the coroutines have names of their own. Nothing decides at run time which of the two a call is.

    def fetch_one(  # type: ignore[override]  # sync, see above
        self, operation: str, parameters: Parameters = None, **execution_kwargs: Any
    ) -> Row | None:
        """Give the next row, or None after the last one.

        Args:
            operation: The statement or script.
            parameters: Values for `@name` (a mapping) or `?` (a sequence).
            execution_kwargs: Further options of `CartoWarehouse.query`.

        Raises:
            TimeoutError: If the time limit passed.
            CredentialsError: If there is no token to be had.
            google.api_core.exceptions.GoogleAPICallError: If the query failed, as BigQuery says.
        """
        return next(iter(self._rows_of(operation, parameters, execution_kwargs).take(1)), None)

    def fetch_many(  # type: ignore[override]  # sync, see above
        self, operation: str, parameters: Parameters = None, size: int | None = None, **execution_kwargs: Any
    ) -> list[Row]:
        """Give the next rows, fewer at the end, and none after it.

        Args:
            operation: The statement or script.
            parameters: Values for `@name` (a mapping) or `?` (a sequence).
            size: How many; left out, the block's `fetch_size`.
            execution_kwargs: Further options of `CartoWarehouse.query`.

        Raises:
            TimeoutError: If the time limit passed.
            CredentialsError: If there is no token to be had.
            google.api_core.exceptions.GoogleAPICallError: If the query failed, as BigQuery says.
        """
        return self._rows_of(operation, parameters, execution_kwargs).take(self._size(size))

    def fetch_all(  # type: ignore[override]  # sync, see above
        self, operation: str, parameters: Parameters = None, **execution_kwargs: Any
    ) -> list[Row]:
        """Give all rows, or all that are left; the next call runs the statement anew.

        Args:
            operation: The statement or script.
            parameters: Values for `@name` (a mapping) or `?` (a sequence).
            execution_kwargs: Further options of `CartoWarehouse.query`.

        Raises:
            TimeoutError: If the time limit passed.
            CredentialsError: If there is no token to be had.
            google.api_core.exceptions.GoogleAPICallError: If the query failed, as BigQuery says.
        """
        rows = self._rows_of(operation, parameters, execution_kwargs).take(None)
        self._connection.forget(_key_of(operation, parameters, execution_kwargs))
        return rows

    def execute(  # type: ignore[override]  # sync, see above
        self, operation: str, parameters: Parameters = None, **execution_kwargs: Any
    ) -> QueryResult:
        """Run a statement whose rows, if it gives any, are not wanted.

        Args:
            operation: The statement or script.
            parameters: Values for `@name` (a mapping) or `?` (a sequence).
            execution_kwargs: Further options of `CartoWarehouse.query`.

        Returns:
            The job, and how many rows it changed.

        Raises:
            TimeoutError: If the time limit passed.
            CredentialsError: If there is no token to be had.
            google.api_core.exceptions.GoogleAPICallError: If the statement failed, as BigQuery says.
        """
        return self.get_carto_warehouse().query(operation, parameters=parameters, **self._options(execution_kwargs))

    def execute_many(  # type: ignore[override]  # sync, see above
        self,
        operation: str,
        seq_of_parameters: Iterable[Mapping[str, Any] | Sequence[Any]],
        **execution_kwargs: Any,
    ) -> None:
        """Run a DML statement once for each set of parameters, many in one job, which is a transaction.

        For rows of data `load_table` is faster by far. With an `idempotency_key`, a call that is made again goes on
        after the last job that has succeeded.

        Args:
            operation: The statement.
            seq_of_parameters: For each time, the values for `@name` (a mapping) or `?` (a sequence). None is a null of
                the type that the others of its name have.
            execution_kwargs: Further options of `CartoWarehouse.query`.

        Raises:
            TypeError: If a value's type says nothing to BigQuery.
            TimeoutError: If the time limit of a job passed.
            CredentialsError: If there is no token to be had.
            google.api_core.exceptions.GoogleAPICallError: If a job failed, as BigQuery says; nothing of it is done.
        """
        for sql, options in self._batches(operation, seq_of_parameters, execution_kwargs):
            self.get_carto_warehouse().query(sql, **options)

    def load_table(self, source: Any, destination: str, **options: Any) -> LoadResult:
        """Load data into a table, whole or not at all.

        It is not called `load`, since that is Prefect's, and loads the block.

        Args:
            source: A file, a `gs://` URI or a list of them, a pandas DataFrame, a GeoDataFrame, a pyarrow Table or
                RecordBatchReader, or an iterable of dicts, of Arrow batches or of frames.
            destination: The table, `dataset.table` or `project.dataset.table`.
            options: Further options of `CartoWarehouse.load`, such as `write_disposition` and `idempotency_key`.

        Raises:
            FileNotFoundError: If the file is not there.
            TypeError: If the source is nothing that can be loaded.
            ValueError: If a name or the content is not what it should be; the message names file, row or column.
            TimeoutError: If the time limit passed.
            CredentialsError: If there is no token to be had.
            google.api_core.exceptions.GoogleAPICallError: If the load failed, as BigQuery says.
        """
        return self.get_carto_warehouse().load(source, destination, **self._limited(options))

    async def afetch_one(self, operation: str, parameters: Parameters = None, **execution_kwargs: Any) -> Row | None:
        """Give the next row, like `fetch_one`, without holding the event loop."""
        rows = await self._arows_of(operation, parameters, execution_kwargs)
        return next(iter(await to_thread(rows.take, 1)), None)

    async def afetch_many(
        self, operation: str, parameters: Parameters = None, size: int | None = None, **execution_kwargs: Any
    ) -> list[Row]:
        """Give the next rows, like `fetch_many`, without holding the event loop."""
        rows = await self._arows_of(operation, parameters, execution_kwargs)
        return await to_thread(rows.take, self._size(size))

    async def afetch_all(self, operation: str, parameters: Parameters = None, **execution_kwargs: Any) -> list[Row]:
        """Give all rows that are left, like `fetch_all`, without holding the event loop."""
        rows = await to_thread((await self._arows_of(operation, parameters, execution_kwargs)).take, None)
        self._connection.forget(_key_of(operation, parameters, execution_kwargs))
        return rows

    async def aexecute(self, operation: str, parameters: Parameters = None, **execution_kwargs: Any) -> QueryResult:
        """Run a statement, like `execute`, without holding the event loop."""
        warehouse = await to_thread(self.get_carto_warehouse)
        return await warehouse.aquery(operation, parameters=parameters, **self._options(execution_kwargs))

    async def aexecute_many(
        self,
        operation: str,
        seq_of_parameters: Iterable[Mapping[str, Any] | Sequence[Any]],
        **execution_kwargs: Any,
    ) -> None:
        """Run a statement many times, like `execute_many`, without holding the event loop."""
        warehouse = await to_thread(self.get_carto_warehouse)
        for sql, options in await to_thread(self._batches, operation, seq_of_parameters, execution_kwargs):
            await warehouse.aquery(sql, **options)

    async def aload_table(self, source: Any, destination: str, **options: Any) -> LoadResult:
        """Load data into a table, like `load_table`, without holding the event loop."""
        warehouse = await to_thread(self.get_carto_warehouse)
        return await warehouse.aload(source, destination, **self._limited(options))

    def reset_cursors(self) -> None:
        """Forget all results: the next fetching call of each statement runs it anew."""
        self._connection.results.clear()

    def close(self) -> None:
        """Let go of the connection and of all results; the next call connects again."""
        self._connection.close()

    async def aclose(self) -> None:
        """Let go of the connection, like `close`, without holding the event loop."""
        await to_thread(self.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def _size(self, size: int | None) -> int:
        return self.fetch_size if size is None else size

    def _limited(self, options: Mapping[str, Any]) -> dict[str, Any]:
        return {"timeout": self.job_timeout, **options}

    def _options(self, given: Mapping[str, Any]) -> dict[str, Any]:
        return {"max_rows": 0, **self._limited(given)}

    def _batches(
        self, operation: str, rows: Iterable[Mapping[str, Any] | Sequence[Any]], options: Mapping[str, Any]
    ) -> list[tuple[str, dict[str, Any]]]:
        """Give the jobs of an `execute_many`, each with its own part of the key."""
        from ._scripts import scripts

        key = options.get("idempotency_key")
        return [
            (
                sql,
                {
                    **self._options(options),
                    "parameters": parameters,
                    "idempotency_key": None if key is None else f"{key}/{number}",
                },
            )
            for number, (sql, parameters) in enumerate(scripts(operation, list(rows)))
        ]

    def _rows_of(self, operation: str, parameters: Parameters, given: Mapping[str, Any]) -> _Rows:
        key = _key_of(operation, parameters, given)
        rows = self._connection.results.get(key)
        if rows is not None:
            return rows
        result = self.execute(operation, parameters, **given)
        return self._connection.remember(key, result, self)

    async def _arows_of(self, operation: str, parameters: Parameters, given: Mapping[str, Any]) -> _Rows:
        key = _key_of(operation, parameters, given)
        rows = self._connection.results.get(key)
        if rows is not None:
            return rows
        result = await self.aexecute(operation, parameters, **given)
        return await to_thread(self._connection.remember, key, result, self)


class _Rows:
    """The rows of a result, from where the last call ended; threads may share them.

    Args:
        rows: All of them; pages are fetched as they are needed.
    """

    def __init__(self, rows: Iterable[bigquery.Row]) -> None:
        self._left = iter(rows)
        self._turn = Lock()

    def take(self, size: int | None) -> list[Row]:
        """Give the next rows, all that are left for None."""
        with self._turn:
            return [tuple(row) for row in islice(self._left, size)]


class _Connection:
    """What a block has open. A copy or a pickle of it is one that has nothing open."""

    def __init__(self) -> None:
        self.results: dict[str, _Rows] = {}
        self._warehouse: CartoWarehouse | None = None
        self._client: bigquery.Client | None = None
        self._opening = Lock()

    def warehouse_of(self, credentials: CartoCredentials) -> CartoWarehouse:
        """Give the warehouse, the same one until it is closed."""
        with self._opening:
            if self._warehouse is None:
                self._warehouse = credentials.get_carto_warehouse()
            return self._warehouse

    def remember(self, key: str, result: QueryResult, block: CartoDataWarehouse) -> _Rows:
        """Open the rows of a query; of two callers that ran the same one at once, both get the first one's."""
        with self._opening:
            if self._client is None:
                self._client = block.credentials.get_carto_dw_client()
        job: Any = self._client.get_job(result.job_id, location=result.location)
        return self.results.setdefault(key, _Rows(job.result(page_size=block.fetch_size)))

    def forget(self, key: str) -> None:
        """Let go of a result."""
        self.results.pop(key, None)

    def close(self) -> None:
        """Let go of everything."""
        with self._opening:
            client, self._client, self._warehouse = self._client, None, None
            self.results.clear()
        if client is not None:
            client.close()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Connection)  # blocks of equal fields are equal, whether or not they are connected

    __hash__ = None  # type: ignore[assignment]  # as for every class whose objects are equal by what they hold

    def __reduce__(self) -> tuple[type[_Connection], tuple[()]]:
        return _Connection, ()


def _key_of(operation: str, parameters: Parameters, options: Mapping[str, Any]) -> str:
    return repr((operation, parameters, sorted(options.items(), key=lambda option: option[0])))
