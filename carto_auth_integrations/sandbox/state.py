"""State of a running sandbox: issued tokens, request counts, faults and lifetimes."""

from __future__ import annotations

import secrets
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from .faults import FaultBook
from .options import SandboxOptions

TokenKind = Literal["carto", "dw", "refresh"]
TOKEN_KINDS: tuple[TokenKind, ...] = ("carto", "dw", "refresh")

# Seconds that an authorization code is valid: the client exchanges it within seconds. RFC 6749 (section 4.1.2)
# recommends at most ten minutes.
CODE_LIFETIME = 60


def new_token(kind: str) -> str:
    """Return a random token that starts with `sandbox-` and its kind."""
    return f"sandbox-{kind}-{secrets.token_urlsafe(32)}"


@dataclass(frozen=True)
class IssuedToken:
    """A token that the sandbox issued, with the methods that Authlib expects.

    Attributes:
        value: The token string.
        expires_at: Expiry in UTC epoch seconds; None for no expiry.
        client_id: The client that it was issued to.
        scope: The scope that it was issued for.
        family: Id of the login that the token comes from. A refresh token that is used twice invalidates all refresh
            tokens of its family.
    """

    value: str = field(repr=False)
    expires_at: float | None
    client_id: str
    scope: str
    family: str = ""

    def get_scope(self) -> str:
        """Return the scope; called by Authlib."""
        return self.scope

    def check_client(self, client: object) -> bool:
        """Whether the token was issued to this client; called by Authlib."""
        return getattr(client, "client_id", None) == self.client_id


@dataclass(frozen=True)
class LoginCode:
    """An authorization code and the request that it is bound to, with the methods that Authlib expects."""

    value: str = field(repr=False)
    client_id: str
    redirect_uri: str
    scope: str
    code_challenge: str
    code_challenge_method: str
    expires_at: float

    def get_redirect_uri(self) -> str:
        """Return the redirect URI; called by Authlib."""
        return self.redirect_uri

    def get_scope(self) -> str:
        """Return the scope; called by Authlib."""
        return self.scope


