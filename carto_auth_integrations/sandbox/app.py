"""The WSGI application of the sandbox: combines its endpoints, applies faults and counts requests."""

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

# Key of the client's socket in the WSGI environment: the listener sets it, and faults close the connection with it.
SOCKET_KEY = "carto_sandbox.socket"


def make_app(state: SandboxState, emulator: Emulator) -> Flask:
    """Build the application.

    Args:
        state: The state that all endpoints share.
        emulator: The BigQuery emulator to which the proxy forwards requests.
    """
    app = Flask(__name__, static_folder=None)
    app.register_blueprint(oauth.blueprint(state))
    app.register_blueprint(carto_api.blueprint(state))
    app.register_blueprint(bigquery_proxy.blueprint(state, emulator))
    app.register_blueprint(control.blueprint(state))

    @app.before_request
    def apply_fault() -> Response | None:
        fault = state.faults.take(_endpoint(), f"{request.method} {request.path}")
        g.fault = fault
        return None if fault is None else _before_endpoint(fault, state)

    @app.after_request
    def count_and_cut(response: Response) -> Response:
        if request.blueprint == control.BLUEPRINT_NAME:
            return response
        fault: Fault | None = g.get("fault")
        cut = None if fault is None else fault.cut
        state.stats.request(_endpoint(), "cut" if cut else str(response.status_code))
        if cut is None:
            return response
        return _cut_in_body(response) if cut == "body" else _cut_without_response(response)

    @app.errorhandler(404)
    def not_found(_: Exception) -> Response:
        return carto_error(404, "Not found")

    return app


def _endpoint() -> str:
    """Return the name of the request's endpoint, as faults and counts use it."""
    return request.endpoint.rpartition(".")[2] if request.endpoint else "other"


def _before_endpoint(fault: Fault, state: SandboxState) -> Response | None:
    """Apply the part of a fault that precedes the endpoint: wait, or return a response that replaces the endpoint's."""
    state.stopping.wait(fault.delay)
    if fault.cut == "before":
        return Response()  # never sent: count_and_cut closes the connection
    if not fault.answers:
        return None
    bigquery_proxy.drain_request()
    response = _fault_response(fault)
    if fault.retry_after_header is not None:
        response.headers["Retry-After"] = fault.retry_after_header
    return response


def _fault_response(fault: Fault) -> Response:
    status = fault.status or 200
    if fault.body is None:
        return error_of(fault.endpoint, status)
    body = json.dumps(fault.body) if isinstance(fault.body, Mapping) else fault.body
    return Response(body, status=status, content_type=fault.content_type)


def _cut_without_response(response: Response) -> Response:
    """Close the connection before any byte of the response is sent."""
    response.close()
    _close_socket()
    return Response()


def _cut_in_body(response: Response) -> Response:
    """Send the headers of a response and half of its body, then close the connection."""
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
        return  # the client closed it first
