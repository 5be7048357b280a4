"""The browser login: PKCE, state, a loopback listener, and a pasted code where there is no browser."""

from __future__ import annotations

import os
import re
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import AF_INET6
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlencode, urlsplit

from ..account.fields import FIELDS
from ..account.secret import Secret
from ..errors import ClientRejected, CredentialsError, InteractionRequired

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ..account.account import CartoAccount

CALLBACK_PORT = 10000
"""The port of the redirect that CARTO's public client has registered: http://localhost:10000/callback/."""
CALLBACK_PATH = "/callback/"
PASTE_URL = "https://app.carto.com/auth/token"
"""The registered page that shows the code to a person, for a machine without a browser."""
LOGIN_TIMEOUT = 300.0
"""Seconds for a person to log in; a password manager and a second factor fit."""
STRAY_TIMEOUT = 5.0
"""Seconds for a connection to the listener to say what it wants: port scans say nothing."""
WORKER_VARIABLES = ("AIRFLOW_CTX_DAG_ID", "PREFECT__FLOW_RUN_ID")
"""Set in a task or flow run, where nobody sits even if a terminal is attached, as with `airflow standalone`."""


class Authorization:
    """What a login brings: a code that is exchanged for a token once.

    Args:
        code: The authorization code.
        redirect_uri: Where the server sent it; the exchange has to name it again.
        verifier: The PKCE code verifier.
    """

    __slots__ = ("code", "redirect_uri", "verifier")

    def __init__(self, code: Secret, redirect_uri: str, verifier: Secret) -> None:
        self.code = code
        self.redirect_uri = redirect_uri
        self.verifier = verifier


class Attempt:
    """One login attempt: its PKCE pair and its state. Used once."""

    def __init__(self) -> None:
        from secrets import token_urlsafe

        self.verifier = Secret(token_urlsafe(64))
        self.state = token_urlsafe(24)

    @property
    def challenge(self) -> str:
        """The S256 code challenge (RFC 7636, section 4.2)."""
        from base64 import urlsafe_b64encode
        from hashlib import sha256

        digest = sha256(self.verifier.reveal().encode()).digest()
        return urlsafe_b64encode(digest).rstrip(b"=").decode()

    def url(self, account: CartoAccount, redirect_uri: str) -> str:
        """Give the URL where the person logs in."""
        query = {
            "response_type": "code",
            "client_id": account.client_id,
            "audience": account.audience,
            "scope": "openid offline_access",
            "redirect_uri": redirect_uri,
            "state": self.state,
            "code_challenge": self.challenge,
            "code_challenge_method": "S256",
        }
        if account.organization:
            query["organization"] = account.organization
        return f"{account.auth_url}/authorize?{urlencode(query)}"


class Answer:
    """Where the listener puts what the browser brings, and where the login waits for it."""

    def __init__(self, state: str) -> None:
        self._state = state
        self._arrived = threading.Event()
        self._code: Secret | None = None
        self._error = ""

    def offer(self, query: str) -> bool:
        """Take a redirect's query if it belongs to this login.

        Returns:
            False for a stray request: another state, or neither code nor error.
        """
        fields = {name: values[0] for name, values in parse_qs(query).items()}
        if fields.get("state") != self._state or not fields.keys() & {"code", "error"}:
            return False
        if not self._arrived.is_set():
            self._code = Secret(fields["code"]) if "code" in fields else None
            self._error = fields.get("error", "")
            self._arrived.set()
        return True

    def wait(self, timeout: float) -> Secret:
        """Wait for the code.

        Raises:
            InteractionRequired: If none came in time.
            ClientRejected: If the server sent an error instead.
        """
        if not self._arrived.wait(timeout):
            raise InteractionRequired(f"Nobody finished the login to CARTO within {timeout:.0f} s: start it again.")
        if self._code is None:
            raise _refused(self._error)
        return self._code


def is_worker() -> bool:
    """Tell whether this is a run of an orchestrator: there, not even an explicit login may open a browser."""
    return any(os.environ.get(name) for name in WORKER_VARIABLES)


def is_person_there() -> bool:
    """Tell whether someone can be asked to log in: a terminal or a notebook, and not a worker."""
    if is_worker() or os.environ.get("CI"):
        return False
    if "ipykernel" in sys.modules:
        return True
    return _has_terminal()


def authorize(
    account: CartoAccount, *, open_browser: bool = True, port: int = CALLBACK_PORT, timeout: float = LOGIN_TIMEOUT
) -> Authorization:
    """Have a person log in, in the browser of this machine or by pasting a code.

    Args:
        account: Who logs in where.
        open_browser: Whether to open a browser here.
        port: The loopback port it comes back to; 0 for any free one.
        timeout: Seconds the person has.

    Raises:
        ClientRejected: If the server refused the login.
        InteractionRequired: If nobody finished it, or there is neither browser nor terminal.
    """
    attempt = Attempt()
    if open_browser and not _is_remote_notebook():
        authorization = _authorize_in_browser(account, attempt, port, timeout)
        if authorization:
            return authorization
    return _authorize_by_paste(account, attempt)


