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
    from collections.abc import Iterable
    from typing import TypeAlias

    from google.cloud import bigquery
    from typing_extensions import Self, Unpack

    from carto_auth_integrations.warehouse import CartoWarehouse, LoadResult, QueryResult
    from carto_auth_integrations.warehouse.options import LoadKeywords, Parameters, QueryKeywords

    Row: TypeAlias = tuple[Any, ...]

FETCH_SIZE = 1000
"""Rows per request by default: many enough that requests cost little, few enough for any memory."""


class CartoDataWarehouse(DatabaseBlock):
    """The CARTO Data Warehouse, which is BigQuery: fetch rows, execute statements, load tables.

    It connects with the first statement, and again whenever it has to. The fetching methods continue with a result: a
    call with the same statement and parameters returns the next rows, until there are none, or until `reset_cursors`.
    Rows are fetched page by page, as they are needed.

    Each method takes the options of `CartoWarehouse.query` by keyword as well, such as `idempotency_key`, `labels` and
    `timeout`. Every method raises `CredentialsError` if no token can be obtained, `TimeoutError` if its time limit
    passes, and `google.api_core.exceptions.GoogleAPICallError` if BigQuery refuses the call or the job fails. A block
    pickles like its credentials, without its connection.

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
    # Taken from the docstring, Prefect's pages would show it with its line breaks.
    _description = "The CARTO Data Warehouse, which is BigQuery: fetch rows, execute statements, load tables."

    model_config = ConfigDict(hide_input_in_errors=True)

    # A new field has to be optional, so that documents that are saved already can be loaded.
    credentials: CartoCredentials = Field(title="Credentials", description="The CARTO account whose warehouse it is.")
    fetch_size: int = Field(
        default=FETCH_SIZE,
        ge=1,
        title=title_of("fetch_size"),
        description="Rows that fetch_many returns by default, and rows per request.",
    )
    job_timeout: float | None = Field(
        default=None,
        gt=0,
        title=title_of("job_timeout"),
        description="Seconds after which a query or load is cancelled; left out, there is no limit.",
        json_schema_extra=without_null,
    )

    _connection: _Connection = PrivateAttr(default_factory=lambda: _Connection())

    @classmethod
    def __dispatch_key__(cls) -> str:
        """Return the name under which Prefect finds the class; Prefect builds the whole schema for the same name."""
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
        """Return the warehouse that this block uses: queries and loads that happen exactly once."""
        return self._connection.warehouse_of(self.credentials)

    # Prefect's abstract methods are coroutines. Here, as in Prefect's own integrations, these names are sync methods,
    # and the coroutines have names of their own: no method is sync or async depending on its caller.

    def fetch_one(  # type: ignore[override]  # sync, see above
        self, operation: str, parameters: Parameters | None = None, **execution_kwargs: Unpack[QueryKeywords]
    ) -> Row | None:
        """Return the next row, or None after the last one.

        Args:
            operation: The statement or script.
            parameters: Values for `@name` (a mapping) or `?` (a sequence).
            execution_kwargs: Options of `CartoWarehouse.query`.
        """
        return next(iter(self._rows_of(operation, parameters, execution_kwargs).take(1)), None)

    def fetch_many(  # type: ignore[override]  # sync, see above
        self,
        operation: str,
        parameters: Parameters | None = None,
        size: int | None = None,
        **execution_kwargs: Unpack[QueryKeywords],
    ) -> list[Row]:
        """Return the next rows: fewer at the end, and none after it.

        Args:
            operation: The statement or script.
            parameters: Values for `@name` (a mapping) or `?` (a sequence).
            size: How many; left out, the block's `fetch_size`.
            execution_kwargs: Options of `CartoWarehouse.query`.
        """
        return self._rows_of(operation, parameters, execution_kwargs).take(self._size(size))

    def fetch_all(  # type: ignore[override]  # sync, see above
        self, operation: str, parameters: Parameters | None = None, **execution_kwargs: Unpack[QueryKeywords]
    ) -> list[Row]:
        """Return all rows, or all that are left. The next call runs the statement again.

        Args:
            operation: The statement or script.
            parameters: Values for `@name` (a mapping) or `?` (a sequence).
            execution_kwargs: Options of `CartoWarehouse.query`.
        """
        rows = self._rows_of(operation, parameters, execution_kwargs).take(None)
        self._connection.forget(_key_of(operation, parameters, execution_kwargs))
        return rows

    def execute(  # type: ignore[override]  # sync, see above
        self, operation: str, parameters: Parameters | None = None, **execution_kwargs: Unpack[QueryKeywords]
    ) -> QueryResult:
        """Run a statement whose rows, if it returns any, are not needed; with `dry_run=True`, only look what it costs.

        Args:
            operation: The statement or script.
            parameters: Values for `@name` (a mapping) or `?` (a sequence).
            execution_kwargs: Options of `CartoWarehouse.query`.

        Returns:
            The job, and how many rows it changed.
        """
        return self.get_carto_warehouse().query(operation, parameters=parameters, **self._options(execution_kwargs))

    def execute_many(  # type: ignore[override]  # sync, see above
        self, operation: str, seq_of_parameters: Iterable[Parameters], **execution_kwargs: Unpack[QueryKeywords]
    ) -> None:
        """Run a statement once for each set of parameters, one query after the other.

        A query takes BigQuery a second or so: many rows are better loaded, with `load_table`. If a query fails, those
        before it are done. With an `idempotency_key` a repeated call continues where the last one failed: each query
        has its own key, `idempotency_key/0` and so on.

        Args:
            operation: The statement.
            seq_of_parameters: For each time, the values for `@name` (a mapping) or `?` (a sequence). None is a null of
                the type that its column has in other sets.
            execution_kwargs: Options of `CartoWarehouse.query`.

        Raises:
            TypeError: If a parameter has no BigQuery type.
        """
        for parameters, options in self._runs(seq_of_parameters, execution_kwargs):
            self.execute(operation, parameters, **options)

    def load_table(self, source: Any, destination: str, **options: Unpack[LoadKeywords]) -> LoadResult:
        """Load data into a table, whole or not at all.

        It is not called `load`, since that is Prefect's method that loads the block.

        Args:
            source: A file, a directory, a glob, an `https://`, `s3://` or other URL, or a list of them; `gs://` URIs,
                which BigQuery reads by itself; a frame of pandas, geopandas or polars, a pyarrow Table or
                RecordBatchReader, or an iterable of dicts, of Arrow batches or of frames.
            destination: The table, `dataset.table` or `project.dataset.table`.
            options: Options of `CartoWarehouse.load`: `idempotency_key`, `write_disposition`, `create_disposition`,
                `create_dataset`, `format`, `schema`, `geometry`, `crs`, `edges`, `lon` and `lat`, `invalid_geometry`,
                `make_valid`, `bad_rows`, `column_names`, `column_types`, `layer`, `delimiter`, `encoding`, `quote`,
                `null_marker`, `skip_rows`, `header`, `partitioning`, `clustering`, `labels`, `timeout`, `on_progress`.

        Raises:
            FileNotFoundError: If the file does not exist.
            TypeError: If the source is of a type that cannot be loaded.
            ValueError: If a name or the content is invalid; the message names file, row or column.
        """
        options.setdefault("timeout", self.job_timeout)
        return self.get_carto_warehouse().load(source, destination, **options)

    async def afetch_one(
        self, operation: str, parameters: Parameters | None = None, **execution_kwargs: Unpack[QueryKeywords]
    ) -> Row | None:
        """Return the next row, like `fetch_one`, without holding the event loop."""
        rows = await self._arows_of(operation, parameters, execution_kwargs)
        return next(iter(await to_thread(rows.take, 1)), None)

    async def afetch_many(
        self,
        operation: str,
        parameters: Parameters | None = None,
        size: int | None = None,
        **execution_kwargs: Unpack[QueryKeywords],
    ) -> list[Row]:
        """Return the next rows, like `fetch_many`, without holding the event loop."""
        rows = await self._arows_of(operation, parameters, execution_kwargs)
        return await to_thread(rows.take, self._size(size))

    async def afetch_all(
        self, operation: str, parameters: Parameters | None = None, **execution_kwargs: Unpack[QueryKeywords]
    ) -> list[Row]:
        """Return all rows that are left, like `fetch_all`, without holding the event loop."""
        rows = await to_thread((await self._arows_of(operation, parameters, execution_kwargs)).take, None)
        self._connection.forget(_key_of(operation, parameters, execution_kwargs))
        return rows

    async def aexecute(
        self, operation: str, parameters: Parameters | None = None, **execution_kwargs: Unpack[QueryKeywords]
    ) -> QueryResult:
        """Run a statement, like `execute`, without holding the event loop."""
        warehouse = await to_thread(self.get_carto_warehouse)
        return await warehouse.aquery(operation, parameters=parameters, **self._options(execution_kwargs))

    async def aexecute_many(
        self, operation: str, seq_of_parameters: Iterable[Parameters], **execution_kwargs: Unpack[QueryKeywords]
    ) -> None:
        """Run a statement many times, like `execute_many`, without holding the event loop."""
        for parameters, options in await to_thread(self._runs, seq_of_parameters, execution_kwargs):
            await self.aexecute(operation, parameters, **options)

    async def aload_table(self, source: Any, destination: str, **options: Unpack[LoadKeywords]) -> LoadResult:
        """Load data into a table, like `load_table`, without holding the event loop."""
        options.setdefault("timeout", self.job_timeout)
        warehouse = await to_thread(self.get_carto_warehouse)
        return await warehouse.aload(source, destination, **options)

    def reset_cursors(self) -> None:
        """Forget all results: the next fetching call of each statement runs it again."""
        self._connection.results.clear()

    def close(self) -> None:
        """Close the connection and forget all results; the next call connects again."""
        self._connection.close()

    async def aclose(self) -> None:
        """Close the connection, like `close`, without holding the event loop."""
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

    def _options(self, options: QueryKeywords) -> QueryKeywords:
        return {"max_rows": 0, "timeout": self.job_timeout, **options}

    def _runs(self, rows: Iterable[Parameters], options: QueryKeywords) -> list[tuple[Parameters, QueryKeywords]]:
        """Return the parameters and options of each query of an `execute_many`."""
        from ._nulls import with_typed_nulls

        key = options.get("idempotency_key")
        return [
            (parameters, {**options, "idempotency_key": None if key is None else f"{key}/{number}"})
            for number, parameters in enumerate(with_typed_nulls(list(rows)))
        ]

    def _rows_of(self, operation: str, parameters: Parameters | None, given: QueryKeywords) -> _Rows:
        key = _key_of(operation, parameters, given)
        rows = self._connection.results.get(key)
        if rows is not None:
            return rows
        result = self.execute(operation, parameters, **given)
        return self._connection.remember(key, result, self)

    async def _arows_of(self, operation: str, parameters: Parameters | None, given: QueryKeywords) -> _Rows:
        key = _key_of(operation, parameters, given)
        rows = self._connection.results.get(key)
        if rows is not None:
            return rows
        result = await self.aexecute(operation, parameters, **given)
        return await to_thread(self._connection.remember, key, result, self)


class _Rows:
    """The rows of a result, from where the last call ended. Threads can share them.

    Args:
        rows: All rows; pages are fetched as they are needed.
    """

    def __init__(self, rows: Iterable[bigquery.Row]) -> None:
        self._left = iter(rows)
        self._lock = Lock()

    def take(self, size: int | None) -> list[Row]:
        """Return the next rows; all that are left for None."""
        with self._lock:
            return [tuple(row) for row in islice(self._left, size)]


class _Connection:
    """The open connection and results of a block. A copy or pickle of it has nothing open."""

    def __init__(self) -> None:
        self.results: dict[str, _Rows] = {}
        self._warehouse: CartoWarehouse | None = None
        self._client: bigquery.Client | None = None
        self._opening = Lock()

    def warehouse_of(self, credentials: CartoCredentials) -> CartoWarehouse:
        """Return the warehouse, the same one until `close`."""
        with self._opening:
            if self._warehouse is None:
                self._warehouse = credentials.get_carto_warehouse()
            return self._warehouse

    def remember(self, key: str, result: QueryResult, block: CartoDataWarehouse) -> _Rows:
        """Return the rows of a query. Two callers that ran the same query at once share one result."""
        with self._opening:
            if self._client is None:
                self._client = block.credentials.get_carto_dw_client()
        job: Any = self._client.get_job(result.job_id, location=result.location)
        return self.results.setdefault(key, _Rows(job.result(page_size=block.fetch_size)))

    def forget(self, key: str) -> None:
        """Forget a result."""
        self.results.pop(key, None)

    def close(self) -> None:
        """Close the client and forget all results."""
        with self._opening:
            client, self._client, self._warehouse = self._client, None, None
            self.results.clear()
        if client is not None:
            client.close()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Connection)  # blocks of equal fields are equal, connected or not

    __hash__ = None  # type: ignore[assignment]  # as for every class with __eq__ whose objects change

    def __reduce__(self) -> tuple[type[_Connection], tuple[()]]:
        return _Connection, ()


def _key_of(operation: str, parameters: Parameters | None, options: QueryKeywords) -> str:
    if options.get("dry_run"):
        raise ValueError("A dry run has no rows to fetch: call execute, whose result has bytes_processed.")
    return repr((operation, parameters, sorted(options.items(), key=lambda option: option[0])))
