"""The one door to the network: time-outs, retries, and errors that say where and why, never with what."""

from __future__ import annotations

import json
import time

from ._version import __version__
from .account.secret import Secret
from .errors import CredentialsError, ServiceUnavailable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, TypeVar

    import requests

    from .tokens.source import TokenSource
    from .tokens.token import Interactive

    T = TypeVar("T")

CLIENT_NAME = "carto-auth-integrations"
USER_AGENT = f"{CLIENT_NAME}/{__version__}"
CONNECT_TIMEOUT = 5.0
"""Seconds to reach a server: a packet that is lost twice still gets there."""
READ_TIMEOUT = 20.0
"""Seconds between two pieces of an answer; a token endpoint that needs more is down."""
TOTAL_TIMEOUT = 60.0
"""Seconds for a call with all its retries; a try that could not end within them is not begun."""
ATTEMPTS = 4
WAIT_INITIAL, WAIT_JITTER = 0.2, 0.3
"""Seconds between tries where the server does not say; doubled each time."""
RETRIED = frozenset({429, 500, 502, 503, 504})
REPLACEMENTS = 2
"""Tokens that may be refused before a 401 is the answer, as google-auth has it: one's own, and another process's."""
DATE_GRAIN = 2.0
"""Seconds by which a server's `Date` may be behind without its clock being wrong."""
MAX_BODY = 1024 * 1024
"""Bytes of an answer that are read; a token's is below ten thousand."""


class Reply:
    """An answer: its status, its type, and its fields, which show themselves only one by one.

    Args:
        status: HTTP status.
        headers: Response headers, names in lower case.
        body: The body as it came.
    """

    __slots__ = ("_body", "headers", "status")

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.status = status
        self.headers = {name.lower(): value for name, value in headers.items()}
        self._body = body

    @property
    def content_type(self) -> str:
        """The media type, without its parameters."""
        return self.headers.get("content-type", "no content type").partition(";")[0].strip()[:60]

    def text(self, name: str) -> str | None:
        """Give a field of a JSON object if it is a string that is not blank."""
        value = self._field(name)
        return value if isinstance(value, str) and value.strip() else None

    def number(self, name: str) -> float | None:
        """Give a field of a JSON object if it is a finite number, or a string that spells one."""
        value = self._field(name)
        if isinstance(value, bool) or not isinstance(value, (int, float, str)):
            return None
        try:
            number = float(value)
        except (ValueError, OverflowError):
            return None
        return number if abs(number) < float("inf") else None

    def secret(self, name: str) -> Secret | None:
        """Give a field of a JSON object if it can be sent as a bearer token: printable ASCII without blanks."""
        value = self._field(name)
        if not isinstance(value, str) or not value or not value.isascii() or not value.isprintable() or " " in value:
            return None
        return Secret(value)

    def lines(self) -> list[str]:
        """Give a text body by lines, for what is not JSON."""
        return self._body.decode("utf-8", "replace").splitlines()

    def _field(self, name: str) -> object:
        try:
            content = json.loads(self._body)
        except (ValueError, RecursionError):
            return None
        return content.get(name) if isinstance(content, dict) else None

    def __repr__(self) -> str:
        return f"Reply({self.status}, {self.content_type})"


class _Failed(Exception):
    """A try that brought no answer worth having.

    Args:
        why: What happened, in words without secrets.
        retry: Whether another try may help.
        status: The HTTP status, where there was one.
        retry_after: Seconds, as the server says.
    """

    def __init__(self, why: str, *, retry: bool, status: int | None = None, retry_after: float | None = None) -> None:
        super().__init__(why)
        self.retry = retry
        self.status = status
        self.retry_after = retry_after


