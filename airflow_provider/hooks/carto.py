"""CartoHook: CARTO tokens, a BigQuery client and a DB-API database from an Airflow connection."""

from __future__ import annotations

import asyncio
import os
import threading
from contextlib import closing
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.providers.common.sql.hooks.handlers import fetch_all_handler, fetch_one_handler
from airflow.providers.common.sql.hooks.lineage import send_sql_hook_lineage
from airflow.providers.common.sql.hooks.sql import DbApiHook

from airflow_provider.compat import MASK_HERE_ASKS, mask_here, mask_secret
from airflow_provider.connection import CONN_TYPE, account_fields, form_behaviour, form_widgets
from airflow_provider.hooks.insert import columns_of, inserts
from airflow_provider.hooks.rows import AsTheyAre, plain_parameters, plain_row, tables_of
from carto_auth_integrations.account.fields import FIELDS
from carto_auth_integrations.auth import CartoAuth
from carto_auth_integrations.errors import CredentialsError, MissingDependency
from carto_auth_integrations.tokens.registry import add_token_listener

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    import pandas
    import polars
    import pyarrow
    from airflow.providers.common.compat.sdk import Connection
    from airflow.providers.openlineage.sqlparser import DatabaseInfo
    from google.cloud import bigquery
    from google.cloud.bigquery import dbapi
    from sqlalchemy.engine import URL, Engine

    from carto_auth_integrations.account.account import CartoAccount
    from carto_auth_integrations.checks import CheckResult
    from carto_auth_integrations.tokens.token import Token
    from carto_auth_integrations.warehouse import CartoWarehouse

MASK_WAIT = 1.0
"""Seconds to wait until Airflow's supervisor masks a token. It answers within a millisecond."""
MASK_WAIT_ON_LOOP = 0.015
"""The same on an event loop, which must not be held for 20 ms."""
CONNECTION_TEST_TIMEOUT = 9.0
"""Seconds for all stages of a connection test, so that the form has its answer within ten."""
DIALECT = "bigquery"
"""BigQuery's name in SQLAlchemy, OpenLineage and common-sql."""
WITHOUT_STORAGE_API = {"prefer_bqstorage_client": False}
"""For a DB-API connection. Whether the Storage API accepts a DW token is unknown, and it would refuse after minutes."""
INFORMATION_SCHEMA_COLUMNS = (
    "table_schema",
    "table_name",
    "column_name",
    "ordinal_position",
    "data_type",
    "table_catalog",
)
"""The columns of BigQuery's INFORMATION_SCHEMA.COLUMNS that OpenLineage needs, in its order."""

_masking = threading.Lock()


