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
    from typing import Any

    from ..auth import CartoAuth

HTTP_METHODS = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})
"""What google-auth calls `before_request` with for REST; for gRPC it names the remote procedure."""

LAST_MOMENT = datetime(9999, 12, 31, tzinfo=timezone.utc).timestamp()
"""The last day that a calendar of Python knows; a server may name a later one."""


class CartoDWCredentials(CredentialsWithQuotaProject, ReadOnlyScoped):
    """Credentials whose token comes from the account's shared `TokenSource`: renewed before its end and after a 401.

    Hand them to any Google client, pandas-gbq or bigframes. They pickle as their `CartoAuth`, without a token.

    Args:
        auth: Whose warehouse.
        quota_project_id: The project to bill, if it is not the warehouse's own.
    """

    def __init__(self, auth: CartoAuth, quota_project_id: str | None = None) -> None:
        self._token = NO_TOKEN
        self._of_thread = threading.local()
        super().__init__()  # type: ignore[no-untyped-call]  # google-auth is typed in places
        self.expiry = _naive_utc(0.0)  # never None: gRPC would take that for a token without end
        self._auth = auth
        self._quota_project_id = quota_project_id

    @property
    def token(self) -> str | None:
        """The DW token last used; None before the first request."""
        return self._token.reveal() or None

    @token.setter
    def token(self, value: object) -> None:
        """Ignore what the base class sets: the token comes from the source alone."""

    @property
    def requires_scopes(self) -> bool:
        """CARTO decides the scopes."""
        return False

    def before_request(self, request: object, method: str, url: str, headers: MutableMapping[str, str]) -> None:
        """Put the current token on a request.

        Raises:
            google.auth.exceptions.TransportError: If CARTO cannot be reached just now; Google's clients try again.
            google.auth.exceptions.RefreshError: If there is no token to be had.
        """
        try:
            token = self._take()
        except RefreshError:
            if method in HTTP_METHODS:
                raise
            token = self._token  # gRPC would try for minutes what cannot succeed: let the server refuse the old token
        self._of_thread.sent = token
        self.apply(headers, token.reveal() or "none")  # type: ignore[no-untyped-call]  # the same
        headers["authorization"] = _Header(headers["authorization"])

    def refresh(self, request: object) -> None:
        """Take note of a 401 for the token that this thread has just sent, and get another.

        google-auth calls this after a 401. Where nothing has been sent, it gives the current token.

        Raises:
            google.auth.exceptions.TransportError: If CARTO cannot be reached just now; Google's clients try again.
            google.auth.exceptions.RefreshError: If there is no token to be had.
        """
        sent: Token | None = getattr(self._of_thread, "sent", None)
        if sent:
            self._of_thread.sent = None
            self._auth.reject_carto_dw_token(sent)
        self._take()

    def with_quota_project(self, quota_project_id: str | None) -> CartoDWCredentials:
        """Give the same credentials, billed to another project."""
        return CartoDWCredentials(self._auth, quota_project_id)

    def _take(self) -> Token:
        try:
            token = self._auth.carto_dw_token(interactive=False)
        except ServiceUnavailable as error:
            raise TransportError(str(error)) from error
        except CredentialsError as error:
            raise RefreshError(str(error)) from error
        if token is not self._token:
            self._token, self.expiry = token, _naive_utc(token.expires_at)
        return token

    def __reduce__(self) -> tuple[Any, ...]:
        return CartoDWCredentials, (self._auth, self._quota_project_id)

    def __repr__(self) -> str:
        return f"CartoDWCredentials({self._auth!r})"


class _Header(str):
    """The header of a request that goes out whole and shows itself nowhere else.

    Google's errors carry their response, that its request, and that its headers: wherever such an error is pickled, as
    Prefect's stored results and process pools do, or shown with its locals, the token would lie open.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return repr(f"Bearer {REDACTED}")

    def __copy__(self) -> _Header:
        return self

    def __deepcopy__(self, memo: object) -> _Header:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return str, (f"Bearer {REDACTED}",)


def _naive_utc(moment: float) -> datetime:
    """Give UTC epoch seconds as google-auth wants them: a datetime in UTC without its zone."""
    return datetime.fromtimestamp(min(moment, LAST_MOMENT), timezone.utc).replace(tzinfo=None)
