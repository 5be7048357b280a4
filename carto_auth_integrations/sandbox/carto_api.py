"""The parts of CARTO's API that this package calls: discovery, the current user and the Data Warehouse token."""

from __future__ import annotations

from datetime import datetime, timezone
from urllib.parse import urlsplit

from flask import Blueprint, Response, request

from .options import DW_EXPIRY_FORMS
from .shapes import carto_error, json_reply
from .state import IssuedToken, SandboxState, new_token


def bearer_token() -> str:
    """Return the bearer token of the current request, or an empty string."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def blueprint(state: SandboxState) -> Blueprint:
    """Return the routes of the API."""
    routes = Blueprint("carto_api", __name__)

    def unauthorized() -> Response | None:
        """Return a 401 response unless the request has a valid CARTO token."""
        token = bearer_token()
        if token == state.options.api_access_token or state.tokens.find("carto", token) is not None:
            return None
        return carto_error(401, "Unauthorized")

    @routes.get("/config.yaml")
    def config() -> Response:
        return Response(f"apis:\n  baseUrl: {state.url}\n", content_type="text/yaml")

    @routes.get("/accounts")
    def accounts() -> Response:
        return unauthorized() or json_reply({"tenant_domain": urlsplit(state.url).netloc}, 200)

    @routes.get("/users/me")
    def users_me() -> Response:
        user = {"user_id": "sandbox|user", "email": state.options.user, "account_id": "ac_sandbox"}
        return unauthorized() or json_reply(user, 200)

    @routes.get("/v3/connections/carto-dw/token")
    def dw_token() -> Response:
        if (refused := unauthorized()) is not None:
            return refused
        if not state.options.user_has_dw:
            return carto_error(404, "Connection not found")
        token = (state.tokens.newest("dw") if state.options.reuse_dw_token else None) or _new_dw_token(state)
        return json_reply({"projectId": state.options.project_id, "token": token.value, **_expiry(state, token)}, 200)

    return routes


def _new_dw_token(state: SandboxState) -> IssuedToken:
    state.stats.token_issued("dw")
    return state.tokens.add("dw", new_token("dw"), lifetime=state.lifetimes["dw"])


def _expiry(state: SandboxState, token: IssuedToken) -> dict[str, int | str]:
    """Return the expiry field of a token response; empty if the options or the token have none."""
    name = state.options.dw_expiry_field
    if name is None or token.expires_at is None:
        return {}
    form = DW_EXPIRY_FORMS[name]
    if form == "seconds":
        return {name: int(token.expires_at - state.tokens.now())}
    if form == "epoch":
        return {name: int(token.expires_at)}
    moment = datetime.fromtimestamp(token.expires_at, timezone.utc)
    return {name: moment.isoformat(timespec="seconds").replace("+00:00", "Z")}
