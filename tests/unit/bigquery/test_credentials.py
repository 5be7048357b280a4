"""google-auth credentials of the Data Warehouse, in the hands of google's own transports and clients."""

from __future__ import annotations

import copy
import json
import pickle
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from google.auth.exceptions import RefreshError, TransportError
from google.auth.transport.requests import AuthorizedSession

from carto_auth_integrations import CartoAuth, CredentialsError
from carto_auth_integrations.bigquery.credentials import CartoDWCredentials
from carto_auth_integrations.sandbox import Sandbox
from tests.support.accounts import SECRET, auth_for
from tests.support.clocks import hurry
from tests.support.leaks import assert_shows_no_secret, raised_by
from tests.support.servers import Server, reply, serving
from tests.support.threads import Outcome

GRPC_METHOD = "/google.cloud.bigquery.storage.v1.BigQueryRead/CreateReadSession"
TERMINAL: dict[str, dict[str, Any]] = {
    "a refusal": {"status": 403},
    "another shape": {"body": "<html>", "content_type": "text/html"},
}
PASSING: dict[str, dict[str, Any]] = {
    "a 503": {"status": 503},
    "a 429": {"status": 429},
    "a cut connection": {"cut": "before"},
}


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)


@pytest.fixture
def auth(carto_sandbox: Sandbox, tmp_path: Path) -> CartoAuth:
    return auth_for(carto_sandbox, tmp_path)


@pytest.fixture
def credentials(auth: CartoAuth) -> CartoDWCredentials:
    return auth.google_credentials()


class Google(Server):
    """A Google API that accepts each token but those revoked."""

    def __init__(self) -> None:
        super().__init__(self._answer)
        self.revoked: set[str] = set()

    def _answer(self, handler: Any) -> None:
        sent = handler.headers.get("Authorization", "").removeprefix("Bearer ")
        status = 401 if not sent.startswith("sandbox-dw-") or sent in self.revoked else 200
        reply(handler, status, json.dumps({"error": {"code": status, "message": "m"}} if status == 401 else {}))

    def statuses_of(self, token: str) -> int:
        return sum(request.headers["authorization"] == f"Bearer {token}" for request in self.requests)


@pytest.fixture
def google() -> Iterator[Google]:
    server = Google()
    yield server
    server.stop()


def sent_by(credentials: CartoDWCredentials, method: str = "GET") -> str:
    headers: dict[str, str] = {}
    credentials.before_request(None, method, "https://bigquery.googleapis.com/x", headers)
    return headers["authorization"].removeprefix("Bearer ")


# The token on a request


def test_a_request_carries_the_current_token(auth: CartoAuth, credentials: CartoDWCredentials) -> None:
    assert sent_by(credentials) == auth.get_carto_dw_credentials()[1]
    assert credentials.token == auth.get_carto_dw_credentials()[1]


def test_before_the_first_request_there_is_no_token_and_no_exchange(
    carto_sandbox: Sandbox, credentials: CartoDWCredentials
) -> None:
    assert credentials.token is None
    assert not credentials.valid
    assert carto_sandbox.stats().count("dw_token") == 0


def test_many_requests_make_one_exchange(
    carto_sandbox: Sandbox, credentials: CartoDWCredentials, google: Google
) -> None:
    session = AuthorizedSession(credentials)

    assert {session.get(google.url).status_code for _ in range(5)} == {200}
    assert carto_sandbox.stats().count("dw_token") == 1


def test_a_refresh_without_a_401_makes_no_exchange(carto_sandbox: Sandbox, credentials: CartoDWCredentials) -> None:
    credentials.refresh(None)
    first = credentials.token
    credentials.refresh(None)

    assert credentials.token == first
    assert carto_sandbox.stats().count("dw_token") == 1


def test_a_401_makes_one_exchange_and_the_request_succeeds(
    carto_sandbox: Sandbox, auth: CartoAuth, credentials: CartoDWCredentials, google: Google
) -> None:
    google.revoked.add(auth.get_carto_dw_credentials()[1])

    assert AuthorizedSession(credentials).get(google.url).status_code == 200
    assert carto_sandbox.stats().count("dw_token") == 2


def test_a_401_in_8_threads_makes_one_exchange(
    carto_sandbox: Sandbox, auth: CartoAuth, credentials: CartoDWCredentials, google: Google
) -> None:
    google.revoked.add(auth.get_carto_dw_credentials()[1])

    threads = [Outcome(lambda: AuthorizedSession(credentials).get(google.url).status_code) for _ in range(8)]

    assert {thread.settled() for thread in threads} == {200}
    assert carto_sandbox.stats().count("dw_token") == 2


def test_a_401_that_stays_is_not_asked_about_for_ever(carto_sandbox: Sandbox, credentials: CartoDWCredentials) -> None:
    with serving(lambda handler: reply(handler, 401, "{}")) as server:
        assert Outcome(lambda: AuthorizedSession(credentials).get(server.url).status_code).settled() == 401

    assert carto_sandbox.stats().count("dw_token") <= 4


# Expiry


