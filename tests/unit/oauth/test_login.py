"""The login: in a browser that comes back to this machine, by a pasted code, and not at all where nobody is."""

from __future__ import annotations

import builtins
import json
import os
import re
import socket
import sys
import threading
import time
import webbrowser
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from textwrap import dedent
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests

from carto_auth_integrations import (
    CartoAccount,
    CartoAuth,
    ClientRejected,
    CredentialsError,
    InteractionRequired,
    ServiceUnavailable,
)
from carto_auth_integrations.account.secret import Secret
from carto_auth_integrations.oauth import login
from carto_auth_integrations.oauth.grants import UserLogin
from carto_auth_integrations.oauth.login import Answer, Attempt, Listener, authorize, is_person_there
from carto_auth_integrations.sandbox import Sandbox, SandboxOptions
from carto_auth_integrations.tokens.token import NO_TOKEN
from tests.support.accounts import auth_for
from tests.support.clocks import hurry
from tests.support.leaks import assert_shows_no_secret, raised_by
from tests.support.processes import ROOT
from tests.support.threads import PATIENCE, Outcome
from tests.support.tokens import token_living

LOGIN: dict[str, Any] = {"auth_mode": "oauth", "client_id": None, "client_secret": None, "api_base_url": None}
CODE = "hunter2-authorization-code"


