"""Who fetches a token, who waits and who goes on: one request for all threads, coroutines, processes and hosts.

The same source serves the CARTO access token and the token of the CARTO Data Warehouse; they differ in their grant.
"""

from __future__ import annotations

import time
from _thread import RLock, allocate_lock, get_ident  # what threading gives on, without its import on a warm start

from ..errors import AccountError, CredentialsError, InteractionRequired
from .token import LONGEST_BACKOFF, NO_TOKEN, UNAVAILABLE_BACKOFF, Entry, Failure, Token

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Future
    from typing import Any, Protocol

    from .stores import TokenStore
    from .token import Interactive

    class Grant(Protocol):
        """How a new token is obtained."""

        def __call__(self, previous: Token, *, interactive: Interactive) -> Token:
            """Ask for a token.

            Args:
                previous: The last one, expired or rejected, for its refresh token; `NO_TOKEN` if there was none.
                interactive: Whether a person may be asked to log in, and how.

            Raises:
                CredentialsError: If there is none to be had.
            """


LOCK_TIMEOUT = 65.0
"""Seconds to wait for another process's request: more than a call of `http.py` may take. After that, ask as well."""
LOCK_POLL = 0.02
LONGEST_LOCK_POLL = 0.25
"""Seconds between two looks at the store while another process asks, at first and at last."""


class _Abandoned(Exception):
    """The caller that was fetching was interrupted: whoever waited goes and fetches."""