def call(
    method: str,
    url: str,
    *,
    purpose: str,
    form: Mapping[str, str | Secret] | None = None,
    bearer: Secret | None = None,
) -> Reply:
    """Make one call, retried while that may help, and give the answer whatever its status below 500 and other than 429.

    Args:
        method: `GET` or `POST`.
        url: Where; without query.
        purpose: What the call is for, to begin messages with: "CARTO access token of abc".
        form: Form fields to post; secrets stay wrapped until they are sent.
        bearer: The token to authenticate with.

    Raises:
        ServiceUnavailable: The network failed, or 429 or 5xx was the last answer too. `retry_after` in seconds.
    """
    from random import random

    import requests

    longest_try = CONNECT_TIMEOUT + READ_TIMEOUT
    last_start = time.monotonic() + TOTAL_TIMEOUT - longest_try
    with requests.Session() as session:
        session.trust_env = url.startswith("https://")  # plain http is for this machine: no proxy gets to see it
        for attempt in range(ATTEMPTS):
            outcome = _outcome(within(longest_try, lambda: _try(session, method, url, form=form, bearer=bearer)))
            if isinstance(outcome, Reply):
                return outcome
            failure = outcome
            pause = failure.retry_after or WAIT_INITIAL * 2**attempt + WAIT_JITTER * random()
            if not failure.retry or attempt == ATTEMPTS - 1 or time.monotonic() + pause > last_start:
                break
            _log().info("%s: %s %s; asked again in %.1f s", purpose, url, failure, pause)
            time.sleep(pause)
    raise _unavailable(failure, purpose, url)  # outside the handler: nothing of the request hangs on the error


def within(seconds: float, action: Callable[[], T]) -> T | Exception | None:
    """Do something that may hang, on a daemon thread: a name look-up has no time-out, and an answer may drip for ever.

    Args:
        seconds: How long to wait; past that, the thread is left behind.
        action: What to do.

    Returns:
        What it gave, what it raised, or None if it has not ended.
    """
    from concurrent.futures import Future, wait
    from threading import Thread

    future: Future[T] = Future()

    def work() -> None:
        try:
            future.set_result(action())
        except Exception as error:  # whatever it is, it is the result
            future.set_exception(error)

    try:
        Thread(target=work, name="carto-call", daemon=True).start()
    except RuntimeError:  # no thread to be had: the interpreter is shutting down, or the system is at its limit
        work()
    wait((future,), max(seconds, 0.0))
    if not future.done():
        return None
    error = future.exception()
    return error if isinstance(error, Exception) else future.result()


def call_as(source: TokenSource, method: str, url: str, *, purpose: str, interactive: Interactive) -> Reply:
    """Make one call to CARTO's API. A 401 to a token that should be good: another token, and the call again.

    That other token may be one that another process has left in the store, as dead as the first where all were revoked;
    then a new one is asked for. A replacement that was obtained for this very call is not replaced in turn.

    Args:
        source: Whose access token authenticates the call.
        method: `GET` or `POST`.
        url: Where; without query.
        purpose: What the call is for, to begin messages with.
        interactive: Whether a person may be asked to log in, if it comes to that.

    Raises:
        CredentialsError: If there is no token to be had, or no answer; the kind says why.
    """
    began = time.time()
    token = source.get(interactive=interactive)
    reply = call(method, url, purpose=purpose, bearer=token)
    for _ in range(REPLACEMENTS):
        if reply.status != 401:
            break
        source.reject(token.reveal())
        refused, token = token, source.get(interactive=interactive)
        reply = call(method, url, purpose=purpose, bearer=token)
        if token == refused or token.obtained_at >= began:
            break  # its issuer has no better one
    return reply


def _try(
    session: requests.Session,
    method: str,
    url: str,
    *,
    form: Mapping[str, str | Secret] | None,
    bearer: Secret | None,
) -> Reply:
    import requests

    failure: _Failed
    try:
        with session.request(
            method,
            url,
            data=form
            and {name: value.reveal() if isinstance(value, Secret) else value for name, value in form.items()},
            params={"client": CLIENT_NAME} if bearer else None,
            headers={"User-Agent": USER_AGENT, "Accept": "application/json"},
            auth=_Authorization(bearer),
            timeout=(CONNECT_TIMEOUT, READ_TIMEOUT),
            allow_redirects=False,
            stream=True,
        ) as response:
            reply = Reply(response.status_code, response.headers, _body(response))
            if reply.status not in RETRIED:
                return reply
            failure = _Failed(
                f"answered {reply.status}", retry=True, status=reply.status, retry_after=_retry_after(reply.headers)
            )
    except requests.RequestException as error:
        failure = _Failed(why(error), retry=not (_is_about_certificates(error) or isinstance(error, ValueError)))
    raise failure


