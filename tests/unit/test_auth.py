"""CartoAuth: carto-auth's API to the letter, its async twins, what it shows and how it pickles."""

from __future__ import annotations

import asyncio
import copy
import inspect
import json
import pickle
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import carto_auth_integrations
from carto_auth_integrations import (
    AccountError,
    CartoAccount,
    CartoAuth,
    ClientRejected,
    CredentialsError,
    InteractionRequired,
    ServiceUnavailable,
    UnexpectedResponse,
    errors,
)
from carto_auth_integrations.account.secret import Secret
from carto_auth_integrations.errors import Scope
from carto_auth_integrations.sandbox import Sandbox
from carto_auth_integrations.tokens.token import NO_TOKEN
from tests.support.accounts import BEARER, SECRET, auth_for
from tests.support.clocks import hurry, system_clock
from tests.support.leaks import assert_shows_no_secret, raised_by
from tests.support.processes import run_processes
from tests.support.threads import Outcome
from tests.support.tokens import token_living

BASE = "https://gcp-us-east1.api.carto.com"


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)


@pytest.fixture
def auth(carto_sandbox: Sandbox, tmp_path: Path) -> CartoAuth:
    return auth_for(carto_sandbox, tmp_path)


# The seed's API

SEED: dict[str, dict[str, object]] = {
    "__init__": {
        "mode": inspect.Parameter.empty,
        "api_base_url": None,
        "access_token": None,
        "expiration": None,
        "client_id": None,
        "client_secret": None,
        "cache_filepath": None,
        "use_cache": True,
        "open_browser": True,
    },
    "from_m2m": {"filepath": inspect.Parameter.empty, "cache_filepath": None, "use_cache": True},
    "from_oauth": {"cache_filepath": None, "use_cache": True, "open_browser": True},
    "get_access_token": {},
    "get_carto_dw_client": {},
    "get_carto_dw_credentials": {},
}


@pytest.mark.parametrize("method", SEED)
def test_a_method_of_the_seed_takes_the_seeds_parameters_in_its_order_with_its_defaults(method: str) -> None:
    parameters = [
        parameter
        for name, parameter in inspect.signature(getattr(CartoAuth, method)).parameters.items()
        if name != "self"
    ]

    seeds = parameters[: len(SEED[method])]
    assert {parameter.name: parameter.default for parameter in seeds} == SEED[method]
    assert all(parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD for parameter in seeds)
    for further in parameters[len(seeds) :]:
        assert further.default is not inspect.Parameter.empty or further.kind is inspect.Parameter.VAR_KEYWORD


def test_the_constructor_takes_the_seeds_arguments_by_position(tmp_path: Path) -> None:
    end = int(time.time()) + 600
    auth = CartoAuth("m2m", BASE, BEARER, end, "the-client", SECRET, str(tmp_path / "t.json"), True, False)

    assert auth.account.client_id == "the-client"
    assert auth.account.client_secret == Secret(SECRET)
    assert auth.get_access_token() == BEARER


def test_from_oauth_takes_the_seeds_arguments_by_position(tmp_path: Path) -> None:
    auth = CartoAuth.from_oauth(str(tmp_path / "t.json"), False, False)

    assert auth.account.auth_mode == "oauth"


def test_a_credentials_file_gives_tokens_and_a_client(carto_sandbox: Sandbox, tmp_path: Path) -> None:
    file = carto_sandbox.write_credentials(tmp_path / "c.json")

    auth = CartoAuth.from_m2m(str(file), str(tmp_path / "t.json"), True)

    assert auth.get_access_token().startswith("sandbox-carto-")
    project, token = auth.get_carto_dw_credentials()
    assert (project, token[:11]) == (carto_sandbox.options.project_id, "sandbox-dw-")
    assert auth.get_carto_dw_client().project == project


def test_the_default_file_is_none_of_carto_auths_own(carto_sandbox: Sandbox, tmp_path: Path, own_home: Path) -> None:
    CartoAuth.from_m2m(carto_sandbox.write_credentials(tmp_path / "c.json")).get_access_token()

    names = {path.name for path in (own_home / ".carto-auth").iterdir() if path.suffix == ".json"}
    assert names == {"tokens.json"}