def test_the_expiry_is_naive_utc_and_never_none(auth: CartoAuth, credentials: CartoDWCredentials) -> None:
    assert credentials.expiry == datetime(1970, 1, 1)
    sent_by(credentials)

    assert credentials.expiry.tzinfo is None
    expected = datetime.fromtimestamp(auth.carto_dw_token().expires_at, timezone.utc).replace(tzinfo=None)
    assert credentials.expiry == expected
    assert credentials.valid


@pytest.mark.parametrize(
    "field",
    [
        {"expires_in": 1e15},
        {"expires_in": 1e300},
        {"expires_at": "9999-12-31T23:59:59Z"},
        {"expires_at": "9999-12-31T23:59:59-14:00"},
        {"expires_at": 1e11},
        {"expires_at": 1e18},
    ],
)
def test_an_end_beyond_all_calendars_is_not_fatal(
    carto_sandbox: Sandbox, credentials: CartoDWCredentials, field: dict[str, object]
) -> None:
    carto_sandbox.fault("dw_token", body={"projectId": "p", "token": "sandbox-dw-x", **field})

    assert sent_by(credentials) == "sandbox-dw-x"
    assert credentials.expiry is not None
    assert credentials.valid


def test_what_google_sets_is_ignored(credentials: CartoDWCredentials) -> None:
    sent = sent_by(credentials)

    credentials.token = "something else"

    assert sent_by(credentials) == sent


# What they are to google-auth


def test_carto_decides_the_scopes(credentials: CartoDWCredentials) -> None:
    from google.auth.credentials import with_scopes_if_required

    assert not credentials.requires_scopes
    assert with_scopes_if_required(credentials, ["https://www.googleapis.com/auth/bigquery"]) is credentials


def test_another_quota_project_is_billed_on_each_request(credentials: CartoDWCredentials) -> None:
    billed = credentials.with_quota_project("billing-project")
    headers: dict[str, str] = {}
    billed.before_request(None, "GET", "https://x", headers)

    assert isinstance(billed, CartoDWCredentials)
    assert headers["x-goog-user-project"] == "billing-project"
    assert headers["authorization"] == f"Bearer {sent_by(credentials)}"
    assert credentials.quota_project_id is None
    assert billed.quota_project_id == "billing-project"


def test_a_quota_project_is_no_reason_for_another_exchange(
    carto_sandbox: Sandbox, credentials: CartoDWCredentials
) -> None:
    sent_by(credentials)
    sent_by(credentials.with_quota_project("p"))

    assert carto_sandbox.stats().count("dw_token") == 1


@pytest.mark.parametrize("copier", [copy.copy, copy.deepcopy])
def test_copies_use_the_same_token(carto_sandbox: Sandbox, credentials: CartoDWCredentials, copier: Any) -> None:
    billed = credentials.with_quota_project("p")

    copied = copier(billed)

    assert sent_by(copied) == sent_by(credentials)
    assert copied.quota_project_id == "p"
    assert carto_sandbox.stats().count("dw_token") == 1


