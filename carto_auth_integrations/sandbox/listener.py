"""The HTTP server below the application: cheroot, set up for many connections on the loopback interface.

Werkzeug's own server closes each connection after one answer; cheroot keeps them and streams both ways.
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

# Each delayed request holds a thread, and tests open some hundred connections at once.
THREADS = 512

# A thousand clients may knock before one is let in.
BACKLOG = 1024

# Seconds an idle connection is kept: longer than the pauses inside a test, shorter than a session.
IDLE = 60

# Seconds between two looks at whether to stop; so long does stopping take.
POLL = 0.1

# Seconds a stopping server waits for the requests under way.
GRACE = 2

_log = logging.getLogger(__name__)


class _Gateway(Gateway_10):
    """Gives the application the client's socket, which it cuts when a fault asks for it."""

    def get_environ(self) -> dict[str, Any]:  # type: ignore[override]  # cheroot gives it no types
        environ: dict[str, Any] = super().get_environ()  # type: ignore[no-untyped-call]  # the same
        environ[SOCKET_KEY] = self.req.conn.socket
        return environ


class _Connection(HTTPConnection):
    """Drops what a cut connection could not send; Python would complain of it when it collects garbage."""

    def close(self) -> None:
        with suppress(OSError):
            self.wfile.close()
        super().close()


class _Server(Server):
    ConnectionClass = _Connection
    expiration_interval = POLL
    keep_alive_conn_limit = BACKLOG

    def error_log(self, msg: str = "", level: int = logging.INFO, traceback: bool = False) -> None:
        """Logs what goes wrong between server and client, which faults cause on purpose."""
        _log.debug("%s", msg, exc_info=traceback)


class Listener:
    """Serves an application from a daemon thread.

    Args:
        app: The application.
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
        """Binds the port and begins to serve.

        Returns:
            The URL it answers at.

        Raises:
            OSError: The port is taken.
        """
        self._thread.start()
        self._bound.result()
        return f"http://{HOST}:{self._server.bind_addr[1]}"

    def stop(self) -> None:
        """Stops serving and closes all connections."""
        if self._thread.ident is None:
            return
        with suppress(Exception):  # told by start(); here it matters that the server has got so far as to hear a stop
            self._bound.result()
        self._server.stop()
        self._thread.join()

    def _serve(self) -> None:
        # Prepared here and not in `start`: the pool's threads are daemons only when a daemon starts them, and
        # others would keep a program from ending that forgot to stop its sandbox.
        try:
            self._server.prepare()
        except BaseException as error:  # start() waits for it in another thread
            self._bound.set_exception(error)
            return
        self._bound.set_result(None)
        self._server.serve()