def _authorize_in_browser(account: CartoAccount, attempt: Attempt, port: int, timeout: float) -> Authorization | None:
    """Log in through the browser; None if it cannot come back to this machine or does not open."""
    import webbrowser

    answer = Answer(attempt.state)
    try:
        listener = Listener(port, answer.offer)
    except OSError as error:
        _say(f"Port {port} on this machine is not free for the browser to come back to ({error.strerror}).")
        return None
    with listener:
        redirect_uri = f"http://localhost:{listener.port}{CALLBACK_PATH}"
        url = attempt.url(account, redirect_uri)
        if not webbrowser.open(url, new=1):
            return None
        _say(f"Log in to CARTO in the browser. If none has opened, go to:\n{url}")
        return Authorization(answer.wait(timeout), redirect_uri, attempt.verifier)


def _authorize_by_paste(account: CartoAccount, attempt: Attempt) -> Authorization:
    """Log in with a code that the person carries over."""
    if "ipykernel" not in sys.modules and not _has_terminal():
        raise InteractionRequired(
            "The login to CARTO found neither a browser nor a terminal to paste a code into: "
            "run `carto-auth login` where one of them is, or use client credentials (CartoAuth.from_m2m)."
        )
    redirect_uri = _paste_url(account)
    _say(f"Log in to CARTO at:\n{attempt.url(account, redirect_uri)}")
    _say("Paste the code shown there:")  # not as input's prompt: standard output may be a pipe that wants a token alone
    pasted = _read_line()
    code = _code_in(pasted, attempt.state)
    if not code:
        raise InteractionRequired("No code was pasted: start the login again and copy the code from the page.")
    return Authorization(code, redirect_uri, attempt.verifier)


def _read_line() -> Secret:
    """Read what the person pastes; nothing, if the terminal has ended."""
    try:
        return Secret(input().strip())
    except (EOFError, NotImplementedError, OSError):  # the terminal has ended; a notebook runs without anyone
        return Secret("")


def _code_in(pasted: Secret, state: str) -> Secret | None:
    """Take the code out of what was pasted: the code itself, or the whole URL of the page; None if there is none."""
    if not re.search(r"[?#/]|(code|error)=", pasted.reveal()):
        return pasted
    fields = _fields_of(pasted)
    if "error" in fields:
        raise _refused(fields["error"].reveal())
    if "state" in fields and fields["state"] != Secret(state):
        raise ClientRejected("The pasted URL belongs to another login (state differs): start the login again.")
    return fields.get("code")


def _fields_of(pasted: Secret) -> dict[str, Secret]:
    """Read the query of a URL, or one that stands alone."""
    _, mark, query = pasted.reveal().partition("?")
    fields = parse_qs((query if mark else pasted.reveal()).partition("#")[0])
    return {name: Secret(values[0]) for name, values in fields.items()}


class Listener:
    """Listens on loopback for the browser's way back. Stray requests get a 404 and change nothing.

    Args:
        port: The port; 0 for any free one.
        offer: Takes a query; answers whether it was the awaited one.

    Raises:
        OSError: If the port is taken.
    """

    def __init__(self, port: int, offer: Callable[[str], bool]) -> None:
        handler = type("CallbackHandler", (_CallbackHandler,), {"offer": staticmethod(offer)})
        self._servers: list[ThreadingHTTPServer] = [_Server(("127.0.0.1", port), handler)]
        self.port = self._servers[0].server_port
        try:  # browsers look localhost up as ::1 as well
            self._servers.append(_Server6(("::1", self.port), handler))
        except OSError:
            pass

    def __enter__(self) -> Listener:
        for server in self._servers:
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True).start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = os.name == "posix"  # on Windows it would share the port with another program

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of connections that break off."""


class _Server6(_Server):
    address_family = AF_INET6


class _CallbackHandler(BaseHTTPRequestHandler):
    offer: Callable[[str], bool]
    timeout = STRAY_TIMEOUT

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        if url.path.rstrip("/") == CALLBACK_PATH.rstrip("/") and self.offer(url.query):
            self._answer(200, "This login to CARTO is complete. You may close this window and go back.")
        else:
            self._answer(404, "Nothing here.")

    def _answer(self, status: int, text: str) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class's name for it
        """Log nothing: the request line holds the code."""


def _refused(code: str) -> CredentialsError:
    from .grants import OAUTH_ERRORS

    said = f" ({code})" if code in OAUTH_ERRORS else ""
    return ClientRejected(f"CARTO refused the login{said}. Check the user, the organization and the client_id.")


def _paste_url(account: CartoAccount) -> str:
    """Give the page that shows the code: CARTO's own, or the one beside a login domain of one's own."""
    if account.auth_url == FIELDS["auth_url"].default:
        return PASTE_URL
    url = urlsplit(account.auth_url)
    return f"{url.scheme}://{url.netloc}/auth/token"


def _is_remote_notebook() -> bool:
    """Tell whether the code runs where the person's browser is not."""
    return "google.colab" in sys.modules or "DATABRICKS_RUNTIME_VERSION" in os.environ


def _has_terminal() -> bool:
    try:
        return sys.stdin.isatty()
    except (AttributeError, ValueError):  # no standard input, or a closed one
        return False


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