class CartoHook(DbApiHook):
    """Tokens and BigQuery clients for the account of a `carto` connection.

    The connection's host is the API base URL, its login the client ID, its password the client secret; every other
    field of the account is an extra of the same name. An extra named `api_base_url`, `client_id` or `client_secret`
    overrides host, login or password.

    Example:
        ```python
        client = CartoHook("carto_default").get_carto_dw_client()
        warehouse = CartoHook("carto_default").get_carto_warehouse()
        ```

    Args:
        carto_conn_id: The connection.
        hook_params: What SQL operators pass to a hook: parameters of `DbApiHook`, and the connection's extras, which
            are ignored here.
    """

    conn_name_attr = "carto_conn_id"
    default_conn_name = "carto_default"
    conn_type = CONN_TYPE
    hook_name = "CARTO"
    supports_autocommit = True  # each statement of BigQuery is a transaction of its own
    dialect_name = DIALECT

    def __init__(self, carto_conn_id: str = default_conn_name, **hook_params: Any) -> None:
        super().__init__(**{"escape_word_format": "`{}`", **hook_params, "carto_conn_id": carto_conn_id})

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """Return the form's own fields, for Airflow before 3.2; later versions read the provider information."""
        return form_widgets()

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Return how the form shows Airflow's standard fields, for the same versions."""
        return form_behaviour()

    @cached_property
    def auth(self) -> CartoAuth:
        """The account of the connection. Each of its tokens is masked in Airflow's logs.

        Raises:
            AccountError: If a field of the connection is missing or malformed.
        """
        add_token_listener(mask_token)
        return CartoAuth.from_mapping(account_fields(self.get_connection(self.get_conn_id())))

    def get_access_token(self) -> str:
        """Return a valid CARTO access token.

        Raises:
            CredentialsError: If none can be obtained; its class says why.
        """
        return self.auth.get_access_token()

    def get_carto_dw_credentials(self) -> tuple[str, str]:
        """Return the BigQuery project of the CARTO Data Warehouse and a valid token for it.

        Raises:
            CredentialsError: If CARTO returns none; its class says why.
        """
        return self.auth.get_carto_dw_credentials()

    def get_carto_dw_client(self, **options: Any) -> bigquery.Client:
        """Return a BigQuery client for the CARTO Data Warehouse that outlives its tokens.

        Args:
            options: Further options of `google.cloud.bigquery.Client`, such as `location`.

        Raises:
            CredentialsError: If CARTO returns no DW token; its class says why.
        """
        return self.auth.get_carto_dw_client(**options)

    def get_carto_warehouse(self) -> CartoWarehouse:
        """Return the CARTO Data Warehouse: queries and loads that happen exactly once."""
        return self.auth.warehouse()

    async def aget_auth(self) -> CartoAuth:
        """Return the account of the connection, like `auth`, without holding the event loop."""
        from asgiref.sync import sync_to_async

        # Airflow reads a connection off the loop with asgiref: in a triggerer before 3.3 a plain thread cannot.
        return self.__dict__.get("auth") or await sync_to_async(lambda: self.auth)()

    async def aget_carto_warehouse(self) -> CartoWarehouse:
        """Return the CARTO Data Warehouse, like `get_carto_warehouse`, without holding the event loop."""
        auth = await self.aget_auth()
        return auth.warehouse()

    async def aget_access_token(self) -> str:
        """Return a valid CARTO access token, like `get_access_token`, without holding the event loop."""
        auth = await self.aget_auth()
        return await auth.aget_access_token()

    async def aget_carto_dw_credentials(self) -> tuple[str, str]:
        """Return project and token, like `get_carto_dw_credentials`, without holding the event loop."""
        auth = await self.aget_auth()
        return await auth.aget_carto_dw_credentials()

    async def aget_carto_dw_client(self, **options: Any) -> bigquery.Client:
        """Return a BigQuery client, like `get_carto_dw_client`, without holding the event loop."""
        auth = await self.aget_auth()
        return await auth.aget_carto_dw_client(**options)

    def get_conn(self) -> dbapi.Connection:
        """Return a DB-API connection to the CARTO Data Warehouse, for the methods and operators of common-sql."""
        from google.cloud.bigquery import dbapi

        connection: dbapi.Connection = dbapi.connect(self.get_carto_dw_client(), **WITHOUT_STORAGE_API)
        return connection

    async def aget_conn(self) -> dbapi.Connection:
        """Return a DB-API connection, like `get_conn`, without holding the event loop. Its own methods hold it."""
        await self.aget_auth()
        return await asyncio.to_thread(self.get_conn)

    def get_records(self, sql: str | list[str], parameters: Iterable[Any] | Mapping[str, Any] | None = None) -> Any:
        """Return all rows as tuples of Python's own types: `Decimal`, `date`, `bytes` and so on.

        `run`, and with it what an operator writes to XCom, returns plain JSON types instead.
        """
        return self.run(sql, parameters=parameters, handler=lambda cursor: AsTheyAre(fetch_all_handler(cursor)))

    def get_first(self, sql: str | list[str], parameters: Iterable[Any] | Mapping[str, Any] | None = None) -> Any:
        """Return the first row as a tuple of Python's own types, like `get_records`; None if there is no row."""
        return self.run(sql, parameters=parameters, handler=lambda cursor: AsTheyAre(fetch_one_handler(cursor)))

    def insert_rows(
        self,
        table: str,
        rows: Iterable[Sequence[Any]],
        target_fields: Iterable[str] | None = None,
        commit_every: int = 1000,
        replace: bool = False,
        **options: Any,
    ) -> None:
        """Insert rows with INSERT statements, each a BigQuery job. For up to some thousand rows; load larger data.

        Args:
            table: `dataset.table` or `project.dataset.table`.
            rows: Each a sequence with a value per column, of the column's type: lists for arrays, dicts for structs.
            target_fields: The columns' names; None for all, in the table's order.
            commit_every: Rows in one statement; 0 for as many as BigQuery accepts. A statement inserts all or nothing.
            replace: Not supported.
            options: Further parameters of `DbApiHook`, which have no meaning in BigQuery.

        Raises:
            NotImplementedError: If `replace` is true.
            TypeError: If a value is of another type than its column; the message names row and column.
            ValueError: If a column cannot hold its value exactly, or does not exist.
        """
        if replace:
            raise NotImplementedError("BigQuery has no REPLACE: run a MERGE statement, or load with WRITE_TRUNCATE.")
        from carto_auth_integrations.warehouse.tables import destination_of

        project, dataset = self.get_carto_dw_credentials()[0], self.auth.account.default_dataset
        name = destination_of(table.replace("`", ""), project, dataset)
        with closing(self.get_carto_dw_client()) as client:
            schema = [field.to_api_repr() for field in client.get_table(name).schema]
        warehouse, inserted, sql = self.get_carto_warehouse(), 0, None
        for sql, values, count in inserts(name, columns_of(schema, target_fields, name), rows, most_rows=commit_every):
            warehouse.query(sql, parameters=values, max_rows=0)
            inserted += count
            self.log.info("Inserted %s rows into %s so far", inserted, table)
        if sql:
            send_sql_hook_lineage(context=self, sql=sql, row_count=inserted)

    def test_connection(self) -> tuple[bool, str]:  # type: ignore[override]  # DbApiHook's has no annotation
        """Check the account stage by stage, like `carto-auth check`, in ten seconds at most, without a login.

        Returns:
            Whether all stages passed, and a message about the last one, without any secret.
        """
        try:
            return _verdict(self.auth.account, list(self.auth.check(timeout=CONNECTION_TEST_TIMEOUT)))
        except CredentialsError as error:
            return False, f"connection: {error}"

    async def atest_connection(self) -> tuple[bool, str]:
        """Check the account, like `test_connection`, without holding the event loop."""
        try:
            auth = await self.aget_auth()
        except CredentialsError as error:
            return False, f"connection: {error}"
        return _verdict(auth.account, await auth.acheck(timeout=CONNECTION_TEST_TIMEOUT))

    def get_uri(self) -> str:
        """Return the warehouse's URL for sqlalchemy-bigquery, `bigquery://project/dataset`, without any secret."""
        project = self.get_carto_dw_credentials()[0]
        owner, _, dataset = (self.auth.account.default_dataset or "").rpartition(".")
        return f"{DIALECT}://{project}/{dataset if owner in ('', project) else ''}".rstrip("/")

    @property
    def sqlalchemy_url(self) -> URL:
        """The URL of `get_uri` as SQLAlchemy's own type."""
        from sqlalchemy.engine import make_url

        return make_url(self.get_uri())

    def get_sqlalchemy_engine(self, engine_kwargs: dict[str, Any] | None = None) -> Engine:
        """Return a SQLAlchemy engine whose client outlives its tokens. Needs `sqlalchemy-bigquery`.

        Args:
            engine_kwargs: Further arguments of `sqlalchemy.create_engine`.

        Raises:
            MissingDependency: If `sqlalchemy-bigquery` is not installed (an `ImportError`).
        """
        from sqlalchemy import create_engine
        from sqlalchemy.exc import NoSuchModuleError

        settings = dict(engine_kwargs or {})
        client = {"client": self.get_carto_dw_client(), **WITHOUT_STORAGE_API}
        settings["connect_args"] = {**client, **settings.get("connect_args", {})}
        try:
            return create_engine(self.sqlalchemy_url.update_query_dict({"user_supplied_client": "true"}), **settings)
        except NoSuchModuleError:
            pass
        raise MissingDependency("A SQLAlchemy engine for BigQuery needs: pip install sqlalchemy-bigquery")

    def get_openlineage_database_info(self, connection: Connection) -> DatabaseInfo | None:
        """Return how OpenLineage names the warehouse's tables; None if its provider is not installed."""
        try:
            from airflow.providers.openlineage.sqlparser import DatabaseInfo
        except ImportError:
            return None
        return DatabaseInfo(
            scheme=DIALECT,
            database=self.get_carto_dw_credentials()[0],
            information_schema_columns=list(INFORMATION_SCHEMA_COLUMNS),
            information_schema_table_name="INFORMATION_SCHEMA.COLUMNS",
        )

    def get_openlineage_database_dialect(self, connection: Connection | None) -> str:
        """Return the SQL dialect for OpenLineage's parser."""
        return DIALECT

    def get_openlineage_default_schema(self) -> str | None:
        """Return the connection's default dataset, for table names without one."""
        return (self.auth.account.default_dataset or "").rpartition(".")[2] or None

    def _run_command(self, cur: Any, sql_statement: str, parameters: Any) -> None:
        super()._run_command(cur, sql_statement, plain_parameters(parameters))

    def _make_common_data_structure(self, result: Any) -> Any:
        """Return BigQuery's rows as plain tuples, which common-sql promises; for XCom, of plain JSON types."""
        from google.cloud.bigquery import Row

        rows, convert = (result.rows, tuple) if isinstance(result, AsTheyAre) else (result, plain_row)
        if isinstance(rows, list):
            return [convert(row) if isinstance(row, Row) else row for row in rows]
        return convert(rows) if isinstance(rows, Row) else rows

    def _get_pandas_df(
        self, sql: str, parameters: Any = None, *, index_col: Any = None, dtype: Any = None
    ) -> pandas.DataFrame:
        return _frame_of(self._table(sql, parameters), index_col, dtype)

    def _get_polars_df(self, sql: str, parameters: Any = None) -> polars.DataFrame:
        from carto_auth_integrations.warehouse.dataframes import to_polars  # not needed to parse a DAG file

        return to_polars(self._table(sql, parameters))

    def _get_pandas_df_by_chunks(
        self, sql: str, parameters: Any = None, *, chunksize: int, index_col: Any = None, dtype: Any = None
    ) -> Iterator[pandas.DataFrame]:
        for table in self._tables(sql, parameters, chunksize):
            yield _frame_of(table, index_col, dtype)

    def _get_polars_df_by_chunks(
        self, sql: str, parameters: Any = None, *, chunksize: int
    ) -> Iterator[polars.DataFrame]:
        from carto_auth_integrations.warehouse.dataframes import to_polars

        yield from map(to_polars, self._tables(sql, parameters, chunksize))

    def _table(self, sql: str, parameters: Any) -> pyarrow.Table:
        with closing(self.get_conn()) as connection, closing(connection.cursor()) as cursor:
            cursor.execute(sql, plain_parameters(parameters))
            return cursor.query_job.to_arrow(create_bqstorage_client=False)

    def _tables(self, sql: str, parameters: Any, size: int) -> Iterator[pyarrow.Table]:
        with closing(self.get_conn()) as connection, closing(connection.cursor()) as cursor:
            cursor.execute(sql, plain_parameters(parameters))
            rows = cursor.query_job.result(page_size=size)
            yield from tables_of(rows.to_arrow_iterable(), size)


