"""Tokens that live no longer than the process: for `use_cache=False` and `memory:`."""

from __future__ import annotations

from ..token import Entry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from . import StoreLock


class NoLock:
    """A lock where there is nobody to lock out, or no way to."""

    def release(self) -> None:
        """Release nothing."""


class MemoryStore:
    """A store of this process alone. A child of a fork keeps what its parent had; the tokens still serve."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}

    def read(self, key: str) -> Entry:
        """Give what is stored under a fingerprint."""
        return self._entries.get(key) or Entry()

    def write(self, key: str, entry: Entry) -> None:
        """Store an entry in place of the one before."""
        self._entries[key] = entry

    def forget(self, key: str) -> None:
        """Drop what is stored under a fingerprint."""
        self._entries.pop(key, None)

    def try_lock(self, key: str) -> StoreLock | None:
        """Give a lock at once: the `TokenSource` keeps the threads of this process apart already."""
        return NoLock()

    def describe(self) -> str:
        """Name the place."""
        return "memory"