class TokenSource:
    """The tokens of one credential in this process.

    A FRESH token is returned as it is. A STALE one is returned while one background request renews it. When it is
    EXPIRED, one caller asks and all others wait for that same answer, be it a token or an error. A failure is
    remembered for a short back-off, in the store too, and handed to everyone who asks meanwhile.

    Args:
        key: The credential's fingerprint in the store.
        title: What the token is, for logs and messages; no secret.
        grant: How a new token is obtained.
        store: Where tokens rest between processes.
        listeners: Called with each token that this process comes to hold, before it is handed out; their trouble is
            logged and goes no further.
    """

    def __init__(
        self, key: str, title: str, grant: Grant, store: TokenStore, listeners: Sequence[Callable[[Token], None]] = ()
    ) -> None:
        self.token = NO_TOKEN
        self.title = title
        self.grant = grant
        self.store = store
        self.key = key
        self._rejected = NO_TOKEN
        self._listeners = listeners
        self._announced = NO_TOKEN
        self._failure: Failure | None = None
        self._quiet_until = 0.0
        self._forgiven_until = 0.0
        self.start_clean()

    def start_clean(self) -> None:
        """Forget what belongs to threads: at birth, and in the child after a fork."""
        self._lock = allocate_lock()
        self._announcing = RLock()
        self._flight: Future[Token] | None = None
        self._leader = 0

    def get(self, *, interactive: Interactive = False) -> Token:
        """Give a token that serves, fetching it if need be.

        Args:
            interactive: Whether a person may be asked to log in, if it comes to that, and how.

        Raises:
            CredentialsError: If there is none to be had; the kind says why.
        """
        while True:
            token = self._at_hand() or self._in_store()
            if token:
                return token
            if self._leader == get_ident():
                raise RuntimeError(f"{self.title}: asked for again from within its own request (a token listener?)")
            try:
                flight, leads = self._board(get_ident())
                if leads:
                    self._fly(flight, interactive=interactive)
            except BaseException:  # Ctrl-C, or a task's time limit: whoever waits must not wait for ever
                self._abandon()
                raise
            error = flight.exception()
            if error is None:
                return flight.result()
            if not isinstance(error, _Abandoned):
                raise error if leads else _replica(error)

    async def aget(self) -> Token:
        """Give a token that serves, like `get`, without holding the event loop and without asking a person."""
        from asyncio import wrap_future

        while True:
            token = self._at_hand()
            if token:
                return token
            flight, leads = self._board(leader=0)
            if leads:
                self._fly_on_thread(flight)
            try:  # the flight runs already, so a caller's cancellation does not reach it: no shield needed
                return await wrap_future(flight)
            except _Abandoned:
                continue
            except CredentialsError as failure:
                error = failure
            raise _replica(error)

    def reject(self, access_token: str) -> None:
        """Say that a server answered 401 to exactly this token: it counts as EXPIRED; a newer one is left alone."""
        with self._lock:
            if self.token.reveal() == access_token and time.monotonic() >= self._forgiven_until:
                self._rejected = self.token
                self.token = self.token.expired()

    def hold(self, token: Token) -> None:
        """Take a token that the caller brought, for this process alone; one that is at hand stays."""
        if self.token is NO_TOKEN:
            self._hand_out(token)

    def adopt(self, token: Token) -> None:
        """Take a token that came by another way, such as a login, and let every process have it."""
        self.store.write(self.key, Entry(token))
        with self._lock:
            self._failure = None
            self.token = NO_TOKEN
        self._hand_out(token)

    def forget(self) -> None:
        """Drop the token here and in the store."""
        self.store.forget(self.key)
        with self._lock:
            self.token = NO_TOKEN
            self._failure = None

    def peek(self) -> Token:
        """Give the token at hand or in the store, whatever its state, without any request; `NO_TOKEN` if none."""
        return self.token if self.token is not NO_TOKEN else self.store.read(self.key).token or NO_TOKEN

    def _at_hand(self) -> Token | None:
        token, now = self.token, time.time()
        if token.is_fresh(now):
            return token
        if token.is_usable(now):
            self._renew_in_background()
            return token
        if token.is_valid(now) and time.monotonic() < self._quiet_until:
            return token  # its last moments, and no other is to be had
        return None

    def _in_store(self) -> Token | None:
        """Take what another process has fetched, with no lock and no future: how most processes of a fleet begin.

        Raises:
            CredentialsError: The remembered failure, while it holds.
        """
        if self._flight is not None:
            return None
        try:
            token = self._found_in(self.store.read(self.key))
        except CredentialsError:
            if self.token.is_valid(time.time()):
                return self.token
            raise
        if token:
            self._hand_out(token)
        return token

    def _board(self, leader: int) -> tuple[Future[Token], bool]:
        """Join the request that is under way, or become the one that makes it.

        Args:
            leader: The thread that would make it; 0 for one that has yet to be started.
        """
        with self._lock:
            if self._flight is not None:
                return self._flight, False
            flight = _new_flight()
            if self.token.is_usable(time.time()):  # landed between the caller's look and this lock
                flight.set_result(self.token)
                return flight, False
            self._flight, self._leader = flight, leader
            return flight, True

    def _abandon(self) -> None:
        """Leave a request of this thread that was interrupted, wherever that was."""
        with self._lock:
            if self._leader != get_ident():
                return
            flight, self._flight, self._leader = self._flight, None, 0
        if flight is not None and not flight.done():
            flight.set_exception(_Abandoned())

    def _renew_in_background(self) -> None:
        if self._flight is not None or time.monotonic() < self._quiet_until:
            return
        with self._lock:
            if self._flight is not None or self.token.is_fresh(time.time()):
                return
            self._flight = flight = _new_flight()
        self._fly_on_thread(flight)

    def _fly_on_thread(self, flight: Future[Token]) -> None:
        from threading import Thread

        arguments = {"flight": flight, "interactive": False}
        try:
            Thread(target=self._fly, kwargs=arguments, name="carto-token", daemon=True).start()
        except RuntimeError:  # no thread to be had: the interpreter is shutting down, or the system is at its limit
            self._fly(flight, interactive=False)

    def _fly(self, flight: Future[Token], *, interactive: Interactive) -> None:
        """Obtain a token and land it, or its error, on the flight. Raises nothing but an interruption."""
        error: BaseException = _Abandoned()
        token = None
        self._leader = get_ident()
        try:
            token = self._obtain(interactive=interactive)
            self._hand_out(token)
        except Exception as failure:  # whatever it is, whoever waits must hear of it
            error = failure
            token = self._still_valid(failure)
        finally:
            if token:
                flight.set_result(token)
            else:
                flight.set_exception(error)
            with self._lock:
                self._flight, self._leader = None, 0

    def _still_valid(self, failure: Exception) -> Token | None:
        """Give the token in hand when its renewal failed and the server still takes it."""
        token = self.token
        if not token.is_valid(time.time()):
            return None
        remembered = self._failure.until - time.time() if self._failure else 0.0
        told = getattr(failure, "retry_after", None) or 0.0
        self._quiet_until = time.monotonic() + max(UNAVAILABLE_BACKOFF, min(max(remembered, told), LONGEST_BACKOFF))
        _log().warning("%s: renewal failed, the one in hand goes on: %s", self.title, failure)
        return token

    def _obtain(self, *, interactive: Interactive) -> Token:
        """Take the token that another process has fetched, or fetch it under the store's lock."""
        deadline, pause = time.monotonic() + LOCK_TIMEOUT, LOCK_POLL
        while True:
            entry = self.store.read(self.key)
            token = self._found_in(entry)
            if token:
                return token
            lock = self.store.try_lock(self.key)
            if lock or time.monotonic() >= deadline:
                break
            time.sleep(pause)
            pause = min(pause * 1.5, LONGEST_LOCK_POLL)
        if lock is None:
            return self._mint(entry, interactive=interactive)
        try:
            entry = self.store.read(self.key)
            return self._found_in(entry) or self._mint(entry, interactive=interactive)
        finally:
            lock.release()

    def _found_in(self, entry: Entry) -> Token | None:
        """Give the store's token if it is better than the one in hand.

        Raises:
            CredentialsError: The remembered failure, while it holds.
        """
        now, token = time.time(), entry.token
        if token and (token == self._rejected or token.stale_at <= self.token.stale_at):
            token = None
        if token and token.is_usable(now):
            return token
        failure = next((each for each in (self._failure, entry.failure) if each and each.holds(now)), None)
        if failure is None:
            return None
        if token and token.is_valid(now):
            return token  # its last moments, and no other is to be had
        raise failure.again(now)

    def _mint(self, entry: Entry, *, interactive: Interactive) -> Token:
        previous = self.token
        if entry.token and entry.token.obtained_at >= previous.obtained_at:
            previous = entry.token
        started = time.monotonic()
        try:
            token = self.grant(previous, interactive=interactive)
        except InteractionRequired:
            self._drop_refresh_token(previous)
            raise
        except AccountError:  # nobody was asked, so there is nothing to remember
            raise
        except CredentialsError as failure:
            if not failure.remembered:
                raise
            error = failure
        else:
            self._failure = None
            self.store.write(self.key, Entry(token))
            if token == self._rejected:  # the issuer knows no better: use it, and do not ask at each 401
                self._rejected = NO_TOKEN
                self._forgiven_until = time.monotonic() + UNAVAILABLE_BACKOFF
                _log().warning("%s: the one that was rejected came back from its issuer", self.title)
            lifetime = token.expires_at - token.obtained_at
            _log().info("%s: lives %.0f s, request took %.2f s", self.title, lifetime, time.monotonic() - started)
            return token
        self._failure = Failure.of(error, time.time())
        self.store.write(self.key, Entry(self.store.read(self.key).token or entry.token, self._failure))
        raise error

    def _drop_refresh_token(self, previous: Token) -> None:
        """Forget a refresh token that was just refused, so that it is not tried again with every call."""
        if not previous.refresh_token:
            return
        spent = previous.without_refresh_token()
        if self.store.read(self.key).token in (None, previous):  # and no login made meanwhile
            self.store.write(self.key, Entry(spent))
        with self._lock:
            if self.token == previous:
                self.token = self.token.without_refresh_token()

    def _hand_out(self, token: Token) -> None:
        """Make the token this process's, after those who must know of it (to mask it in logs) have heard."""
        with self._announcing:
            if token != self._announced:
                self._announced = token
                self._announce(token)
        with self._lock:
            if token.stale_at >= self.token.stale_at or not self.token.is_usable(time.time()):
                self.token = token

    def _announce(self, token: Token) -> None:
        for listener in tuple(self._listeners):
            try:
                listener(token)
            except Exception as error:  # a listener's trouble is not the pipeline's; its traceback may show the token
                _log().warning("%s: a token listener failed (%s)", self.title, type(error).__name__)


def _new_flight() -> Future[Token]:
    """Give a future that runs already, so that no waiting caller's cancellation reaches it."""
    from concurrent.futures import Future

    flight: Future[Token] = Future()
    flight.set_running_or_notify_cancel()
    return flight


def _replica(error: BaseException) -> BaseException:
    """Give an error of its own to each caller: one raised in many threads would gather all their tracebacks."""
    if not isinstance(error, CredentialsError):
        return error
    return type(error)(str(error), status=error.status, retry_after=error.retry_after)


def _log() -> Any:
    from logging import getLogger

    return getLogger(__name__)