def _frame_of(table: pyarrow.Table, index_col: Any, dtype: Any) -> pandas.DataFrame:
    from carto_auth_integrations.warehouse.dataframes import to_pandas

    frame = to_pandas(table)
    if dtype is not None:
        frame = frame.astype(dtype)
    return frame if index_col is None else frame.set_index(index_col)


def _verdict(account: CartoAccount, stages: Sequence[CheckResult]) -> tuple[bool, str]:
    last = stages[-1]
    if last.ok:
        return True, f"All {len(stages)} stages passed: {last.detail}."
    return False, f"{last.name}: {last.detail}{_fields_in(last.detail, account)}"


def _fields_in(message: str, account: CartoAccount) -> str:
    """Return a sentence with the fields whose URLs a message shows; empty if the message names a field itself."""
    if any(name in message for name in FIELDS):
        return ""
    urls = {name: getattr(account, name) for name, field in FIELDS.items() if field.kind == "url"}
    shown = [name for name, url in urls.items() if url and url in message]
    return f" It is the connection's {' or '.join(shown)}." if shown else ""


def mask_token(token: Token) -> None:
    """Mask a token in the logs of this process and of the supervisor that writes them. For any thread.

    Args:
        token: A token that has just been obtained or read from a store.
    """
    on_loop = _on_event_loop()
    if not on_loop and not MASK_HERE_ASKS:
        _mask_here(token)
    # On a thread of its own: from an event loop's thread, Airflow's call stalls the loop or raises
    # DeadlockImminentError, and a triggerer's loop may itself be waiting for this very token.
    thread = threading.Thread(target=_mask, args=(token,), name="carto-mask", daemon=True)
    thread.start()
    thread.join(MASK_WAIT_ON_LOOP if on_loop else MASK_WAIT)


def _mask(token: Token) -> None:
    _mask_here(token)
    if mask_here is not mask_secret:
        mask_secret(token.reveal())  # in the supervisor, which may take longer


def _mask_here(token: Token) -> None:
    # Airflow's masker has no lock: of two secrets at once, one pattern would overwrite the other.
    with _masking:
        mask_here(token.reveal())


def _after_fork_in_child() -> None:
    global _masking
    _masking = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


def _on_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
