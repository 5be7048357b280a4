"""What a token store has to offer, and the lock of a store that has none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from ..token import Entry


class StoreLock(Protocol):
    """A lock that is held. It ends with its process."""

    def release(self) -> None:
        """Release the lock. Never raises."""


class TokenStore(Protocol):
    """A place for tokens between processes. No method raises: a broken store costs a request, never a failure."""

    def read(self, key: str) -> Entry:
        """Return what is stored under a fingerprint; an empty entry if nothing trustworthy is."""

    def write(self, key: str, entry: Entry) -> None:
        """Store an entry in place of the previous one, atomically."""

    def forget(self, key: str) -> None:
        """Drop what is stored under a fingerprint."""

    def try_lock(self, key: str) -> StoreLock | None:
        """Return the lock around a token request, without waiting; None while another process holds it."""

    def describe(self) -> str:
        """Return the place for people to read; no password."""


class NoLock:
    """A lock where none is needed, or none can be had."""

    def release(self) -> None:
        """Do nothing."""
