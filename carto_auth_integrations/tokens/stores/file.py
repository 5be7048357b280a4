"""Tokens in a file that all processes of a host share: one file, many credentials, each under its fingerprint.

Beside `token.json` lie `token.json.lock`, held while the file is written, and one `token.json.<fingerprint>.lock` per
credential, held while its token is requested. Both are locks of the operating system: they end with their process.
"""

from __future__ import annotations

import json
import os
import stat
import time

from ..token import Entry
from .memory import NoLock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from . import StoreLock

FORMAT = 1
MAX_SIZE = 4 * 1024 * 1024
"""Bytes; a thousand credentials fit into a tenth of it, so a larger file is not ours."""
WRITE_LOCK_TIMEOUT = 5.0
"""Seconds to wait for other writers: each needs about a millisecond, so whoever needs longer is stuck."""


class FileStore:
    """A store in one JSON file, readable by its owner alone and replaced atomically.

    A file that is corrupt, of another program, of another user or readable by others is not believed and in the end
    replaced; where nothing can be written, tokens live in memory. Each of these is one WARNING per process.

    Args:
        path: Absolute path of the file. Its directory is made if need be, for its owner alone.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._draft = f"{path}.tmp"
        self._warned: set[str] = set()

    def read(self, key: str) -> Entry:
        """Give what is stored under a fingerprint; an empty entry if nothing trustworthy is."""
        if os.path.lexists(self._draft):
            self._sweep()
        return Entry.from_record(self._load().get(key), time.time())

    def write(self, key: str, entry: Entry) -> None:
        """Store an entry in place of the one before, atomically."""
        self._change(key, entry.record())

    def forget(self, key: str) -> None:
        """Drop what is stored under a fingerprint."""
        if key in self._load():
            self._change(key, None)

    def try_lock(self, key: str) -> StoreLock | None:
        """Take the lock around a token request without waiting; None while another process holds it."""
        return self._locked(f"{self.path}.{key[:16]}.lock", timeout=0)

    def describe(self) -> str:
        """Name the place."""
        return self.path

    def _load(self) -> dict[str, Any]:
        try:
            descriptor = os.open(self.path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        except FileNotFoundError:
            return {}
        except OSError as error:
            self._warn(f"cannot be read ({error.strerror})")
            return {}
        try:
            distrust = _distrust(os.fstat(descriptor))
            if distrust:
                self._warn(distrust)
                return {}
            with open(descriptor, "rb", closefd=False) as file:
                content = json.loads(file.read())
        except (ValueError, RecursionError, OSError):
            content = None
        finally:
            os.close(descriptor)
        if not isinstance(content, dict):
            self._warn("is not JSON")
            return {}
        tokens = content.get("tokens")
        # anything else is carto-auth's own cache, which does not say whose token it holds, or a later format
        return tokens if content.get("format") == FORMAT and isinstance(tokens, dict) else {}

    def _change(self, key: str, record: dict[str, Any] | None) -> None:
        try:
            os.makedirs(os.path.dirname(self.path), mode=0o700, exist_ok=True)
            lock = self._locked(f"{self.path}.lock", timeout=WRITE_LOCK_TIMEOUT)
            if lock is None:
                self._warn("is locked by another process; tokens stay in memory")
                return
            try:
                tokens = {name: kept for name, kept in self._load().items() if name != key and _is_worth_keeping(kept)}
                if record is not None:
                    tokens[key] = record
                self._replace(json.dumps({"format": FORMAT, "tokens": tokens}).encode())
            finally:
                lock.release()
        except OSError as error:
            self._warn(f"cannot be written ({error.strerror}); tokens stay in memory")

    def _replace(self, content: bytes) -> None:
        """Write a draft beside the file and move it into place: a reader sees the old content or the new."""
        self._remove_draft()
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
        try:
            with open(os.open(self._draft, flags, 0o600), "wb") as file:
                file.write(content)
            os.replace(self._draft, self.path)
        except OSError:
            self._remove_draft()
            raise

    def _sweep(self) -> None:
        """Remove the draft of a writer that was killed; one that is alive holds the lock."""
        lock = self._locked(f"{self.path}.lock", timeout=0)
        if lock is None:
            return
        try:
            self._remove_draft()
        except OSError:  # not ours to remove; nobody reads it
            pass
        finally:
            lock.release()

    def _remove_draft(self) -> None:
        try:
            os.unlink(self._draft)
        except FileNotFoundError:
            pass

    def _locked(self, path: str, *, timeout: float) -> StoreLock | None:
        from filelock import FileLock, Timeout

        try:
            os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
            lock = FileLock(path, timeout=timeout, mode=0o600, thread_local=False)
            lock.acquire(poll_interval=0.01)
        except Timeout:
            return None
        except (OSError, NotImplementedError) as error:
            self._warn(f"cannot be locked ({getattr(error, 'strerror', None) or error}); processes ask each for itself")
            return NoLock()
        return lock

    def _warn(self, what: str) -> None:
        if what in self._warned:
            return
        self._warned.add(what)
        from logging import getLogger

        getLogger(__name__).warning("token store %s %s", self.path, what)


def _distrust(status: os.stat_result) -> str | None:
    """Say why a file is not to be believed."""
    if not stat.S_ISREG(status.st_mode):
        return "is not a regular file"
    if status.st_size > MAX_SIZE:
        return "is too large to be a token store"
    if os.name != "posix":
        return None  # Windows keeps a home folder to its owner by access lists, which a mode does not show
    if status.st_uid != os.geteuid():
        return "belongs to another user and is ignored"
    if stat.S_IMODE(status.st_mode) & 0o077:
        return "can be read or written by others and is ignored; it will be replaced"
    return None


def _is_worth_keeping(record: object) -> bool:
    """Tell whether a stored entry can still serve anyone."""
    now = time.time()
    entry = Entry.from_record(record, now)
    if entry.token and (entry.token.is_valid(now) or entry.token.refresh_token):
        return True
    return bool(entry.failure and entry.failure.holds(now))
