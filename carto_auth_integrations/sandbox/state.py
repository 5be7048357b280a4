"""What a running sandbox remembers: the tokens it issued and the requests it served."""

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

# A code is redeemed by the program that asked for it, within seconds; RFC 6749 allows ten minutes.
CODE_LIFETIME = 60


def new_token(kind: str) -> str:
    """An opaque random token that shows what it is for and nothing else."""
    return f"sandbox-{kind}-{secrets.token_urlsafe(32)}"


@dataclass(frozen=True)
class IssuedToken:
    """One token as the server knows it; the methods are those Authlib asks a token for.

    Attributes:
        value: The token itself.
        expires_at: UTC epoch seconds, or None for a token without expiry.
        client_id: To which client it was issued.
        scope: What it was issued for.
        family: The login it descends from; a refresh token that is used twice ends its whole family.
    """

    value: str = field(repr=False)
    expires_at: float | None
    client_id: str
    scope: str
    family: str = ""

    def get_scope(self) -> str:
        """Give the scope, as Authlib asks for it."""
        return self.scope

    def check_client(self, client: object) -> bool:
        """Tell whether the token was issued to this client, as Authlib asks."""
        return getattr(client, "client_id", None) == self.client_id


@dataclass(frozen=True)
class LoginCode:
    """An authorization code and what it is bound to; the method is what Authlib asks a code for."""

    value: str = field(repr=False)
    client_id: str
    redirect_uri: str
    scope: str
    code_challenge: str
    code_challenge_method: str
    expires_at: float

    def get_redirect_uri(self) -> str:
        """Give the redirect URI, as Authlib asks for it."""
        return self.redirect_uri

    def get_scope(self) -> str:
        """Give the scope, as Authlib asks for it."""
        return self.scope


class TokenBook:
    """Issues, checks and revokes tokens and codes; safe for many threads."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._live: dict[TokenKind, dict[str, IssuedToken]] = {kind: {} for kind in TOKEN_KINDS}
        self._spent_refresh_tokens: dict[str, str] = {}
        self._codes: dict[str, LoginCode] = {}

    def now(self) -> float:
        """The book's time, UTC epoch seconds."""
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
        """Makes a token valid.

        Args:
            kind: What it is good for.
            value: The token itself.
            lifetime: Seconds from now, or None for no expiry.
            client_id: To which client it goes.
            scope: What it is issued for.
            family: The login it descends from.
        """
        expires_at = None if lifetime is None else self._clock() + lifetime
        token = IssuedToken(value, expires_at, client_id, scope, family)
        with self._lock:
            self._live[kind][value] = token
        return token

    def find(self, kind: TokenKind, value: str) -> IssuedToken | None:
        """The token, if it was issued, is not revoked and has not expired."""
        with self._lock:
            return self._alive(self._live[kind].get(value))

    def newest(self, kind: TokenKind) -> IssuedToken | None:
        """The token of this kind that was issued last, if it still lives."""
        with self._lock:
            return self._alive(next(reversed(self._live[kind].values()), None))

    def spend_refresh_token(self, value: str) -> IssuedToken | None:
        """Takes a refresh token out of use and returns it; one that was spent before ends its family."""
        with self._lock:
            token = self._live["refresh"].pop(value, None)
            if token is not None:
                self._spent_refresh_tokens[value] = token.family
                return token
            family = self._spent_refresh_tokens.get(value)
            if family is not None:
                self._end_family(family)
            return None

    def add_code(self, code: LoginCode) -> None:
        """Makes an authorization code redeemable, once."""
        with self._lock:
            self._codes[code.value] = code

    def spend_code(self, value: str, client_id: str) -> LoginCode | None:
        """Takes a code out of use and returns it, if it is this client's and not too old."""
        with self._lock:
            code = self._codes.pop(value, None)
        if code is None or code.client_id != client_id or code.expires_at <= self._clock():
            return None
        return code

    def revoke(self, kind: TokenKind) -> int:
        """Ends all tokens of a kind issued so far and returns how many there were."""
        with self._lock:
            revoked = len(self._live[kind])
            self._live[kind].clear()
        return revoked

    def _alive(self, token: IssuedToken | None) -> IssuedToken | None:
        if token is None or (token.expires_at is not None and token.expires_at <= self._clock()):
            return None
        return token

    def _end_family(self, family: str) -> None:
        living = self._live["refresh"]
        for value in [value for value, token in living.items() if token.family == family]:
            del living[value]


