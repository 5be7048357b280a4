"""What is known of an account and its tokens without asking anyone."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ..checks import in_words
from ..errors import AccountError
from ..tokens.token import NO_TOKEN

if TYPE_CHECKING:
    from ..auth import CartoAuth
    from ..tokens.source import TokenSource
    from ..tokens.token import Token


def status_of(auth: CartoAuth) -> dict[str, Any]:
    """Give an account and the state of its tokens, for JSON; times in seconds and UTC epoch seconds, no secret.

    Args:
        auth: Whose tokens. Its store is read; no request is made.
    """
    account, now = auth.account, time.time()
    sources = {"access_token": auth._source}
    with suppress(AccountError):  # without an API base URL there is no warehouse
        sources["dw_token"] = auth._warehouse_source()
    tokens = {name: source.peek() for name, source in sources.items()}
    return {
        "mode": account.auth_mode,
        "client_id": account.client_id,
        "origin": "login" if account.auth_mode == "oauth" and account.origin == "arguments" else account.origin,
        "api_base_url": account.api_base_url or tokens["access_token"].details.get("api_base_url"),
        "token_store": auth._store.describe(),
        **{name: _token_status(token, now) for name, token in tokens.items()},
        "failures": [failure for source in sources.values() for failure in _failures_of(source, now)],
    }


def lines_of(status: dict[str, Any]) -> list[tuple[str, str]]:
    """Give the same for people, as labels and values."""
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
    lines += [("last failure", _failure_line(failure)) for failure in status["failures"]]
    return lines


def _token_status(token: Token, now: float) -> dict[str, Any]:
    if token is NO_TOKEN:
        return {"state": "none"}
    ends = token.expires_at < float("inf")
    status = {
        "state": _state(token, now),
        "expires_at": token.expires_at if ends else None,
        "expires_in": max(token.expires_at - now, 0.0) if ends else None,
        "refresh_token": token.refresh_token is not None,
    }
    return status | {name: value for name, value in token.details.items() if name == "project_id"}


def _state(token: Token, now: float) -> str:
    if token.is_fresh(now):
        return "FRESH"
    return "STALE" if token.is_usable(now) else "EXPIRED"


def _token_line(token: dict[str, Any]) -> str:
    if token["state"] == "none":
        return "none"
    left = token["expires_in"]
    parts = [token["state"], "no known end" if left is None else f"{in_words(left)} left"]
    if token["refresh_token"]:
        parts.append("renewed without a new login")
    if "project_id" in token:
        parts.append(f"project {token['project_id']}")
    return ", ".join(parts)


def _failures_of(source: TokenSource, now: float) -> list[dict[str, Any]]:
    """Give the failure that all processes remember, while it keeps them from asking."""
    failure = source.store.read(source.key).failure
    if failure is None or not failure.holds(now):
        return []
    return [{"kind": type(failure.error).__name__, "message": str(failure.error), "retry_in": failure.until - now}]


def _failure_line(failure: dict[str, Any]) -> str:
    return f"{failure['message']} Not asked again for {in_words(failure['retry_in'])}."
