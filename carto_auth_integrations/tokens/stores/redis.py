"""Tokens in Redis, shared by all hosts of a fleet. Needs the extra `redis`."""

from __future__ import annotations

import json
import threading
import time
from typing import TYPE_CHECKING

from ...account.fields import without_password
from ...errors import InvalidField, MissingDependency
from ..token import Entry
from .base import NoLock

if TYPE_CHECKING:
    from typing import Any

    from ...account.secret import Secret
    from .base import StoreLock

PREFIX = "carto-auth:"
LOCK_LEASE = 5.0
"""Seconds after which the lock of a host that died is free again. A living holder renews it after a third of that."""
KEEP_EXPIRED = 30 * 86400
"""Seconds that an entry with a refresh token outlives its access token."""
SOCKET_TIMEOUT = 2.0
"""Seconds for Redis to answer. It is near, and a token can be requested without it."""


class RedisStore:
    """A store in Redis. While Redis cannot be reached, tokens stay in memory: one WARNING per outage, no failure.

    Args:
        url: `redis://host:port/db` or `rediss://…`; a user and password in it are not shown.
    """

    def __init__(self, url: Secret) -> None:
        try:
            from redis import Redis
        except ImportError:
            raise MissingDependency(
                'token_store names Redis, whose client is not installed: pip install "carto-auth-integrations[redis]".'
            ) from None
        self._place = without_password(url.reveal())
        try:
            bounds = {"socket_timeout": SOCKET_TIMEOUT, "socket_connect_timeout": SOCKET_TIMEOUT}
            self._redis: Redis = Redis.from_url(url.reveal(), **bounds)
            self._redis.connection_pool.make_connection()  # reads the options; connects to nothing
        except (ValueError, TypeError, AttributeError):
            understood = False
        else:
            understood = True
        if not understood:
            raise InvalidField(f"token_store {self._place} is not a URL that Redis understands: redis://host:port/db.")
        self._in_outage = False

    def read(self, key: str) -> Entry:
        """Return what is stored under a fingerprint; an empty entry if nothing trustworthy is."""
        value = self._ask("get", f"{PREFIX}{key}")
        try:
            return Entry.from_record(json.loads(value or "null"), time.time())
        except (ValueError, RecursionError, TypeError):
            return Entry()

    def write(self, key: str, entry: Entry) -> None:
        """Store an entry in place of the previous one; Redis drops it when it is no longer of use."""
        self._ask("set", f"{PREFIX}{key}", json.dumps(entry.record()), px=_lifetime(entry))

    def forget(self, key: str) -> None:
        """Drop what is stored under a fingerprint."""
        self._ask("delete", f"{PREFIX}{key}")

    def try_lock(self, key: str) -> StoreLock | None:
        """Return the lock around a token request, without waiting; None while another process holds it."""
        from redis.exceptions import RedisError

        lock = self._redis.lock(f"{PREFIX}{key}:lock", timeout=LOCK_LEASE, blocking=False, thread_local=False)
        try:
            return _Lease(lock) if lock.acquire() else None
        except RedisError as error:
            self._warn(error)
            return NoLock()

    def describe(self) -> str:
        """Return the place for people to read; no password."""
        return self._place

    def _ask(self, command: str, *args: Any, **options: Any) -> Any:
        from redis.exceptions import RedisError

        try:
            answer = getattr(self._redis, command)(*args, **options)
        except RedisError as error:
            self._warn(error)
            return None
        self._in_outage = False
        return answer

    def _warn(self, error: Exception) -> None:
        if self._in_outage:
            return
        self._in_outage = True
        from logging import getLogger

        getLogger(__name__).warning(
            "token store %s cannot be reached (%s); tokens stay in memory", self._place, type(error).__name__
        )


class _Lease:
    """A lock that is renewed while its holder lives."""

    def __init__(self, lock: Any) -> None:
        self._lock = lock
        self._released = threading.Event()
        try:
            threading.Thread(target=self._renew, name="carto-lease", daemon=True).start()
        except RuntimeError:  # the system gives no thread: at worst, the lease runs out during a slow request
            pass

    def _renew(self) -> None:
        from redis.exceptions import LockError, RedisError

        while not self._released.wait(LOCK_LEASE / 3):
            try:
                self._lock.reacquire()
            except LockError:  # lost: another process may request a token as well
                return
            except RedisError:  # slow just now; there is time for another attempt
                continue

    def release(self) -> None:
        """Release the lock."""
        from redis.exceptions import RedisError

        self._released.set()
        try:
            self._lock.release()
        except RedisError:  # it has run out already
            pass


def _lifetime(entry: Entry) -> int:
    """Return the milliseconds after which an entry is no longer of use."""
    now = time.time()
    ends = [now + 1]
    if entry.token:
        ends.append(min(entry.token.expires_at, now + KEEP_EXPIRED))
        if entry.token.refresh_token:
            ends.append(now + KEEP_EXPIRED)
    if entry.failure:
        ends.append(entry.failure.until)
    return int((max(ends) - now) * 1000)
