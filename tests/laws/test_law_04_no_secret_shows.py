"""Law 4: no secret and no token in a repr, log line, error, chained exception, pickle, URL or process list."""

from __future__ import annotations

import json
import logging
import pickle
import traceback
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import pytest
from google.api_core.exceptions import GoogleAPICallError

from carto_auth_integrations import CartoAuth, CredentialsError
from carto_auth_integrations.sandbox import Sandbox
from tests.support.processes import run_processes

CANARY = "c4n4ry-s3cr3t-that-must-not-show"


@pytest.fixture
def auth(carto_sandbox: Sandbox, tmp_path: Path) -> CartoAuth:
    return CartoAuth.from_mapping({**carto_sandbox.account, "token_store": str(tmp_path / "tokens.json")})


def secrets_of(auth: CartoAuth, sandbox: Sandbox) -> list[str]:
    return [sandbox.options.client_secret, auth.get_access_token(), auth.get_carto_dw_credentials()[1]]


def test_representations_variables_and_pickles_show_none(auth: CartoAuth, carto_sandbox: Sandbox) -> None:
    secrets = secrets_of(auth, carto_sandbox)
    client = auth.get_carto_dw_client()
    things = [
        auth,
        auth.account,
        auth.access_tokens.source,
        auth.access_tokens.source.token,
        auth.carto_dw_token(),
        client._credentials,
    ]
    shown = [str(thing) + repr(thing) + f"{thing}" for thing in things]
    shown += [repr(vars(thing)) for thing in things if hasattr(thing, "__dict__")]
    shown += [repr(pickle.dumps(thing)) for thing in (auth, auth.account, deepcopy(auth), client._credentials)]
    with pytest.raises(TypeError, match="does not travel"):
        pickle.dumps(auth.access_tokens.source.token)

    assert [secret for secret in secrets if secret in "".join(shown)] == []


def test_a_pickled_object_works_where_it_arrives(auth: CartoAuth, carto_sandbox: Sandbox) -> None:
    token = auth.get_access_token()
    (output,) = run_processes(
        1,
        f"""
        import pickle
        auth = pickle.loads({pickle.dumps(auth)!r})
        stored = auth.get_access_token()
        auth.reject_access_token(stored)
        print(stored, auth.get_access_token() != stored)
        """,
        CARTO_CLIENT_SECRET=carto_sandbox.options.client_secret,
    )
    assert output == f"{token} True"


