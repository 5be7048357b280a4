"""CartoBigQueryHook: the BigQuery hook of Airflow's google provider, on a `carto` connection. Needs that provider."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider.connection import CONN_TYPE
from airflow_provider.hooks.carto import CartoHook
from carto_auth_integrations.errors import MissingDependency

try:
    from airflow.providers.google.cloud.hooks.bigquery import BigQueryAsyncHook, BigQueryHook
except ImportError as error:
    raise MissingDependency(
        f"CartoBigQueryHook needs Airflow's google provider, and {error.name} is not installed: "
        "pip install apache-airflow-providers-google. CartoHook does not need it."
    ) from None

if TYPE_CHECKING:
    from google.api_core.client_options import ClientOptions
    from google.cloud import bigquery
    from sqlalchemy.engine import Engine

    from carto_auth_integrations.auth import CartoAuth
    from carto_auth_integrations.bigquery.credentials import CartoDWCredentials


class CartoBigQueryHook(BigQueryHook):  # type: ignore[misc]  # the google provider has no types here
    """Google's `BigQueryHook` on the CARTO Data Warehouse, with credentials that renew themselves.

    All its methods work on the warehouse's project, in standard SQL. The fields of a Google connection, such as a key
    file or an impersonation chain, have no meaning here.

    Args:
        carto_conn_id: The connection, of type `carto`.
        hook_params: Further arguments of `BigQueryHook`, such as `location`, `labels` or `priority`.
    """

    default_conn_name = CartoHook.default_conn_name
    conn_type = CONN_TYPE
    hook_name = CartoHook.hook_name

    def __init__(self, carto_conn_id: str = default_conn_name, **hook_params: Any) -> None:
        self._carto = CartoHook(hook_params.pop("gcp_conn_id", carto_conn_id))
        # The default of the base class is legacy SQL.
        super().__init__(**{"use_legacy_sql": False, **hook_params, "gcp_conn_id": self._carto.get_conn_id()})

    @property
    def auth(self) -> CartoAuth:
        """The account of the connection; its tokens are those of `CartoHook`."""
        return self._carto.auth

    def get_credentials_and_project_id(self) -> tuple[CartoDWCredentials, str]:
        """Return the warehouse's credentials, which renew themselves, and its project.

        Raises:
            CredentialsError: If CARTO returns no DW token; its class says why.
        """
        # New ones each time: the base class refreshes credentials to read their token, and a refresh of credentials
        # that have sent nothing keeps a valid token.
        return self.auth.google_credentials(), self._carto.get_carto_dw_credentials()[0]

    def get_client_options(self, api_endpoint_override: str | None = None) -> ClientOptions:
        """Return the options of Google's discovery client, which `get_conn` uses, with the connection's endpoint."""
        endpoint = self.auth.account.bigquery_endpoint
        # The discovery client needs the API's path in its endpoint; bigquery.Client adds it.
        override = api_endpoint_override or (f"{endpoint}/bigquery/v2/" if endpoint else None)
        options: ClientOptions = super().get_client_options(override)
        return options

    def get_client(self, project_id: str | None = None, location: str | None = None) -> bigquery.Client:
        """Return a BigQuery client that outlives its tokens.

        Args:
            project_id: The project; None for the warehouse's own.
            location: Where jobs run; None for the location of the hook or the connection.
        """
        options = {"project": project_id, "location": location or self.location}
        return self._carto.get_carto_dw_client(**{name: value for name, value in options.items() if value})

    def _get_pandas_df(self, sql: str, parameters: Any = None, dialect: str | None = None, **options: Any) -> Any:
        return self._carto.get_df(sql, parameters, df_type="pandas", **options)

    def _get_polars_df(self, sql: str, parameters: Any = None, dialect: str | None = None, **options: Any) -> Any:
        return self._carto.get_df(sql, parameters, df_type="polars", **options)

    def get_uri(self) -> str:
        """Return the warehouse as `bigquery://project/dataset`, without any secret."""
        return self._carto.get_uri()

    def get_sqlalchemy_engine(self, engine_kwargs: dict[str, Any] | None = None) -> Engine:
        """Return a SQLAlchemy engine whose client outlives its tokens, like `CartoHook`."""
        return self._carto.get_sqlalchemy_engine(engine_kwargs)

    def test_connection(self) -> tuple[bool, str]:
        """Check the account stage by stage, like `CartoHook`."""
        return self._carto.test_connection()


class CartoBigQueryAsyncHook(BigQueryAsyncHook):  # type: ignore[misc]  # the google provider has no types here
    """Google's `BigQueryAsyncHook` on the CARTO Data Warehouse, for triggers.

    Args:
        carto_conn_id: The connection, of type `carto`.
        hook_params: Further arguments of `BigQueryAsyncHook`.
    """

    sync_hook_class = CartoBigQueryHook

    def __init__(self, carto_conn_id: str = CartoHook.default_conn_name, **hook_params: Any) -> None:
        super().__init__(**{**hook_params, "gcp_conn_id": hook_params.get("gcp_conn_id", carto_conn_id)})

    async def get_token(self, **options: Any) -> Any:
        """Return a token for gcloud-aio, without holding the event loop during CARTO's request."""
        hook = await self.get_sync_hook()
        await hook.auth.aget_carto_dw_credentials()
        return await super().get_token(**options)
