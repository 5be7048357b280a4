"""The HTTP client: bounded, retried where that helps, and no secret shown."""

from __future__ import annotations

import json
import logging
import os
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from carto_auth_integrations import http
from carto_auth_integrations._version import __version__
from carto_auth_integrations.account.secret import Secret
from carto_auth_integrations.errors import CredentialsError, ServiceUnavailable
from carto_auth_integrations.waiting import Cancelled, Deadline
from tests.support.accounts import BEARER, SECRET
from tests.support.clocks import hurry
from tests.support.leaks import assert_shows_no_secret, raised_by
from tests.support.processes import run_processes
from tests.support.servers import Server, answers, reply, serving
from tests.support.threads import PATIENCE, Outcome

FORM: dict[str, str | Secret] = {"client_id": "c", "client_secret": Secret(SECRET)}
MINUTES = 60.0
DRIP = 7.0
"""Seconds of a response that drips: several times what `_impatient` allows for a whole call."""


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set timeouts of a fraction of a second, so that what hangs is given up within the test."""
    monkeypatch.setattr(http, "CONNECT_TIMEOUT", 0.3)
    monkeypatch.setattr(http, "READ_TIMEOUT", 0.3)
    monkeypatch.setattr(http, "TOTAL_TIMEOUT", 1.5)


def post(url: str) -> http.Reply:
    return http.call("POST", f"{url}/oauth/token", purpose="CARTO access token of c", form=FORM)


def get(url: str) -> http.Reply:
    return http.call("GET", f"{url}/v3/x", purpose="CARTO DW token of c", bearer=Secret(BEARER))


def assert_typed(error: BaseException, url: str) -> None:
    """Assert what every error of the network has: its type, the URL, the next step, no secret and no chain."""
    assert isinstance(error, ServiceUnavailable)
    assert str(error).startswith(("CARTO access token of c: ", "CARTO DW token of c: "))
    assert url in str(error)
    assert "Try again" in str(error) or "Check" in str(error)
    assert error.__context__ is None
    assert error.__cause__ is None
    assert_shows_no_secret(error)


@pytest.fixture
def tls_server(tmp_path: Path) -> Iterator[tuple[Server, Path]]:
    """Yield the URL and the certificate of a server with a self-signed certificate."""
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("needs openssl")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = Server(answers(200, "{}"))
    server._server.socket = context.wrap_socket(server._server.socket, server_side=True)
    server.url = server.url.replace("http:", "https:")
    yield server, certificate
    server.stop()


# What is sent


def test_a_form_is_posted_with_its_secret_and_nothing_in_the_url() -> None:
    with serving(answers(200, "{}")) as server:
        post(server.url)

    (request,) = server.requests
    assert (request.method, request.path) == ("POST", "/oauth/token")
    assert request.body == f"client_id=c&client_secret={SECRET}".encode()
    assert "authorization" not in request.headers


def test_a_bearer_goes_into_the_header_and_the_client_names_itself() -> None:
    with serving(answers(200, "{}")) as server:
        get(server.url)

    (request,) = server.requests
    assert request.headers["authorization"] == f"Bearer {BEARER}"
    assert request.path == "/v3/x?client=carto-auth-integrations"
    assert request.headers["user-agent"] == f"carto-auth-integrations/{__version__}"


def test_netrc_does_not_replace_the_bearer(own_home: Path) -> None:
    netrc = own_home / ".netrc"
    netrc.write_text("machine 127.0.0.1 login someone password else\ndefault login someone password else\n")
    netrc.chmod(0o600)

    with serving(answers(200, "{}")) as server:
        get(server.url)
        post(server.url)

    assert server.requests[0].headers["authorization"] == f"Bearer {BEARER}"
    assert "authorization" not in server.requests[1].headers


def test_netrc_does_not_replace_the_bearer_over_https(
    own_home: Path, tls_server: tuple[Server, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only with https are the files and variables of the environment looked at."""
    server, certificate = tls_server
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    (own_home / ".netrc").write_text("default login someone password else\n")
    (own_home / ".netrc").chmod(0o600)

    get(server.url)
    post(server.url)

    assert server.requests[0].headers["authorization"] == f"Bearer {BEARER}"
    assert "authorization" not in server.requests[1].headers


def test_cookies_do_not_go_from_one_call_to_the_next() -> None:
    with serving(answers(200, "{}", Set_Cookie="session=1")) as server:
        get(server.url)
        get(server.url)

    assert all("cookie" not in request.headers for request in server.requests)


# What comes back


