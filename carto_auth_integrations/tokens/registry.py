"""The token sources of this process, one per credential and store, and the listeners for their tokens."""

from __future__ import annotations

import os
from threading import Lock
from typing import TYPE_CHECKING

from .source import TokenSource

if TYPE_CHECKING:
    from collections.abc import Callable

    from .source import Grant
    from .stores.base import TokenStore
    from .token import Token

_sources: dict[tuple[object, ...], TokenSource] = {}
_listeners: list[Callable[[Token], None]] = []
_lock = Lock()


def source_for(
    key: str,
    title: str,
    grant: Grant,
    store: TokenStore,
    *,
    variant: tuple[object, ...] = (),
    replace_grant: bool = True,
) -> TokenSource:
    """Return the one source of a credential and store in this process.

    Args:
        key: The credential's fingerprint.
        title: What the token is, for logs and messages.
        grant: How a new token is obtained.
        store: Where tokens are kept; the same object for the same place.
        variant: What tells this source from others of the same credential: another expiration of a given token.
        replace_grant: Whether this grant replaces an earlier one. False for a grant that has lost its secret.
    """
    with _lock:
        identity = (id(store), key, *variant)
        source = _sources.get(identity)
        if source is None:
            source = _sources[identity] = TokenSource(key, title, grant, store, _listeners)
        elif replace_grant:
            source.grant = grant
        return source


def add_token_listener(listener: Callable[[Token], None]) -> None:
    """Have a function called with each token that this process holds or comes to hold, new or read from a store.

    Args:
        listener: Called once per token, on whichever thread obtained it. Its errors are logged.
    """
    with _lock:
        if listener in _listeners:
            return
        _listeners.append(listener)
        held = [source.token for source in _sources.values() if source.token.reveal()]
    for token in held:
        listener(token)


def remove_token_listener(listener: Callable[[Token], None]) -> None:
    """Remove a listener."""
    with _lock:
        if listener in _listeners:
            _listeners.remove(listener)


def _after_fork_in_child() -> None:
    global _lock
    _lock = Lock()
    for source in _sources.values():
        source.reset_threads()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
