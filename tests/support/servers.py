"""A small HTTP server for answers that the sandbox cannot give."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

from tests.support.threads import PATIENCE


class Request(NamedTuple):
    """A request that a `Server` received."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Server:
    """A small HTTP server on loopback, whose answers its test writes.

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

            do_GET = do_POST = do_PUT = do_CONNECT = handle_any  # noqa: N815 - the names that http.server calls

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name for it
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]  # clients hang up on purpose
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def stop(self) -> None:
        """Stop it; an answer that is being written sees `stopping` set."""
        self.stopping.set()
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def serving(answer: Callable[[BaseHTTPRequestHandler], None]) -> Iterator[Server]:
    """Run a `Server` while a `with` block runs."""
    server = Server(answer)
    try:
        yield server
    finally:
        server.stop()


def reply(handler: BaseHTTPRequestHandler, status: int, body: str | bytes = "", **headers: str) -> None:
    """Write an answer; underscores in the names of headers become dashes."""
    content = body.encode() if isinstance(body, str) else body
    handler.send_response(status)
    for name, value in {"Content_Type": "application/json", **headers}.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    handler.wfile.write(content)


def answers(status: int, body: str | bytes = "", **headers: str) -> Callable[[BaseHTTPRequestHandler], None]:
    """Return a function that writes the same answer to each request."""
    return lambda handler: reply(handler, status, body, **headers)
