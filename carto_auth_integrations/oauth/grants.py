"""How a CARTO access token is obtained: client credentials, a login, a refresh token, or one that is there."""

from __future__ import annotations

import json
import re
import time

from .. import http
from ..account.fields import check_url, is_loopback
from ..errors import ClientRejected, CredentialsError, InteractionRequired, InvalidField, UnexpectedResponse
from ..tokens.token import Token

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from ..account.account import CartoAccount
    from ..account.secret import Secret
    from ..tokens.token import Interactive
    from .login import Authorization

REFUSALS = frozenset(
    ("access_denied", "consent_required", "invalid_client", "invalid_grant", "login_required", "unauthorized_client")
)
"""Error codes of OAuth and Auth0 that mean: not this client, not this user, not this code."""
OAUTH_ERRORS = REFUSALS | frozenset(
    (
        "expired_token",
        "interaction_required",
        "invalid_request",
        "invalid_scope",
        "invalid_target",
        "server_error",
        "temporarily_unavailable",
        "too_many_requests",
        "unsupported_grant_type",
    )
)
"""Error codes that a message may repeat; any other text of a server stays out of messages."""


class ClientCredentials:
    """The M2M grant: the account's client id and secret for a token.

    Args:
        account: Whose token.
    """

    def __init__(self, account: CartoAccount) -> None:
        self._account = account

    def __call__(self, previous: Token, *, interactive: Interactive) -> Token:
        """Ask for a token; the previous one plays no part, and no person is asked."""
        account = self._account
        form = {
            "grant_type": "client_credentials",
            "client_id": account.require("client_id"),
            "client_secret": account.require("client_secret"),
            "audience": account.audience,
        }
        return _ask_for_token(account, form, check="client_id, client_secret and audience")


class UserLogin:
    """The OAuth grant: a refresh token where there is one, else a login in the browser where there is a person.

    Args:
        account: Whose token.
    """

    def __init__(self, account: CartoAccount) -> None:
        self._account = account

    def __call__(self, previous: Token, *, interactive: Interactive) -> Token:
        """Ask for a token.

        Raises:
            InteractionRequired: If only a login helps and nobody is there to log in.
        """
        if previous.refresh_token:
            try:
                return self._refresh(previous, previous.refresh_token)
            except ClientRejected:  # the login has ended on the server: a new one is needed
                pass
        from .login import is_person_there

        if not interactive or not is_person_there():
            raise InteractionRequired(
                f"A login to CARTO at {self._account.auth_url} is needed, and nobody is here to log in: run "
                "`carto-auth login` in a terminal on this machine, or use client credentials (CartoAuth.from_m2m)."
            )
        return self.login(open_browser=interactive != "paste")

    def login(self, *, open_browser: bool = True, port: int | None = None) -> Token:
        """Log a person in now. What goes wrong is that person's to see, and nobody else's.

        Args:
            open_browser: Whether a browser may be opened; otherwise the person pastes a code.
            port: The loopback port the browser comes back to; None for the one registered with CARTO.

        Raises:
            ClientRejected: If the login was refused.
            InteractionRequired: If nobody finished it in time.
        """
        from .login import CALLBACK_PORT, authorize

        port = CALLBACK_PORT if port is None else port
        try:
            return self._exchange(authorize(self._account, open_browser=open_browser, port=port))
        except CredentialsError as error:
            error.remembered = False
            raise

    def _exchange(self, authorization: Authorization) -> Token:
        account = self._account
        form = {
            "grant_type": "authorization_code",
            "client_id": account.require("client_id"),
            "audience": account.audience,
            "code": authorization.code,
            "redirect_uri": authorization.redirect_uri,
            "code_verifier": authorization.verifier,
        }
        token = _ask_for_token(account, form, check="the login; codes work once, and for minutes")
        if account.api_base_url is None:
            try:
                token.details["api_base_url"] = find_api_base_url(account, token)
            except CredentialsError as error:  # the login stands; whoever needs the URL looks it up again
                _log().warning("%s", error)
        return token

    def _refresh(self, previous: Token, refresh_token: Secret) -> Token:
        account = self._account
        form = {
            "grant_type": "refresh_token",
            "client_id": account.require("client_id"),
            "refresh_token": refresh_token,
        }
        token = _ask_for_token(account, form, check="the login; it may have ended")
        token.refresh_token = token.refresh_token or refresh_token  # a server that does not rotate sends none
        token.details.update(previous.details)
        return token


