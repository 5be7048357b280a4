"""What several unit tests share: accounts, grants without a network, a small server, a search for leaks."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from carto_auth_integrations import CartoAccount, CartoAuth
from carto_auth_integrations.sandbox import Sandbox
from carto_auth_integrations.tokens.token import Token

SECRET = "hunter2-client-secret"
"""A client secret that no test may find in anything that is shown."""
BEARER = "hunter2-access-token"
"""The same for an access token."""
PATIENCE = 20.0
"""Seconds after which a thread counts as hung; far above what any of them takes on a busy machine."""

_TESTS = str(Path(__file__).parents[1])


def fields_for(url: str, **fields: Any) -> dict[str, Any]:
    """Give the fields of an M2M account whose every URL is this one."""
    return {
        "auth_mode": "m2m",
        "api_base_url": url,
        "auth_url": url,
        "accounts_url": url,
        "client_id": "the-client",
        "client_secret": SECRET,
        **fields,
    }


def account_for(url: str, **fields: Any) -> CartoAccount:
    """Give an M2M account whose every URL is this one."""
    return CartoAccount.from_mapping(fields_for(url, **fields))


def auth_for(sandbox: Sandbox, tmp_path: Path, **fields: Any) -> CartoAuth:
    """Give an object for the sandbox's account, with a token store of this test's own."""
    return CartoAuth.from_mapping({**sandbox.account, "token_store": str(tmp_path / "tokens.json"), **fields})


def token_living(seconds: float, value: str = BEARER, *, stale_in: float | None = None, **fields: Any) -> Token:
    """Give a token that ends in so many seconds, counted from now."""
    now = time.time()
    stale_at = now + (seconds if stale_in is None else stale_in)
    return Token(value, obtained_at=now - 100, expires_at=now + seconds, stale_at=stale_at, **fields)


class FakeGrant:
    """A grant that gives its outcomes one after the other, the last one over and over.

    Args:
        outcomes: Tokens to give and errors to raise; the first call gets the first.
        gate: What each call waits for before it does either.
    """

    def __init__(self, *outcomes: Token | BaseException, gate: threading.Event | None = None) -> None:
        self.calls = 0
        self.called = threading.Event()
        self._outcomes = list(outcomes)
        self._gate = gate
        self._lock = threading.Lock()

    def __call__(self, previous: Token, *, interactive: bool) -> Token:
        with self._lock:
            outcome = self._outcomes[min(self.calls, len(self._outcomes) - 1)]
            self.calls += 1
        self.called.set()
        if self._gate is not None:
            assert self._gate.wait(PATIENCE)
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome


def until(condition: Callable[[], Any]) -> None:
    """Wait for something that another thread brings about."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it never came about"
        time.sleep(0.005)


class Outcome:
    """What a function gave or raised on a thread of its own."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self._function = function
        self._value: Any = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._value = self._function()
        except BaseException as error:
            self._error = error

    def settled(self) -> Any:
        """Wait for it, and give the value or the error."""
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive(), "it hangs"
        return self._value if self._error is None else self._error


def raised_by(function: Callable[[], Any]) -> BaseException:
    """Give what a function raises, its traceback with the package's frames and locals on it."""
    with pytest.raises(BaseException) as info:  # noqa: PT011 - the test looks at it
        function()
    return info.value


def shown_by(error: BaseException) -> str:
    """Give all that a debugger or a log handler shows of an error: text, attributes, chain, traceback with locals.

    The frames of the tests are left out: they know the secrets.
    """
    parts = [str(error), repr(error), repr(vars(error))]
    frames = [pair for pair in traceback.walk_tb(error.__traceback__) if not _is_of_a_test(pair[0])]
    parts += traceback.StackSummary.extract(iter(frames), capture_locals=True, lookup_lines=False).format()
    for chained in (error.__cause__, error.__context__):
        if chained is not None:
            parts.append(shown_by(chained))
    return "\n".join(parts)


def _is_of_a_test(frame: Any) -> bool:
    name: str = frame.f_code.co_filename
    return name.startswith(_TESTS)


def assert_shows_no_secret(error: BaseException, *secrets: str) -> None:
    """Hold an error against law 4: nothing that is shown of it holds a secret."""
    shown = shown_by(error)
    for secret in (SECRET, BEARER, *secrets):
        assert secret not in shown, shown


class Request(NamedTuple):
    """A request that a `Server` received."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Server:
    """A small HTTP server on loopback for what the sandbox cannot do; it answers as its test says.

    Args:
        answer: Called with the handler of each request; writes the answer.
    """

    def __init__(self, answer: Callable[[BaseHTTPRequestHandler], None]) -> None:
        self.requests: list[Request] = []
        self.stopping = threading.Event()
        received = self.requests

        class Handler(BaseHTTPRequestHandler):
            timeout = PATIENCE

            def handle_any(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                headers = {name.lower(): value for name, value in self.headers.items()}
                received.append(Request(self.command, self.path, headers, body))
                self.close_connection = True
                answer(self)

            do_GET = do_POST = do_CONNECT = handle_any  # noqa: N815 - the names that http.server calls

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name for it
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]  # clients hang up on purpose
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def stop(self) -> None:
        """End it, and whatever answer is under way."""
        self.stopping.set()
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def serving(answer: Callable[[BaseHTTPRequestHandler], None]) -> Iterator[Server]:
    """Run a `Server` for a block."""
    server = Server(answer)
    try:
        yield server
    finally:
        server.stop()


def reply(handler: BaseHTTPRequestHandler, status: int, body: str | bytes = "", **headers: str) -> None:
    """Write an answer; underscores in the names of headers stand for dashes."""
    content = body.encode() if isinstance(body, str) else body
    handler.send_response(status)
    for name, value in {"Content_Type": "application/json", **headers}.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    handler.wfile.write(content)


def answers(status: int, body: str | bytes = "", **headers: str) -> Callable[[BaseHTTPRequestHandler], None]:
    """Give a function that writes the same answer to each request."""
    return lambda handler: reply(handler, status, body, **headers)


def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the pauses between tries down to nothing that is felt."""
    for name in ("WAIT_INITIAL", "WAIT_JITTER"):
        monkeypatch.setattr(f"carto_auth_integrations.http.{name}", 0.01)


class Clock:
    """A clock that a test turns, in the place of the module `time` of one or more modules.

    Args:
        monkeypatch: Puts the real one back.
        modules: Names of the modules under `carto_auth_integrations`.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *modules: str) -> None:
        self._ahead = 0.0
        for module in modules:
            monkeypatch.setattr(f"carto_auth_integrations.{module}.time", self)

    def time(self) -> float:
        """The wall clock, UTC epoch seconds."""
        return time.time() + self._ahead

    def monotonic(self) -> float:
        """The clock that nobody puts back."""
        return time.monotonic() + self._ahead

    def sleep(self, seconds: float) -> None:
        """Sleep on the real clock."""
        time.sleep(seconds)

    def advance(self, seconds: float) -> None:
        """Turn both clocks on."""
        self._ahead += seconds
