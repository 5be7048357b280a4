"""The sandbox's endpoints as one WSGI application that plays the faults and counts the requests."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator, Mapping

from flask import Flask, Response, g, request

from . import bigquery_proxy, carto_api, control, oauth
from .emulator import Emulator
from .faults import Fault
from .shapes import carto_error, error_of
from .state import SandboxState

# Where the listener leaves the client's socket in the WSGI environment, for connections that are to be cut.
SOCKET_KEY = "carto_sandbox.socket"


def make_app(state: SandboxState, emulator: Emulator) -> Flask:
    """Puts the endpoints together.

    Args:
        state: What they share.
        emulator: The BigQuery emulator behind the proxy.
    """
    app = Flask(__name__, static_folder=None)
    app.register_blueprint(oauth.blueprint(state))
    app.register_blueprint(carto_api.blueprint(state))
    app.register_blueprint(bigquery_proxy.blueprint(state, emulator))
    app.register_blueprint(control.blueprint(state))

    @app.before_request
    def misbehave() -> Response | None:
        fault = state.faults.take(_endpoint(), f"{request.method} {request.path}")
        g.fault = fault
        return None if fault is None else _begin(fault, state)

    @app.after_request
    def count(response: Response) -> Response:
        if request.blueprint == control.BLUEPRINT_NAME:
            return response
        fault: Fault | None = g.get("fault")
        cut = None if fault is None else fault.cut
        state.stats.request(_endpoint(), "cut" if cut else str(response.status_code))
        if cut is None:
            return response
        return _break_off(response) if cut == "body" else _hang_up(response)

    @app.errorhandler(404)
    def unknown(_: Exception) -> Response:
        return carto_error(404, "Not found")

    return app


def _endpoint() -> str:
    """The name under which faults and counts know the request."""
    return request.endpoint.rpartition(".")[2] if request.endpoint else "other"


def _begin(fault: Fault, state: SandboxState) -> Response | None:
    """Plays the part of a fault that comes before the endpoint's own work."""
    state.stopping.wait(fault.delay)
    if fault.cut == "before":
        return Response()  # which is not sent: what follows every request closes the connection
    if not fault.answers:
        return None
    bigquery_proxy.drain_request()
    response = _answer(fault)
    if fault.retry_after_header is not None:
        response.headers["Retry-After"] = fault.retry_after_header
    return response


def _answer(fault: Fault) -> Response:
    status = fault.status or 200
    if fault.body is None:
        return error_of(fault.endpoint, status)
    body = json.dumps(fault.body) if isinstance(fault.body, Mapping) else fault.body
    return Response(body, status=status, content_type=fault.content_type)


def _hang_up(response: Response) -> Response:
    """Closes the connection, so that nothing of the response arrives."""
    response.close()
    _close_socket()
    return Response()


def _break_off(response: Response) -> Response:
    """Sends a response's headers and half its body, then closes the connection."""
    body = response.get_data()
    response.close()

    def half() -> Iterator[bytes]:
        yield body[: len(body) // 2]
        _close_socket(client)

    client = request.environ[SOCKET_KEY]
    broken = Response(half(), status=response.status, headers=response.headers)
    broken.headers["Content-Length"] = str(len(body))
    return broken


def _close_socket(client: socket.socket | None = None) -> None:
    client = client or request.environ[SOCKET_KEY]
    try:
        client.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # the client was faster
