"""The one door to the network: bounded, retried where that helps, and silent about what it carries."""

from __future__ import annotations

import json
import logging
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
from tests.support.core import (
    BEARER,
    PATIENCE,
    SECRET,
    Outcome,
    Server,
    answers,
    assert_shows_no_secret,
    hurry,
    raised_by,
    reply,
    serving,
)
from tests.support.processes import run_processes

FORM: dict[str, str | Secret] = {"client_id": "c", "client_secret": Secret(SECRET)}
MINUTES = 60.0
DRIP = 7.0
"""Seconds of an answer that drips: several times what `_impatient` allows for a whole call."""


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time-outs of a fraction of a second, so that what hangs is given up within the test."""
    monkeypatch.setattr(http, "CONNECT_TIMEOUT", 0.3)
    monkeypatch.setattr(http, "READ_TIMEOUT", 0.3)
    monkeypatch.setattr(http, "TOTAL_TIMEOUT", 1.5)


def post(url: str) -> http.Reply:
    return http.call("POST", f"{url}/oauth/token", purpose="CARTO access token of c", form=FORM)


def get(url: str) -> http.Reply:
    return http.call("GET", f"{url}/v3/x", purpose="CARTO DW token of c", bearer=Secret(BEARER))


def assert_typed(error: BaseException, url: str) -> None:
    """Hold an error against what every error of the network owes: kind, place, next step, no secret, no chain."""
    assert isinstance(error, ServiceUnavailable)
    assert str(error).startswith(("CARTO access token of c: ", "CARTO DW token of c: "))
    assert url in str(error)
    assert "Try again" in str(error) or "Check" in str(error)
    assert error.__context__ is None
    assert error.__cause__ is None
    assert_shows_no_secret(error)


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


def test_cookies_do_not_go_from_one_call_to_the_next() -> None:
    with serving(answers(200, "{}", Set_Cookie="session=1")) as server:
        get(server.url)
        get(server.url)

    assert all("cookie" not in request.headers for request in server.requests)


# What comes back


@pytest.mark.parametrize("status", [200, 201, 204, 400, 401, 403, 404, 408, 418])
def test_an_answer_below_500_is_given_as_it_is_and_not_repeated(status: int) -> None:
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


def test_a_field_is_given_as_text_only_if_it_is_text() -> None:
    answer = http.Reply(200, {}, FIELDS)

    assert answer.text("text") == "value"
    for name in ("blank", "number", "true", "list", "null", "object", "absent"):
        assert answer.text(name) is None


def test_a_field_is_given_as_a_number_if_it_is_finite_or_spells_one() -> None:
    answer = http.Reply(200, {}, FIELDS)

    assert answer.number("number") == 5.0
    assert answer.number("spelt") == 86400.0
    for name in ("nan", "infinite", "huge", "true", "list", "null", "object", "words", "absent"):
        assert answer.number(name) is None


def test_a_field_is_given_as_a_secret_only_if_it_can_be_sent_as_a_bearer() -> None:
    answer = http.Reply(200, {}, FIELDS)

    assert answer.secret("text") == Secret("value")
    for name in ("blank", "number", "list", "null", "object", "absent", "two words", "umlaut", "broken"):
        assert answer.secret(name) is None


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"5", b"<html>", b"\xff\xfe", b"[" * 100_000])
def test_an_answer_of_another_shape_has_no_fields(body: bytes) -> None:
    answer = http.Reply(200, {}, body)

    assert (answer.text("a"), answer.number("a"), answer.secret("a")) == (None, None, None)


def test_an_answer_shows_its_status_and_type_and_nothing_of_its_body() -> None:
    answer = http.Reply(200, {"Content-Type": "application/json; charset=utf-8"}, f'{{"token": "{SECRET}"}}'.encode())

    assert repr(answer) == "Reply(200, application/json)"
    assert http.Reply(200, {}, b"").content_type == "no content type"


# What is repeated


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_failure_that_may_pass_is_tried_four_times(status: int) -> None:
    with serving(answers(status, f'{{"error": "{SECRET}"}}')) as server:
        error = raised_by(lambda: post(server.url))

    assert_typed(error, server.url)
    assert isinstance(error, CredentialsError)
    assert error.status == status
    assert f"answered {status}" in str(error)
    assert len(server.requests) == 4


@pytest.mark.parametrize("status", [501, 505, 507])
def test_another_server_error_is_given_as_it_is(status: int) -> None:
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
    """Run a server that speaks below HTTP: it reads the request's beginning and then does as told."""
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
    assert "did not answer within" in str(error)


def drip(head: bytes, piece: bytes) -> Callable[[socket.socket], None]:
    """Give a talk that does not end for long and never pauses for as long as a read may take."""

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
def test_an_answer_that_drips_is_given_up_within_the_bound(head: bytes, piece: bytes) -> None:
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

    assert len("".join(reply.lines())) < 2 * http.MAX_BODY


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
def test_no_try_is_begun_that_could_not_end_within_the_bound() -> None:
    with serving(lambda _: time.sleep(2)) as server:
        started = time.monotonic()
        error = Outcome(lambda: post(server.url)).settled()

    assert_typed(error, server.url)
    assert time.monotonic() - started < MINUTES
    assert len(server.requests) <= 3  # 0.3 s each, and 0.6 s kept for the last


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
def test_what_goes_to_this_machine_in_plain_http_goes_through_no_proxy(
    monkeypatch: pytest.MonkeyPatch, proxy: Server, name: str
) -> None:
    for variable in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv(name, proxy.url)

    with serving(answers(200, "{}")) as server:
        try:
            post(server.url)
        except ServiceUnavailable:
            pass  # what the proxy says; whether it was asked is the question

    assert not proxy.requests
    assert len(server.requests) == 1


@pytest.fixture
def tls_server(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A server with a certificate of its own making."""
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
    yield server.url.replace("http:", "https:"), certificate
    server.stop()


def test_an_untrusted_certificate_is_refused_at_once_with_the_way_out(tls_server: tuple[str, Path]) -> None:
    url, _ = tls_server

    error = raised_by(lambda: post(url))

    assert_typed(error, url)
    assert "certificate" in str(error)
    assert "REQUESTS_CA_BUNDLE" in str(error)


def test_a_private_ca_is_trusted_through_the_usual_variable(
    tls_server: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, certificate = tls_server
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))

    assert post(url).status == 200


def test_a_ca_bundle_that_is_not_there_is_a_typed_error(
    tls_server: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, _ = tls_server
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/no/such/file.pem")

    assert_typed(raised_by(lambda: post(url)), url)


def test_a_token_that_no_header_can_hold_is_a_typed_error_that_does_not_show_it() -> None:
    with serving(answers(200, "{}")) as server:
        error = raised_by(
            lambda: http.call("GET", server.url, purpose="CARTO DW token of c", bearer=Secret(f"{BEARER}\nX-A: b"))
        )

    assert_typed(error, server.url)
    assert not server.requests
