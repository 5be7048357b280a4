"""CartoAuth: the one object a user holds. Access tokens and a ready BigQuery client, from a pipeline of any length."""

from __future__ import annotations

import time

from .account.account import CartoAccount, sha256_of
from .account.fields import hidden
from .errors import CredentialsError, InteractionRequired, InvalidField
from .oauth.grants import ClientCredentials, StaticToken, UserLogin, api_base_url_of
from .tokens.registry import source_for
from .tokens.stores import open_store
from .tokens.token import Token, lead_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping
    from typing import Any

    from google.cloud import bigquery

    from .account.secret import Secret
    from .checks import CheckResult
    from .tokens.source import Grant, TokenSource
    from .tokens.token import Interactive
    from .warehouse import CartoWarehouse


class CartoAuth:
    """CARTO authentication: gives tokens that are valid, whatever the number of threads, processes and hours.

    Nothing is requested before a token is asked for. All objects of one credential in a process share their tokens,
    and through the token store with the other processes. Pickles as its account, without token or secret.

    Args:
        mode: `m2m` (client credentials), `oauth` (browser login) or `token` (an API access token).
        api_base_url: Base URL of the account's API, such as https://gcp-us-east1.api.carto.com.
        access_token: A token that exists already; it is used until its expiration.
        expiration: When that token ends, in UTC epoch seconds. Left out, it is used until a server rejects it.
        client_id: Client id of an M2M application provided by CARTO.
        client_secret: Client secret of that application.
        cache_filepath: File where tokens rest. Default: token_m2m.json, token_oauth.json or token.json (by mode) in
            `~/.carto-auth/`.
        use_cache: Whether tokens are read from and written to that file. If not, they stay in this process.
        open_browser: Whether a browser may be opened to log a user in. It never is on a worker.
        org: Single sign-on organization of the login.
        fields: Further fields of the account: `auth_url`, `accounts_url`, `audience`, `token_store`, `location`,
            `default_dataset`, `bigquery_endpoint`. What is left out comes from the environment (`CARTO_` + the name in
            capitals), then from the default.

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
        access_token = client_secret = cache_filepath = None  # hidden now: an error's locals show none of them
        account = CartoAccount.resolve(fields)
        self._set_up(account, expiration=expiration, use_cache=use_cache, open_browser=open_browser)

    @classmethod
    def from_m2m(
        cls,
        filepath: str | os.PathLike[str],
        cache_filepath: str | os.PathLike[str] | None = None,
        use_cache: bool = True,
    ) -> CartoAuth:
        """Create a CartoAuth object from a CARTO credentials file.

        Args:
            filepath: Path of the credentials file: JSON with `api_base_url`, `client_id`, `client_secret`, and any
                other field of the account.
            cache_filepath: File where tokens rest. Default: `~/.carto-auth/token_m2m.json`.
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
    ) -> CartoAuth:
        """Create a CartoAuth object from a login with OAuth; the login takes place when a token is first needed.

        Args:
            cache_filepath: File where tokens rest. Default: `~/.carto-auth/token_oauth.json`.
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
    def from_env(cls) -> CartoAuth:
        """Create a CartoAuth object from the environment: `CARTO_API_BASE_URL`, `CARTO_CLIENT_ID` and so on.

        Raises:
            AccountError: If a variable is missing or malformed.
        """
        return cls.from_account(CartoAccount.from_env())

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> CartoAuth:
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
    ) -> CartoAuth:
        """Create a CartoAuth object from a checked account.

        Args:
            account: Which account.
            expiration: When its `access_token` ends, in UTC epoch seconds.
            use_cache: Whether tokens rest in the account's token store.
            open_browser: Whether a browser may be opened to log a user in.
        """
        auth = cls.__new__(cls)
        auth._set_up(account, expiration=expiration, use_cache=use_cache, open_browser=open_browser)
        return auth

    def _set_up(self, account: CartoAccount, *, expiration: float | None, use_cache: bool, open_browser: bool) -> None:
        _check_expiration(expiration)
        self.account = account
        self._settings = {"expiration": expiration, "use_cache": use_cache, "open_browser": open_browser}
        self._store = open_store(account.token_store if use_cache else "memory:", account.auth_mode)
        self._interactive: Interactive = True if open_browser else "paste"
        self._variant = (expiration,) if "access_token" in account.digests else ()
        self._source = source_for(
            account.fingerprint,
            f"CARTO access token of {account.client_id or 'an API user'}",
            _grant_of(account, expiration),
            self._store,
            variant=self._variant,
            replace_grant=account.auth_mode == "oauth" or bool(account.client_secret or account.access_token),
        )
        if account.access_token:
            self._source.hold(_given_token(account.access_token, expiration, account.auth_mode))
        self._warehouse: TokenSource | None = None

    def get_access_token(self) -> str:
        """Give a valid CARTO access token.

        Raises:
            CredentialsError: If there is none to be had; the kind says why (`ClientRejected`, `InteractionRequired`,
                `ServiceUnavailable`, `UnexpectedResponse`).
        """
        token = self._source.token
        if time.time() < token.stale_at:
            return token._value
        return self._source.get(interactive=self._interactive).reveal()

    async def aget_access_token(self) -> str:
        """Give a valid CARTO access token, like `get_access_token`, without holding the event loop."""
        return (await self._source.aget()).reveal()

    def reject_access_token(self, access_token: str) -> None:
        """Say that a server answered 401 to exactly this token: the next call gets another. A newer one is left alone.

        Args:
            access_token: The token that was refused.
        """
        self._source.reject(access_token)

    def get_api_base_url(self) -> str | None:
        """Give the base URL of the account's API; after a login without one it is looked up.

        Raises:
            CredentialsError: If it has to be looked up and cannot be.
        """
        if self.account.api_base_url or self.account.auth_mode != "oauth":
            return self.account.api_base_url
        return api_base_url_of(self.account, self._source.get(interactive=self._interactive))

    def get_carto_dw_credentials(self) -> tuple[str, str]:
        """Get the CARTO Data Warehouse credentials.

        Returns:
            The BigQuery project and a valid access token for it. The token lives for an hour at most: a client from
            `get_carto_dw_client` renews it, a string does not.

        Raises:
            CredentialsError: If the API base URL is not known, or CARTO gives no DW token; the kind says why.
        """
        token = self.carto_dw_token()
        return token.details["project_id"], token.reveal()

    async def aget_carto_dw_credentials(self) -> tuple[str, str]:
        """Get the CARTO Data Warehouse credentials, like `get_carto_dw_credentials`, without holding the event loop."""
        token = await self._warehouse_source().aget()
        return token.details["project_id"], token.reveal()

    def get_carto_dw_client(self, **options: Any) -> bigquery.Client:
        """Get a BigQuery client for the CARTO Data Warehouse that outlives its tokens. Needs the extra `carto-dw`.

        Args:
            options: Further options of `google.cloud.bigquery.Client`, such as `location`.

        Raises:
            MissingDependency: If google-cloud-bigquery is not installed (an `ImportError`).
            CredentialsError: If CARTO gives no DW token; the kind says why.
        """
        from .bigquery.client import make_client

        return make_client(self, self.carto_dw_token().details["project_id"], options)

    async def aget_carto_dw_client(self, **options: Any) -> bigquery.Client:
        """Get a BigQuery client, like `get_carto_dw_client`; it is imported and made on a thread of its own."""
        from asyncio import to_thread

        await self._warehouse_source().aget()
        return await to_thread(self.get_carto_dw_client, **options)

    def warehouse(self) -> CartoWarehouse:
        """Get the CARTO Data Warehouse as queries and loads that happen exactly once. Needs the extra `carto-dw`."""
        from .warehouse import CartoWarehouse

        return CartoWarehouse(self)

    def carto_dw_token(self, *, interactive: bool = True) -> Token:
        """Give the CARTO Data Warehouse token with its times and project, for code that builds on this package.

        Args:
            interactive: Whether a person may be asked to log in, if it comes to that.

        Raises:
            CredentialsError: If CARTO gives none; the kind says why.
        """
        return self._warehouse_source().get(interactive=interactive and self._interactive)

    def reject_carto_dw_token(self, token: Token) -> None:
        """Say that BigQuery answered 401 to exactly this token: the next call gets another."""
        from .bigquery.exchange import DataWarehouseExchange

        source = self._warehouse_source()
        if source.token is token and isinstance(source.grant, DataWarehouseExchange):
            source.grant.learn_from_rejection(token)
        source.reject(token.reveal())

    def check(self, *, timeout: float = 30.0) -> Iterator[CheckResult]:
        """Check the account stage by stage: credentials, CARTO API, DW token, SELECT 1; stop after the first failure.

        Args:
            timeout: Seconds for all stages together.

        Returns:
            A result per stage, as each ends. Nothing is raised: a result carries its error.
        """
        from .checks import run_checks

        return run_checks(self, timeout=timeout)

    async def acheck(self, *, timeout: float = 30.0) -> list[CheckResult]:
        """Check the account, like `check`, without holding the event loop."""
        from asyncio import to_thread

        return await to_thread(lambda: list(self.check(timeout=timeout)))

    def login(self, *, port: int | None = None) -> None:
        """Log a user in now, in the browser or with a pasted code, whether or not a token is there.

        Args:
            port: The loopback port the browser comes back to; None for the one registered with CARTO, 0 for any.

        Raises:
            CredentialsError: If the mode is not `oauth`, or the login failed; the kind says why.
        """
        if not isinstance(self._source.grant, UserLogin):
            raise CredentialsError(f"A login belongs to auth_mode oauth; this account's is {self.account.auth_mode}.")
        from .oauth.login import is_worker

        if is_worker():
            raise InteractionRequired("A task or flow run cannot log anyone in: run `carto-auth login` in a terminal.")
        token = self._source.grant.login(open_browser=self._interactive is True, port=port)
        self._warehouse_source().forget()  # it may be another user's
        self._source.adopt(token)

    def logout(self) -> None:
        """Forget this credential's tokens here and in the token store. CARTO is not told: they run out."""
        self._source.forget()
        if self.account.api_base_url or self.account.auth_mode == "oauth":
            self._warehouse_source().forget()

    def _warehouse_source(self) -> TokenSource:
        if self._warehouse is None:
            account = self.account
            if account.auth_mode != "oauth" and account.api_base_url is None:
                account.require("api_base_url")
            from .bigquery.exchange import DataWarehouseExchange

            self._warehouse = source_for(
                sha256_of(f"carto-dw:{account.fingerprint}"),
                f"CARTO DW token of {account.client_id or 'an API user'}",
                DataWarehouseExchange(account, self._source),
                self._store,
                variant=self._variant,
                replace_grant=False,
            )
        return self._warehouse

    def __repr__(self) -> str:
        account = vars(self).get("account")  # a debugger may ask while the object is being made
        if account is None:
            return "CartoAuth(…)"
        shown = {"mode": account.auth_mode, "api_base_url": account.api_base_url, "client_id": account.client_id}
        return f"CartoAuth({', '.join(f'{name}={value!r}' for name, value in shown.items())})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickle, (type(self), self.account, self._settings)


def _unpickle(kind: type[CartoAuth], account: CartoAccount, settings: dict[str, Any]) -> CartoAuth:
    return kind.from_account(account, **settings)


def _check_expiration(expiration: object) -> None:
    if expiration is None:
        return
    if not isinstance(expiration, (int, float)) or isinstance(expiration, bool):
        raise InvalidField(f"expiration must be a number, in UTC epoch seconds, not {type(expiration).__name__}.")
    if not expiration >= 0:
        raise InvalidField(f"expiration must be UTC epoch seconds, not {expiration}: leave it out if it is not known.")


def _given_token(secret: Secret, expiration: float | None, mode: str) -> Token:
    """Give the token that the caller brought; one that can be replaced is replaced before its end."""
    if expiration is None:
        return Token(secret.reveal(), obtained_at=0.0)
    lead = 0.0 if mode == "token" else lead_of(max(expiration - time.time(), 0.0))
    return Token(secret.reveal(), obtained_at=0.0, expires_at=expiration, stale_at=expiration - lead)


def _grant_of(account: CartoAccount, expiration: float | None) -> Grant:
    if account.auth_mode == "token":
        return StaticToken(account, expiration)
    if account.auth_mode == "oauth":
        return UserLogin(account)
    return ClientCredentials(account)
