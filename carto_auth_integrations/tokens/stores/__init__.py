"""Where tokens are kept between processes: in a file (the default), in memory, or in Redis for many hosts."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ...account.secret import Secret

if TYPE_CHECKING:
    from .base import TokenStore

DEFAULT = os.path.join("~", ".carto-auth", "tokens.json")
"""The default file, beside those of CARTO's own carto-auth (token.json, token_m2m.json, token_oauth.json)."""

_opened: dict[Secret, TokenStore] = {}


def open_store(place: str | None) -> TokenStore:
    """Return the store of a place: the same object for the same place in this process.

    Args:
        place: A file's path, `memory:` or `redis://…`; None for the default file.

    Raises:
        InvalidField: If the place is a URL that Redis does not understand.
    """
    where = Secret(DEFAULT if place is None else place)
    del place  # a password in it would show in the locals of a traceback
    scheme = where.reveal().partition(":")[0].lower()
    if scheme not in ("memory", "redis", "rediss"):
        where = Secret(os.path.expanduser(where.reveal().removeprefix("file://").removeprefix("file:")))
        if where.reveal().startswith("~"):  # no HOME, and the user has no entry in the password database
            _warn_of_no_home(where.reveal())
            where, scheme = Secret("memory:"), "memory"
        else:
            where = Secret(os.path.abspath(where.reveal()))
    store = _opened.get(where)
    if store is None:
        store = _opened.setdefault(where, _make(where, scheme))
    return store


def _make(place: Secret, scheme: str) -> TokenStore:
    if scheme == "memory":
        from .memory import MemoryStore

        return MemoryStore()
    if scheme in ("redis", "rediss"):
        from .redis import RedisStore

        return RedisStore(place)
    from .file import FileStore

    return FileStore(place.reveal())


def _warn_of_no_home(path: str) -> None:
    if Secret("memory:") in _opened:
        return
    from logging import getLogger

    getLogger(__name__).warning(
        "this user has no home directory for the token store %s: tokens stay in memory; set HOME or CARTO_TOKEN_STORE",
        path,
    )
