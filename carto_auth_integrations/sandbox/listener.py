"""HTTP server of the sandbox: cheroot, configured for many connections on the loopback interface.

Werkzeug's development server closes each connection after one response; cheroot keeps connections open and streams
requests and responses.
"""

from __future__ import annotations

import logging
import threading
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

from cheroot.server import HTTPConnection
from cheroot.wsgi import Gateway_10, Server
from flask import Flask

from .app import SOCKET_KEY

HOST = "127.0.0.1"

# Each delayed request occupies a thread, and tests open several hundred connections at once.
THREADS = 512

# Connections that may wait to be accepted: tests may start a thousand clients at once.
BACKLOG = 1024

# Seconds before an idle connection is closed: longer than pauses within a test, shorter than a test session.
IDLE = 60

# Seconds between checks whether to stop, and thus the time that a stop takes.
POLL = 0.1

# Seconds that a stop waits for in-flight requests.
GRACE = 2

_log = logging.getLogger(__name__)


class _Gateway(Gateway_10):
    """Passes the client's socket to the application, so that faults can close the connection."""

    def get_environ(self) -> dict[str, Any]:  # type: ignore[override]  # untyped in cheroot
        environ: dict[str, Any] = super().get_environ()  # type: ignore[no-untyped-call]  # untyped in cheroot
        environ[SOCKET_KEY] = self.req.conn.socket
        return environ


class _Connection(HTTPConnection):
    """Discards unsent data of a closed connection; otherwise the garbage collector reports it as an error."""

    def close(self) -> None:
        with suppress(OSError):
            self.wfile.close()
        super().close()


class _Server(Server):
    ConnectionClass = _Connection
    expiration_interval = POLL
    keep_alive_conn_limit = BACKLOG

    def error_log(self, msg: str = "", level: int = logging.INFO, traceback: bool = False) -> None:
        """Log connection errors at DEBUG only: faults cause them on purpose."""
        _log.debug("%s", msg, exc_info=traceback)


class Listener:
    """Serves an application in a daemon thread.

    Args:
        app: The WSGI application.
        port: Port on the loopback interface; 0 lets the operating system choose.
    """

    def __init__(self, app: Flask, port: int) -> None:
        self._server = _Server(
            (HOST, port),
            app,
            numthreads=THREADS,
            request_queue_size=BACKLOG,
            timeout=IDLE,
            shutdown_timeout=GRACE,
        )
        self._server.gateway = _Gateway
        self._bound: Future[None] = Future()
        self._thread = threading.Thread(target=self._serve, name="carto-sandbox", daemon=True)

    def start(self) -> str:
        """Bind the port and start to serve.

        Returns:
            The URL of the server.

        Raises:
            OSError: If the port is taken.
        """
        self._thread.start()
        self._bound.result()
        return f"http://{HOST}:{self._server.bind_addr[1]}"

    def stop(self) -> None:
        """Stop the server and close all connections."""
        if self._thread.ident is None:
            return
        with suppress(Exception):  # start() raises it; a server ignores stop() until its preparation has ended
            self._bound.result()
        self._server.stop()
        self._thread.join()

    def _serve(self) -> None:
        # Not in `start`: threads inherit `daemon` from the thread that creates them, and non-daemon threads of the
        # pool would keep a program running that does not stop its sandbox.
        try:
            self._server.prepare()
        except BaseException as error:  # start() raises it in another thread
            self._bound.set_exception(error)
            return
        self._bound.set_result(None)
        self._server.serve()