class TokenBook:
    """Stores, finds and revokes tokens and authorization codes. Safe for use by many threads.

    Args:
        clock: Returns the time by which tokens expire, in UTC epoch seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._tokens: dict[TokenKind, dict[str, IssuedToken]] = {kind: {} for kind in TOKEN_KINDS}
        self._family_of_spent: dict[str, str] = {}
        self._codes: dict[str, LoginCode] = {}

    def now(self) -> float:
        """Return the time in UTC epoch seconds."""
        return self._clock()

    def add(
        self,
        kind: TokenKind,
        value: str,
        *,
        lifetime: float | None = None,
        client_id: str = "",
        scope: str = "",
        family: str = "",
    ) -> IssuedToken:
        """Store a token, which is valid from now on.

        Args:
            kind: The kind of token.
            value: The token string.
            lifetime: Seconds until it expires; None for no expiry.
            client_id: The client that it is issued to.
            scope: The scope that it is issued for.
            family: Id of the login that the token comes from.
        """
        expires_at = None if lifetime is None else self._clock() + lifetime
        token = IssuedToken(value, expires_at, client_id, scope, family)
        with self._lock:
            self._tokens[kind][value] = token
        return token

    def find(self, kind: TokenKind, value: str) -> IssuedToken | None:
        """Return the token if it was issued and is neither revoked nor expired, else None."""
        with self._lock:
            return self._unless_expired(self._tokens[kind].get(value))

    def newest(self, kind: TokenKind) -> IssuedToken | None:
        """Return the token of this kind that was issued last, or None if it is revoked or expired."""
        with self._lock:
            return self._unless_expired(next(reversed(self._tokens[kind].values()), None))

    def spend_refresh_token(self, value: str) -> IssuedToken | None:
        """Invalidate a refresh token and return it; a second use revokes its family and returns None."""
        with self._lock:
            token = self._tokens["refresh"].pop(value, None)
            if token is not None:
                self._family_of_spent[value] = token.family
                return token
            family = self._family_of_spent.get(value)
            if family is not None:
                self._revoke_family(family)
            return None

    def add_code(self, code: LoginCode) -> None:
        """Store an authorization code, which can be exchanged once."""
        with self._lock:
            self._codes[code.value] = code

    def spend_code(self, value: str, client_id: str) -> LoginCode | None:
        """Invalidate a code, and return it if it belongs to the client and has not expired."""
        with self._lock:
            code = self._codes.pop(value, None)
        if code is None or code.client_id != client_id or code.expires_at <= self._clock():
            return None
        return code

    def revoke(self, kind: TokenKind) -> int:
        """Revoke all tokens of a kind that were issued so far, and return their number."""
        with self._lock:
            revoked = len(self._tokens[kind])
            self._tokens[kind].clear()
        return revoked

    def _unless_expired(self, token: IssuedToken | None) -> IssuedToken | None:
        if token is None or (token.expires_at is not None and token.expires_at <= self._clock()):
            return None
        return token

    def _revoke_family(self, family: str) -> None:
        tokens = self._tokens["refresh"]
        for value in [value for value, token in tokens.items() if token.family == family]:
            del tokens[value]


@dataclass(frozen=True)
class SandboxStats:
    """Counts of a sandbox since its start or its last reset.

    Attributes:
        requests: Number of requests by endpoint and outcome: the HTTP status as text, or `cut` for a connection that
            a fault closed.
        issued: Number of issued tokens by kind: `carto`, `dw`, `refresh`.
        dw_unauthorized: Number of requests to BigQuery, including uploads, that were rejected for their token.
        organizations: The `organization` of each login that named one, in order.
    """

    requests: Mapping[str, Mapping[str, int]]
    issued: Mapping[str, int]
    dw_unauthorized: int
    organizations: tuple[str, ...]

    def count(self, endpoint: str, outcome: int | str | None = None) -> int:
        """Return the number of requests to an endpoint.

        Args:
            endpoint: The endpoint's name.
            outcome: An HTTP status or `cut`; None for all requests.
        """
        outcomes = self.requests.get(endpoint, {})
        return sum(outcomes.values()) if outcome is None else outcomes.get(str(outcome), 0)


class StatsBook:
    """Counts requests, tokens and logins. Safe for use by many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.clear()

    def clear(self) -> None:
        """Reset all counts."""
        with self._lock:
            self._requests: defaultdict[str, Counter[str]] = defaultdict(Counter)
            self._issued: Counter[str] = Counter(dict.fromkeys(TOKEN_KINDS, 0))
            self._dw_unauthorized = 0
            self._organizations: list[str] = []

    def request(self, endpoint: str, outcome: str) -> None:
        """Count a request with its outcome: an HTTP status or `cut`."""
        with self._lock:
            self._requests[endpoint][outcome] += 1

    def token_issued(self, kind: TokenKind) -> None:
        """Count an issued token."""
        with self._lock:
            self._issued[kind] += 1

    def refused_by_dw(self) -> None:
        """Count a request to BigQuery that was rejected for its token."""
        with self._lock:
            self._dw_unauthorized += 1

    def login(self, organization: str) -> None:
        """Record the organization that a login named."""
        with self._lock:
            self._organizations.append(organization)

    def snapshot(self) -> SandboxStats:
        """Return the current counts."""
        with self._lock:
            return SandboxStats(
                requests={endpoint: dict(outcomes) for endpoint, outcomes in self._requests.items()},
                issued=dict(self._issued),
                dw_unauthorized=self._dw_unauthorized,
                organizations=tuple(self._organizations),
            )


class SandboxState:
    """The state that all endpoints of a sandbox share.

    Args:
        options: The options of the sandbox.
        clock: Returns the time by which tokens expire, in UTC epoch seconds.

    Attributes:
        options: The options of the sandbox.
        url: The URL of the sandbox; empty until it listens.
        tokens: The issued tokens and codes.
        stats: The counts.
        faults: The active faults.
        lifetimes: Lifetimes of new tokens by kind, in seconds.
        stopping: Set when the sandbox stops; ends the delays of faults.
    """

    def __init__(self, options: SandboxOptions, clock: Callable[[], float] = time.time) -> None:
        self.options = options
        self.url = ""
        self.tokens = TokenBook(clock)
        self.stats = StatsBook()
        self.faults = FaultBook()
        self.lifetimes: dict[TokenKind, float] = {}
        self.stopping = threading.Event()
        self.reset()

    def reset(self) -> None:
        """Clear counts and faults and restore the lifetimes of the options. Tokens stay valid."""
        self.stats.clear()
        self.faults.clear()
        self.set_lifetimes(carto=self.options.carto_token_lifetime, dw=self.options.dw_token_lifetime)

    def set_lifetimes(self, *, carto: float | None = None, dw: float | None = None) -> None:
        """Change the lifetimes of tokens that are issued from now on.

        Args:
            carto: Seconds for CARTO access tokens; None for no change.
            dw: Seconds for Data Warehouse tokens; None for no change.
        """
        if carto is not None:
            self.lifetimes["carto"] = carto
        if dw is not None:
            self.lifetimes["dw"] = dw
