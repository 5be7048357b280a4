"""The one HTTP client, for token endpoints, CARTO's API and BigQuery: timeouts, retries, 401, and no secret shown."""

from __future__ import annotations

import json
import logging
import os
import ssl
import time
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from http.cookiejar import DefaultCookiePolicy
from random import random
from socket import gaierror
from typing import TYPE_CHECKING, Any, TypeVar

from ._version import __version__
from .account.secret import Secret
from .errors import TRANSIENT_STATUSES, CallFailed, Scope, ServiceUnavailable, is_transient, is_transient_answer
from .waiting import FOREVER, Deadline, on_thread, run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import TypeAlias

    import requests

    from .waiting import Steps

    Json: TypeAlias = dict[str, Any]
    """A JSON object."""

logger = logging.getLogger(__name__)

T = TypeVar("T")
Token = TypeVar("Token", bound=Secret)

CLIENT_NAME = "carto-auth-integrations"
USER_AGENT = f"{CLIENT_NAME}/{__version__}"
CONNECT_TIMEOUT = 5.0
"""Seconds to reach a server: a packet that is lost twice still gets there."""
READ_TIMEOUT = 20.0
"""Seconds between two pieces of a response; a server that needs more is down."""
SHORTEST_TIMEOUT = 0.001
"""Seconds; requests takes no zero."""
TOTAL_TIMEOUT = 60.0
"""Seconds for a call to CARTO with all its retries."""
ATTEMPTS = 4
WAIT_INITIAL, WAIT_JITTER = 0.2, 0.3
"""Seconds between the attempts of a call to CARTO, doubled each time, where the server names none."""
UNAUTHORIZED = 401
REPLACEMENTS = 2
"""Tokens that are replaced after a 401, as in google-auth: the one in hand, and another process's from the store."""
DATE_GRAIN = 2.0
"""Seconds by which a server's `Date` may be behind without its clock being wrong."""
MAX_BODY = 1024 * 1024
"""Bytes of a response of CARTO that are read; one with a token has fewer than ten thousand."""
CHUNK = 64 * 1024
"""Bytes that are read or sent at once: after each, a cancelled upload stops."""
CONNECTIONS = 16
"""Connections per host that are kept open: as many as there are threads that make calls, and some to spare."""


