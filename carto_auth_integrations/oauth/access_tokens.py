"""The CARTO access tokens of an account, shared by everything in this process that uses the same credential."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from ..errors import InvalidField
from ..tokens.clock import SYSTEM
from ..tokens.registry import source_for
from ..tokens.stores import open_store
from ..tokens.token import Token, latest_expiry, lead_of

if TYPE_CHECKING:
    from ..account import CartoAccount
    from ..account.secret import Secret
    from ..tokens.token import Interactive
    from ..waiting import Deadline


class AccessTokens:
    """Returns and rejects the CARTO access tokens of an account. Pickles as its account, without token or secret.

    Args:
        account: Whose tokens.
        expiration: When the account's own `access_token` expires, in UTC epoch seconds; None if unknown.
        use_cache: Whether tokens are kept in the account's token store; otherwise in this process only.
        open_browser: Whether a browser may be opened to log a user in.

    Attributes:
        source: The tokens.
        settings: The arguments besides the account.
        variant: What tells these tokens from others of the same credential.
    """

    def __init__(
        self,
        account: CartoAccount,
        *,
        expiration: float | None = None,
        use_cache: bool = True,
        open_browser: bool = True,
    ) -> None:
        _check_expiration(expiration)
        self.account = account
        self.interactive: Interactive = True if open_browser else "paste"
        self.variant = (expiration,) if "access_token" in account.digests else ()
        self.settings = (expiration, use_cache, open_browser)
        self.source = source_for(
            account.fingerprint,
            f"CARTO access token of {account.owner}",
            partial(_obtain, account, expiration),
            open_store(account.token_store if use_cache else "memory:"),
            variant=self.variant,
            replace_grant=account.auth_mode == "oauth" or bool(account.client_secret or account.access_token),
        )
        if account.access_token:
            self.source.hold(_given_token(account.access_token, expiration, account.auth_mode))

    def get(self, *, interactive: Interactive = False, deadline: Deadline | None = None) -> Token:
        """Return a valid access token.

        Args:
            interactive: Whether a person may be asked to log in, and how.
            deadline: When the caller stops waiting.

        Raises:
            CredentialsError: If none can be obtained; its class says why.
            TimeoutError: If the deadline passed.
        """
        return self.source.get(interactive=interactive, deadline=deadline)

    def __reduce__(self) -> tuple[object, ...]:
        return _unpickle, (self.account, *self.settings)


def _unpickle(account: CartoAccount, expiration: float | None, use_cache: bool, open_browser: bool) -> AccessTokens:
    return AccessTokens(account, expiration=expiration, use_cache=use_cache, open_browser=open_browser)


def _obtain(account: CartoAccount, expiration: float | None, previous: Token, *, interactive: Interactive) -> Token:
    from .grants import grant_of  # a process that finds its token in the store needs no HTTP client

    return grant_of(account, expiration)(previous, interactive=interactive)


def _check_expiration(expiration: object) -> None:
    if expiration is None:
        return
    if not isinstance(expiration, (int, float)) or isinstance(expiration, bool):
        raise InvalidField(f"expiration must be a number, in UTC epoch seconds, not {type(expiration).__name__}.")
    if not expiration >= 0:
        raise InvalidField(f"expiration must be UTC epoch seconds, not {expiration}: leave it out if it is unknown.")


def _given_token(secret: Secret, expiration: float | None, mode: str) -> Token:
    """Return the token that the caller has given; one that can be replaced is refreshed before it expires."""
    if expiration is None:
        return Token(secret.reveal(), obtained_at=0.0)
    lead = 0.0 if mode == "token" else lead_of(max(expiration - SYSTEM.time(), 0.0))
    return Token(secret.reveal(), obtained_at=0.0, expires_at=latest_expiry(expiration), stale_at=expiration - lead)
