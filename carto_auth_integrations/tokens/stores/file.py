"""Tokens in a file that all processes of a host share: one file, many credentials, each under its fingerprint.

Beside `tokens.json` there are `tokens.json.lock`, held while the file is written, and one
`tokens.json.<fingerprint>.lock` per credential, held while its token is requested. Both are locks of the operating
system: they end with their process.
"""

from __future__ import annotations

import json
import os
import stat
from typing import TYPE_CHECKING

from ..clock import SYSTEM
from ..token import Entry
from .base import NoLock

if TYPE_CHECKING:
    from ..clock import Clock
    from ..token import Record
    from .base import StoreLock

FORMAT = 1
MAX_SIZE = 4 * 1024 * 1024
"""Bytes. A thousand credentials take a tenth of it, so a larger file is not a token store."""
WRITE_LOCK_TIMEOUT = 5.0
"""Seconds to wait for other writers. Each needs about a millisecond, so one that needs longer is stuck."""


class FileStore:
    """A store in one JSON file, readable by its owner alone and replaced atomically.

    A file that is corrupt, of another user or readable by others is not trusted, and is replaced. Where nothing can be
    written, tokens stay in memory. Each of these is one WARNING per process. A cache file of carto-auth is left alone:
    this store then lies beside it, as `<name>.integrations.json`.

    Args:
        path: Absolute path of the file. Its directory is created if need be, for its owner alone.
        clock: The time.
    """

    def __init__(self, path: str, clock: Clock = SYSTEM) -> None:
        self.path = path
        self._draft = f"{path}.tmp"
        self._clock = clock
        self._warned: set[str] = set()

    def read(self, key: str) -> Entry:
        """Return what is stored under a fingerprint; an empty entry if nothing trustworthy is."""
        if os.path.lexists(self._draft):
            self._sweep()
        return Entry.from_record(self._load().get(key), self._clock.time())

    def write(self, key: str, entry: Entry) -> None:
        """Store an entry in place of the previous one, atomically."""
        self._change(key, entry.record())

    def forget(self, key: str) -> None:
        """Drop what is stored under a fingerprint."""
        if key in self._load():
            self._change(key, None)

    def try_lock(self, key: str) -> StoreLock | None:
        """Return the lock around a token request, without waiting; None while another process holds it."""
        return self._locked(f"{self.path}.{key[:16]}.lock", timeout=0)

    def describe(self) -> str:
        """Return the place for people to read."""
        return self.path

    def _load(self) -> Record:
        try:
            descriptor = os.open(self.path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        except FileNotFoundError:
            return {}
        except OSError as error:
            self._warn(f"cannot be read ({error.strerror})")
            return {}
        try:
            distrust, content = _distrust(os.fstat(descriptor)), _parse(descriptor)
        finally:
            os.close(descriptor)
        if isinstance(content, dict) and "format" not in content and "access_token" in content:
            # carto-auth's, which anyone may read: it does not say whose token it holds
            root, extension = os.path.splitext(self.path)
            self.path = f"{root}.integrations{extension}"
            self._draft = f"{self.path}.tmp"
            return self._load()
        if distrust or not isinstance(content, dict):
            self._warn(distrust or "is not JSON")
            return {}
        tokens = content.get("tokens")
        return tokens if content.get("format") == FORMAT and isinstance(tokens, dict) else {}

    def _change(self, key: str, record: Record | None) -> None:
        try:
            os.makedirs(os.path.dirname(self.path), mode=0o700, exist_ok=True)
            lock = self._locked(f"{self.path}.lock", timeout=WRITE_LOCK_TIMEOUT)
            if lock is None:
                self._warn("is locked by another process; tokens stay in memory")
                return
            try:
                now = self._clock.time()
                kept = self._load().items()
                tokens = {name: each for name, each in kept if name != key and _is_worth_keeping(each, now)}
                if record is not None:
                    tokens[key] = record
                self._replace(json.dumps({"format": FORMAT, "tokens": tokens}).encode())
            finally:
                lock.release()
        except OSError as error:
            self._warn(f"cannot be written ({error.strerror}); tokens stay in memory")

    def _replace(self, content: bytes) -> None:
        """Write a draft beside the file and rename it: a reader sees the old content or the new."""
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
        """Remove the draft of a writer that was killed. A writer that is alive holds the lock."""
        lock = self._locked(f"{self.path}.lock", timeout=0)
        if lock is None:
            return
        try:
            self._remove_draft()
        except OSError:  # it may not be removed; nothing reads it
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
            self._warn(
                f"cannot be locked ({getattr(error, 'strerror', None) or error}); each process requests its own token"
            )
            return NoLock()
        return lock

    def _warn(self, what: str) -> None:
        if what in self._warned:
            return
        self._warned.add(what)
        from logging import getLogger

        getLogger(__name__).warning("token store %s %s", self.path, what)


def _parse(descriptor: int) -> object:
    """Return the content of a file; None if it is not JSON, and for what should not be read at all."""
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_SIZE:
        return None
    try:
        with open(descriptor, "rb", closefd=False) as file:
            content: object = json.loads(file.read())
    except (ValueError, RecursionError, OSError):
        return None
    return content


def _distrust(status: os.stat_result) -> str | None:
    """Return why a file is not trusted; None if it is."""
    if not stat.S_ISREG(status.st_mode):
        return "is not a regular file"
    if status.st_size > MAX_SIZE:
        return "is too large to be a token store"
    if os.name != "posix":
        return None  # Windows protects a home directory by access lists, which a mode does not show
    if status.st_uid != os.geteuid():
        return "belongs to another user and is ignored"
    if stat.S_IMODE(status.st_mode) & 0o077:
        return "can be read or written by others and is ignored; it will be replaced"
    return None


def _is_worth_keeping(record: object, now: float) -> bool:
    """Whether a stored entry is still of use."""
    entry = Entry.from_record(record, now)
    if entry.token and (entry.token.is_valid(now) or entry.token.refresh_token):
        return True
    return bool(entry.failure and entry.failure.holds(now))
