"""OAuth server of the sandbox: Authlib's grants at `/oauth/token` and `/authorize`, with Auth0's error responses."""

# Authlib has no type hints.
# mypy: allow-subclassing-any, disable-error-code="import-untyped"

from __future__ import annotations

import hmac
import uuid
from dataclasses import dataclass, field
from html import escape
from typing import Any
from urllib.parse import urlsplit

from authlib.integrations.flask_oauth2 import AuthorizationServer
from authlib.oauth2.base import OAuth2Error
from authlib.oauth2.rfc6749 import grants
from authlib.oauth2.rfc6749.errors import (
    AccessDeniedError,
    InvalidClientError,
    InvalidGrantError,
    InvalidRequestError,
    UnsupportedGrantTypeError,
    UnsupportedResponseTypeError,
)
from authlib.oauth2.rfc7636 import CodeChallenge
from flask import Blueprint, Response, request

from .shapes import auth0_error
from .state import CODE_LIFETIME, LoginCode, SandboxState, new_token

PASTE_PAGE = "/auth/token"
OFFLINE_ACCESS = "offline_access"
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class _Client:
    """A registered client, with the methods that Authlib expects."""

    client_id: str
    secret: str | None = field(repr=False)
    grant_types: tuple[str, ...]
    default_scope: str
    paste_page: str

    def get_default_redirect_uri(self) -> None:
        return None

    def get_allowed_scope(self, scope: str | None) -> str:
        return scope or self.default_scope

    def check_redirect_uri(self, redirect_uri: str) -> bool:
        if redirect_uri == self.paste_page:
            return True
        parts = urlsplit(redirect_uri)
        return parts.scheme == "http" and parts.hostname in _LOOPBACK and not parts.fragment

    def check_client_secret(self, secret: str) -> bool:
        return self.secret is not None and hmac.compare_digest(self.secret.encode(), secret.encode())

    def check_endpoint_auth_method(self, method: str, endpoint: str) -> bool:
        return (method == "none") == (self.secret is None)

    def check_response_type(self, response_type: str) -> bool:
        return response_type == "code" and "authorization_code" in self.grant_types

    def check_grant_type(self, grant_type: str) -> bool:
        return grant_type in self.grant_types


class _TokenResponse(dict[str, Any]):
    """A token response whose repr hides the tokens: Authlib logs the repr at DEBUG."""

    def __repr__(self) -> str:
        return "<token response>"


class _Server(AuthorizationServer):
    """Authlib's server with the clients and tokens of the sandbox."""

    def __init__(self, state: SandboxState) -> None:
        super().__init__()
        self.sandbox = state
        self.register_token_generator("default", self._make_response)
        self.register_grant(_ClientCredentials)
        self.register_grant(_AuthorizationCode, [_S256()])
        self.register_grant(_RefreshToken)

    def query_client(self, client_id: str) -> _Client | None:
        options = self.sandbox.options
        paste_page = self.sandbox.url + PASTE_PAGE
        if client_id == options.client_id:
            secret, grant_types = options.client_secret, ("client_credentials",)
            return _Client(client_id, secret, grant_types, options.scope, paste_page)
        if client_id == options.login_client_id:
            return _Client(client_id, None, ("authorization_code", "refresh_token"), options.scope, paste_page)
        return None

    def save_token(self, token: _TokenResponse, oauth_request: Any) -> None:
        """Register the tokens of a response as valid; a renewed refresh token keeps the family of the old one."""
        book, stats = self.sandbox.tokens, self.sandbox.stats
        client_id, scope = oauth_request.client.client_id, token["scope"]
        lifetime = float(token["expires_in"])
        book.add("carto", token["access_token"], lifetime=lifetime, client_id=client_id, scope=scope)
        stats.token_issued("carto")
        if "refresh_token" not in token:
            return
        earlier = oauth_request.refresh_token
        family = earlier.family if earlier else uuid.uuid4().hex
        book.add("refresh", token["refresh_token"], client_id=client_id, scope=scope, family=family)
        stats.token_issued("refresh")

    def handle_error_response(self, oauth_request: Any, error: OAuth2Error) -> Response:
        """Return an error response with the status and the text of Auth0 where they differ from the RFC."""
        if error.redirect_uri:
            response: Response = super().handle_error_response(oauth_request, error)
            return response
        if isinstance(error, InvalidClientError):
            return auth0_error(401, "access_denied", "Unauthorized")
        if isinstance(error, InvalidGrantError | AccessDeniedError | UnsupportedGrantTypeError):
            return auth0_error(403, error.error, error.get_error_description())
        return auth0_error(error.status_code, error.error, error.get_error_description())

    def _make_response(
        self,
        grant_type: str,
        client: _Client,
        user: str | None = None,
        scope: str | None = None,
        expires_in: int | None = None,
        include_refresh_token: bool = True,
    ) -> _TokenResponse:
        granted = client.get_allowed_scope(scope)
        lifetime = self.sandbox.lifetimes["carto"]
        response = _TokenResponse(
            access_token=new_token("carto"),
            scope=granted,
            expires_in=int(lifetime) if lifetime == int(lifetime) else lifetime,
            token_type="Bearer",
        )
        if include_refresh_token and OFFLINE_ACCESS in granted.split():
            response["refresh_token"] = new_token("refresh")
        return response