class StaticToken:
    """No grant at all: a token that exists already, such as an API access token.

    Args:
        account: Whose token.
        expires_at: When it ends, UTC epoch seconds; None if it does not.
    """

    def __init__(self, account: CartoAccount, expires_at: float | None = None) -> None:
        self._account = account
        self._expires_at = float("inf") if expires_at is None else expires_at

    def __call__(self, previous: Token, *, interactive: Interactive) -> Token:
        """Give the token.

        Raises:
            ClientRejected: If it has ended.
        """
        if time.time() >= self._expires_at:
            raise ClientRejected("The access token has expired: make a new API access token in the CARTO workspace.")
        value = self._account.require("access_token").reveal()
        return Token(value, obtained_at=0.0, expires_at=self._expires_at)


def find_api_base_url(account: CartoAccount, token: Token) -> str:
    """Look up where the API of a logged-in user lives: the accounts service names the tenant, its config the API.

    Source: what CARTO's own Python library asks, `{accounts_url}/accounts` and `https://{tenant}/config.yaml`.

    Raises:
        ClientRejected: If the user has no CARTO account here.
        UnexpectedResponse: If an answer has another shape.
    """
    purpose = "API base URL of the user"
    url = f"{account.accounts_url}/accounts"
    reply = http.call("GET", url, purpose=purpose, bearer=token)
    if reply.status in (401, 403) or reply.text("error"):
        raise ClientRejected(
            f"{purpose}: {url} refused ({reply.status}). Give api_base_url, or check accounts_url and the user.",
            status=reply.status,
        )
    config_url = _config_url_of(reply.text("tenant_domain"))
    if reply.status != 200 or config_url is None:
        raise unexpected(reply, purpose, url, "It names no tenant_domain: give api_base_url, or check accounts_url.")
    url = config_url
    reply = http.call("GET", url, purpose=purpose)
    base = _checked_url(_base_url_in(reply) or "")
    if reply.status != 200 or base is None:
        raise unexpected(reply, purpose, url, "It has no apis.baseUrl with https: give api_base_url.")
    return base


def api_base_url_of(account: CartoAccount, token: Token) -> str:
    """Give the API's base URL: the account's, the one that the login found, or a logged-in user's, looked up now.

    Raises:
        CredentialsError: If it is not known and cannot be looked up.
    """
    known = account.api_base_url or token.details.get("api_base_url")
    if known:
        return known
    if account.auth_mode == "oauth":
        return token.details.setdefault("api_base_url", find_api_base_url(account, token))
    required: str = account.require("api_base_url")
    return required


def unexpected(reply: http.Reply, purpose: str, url: str, advice: str) -> CredentialsError:
    """Make the error for an answer of another shape: status and type, never the body."""
    return UnexpectedResponse(
        f"{purpose}: {url} answered {reply.status} ({reply.content_type}), not as documented. {advice}",
        status=reply.status,
    )


def _config_url_of(tenant: str | None) -> str | None:
    if tenant is None:
        return None
    return _checked_url(f"{'http' if is_loopback(tenant) else 'https'}://{tenant}/config.yaml")


def _checked_url(url: str) -> str | None:
    """Give a URL that a server named, if credentials may go there."""
    try:
        return check_url("url", url, "an answer")
    except InvalidField:
        return None


def _log() -> Any:
    from logging import getLogger

    return getLogger(__name__)


def _ask_for_token(account: CartoAccount, form: Mapping[str, str | Secret], *, check: str) -> Token:
    purpose, url = f"CARTO access token of {account.client_id}", f"{account.auth_url}/oauth/token"
    started = time.time()
    reply = http.call("POST", url, purpose=purpose, form=form)
    code = _oauth_error_in(reply)
    if reply.status in (401, 403) or (reply.status == 400 and code in REFUSALS):
        said = f"{reply.status} {code}".strip()
        raise ClientRejected(f"{purpose}: {url} refused ({said}). Check {check}.", status=reply.status)
    secret, lifetime = reply.secret("access_token"), reply.number("expires_in")
    if reply.status != 200 or secret is None or lifetime is None or lifetime <= 0:
        raise unexpected(reply, purpose, url, "Check auth_url.")
    return Token.minted(secret, started_at=started, lifetime=lifetime, refresh_token=reply.secret("refresh_token"))


def _oauth_error_in(reply: http.Reply) -> str:
    """Give the error code of an answer if it is a known one; anything else could be what we sent."""
    code = reply.text("error")
    return code if code is not None and code in OAUTH_ERRORS else ""


def _base_url_in(reply: http.Reply) -> str | None:
    """Find `apis.baseUrl` in a configuration: block YAML as CARTO writes it, or JSON."""
    lines = reply.lines()
    try:
        base = json.loads("\n".join(lines))["apis"]["baseUrl"]
        return base if isinstance(base, str) else None
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    inside = False
    for line in lines:
        if re.match(r"\S", line) and not line.startswith("#"):
            inside = bool(re.match(r"""["']?apis["']?\s*:\s*(#.*)?$""", line))
        found = inside and re.match(r"""\s+["']?baseUrl["']?\s*:\s*["']?([^"'\s#]+)""", line)
        if found:
            return found[1]
    return None
