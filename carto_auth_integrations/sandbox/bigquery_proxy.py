"""BigQuery as the sandbox shows it: the emulator, behind a door that asks for a live Data Warehouse token."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from typing import IO
from urllib.parse import urlsplit

from flask import Blueprint, Response, request

from .carto_api import bearer_token
from .emulator import Emulator
from .errors import SandboxError
from .shapes import google_error
from .state import SandboxState

# What passes through the proxy at a time, in bytes: large enough for speed, too small to notice.
BLOCK = 64 * 1024

# Seconds a query may compute before its first byte; BigQuery itself holds a request for 200 s at most.
EMULATOR_TIMEOUT = 300

_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD")

# Headers that concern one connection only (RFC 9110, 7.6.1), and the two that the emulator must not see.
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
    """The routes that `google.cloud.bigquery` uses below its `api_endpoint`."""
    routes = Blueprint("bigquery_proxy", __name__)

    def answer() -> Response:
        if state.tokens.find("dw", bearer_token()) is None:
            drain_request()
            state.stats.refused_by_dw()
            return _unauthenticated()
        try:
            return _forward(emulator.url())
        except SandboxError as error:
            # 501 is one of the few statuses that Google's clients do not retry for minutes.
            drain_request()
            return google_error(501, str(error))
        except (OSError, http.client.HTTPException) as error:
            return google_error(502, f"The BigQuery emulator broke off: {type(error).__name__}")

    @routes.route("/bigquery/<path:_>", methods=_METHODS)
    def bigquery(_: str) -> Response:
        return answer()

    @routes.route("/upload/bigquery/<path:_>", methods=_METHODS)
    @routes.route("/resumable/upload/bigquery/<path:_>", methods=_METHODS)
    def upload(_: str) -> Response:
        return answer()

    return routes


def drain_request() -> None:
    """Reads the rest of the request, by blocks: a client in mid-upload sees no answer before its end."""
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
    """Passes the request on and its answer back, both without holding more than a block of them."""
    # A connection of its own for each request: a pooled one may be closed by the emulator just as it is used.
    connection = http.client.HTTPConnection(urlsplit(emulator_url).netloc, timeout=EMULATOR_TIMEOUT, blocksize=BLOCK)
    try:
        connection.request(
            request.method,
            request.full_path if request.query_string else request.path,
            body=_request_body(),
            headers={name: value for name, value in request.headers.items() if name.lower() not in _NOT_FORWARDED},
            encode_chunked=_is_chunked(),
        )
        upstream = connection.getresponse()
    except BaseException:  # Ctrl-C too: the connection must not stay open
        connection.close()
        raise
    response = Response(_blocks(upstream), status=f"{upstream.status} {upstream.reason}")
    response.headers.clear()
    for name, value in upstream.getheaders():
        if name.lower() not in _NOT_FORWARDED:
            response.headers.add(name, _here(value) if name.lower() == "location" else value)
    response.call_on_close(connection.close)
    return response


def _is_chunked() -> bool:
    return "chunked" in request.headers.get("Transfer-Encoding", "")


def _request_body() -> IO[bytes] | Iterator[bytes] | None:
    if _is_chunked():
        return iter(lambda: request.stream.read(BLOCK), b"")
    return request.stream if request.content_length else None


def _blocks(upstream: http.client.HTTPResponse) -> Iterator[bytes]:
    while block := upstream.read1(BLOCK):
        yield block


def _here(location: str) -> str:
    """An address of the emulator, as the client reaches it: through this proxy."""
    here = urlsplit(request.host_url)
    return urlsplit(location)._replace(scheme=here.scheme, netloc=here.netloc).geturl()
