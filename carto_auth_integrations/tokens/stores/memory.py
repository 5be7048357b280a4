"""Tokens in memory, for `use_cache=False` and `memory:`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..token import Entry
from .base import NoLock

if TYPE_CHECKING:
    from .base import StoreLock


class MemoryStore:
    """A store of this process alone. The child of a fork keeps what its parent had."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}

    def read(self, key: str) -> Entry:
        """Return what is stored under a fingerprint."""
        return self._entries.get(key) or Entry()

    def write(self, key: str, entry: Entry) -> None:
        """Store an entry in place of the previous one."""
        self._entries[key] = entry

    def forget(self, key: str) -> None:
        """Drop what is stored under a fingerprint."""
        self._entries.pop(key, None)

    def try_lock(self, key: str) -> StoreLock | None:
        """Return a lock at once: the `TokenSource` already keeps the threads of this process apart."""
        return NoLock()

    def describe(self) -> str:
        """Return the place for people to read."""
        return "memory"
