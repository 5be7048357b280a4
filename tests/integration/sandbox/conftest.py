"""One sandbox for all tests of this folder, and the few calls they share."""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests

from carto_auth_integrations.sandbox import Sandbox, SandboxOptions

REDIRECT = "http://localhost:10000/callback/"


@pytest.fixture(scope="session")
def server() -> Iterator[Sandbox]:
    with Sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(server: Sandbox) -> Iterator[Sandbox]:
    server.reset()
    yield server
    server.reset()


@pytest.fixture
def make_sandbox() -> Iterator[Callable[..., Sandbox]]:
    """Starts sandboxes of its own options for one test."""
    started: list[Sandbox] = []

    def make(**options: Any) -> Sandbox:
        sandbox = Sandbox(SandboxOptions(**options))
        sandbox.start()
        started.append(sandbox)
        return sandbox

    yield make
    for sandbox in started:
        sandbox.stop()


@dataclass(frozen=True)
class Caller:
    """Talks to a sandbox as a client would."""

    sandbox: Sandbox
    verifier: str = field(default_factory=lambda: secrets.token_urlsafe(48))

    def token(self, **changes: str | None) -> requests.Response:
        """Asks for a token with client credentials; a change to None leaves a field out."""
        options = self.sandbox.options
        form = {
            "grant_type": "client_credentials",
            "client_id": options.client_id,
            "client_secret": options.client_secret,
            "audience": options.audience,
            **changes,
        }
        return self.post_token({name: value for name, value in form.items() if value is not None})

    def post_token(self, form: dict[str, str]) -> requests.Response:
        return requests.post(f"{self.sandbox.url}/oauth/token", data=form, timeout=30)

    def authorize(self, **changes: str | None) -> requests.Response:
        """Starts a login; a change to None leaves a parameter out."""
        challenge = base64.urlsafe_b64encode(hashlib.sha256(self.verifier.encode()).digest())
        query = {
            "response_type": "code",
            "client_id": self.sandbox.options.login_client_id,
            "redirect_uri": REDIRECT,
            "state": "the-state",
            "scope": "openid offline_access",
            "audience": self.sandbox.options.audience,
            "code_challenge": challenge.rstrip(b"=").decode(),
            "code_challenge_method": "S256",
            **changes,
        }
        return requests.get(
            f"{self.sandbox.url}/authorize",
            params={name: value for name, value in query.items() if value is not None},
            allow_redirects=False,
            timeout=30,
        )

    def redeem(self, code: str, **changes: str | None) -> requests.Response:
        """Trades a code for tokens; a change to None leaves a field out."""
        form = {
            "grant_type": "authorization_code",
            "client_id": self.sandbox.options.login_client_id,
            "code": code,
            "redirect_uri": REDIRECT,
            "code_verifier": self.verifier,
            **changes,
        }
        return self.post_token({name: value for name, value in form.items() if value is not None})

    def login(self) -> dict[str, Any]:
        """Logs in and returns the tokens."""
        answer: dict[str, Any] = self.redeem(redirect_query(self.authorize())["code"]).json()
        return answer

    def refresh(self, refresh_token: str) -> requests.Response:
        return self.post_token(
            {
                "grant_type": "refresh_token",
                "client_id": self.sandbox.options.login_client_id,
                "refresh_token": refresh_token,
            }
        )

    def access_token(self) -> str:
        token: str = self.token().json()["access_token"]
        return token

    def get(self, path: str, token: str | None = None) -> requests.Response:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        return requests.get(self.sandbox.url + path, headers=headers, timeout=30)

    def dw_token(self) -> str:
        token: str = self.get("/v3/connections/carto-dw/token", self.access_token()).json()["token"]
        return token


def redirect_query(response: requests.Response) -> dict[str, str]:
    """What a redirect tells its target."""
    query = parse_qs(urlsplit(response.headers["Location"]).query)
    return {name: values[0] for name, values in query.items()}


@pytest.fixture
def caller(sandbox: Sandbox) -> Caller:
    return Caller(sandbox)


@pytest.fixture
def caller_of() -> Callable[[Sandbox], Caller]:
    return Caller


@pytest.fixture
def told() -> Callable[[requests.Response], dict[str, str]]:
    return redirect_query


@pytest.fixture
def loader(sandbox: Sandbox, caller: Caller) -> Any:
    """Loads with Google's client; tests that ask for it are skipped where that is missing."""
    pytest.importorskip("google.cloud.bigquery")
    from tests.support.sandbox_loads import Loader

    sandbox.start_emulator()
    return Loader(sandbox, caller.dw_token())