class _Authorization:
    """Sets the bearer header, and keeps requests from putting what `~/.netrc` says in its place."""

    def __init__(self, bearer: Secret | None) -> None:
        self._bearer = bearer

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._bearer:
            request.headers["Authorization"] = f"Bearer {self._bearer.reveal()}"
        return request


def _body(response: requests.Response) -> bytes:
    body = b""
    for chunk in response.iter_content(16384):
        body += chunk
        if len(body) > MAX_BODY:
            break
    return body


def _outcome(result: Reply | Exception | None) -> Reply | _Failed:
    """Give the answer, or a failure of ours for a try that did not end and for what requests lets through.

    The foreign error stays in here: it may hold the bearer, and a local of `call` shows in a traceback.
    """
    if isinstance(result, (Reply, _Failed)):
        return result
    if result is None:
        return _Failed(f"did not answer within {READ_TIMEOUT:.0f} s", retry=True)
    return _Failed(f"failed ({type(result).__name__})", retry=isinstance(result, OSError))


def _is_about_certificates(error: Exception) -> bool:
    return "CERTIFICATE_VERIFY_FAILED" in str(error)


def why(error: Exception) -> str:
    """Say what an error of requests means, without its own words: they may hold a proxy's password or the request."""
    from requests import exceptions

    if isinstance(error, exceptions.SSLError) and not _is_about_certificates(error):
        return "broke off in the TLS handshake"
    if isinstance(error, exceptions.SSLError):
        return "has no certificate that this machine trusts (a private CA goes into REQUESTS_CA_BUNDLE)"
    if isinstance(error, exceptions.ProxyError):
        return "cannot be reached through the proxy (check HTTPS_PROXY and NO_PROXY)"
    if isinstance(error, exceptions.ConnectTimeout):
        return f"took no connection within {CONNECT_TIMEOUT:.0f} s"
    if isinstance(error, exceptions.ReadTimeout):
        return f"did not answer within {READ_TIMEOUT:.0f} s"
    if isinstance(error, exceptions.ConnectionError):
        reason = getattr(error.args[0], "reason", error.args[0]) if error.args else error
        return f"could not be reached ({type(reason).__name__})"
    return f"failed ({type(error).__name__})"


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Read `Retry-After`, seconds or a date, as seconds from now."""
    value = headers.get("retry-after", "").strip()
    if value.isascii() and value.isdigit():
        return float(value[:9])
    from email.utils import parsedate_to_datetime

    try:
        return max(parsedate_to_datetime(value).timestamp() - server_time(headers), 0.0)
    except (ValueError, TypeError, OverflowError):
        return None


def server_time(headers: Mapping[str, str]) -> float:
    """Give the server's clock at its answer, UTC epoch seconds; this machine's where it does not tell.

    Args:
        headers: Response headers, names in lower case.
    """
    from email.utils import parsedate_to_datetime

    now = time.time()
    try:
        told = parsedate_to_datetime(headers["date"]).timestamp()
    except (KeyError, ValueError, TypeError, OverflowError):
        return now
    return now if abs(told - now) < DATE_GRAIN else told  # the header tells whole seconds, and a moment ago


def _log() -> Any:
    from logging import getLogger

    return getLogger(__name__)


def _unavailable(failure: _Failed, purpose: str, url: str) -> CredentialsError:
    after = failure.retry_after
    advice = f"Try again in {after:.0f} s" if after else "Check the URL and the network, or try again later"
    return ServiceUnavailable(f"{purpose}: {url} {failure}. {advice}.", status=failure.status, retry_after=after)
