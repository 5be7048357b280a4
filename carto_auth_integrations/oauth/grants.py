"""How a CARTO access token is obtained: client credentials, a login, a refresh token, or a given token."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from logging import getLogger
from typing import TYPE_CHECKING, Any

from .. import http
from ..account import CartoAccount
from ..account.fields import check_url, is_loopback
from ..account.secret import Secret
from ..errors import (
    OAUTH_ERRORS,
    OAUTH_REFUSALS,
    ClientRejected,
    CredentialsError,
    InteractionRequired,
    InvalidField,
    Scope,
    UnexpectedResponse,
)
from ..tokens.clock import SYSTEM
from ..tokens.token import FOREVER, Token, latest_expiry
from . import login
from .login import Authorization

if TYPE_CHECKING:
    from ..tokens.source import Grant
    from ..tokens.token import Interactive

logger = getLogger(__name__)


def grant_of(account: CartoAccount, expiration: float | None = None) -> Grant:
    """Return how the tokens of an account are obtained. A given token expires at `expiration`, UTC epoch seconds."""
    if account.auth_mode == "token":
        return StaticToken(account, expiration)
    return UserLogin(account) if account.auth_mode == "oauth" else ClientCredentials(account)


@dataclass(frozen=True)
class ClientCredentials:
    """The client credentials grant: exchanges the account's client id and secret for a token."""

    account: CartoAccount

    def __call__(self, previous: Token, *, interactive: Interactive) -> Token:
        """Request a token. The previous one is not used, and no person is asked."""
        account, check = self.account, "client_id, client_secret and audience"
        client = {name: account.require(name) for name in ("client_id", "client_secret")}
        return _request_token(
            account, check=check, grant_type="client_credentials", audience=account.audience, **client
        )


@dataclass(frozen=True)
class UserLogin:
    """The OAuth grant: uses the refresh token if there is one, else has a person log in, if one can be asked."""

    account: CartoAccount

    def __call__(self, previous: Token, *, interactive: Interactive) -> Token:
        """Request a token. `InteractionRequired` is raised if only a login helps, and no person can be asked."""
        if previous.refresh_token:
            with suppress(ClientRejected):  # the login has ended on the server: a new one is needed
                return self._refresh(previous, previous.refresh_token)
        if not interactive or not login.is_person_there():
            raise InteractionRequired(
                f"A login to CARTO at {self.account.auth_url} is needed, and no person can be asked here: run "
                "`carto-auth login` in a terminal on this machine, or use client credentials (CartoAuth.from_m2m)."
            )
        return self.login(open_browser=interactive != "paste")

    def login(self, *, open_browser: bool = True, port: int | None = None) -> Token:
        """Have a person log in now. Errors, such as a refusal or a login not finished, are for this caller alone.

        Args:
            open_browser: Whether a browser may be opened; otherwise the person pastes a code.
            port: The loopback port of the redirect; None for the one registered with CARTO.
        """
        port = login.CALLBACK_PORT if port is None else port
        try:
            return self._exchange(login.authorize(self.account, open_browser=open_browser, port=port))
        except CredentialsError as error:
            error.scope = Scope.CALLER
            raise

    def _exchange(self, authorization: Authorization) -> Token:
        token = _request_token(
            self.account,
            check="the login; codes work once, and for minutes",
            grant_type="authorization_code",
            audience=self.account.audience,
            code=authorization.code,
            redirect_uri=authorization.redirect_uri,
            code_verifier=authorization.verifier,
        )
        try:
            api_base_url_of(self.account, token)
        except CredentialsError as error:  # the login is valid; the URL is looked up again when needed
            logger.warning("%s", error)
        return token

    def _refresh(self, previous: Token, refresh_token: Secret) -> Token:
        check = "the login; it may have ended"
        token = _request_token(self.account, check=check, grant_type="refresh_token", refresh_token=refresh_token)
        token.refresh_token = token.refresh_token or refresh_token  # a server that does not rotate sends none
        token.details.update(previous.details)
        return token


