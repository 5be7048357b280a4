"""The state of an account's tokens, as far as this machine knows it without a request."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, TypedDict

from ..errors import AccountError
from ..tokens.token import FOREVER, NO_TOKEN, State
from .output import duration

if TYPE_CHECKING:
    from ..auth import CartoAuth
    from ..tokens.source import TokenSource
    from ..tokens.token import Token


class TokenStatus(TypedDict, total=False):
    """The state of a token. Without a token, `state` is `none` and the other keys are missing.

    Attributes:
        state: `FRESH`, `STALE`, `EXPIRED` or `none`.
        expires_at: In UTC epoch seconds; None if unknown.
        expires_in: Seconds; None if unknown.
        refresh_token: Whether a refresh token came with it.
        project_id: The BigQuery project of a DW token.
    """

    state: str
    expires_at: float | None
    expires_in: float | None
    refresh_token: bool
    project_id: str


class FailureStatus(TypedDict):
    """A failed token request that is not repeated yet.

    Attributes:
        kind: The name of the error's class.
        message: The error.
        retry_in: Seconds until the request may be repeated.
    """

    kind: str
    message: str
    retry_in: float


class AccountStatus(TypedDict, total=False):
    """An account and the state of its tokens, as `carto-auth status --json` prints it. It holds no secret.

    Attributes:
        mode: `m2m`, `oauth` or `token`.
        client_id: The client id; None if there is none.
        origin: Where the account comes from: `login`, `environment` or `file:PATH`.
        api_base_url: The API base URL; None if unknown.
        token_store: The place of the tokens.
        access_token: The CARTO access token.
        dw_token: The DW token; missing if the account has no API base URL.
        failures: Failed token requests.
    """

    mode: str
    client_id: str | None
    origin: str
    api_base_url: str | None
    token_store: str
    access_token: TokenStatus
    dw_token: TokenStatus
    failures: list[FailureStatus]


def account_status(auth: CartoAuth) -> AccountStatus:
    """Return the state of an account's tokens from memory and the token store."""
    account, now = auth.account, time.time()
    source = auth.access_tokens.source
    access_token = source.peek()
    status: AccountStatus = {
        "mode": account.auth_mode,
        "client_id": account.client_id,
        "origin": "login" if account.auth_mode == "oauth" and account.origin == "arguments" else account.origin,
        "api_base_url": account.api_base_url or access_token.details.get("api_base_url"),
        "token_store": source.store.describe(),
        "access_token": _token_status(access_token, now),
        "failures": _failures(source, now),
    }
    with suppress(AccountError):  # without an API base URL there is no Data Warehouse
        dw_source = auth.dw_tokens.source
        status["dw_token"] = _token_status(dw_source.peek(), now)
        status["failures"] += _failures(dw_source, now)
    return status


def status_lines(status: AccountStatus) -> list[tuple[str, str]]:
    """Return the state as labels and values to print."""
    origin = status["origin"].replace("file:", "credentials file ", 1)
    lines = [
        ("account", f"{origin} ({status['mode']})"),
        ("client id", status["client_id"] or "none"),
        ("API base URL", status["api_base_url"] or "not known"),
        ("token store", status["token_store"]),
        ("access token", _token_line(status["access_token"])),
    ]
    if "dw_token" in status:
        lines.append(("DW token", _token_line(status["dw_token"])))
    lines += [
        ("last failure", f"{failure['message']} Not requested again for {duration(failure['retry_in'])}.")
        for failure in status["failures"]
    ]
    return lines


def _token_status(token: Token, now: float) -> TokenStatus:
    if token is NO_TOKEN:
        return {"state": "none"}
    state = token.state(now)
    expires = token.expires_at < FOREVER
    status: TokenStatus = {
        "state": (State.STALE if state is State.ENDING else state).name,  # the next call replaces either
        "expires_at": token.expires_at if expires else None,
        "expires_in": max(token.expires_at - now, 0.0) if expires else None,
        "refresh_token": token.refresh_token is not None,
    }
    if "project_id" in token.details:
        status["project_id"] = token.details["project_id"]
    return status


def _token_line(token: TokenStatus) -> str:
    if token["state"] == "none":
        return "none"
    left = token["expires_in"]
    parts = [token["state"], "no known expiry" if left is None else f"{duration(left)} left"]
    if token["refresh_token"]:
        parts.append("renewed without a new login")
    if "project_id" in token:
        parts.append(f"project {token['project_id']}")
    return ", ".join(parts)


def _failures(source: TokenSource, now: float) -> list[FailureStatus]:
    """Return the failure in the token store, while every process waits for its back-off to end."""
    failure = source.store.read(source.key).failure
    if failure is None or not failure.holds(now):
        return []
    return [{"kind": type(failure.error).__name__, "message": str(failure.error), "retry_in": failure.until - now}]