@pytest.mark.parametrize("status", [200, 201, 204, 400, 401, 403, 404, 408, 418])
def test_a_response_below_500_is_returned_and_the_call_not_repeated(status: int) -> None:
    with serving(answers(status, '{"a": "b"}')) as server:
        answer = post(server.url)

    assert answer.status == status
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(status: int) -> None:
    with serving(answers(200, "{}")) as elsewhere, serving(answers(status, Location=f"{elsewhere.url}/x")) as server:
        assert post(server.url).status == status
        assert get(server.url).status == status

    assert not elsewhere.requests
    assert len(server.requests) == 2


FIELDS = json.dumps(
    {
        "text": "value",
        "blank": "  ",
        "number": 5,
        "spelt": "86400",
        "nan": float("nan"),
        "infinite": float("inf"),
        "huge": 10**400,
        "true": True,
        "list": ["a"],
        "null": None,
        "object": {"a": 1},
        "words": "tomorrow",
        "two words": "two words",
        "umlaut": "ümlaut",
        "broken": "line\nbreak",
    }
).encode()


def test_text_returns_a_field_only_if_it_is_a_string() -> None:
    answer = http.Reply(200, {}, FIELDS)

    assert answer.text("text") == "value"
    for name in ("blank", "number", "true", "list", "null", "object", "absent"):
        assert answer.text(name) is None


def test_number_returns_a_field_if_it_is_finite_or_spells_a_number() -> None:
    answer = http.Reply(200, {}, FIELDS)

    assert answer.number("number") == 5.0
    assert answer.number("spelt") == 86400.0
    for name in ("nan", "infinite", "huge", "true", "list", "null", "object", "words", "absent"):
        assert answer.number(name) is None


def test_secret_returns_a_field_only_if_it_can_be_sent_as_a_bearer() -> None:
    answer = http.Reply(200, {}, FIELDS)

    assert answer.secret("text") == Secret("value")
    for name in ("blank", "number", "list", "null", "object", "absent", "two words", "umlaut", "broken"):
        assert answer.secret(name) is None


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"5", b"<html>", b"\xff\xfe", b"[" * 100_000])
def test_a_body_that_is_no_json_object_has_no_fields(body: bytes) -> None:
    answer = http.Reply(200, {}, body)

    assert (answer.text("a"), answer.number("a"), answer.secret("a")) == (None, None, None)


def test_the_repr_of_a_response_shows_status_and_type_and_not_the_body() -> None:
    answer = http.Reply(200, {"Content-Type": "application/json; charset=utf-8"}, f'{{"token": "{SECRET}"}}'.encode())

    assert repr(answer) == "Reply(200, application/json)"
    assert http.Reply(200, {}, b"").content_type == "no content type"


# What is repeated


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_call_that_fails_with_a_transient_status_is_made_four_times(status: int) -> None:
    with serving(answers(status, f'{{"error": "{SECRET}"}}')) as server:
        error = raised_by(lambda: post(server.url))

    assert_typed(error, server.url)
    assert isinstance(error, CredentialsError)
    assert error.status == status
    assert f"answered {status}" in str(error)
    assert len(server.requests) == 4


@pytest.mark.parametrize("status", [501, 505, 507])
def test_another_server_error_is_returned(status: int) -> None:
    with serving(answers(status)) as server:
        assert post(server.url).status == status
    assert len(server.requests) == 1


def test_a_success_after_failures_is_a_success() -> None:
    statuses = iter([500, 429, 503, 200])
    with serving(lambda handler: reply(handler, next(statuses), '{"a": "b"}')) as server:
        answer = post(server.url)

    assert answer.text("a") == "b"
    assert {request.body for request in server.requests} == {server.requests[0].body}