def test_logs_at_every_level_show_none(
    auth: CartoAuth, carto_sandbox: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    secrets = secrets_of(auth, carto_sandbox)
    carto_sandbox.fault("dw_token", status=503)
    auth.reject_carto_dw_token(auth.carto_dw_token())
    with pytest.raises(CredentialsError):
        auth.carto_dw_token()

    assert "expires in" in caplog.text
    logged = caplog.text + repr([vars(record) for record in caplog.records])
    assert [secret for secret in secrets if secret in logged] == []


FAULTS: dict[str, dict[str, object]] = {
    "refused": {"status": 401},
    "refused with the request echoed": {"status": 401, "body": {"error": CANARY, "error_description": CANARY}},
    "other JSON": {"body": {"token": CANARY, "secret": CANARY}},
    "a token without lifetime": {"body": {"access_token": CANARY}},
    "a list": {"body": json.dumps([CANARY])},
    "HTML": {"body": f"<html>{CANARY}</html>", "content_type": "text/html"},
    "broken": {"status": 500, "body": CANARY},
    "busy": {"status": 429, "retry_after": 600},
    "cut": {"cut": "before"},
    "cut in the body": {"cut": "body", "body": {"access_token": CANARY, "expires_in": 60}},
    "redirect": {"status": 307, "body": CANARY},
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
@pytest.mark.parametrize("endpoint", ["token", "dw_token"])
def test_errors_their_chains_and_their_locals_show_none(
    carto_sandbox: Sandbox, tmp_path: Path, endpoint: str, fault: dict[str, object]
) -> None:
    account = {**carto_sandbox.account, "token_store": str(tmp_path / "tokens.json")}
    if endpoint == "token":
        account["client_secret"] = CANARY
    auth = CartoAuth.from_mapping(account)
    secrets = [CANARY] if endpoint == "token" else [CANARY, account["client_secret"], auth.get_access_token()]
    del account
    carto_sandbox.fault(endpoint, **fault)

    error = error_of(auth.get_carto_dw_credentials)

    told = "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
    told = told[told.index("carto_auth_integrations/auth.py") :]  # the test's own frames hold the secrets
    told += str(error) + repr(error) + repr(vars(error)) + repr(error.args)
    assert [secret for secret in secrets if secret in told] == []
    assert error.__context__ is None
    assert error.__cause__ is None


def error_of(action: Callable[[], object]) -> CredentialsError:
    with pytest.raises(CredentialsError) as caught:
        action()
    return caught.value


def test_the_errors_of_a_bad_account_show_none(tmp_path: Path) -> None:
    broken = tmp_path / "credentials.json"
    broken.write_text(f'{{"client_secret": "{CANARY}", "api_base_url": ')
    attempts: list[Callable[[], object]] = [
        lambda: CartoAuth.from_m2m(broken),
        lambda: CartoAuth("m2m", "http://example.com", client_id="c", client_secret=CANARY),
        lambda: CartoAuth("m2m", client_id="c", client_secret=f"{CANARY}\nx"),
        lambda: CartoAuth("neither", client_secret=CANARY),
        lambda: CartoAuth.from_mapping({"client_secret": CANARY, "client": "c"}),
    ]
    for attempt in attempts:
        error = error_of(attempt)
        trace = traceback.TracebackException.from_exception(error, capture_locals=True)
        told = "".join(line for frame in list(trace.stack)[3:] for line in [str(frame.locals)]) + str(error)
        assert CANARY not in told, f"{error}"


def test_a_password_in_a_url_is_refused_and_not_repeated() -> None:
    error = error_of(lambda: CartoAuth("m2m", f"https://user:{CANARY}@example.com", client_id="c", client_secret="s"))

    assert "api_base_url" in str(error)
    assert CANARY not in str(error)
    store = CartoAuth("m2m", client_id="c", client_secret="s", token_store=f"redis://:{CANARY}@127.0.0.1:9/0")
    assert (
        CANARY
        not in repr(store)
        + repr(store.account)
        + repr(pickle.dumps(store))
        + store.access_tokens.source.store.describe()
    )


@pytest.mark.parametrize("place", ["/proc/self/cmdline", "/proc/self/environ"])
def test_the_process_list_shows_none(carto_sandbox: Sandbox, tmp_path: Path, place: str) -> None:
    if not Path(place).exists():
        pytest.skip("needs /proc")
    credentials = carto_sandbox.write_credentials(tmp_path / "credentials.json")
    (output,) = run_processes(
        1,
        f"""
        from carto_auth_integrations import CartoAuth
        auth = CartoAuth.from_m2m({str(credentials)!r}, cache_filepath={str(tmp_path / "tokens.json")!r})
        secrets = [auth.get_access_token(), auth.get_carto_dw_credentials()[1], {CANARY!r}[:4] + "x"]
        print([s for s in secrets if s.encode() in open({place!r}, "rb").read()])
        """,
    )
    assert output == "[]"


def test_the_token_store_is_for_its_owner_alone(auth: CartoAuth, tmp_path: Path) -> None:
    auth.get_carto_dw_credentials()
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert set(modes.values()) == {0o600}, modes


def test_urls_hold_none(auth: CartoAuth, carto_sandbox: Sandbox, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="urllib3")
    secrets = secrets_of(auth, carto_sandbox)
    assert "GET /v3/connections/carto-dw/token" in caplog.text
    assert [secret for secret in secrets if secret in caplog.text] == []


def test_bigquerys_errors_show_and_pickle_none(carto_sandbox_bigquery: Sandbox, tmp_path: Path) -> None:
    auth = CartoAuth.from_m2m(
        carto_sandbox_bigquery.write_credentials(tmp_path / "credentials.json"),
        cache_filepath=str(tmp_path / "tokens.json"),
    )
    client, warehouse, rows = auth.get_carto_dw_client(), auth.warehouse(), [{"one": 1}]
    attempts: dict[str, Callable[[], object]] = {
        "a statement of google's client": lambda: client.query_and_wait("SELECT nonsense FROM nowhere"),
        "a table of google's client": lambda: client.get_table("no_such.table"),
        "a query": lambda: warehouse.query("SELECT nonsense FROM nowhere"),
        "a load": lambda: warehouse.load(rows, "no_such.table"),
    }
    for attempt, action in attempts.items():
        with pytest.raises(GoogleAPICallError) as caught:
            action()
        token = auth.get_carto_dw_credentials()[1]
        trace = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
        told = "".join(repr(frame.locals) for frame in list(trace.stack)[1:]) + repr(vars(caught.value))
        assert token not in told, attempt
        assert token.encode() not in pickle.dumps(caught.value.response), attempt  # its request is on it
