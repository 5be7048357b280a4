"""CartoHook: an Airflow connection as CARTO tokens, a BigQuery client and a database that SQL operators run on."""

from __future__ import annotations

import asyncio
import threading
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import mask_secret
from airflow.providers.common.sql.hooks.sql import DbApiHook

from airflow_provider import STANDARD_FIELDS
from carto_auth_integrations.auth import CartoAuth
from carto_auth_integrations.fields import ALIASES, FIELDS, hidden, suggestion
from carto_auth_integrations.source import add_token_listener

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Connection
    from google.cloud import bigquery
    from google.cloud.bigquery import dbapi

    from carto_auth_integrations.tokens import Token
    from carto_auth_integrations.warehouse import CartoWarehouse

MASK_WAIT = 1.0
"""Seconds a token waits until Airflow's supervisor has taken note of it: an answer takes a millisecond."""
MASK_WAIT_ON_LOOP = 0.015
"""The same where the caller holds an event loop, which must not stand still for 20 ms."""
SQL_EXTRAS = frozenset(
    {"escape_column_names", "escape_word_format", "insert_statement_format", "placeholder", "replace_statement_format"}
)
"""Extras that `DbApiHook` reads itself."""


class CartoHook(DbApiHook):
    """Gives tokens and BigQuery clients for the account of a `carto` connection.

    The connection's host is the API base URL, its login the client ID, its password the client secret; every other
    field of the account is an extra of the same name. An extra named like one of those three takes its place.

    Args:
        carto_conn_id: The connection.
        hook_params: What SQL operators hand to a hook: `DbApiHook`'s own parameters, and the connection's extras,
            which are not needed here.
    """

    conn_name_attr = "carto_conn_id"
    default_conn_name = "carto_default"
    conn_type = "carto"
    hook_name = "CARTO"

    def __init__(self, carto_conn_id: str = default_conn_name, **hook_params: Any) -> None:
        super().__init__(**{**hook_params, "carto_conn_id": carto_conn_id})

    @cached_property
    def auth(self) -> CartoAuth:
        """The account of the connection; every token it comes to hold is masked in Airflow's logs.

        Raises:
            AccountError: If a field of the connection is missing or malformed.
        """
        add_token_listener(mask_token)
        return CartoAuth.from_mapping(account_fields(self.get_connection(self.get_conn_id())))

    def get_access_token(self) -> str:
        """Give a valid CARTO access token.

        Raises:
            CredentialsError: If there is none to be had; the kind says why.
        """
        return self.auth.get_access_token()

    def get_carto_dw_credentials(self) -> tuple[str, str]:
        """Give the BigQuery project of the CARTO Data Warehouse and a valid token for it.

        Raises:
            CredentialsError: If CARTO gives none; the kind says why.
        """
        return self.auth.get_carto_dw_credentials()

    def get_carto_dw_client(self, **options: Any) -> bigquery.Client:
        """Give a BigQuery client for the CARTO Data Warehouse that outlives its tokens.

        Args:
            options: Further options of `google.cloud.bigquery.Client`, such as `location`.

        Raises:
            CredentialsError: If CARTO gives no DW token; the kind says why.
        """
        return self.auth.get_carto_dw_client(**options)

    def get_carto_warehouse(self) -> CartoWarehouse:
        """Give the CARTO Data Warehouse as queries and loads that happen exactly once."""
        return self.auth.warehouse()

    async def aget_access_token(self) -> str:
        """Give a valid CARTO access token, like `get_access_token`, without holding the event loop."""
        auth = await self._aauth()
        return await auth.aget_access_token()

    async def aget_carto_dw_credentials(self) -> tuple[str, str]:
        """Give project and token, like `get_carto_dw_credentials`, without holding the event loop."""
        auth = await self._aauth()
        return await auth.aget_carto_dw_credentials()

    async def aget_carto_dw_client(self, **options: Any) -> bigquery.Client:
        """Give a BigQuery client, like `get_carto_dw_client`, without holding the event loop."""
        auth = await self._aauth()
        return await auth.aget_carto_dw_client(**options)

    def get_conn(self) -> dbapi.Connection:
        """Give a DB-API connection to the CARTO Data Warehouse, for the methods and operators of common-sql."""
        from google.cloud.bigquery import dbapi

        # Whether the Storage API accepts a DW token is unknown, and its first refusal would come after minutes.
        connection: dbapi.Connection = dbapi.connect(self.get_carto_dw_client(), prefer_bqstorage_client=False)
        return connection

    def _make_common_data_structure(self, result: Any) -> tuple[Any, ...] | list[tuple[Any, ...]] | None:
        """Turn BigQuery's rows into the plain tuples that common-sql promises, and XCom can hold."""
        if result is None:
            return None
        if isinstance(result, list):
            return [tuple(row) for row in result]
        return tuple(result)

    async def _aauth(self) -> CartoAuth:
        from asgiref.sync import sync_to_async

        # Airflow's own way to read a connection off the loop: in a triggerer before 3.3 no plain thread can.
        return self.__dict__.get("auth") or await sync_to_async(lambda: self.auth)()


def account_fields(connection: Connection) -> dict[str, Any]:
    """Read the account's fields from an Airflow connection, wherever it came from: the form, a URI or JSON.

    Args:
        connection: The connection; extras that belong to nobody are ignored with a warning.

    Returns:
        Fields by name, the secret ones wrapped.
    """
    extras = hidden(connection.extra_dejson)
    known = {name: extras[name] for name in extras if name in FIELDS or name in ALIASES}
    for name in extras.keys() - known.keys() - SQL_EXTRAS:
        _warn("connection %s: unknown extra %r is ignored%s", connection.conn_id, name, suggestion(name))
    standard = {"host": _base_url(connection), "login": connection.login, "password": connection.password}
    fields = {name: standard[own] for own, name in STANDARD_FIELDS.items() if standard[own]}
    return hidden({**fields, **known})


def mask_token(token: Token) -> None:
    """Have a token masked in the logs of this process and of the supervisor that writes them.

    Args:
        token: One that has just been minted or read from a store; this may be any thread.
    """
    # On a thread of its own: from an event loop's thread, Airflow's call stalls the loop or raises
    # DeadlockImminentError, and a triggerer's loop may itself be waiting for this very token.
    thread = threading.Thread(target=mask_secret, args=(token.reveal(),), name="carto-mask", daemon=True)
    thread.start()
    thread.join(MASK_WAIT_ON_LOOP if _on_event_loop() else MASK_WAIT)


def _on_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _base_url(connection: Connection) -> str | None:
    """Put together what a URI takes apart: carto://id:secret@host:port/path. https, unless the host says otherwise."""
    host = connection.host
    if not host:
        return None
    url = host if "://" in host else f"https://{host}"
    if connection.port:
        url = f"{url.rstrip('/')}:{connection.port}"
    return f"{url.rstrip('/')}/{connection.schema}" if connection.schema else url


def _warn(message: str, *arguments: object) -> None:
    from logging import getLogger

    getLogger(__name__).warning(message, *arguments)