class Reply:
    """A response whose body shows itself only field by field.

    Args:
        status: HTTP status.
        headers: Response headers.
        body: The body.
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
        """Return a field of the JSON body if it is a string and not blank."""
        value = self.content().get(name)
        return value if isinstance(value, str) and value.strip() else None

    def number(self, name: str) -> float | None:
        """Return a field of the JSON body if it is a finite number, or a string that spells one."""
        value = self.content().get(name)
        if isinstance(value, bool) or not isinstance(value, (int, float, str)):
            return None
        try:
            number = float(value)
        except (ValueError, OverflowError):
            return None
        return number if abs(number) < FOREVER else None

    def secret(self, name: str) -> Secret | None:
        """Return a field of the JSON body if it can be a bearer token: printable ASCII without blanks."""
        value = self.content().get(name)
        if not isinstance(value, str) or not value or not value.isascii() or not value.isprintable() or " " in value:
            return None
        return Secret(value)

    def content(self) -> Json:
        """Return the JSON object in the body; an empty one if there is none."""
        try:
            content = json.loads(self._body)
        except (ValueError, RecursionError):
            return {}
        return content if isinstance(content, dict) else {}

    def raw(self) -> bytes:
        """Return the body."""
        return self._body

    def __repr__(self) -> str:
        return f"Reply({self.status}, {self.content_type})"


class Body:
    """A part of a file as a request body; the last bytes are not sent once the deadline has passed.

    Args:
        read: Returns at most so many of the next bytes.
        size: How many bytes there are.
        deadline: When sending has to be over.
    """

    def __init__(self, read: Callable[[int], bytes], size: int, deadline: Deadline) -> None:
        self._read = read
        self._left = size
        self._size = size
        self._deadline = deadline

    def __len__(self) -> int:
        return self._size

    def read(self, _: int = -1) -> bytes:
        """Return the next bytes.

        Raises:
            OSError: If the deadline has passed: the connection breaks off, and the server drops what it has.
        """
        if self._deadline.cancelled or not self._deadline.left():
            raise OSError("the upload was given up")
        data = self._read(min(CHUNK, self._left))
        self._left -= len(data)
        return data


@dataclass(frozen=True)
class Request:
    """A request, without its token.

    Attributes:
        method: `GET`, `POST` or `PUT`.
        url: Where; without query.
        params: The query.
        headers: Further headers.
        body: Form fields, whose secrets stay wrapped until they are sent, or bytes.
        max_body: Bytes of the response that are read; None for all.
        read_timeout: Seconds between two pieces of the response.
    """

    method: str
    url: str
    params: Mapping[str, str | int] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, str | Secret] | bytes | Body | None = field(default=None, repr=False)
    max_body: int | None = MAX_BODY
    read_timeout: float = READ_TIMEOUT


def send(request: Request, deadline: Deadline, bearer: Secret | None = None) -> Reply:
    """Make one request, once, and return the response whatever its status, but for 429 and 5xx.

    Args:
        request: The request.
        deadline: When it has to be over.
        bearer: The token to authenticate with.

    Raises:
        CallFailed: If the network failed, or the server answered 429 or 5xx.
    """
    if not deadline.left():
        raise CallFailed("was not called any more", transient=True)
    # An upload ends when its last part does; everything else has a bound.
    longest = FOREVER if isinstance(request.body, Body) else CONNECT_TIMEOUT + request.read_timeout
    try:
        return on_thread(lambda: _attempt(request, deadline, bearer), min(longest, deadline.left()), deadline)
    except TimeoutError:
        why = "did not answer in time"
    except OSError as error:
        why = f"failed ({type(error).__name__})"
    raise CallFailed(why, transient=True)


def _attempt(request: Request, deadline: Deadline, bearer: Secret | None) -> Reply:
    def authorize(prepared: requests.PreparedRequest) -> requests.PreparedRequest:
        # As an `auth` of our own: without one, requests would send what `~/.netrc` says instead.
        if bearer:
            prepared.headers["Authorization"] = f"Bearer {bearer.reveal()}"
        return prepared

    data: Any = request.body
    if data is not None and not isinstance(data, (bytes, Body)):
        data = {name: each.reveal() if isinstance(each, Secret) else each for name, each in data.items()}
    left = max(deadline.left(), SHORTEST_TIMEOUT)
    try:
        with _session(request.url).request(
            request.method,
            request.url,
            params=request.params,
            data=data,
            headers={"User-Agent": USER_AGENT, "Accept": "application/json", **request.headers},
            auth=authorize,
            timeout=(min(CONNECT_TIMEOUT, left), min(request.read_timeout, left)),
            allow_redirects=False,
            stream=True,
        ) as response:
            reply = Reply(response.status_code, response.headers, _read(response, request.max_body, deadline))
    except TimeoutError:
        raise
    except (OSError, ValueError) as error:  # OSError: also of requests; ValueError: a token that no header can hold
        failure = failure_of(error)
    else:
        if reply.status not in TRANSIENT_STATUSES:
            return reply
        failure = refusal_of(reply)
    raise failure  # outside the handlers: nothing of the request hangs on the error


def call(
    method: str,
    url: str,
    *,
    purpose: str,
    form: Mapping[str, str | Secret] | None = None,
    bearer: Secret | None = None,
    deadline: Deadline | None = None,
) -> Reply:
    """Make one call to CARTO, repeated while that may help.

    Args:
        method: `GET` or `POST`.
        url: Where; without query.
        purpose: What the call is for, the beginning of messages: "CARTO access token of abc".
        form: Form fields to post; secrets stay wrapped until they are sent.
        bearer: The token to authenticate with.
        deadline: When the call has to be over, if earlier than `TOTAL_TIMEOUT`.

    Returns:
        The response, whatever its status below 500 and other than 429.

    Raises:
        ServiceUnavailable: If the network failed, or 429 or 5xx was the last answer too. `retry_after` in seconds.
        TimeoutError: If the caller's deadline passed.
    """
    bound = Deadline(TOTAL_TIMEOUT, deadline)
    request = Request(method, url, params={"client": CLIENT_NAME} if bearer else {}, body=form)
    pauses = (WAIT_INITIAL * 2**number + WAIT_JITTER * random() for number in range(ATTEMPTS - 1))
    try:
        return run(
            retried(
                lambda: send(request, bound, bearer),
                pauses,
                f"{purpose}: {url}",
                patience=Deadline(TOTAL_TIMEOUT),
                deadline=deadline or Deadline(),
            )
        )
    except CallFailed as error:
        failure = error
    after = failure.retry_after
    advice = f"Try again in {after:.0f} s" if after else "Check the URL and the network, or try again later"
    raise ServiceUnavailable(
        f"{purpose}: {url} {failure}. {advice}.", status=failure.status, retry_after=after, scope=failure.scope
    )


def retried(
    attempt: Callable[[], T], pauses: Iterator[float], what: str, *, patience: Deadline, deadline: Deadline
) -> Steps[T]:
    """Make a call, and again while that may help; every retry is one warning.

    Args:
        attempt: The call. It may be made twice.
        pauses: Seconds between the attempts; when they end, so do the attempts. A server's `Retry-After` is longer.
        what: The beginning of the warnings.
        patience: When the last failure is raised.
        deadline: The caller's own time limit.

    Raises:
        CallFailed: The last failure, if another attempt does not help.
        ServiceUnavailable: The same, if there was no token for the call.
        TimeoutError: If the caller's time limit passed.
    """
    while True:
        failure: CallFailed | ServiceUnavailable
        try:
            return attempt()
        except (CallFailed, ServiceUnavailable) as error:
            failure = error
        deadline.raise_if_cancelled()
        pause = next(pauses, None)
        if pause is None or not is_transient(failure):
            raise failure
        pause = max(pause, failure.retry_after or 0.0)
        if deadline.left() <= min(pause, patience.left()):
            yield deadline.left()
            raise TimeoutError(f"{what} did not answer within {deadline.seconds or 0:g} s: {failure}")
        if pause >= patience.left():
            raise failure
        logger.warning("%s %s; the next attempt is in %.1f s", what, failure, pause)
        yield pause


def authorized(get: Callable[[], Token], reject: Callable[[str], None], attempt: Callable[[Token], Reply]) -> Reply:
    """Make a call with a token, and after a 401 with another one, at most `REPLACEMENTS` times.

    The other token may be one that another process has left in the store, as dead as the first where all of them were
    revoked; then a third one is requested.

    Args:
        get: Returns a valid token. It may be the refused one, if there is no better.
        reject: Takes note of a 401 for a token.
        attempt: Makes the call.
    """
    token = get()
    reply = attempt(token)
    for _ in range(REPLACEMENTS):
        if reply.status != UNAUTHORIZED:
            break
        reject(token.reveal())
        refused, token = token, get()
        if token == refused:
            break
        reply = attempt(token)
    return reply


def refusal_of(reply: Reply) -> CallFailed:
    """Return a response with an error status as a failure, with BigQuery's own sentence and reasons if it has them."""
    error = reply.content().get("error")
    details = error if isinstance(error, dict) else {}
    listed = details.get("errors")
    reasons = [each for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []
    return CallFailed(
        f"answered {reply.status}",
        transient=is_transient_answer(reply.status, reasons),
        status=reply.status,
        retry_after=_retry_after(reply.headers),
        message=str(details.get("message", "")),
        reasons=reasons,
    )


def server_time(headers: Mapping[str, str]) -> float:
    """Return the server's clock at its response, in UTC epoch seconds; this machine's if the server does not tell.

    Args:
        headers: Response headers, names in lower case.
    """
    now = time.time()
    try:
        told = parsedate_to_datetime(headers["date"]).timestamp()
    except (KeyError, ValueError, TypeError, OverflowError):
        return now
    return now if abs(told - now) < DATE_GRAIN else told  # the header has whole seconds, and is a moment old


def failure_of(error: Exception) -> CallFailed:
    """Return an error of requests as a failure, without its own words: they may hold a password or the request."""
    from requests import exceptions

    causes = list(_causes_in(error))
    if any(isinstance(cause, ssl.SSLCertVerificationError) for cause in causes):
        why = "has no certificate that this machine trusts (a private CA goes into REQUESTS_CA_BUNDLE)"
        return CallFailed(why, transient=False, scope=Scope.PROCESS)
    if not isinstance(error, (exceptions.RequestException, ValueError)):  # what requests raises for a missing file
        why = "was not called, since the file of trusted certificates is missing (check REQUESTS_CA_BUNDLE)"
        return CallFailed(why, transient=False, scope=Scope.PROCESS)
    if isinstance(error, exceptions.ProxyError):
        why = "cannot be reached through the proxy (check HTTPS_PROXY and NO_PROXY)"
        return CallFailed(why, transient=True, scope=Scope.PROCESS)
    if any(isinstance(cause, gaierror) for cause in causes):
        return CallFailed("could not be reached (unknown host name)", transient=True, scope=Scope.PROCESS)
    if isinstance(error, exceptions.SSLError):
        return CallFailed("broke off in the TLS handshake", transient=True)
    if isinstance(error, exceptions.ConnectTimeout):
        return CallFailed(f"took no connection within {CONNECT_TIMEOUT:.0f} s", transient=True)
    if isinstance(error, exceptions.ReadTimeout):
        return CallFailed(f"did not answer within {READ_TIMEOUT:.0f} s", transient=True)
    if isinstance(error, exceptions.ConnectionError):
        return CallFailed(f"could not be reached ({type(causes[-1]).__name__})", transient=True)
    # A URL that requests cannot read is a ValueError, and stays one.
    return CallFailed(f"failed ({type(error).__name__})", transient=not isinstance(error, ValueError))


def _causes_in(error: BaseException) -> Iterator[BaseException]:
    """Yield an error of requests and what is in it: urllib3 keeps causes as arguments and as `reason`."""
    seen: list[BaseException] = []
    found: list[object] = [error]
    while found:
        one = found.pop(0)
        if isinstance(one, BaseException) and one not in seen:
            seen.append(one)
            yield one
            found += [getattr(one, "reason", None), *one.args, one.__cause__, one.__context__]


def _read(response: requests.Response, most: int | None, deadline: Deadline) -> bytes:
    pieces, size = [], 0
    for piece in response.iter_content(CHUNK):
        pieces.append(piece)
        size += len(piece)
        deadline.raise_if_over("The response was still being read.")
        if most is not None and size > most:
            break
    return b"".join(pieces)


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Return `Retry-After`, which is seconds or a date, as seconds from now."""
    value = headers.get("retry-after", "").strip()
    if value.isascii() and value.isdigit():
        return float(value[:9])
    try:
        return max(parsedate_to_datetime(value).timestamp() - server_time(headers), 0.0)
    except (ValueError, TypeError, OverflowError):
        return None


_sessions: dict[str, requests.Session] = {}


def _session(url: str) -> requests.Session:
    """Return this process's session for https, or for plain http, which goes to this machine alone."""
    scheme = url.partition(":")[0]
    session = _sessions.get(scheme)
    if session is None:
        import requests
        from requests.adapters import HTTPAdapter

        session = requests.Session()
        session.trust_env = scheme == "https"  # no proxy gets to see plain http
        session.mount(f"{scheme}://", HTTPAdapter(pool_maxsize=CONNECTIONS))
        session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=()))
        session = _sessions.setdefault(scheme, session)
    return session


if hasattr(os, "register_at_fork"):  # a child must not go on with its parent's connections
    os.register_at_fork(after_in_child=_sessions.clear)
