"""Where tokens rest between processes: a file (the default), memory alone, or Redis for a fleet."""

from __future__ import annotations

import os

from ...account.secret import Secret

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from ..token import Entry

    class StoreLock(Protocol):
        """A lock that is held; its process's death releases it."""

        def release(self) -> None:
            """Let the next one in. Never raises."""

    class TokenStore(Protocol):
        """What a `TokenSource` asks of a store. No method raises: a broken store costs a request, no failure."""

        def read(self, key: str) -> Entry:
            """Give what is stored under a fingerprint; an empty entry if nothing trustworthy is."""

        def write(self, key: str, entry: Entry) -> None:
            """Store an entry in place of the one before, atomically."""

        def forget(self, key: str) -> None:
            """Drop what is stored under a fingerprint."""

        def try_lock(self, key: str) -> StoreLock | None:
            """Take the lock around a token request without waiting; None while another one holds it."""

        def describe(self) -> str:
            """Name the place for people; no password."""


_DEFAULT_FILES = {"m2m": "token_m2m.json", "oauth": "token_oauth.json", "token": "token.json"}
_opened: dict[Secret, TokenStore] = {}


def open_store(place: str | None, mode: str) -> TokenStore:
    """Give the store of a place: the same object for the same place, all through the process.

    Args:
        place: A file's path, `memory:` or `redis://…`; None for the default file of the mode in `~/.carto-auth/`.
        mode: The account's mode, `m2m`, `oauth` or `token`.

    Raises:
        InvalidField: If the place has an unknown scheme.
    """
    where = Secret(os.path.join("~", ".carto-auth", _DEFAULT_FILES[mode]) if place is None else place)
    del place  # a password in it is in no local when an error shows them
    scheme = where.reveal().partition(":")[0].lower()
    if scheme not in ("memory", "redis", "rediss"):
        where = Secret(
            os.path.abspath(os.path.expanduser(where.reveal().removeprefix("file://").removeprefix("file:")))
        )
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
