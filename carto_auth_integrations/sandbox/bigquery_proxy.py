"""Proxy to the BigQuery emulator that rejects requests without a valid Data Warehouse token."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from urllib.parse import urlsplit

from flask import Blueprint, Response, request

from .carto_api import bearer_token
from .emulator import Emulator
from .errors import SandboxError
from .shapes import google_error
from .state import SandboxState

# Bytes that are read and forwarded at a time: large enough for throughput, small in memory.
BLOCK = 64 * 1024

# Seconds to wait for the first byte of the emulator's response; BigQuery itself holds a request open for at most 200 s.
EMULATOR_TIMEOUT = 300

_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD")

# Headers that apply to one connection only (RFC 9110, section 7.6.1), and two that are not for the emulator: the
# sandbox's host and its token.
_NOT_FORWARDED = {
    "connection",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "expect",
    "host",
    "authorization",
}


def blueprint(state: SandboxState, emulator: Emulator) -> Blueprint:
    """Return the routes below the `api_endpoint` of `google.cloud.bigquery`."""
    routes = Blueprint("bigquery_proxy", __name__)

    def check_and_forward() -> Response:
        if state.tokens.find("dw", bearer_token()) is None:
            drain_request()
            state.stats.refused_by_dw()
            return _unauthenticated()
        try:
            return _forward(emulator.url())
        except SandboxError as error:
            # Google's clients do not retry a 501; most other server errors they retry for minutes.
            drain_request()
            return google_error(501, str(error))
        except (OSError, http.client.HTTPException) as error:
            return google_error(502, f"The connection to the BigQuery emulator failed: {type(error).__name__}")

    @routes.route("/bigquery/<path:_>", methods=_METHODS)
    def bigquery(_: str) -> Response:
        return check_and_forward()

    @routes.route("/upload/bigquery/<path:_>", methods=_METHODS)
    @routes.route("/resumable/upload/bigquery/<path:_>", methods=_METHODS)
    def upload(_: str) -> Response:
        return check_and_forward()

    return routes


def drain_request() -> None:
    """Read and discard the rest of the request body: a client reads the response only after its upload is complete."""
    while request.stream.read(BLOCK):
        pass


def _unauthenticated() -> Response:
    response = google_error(
        401,
        "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or "
        "other valid authentication credential.",
    )
    response.headers["WWW-Authenticate"] = 'Bearer realm="https://accounts.google.com/", error="invalid_token"'
    return response


def _forward(emulator_url: str) -> Response:
    """Forward the request to the emulator and stream its response, with at most one block of either in memory."""
    # A new connection for each request: the emulator may close a pooled one at the moment it is reused.
    connection = http.client.HTTPConnection(urlsplit(emulator_url).netloc, timeout=EMULATOR_TIMEOUT, blocksize=BLOCK)
    try:
        connection.request(
            request.method,
            _target(),
            body=_request_body(),
            headers={name: value for name, value in request.headers.items() if name.lower() not in _NOT_FORWARDED},
            encode_chunked=_is_chunked(),
        )
        upstream = connection.getresponse()
    except BaseException:  # also KeyboardInterrupt: the connection must not stay open
        connection.close()
        raise
    response = Response(_blocks(upstream), status=f"{upstream.status} {upstream.reason}")
    response.headers.clear()
    for name, value in upstream.getheaders():
        if name.lower() not in _NOT_FORWARDED:
            response.headers.add(name, _through_proxy(value) if name.lower() == "location" else value)
    response.call_on_close(connection.close)
    return response


def _target() -> str:
    """Return path and query as the client sent them: names of tables may have spaces and letters of any script."""
    return urlsplit(request.environ["REQUEST_URI"])._replace(scheme="", netloc="").geturl()


def _is_chunked() -> bool:
    return "chunked" in request.headers.get("Transfer-Encoding", "")


def _request_body() -> Iterator[bytes] | None:
    if _is_chunked():
        return iter(lambda: request.stream.read(BLOCK), b"")
    return _exactly(request.content_length) if request.content_length else None


def _exactly(length: int) -> Iterator[bytes]:
    """Yield the request body; if the client hangs up before its end, end the emulator's request as well."""
    while length:
        block = request.stream.read(min(BLOCK, length))
        if not block:
            raise ConnectionError("the client hung up")
        length -= len(block)
        yield block


def _blocks(upstream: http.client.HTTPResponse) -> Iterator[bytes]:
    while block := upstream.read1(BLOCK):
        yield block


def _through_proxy(location: str) -> str:
    """Replace the emulator's host in a URL with the host of this proxy, which is the one that clients can use."""
    proxy = urlsplit(request.host_url)
    return urlsplit(location)._replace(scheme=proxy.scheme, netloc=proxy.netloc).geturl()
