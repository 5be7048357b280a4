"""CartoAuth: the one object a user holds. Access tokens and a ready BigQuery client, for a pipeline of any length."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .account import CartoAccount
from .account.fields import hidden
from .bigquery.dw_tokens import DWTokens
from .errors import CredentialsError, InteractionRequired
from .oauth.access_tokens import AccessTokens

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping

    from google.cloud import bigquery
    from typing_extensions import Self

    from .account.secret import Secret
    from .bigquery.credentials import CartoDWCredentials
    from .checks import CheckResult
    from .tokens.token import Token
    from .warehouse import CartoWarehouse


class CartoAuth:
    """CARTO authentication: valid tokens for any number of threads, processes and hours.

    Nothing is requested before the first token is needed. All objects of one credential in a process share their
    tokens, and share them with other processes through the token store. It pickles as its account, without token or
    secret. Methods that need a token raise `CredentialsError` if none can be obtained; its class says why
    (`ClientRejected`, `InteractionRequired`, `ServiceUnavailable`, `UnexpectedResponse`).

    Example:
        ```python
        from carto_auth_integrations import CartoAuth

        auth = CartoAuth.from_m2m("credentials.json")
        token = auth.get_access_token()
        client = auth.get_carto_dw_client()
        ```

    Args:
        mode: `m2m` (client credentials), `oauth` (browser login) or `token` (an API access token).
        api_base_url: Base URL of the account's API, such as https://gcp-us-east1.api.carto.com.
        access_token: An existing token; it is used until its expiration.
        expiration: When that token expires, in UTC epoch seconds. Left out, it is used until a server rejects it.
        client_id: Client id of an M2M application provided by CARTO.
        client_secret: Client secret of that application.
        cache_filepath: File where tokens are kept. Default: `~/.carto-auth/tokens.json`.
        use_cache: Whether tokens are read from and written to that file. Otherwise they stay in this process.
        open_browser: Whether a browser may be opened to log a user in. On a worker it never is.
        org: Single sign-on organization of the login.
        fields: Further fields of the account: `auth_url`, `accounts_url`, `audience`, `token_store`, `location`,
            `default_dataset`, `bigquery_endpoint`, `maximum_bytes_billed`. Explicit values override the environment
            (`CARTO_` + the name in capitals), which overrides the defaults.

    Attributes:
        account: The checked account.
        access_tokens: Its CARTO access tokens with their times, for code that builds on this package.
        dw_tokens: The same for the CARTO Data Warehouse.

    Raises:
        AccountError: If a field is missing or malformed (a `CredentialsError`).
    """

    def __init__(
        self,
        mode: str,
        api_base_url: str | None = None,
        access_token: str | Secret | None = None,
        expiration: float | None = None,
        client_id: str | None = None,
        client_secret: str | Secret | None = None,
        cache_filepath: str | os.PathLike[str] | None = None,
        use_cache: bool = True,
        open_browser: bool = True,
        org: str | None = None,
        **fields: Any,
    ) -> None:
        fields = hidden(
            {
                **fields,
                "mode": mode,
                "api_base_url": api_base_url,
                "access_token": access_token,
                "client_id": client_id,
                "client_secret": client_secret,
                "cache_filepath": cache_filepath,
                "org": org,
            }
        )
        access_token = client_secret = cache_filepath = None  # a traceback shows its locals
        account = mode.account if isinstance(mode, _ModeOfAccount) else CartoAccount.resolve(fields)
        self.account = account
        self.access_tokens = AccessTokens(
            account, expiration=expiration, use_cache=use_cache, open_browser=open_browser
        )
        self.dw_tokens = DWTokens(self.access_tokens)
        self._source = self.access_tokens.source
        self._now = self._source.clock.time

    @classmethod
    def from_m2m(
        cls,
        filepath: str | os.PathLike[str],
        cache_filepath: str | os.PathLike[str] | None = None,
        use_cache: bool = True,
    ) -> Self:
        """Create a CartoAuth object from a CARTO credentials file.

        Args:
            filepath: Path of the credentials file: JSON with `api_base_url`, `client_id`, `client_secret`, and any
                other field of the account.
            cache_filepath: File where tokens are kept. Default: `~/.carto-auth/tokens.json`.
            use_cache: Whether tokens are read from and written to that file.

        Raises:
            AttributeError: If the file lacks one of the three attributes.
            ValueError: If one of them has no value, or the file is not a JSON object.
            FileNotFoundError: If there is no such file. All three are `AccountError` too.
        """
        account = CartoAccount.from_file(filepath, cache_filepath=cache_filepath)
        return cls.from_account(account, use_cache=use_cache)

    @classmethod
    def from_oauth(
        cls,
        cache_filepath: str | os.PathLike[str] | None = None,
        use_cache: bool = True,
        open_browser: bool = True,
        api_base_url: str | None = None,
        org: str | None = None,
    ) -> Self:
        """Create a CartoAuth object from a login with OAuth. The login takes place when a token is first needed.

        Args:
            cache_filepath: File where tokens are kept. Default: `~/.carto-auth/tokens.json`.
            use_cache: Whether tokens are read from and written to that file.
            open_browser: Whether a browser may be opened to log the user in.
            api_base_url: Base URL of the account's API. Left out, it is looked up after the login.
            org: Single sign-on organization of the login.
        """
        account = CartoAccount.resolve(
            {"mode": "oauth", "api_base_url": api_base_url, "org": org, "cache_filepath": cache_filepath}
        )
        return cls.from_account(account, use_cache=use_cache, open_browser=open_browser)

    @classmethod
    def from_env(cls) -> Self:
        """Create a CartoAuth object from the environment: `CARTO_API_BASE_URL`, `CARTO_CLIENT_ID` and so on.

        Raises:
            AccountError: If a variable is missing or malformed.
        """
        return cls.from_account(CartoAccount.from_env())

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> Self:
        """Create a CartoAuth object from a mapping of fields, such as a connection's or a block's.

        Args:
            mapping: Fields by name; None and the empty string count as left out.

        Raises:
            AccountError: If a field is unknown, missing or malformed.
        """
        mapping = hidden(mapping)
        return cls.from_account(CartoAccount.from_mapping(mapping))

    @classmethod
    def from_account(
        cls,
        account: CartoAccount,
        *,
        expiration: float | None = None,
        use_cache: bool = True,
        open_browser: bool = True,
    ) -> Self:
        """Create a CartoAuth object from a checked account.

        Args:
            account: Which account.
            expiration: When its `access_token` expires, in UTC epoch seconds.
            use_cache: Whether tokens are kept in the account's token store.
            open_browser: Whether a browser may be opened to log a user in.
        """
        mode = _ModeOfAccount(account.auth_mode)
        mode.account = account
        return cls(mode=mode, expiration=expiration, use_cache=use_cache, open_browser=open_browser)

    def get_access_token(self) -> str:
        """Return a valid CARTO access token."""
        token = self._source.token
        if self._now() < token.stale_at:  # FRESH: what nearly every call finds
            return token.reveal()
        return self._source.get(interactive=self.access_tokens.interactive).reveal()

    async def aget_access_token(self) -> str:
        """Return a valid CARTO access token, like `get_access_token`, without holding the event loop."""
        return (await self._source.aget()).reveal()

    def reject_access_token(self, access_token: str) -> None:
        """Note a server's 401 for exactly this token: the next call returns another. A newer one is left alone.

        Args:
            access_token: The token that was refused.
        """
        self._source.reject(access_token)

    def get_api_base_url(self) -> str | None:
        """Return the base URL of the account's API; after a login without one it is looked up."""
        if self.account.api_base_url or self.account.auth_mode != "oauth":
            return self.account.api_base_url
        from .oauth.grants import api_base_url_of

        return api_base_url_of(self.account, self._source.get(interactive=self.access_tokens.interactive))

    def get_carto_dw_credentials(self) -> tuple[str, str]:
        """Return the CARTO Data Warehouse credentials.

        Returns:
            The BigQuery project and a valid access token for it. The token lives for an hour at most: a client from
            `get_carto_dw_client` renews it, a string does not.
        """
        token = self.carto_dw_token()
        return token.details["project_id"], token.reveal()

    async def aget_carto_dw_credentials(self) -> tuple[str, str]:
        """Return project and token, like `get_carto_dw_credentials`, without holding the event loop."""
        token = await self.dw_tokens.source.aget()
        return token.details["project_id"], token.reveal()

    def get_carto_dw_client(self, **options: Any) -> bigquery.Client:
        """Return a BigQuery client for the CARTO Data Warehouse that outlives its tokens. Needs the extra `carto-dw`.

        Args:
            options: Further options of `google.cloud.bigquery.Client`, such as `location`.

        Raises:
            MissingDependency: If google-cloud-bigquery is not installed (an `ImportError`).
            CredentialsError: If CARTO returns no DW token; its class says why.
        """
        from .bigquery.client import make_client

        return make_client(self.dw_tokens, self.carto_dw_token().details["project_id"], options)

    async def aget_carto_dw_client(self, **options: Any) -> bigquery.Client:
        """Return a BigQuery client, like `get_carto_dw_client`, imported and created on a thread."""
        from asyncio import to_thread

        await self.dw_tokens.source.aget()
        return await to_thread(self.get_carto_dw_client, **options)

    def warehouse(self) -> CartoWarehouse:
        """Return the CARTO Data Warehouse: queries and loads that happen exactly once. Needs the extra `carto-dw`."""
        from .warehouse import CartoWarehouse

        return CartoWarehouse(self.dw_tokens)

    def google_credentials(self) -> CartoDWCredentials:
        """Return google-auth credentials for the CARTO Data Warehouse that renew themselves.

        For pandas-gbq, bigframes, gcsfs and any Google client that takes `credentials`. Needs the extra `carto-dw`.
        """
        from .bigquery.credentials import CartoDWCredentials

        return CartoDWCredentials(self.dw_tokens)

    def carto_dw_token(self, *, interactive: bool = True) -> Token:
        """Return the CARTO Data Warehouse token with its times and project, for code that builds on this package.

        Args:
            interactive: Whether a person may be asked to log in.

        Raises:
            CredentialsError: If CARTO returns none; its class says why.
        """
        return self.dw_tokens.get(interactive=interactive and self.access_tokens.interactive)

    def reject_carto_dw_token(self, token: Token) -> None:
        """Note BigQuery's 401 for exactly this token: the next call returns another."""
        self.dw_tokens.reject(token.reveal())

    def check(self, *, timeout: float = 30.0) -> Iterator[CheckResult]:
        """Check the account stage by stage: credentials, CARTO API, DW token, SELECT 1. Stop at the first failure.

        Args:
            timeout: Seconds for all stages together.

        Returns:
            A result per stage, as each ends. Nothing is raised: a result holds its error.
        """
        from .checks import run_checks

        return run_checks(self.dw_tokens, timeout=timeout)

    async def acheck(self, *, timeout: float = 30.0) -> list[CheckResult]:
        """Check the account, like `check`, without holding the event loop."""
        from asyncio import to_thread

        return await to_thread(lambda: list(self.check(timeout=timeout)))

    def login(self, *, port: int | None = None) -> None:
        """Log a user in now, in the browser or with a pasted code, whether or not a token is there.

        Args:
            port: The loopback port of the redirect; None for the one registered with CARTO, 0 for any.

        Raises:
            CredentialsError: If the mode is not `oauth`, or the login failed; its class says why.
        """
        if self.account.auth_mode != "oauth":
            raise CredentialsError(f"A login needs auth_mode oauth; this account's is {self.account.auth_mode}.")
        from .oauth.grants import UserLogin
        from .oauth.login import is_worker

        if is_worker():
            raise InteractionRequired("A task or flow run cannot log anyone in: run `carto-auth login` in a terminal.")
        token = UserLogin(self.account).login(open_browser=self.access_tokens.interactive is True, port=port)
        self.dw_tokens.source.forget()  # it may be another user's
        self._source.adopt(token)

    def logout(self) -> None:
        """Forget this credential's tokens here and in the token store. CARTO is not told: they expire."""
        self._source.forget()
        if self.account.api_base_url or self.account.auth_mode == "oauth":
            self.dw_tokens.source.forget()

    def __repr__(self) -> str:
        account = vars(self).get("account")  # a debugger may show an object that is being created
        if account is None:
            return "CartoAuth(…)"
        shown = {"mode": account.auth_mode, "api_base_url": account.api_base_url, "client_id": account.client_id}
        return f"CartoAuth({', '.join(f'{name}={value!r}' for name, value in shown.items())})"

    def __reduce__(self) -> tuple[object, ...]:
        return _unpickle, (type(self), self.account, *self.access_tokens.settings)


class _ModeOfAccount(str):
    """The mode of an account that has been checked already, with that account.

    `from_account` passes it as `mode`, so that the `__init__` of a subclass runs, whatever arguments it adds.
    """

    account: CartoAccount


def _unpickle(
    kind: type[CartoAuth], account: CartoAccount, expiration: float | None, use_cache: bool, open_browser: bool
) -> CartoAuth:
    return kind.from_account(account, expiration=expiration, use_cache=use_cache, open_browser=open_browser)