def test_without_the_cache_nothing_is_written(carto_sandbox: Sandbox, tmp_path: Path, own_home: Path) -> None:
    CartoAuth.from_m2m(carto_sandbox.write_credentials(tmp_path / "c.json"), use_cache=False).get_access_token()

    assert not list(own_home.iterdir())


def test_nothing_is_requested_before_a_token_is_asked_for(carto_sandbox: Sandbox, tmp_path: Path) -> None:
    auth_for(carto_sandbox, tmp_path)

    assert not carto_sandbox.stats().requests


def test_the_mapping_of_a_connection_and_the_environment_give_the_same_credential(
    carto_sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    auth = auth_for(carto_sandbox, tmp_path)
    for name, value in carto_sandbox.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("CARTO_TOKEN_STORE", str(tmp_path / "tokens.json"))

    assert CartoAuth.from_env().get_access_token() == auth.get_access_token()
    assert carto_sandbox.stats().count("token") == 1


def test_what_goes_wrong_is_typed_and_shows_no_secret(carto_sandbox: Sandbox, tmp_path: Path) -> None:
    error = raised_by(auth_for(carto_sandbox, tmp_path, client_secret=SECRET).get_access_token)

    assert type(error) is ClientRejected
    assert isinstance(error, CredentialsError)
    assert error.__context__ is None
    assert_shows_no_secret(error)


# A token that exists already


def test_a_given_token_is_used_until_its_expiration(tmp_path: Path) -> None:
    auth = CartoAuth("token", BASE, access_token=BEARER, expiration=time.time() + 600, cache_filepath=tmp_path / "t")
    ended = CartoAuth("token", BASE, access_token=BEARER, expiration=time.time() - 86400, cache_filepath=tmp_path / "u")

    assert auth.get_access_token() == BEARER
    error = raised_by(ended.get_access_token)
    assert isinstance(error, ClientRejected)
    assert_shows_no_secret(error)


def test_after_a_given_token_has_ended_the_client_fetches_its_own(
    carto_sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = system_clock(monkeypatch)
    fields = {name: value for name, value in carto_sandbox.account.items() if name != "auth_mode"}
    auth = CartoAuth(
        "m2m", access_token=BEARER, expiration=time.time() + 60, cache_filepath=tmp_path / "t.json", **fields
    )
    assert auth.get_access_token() == BEARER

    clock.advance(60 + 86400)  # it is used for the UTC offset of this machine longer

    assert auth.get_access_token().startswith("sandbox-carto-")


@pytest.mark.parametrize("expiration", ["soon", [5], True])
def test_an_expiration_of_another_type_is_a_typed_error(expiration: Any, tmp_path: Path) -> None:
    error = raised_by(lambda: CartoAuth("token", BASE, BEARER, expiration, cache_filepath=tmp_path / "t.json"))

    assert isinstance(error, CredentialsError)
    assert "expiration" in str(error)
    assert_shows_no_secret(error)


EXPIRATION_OF_CARTO_AUTH = """
    import time, warnings
    from datetime import datetime
    from carto_auth_integrations import CartoAuth, CredentialsError
    warnings.simplefilter("ignore")
    expiration = int(datetime.utcnow().timestamp()) + 600  # as carto-auth computes it
    auth = CartoAuth(expiration=expiration, **{fields!r})
    try:
        print(time.strftime("%z"), auth.get_access_token(), *auth.get_carto_dw_credentials())
    except CredentialsError as error:
        print(type(error).__name__, error)
    """
ZONES = {"Europe/Madrid": ("+0100", "+0200"), "Asia/Tokyo": ("+0900",), "America/New_York": ("-0400", "-0500")}


@pytest.mark.parametrize("zone", ZONES)
def test_an_expiration_in_the_local_time_of_carto_auth_is_used_and_a_401_decides(
    carto_sandbox: Sandbox, tmp_path: Path, zone: str
) -> None:
    fields = {**carto_sandbox.account, "token_store": str(tmp_path / "tokens.json"), "access_token": BEARER}
    fields["mode"] = fields.pop("auth_mode")

    (output,) = run_processes(1, EXPIRATION_OF_CARTO_AUTH.format(fields=fields), TZ=zone)

    offset, used, project, token = output.split()
    assert offset in ZONES[zone]
    assert used == BEARER, "it is not taken for expired"
    assert (project, token[:11]) == (carto_sandbox.options.project_id, "sandbox-dw-"), "the 401 replaces it"
    assert carto_sandbox.stats().count("token") == 1


@pytest.mark.parametrize("zone", ZONES)
def test_a_static_token_with_an_expiration_of_carto_auth_is_used_until_a_server_refuses_it(
    carto_sandbox: Sandbox, tmp_path: Path, zone: str
) -> None:
    fields = {"mode": "token", "api_base_url": carto_sandbox.url, "token_store": "memory:"}
    valid, invalid = ({**fields, "access_token": token} for token in (carto_sandbox.options.api_access_token, BEARER))

    (used,) = run_processes(1, EXPIRATION_OF_CARTO_AUTH.format(fields=valid), TZ=zone)
    (refused,) = run_processes(1, EXPIRATION_OF_CARTO_AUTH.format(fields=invalid), TZ=zone)

    assert carto_sandbox.options.project_id in used
    assert refused.startswith("ClientRejected")
    assert "refused (401)" in refused
    assert carto_sandbox.stats().count("dw_token", 401) > 0


# Rejection


def test_a_rejected_access_token_is_replaced_once(carto_sandbox: Sandbox, auth: CartoAuth) -> None:
    old = auth.get_access_token()

    for _ in range(3):
        auth.reject_access_token(old)
    new = auth.get_access_token()
    auth.reject_access_token(old)

    assert auth.get_access_token() == new != old
    assert carto_sandbox.stats().count("token") == 2


# Sharing


def test_objects_of_one_credential_share_their_tokens(carto_sandbox: Sandbox, tmp_path: Path) -> None:
    objects = [auth_for(carto_sandbox, tmp_path) for _ in range(3)]

    assert len({auth.get_access_token() for auth in objects}) == 1
    assert len({auth.get_carto_dw_credentials() for auth in objects}) == 1
    assert carto_sandbox.stats().count("token") == 1


def test_two_credentials_in_one_file_do_not_get_each_others_tokens(carto_sandbox: Sandbox, tmp_path: Path) -> None:
    mine = auth_for(carto_sandbox, tmp_path).get_access_token()

    other = raised_by(auth_for(carto_sandbox, tmp_path, client_id="another").get_access_token)

    assert isinstance(other, ClientRejected)
    assert auth_for(carto_sandbox, tmp_path).get_access_token() == mine


def test_a_client_whose_secret_was_replaced_does_not_get_the_old_ones_tokens(
    carto_sandbox: Sandbox, tmp_path: Path
) -> None:
    auth_for(carto_sandbox, tmp_path).get_access_token()

    assert isinstance(
        raised_by(auth_for(carto_sandbox, tmp_path, client_secret=SECRET).get_access_token), ClientRejected
    )


# Async twins


def test_the_twins_give_what_the_methods_give(carto_sandbox: Sandbox, auth: CartoAuth) -> None:
    async def everything() -> tuple[str, tuple[str, str], Any]:
        return (
            await auth.aget_access_token(),
            await auth.aget_carto_dw_credentials(),
            await auth.aget_carto_dw_client(location="EU"),
        )

    token, credentials, client = asyncio.run(everything())

    assert token == auth.get_access_token()
    assert credentials == auth.get_carto_dw_credentials()
    assert (client.project, client.location) == (credentials[0], "EU")
    stats = carto_sandbox.stats()
    assert (stats.count("token"), stats.count("dw_token")) == (1, 1)


def test_the_twins_raise_what_the_methods_raise(carto_sandbox: Sandbox, tmp_path: Path) -> None:
    auth = auth_for(carto_sandbox, tmp_path, client_secret=SECRET)

    for twin in (auth.aget_access_token, auth.aget_carto_dw_credentials, auth.aget_carto_dw_client):
        error = raised_by(lambda twin=twin: asyncio.run(twin()))  # type: ignore[misc]
        assert isinstance(error, ClientRejected)
        assert error.__context__ is None
        assert_shows_no_secret(error)
    assert carto_sandbox.stats().count("token") == 1


def test_hundreds_of_coroutines_make_one_request_of_each_kind(carto_sandbox: Sandbox, auth: CartoAuth) -> None:
    carto_sandbox.fault("token", delay=0.2)

    async def everyone() -> set[tuple[str, str]]:
        return set(await asyncio.gather(*(auth.aget_carto_dw_credentials() for _ in range(200))))

    assert len(asyncio.run(everyone())) == 1
    stats = carto_sandbox.stats()
    assert (stats.count("token"), stats.count("dw_token")) == (1, 1)


def test_a_twin_works_in_one_loop_after_another(auth: CartoAuth) -> None:
    tokens = {asyncio.run(auth.aget_access_token()) for _ in range(3)}

    assert len(tokens) == 1


# Logging in and out


def test_a_login_belongs_to_the_mode_oauth(auth: CartoAuth) -> None:
    with pytest.raises(CredentialsError, match="oauth"):
        auth.login()


def test_after_a_logout_the_tokens_are_gone_here_and_in_the_store(
    carto_sandbox: Sandbox, auth: CartoAuth, tmp_path: Path
) -> None:
    before = (auth.get_access_token(), auth.get_carto_dw_credentials())

    auth.logout()

    assert json.loads((tmp_path / "tokens.json").read_text())["tokens"] == {}
    assert auth.access_tokens.source.peek() is NO_TOKEN
    assert (auth.get_access_token(), auth.get_carto_dw_credentials()) != before
    assert carto_sandbox.stats().count("token") == 2


def test_a_logout_needs_no_api_base_url(tmp_path: Path) -> None:
    CartoAuth("m2m", client_id="c", client_secret=SECRET, cache_filepath=tmp_path / "t.json").logout()
    CartoAuth("token", access_token=BEARER, cache_filepath=tmp_path / "t.json").logout()


def test_without_a_person_a_login_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    auth = CartoAuth.from_oauth(tmp_path / "t.json")

    assert isinstance(raised_by(auth.get_access_token), InteractionRequired)
    assert isinstance(raised_by(lambda: asyncio.run(auth.aget_access_token())), InteractionRequired)


def test_the_api_base_url_is_the_accounts_or_none(auth: CartoAuth, carto_sandbox: Sandbox, tmp_path: Path) -> None:
    without = CartoAuth("m2m", client_id="c", client_secret=SECRET, cache_filepath=tmp_path / "t.json")

    assert auth.get_api_base_url() == carto_sandbox.url
    assert without.get_api_base_url() is None


# What is shown


def test_its_repr_names_the_account_and_no_secret(carto_sandbox: Sandbox, auth: CartoAuth) -> None:
    token = auth.get_access_token()
    dw_token = auth.get_carto_dw_credentials()[1]

    shown = repr(auth) + str(auth) + repr(vars(auth))
    for tokens in (auth.access_tokens, auth.dw_tokens):
        shown += repr(tokens) + repr(vars(tokens)) + repr(vars(tokens.source))

    assert repr(auth) == f"CartoAuth(mode='m2m', api_base_url='{carto_sandbox.url}', client_id='carto-sandbox-client')"
    for secret in (token, dw_token, carto_sandbox.options.client_secret):
        assert secret not in shown


# What travels


def test_it_travels_without_token_and_secret(carto_sandbox: Sandbox, auth: CartoAuth) -> None:
    secrets = [auth.get_access_token(), auth.get_carto_dw_credentials()[1], carto_sandbox.options.client_secret]

    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        pickled = pickle.dumps(auth, protocol)
        assert not [secret for secret in secrets if secret.encode() in pickled]


def test_where_it_arrives_it_finds_the_stored_token_without_its_secret(auth: CartoAuth) -> None:
    token = auth.get_access_token()

    (output,) = run_processes(1, f"import pickle; print(pickle.loads({pickle.dumps(auth)!r}).get_access_token())")

    assert output == token


def test_where_it_arrives_it_reads_its_secret_from_the_credentials_file(carto_sandbox: Sandbox, tmp_path: Path) -> None:
    auth = CartoAuth.from_m2m(carto_sandbox.write_credentials(tmp_path / "c.json"), tmp_path / "t.json")

    (output,) = run_processes(
        1, f"import pickle; print(*pickle.loads({pickle.dumps(auth)!r}).get_carto_dw_credentials())"
    )

    assert output.startswith(f"{carto_sandbox.options.project_id} sandbox-dw-")


def test_where_it_arrives_without_a_way_to_its_secret_it_says_what_to_do(auth: CartoAuth) -> None:
    (output,) = run_processes(
        1,
        f"""
        import pickle
        try:
            pickle.loads({pickle.dumps(auth)!r}).get_access_token()
        except Exception as error:
            print(type(error).__mro__[1].__name__, error)
        """,
    )

    assert output.startswith("AccountError client_secret did not travel")
    assert "CARTO_CLIENT_SECRET" in output


def test_its_arrival_does_not_take_the_secret_from_those_who_have_it(auth: CartoAuth) -> None:
    arrived = pickle.loads(pickle.dumps(auth))

    assert arrived.get_access_token() == auth.get_access_token()


@pytest.mark.parametrize("copier", [copy.copy, copy.deepcopy])
def test_copies_share_tokens_and_secret(carto_sandbox: Sandbox, auth: CartoAuth, copier: Callable[[Any], Any]) -> None:
    copied = copier(auth)

    assert copied.account is auth.account
    assert copied.get_access_token() == auth.get_access_token()
    assert carto_sandbox.stats().count("token") == 1


def test_what_was_set_beside_the_account_travels_too() -> None:
    end = time.time() + 600
    auth = CartoAuth("token", BASE, BEARER, end, use_cache=False, open_browser=False)

    arrived = pickle.loads(pickle.dumps(auth))

    assert arrived.access_tokens.settings == (end, False, False)
    assert arrived.get_access_token() == BEARER


class PlainAuth(CartoAuth):
    """A subclass without an `__init__`."""

    team = "maps"


class TeamAuth(CartoAuth):
    """A subclass with an argument of its own."""

    def __init__(self, *args: Any, team: str = "maps", **options: Any) -> None:
        super().__init__(*args, **options)
        self.team = team


class KeywordAuth(CartoAuth):
    """A subclass that takes keywords alone."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.team = "maps"


class SeedAuth(CartoAuth):
    """A subclass with the parameters of carto-auth 0.2.0, passed on by position."""

    def __init__(
        self,
        mode: str,
        api_base_url: str | None = None,
        access_token: str | None = None,
        expiration: int | None = None,
        client_id: str | None = None,
        client_secret: str | None = None,
        cache_filepath: str | None = None,
        use_cache: bool = True,
        open_browser: bool = True,
        org: str | None = None,
    ) -> None:
        given = (mode, api_base_url, access_token, expiration, client_id, client_secret)
        super().__init__(*given, cache_filepath, use_cache, open_browser, org)
        self.team = "maps"


@pytest.mark.parametrize("kind", [PlainAuth, TeamAuth, KeywordAuth, SeedAuth])
@pytest.mark.parametrize("way", ["from_m2m", "from_oauth", "from_env", "from_mapping", "pickle", "copy", "deepcopy"])
def test_the_init_of_a_subclass_runs_however_it_is_created(
    carto_sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[Any], way: str
) -> None:
    for name, value in carto_sandbox.environment().items():
        monkeypatch.setenv(name, value)
    ways: dict[str, Callable[[], Any]] = {
        "from_m2m": lambda: kind.from_m2m(carto_sandbox.write_credentials(tmp_path / "c.json"), tmp_path / "t.json"),
        "from_oauth": lambda: kind.from_oauth(tmp_path / "t.json", api_base_url=carto_sandbox.url),
        "from_env": kind.from_env,
        "from_mapping": lambda: kind.from_mapping({**carto_sandbox.account, "token_store": str(tmp_path / "t.json")}),
        "pickle": lambda: pickle.loads(pickle.dumps(kind.from_env())),
        "copy": lambda: copy.copy(kind.from_env()),
        "deepcopy": lambda: copy.deepcopy(kind.from_env()),
    }

    auth = ways[way]()

    assert type(auth) is kind
    assert auth.team == "maps"
    assert auth.account.api_base_url == carto_sandbox.url
    assert auth.account.auth_mode == ("oauth" if way == "from_oauth" else "m2m")
    if way != "from_oauth":
        assert auth.get_carto_dw_credentials()[0] == carto_sandbox.options.project_id


def test_a_subclass_travels_to_another_process_and_its_init_runs_there(auth: CartoAuth, tmp_path: Path) -> None:
    pickled = pickle.dumps(TeamAuth.from_account(auth.account))
    token = auth.get_access_token()

    (output,) = run_processes(
        1, f"import pickle; auth = pickle.loads({pickled!r}); print(auth.team, auth.get_access_token())"
    )

    assert output == f"maps {token}"


KINDS = [value for value in vars(errors).values() if inspect.isclass(value) and issubclass(value, CredentialsError)]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("travel", [copy.copy, lambda error: pickle.loads(pickle.dumps(error))], ids=["copy", "pickle"])
def test_an_error_arrives_as_it_was(kind: type[CredentialsError], travel: Callable[[Any], Any]) -> None:
    answer = {} if issubclass(kind, AccountError) else {"status": 429, "retry_after": 7.0, "scope": Scope.PROCESS}
    made = kind("what, where, next step", **answer)

    error = travel(made)

    assert type(error) is kind
    assert str(error) == "what, where, next step"
    assert vars(error) == vars(made)
    assert (error.status, error.retry_after) == (answer.get("status"), answer.get("retry_after"))


# Dependencies


def test_without_googles_client_the_extra_is_named(auth: CartoAuth) -> None:
    auth.get_carto_dw_credentials()
    for missing in ("google.cloud.bigquery", "google.auth", "google"):
        (output,) = run_processes(
            1,
            f"""
            import pickle, sys
            auth = pickle.loads({pickle.dumps(auth)!r})
            sys.modules[{missing!r}] = None
            try:
                auth.get_carto_dw_client()
            except ImportError as error:
                from carto_auth_integrations import CredentialsError
                print(isinstance(error, CredentialsError), error)
            """,
        )
        assert output.startswith("True"), missing
        assert "carto-auth-integrations[carto-dw]" in output
        assert "google" in output


def test_tokens_need_no_googles_client(carto_sandbox: Sandbox, auth: CartoAuth) -> None:
    auth.get_carto_dw_credentials()
    (output,) = run_processes(
        1,
        f"""
        import pickle, sys
        sys.modules["google"] = None
        print(pickle.loads({pickle.dumps(auth)!r}).get_carto_dw_credentials()[0])
        """,
    )

    assert output == carto_sandbox.options.project_id


# The package


def test_the_package_lists_its_names_and_loads_them_lazily() -> None:
    for name in carto_auth_integrations.__all__:
        assert getattr(carto_auth_integrations, name) is not None
    assert set(carto_auth_integrations.__all__) <= set(dir(carto_auth_integrations))
    with pytest.raises(AttributeError, match="no attribute 'CartoAuht'"):
        carto_auth_integrations.CartoAuht  # noqa: B018
    assert carto_auth_integrations.CartoAccount is CartoAccount


def test_importing_the_package_imports_none_of_its_parts() -> None:
    (output,) = run_processes(
        1,
        """
        import sys
        import carto_auth_integrations
        parts = ("carto_auth", "requests", "google", "filelock")
        print(*sorted(name for name in sys.modules if name.startswith(parts)))
        """,
    )

    assert output == "carto_auth_integrations carto_auth_integrations._version"


def test_every_kind_of_error_is_a_credentials_error() -> None:
    for kind in (ClientRejected, InteractionRequired, ServiceUnavailable, UnexpectedResponse):
        assert issubclass(kind, CredentialsError)


def test_a_token_store_is_shared_between_threads_that_make_their_own_objects(
    carto_sandbox: Sandbox, tmp_path: Path
) -> None:
    barrier = threading.Barrier(16)

    def token() -> str:
        auth = auth_for(carto_sandbox, tmp_path)
        barrier.wait(20)
        return auth.get_access_token()

    threads = [Outcome(token) for _ in range(16)]

    assert len({thread.settled() for thread in threads}) == 1
    assert carto_sandbox.stats().count("token") == 1


def test_a_login_that_was_adopted_is_given_without_a_request(tmp_path: Path) -> None:
    auth = CartoAuth.from_oauth(tmp_path / "t.json")
    auth.access_tokens.source.adopt(token_living(3600, details={"api_base_url": BASE}))

    assert auth.get_access_token() == BEARER
    assert auth.get_api_base_url() == BASE
    assert CartoAuth.from_oauth(tmp_path / "t.json").get_access_token() == BEARER
