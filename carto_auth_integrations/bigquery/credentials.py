"""google-auth credentials for the CARTO Data Warehouse that renew themselves."""

from __future__ import annotations

import threading
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from google.auth.credentials import CredentialsWithQuotaProject, ReadOnlyScoped
from google.auth.exceptions import RefreshError, TransportError

from ..account.secret import REDACTED
from ..errors import CredentialsError, ServiceUnavailable
from ..tokens.token import NO_TOKEN, Token

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from .dw_tokens import DWTokens

HTTP_METHODS = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})
"""What google-auth passes to `before_request` for REST; for gRPC it is the name of the remote procedure."""

LAST_MOMENT = datetime(9999, 12, 31, tzinfo=timezone.utc).timestamp()
"""The last day of Python's calendar; a server may name a later one."""


class CartoDWCredentials(CredentialsWithQuotaProject, ReadOnlyScoped):
    """Credentials with the account's shared DW token: renewed before it expires, and after a 401.

    For any Google client, pandas-gbq or bigframes. They pickle as their account, without a token.

    Args:
        tokens: The DW tokens.
        quota_project_id: The project to bill, if it is not the warehouse's own.
    """

    def __init__(self, tokens: DWTokens, quota_project_id: str | None = None) -> None:
        self._token = NO_TOKEN
        self._of_thread = threading.local()
        super().__init__()  # type: ignore[no-untyped-call]  # google-auth has annotations in places
        self.expiry = _naive_utc(0.0)  # never None: gRPC would take that for a token that never expires
        self._tokens = tokens
        self._quota_project_id = quota_project_id

    @property
    def token(self) -> str | None:
        """The DW token last used; None before the first request."""
        return self._token.reveal() or None

    @token.setter
    def token(self, value: object) -> None:
        """Ignore what the base class sets: the token comes from the shared source."""

    @property
    def requires_scopes(self) -> bool:
        """False: CARTO decides the scopes."""
        return False

    def before_request(self, request: object, method: str, url: str, headers: MutableMapping[str, str]) -> None:
        """Put the current token on a request.

        Raises:
            google.auth.exceptions.TransportError: If CARTO cannot be reached just now; Google's clients try again.
            google.auth.exceptions.RefreshError: If no token can be obtained.
        """
        try:
            token = self._current()
        except RefreshError:
            if method in HTTP_METHODS:
                raise
            token = self._token  # gRPC would repeat this for minutes: let the server refuse the old token
        self._of_thread.sent = token
        self.apply(headers, token.reveal() or "none")  # type: ignore[no-untyped-call]  # the same
        headers["authorization"] = _Header(headers["authorization"])

    def refresh(self, request: object) -> None:
        """Note a 401 for the token that this thread has just sent, and obtain another.

        google-auth calls this after a 401. If this thread has sent nothing, the current token is kept.

        Raises:
            google.auth.exceptions.TransportError: If CARTO cannot be reached just now; Google's clients try again.
            google.auth.exceptions.RefreshError: If no token can be obtained.
        """
        sent: Token | None = getattr(self._of_thread, "sent", None)
        if sent:
            self._of_thread.sent = None
            self._tokens.reject(sent.reveal())
        self._current()

    def with_quota_project(self, quota_project_id: str | None) -> CartoDWCredentials:
        """Return the same credentials, billed to another project."""
        return CartoDWCredentials(self._tokens, quota_project_id)

    def _current(self) -> Token:
        try:
            token = self._tokens.get()
        except ServiceUnavailable as error:
            raise TransportError(str(error)) from error
        except CredentialsError as error:
            raise RefreshError(str(error)) from error
        if token is not self._token:
            self._token, self.expiry = token, _naive_utc(token.expires_at)
        return token

    def __reduce__(self) -> tuple[object, ...]:
        return CartoDWCredentials, (self._tokens, self._quota_project_id)

    def __repr__(self) -> str:
        return f"CartoDWCredentials({self._tokens!r})"


class _Header(str):
    """A header that is sent whole and redacted everywhere else.

    Google's errors hold their response, that its request, and that its headers: the token would show wherever such an
    error is pickled, as in Prefect's stored results and process pools, or shown with its locals.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return repr(f"Bearer {REDACTED}")

    def __copy__(self) -> _Header:
        return self

    def __deepcopy__(self, memo: object) -> _Header:
        return self

    def __reduce__(self) -> tuple[object, ...]:
        return str, (f"Bearer {REDACTED}",)


def _naive_utc(moment: float) -> datetime:
    """Return UTC epoch seconds as google-auth wants them: a datetime in UTC without its zone."""
    return datetime.fromtimestamp(min(moment, LAST_MOMENT), timezone.utc).replace(tzinfo=None)