def test_a_retry_logs_no_secret(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with serving(answers(500)) as server:
        raised_by(lambda: post(server.url))
        raised_by(lambda: get(server.url))

    shown = caplog.text + repr([vars(record) for record in caplog.records])
    assert SECRET not in shown
    assert BEARER not in shown


@contextmanager
def talking(talk: Callable[[socket.socket], None]) -> Iterator[str]:
    """Run a server below HTTP: it reads the beginning of the request, then calls a function with the connection."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                try:
                    connection.settimeout(PATIENCE)
                    connection.recv(65536)
                    talk(connection)
                except OSError:
                    pass

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


GARBAGE = {
    "nothing at all": b"",
    "no HTTP": b"\x16\x03\x01 garbage\r\n\r\n",
    "half a status line": b"HTTP/1.1 2",
    "half the body": b'HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{"access_token": "half',
    "a chunk of no length": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzzz\r\n",
    "a chunk cut off": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nhalf",
    "gzip that is none": b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 7\r\n\r\nnot gzip"[:-1],
    "headers without end": b"HTTP/1.1 200 OK\r\n" + b"X-A: b\r\n" * 200 + b"\r\n",
    "a header without end": b"HTTP/1.1 200 OK\r\nX-A: " + b"b" * 100_000 + b"\r\n\r\n",
    "a length that is none": b"HTTP/1.1 200 OK\r\nContent-Length: 5, 6\r\n\r\nhello",
    "a status that is none": b"HTTP/1.1 abc OK\r\n\r\n",
    "an unsolicited continue": b"HTTP/1.1 100 Continue\r\n\r\n",
}


@pytest.mark.usefixtures("_impatient")
@pytest.mark.parametrize("kind", GARBAGE)
def test_garbage_and_cut_connections_are_a_typed_error(kind: str) -> None:
    def send(connection: socket.socket) -> None:
        connection.sendall(GARBAGE[kind])

    with talking(send) as url:
        error = raised_by(lambda: post(url))

    assert_typed(error, url)


def test_a_reset_connection_is_tried_again() -> None:
    tries: list[int] = []

    def reset_twice(connection: socket.socket) -> None:
        tries.append(1)
        if len(tries) <= 2:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            return
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

    with talking(reset_twice) as url:
        assert post(url).status == 200
    assert len(tries) == 3


def test_an_endpoint_that_is_down_is_a_typed_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"

    error = raised_by(lambda: post(url))

    assert_typed(error, url)
    assert "could not be reached" in str(error)


def test_a_host_that_does_not_exist_is_a_typed_error() -> None:
    error = raised_by(lambda: post("https://no-such-host.invalid"))

    assert_typed(error, "https://no-such-host.invalid/oauth/token")


# What hangs


@pytest.mark.usefixtures("_impatient")
def test_an_endpoint_that_says_nothing_is_given_up() -> None:
    with talking(lambda _: time.sleep(PATIENCE / 4)) as url:
        error = Outcome(lambda: post(url)).settled()

    assert_typed(error, url)
    assert "did not answer" in str(error)


def drip(head: bytes, piece: bytes) -> Callable[[socket.socket], None]:
    """Return a response that goes on for long, and never pauses for as long as a read may take."""

    def talk(connection: socket.socket) -> None:
        connection.sendall(head)
        for _ in range(int(DRIP / 0.1)):
            connection.sendall(piece)
            time.sleep(0.1)

    return talk


@pytest.mark.usefixtures("_impatient")
@pytest.mark.parametrize(
    ("head", "piece"),
    [
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n{", b" ", id="a body of known length"),
        pytest.param(b"HTTP/1.1 200 OK\r\n\r\n{", b" ", id="a body up to the end"),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n", id="a body in chunks"),
        pytest.param(b"HTTP/1.1 200 OK\r\nX-A: ", b"b", id="a header"),
        pytest.param(b"HTTP/1.1 200 OK\r\n", b"X-A: b\r\n", id="headers"),
    ],
)
def test_a_response_that_drips_is_given_up_within_the_bound(head: bytes, piece: bytes) -> None:
    started = time.monotonic()
    with talking(drip(head, piece)) as url:
        error = Outcome(lambda: post(url)).settled()
        took = time.monotonic() - started

    assert_typed(error, url)
    assert took < DRIP - 1


def test_of_a_body_without_end_no_more_than_a_megabyte_is_read() -> None:
    sent: list[int] = []

    def endless(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        while len(sent) < 2000:
            handler.wfile.write(b" " * 65536)
            sent.append(65536)

    with serving(endless) as server:
        reply = post(server.url)

    assert reply.secret("access_token") is None
    assert sum(sent) < 32 * http.MAX_BODY


def test_of_a_gzip_bomb_no_more_than_a_megabyte_is_unpacked() -> None:
    import gzip

    bomb = gzip.compress(b" " * (64 * http.MAX_BODY))

    with serving(answers(200, bomb, Content_Encoding="gzip")) as server:
        reply = post(server.url)

    assert len(reply.raw()) < 2 * http.MAX_BODY


def test_an_interruption_ends_a_call_that_hangs() -> None:
    output = run_processes(
        1,
        f"""
        import os, signal, socket, threading, time
        from carto_auth_integrations import http
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
        silent = socket.create_server(("127.0.0.1", 0))
        threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT)).start()
        started = time.monotonic()
        try:
            http.call("GET", f"http://127.0.0.1:{{silent.getsockname()[1]}}", purpose="x")
        except KeyboardInterrupt:
            print("interrupted", time.monotonic() - started < {PATIENCE / 2})
        """,
    )

    assert output == ["interrupted True"]


@pytest.mark.usefixtures("_impatient")
def test_no_attempt_is_made_after_the_bound() -> None:
    with serving(lambda _: time.sleep(2)) as server:
        started = time.monotonic()
        error = Outcome(lambda: post(server.url)).settled()

    assert_typed(error, server.url)
    assert time.monotonic() - started < MINUTES
    assert len(server.requests) <= http.ATTEMPTS


# Retry-After


def test_a_short_retry_after_is_waited_for() -> None:
    times: list[float] = []

    def once(handler: BaseHTTPRequestHandler) -> None:
        times.append(time.monotonic())
        reply(handler, 200 if len(times) > 1 else 429, "{}", Retry_After="1")

    with serving(once) as server:
        assert post(server.url).status == 200

    assert times[1] - times[0] >= 1.0


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("3600", 3600),
        ("99999999999999999999", 999999999),
        ("in two hours", 7200),
    ],
)
@pytest.mark.parametrize("status", [429, 503])
def test_a_long_retry_after_is_reported_and_not_waited_for(status: int, value: str, seconds: float) -> None:
    if value == "in two hours":
        value = formatdate(time.time() + 7200, usegmt=True)
    with serving(answers(status, Retry_After=value)) as server:
        error = raised_by(lambda: post(server.url))

    assert_typed(error, server.url)
    assert isinstance(error, ServiceUnavailable)
    assert error.status == status
    assert error.retry_after == pytest.approx(seconds, abs=120)
    assert "Try again in" in str(error)
    assert len(server.requests) == 1


def test_a_retry_after_date_is_read_by_the_servers_clock() -> None:
    ahead = time.time() + 500_000

    def by_a_wrong_clock(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response_only(429)
        handler.send_header("Date", formatdate(ahead, usegmt=True))
        handler.send_header("Retry-After", formatdate(ahead + 900, usegmt=True))
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    with serving(by_a_wrong_clock) as server:
        error = raised_by(lambda: post(server.url))

    assert isinstance(error, ServiceUnavailable)
    assert error.retry_after == pytest.approx(900, abs=2)


@pytest.mark.parametrize("value", ["soon", "-5", "", "1.5", "٣", "Mon, 99 Foo 2026 00:00:00 GMT", "1 2"])
def test_a_retry_after_that_says_nothing_is_ignored(value: str) -> None:
    with serving(answers(429, Retry_After=value.encode().decode("latin-1"))) as server:
        error = raised_by(lambda: post(server.url))

    assert_typed(error, server.url)
    assert isinstance(error, ServiceUnavailable)
    assert error.retry_after is None
    assert len(server.requests) == 4


def test_a_retry_after_in_the_past_does_not_hold_anything_up() -> None:
    with serving(answers(429, Retry_After=formatdate(0, usegmt=True))) as server:
        assert_typed(raised_by(lambda: post(server.url)), server.url)
    assert len(server.requests) == 4


# Proxies and certificates


@pytest.fixture
def proxy() -> Iterator[Server]:
    with serving(answers(502)) as server:
        yield server


def test_a_proxy_is_used_and_its_password_is_not_shown(monkeypatch: pytest.MonkeyPatch, proxy: Server) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy.url.replace("//", "//me:hunter2-proxy-password@"))

    error = raised_by(lambda: post("https://carto.example.org"))

    assert proxy.requests[0].method == "CONNECT"
    assert_typed(error, "https://carto.example.org/oauth/token")
    assert "HTTPS_PROXY" in str(error)
    assert_shows_no_secret(error, "hunter2-proxy-password")


def test_a_proxy_that_is_down_is_named_as_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    monkeypatch.setenv("HTTPS_PROXY", f"http://me:hunter2-proxy-password@127.0.0.1:{port}")

    error = raised_by(lambda: post("https://carto.example.org"))

    assert "through the proxy" in str(error)
    assert_shows_no_secret(error, "hunter2-proxy-password")


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
def test_plain_http_to_this_machine_goes_through_no_proxy(
    monkeypatch: pytest.MonkeyPatch, proxy: Server, name: str
) -> None:
    for variable in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv(name, proxy.url)

    with serving(answers(200, "{}")) as server:
        try:
            post(server.url)
        except ServiceUnavailable:
            pass  # the response of the proxy; the test is about whether there was a request to it

    assert not proxy.requests
    assert len(server.requests) == 1


def test_an_untrusted_certificate_is_refused_at_once_and_the_variable_is_named(tls_server: tuple[Server, Path]) -> None:
    url = tls_server[0].url

    error = raised_by(lambda: post(url))

    assert_typed(error, url)
    assert "certificate" in str(error)
    assert "REQUESTS_CA_BUNDLE" in str(error)


def test_a_private_ca_is_trusted_through_the_usual_variable(
    tls_server: tuple[Server, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, certificate = tls_server
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))

    assert post(server.url).status == 200


def test_a_ca_bundle_that_is_not_there_is_a_typed_error(
    tls_server: tuple[Server, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    url = tls_server[0].url
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/no/such/file.pem")

    error = raised_by(lambda: post(url))

    assert_typed(error, url)
    assert "REQUESTS_CA_BUNDLE" in str(error)


def test_a_token_that_no_header_can_hold_is_a_typed_error_without_the_token() -> None:
    with serving(answers(200, "{}")) as server:
        error = raised_by(
            lambda: http.call("GET", server.url, purpose="CARTO DW token of c", bearer=Secret(f"{BEARER}\nX-A: b"))
        )

    assert_typed(error, server.url)
    assert not server.requests


# Deadlines


def test_a_deadline_ends_the_retries() -> None:
    with serving(answers(503, Retry_After="1")) as server:
        started = time.monotonic()
        with pytest.raises(TimeoutError, match=r"did not answer within 0\.5 s"):
            http.call("GET", f"{server.url}/v3/x", purpose="CARTO DW token of c", deadline=Deadline(0.5))

    assert 0.4 < time.monotonic() - started < PATIENCE
    assert len(server.requests) == 1


def test_a_deadline_ends_a_call_that_hangs() -> None:
    with talking(lambda _: time.sleep(PATIENCE / 4)) as url:
        started = time.monotonic()
        with pytest.raises(TimeoutError, match=r"did not answer within 0\.5 s"):
            http.call("GET", url, purpose="CARTO DW token of c", deadline=Deadline(0.5))

    assert 0.4 < time.monotonic() - started < PATIENCE / 4


def test_a_call_ends_when_its_deadline_is_cancelled() -> None:
    deadline = Deadline()
    with talking(lambda _: time.sleep(PATIENCE / 4)) as url:
        threading.Timer(0.3, deadline.cancel).start()
        started = time.monotonic()
        with pytest.raises(Cancelled):
            http.send(http.Request("GET", url), deadline)

    assert time.monotonic() - started < PATIENCE / 4


def test_a_body_is_not_read_to_its_end_once_its_deadline_is_cancelled() -> None:
    deadline = Deadline()
    pieces = iter([b"a" * http.CHUNK, b"b" * http.CHUNK])
    body = http.Body(lambda _: next(pieces), 2 * http.CHUNK, deadline)

    assert len(body) == 2 * http.CHUNK
    assert body.read() == b"a" * http.CHUNK
    deadline.cancel()
    with pytest.raises(OSError, match="given up"):
        body.read()


# Tokens and 401


def with_tokens(server: Server, *tokens: str) -> tuple[http.Reply, list[str]]:
    """Make a call with tokens, one after the other; return the response and the rejected tokens."""
    left, rejected = list(tokens), []

    def get_token() -> Secret:
        return Secret(left.pop(0) if len(left) > 1 else left[0])

    def attempt(token: Secret) -> http.Reply:
        return http.call("GET", server.url, purpose="CARTO DW token of c", bearer=token)

    return http.authorized(get_token, rejected.append, attempt), rejected


def test_a_refused_token_is_replaced_at_most_twice() -> None:
    with serving(answers(401, "{}")) as server:
        answer, rejected = with_tokens(server, "first", "second", "third", "fourth")

    assert answer.status == 401
    assert rejected == ["first", "second"]
    assert [request.headers["authorization"] for request in server.requests] == [
        "Bearer first",
        "Bearer second",
        "Bearer third",
    ]


def test_a_refused_token_that_has_no_replacement_is_not_sent_again() -> None:
    with serving(answers(401, "{}")) as server:
        answer, rejected = with_tokens(server, "only")

    assert (answer.status, rejected, len(server.requests)) == (401, ["only"], 1)


# Connections


def test_a_connection_is_used_again() -> None:
    connections: set[int] = set()

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.protocol_version = "HTTP/1.1"
        handler.close_connection = False
        connections.add(handler.client_address[1])
        reply(handler, 200, "{}")

    with serving(answer) as server:
        for _ in range(3):
            get(server.url)

    assert len(connections) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_has_connections_of_its_own() -> None:
    with serving(answers(200, "{}")) as server:
        get(server.url)
        ours = http._session(server.url)
        assert http._session(server.url) is ours
        child = os.fork()
        if child == 0:
            os._exit(0 if http._session(server.url) is not ours else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