@dataclass(frozen=True)
class SandboxStats:
    """What a sandbox did since it started or was last reset.

    Attributes:
        requests: Requests per endpoint and outcome: the HTTP status as text, or `cut` for a connection closed
            on purpose.
        issued: Tokens issued per kind: `carto`, `dw`, `refresh`.
        dw_unauthorized: Requests to BigQuery, uploads included, that were refused for their token.
        organizations: The `organization` of each login that named one, in order.
    """

    requests: Mapping[str, Mapping[str, int]]
    issued: Mapping[str, int]
    dw_unauthorized: int
    organizations: tuple[str, ...]

    def count(self, endpoint: str, outcome: int | str | None = None) -> int:
        """How many requests an endpoint had.

        Args:
            endpoint: Its name.
            outcome: A status or `cut`; None counts all.
        """
        outcomes = self.requests.get(endpoint, {})
        return sum(outcomes.values()) if outcome is None else outcomes.get(str(outcome), 0)


class StatsBook:
    """Counts; safe for many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.clear()

    def clear(self) -> None:
        """Starts again from nothing."""
        with self._lock:
            self._requests: defaultdict[str, Counter[str]] = defaultdict(Counter)
            self._issued: Counter[str] = Counter(dict.fromkeys(TOKEN_KINDS, 0))
            self._dw_unauthorized = 0
            self._organizations: list[str] = []

    def request(self, endpoint: str, outcome: str) -> None:
        """Counts a request that was answered, or cut."""
        with self._lock:
            self._requests[endpoint][outcome] += 1

    def token_issued(self, kind: TokenKind) -> None:
        """Counts a new token."""
        with self._lock:
            self._issued[kind] += 1

    def refused_by_dw(self) -> None:
        """Counts a BigQuery request whose token was no good."""
        with self._lock:
            self._dw_unauthorized += 1

    def login(self, organization: str) -> None:
        """Remembers the organisation a login was for."""
        with self._lock:
            self._organizations.append(organization)

    def snapshot(self) -> SandboxStats:
        """The numbers of this moment."""
        with self._lock:
            return SandboxStats(
                requests={endpoint: dict(outcomes) for endpoint, outcomes in self._requests.items()},
                issued=dict(self._issued),
                dw_unauthorized=self._dw_unauthorized,
                organizations=tuple(self._organizations),
            )


class SandboxState:
    """All that the sandbox's endpoints share.

    Attributes:
        options: How it was set up.
        url: Where it answers; known once it listens.
        tokens: The tokens in use.
        stats: The counts.
        faults: The faults being played.
        lifetimes: Seconds that new tokens of a kind live.
        stopping: Set when the sandbox ends, so that no delay outlives it.
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
        """Forgets counts and faults and takes the lifetimes back to the options'; tokens stay valid."""
        self.stats.clear()
        self.faults.clear()
        self.set_lifetimes(carto=self.options.carto_token_lifetime, dw=self.options.dw_token_lifetime)

    def set_lifetimes(self, *, carto: float | None = None, dw: float | None = None) -> None:
        """Changes how long tokens live that are issued from now on.

        Args:
            carto: Seconds for CARTO access tokens; None leaves them.
            dw: Seconds for Data Warehouse tokens; None leaves them.
        """
        if carto is not None:
            self.lifetimes["carto"] = carto
        if dw is not None:
            self.lifetimes["dw"] = dw
