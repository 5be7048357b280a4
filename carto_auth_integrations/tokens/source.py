"""Share one token request among threads, coroutines, processes and hosts.

The same class serves the CARTO access token and the token of the CARTO Data Warehouse; they differ in their grant.
"""

from __future__ import annotations

from threading import Lock, RLock, get_ident
from time import sleep
from typing import TYPE_CHECKING

from ..errors import AccountError, CredentialsError, InteractionRequired, Scope
from .clock import SYSTEM
from .token import LONGEST_BACKOFF, NO_TOKEN, UNAVAILABLE_BACKOFF, Entry, Failure, State, Token

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Future
    from logging import Logger
    from typing import Protocol

    from ..waiting import Deadline
    from .clock import Clock
    from .stores.base import TokenStore
    from .token import Interactive

    class Grant(Protocol):
        """How a new token is obtained."""

        def __call__(self, previous: Token, *, interactive: Interactive) -> Token:
            """Request a token.

            Args:
                previous: The last one, expired or rejected, for its refresh token; `NO_TOKEN` if there was none.
                interactive: Whether a person may be asked to log in, and how.

            Raises:
                CredentialsError: If none can be obtained.
            """


LOCK_TIMEOUT = 65.0
"""Seconds to wait for another process's request: more than a call with all its retries takes. Then request as well."""
LOCK_POLL = 0.02
LONGEST_LOCK_POLL = 0.25
"""Seconds between two looks at the store while another process makes the request, at first and at last."""
QUICK_REFUSAL = 1.5
"""Seconds, besides twice the duration of its request, within which a replacement that is refused was never accepted."""


class _Interrupted(Exception):
    """The caller that made the request was interrupted: one of those who waited makes it instead."""


