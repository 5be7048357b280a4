"""CartoCredentials: a CARTO account as a Prefect block."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from prefect.blocks.abstract import CredentialsBlock
from pydantic import ConfigDict, Field, SecretStr, model_validator

from carto_auth_integrations.account.account import CartoAccount
from carto_auth_integrations.account.fields import FIELDS, suggestion
from carto_auth_integrations.account.secret import Secret
from carto_auth_integrations.auth import CartoAuth

from ._forms import DOCUMENTATION_URL, LOGO_URL, title_of, warn_of_unknown_fields, without_null

if TYPE_CHECKING:
    import os

    from google.cloud import bigquery
    from typing_extensions import Self

    from carto_auth_integrations.checks import CheckResult
    from carto_auth_integrations.warehouse import CartoWarehouse


def _field(name: str) -> Any:
    """Return a field with the core's description. All are optional, so that documents of any release can be loaded."""
    return Field(
        default=None,
        title=title_of(name),
        description=FIELDS[name].description,
        json_schema_extra=without_null,
    )


class CartoCredentials(CredentialsBlock):
    """A CARTO account: access tokens and BigQuery clients for the CARTO Data Warehouse.

    Empty fields come from the environment of the flow (`CARTO_` and the field's name in capitals), then from the
    default. Creating or loading a block makes no request; the first token does.

    A block can be pickled, for process pools and Dask, and works there as well. Its pickle holds no token, but the
    client secret, like that of every Prefect block: the other process has no other source for it. Where pickles are
    stored, pass the name of the block instead, and load it there.

    Example:
        Load stored credentials and query the CARTO Data Warehouse:
        ```python
        from prefect_blocks import CartoCredentials

        carto = CartoCredentials.load("BLOCK_NAME")
        client = carto.get_carto_dw_client()
        rows = client.query_and_wait("SELECT 1")
        ```
    """

    _block_type_name = "CARTO Credentials"
    _block_type_slug = "carto-credentials"
    _documentation_url = DOCUMENTATION_URL
    _logo_url = LOGO_URL
    # Taken from the docstring, Prefect's pages would show it with its line breaks.
    _description = (
        "A CARTO account: access tokens and BigQuery clients for the CARTO Data Warehouse. "
        "Empty fields come from the environment of the flow, then from the default."
    )

    # A ValidationError shows its whole input otherwise, the client secret included.
    model_config = ConfigDict(hide_input_in_errors=True)

    auth_mode: Literal["m2m", "oauth", "token"] | None = _field("auth_mode")
    api_base_url: str | None = _field("api_base_url")
    client_id: str | None = _field("client_id")
    client_secret: SecretStr | None = _field("client_secret")
    access_token: SecretStr | None = _field("access_token")
    auth_url: str | None = _field("auth_url")
    accounts_url: str | None = _field("accounts_url")
    audience: str | None = _field("audience")
    organization: str | None = _field("organization")
    token_store: SecretStr | None = _field("token_store")  # a redis:// URL holds a password
    location: str | None = _field("location")
    default_dataset: str | None = _field("default_dataset")
    bigquery_endpoint: str | None = _field("bigquery_endpoint")
    maximum_bytes_billed: int | None = _field("maximum_bytes_billed")

    @classmethod
    def __dispatch_key__(cls) -> str:
        """Return the name under which Prefect finds the class; Prefect builds the whole schema for the same name."""
        return cls.get_block_type_slug()

    @model_validator(mode="before")
    @classmethod
    def _warn_of_unknown_fields(cls, given: Any) -> Any:
        warn_of_unknown_fields("CartoCredentials", given, FIELDS, suggestion)
        return given

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> Self:
        """Return a block with the content of a CARTO credentials file: once it is saved, no flow needs the file.

        Args:
            path: Path of the file: JSON with `api_base_url`, `client_id`, `client_secret`, and any other field of the
                account. What it leaves out comes from the environment now, then from the default.

        Raises:
            AccountError: If the file does not exist (a `FileNotFoundError`) or is invalid (an `AttributeError` or
                `ValueError`); the message names file and field.
        """
        return cls._of(CartoAccount.from_file(path))

    @classmethod
    def from_env(cls) -> Self:
        """Return a block with the account of the environment: `CARTO_CLIENT_ID` and so on.

        Raises:
            AccountError: If a variable is missing or malformed.
        """
        return cls._of(CartoAccount.from_env())

    @classmethod
    def _of(cls, account: CartoAccount) -> Self:
        return cls(**{name: _block_value(name, getattr(account, name)) for name in FIELDS})

    def get_client(self) -> CartoAuth:
        """Return the account's `CartoAuth`. All objects of one account share their tokens, so this is cheap.

        Raises:
            AccountError: If a field is missing or malformed.
        """
        return CartoAuth.from_mapping({name: _core_value(name, getattr(self, name)) for name in FIELDS})

    def get_access_token(self) -> str:
        """Return a valid CARTO access token.

        Raises:
            CredentialsError: If none can be obtained; its class says why.
        """
        return self.get_client().get_access_token()

    def get_carto_dw_credentials(self) -> tuple[str, str]:
        """Return the BigQuery project of the CARTO Data Warehouse and a valid token for it.

        Raises:
            CredentialsError: If CARTO returns none; its class says why.
        """
        return self.get_client().get_carto_dw_credentials()

    def get_carto_dw_client(self, **options: Any) -> bigquery.Client:
        """Return a BigQuery client for the CARTO Data Warehouse that outlives its tokens.

        Args:
            options: Further options of `google.cloud.bigquery.Client`, such as `location`.

        Raises:
            CredentialsError: If CARTO returns no DW token; its class says why.
        """
        return self.get_client().get_carto_dw_client(**options)

    def get_carto_warehouse(self) -> CartoWarehouse:
        """Return the CARTO Data Warehouse: queries and loads that happen exactly once."""
        return self.get_client().warehouse()

    def check(self, *, timeout: float = 30.0) -> list[CheckResult]:
        """Check the account stage by stage: credentials, CARTO API, DW token, SELECT 1. Stop at the first failure.

        Args:
            timeout: Seconds for all stages together.

        Returns:
            A result per stage, which prints as a line. A stage that fails raises nothing: its result holds the error.

        Raises:
            AccountError: If a field is missing or malformed.
        """
        return list(self.get_client().check(timeout=timeout))

    async def acheck(self, *, timeout: float = 30.0) -> list[CheckResult]:
        """Check the account, like `check`, without holding the event loop."""
        return await self.get_client().acheck(timeout=timeout)

    async def aget_access_token(self) -> str:
        """Return a valid CARTO access token, like `get_access_token`, without holding the event loop."""
        return await self.get_client().aget_access_token()

    async def aget_carto_dw_credentials(self) -> tuple[str, str]:
        """Return project and token, like `get_carto_dw_credentials`, without holding the event loop."""
        return await self.get_client().aget_carto_dw_credentials()

    async def aget_carto_dw_client(self, **options: Any) -> bigquery.Client:
        """Return a BigQuery client, like `get_carto_dw_client`, without holding the event loop."""
        return await self.get_client().aget_carto_dw_client(**options)


def _core_value(name: str, value: Any) -> Any:
    """Return the value of a field for the core; a secret as the core's `Secret`."""
    if not isinstance(value, SecretStr):
        return value
    text = value.get_secret_value()
    return Secret(text) if FIELDS[name].kind == "secret" and text else text


def _block_value(name: str, value: Any) -> Any:
    """Return the core's value of a field for a block; a secret as a `SecretStr`."""
    text = value.reveal() if isinstance(value, Secret) else value
    return SecretStr(text) if text and FIELDS[name].kind in ("secret", "store") else text
