"""The DW tokens of an account: what everything that works on BigQuery needs to know of authentication."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..account.account import sha256_of
from ..tokens.registry import source_for

if TYPE_CHECKING:
    from ..account import CartoAccount
    from ..oauth.access_tokens import AccessTokens
    from ..tokens.source import TokenSource
    from ..tokens.token import Interactive, Token
    from ..waiting import Deadline


class DWTokens:
    """Returns and rejects the tokens of the CARTO Data Warehouse. Pickles as its account, without token or secret.

    Args:
        access: The CARTO access tokens that are exchanged for them.
    """

    def __init__(self, access: AccessTokens) -> None:
        self.access = access
        self._source: TokenSource | None = None

    @property
    def account(self) -> CartoAccount:
        """Whose warehouse it is."""
        return self.access.account

    @property
    def source(self) -> TokenSource:
        """The tokens.

        Raises:
            MissingField: If the account has no `api_base_url`, and no login that finds it.
        """
        if self._source is None:
            account = self.account
            if account.auth_mode != "oauth" and account.api_base_url is None:
                account.require("api_base_url")
            self._source = source_for(
                sha256_of(f"carto-dw:{account.fingerprint}"),
                f"CARTO DW token of {account.owner}",
                self._exchange,
                self.access.source.store,
                variant=self.access.variant,
                replace_grant=False,
            )
        return self._source

    def get(self, *, interactive: Interactive = False, deadline: Deadline | None = None) -> Token:
        """Return a valid DW token; `details["project_id"]` is its BigQuery project.

        Args:
            interactive: Whether a person may be asked to log in, and how.
            deadline: When the caller stops waiting.

        Raises:
            CredentialsError: If CARTO returns none; its class says why.
            TimeoutError: If the deadline passed.
        """
        return self.source.get(interactive=interactive, deadline=deadline)

    def reject(self, access_token: str) -> None:
        """Note BigQuery's 401 for exactly this token: the next call returns another."""
        self.source.reject(access_token)

    def _exchange(self, previous: Token, *, interactive: Interactive) -> Token:
        from .exchange import DataWarehouseExchange  # a process that finds its token in the store needs no HTTP client

        return DataWarehouseExchange(self.access)(previous, interactive=interactive)

    def __reduce__(self) -> tuple[object, ...]:
        return DWTokens, (self.access,)

    def __repr__(self) -> str:
        return f"DWTokens({self.account!r})"
