"""The sources of this process, one for each credential and store, and who hears of the tokens that they hold."""

from __future__ import annotations

import os
from _thread import allocate_lock

from .source import TokenSource

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .source import Grant
    from .stores import TokenStore
    from .token import Token

_sources: dict[tuple[object, ...], TokenSource] = {}
_listeners: list[Callable[[Token], None]] = []
_lock = allocate_lock()


def source_for(
    key: str,
    title: str,
    grant: Grant,
    store: TokenStore,
    *,
    variant: tuple[object, ...] = (),
    replace_grant: bool = True,
) -> TokenSource:
    """Give the one source of a credential and store in this process.

    Args:
        key: The credential's fingerprint.
        title: What the token is, for logs and messages.
        grant: How a new token is obtained.
        store: Where tokens rest; the same object for the same place.
        variant: What else tells a source from another one of the credential: how its grant may go about it.
        replace_grant: Whether this grant takes the place of an earlier one: not when it came without its secret.
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
    """Have a function called with each token that this process holds or comes to hold, minted or read from a store.

    Args:
        listener: Called once per token, on whichever thread fetched it. What it raises is logged and goes no further.
    """
    with _lock:
        if listener in _listeners:
            return
        _listeners.append(listener)
        held = [source.token for source in _sources.values() if source.token.reveal()]
    for token in held:
        listener(token)


def remove_token_listener(listener: Callable[[Token], None]) -> None:
    """Take a listener off again."""
    with _lock:
        if listener in _listeners:
            _listeners.remove(listener)


def _after_fork_in_child() -> None:
    global _lock
    _lock = allocate_lock()
    for source in _sources.values():
        source.start_clean()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
