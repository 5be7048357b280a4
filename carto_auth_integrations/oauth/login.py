"""Log a person in with the authorization code flow (PKCE): in a browser, or by a pasted code where there is none."""

from __future__ import annotations

import os
import re
import sys
from base64 import urlsafe_b64encode
from collections.abc import Callable
from contextlib import suppress
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import Empty, SimpleQueue
from secrets import token_urlsafe
from socket import AF_INET6
from threading import Thread
from typing import NamedTuple
from urllib.parse import parse_qs, urlencode, urlsplit

from ..account import CartoAccount
from ..account.fields import FIELDS
from ..account.secret import Secret
from ..errors import OAUTH_ERRORS, ClientRejected, InteractionRequired

CALLBACK_PORT = 10000
CALLBACK_PATH = "/callback/"
"""Port and path of the redirect URI that is registered for CARTO's public client: http://localhost:10000/callback/."""
PASTE_URL = "https://app.carto.com/auth/token"
"""Redirect URI of a page that shows the code, so that it can be pasted on a machine without a browser."""
LOGIN_TIMEOUT = 300.0
"""Seconds for a person to log in: enough for a password manager and a second factor."""
STRAY_TIMEOUT = 5.0
"""Seconds that the listener waits for a request on an open connection: port scanners never send one."""
WORKER_VARIABLES = ("AIRFLOW_CTX_DAG_ID", "PREFECT__FLOW_RUN_ID")
"""Set by Airflow and Prefect in a run: nobody can log in there, even if `airflow standalone` lends it a terminal."""


class Authorization(NamedTuple):
    """The result of a login: a code that works once, and what must be sent with it (RFC 6749, 4.1.3; RFC 7636, 4.5)."""

    code: Secret
    redirect_uri: str
    verifier: Secret


class Attempt:
    """The PKCE verifier and the `state` of one login. Use each attempt once."""

    def __init__(self) -> None:
        self.verifier = Secret(token_urlsafe(64))
        self.state = token_urlsafe(24)

    @property
    def challenge(self) -> str:
        """The S256 code challenge (RFC 7636, section 4.2)."""
        return urlsafe_b64encode(sha256(self.verifier.reveal().encode()).digest()).rstrip(b"=").decode()

    def url(self, account: CartoAccount, redirect_uri: str) -> str:
        """Return the URL of the account's login page, after which the server sends the code to `redirect_uri`."""
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
    """Pass the code from the listener's threads to the thread that waits for the redirect with this `state`."""

    def __init__(self, state: str) -> None:
        self._state = Secret(state)
        self._redirects: SimpleQueue[dict[str, Secret]] = SimpleQueue()

    def offer(self, query: str) -> bool:
        """Accept the query of a redirect; return False for one with another state, or with neither code nor error."""
        fields = _fields_in(query)
        if fields.get("state") != self._state or not fields.keys() & {"code", "error"}:
            return False
        self._redirects.put(fields)
        return True

    def wait(self, timeout: float) -> Secret:
        """Wait for the first redirect, at most so many seconds, and return its code or raise its error."""
        try:
            fields = self._redirects.get(timeout=timeout)
        except Empty:
            fields = {}
        if not fields:
            raise InteractionRequired(f"Nobody finished the login to CARTO within {timeout:.0f} s: start it again.")
        if "code" not in fields:
            raise _login_refused(fields["error"])
        return fields["code"]


def is_worker() -> bool:
    """Whether this process runs an Airflow task or a Prefect flow, where not even an explicit login opens a browser."""
    return any(os.environ.get(name) for name in WORKER_VARIABLES)


def is_person_there() -> bool:
    """Whether a person can be asked to log in: in a terminal or a notebook, but not on a worker or in CI."""
    return not is_worker() and not os.environ.get("CI") and ("ipykernel" in sys.modules or _has_terminal())


def authorize(
    account: CartoAccount, *, open_browser: bool = True, port: int = CALLBACK_PORT, timeout: float = LOGIN_TIMEOUT
) -> Authorization:
    """Ask a person to log in with the browser of this machine or, failing that, to paste a code.

    The browser has `timeout` seconds to return to the loopback interface, at `port`, or at any free port if that is 0.
    """
    attempt, authorization = Attempt(), None
    is_hosted_notebook = "google.colab" in sys.modules or "DATABRICKS_RUNTIME_VERSION" in os.environ
    if open_browser and not is_hosted_notebook:  # its user's browser runs on another machine
        authorization = _authorize_in_browser(account, attempt, port, timeout)
    return authorization or _authorize_by_paste(account, attempt)