class TokenSource:
    """The tokens of one credential in this process.

    A FRESH token is returned at once, and so is a STALE one, while one background request refreshes it. When it is
    EXPIRED, one caller requests a new one, and all others wait for that same result, a token or an error. A failure
    is remembered for a short back-off, in the store too if the server is at fault, and raised for every caller
    meanwhile.

    Args:
        key: The credential's fingerprint in the store.
        title: What the token is, for logs and messages; no secret.
        grant: How a new token is obtained.
        store: Where tokens are kept between processes.
        listeners: Called with each token that this process comes to hold, before any caller has it. Their errors are
            logged.
        clock: The time.
    """

    def __init__(
        self,
        key: str,
        title: str,
        grant: Grant,
        store: TokenStore,
        listeners: Sequence[Callable[[Token], None]] = (),
        clock: Clock = SYSTEM,
    ) -> None:
        self.token = NO_TOKEN
        self.title = title
        self.grant = grant
        self.store = store
        self.key = key
        self.clock = clock
        self._listeners = listeners
        self._announced = NO_TOKEN
        self._failure: Failure | None = None
        self._quiet_until = 0.0  # monotonic: no background refresh before
        self._rejected = NO_TOKEN
        self._replacement = NO_TOKEN
        self._is_replacing = False
        self._quick_refusal = QUICK_REFUSAL  # seconds
        self._refusals = 0  # of replacements, one after the other
        self._is_kept = False
        self._kept_until = 0.0  # monotonic: the token in hand is not replaced before
        self.reset_threads()

    def reset_threads(self) -> None:
        """Forget locks and the request in flight: at the start, and in the child after a fork."""
        self._lock = Lock()
        self._announcing = RLock()
        self._in_flight: Future[Token] | None = None
        self._leader = 0

    def get(self, *, interactive: Interactive = False, deadline: Deadline | None = None) -> Token:
        """Return a token that can be used, after requesting it if need be.

        Args:
            interactive: Whether a person may be asked to log in, and how.
            deadline: When the caller stops waiting; the request goes on for others.

        Raises:
            CredentialsError: If none can be obtained; its class says why.
            TimeoutError: If the deadline passed.
        """
        while True:
            token = self._in_hand() or self._in_store()
            if token:
                return token
            if self._leader == get_ident():
                raise RuntimeError(f"{self.title}: requested from within its own request (by a token listener?)")
            try:
                request, leads = self._join(get_ident() if deadline is None else 0)
                if leads and deadline is None:
                    self._make(request, interactive=interactive)
                elif leads:
                    self._make_on_thread(request)
                if deadline is not None:
                    self._wait(request, deadline)
                error = request.exception()
            except BaseException:  # Ctrl-C, or a task's time limit: the others must not wait for ever
                self._abandon()
                raise
            if error is None:
                return request.result()
            if not isinstance(error, _Interrupted):
                raise error if leads else _copy_of(error)

    async def aget(self) -> Token:
        """Return a token that can be used, like `get`, without holding the event loop and without asking a person."""
        from asyncio import wrap_future

        while True:
            token = self._in_hand()
            if token:
                return token
            request, leads = self._join(leader=0)
            if leads:
                self._make_on_thread(request)
            try:  # the request is running already, so the cancellation of one caller does not reach it
                return await wrap_future(request)
            except _Interrupted:
                continue
            except CredentialsError as failure:
                error = failure
            raise _copy_of(error)

    def reject(self, access_token: str) -> None:
        """Note a server's 401 for exactly this token: it becomes EXPIRED. A newer one is left alone.

        A replacement that is refused right after it was obtained is replaced once more. If that one is refused as
        well, it is kept for a back-off that doubles: the server refuses this account, and the 401 is the answer.
        """
        with self._lock:
            now = self.clock.monotonic()
            if self.token.reveal() != access_token or now < self._kept_until:
                return
            time = self.clock.time()
            is_young = time - self.token.obtained_at < self._quick_refusal and self.token.is_valid(time)
            is_quick = self.token == self._replacement and (is_young or self._is_kept)
            self._refusals = self._refusals + 1 if is_quick else 0
            self._is_kept = self._refusals > 1 and not self._is_kept
            if self._is_kept:
                doublings = min(self._refusals // 2 - 1, 7)  # after these it is longer than the longest
                self._kept_until = now + min(UNAVAILABLE_BACKOFF * 2**doublings, LONGEST_BACKOFF)
                return
            self._rejected = self.token
            self._is_replacing = True
            self.token = self.token.expired()

    def hold(self, token: Token) -> None:
        """Use a token that the caller has given, in this process alone, unless there is one in hand."""
        if self.token is NO_TOKEN:
            self._hand_out(token)

    def adopt(self, token: Token) -> None:
        """Use a token that was obtained in another way, such as a login, and share it with every process."""
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
        """Return the token in hand or in the store, whatever its state, without a request; `NO_TOKEN` if none."""
        return self.token if self.token is not NO_TOKEN else self.store.read(self.key).token or NO_TOKEN

    def _in_hand(self) -> Token | None:
        token = self.token
        state = token.state(self.clock.time())
        if state is State.STALE:
            self._refresh_in_background()
        if state is State.ENDING and self.clock.monotonic() >= self._quiet_until:
            return None
        return None if state is State.EXPIRED else token

    def _in_store(self) -> Token | None:
        """Return what another process has obtained, without a lock: how most processes of a fleet begin.

        Raises:
            CredentialsError: The remembered failure, while it is remembered.
        """
        if self._in_flight is not None:
            return None
        try:
            token = self._found_in(self.store.read(self.key))
        except CredentialsError:
            if self.token.is_valid(self.clock.time()):
                return self.token
            raise
        if token:
            self._hand_out(token)
        return token

    def _join(self, leader: int) -> tuple[Future[Token], bool]:
        """Return the request in flight, or a new one that the caller has to make, and whether it has to.

        Args:
            leader: The thread that would make it; 0 for one that has yet to be started.
        """
        with self._lock:
            if self._in_flight is not None:
                return self._in_flight, False
            request = _new_request()
            if self.token.is_usable(self.clock.time()):  # it arrived between the caller's look and this lock
                request.set_result(self.token)
                return request, False
            self._in_flight, self._leader = request, leader
            return request, True

    def _wait(self, request: Future[Token], deadline: Deadline) -> None:
        from concurrent.futures import Future

        from ..waiting import settle

        done: Future[None] = Future()  # a caller's own: its cancellation must not reach the others
        request.add_done_callback(lambda _: settle(done, None))
        if not deadline.wait_for(done, deadline.left()):
            raise TimeoutError(f"{self.title}: none was obtained within {deadline.seconds or 0:g} s.")

    def _abandon(self) -> None:
        """Leave a request of this thread that was interrupted, wherever that was."""
        with self._lock:
            if self._leader != get_ident():
                return
            request, self._in_flight, self._leader = self._in_flight, None, 0
        if request is not None and not request.done():
            request.set_exception(_Interrupted())

    def _refresh_in_background(self) -> None:
        if self._in_flight is not None or self.clock.monotonic() < self._quiet_until:
            return
        with self._lock:
            if self._in_flight is not None or self.token.state(self.clock.time()) is State.FRESH:
                return
            self._in_flight = request = _new_request()
        self._make_on_thread(request)

    def _make_on_thread(self, request: Future[Token]) -> None:
        from ..waiting import start_thread

        start_thread(lambda: self._make(request, interactive=False), "carto-token")

    def _make(self, request: Future[Token], *, interactive: Interactive) -> None:
        """Obtain a token, and settle the request with it or with the error. Raises nothing but an interruption."""
        error: BaseException = _Interrupted()
        token = None
        self._leader = get_ident()
        try:
            token = self._obtain(interactive=interactive)
            self._hand_out(token)
        except Exception as failure:  # whatever it is, those who wait must be told
            error = failure
            token = self._still_valid(failure)
        finally:
            if token:
                request.set_result(token)
            else:
                request.set_exception(error)
            with self._lock:
                self._in_flight, self._leader = None, 0

    def _still_valid(self, failure: Exception) -> Token | None:
        """Return the token in hand if its refresh failed and the server still accepts it."""
        token = self.token
        if not token.is_valid(self.clock.time()):
            return None
        remembered = self._failure.until - self.clock.time() if self._failure else 0.0
        told = failure.retry_after or 0.0 if isinstance(failure, CredentialsError) else 0.0
        pause = max(UNAVAILABLE_BACKOFF, min(max(remembered, told), LONGEST_BACKOFF))
        self._quiet_until = self.clock.monotonic() + pause
        _logger().warning("%s: the refresh failed, the token in hand is used until it expires: %s", self.title, failure)
        return token

    def _obtain(self, *, interactive: Interactive) -> Token:
        """Return the token that another process has obtained, or request one under the store's lock."""
        deadline, pause = self.clock.monotonic() + LOCK_TIMEOUT, LOCK_POLL
        while True:
            entry = self.store.read(self.key)
            token = self._found_in(entry)
            if token:
                return token
            lock = self.store.try_lock(self.key)
            if lock or self.clock.monotonic() >= deadline:
                break
            sleep(pause)
            pause = min(pause * 1.5, LONGEST_LOCK_POLL)
        if lock is None:
            return self._request(entry, interactive=interactive)
        try:
            entry = self.store.read(self.key)
            return self._found_in(entry) or self._request(entry, interactive=interactive)
        finally:
            lock.release()

    def _found_in(self, entry: Entry) -> Token | None:
        """Return the store's token if it is better than the one in hand.

        Raises:
            CredentialsError: The remembered failure, while it is remembered.
        """
        now, token = self.clock.time(), entry.token
        if token and (token == self._rejected or token.stale_at <= self.token.stale_at):
            token = None
        if token and token.is_usable(now):
            return token
        failure = next((each for each in (self._failure, entry.failure) if each and each.holds(now)), None)
        if failure is None:
            return None
        if token and token.is_valid(now):
            return token  # it is ENDING, and no other can be had
        raise failure.again(now)

    def _request(self, entry: Entry, *, interactive: Interactive) -> Token:
        previous = self.token
        if entry.token and entry.token.obtained_at >= previous.obtained_at:
            previous = entry.token
        started = self.clock.monotonic()
        try:
            token = self.grant(previous, interactive=interactive)
        except InteractionRequired:
            self._drop_refresh_token(previous)
            raise
        except CredentialsError as failure:
            if failure.scope is Scope.CALLER:
                raise
            error = failure
        else:
            self._take(token, took=self.clock.monotonic() - started)
            return token
        self._failure = Failure.of(error, self.clock.time())
        if error.scope is Scope.SHARED:
            self.store.write(self.key, Entry(self.store.read(self.key).token or entry.token, self._failure))
        raise error

    def _take(self, token: Token, *, took: float) -> None:
        """Note a token that the grant has just returned."""
        self._failure = None
        self.store.write(self.key, Entry(token))
        self._replacement, self._is_replacing = token if self._is_replacing else NO_TOKEN, False
        self._quick_refusal = QUICK_REFUSAL + 2 * took  # a slow network is as slow when the token is used
        if token == self._rejected:  # the issuer has no other: use it, and do not request one at each 401
            self._rejected = NO_TOKEN
            self._kept_until = self.clock.monotonic() + UNAVAILABLE_BACKOFF
            _logger().warning("%s: the issuer returned the token that was rejected", self.title)
        lifetime = token.expires_at - token.obtained_at
        _logger().info("%s: expires in %.0f s, the request took %.2f s", self.title, lifetime, took)

    def _drop_refresh_token(self, previous: Token) -> None:
        """Forget a refresh token that was just refused, so that it is not sent again with every call."""
        if not previous.refresh_token:
            return
        spent = previous.without_refresh_token()
        if self.store.read(self.key).token in (None, previous):  # no login has been made meanwhile
            self.store.write(self.key, Entry(spent))
        with self._lock:
            if self.token == previous:
                self.token = self.token.without_refresh_token()

    def _hand_out(self, token: Token) -> None:
        """Make the token this process's, after the listeners (which mask it in logs) have been called."""
        with self._announcing:
            if token != self._announced:
                self._announced = token
                self._announce(token)
        with self._lock:
            if token.stale_at >= self.token.stale_at or not self.token.is_usable(self.clock.time()):
                self.token = token

    def _announce(self, token: Token) -> None:
        for listener in tuple(self._listeners):
            try:
                listener(token)
            except Exception as error:  # its traceback may show the token
                _logger().warning("%s: a token listener failed (%s)", self.title, type(error).__name__)


def _new_request() -> Future[Token]:
    """Return a future that is running already, so that no waiting caller's cancellation reaches it."""
    from concurrent.futures import Future

    request: Future[Token] = Future()
    request.set_running_or_notify_cancel()
    return request


def _copy_of(error: BaseException) -> BaseException:
    """Return an error of its own for each caller: one raised in many threads would collect all their tracebacks."""
    if not isinstance(error, CredentialsError):
        return error
    if isinstance(error, AccountError):
        return type(error)(str(error))
    return type(error)(str(error), status=error.status, retry_after=error.retry_after, scope=error.scope)


def _logger() -> Logger:
    from logging import getLogger  # a process that finds its token in the store logs nothing

    return getLogger(__name__)