def _check_audience(expected: str, audience: str | None) -> None:
    """Raise Auth0's error for a missing or unknown audience."""
    if audience == expected:
        return
    if not audience:
        raise AccessDeniedError("Non-global clients are not allowed access to APIv1")
    raise AccessDeniedError("Service not found: unknown audience")


class _ClientCredentials(grants.ClientCredentialsGrant):
    TOKEN_ENDPOINT_AUTH_METHODS = ("client_secret_post", "client_secret_basic")

    def validate_token_request(self) -> None:
        super().validate_token_request()
        _check_audience(self.server.sandbox.options.audience, self.request.form.get("audience"))


class _AuthorizationCode(grants.AuthorizationCodeGrant):
    TOKEN_ENDPOINT_AUTH_METHODS = ("none",)

    def save_authorization_code(self, code: str, oauth_request: Any) -> None:
        state: SandboxState = self.server.sandbox
        data = oauth_request.payload.data
        scopes = oauth_request.scope.split()
        if not state.options.grant_refresh_tokens:
            scopes = [scope for scope in scopes if scope != OFFLINE_ACCESS]
        state.tokens.add_code(
            LoginCode(
                value=code,
                client_id=oauth_request.client.client_id,
                redirect_uri=oauth_request.payload.redirect_uri,
                scope=" ".join(scopes),
                code_challenge=data["code_challenge"],
                code_challenge_method=data["code_challenge_method"],
                expires_at=state.tokens.now() + CODE_LIFETIME,
            )
        )
        if organization := data.get("organization"):
            state.stats.login(organization)

    def query_authorization_code(self, code: str, client: _Client) -> LoginCode | None:
        """Return a code and invalidate it, so that no code can be tried twice, not even after a failed attempt."""
        book = self.server.sandbox.tokens
        found: LoginCode | None = book.spend_code(code, client.client_id)
        return found

    def delete_authorization_code(self, authorization_code: LoginCode) -> None:
        """Do nothing: `query_authorization_code` has invalidated the code."""

    def authenticate_user(self, authorization_code: LoginCode) -> str:
        user: str = self.server.sandbox.options.user
        return user


class _S256(CodeChallenge):
    """PKCE as CARTO's login requires it, with S256 only; also checks the audience of the login."""

    def validate_code_challenge(self, grant: Any, redirect_uri: str) -> None:
        data = grant.request.payload.data
        if not data.get("code_challenge"):
            raise InvalidRequestError("Missing 'code_challenge'")
        if data.get("code_challenge_method") != "S256":
            raise InvalidRequestError("Unsupported 'code_challenge_method'")
        super().validate_code_challenge(grant, redirect_uri)
        _check_audience(grant.server.sandbox.options.audience, data.get("audience"))


class _RefreshToken(grants.RefreshTokenGrant):
    TOKEN_ENDPOINT_AUTH_METHODS = ("none",)
    INCLUDE_NEW_REFRESH_TOKEN = True

    def authenticate_refresh_token(self, refresh_token: str) -> Any:
        """Return a refresh token and invalidate it, so that only one of two concurrent requests succeeds."""
        found = self.server.sandbox.tokens.spend_refresh_token(refresh_token)
        if found is None:
            raise InvalidGrantError("Unknown or invalid refresh token.")
        return found

    def authenticate_user(self, refresh_token: Any) -> str:
        user: str = self.server.sandbox.options.user
        return user

    def revoke_old_credential(self, refresh_token: Any) -> None:
        """Do nothing: `authenticate_refresh_token` has invalidated the token."""


def blueprint(state: SandboxState) -> Blueprint:
    """Return the routes of the OAuth server."""
    routes = Blueprint("oauth", __name__)
    server = _Server(state)

    @routes.post("/oauth/token")
    def token() -> Response:
        response: Response = server.create_token_response()
        return response

    @routes.get("/authorize")
    def authorize() -> Response:
        oauth_request = server.create_oauth2_request(None)
        try:
            grant = server.get_authorization_grant(oauth_request)
        except UnsupportedResponseTypeError as error:
            return server.handle_error_response(oauth_request, error)
        user = None if state.options.deny_login else state.options.user
        response: Response = server.create_authorization_response(oauth_request, user, grant)
        return response

    @routes.get(PASTE_PAGE)
    def paste_page() -> Response:
        text = request.args.get("code") or request.args.get("error", "")
        return Response(f"<!doctype html><title>CARTO sandbox</title><code>{escape(text)}</code>\n")

    return routes