def test_they_travel_without_token_or_secret_and_work_there(
    carto_sandbox: Sandbox, credentials: CartoDWCredentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = sent_by(credentials)
    pickled = pickle.dumps(credentials.with_quota_project("p"))
    monkeypatch.setenv("CARTO_CLIENT_SECRET", carto_sandbox.options.client_secret)

    arrived = pickle.loads(pickled)

    for secret in (sent, carto_sandbox.options.client_secret, credentials._tokens.access.get().reveal()):
        assert secret.encode() not in pickled
    assert arrived.quota_project_id == "p"
    assert sent_by(arrived) == sent


def test_their_repr_names_the_account_and_no_token(credentials: CartoDWCredentials) -> None:
    sent = sent_by(credentials)

    shown = repr(credentials) + repr(vars(credentials))

    assert "carto-sandbox-client" in shown
    assert sent not in shown
    assert "carto-sandbox-client-secret" not in shown


# What goes wrong


@pytest.mark.parametrize("fault", PASSING)
@pytest.mark.parametrize("method", ["GET", GRPC_METHOD])
def test_what_may_pass_is_a_transport_error(
    carto_sandbox: Sandbox, credentials: CartoDWCredentials, fault: str, method: str
) -> None:
    carto_sandbox.fault("dw_token", **PASSING[fault])

    error = raised_by(lambda: sent_by(credentials, method))

    assert isinstance(error, TransportError)
    assert isinstance(error.__cause__, CredentialsError)
    assert carto_sandbox.url in str(error)
    assert_shows_no_secret(error, credentials._tokens.access.get().reveal(), carto_sandbox.options.client_secret)
    assert isinstance(raised_by(lambda: credentials.refresh(None)), TransportError)


@pytest.mark.parametrize("fault", TERMINAL)
def test_what_will_not_pass_is_a_refresh_error_on_rest(
    carto_sandbox: Sandbox, credentials: CartoDWCredentials, fault: str
) -> None:
    carto_sandbox.fault("dw_token", **TERMINAL[fault])

    error = raised_by(lambda: sent_by(credentials))

    assert isinstance(error, RefreshError)
    assert not error.retryable
    assert isinstance(error.__cause__, CredentialsError)
    assert_shows_no_secret(error, credentials._tokens.access.get().reveal(), carto_sandbox.options.client_secret)
    assert isinstance(raised_by(lambda: credentials.refresh(None)), RefreshError)


def test_a_wrong_secret_is_a_refresh_error(carto_sandbox: Sandbox, tmp_path: Path) -> None:
    credentials = auth_for(carto_sandbox, tmp_path, client_secret=SECRET).google_credentials()

    error = raised_by(lambda: sent_by(credentials))

    assert isinstance(error, RefreshError)
    assert "client_secret" in str(error)
    assert_shows_no_secret(error)


@pytest.mark.parametrize("fault", TERMINAL)
def test_on_grpc_what_will_not_pass_is_left_to_the_server(
    carto_sandbox: Sandbox, credentials: CartoDWCredentials, fault: str
) -> None:
    carto_sandbox.fault("dw_token", **TERMINAL[fault])

    assert sent_by(credentials, GRPC_METHOD) == "none"


def test_on_grpc_the_old_token_is_sent_when_there_is_no_other(
    carto_sandbox: Sandbox, auth: CartoAuth, credentials: CartoDWCredentials
) -> None:
    old = sent_by(credentials, GRPC_METHOD)
    auth.reject_carto_dw_token(auth.carto_dw_token())
    carto_sandbox.fault("dw_token", status=403)

    assert sent_by(credentials, GRPC_METHOD) == old


def test_nobody_is_asked_to_log_in(carto_sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr("carto_auth_integrations.oauth.login.is_person_there", lambda: bool(asked.append("asked")))
    login = {"auth_mode": "oauth", "client_id": None, "client_secret": None}
    credentials = auth_for(carto_sandbox, tmp_path, **login).google_credentials()

    assert isinstance(raised_by(lambda: sent_by(credentials)), RefreshError)
    assert not asked


# A ready client


def test_a_client_has_the_accounts_settings(carto_sandbox: Sandbox, tmp_path: Path) -> None:
    auth = auth_for(carto_sandbox, tmp_path, location="EU", default_dataset="shared")

    client = auth.get_carto_dw_client()

    assert client.project == carto_sandbox.options.project_id
    assert client.location == "EU"
    config = client.default_query_job_config
    assert config is not None
    assert str(config.default_dataset) == f"{client.project}.shared"
    assert carto_sandbox.url == client._connection.API_BASE_URL
    assert client._connection.user_agent.startswith("carto-auth-integrations/")


def test_a_default_dataset_may_name_another_project(carto_sandbox: Sandbox, tmp_path: Path) -> None:
    client = auth_for(carto_sandbox, tmp_path, default_dataset="carto-un.carto").get_carto_dw_client()

    assert str(client.default_query_job_config.default_dataset) == "carto-un.carto"


def test_options_take_the_place_of_the_accounts_settings(carto_sandbox: Sandbox, tmp_path: Path) -> None:
    from google.auth.credentials import AnonymousCredentials

    auth = auth_for(carto_sandbox, tmp_path, location="EU", default_dataset="shared")
    anonymous = AnonymousCredentials()

    client = auth.get_carto_dw_client(
        project="another", location="US", credentials=anonymous, client_options={"api_endpoint": "https://x.org"}
    )

    assert (client.project, client.location) == ("another", "US")
    assert client._credentials is anonymous
    assert client._connection.API_BASE_URL == "https://x.org"


def test_a_client_outlives_its_token(carto_sandbox: Sandbox, tmp_path: Path, google: Google) -> None:
    auth = auth_for(carto_sandbox, tmp_path, bigquery_endpoint=google.url)
    client = auth.get_carto_dw_client()
    assert list(client.list_datasets()) == []
    google.revoked.add(auth.get_carto_dw_credentials()[1])

    assert list(client.list_datasets()) == []

    assert carto_sandbox.stats().count("dw_token") == 2


def test_a_client_shows_its_own_errors_for_what_google_refuses(carto_sandbox: Sandbox, tmp_path: Path) -> None:
    from google.api_core.exceptions import Forbidden

    with serving(lambda handler: reply(handler, 403, '{"error": {"message": "no"}}')) as server:
        client = auth_for(carto_sandbox, tmp_path, bigquery_endpoint=server.url).get_carto_dw_client()
        with pytest.raises(Forbidden):
            list(client.list_datasets(retry=None))


def test_a_refused_account_fails_a_running_client_within_seconds(
    carto_sandbox: Sandbox, tmp_path: Path, google: Google
) -> None:
    auth = auth_for(carto_sandbox, tmp_path, bigquery_endpoint=google.url)
    client = auth.get_carto_dw_client()
    google.revoked.add(auth.get_carto_dw_credentials()[1])
    carto_sandbox.fault("dw_token", status=403)

    started = time.monotonic()
    error = Outcome(lambda: list(client.list_datasets())).settled()

    assert isinstance(error, RefreshError)
    assert "refused (403)" in str(error)
    assert time.monotonic() - started < 15