def _authorize_in_browser(account: CartoAccount, attempt: Attempt, port: int, timeout: float) -> Authorization | None:
    """Log in with the browser, or return None if the callback port is taken or no browser opens."""
    import webbrowser

    answer = Answer(attempt.state)
    try:
        listener = Listener(port, answer.offer)
    except OSError as error:
        _print(f"Port {port}, to which the browser returns after the login, is not available ({error.strerror}).")
        return None
    with listener:
        redirect_uri = f"http://localhost:{listener.port}{CALLBACK_PATH}"
        url = attempt.url(account, redirect_uri)
        if not webbrowser.open(url, new=1):
            return None
        _print(f"Log in to CARTO in the browser. If none has opened, go to:\n{url}")
        return Authorization(answer.wait(timeout), redirect_uri, attempt.verifier)


def _authorize_by_paste(account: CartoAccount, attempt: Attempt) -> Authorization:
    """Print the URL of the login and read the code, or the URL with it, of the page after the login."""
    if "ipykernel" not in sys.modules and not _has_terminal():
        raise InteractionRequired(
            "The login to CARTO found neither a browser nor a terminal to paste a code into: "
            "run `carto-auth login` where there is one, or use client credentials (CartoAuth.from_m2m)."
        )
    redirect_uri = _paste_url(account)
    _print(f"Log in to CARTO at:\n{attempt.url(account, redirect_uri)}\nPaste the code shown there:")
    try:
        pasted = Secret(input().strip())  # without a prompt: standard output may be a pipe for the token
    except (EOFError, NotImplementedError, OSError):  # end of input, or a notebook that runs without a frontend
        pasted = Secret("")
    fields = {"code": pasted}
    if re.search(r"[?#/]|(code|error)=", pasted.reveal()):
        fields = _fields_in(pasted.reveal().rpartition("?")[2].partition("#")[0])
    if "error" in fields:
        raise _login_refused(fields["error"])
    if "state" in fields and fields["state"] != Secret(attempt.state):
        raise ClientRejected("The pasted URL belongs to another login (its state differs): start the login again.")
    if not fields.get("code"):
        raise InteractionRequired("No code was pasted: start the login again and copy the code from the page.")
    return Authorization(fields["code"], redirect_uri, attempt.verifier)


class Listener:
    """Context manager: an HTTP server on the loopback interface that passes each redirect's query to `offer`.

    Stray requests, and redirects that `offer` does not accept, get a 404. `OSError` is raised if the port is taken.
    """

    def __init__(self, port: int, offer: Callable[[str], bool]) -> None:
        handler = type("CallbackHandler", (_CallbackHandler,), {"offer": staticmethod(offer)})
        self._servers = [_Server(("127.0.0.1", port), handler)]
        self.port = self._servers[0].server_port
        with suppress(OSError):  # some browsers resolve localhost to ::1
            self._servers.append(_Server6(("::1", self.port), handler))

    def __enter__(self) -> Listener:
        for server in self._servers:
            Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True).start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = os.name == "posix"  # on Windows, SO_REUSEADDR lets two programs share a port

    def handle_error(self, request: object, client_address: object) -> None:
        """Print no traceback for broken connections."""


class _Server6(_Server):
    address_family = AF_INET6


class _CallbackHandler(BaseHTTPRequestHandler):
    offer: Callable[[str], bool]
    timeout = STRAY_TIMEOUT

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        is_ours = url.path.rstrip("/") == CALLBACK_PATH.rstrip("/") and self.offer(url.query)
        self.send_response(200 if is_ours else 404)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        text = "The login to CARTO is complete. You can close this window." if is_ours else "Not found."
        self.wfile.write(text.encode())

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the name in the base class
        """Log no requests: the request line contains the code."""


def _fields_in(query: str) -> dict[str, Secret]:
    return {name: Secret(values[0]) for name, values in parse_qs(query).items()}


def _login_refused(error: Secret) -> ClientRejected:
    """Return the exception for an OAuth error; the message includes only codes that are known to be harmless."""
    detail = f" ({error.reveal()})" if error.reveal() in OAUTH_ERRORS else ""
    return ClientRejected(f"CARTO refused the login{detail}. Check the user, the organization and the client_id.")


def _paste_url(account: CartoAccount) -> str:
    """Return the URL of the page that shows the code: CARTO's, or the same path on the host of a custom `auth_url`."""
    url = urlsplit(account.auth_url)
    return PASTE_URL if account.auth_url == FIELDS["auth_url"].default else f"{url.scheme}://{url.netloc}/auth/token"


def _has_terminal() -> bool:
    with suppress(AttributeError, ValueError):  # no standard input, or a closed one
        return sys.stdin.isatty()
    return False


def _print(text: str) -> None:
    """Print to standard error: standard output may be a pipe that expects only the token."""
    print(text, file=sys.stderr, flush=True)