@dataclass(frozen=True)
class StaticToken:
    """No grant at all: a given token, such as an API access token. It expires at `expiration`, UTC epoch seconds."""

    account: CartoAccount
    expiration: float | None = None

    def __call__(self, previous: Token, *, interactive: Interactive) -> Token:
        """Return the token. `ClientRejected` is raised if it has expired."""
        expires_at = FOREVER if self.expiration is None else latest_expiry(self.expiration)
        if SYSTEM.time() >= expires_at:
            raise ClientRejected("The access token has expired: make a new API access token in the CARTO workspace.")
        return Token(self.account.require("access_token").reveal(), obtained_at=0.0, expires_at=expires_at)


def api_base_url_of(account: CartoAccount, token: Token) -> str:
    """Return the API base URL: the account's, or a logged-in user's, looked up once and kept with the token."""
    base = account.api_base_url or token.details.get("api_base_url")
    if not base and account.auth_mode == "oauth":
        base = token.details["api_base_url"] = find_api_base_url(account, token)
    return base or str(account.require("api_base_url"))


def find_api_base_url(account: CartoAccount, token: Token) -> str:
    """Look up the API base URL of a logged-in user: the accounts service names the tenant, its config the API.

    Source: what CARTO's own Python library asks, `{accounts_url}/accounts` and `https://{tenant}/config.yaml`.

    Raises:
        ClientRejected: If the user has no CARTO account here.
        UnexpectedResponse: If a response is not the documented one.
    """
    purpose, url = "API base URL of the user", f"{account.accounts_url}/accounts"
    reply = http.call("GET", url, purpose=purpose, bearer=token)
    if reply.status in (401, 403) or reply.text("error"):
        raise ClientRejected(
            f"{purpose}: {url} refused ({reply.status}). Give api_base_url, or check accounts_url and the user.",
            status=reply.status,
        )
    config_url = _config_url_of(reply.text("tenant_domain") or "")
    if reply.status != 200 or not config_url:
        raise unexpected(reply, purpose, url, "It names no tenant_domain: give api_base_url, or check accounts_url.")
    reply = http.call("GET", config_url, purpose=purpose)
    base = _accepted(_base_url_in(reply.raw()))
    if reply.status != 200 or not base:
        raise unexpected(reply, purpose, config_url, "It has no apis.baseUrl with https: give api_base_url.")
    return base


def unexpected(reply: http.Reply, purpose: str, url: str, advice: str) -> CredentialsError:
    """Return the error for a response that is not the documented one: status and type, never the body."""
    return UnexpectedResponse(
        f"{purpose}: {url} answered {reply.status} ({reply.content_type}), not as documented. {advice}",
        status=reply.status,
    )


def _request_token(account: CartoAccount, *, check: str, **form: str | Secret) -> Token:
    """Request a token for the account's client; `check` is the advice if it is refused."""
    purpose, url = f"CARTO access token of {account.client_id}", f"{account.auth_url}/oauth/token"
    started = SYSTEM.time()
    reply = http.call("POST", url, purpose=purpose, form={"client_id": account.require("client_id"), **form})
    code = next((code for code in OAUTH_ERRORS if code == reply.text("error")), "")  # others could be what we sent
    if reply.status in (401, 403) or (reply.status == 400 and code in OAUTH_REFUSALS):
        said = f"{reply.status} {code}".strip()
        raise ClientRejected(f"{purpose}: {url} refused ({said}). Check {check}.", status=reply.status)
    secret, lifetime = reply.secret("access_token"), reply.number("expires_in")
    if reply.status != 200 or secret is None or lifetime is None or lifetime <= 0:
        raise unexpected(reply, purpose, url, "Check auth_url.")
    return Token.issued(
        secret,
        started_at=started,
        lifetime=lifetime,
        took=SYSTEM.time() - started,
        refresh_token=reply.secret("refresh_token"),
    )


def _config_url_of(tenant: str) -> str | None:
    return _accepted(f"{'http' if is_loopback(tenant) else 'https'}://{tenant}/config.yaml")


def _accepted(url: Any) -> str | None:
    """Return a URL of a response if credentials may be sent there."""
    with suppress(InvalidField):
        return check_url("url", url, "a response")
    return None


def _base_url_in(config: bytes) -> Any:
    """Return `apis.baseUrl` of a configuration in YAML, of which JSON is a part."""
    import yaml  # for this one look-up: importing it takes longer than a warm start

    with suppress(yaml.YAMLError, KeyError, TypeError, ValueError, RecursionError):
        return yaml.safe_load(config)["apis"]["baseUrl"]
    return None