@pytest.fixture(autouse=True)
def _nobody_at_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """No real browser and no real terminal, whoever runs the tests; and no worker, wherever they run."""
    hurry(monkeypatch)
    for name in (*login.WORKER_VARIABLES, "DATABRICKS_RUNTIME_VERSION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(login, "_has_terminal", lambda: False)

    def refuse(*_: object, **__: object) -> bool:
        raise AssertionError("a browser or a terminal was touched")

    monkeypatch.setattr(webbrowser, "open", refuse)
    monkeypatch.setattr(builtins, "input", refuse)


def account_of(sandbox: Sandbox, **fields: Any) -> CartoAccount:
    return CartoAccount.from_mapping({**sandbox.account, **LOGIN, **fields})


class Browser:
    """A scripted browser: follows the URL that it is to open, as a person would who is logged in there.

    Args:
        before: What it does with the callback's URL before it goes there.
    """

    def __init__(self, before: Callable[[str, str], None] | None = None) -> None:
        self.opened: list[str] = []
        self.pages: list[str] = []
        self._before = before

    def open(self, url: str, new: int = 0, autoraise: bool = True) -> bool:
        self.opened.append(url)
        threading.Thread(target=self._go, args=(url,), daemon=True).start()
        return True

    def _go(self, url: str) -> None:
        redirect = requests.get(url, allow_redirects=False, timeout=PATIENCE).headers["Location"]
        if self._before:
            self._before(url, redirect)
        self.pages.append(requests.get(redirect, timeout=PATIENCE).text)

    def query(self) -> dict[str, str]:
        return {name: values[0] for name, values in parse_qs(urlsplit(self.opened[-1]).query).items()}


@pytest.fixture
def browser(monkeypatch: pytest.MonkeyPatch) -> Browser:
    scripted = Browser()
    monkeypatch.setattr(webbrowser, "open", scripted.open)
    return scripted


@pytest.fixture
def auth(carto_sandbox: Sandbox, tmp_path: Path) -> CartoAuth:
    return auth_for(carto_sandbox, tmp_path, **LOGIN)


# PKCE and state


def test_the_challenge_is_the_s256_of_the_verifier() -> None:
    attempt = Attempt()

    expected = urlsafe_b64encode(sha256(attempt.verifier.reveal().encode()).digest()).decode().rstrip("=")
    assert attempt.challenge == expected
    assert re.fullmatch(r"[A-Za-z0-9._~-]{43,128}", attempt.verifier.reveal())  # RFC 7636, section 4.1


def test_the_challenge_is_the_one_of_rfc_7636() -> None:
    attempt = Attempt()
    attempt.verifier = Secret("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk")  # appendix B

    assert attempt.challenge == "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"


def test_each_attempt_has_a_verifier_and_a_state_of_its_own() -> None:
    attempts = [Attempt() for _ in range(20)]

    assert len({attempt.verifier for attempt in attempts}) == 20
    assert len({attempt.state for attempt in attempts}) == 20
    assert all(len(attempt.state) >= 24 for attempt in attempts)


def test_the_url_asks_for_what_carto_knows_and_holds_no_verifier(carto_sandbox: Sandbox) -> None:
    attempt, account = Attempt(), account_of(carto_sandbox, organization="org_abc")

    url = attempt.url(account, "http://localhost:10000/callback/")

    assert url.startswith(f"{carto_sandbox.url}/authorize?")
    query = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
    assert query == {
        "response_type": "code",
        "client_id": SandboxOptions().login_client_id,
        "audience": "carto-cloud-native-api",
        "scope": "openid offline_access",
        "redirect_uri": "http://localhost:10000/callback/",
        "state": attempt.state,
        "code_challenge": attempt.challenge,
        "code_challenge_method": "S256",
        "organization": "org_abc",
    }
    assert attempt.verifier.reveal() not in url


def test_without_an_organization_none_is_asked_for(carto_sandbox: Sandbox) -> None:
    assert "organization" not in Attempt().url(account_of(carto_sandbox), "http://localhost:1/callback/")


def test_the_default_port_is_the_one_registered_with_carto() -> None:
    assert (login.CALLBACK_PORT, login.CALLBACK_PATH) == (10000, "/callback/")


# In the browser


@pytest.mark.usefixtures("browser")
def test_a_login_in_the_browser_gives_tokens_and_finds_the_api(carto_sandbox: Sandbox, auth: CartoAuth) -> None:
    auth.login(port=0)

    assert auth.get_access_token().startswith("sandbox-carto-")
    assert auth.get_api_base_url() == carto_sandbox.url
    assert auth.get_carto_dw_credentials()[0] == carto_sandbox.options.project_id
    stats = carto_sandbox.stats()
    assert (stats.count("token"), stats.count("accounts"), stats.count("config")) == (1, 1, 1)


def test_the_browser_shows_that_it_is_done(auth: CartoAuth, browser: Browser) -> None:
    auth.login(port=0)

    until_page = time.monotonic() + PATIENCE
    while not browser.pages and time.monotonic() < until_page:
        time.sleep(0.01)
    assert "complete" in browser.pages[0]


@pytest.mark.usefixtures("browser")
def test_a_login_serves_other_objects_and_processes(carto_sandbox: Sandbox, auth: CartoAuth, tmp_path: Path) -> None:
    auth.login(port=0)

    again = auth_for(carto_sandbox, tmp_path, **LOGIN)
    assert again.get_access_token() == auth.get_access_token()
    assert len(json.loads((tmp_path / "tokens.json").read_text())["tokens"]) == 1


def test_where_a_person_is_a_token_that_is_asked_for_opens_the_login(
    auth: CartoAuth, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(login, "_has_terminal", lambda: True)
    monkeypatch.setattr(login, "CALLBACK_PORT", 0)

    assert auth.get_access_token().startswith("sandbox-carto-")
    assert len(browser.opened) == 1


def test_threads_that_need_a_login_share_one(
    auth: CartoAuth, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(login, "_has_terminal", lambda: True)
    monkeypatch.setattr(login, "CALLBACK_PORT", 0)

    threads = [Outcome(auth.get_access_token) for _ in range(8)]

    assert len({thread.settled() for thread in threads}) == 1
    assert len(browser.opened) == 1


def test_the_organization_is_passed_on(carto_sandbox: Sandbox, browser: Browser, tmp_path: Path) -> None:
    auth_for(carto_sandbox, tmp_path, **LOGIN, org="org_abc").login(port=0)

    assert carto_sandbox.stats().organizations == ("org_abc",)
    assert browser.query()["organization"] == "org_abc"


def test_the_person_is_told_the_url_on_standard_error_and_no_secret(
    auth: CartoAuth, browser: Browser, capfd: pytest.CaptureFixture[str]
) -> None:
    auth.login(port=0)

    out, err = capfd.readouterr()
    assert out == ""
    assert browser.opened[0] in err
    assert auth.get_access_token() not in err


@pytest.mark.usefixtures("browser")
def test_a_denied_login_is_a_refusal(tmp_path: Path) -> None:
    with Sandbox(SandboxOptions(deny_login=True)) as sandbox:
        error = raised_by(lambda: auth_for(sandbox, tmp_path, **LOGIN).login(port=0))

    assert type(error) is ClientRejected
    assert "refused the login (access_denied)" in str(error)
    assert "organization" in str(error)
    assert error.__context__ is None


@pytest.mark.usefixtures("browser")
def test_a_code_that_the_server_does_not_take_is_a_refusal(carto_sandbox: Sandbox, auth: CartoAuth) -> None:
    carto_sandbox.fault("token", status=403, body={"error": "invalid_grant"})

    error = raised_by(lambda: auth.login(port=0))

    assert type(error) is ClientRejected
    assert "codes work once" in str(error)
    assert error.__context__ is None


@pytest.mark.usefixtures("browser")
def test_a_token_endpoint_that_is_down_after_the_login_is_unavailable(carto_sandbox: Sandbox, auth: CartoAuth) -> None:
    carto_sandbox.fault("token", status=503)

    assert type(raised_by(lambda: auth.login(port=0))) is ServiceUnavailable


@pytest.mark.usefixtures("browser")
def test_a_login_is_not_lost_when_the_api_cannot_be_looked_up(carto_sandbox: Sandbox, auth: CartoAuth) -> None:
    carto_sandbox.fault("accounts", status=503, count=4)

    auth.login(port=0)

    assert auth.get_access_token().startswith("sandbox-carto-")
    assert auth.get_api_base_url() == carto_sandbox.url


@pytest.mark.usefixtures("browser")
def test_a_base_url_that_was_given_is_not_looked_up(carto_sandbox: Sandbox, tmp_path: Path) -> None:
    auth = auth_for(carto_sandbox, tmp_path, **{**LOGIN, "api_base_url": carto_sandbox.url})
    auth.login(port=0)

    assert carto_sandbox.stats().count("accounts") == 0


# Stray requests


def callback(port: int, path: str) -> int:
    return requests.get(f"http://127.0.0.1:{port}{path}", timeout=PATIENCE).status_code


def say(port: int, data: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        connection.settimeout(PATIENCE)
        while connection.recv(4096):
            pass


STRAY: dict[str, Callable[[int, str], object]] = {
    "a favicon": lambda port, _: callback(port, "/favicon.ico"),
    "the root": lambda port, _: callback(port, "/"),
    "the callback without anything": lambda port, _: callback(port, "/callback/"),
    "another state": lambda port, _: callback(port, f"/callback/?code={CODE}&state=wrong"),
    "no state": lambda port, _: callback(port, f"/callback/?code={CODE}"),
    "an error with another state": lambda port, _: callback(port, "/callback/?error=access_denied&state=wrong"),
    "the state alone": lambda port, state: callback(port, f"/callback/?state={state}"),
    "an empty code": lambda port, state: callback(port, f"/callback/?code=&state={state}"),
    "the right query elsewhere": lambda port, state: callback(port, f"/elsewhere?code={CODE}&state={state}"),
    "a POST": lambda port, state: requests.post(
        f"http://127.0.0.1:{port}/callback/", data={"code": CODE, "state": state}, timeout=PATIENCE
    ),
    "HTTP garbage": lambda port, _: say(port, b"\x16\x03\x01\x02\x00 garbage\r\n\r\n"),
    "half a request": lambda port, _: say(port, b"GET /callback/?co"),
    "a URL that is none": lambda port, _: say(port, b"GET //[ HTTP/1.1\r\n\r\n"),
    "a request line without end": lambda port, _: say(port, b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\n\r\n"),
    "bytes that are no text": lambda port, _: say(port, b"GET /callback/?state=%ff&code=\xff\xfe HTTP/1.1\r\n\r\n"),
}


@pytest.mark.parametrize("kind", STRAY)
def test_a_stray_request_before_the_right_one_changes_nothing(
    auth: CartoAuth, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    def stray(url: str, redirect: str) -> None:
        state = parse_qs(urlsplit(url).query)["state"][0]
        try:
            STRAY[kind](int(urlsplit(redirect).port or 0), state)
        except (OSError, requests.RequestException):
            pass  # it may be hung up on

    monkeypatch.setattr(webbrowser, "open", Browser(stray).open)

    assert Outcome(lambda: auth.login(port=0)).settled() is None
    assert auth.get_access_token().startswith("sandbox-carto-")


def test_connections_that_say_nothing_do_not_keep_the_right_one_waiting(
    auth: CartoAuth, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent: list[socket.socket] = []

    def connect(_: str, redirect: str) -> None:
        silent.extend(socket.create_connection(("127.0.0.1", urlsplit(redirect).port or 0)) for _ in range(10))

    monkeypatch.setattr(webbrowser, "open", Browser(connect).open)

    assert Outcome(lambda: auth.login(port=0)).settled() is None
    for connection in silent:
        connection.close()


def test_connections_that_say_nothing_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(login._CallbackHandler, "timeout", 0.2)

    with Listener(0, lambda _: False) as listener, socket.create_connection(("127.0.0.1", listener.port)) as silent:
        silent.settimeout(PATIENCE)
        assert silent.recv(1) == b""


def test_the_first_answer_counts() -> None:
    answer = Answer("state")

    assert answer.offer(f"state=state&code={CODE}")
    assert answer.offer("state=state&error=access_denied")
    assert answer.offer("state=state&code=another")
    assert answer.wait(0).reveal() == CODE


def test_the_listener_answers_on_loopback_alone_and_keeps_nothing_in_a_cache() -> None:
    with Listener(0, lambda query: query == "yes") as listener:
        answer = requests.get(f"http://localhost:{listener.port}/callback/?yes", timeout=PATIENCE)
        assert answer.status_code == 200
        assert answer.headers["Cache-Control"] == "no-store"
        assert {server.server_address[0] for server in listener._servers} <= {"127.0.0.1", "::1"}
    with pytest.raises(requests.ConnectionError):
        requests.get(f"http://127.0.0.1:{listener.port}/callback/?yes", timeout=PATIENCE)


@pytest.mark.usefixtures("browser")
def test_the_code_is_in_no_log_and_on_no_screen(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level("DEBUG", "carto_auth_integrations")
    with Listener(0, lambda _: True) as listener:
        callback(listener.port, f"/callback/?code={CODE}")

    assert CODE not in caplog.text + "".join(capfd.readouterr())


# Time, ports, browsers that do not open


def test_a_login_that_nobody_finishes_ends_in_time(carto_sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webbrowser, "open", lambda *_, **__: True)

    error = raised_by(lambda: authorize(account_of(carto_sandbox), port=0, timeout=0.2))

    assert type(error) is InteractionRequired
    assert "start it again" in str(error)
    assert error.__context__ is None


@pytest.mark.usefixtures("browser")
def test_the_port_is_free_again_after_a_login(auth: CartoAuth) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]

    for _ in range(2):
        auth.login(port=port)


def pasting(monkeypatch: pytest.MonkeyPatch, paste: Callable[[str], str], capfd: pytest.CaptureFixture[str]) -> None:
    """Have someone at the terminal who opens the URL shown there and pastes something back."""
    monkeypatch.setattr(login, "_has_terminal", lambda: True)

    def read(_: str = "") -> str:
        url = re.findall(r"^https?://\S+$", capfd.readouterr().err, re.M)[-1]
        return paste(url)

    monkeypatch.setattr(builtins, "input", read)


def landed(url: str) -> str:
    """Follow a login's URL to the page that shows the code."""
    return requests.get(url, timeout=PATIENCE).url


def code_at(url: str) -> str:
    return parse_qs(urlsplit(landed(url)).query)["code"][0]


def test_when_the_port_is_taken_a_code_is_pasted(
    auth: CartoAuth, browser: Browser, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    pasting(monkeypatch, code_at, capfd)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        auth.login(port=taken.getsockname()[1])

    assert auth.get_access_token().startswith("sandbox-carto-")
    assert not browser.opened


def test_who_wants_no_browser_gets_none_whatever_others_of_the_same_credential_want(
    carto_sandbox: Sandbox,
    browser: Browser,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    pasting(monkeypatch, code_at, capfd)
    monkeypatch.setattr(login, "CALLBACK_PORT", 0)
    auth, _ = (
        CartoAuth("oauth", cache_filepath=tmp_path / "t.json", open_browser=wanted, **urls_of(carto_sandbox))
        for wanted in (False, True)
    )

    assert auth.get_access_token().startswith("sandbox-carto-")
    assert not browser.opened


def test_when_no_browser_opens_a_code_is_pasted(
    auth: CartoAuth, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(webbrowser, "open", lambda *_, **__: False)
    pasting(monkeypatch, code_at, capfd)

    auth.login(port=0)

    assert auth.get_access_token().startswith("sandbox-carto-")


@pytest.mark.parametrize(
    "form",
    [
        pytest.param(code_at, id="the code"),
        pytest.param(lambda url: f"  {code_at(url)}  ", id="the code between blanks"),
        pytest.param(landed, id="the whole URL"),
        pytest.param(lambda url: urlsplit(landed(url)).query, id="its query"),
    ],
)
def test_a_code_or_the_whole_url_of_the_page_may_be_pasted(
    carto_sandbox: Sandbox,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    form: Callable[[str], str],
) -> None:
    auth = CartoAuth("oauth", cache_filepath=tmp_path / "t.json", open_browser=False, **urls_of(carto_sandbox))
    pasting(monkeypatch, form, capfd)

    auth.login()

    assert auth.get_access_token().startswith("sandbox-carto-")


def urls_of(sandbox: Sandbox) -> dict[str, str]:
    return {"auth_url": sandbox.url, "accounts_url": sandbox.url}


@pytest.mark.parametrize(
    ("pasted", "kind"),
    [
        ("", InteractionRequired),
        ("   ", InteractionRequired),
        ("https://x.org/auth/token?code=", InteractionRequired),
        ("https://x.org/auth/token#code=abc", InteractionRequired),
        ("code=", InteractionRequired),
        ("http://[code=", InteractionRequired),
        ("https://x.org/auth/token?error=access_denied", ClientRejected),
        ("https://x.org/auth/token?error=unheard_of", ClientRejected),
        (f"https://x.org/auth/token?code={CODE}&state=another", ClientRejected),
    ],
)
def test_what_is_pasted_amiss_is_a_typed_error(
    carto_sandbox: Sandbox,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    pasted: str,
    kind: type[CredentialsError],
) -> None:
    pasting(monkeypatch, lambda _: pasted, capfd)

    error = raised_by(lambda: authorize(account_of(carto_sandbox), open_browser=False))

    assert type(error) is kind, repr(error)
    assert "unheard_of" not in str(error)
    assert error.__context__ is None
    assert_shows_no_secret(error, CODE)


def test_a_terminal_that_ends_is_a_typed_error(
    carto_sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def end(_: str) -> str:
        raise EOFError

    pasting(monkeypatch, end, capfd)

    error = raised_by(lambda: authorize(account_of(carto_sandbox), open_browser=False))

    assert type(error) is InteractionRequired
    assert error.__context__ is None


def test_cartos_own_page_is_used_for_cartos_own_login() -> None:
    ours = CartoAccount.resolve({"mode": "oauth", "auth_url": "https://login.example.org/auth-api"})

    assert login._paste_url(CartoAccount.resolve({"mode": "oauth"})) == "https://app.carto.com/auth/token"
    assert login._paste_url(ours) == "https://login.example.org/auth/token"


# A real terminal

IN_A_TERMINAL = """
    import sys, webbrowser
    webbrowser.open = lambda *_, **__: False
    from carto_auth_integrations import CartoAuth, CredentialsError
    try:
        print("token:", CartoAuth("oauth", auth_url={url!r}, accounts_url={url!r}, use_cache=False).get_access_token())
    except CredentialsError as error:
        print("error:", type(error).__name__, error)
"""


class Terminal:
    """A program at a real terminal, a pseudo one, with someone who reads and types."""

    def __init__(self, script: str) -> None:
        import pty

        self.text = ""
        self._pid, self._fd = pty.fork()
        if self._pid == 0:  # the child: nothing of pytest may run here
            os.environ["PYTHONPATH"] = f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
            os.execv(sys.executable, [sys.executable, "-c", dedent(script)])

    def read_until(self, pattern: str) -> str:
        end = time.monotonic() + PATIENCE
        while not (found := re.search(pattern, self.text)):
            assert time.monotonic() < end, self.text
            try:
                self.text += os.read(self._fd, 4096).decode()
            except OSError:  # the program has ended
                found = re.search(pattern, self.text)
                assert found, self.text
                break
        return found[0]

    def type(self, text: str) -> None:
        os.write(self._fd, text.encode())

    def close(self) -> None:
        os.close(self._fd)
        os.waitpid(self._pid, 0)


@pytest.fixture
def terminal(carto_sandbox: Sandbox) -> Iterator[Terminal]:
    pytest.importorskip("pty")
    opened = Terminal(IN_A_TERMINAL.format(url=carto_sandbox.url))
    yield opened
    opened.close()


@pytest.mark.parametrize("form", [code_at, landed], ids=["the code", "the whole URL"])
def test_someone_at_a_real_terminal_pastes_what_the_page_shows(terminal: Terminal, form: Callable[[str], str]) -> None:
    url = terminal.read_until(r"http://\S+/authorize\S+(?=\r)")
    terminal.read_until("Paste the code")

    terminal.type(f"{form(url)}\n")

    terminal.read_until(r"token: sandbox-carto-\S+")


def test_someone_at_a_real_terminal_gives_up(terminal: Terminal) -> None:
    terminal.read_until("Paste the code")

    terminal.type("\x04")

    terminal.read_until("error: InteractionRequired")


# Where nobody is


@pytest.mark.parametrize("name", ["AIRFLOW_CTX_DAG_ID", "PREFECT__FLOW_RUN_ID", "CI"])
def test_on_a_worker_neither_browser_nor_terminal_is_touched(
    auth: CartoAuth, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(login, "_has_terminal", lambda: True)
    assert is_person_there()
    monkeypatch.setenv(name, "x")

    assert not is_person_there()
    error = raised_by(auth.get_access_token)

    assert type(error) is InteractionRequired
    assert "carto-auth login" in str(error)
    assert "CartoAuth.from_m2m" in str(error)


def test_without_a_terminal_neither_browser_nor_terminal_is_touched(auth: CartoAuth) -> None:
    for call in (auth.get_access_token, auth.get_carto_dw_credentials, auth.get_carto_dw_client):
        assert type(raised_by(call)) is InteractionRequired


def test_a_closed_standard_input_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    for name in login.WORKER_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    closed = Path(os.devnull).open()  # noqa: SIM115 - closed at once
    closed.close()
    for stdin in (None, closed):
        monkeypatch.setattr(sys, "stdin", stdin)
        assert not is_person_there()


def test_a_notebook_counts_as_a_person(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ipykernel", sys)

    assert is_person_there()


def test_a_login_without_browser_and_terminal_says_what_to_do(carto_sandbox: Sandbox) -> None:
    error = raised_by(lambda: authorize(account_of(carto_sandbox), open_browser=False))

    assert type(error) is InteractionRequired
    assert "carto-auth login" in str(error)


def test_a_notebook_elsewhere_does_not_wait_for_a_browser_here(
    carto_sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABRICKS_RUNTIME_VERSION", "15.4")
    pasting(monkeypatch, lambda _: CODE, capfd)

    assert authorize(account_of(carto_sandbox)).code.reveal() == CODE


# After the access token has ended


def test_a_refresh_token_renews_the_login_without_a_person(
    carto_sandbox: Sandbox, auth: CartoAuth, browser: Browser
) -> None:
    carto_sandbox.set_lifetimes(carto=1)
    auth.login(port=0)
    first = auth.get_access_token()
    time.sleep(1.1)
    second = auth.get_access_token()
    time.sleep(1.1)
    third = auth.get_access_token()

    assert len({first, second, third}) == 3
    assert len(browser.opened) == 1
    assert auth.get_api_base_url() == carto_sandbox.url
    assert carto_sandbox.stats().count("accounts") == 1


def test_a_refused_refresh_on_a_worker_asks_for_a_login(
    carto_sandbox: Sandbox, auth: CartoAuth, browser: Browser
) -> None:
    auth.login(port=0)
    token = auth.get_access_token()
    auth.reject_access_token(token)
    carto_sandbox.revoke("refresh")

    error = raised_by(auth.get_access_token)

    assert type(error) is InteractionRequired
    assert error.__context__ is None
    assert_shows_no_secret(error, token)
    assert len(browser.opened) == 1


@pytest.mark.usefixtures("browser")
def test_where_no_refresh_token_is_granted_the_login_ends_with_its_token(tmp_path: Path) -> None:
    with Sandbox(SandboxOptions(grant_refresh_tokens=False)) as sandbox:
        auth = auth_for(sandbox, tmp_path, **LOGIN)
        auth.login(port=0)
        auth.reject_access_token(auth.get_access_token())

        assert type(raised_by(auth.get_access_token)) is InteractionRequired


@pytest.mark.usefixtures("browser")
def test_a_login_of_the_grant_takes_no_part_of_the_last_one(carto_sandbox: Sandbox) -> None:
    token = UserLogin(account_of(carto_sandbox)).login(port=0)

    assert token.details == {"api_base_url": carto_sandbox.url}
    assert token.refresh_token
    assert token != token_living(60)
    assert NO_TOKEN.details == {}
