"""Accounts: every way in, what is refused and how, and what of an account is shown or travels."""

from __future__ import annotations

import copy
import json
import logging
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from carto_auth_integrations import AccountError, CartoAccount, CartoAuth, CredentialsError
from carto_auth_integrations.account.fields import FIELDS, PUBLIC_CLIENT_ID
from carto_auth_integrations.account.secret import Secret
from tests.support.accounts import BEARER, SECRET
from tests.support.leaks import assert_shows_no_secret, raised_by

BASE = "https://gcp-us-east1.api.carto.com"
FILE = {"api_base_url": BASE, "client_id": "the-client", "client_secret": SECRET}
REDIS = "redis://user:hunter2-redis-password@redis.example.org:6379/0"
REDIS_PASSWORD = "hunter2-redis-password"


def write(path: Path, content: object, mode: int = 0o600) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    path.chmod(mode)
    return path


@pytest.fixture
def credentials(tmp_path: Path) -> Path:
    return write(tmp_path / "carto_credentials.json", FILE)


def set_environment(monkeypatch: pytest.MonkeyPatch, **fields: str) -> None:
    for name, value in fields.items():
        monkeypatch.setenv(f"CARTO_{name.upper()}", value)


def holds(account: CartoAccount, **fields: object) -> bool:
    return all(getattr(account, name) == value for name, value in fields.items())


# Every way in


def test_a_credentials_file_gives_the_account(credentials: Path) -> None:
    account = CartoAccount.from_file(credentials)

    assert holds(account, auth_mode="m2m", api_base_url=BASE, client_id="the-client", client_secret=Secret(SECRET))


def test_the_environment_gives_the_account(monkeypatch: pytest.MonkeyPatch) -> None:
    set_environment(monkeypatch, **FILE, auth_url="https://login.example.org")

    assert holds(
        CartoAccount.from_env(),
        auth_mode="m2m",
        api_base_url=BASE,
        client_secret=Secret(SECRET),
        auth_url="https://login.example.org",
    )


def test_a_mapping_gives_the_account() -> None:
    account = CartoAccount.from_mapping({**FILE, "organization": None, "location": "", "default_dataset": "shared"})

    assert holds(account, auth_mode="m2m", organization=None, location=None, default_dataset="shared")


def test_arguments_give_the_account() -> None:
    auth = CartoAuth("m2m", BASE, client_id="the-client", client_secret=SECRET, audience="another")

    assert holds(auth.account, api_base_url=BASE, client_id="the-client", audience="another")


def test_all_ways_in_lead_to_equal_accounts_with_one_fingerprint(
    credentials: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ways = [CartoAccount.from_file(credentials), CartoAccount.from_mapping(FILE)]
    ways.append(CartoAuth("m2m", BASE, client_id="the-client", client_secret=SECRET).account)
    set_environment(monkeypatch, **FILE)
    ways.append(CartoAccount.from_env())

    assert all(way == ways[0] for way in ways)
    assert len(set(ways)) == 1
    assert len({way.fingerprint for way in ways}) == 1


def test_what_nobody_gives_is_cartos_own() -> None:
    account = CartoAccount.from_mapping(FILE)

    assert holds(
        account,
        auth_url="https://auth.carto.com",
        accounts_url="https://accounts.app.carto.com",
        audience="carto-cloud-native-api",
    )


def test_a_user_login_needs_nothing_but_its_mode() -> None:
    assert holds(CartoAccount.resolve({"mode": "oauth"}), client_id=PUBLIC_CLIENT_ID, client_secret=None)


def test_a_file_may_hold_any_other_field(tmp_path: Path) -> None:
    account = CartoAccount.from_file(write(tmp_path / "c.json", {**FILE, "auth_url": "https://x.org/", "org": "org_a"}))

    assert holds(account, auth_url="https://x.org", organization="org_a")


def test_a_path_with_a_tilde_is_found(own_home: Path) -> None:
    write(own_home / "c.json", FILE)

    assert CartoAccount.from_file("~/c.json").client_id == "the-client"


@pytest.mark.parametrize(
    ("given", "mode"),
    [
        ({"client_secret": SECRET, "client_id": "c", "api_base_url": BASE}, "m2m"),
        ({"access_token": BEARER}, "token"),
        ({"access_token": BEARER, **FILE}, "m2m"),
        ({"auth_mode": "oauth"}, "oauth"),
    ],
)
def test_the_mode_follows_from_what_there_is_to_authenticate_with(given: dict[str, str], mode: str) -> None:
    assert CartoAccount.from_mapping(given).auth_mode == mode


# What is refused


@pytest.mark.parametrize("name", FILE)
def test_a_file_without_an_attribute_is_an_attribute_error(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / "c.json", {field: value for field, value in FILE.items() if field != name})

    error = raised_by(lambda: CartoAuth.from_m2m(path))

    assert isinstance(error, AttributeError)
    assert isinstance(error, CredentialsError)
    assert name in str(error)
    assert str(path) in str(error)
    assert_shows_no_secret(error)


@pytest.mark.parametrize("name", FILE)
@pytest.mark.parametrize("value", ["", None])
def test_a_file_with_an_empty_attribute_is_a_value_error(tmp_path: Path, name: str, value: object) -> None:
    path = write(tmp_path / "c.json", {**FILE, name: value})

    error = raised_by(lambda: CartoAuth.from_m2m(path))

    assert isinstance(error, ValueError)
    assert isinstance(error, AccountError)
    assert name in str(error)
    assert_shows_no_secret(error)


def test_an_absent_file_is_a_file_not_found_error(tmp_path: Path) -> None:
    error = raised_by(lambda: CartoAuth.from_m2m(tmp_path / "absent.json"))

    assert isinstance(error, FileNotFoundError)
    assert isinstance(error, AccountError)
    assert str(tmp_path / "absent.json") in str(error)


def test_a_directory_in_the_place_of_the_file_is_said_to_be_one(tmp_path: Path) -> None:
    error = raised_by(lambda: CartoAccount.from_file(tmp_path))

    assert isinstance(error, AccountError)
    assert "directory" in str(error).lower()


@pytest.mark.parametrize(
    "content",
    [
        pytest.param("", id="empty"),
        pytest.param(f'{{"client_secret": "{SECRET}", ', id="cut off"),
        pytest.param(f"client_secret={SECRET}", id="not JSON"),
        pytest.param(f'["{SECRET}"]', id="a list"),
        pytest.param(f'"{SECRET}"', id="a string"),
        pytest.param("null", id="null"),
        pytest.param("[" * 100_000, id="nested without end"),
    ],
)
def test_a_file_that_is_no_json_object_is_a_value_error_that_shows_nothing_of_it(tmp_path: Path, content: str) -> None:
    path = write(tmp_path / "c.json", content)

    error = raised_by(lambda: CartoAuth.from_m2m(path))

    assert isinstance(error, ValueError)
    assert isinstance(error, AccountError)
    assert str(path) in str(error)
    assert error.__context__ is None
    assert_shows_no_secret(error)


def test_a_file_that_is_not_text_is_a_value_error(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    path.write_bytes(b"\x80\x81\xff\x00")

    assert isinstance(raised_by(lambda: CartoAccount.from_file(path)), ValueError)


@pytest.mark.parametrize("value", [5, ["a"], {"a": "b"}, True])
@pytest.mark.parametrize("name", FILE)
def test_a_value_of_another_type_is_a_value_error(tmp_path: Path, name: str, value: object) -> None:
    path = write(tmp_path / "c.json", {**FILE, name: value})

    with pytest.raises(ValueError, match=f"{name} in .* must be text"):
        CartoAccount.from_file(path)


@pytest.mark.parametrize("value", [SECRET.encode(), [SECRET], {"value": SECRET}])
def test_a_secret_of_another_type_is_not_shown_either(value: object) -> None:
    error = raised_by(lambda: CartoAccount.from_mapping({**FILE, "client_secret": value}))

    assert isinstance(error, AccountError)
    assert_shows_no_secret(error)


def test_a_misspelt_field_is_refused_with_a_suggestion() -> None:
    with pytest.raises(AccountError, match=r"Unknown field 'client_secrets' .*did you mean client_secret\?"):
        CartoAccount.from_mapping({"client_secrets": SECRET})


def test_the_value_of_a_misspelt_field_is_not_shown() -> None:
    assert_shows_no_secret(raised_by(lambda: CartoAccount.from_mapping({"client_secrets": SECRET})))
    assert_shows_no_secret(raised_by(lambda: CartoAccount.resolve({"client_secrets": SECRET})))


def test_a_misspelt_argument_is_refused_with_a_suggestion() -> None:
    with pytest.raises(AccountError, match=r"did you mean auth_url\?"):
        CartoAuth("m2m", BASE, client_id="c", client_secret=SECRET, auth_uri="https://login.example.org")


def test_an_unknown_field_in_a_file_is_ignored_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    account = CartoAccount.from_file(write(tmp_path / "c.json", {**FILE, "auth_ulr": "https://login.example.org"}))

    assert account.auth_url == "https://auth.carto.com"
    assert "auth_ulr" in caplog.text
    assert "did you mean auth_url?" in caplog.text


@pytest.mark.parametrize("mode", ["M2M", "service", "client_credentials"])
def test_an_unknown_mode_is_refused_with_those_there_are(mode: str) -> None:
    error = raised_by(lambda: CartoAuth(mode))

    assert isinstance(error, ValueError)
    assert "m2m, oauth, token" in str(error)


def test_plain_http_is_refused_for_another_host(tmp_path: Path) -> None:
    path = write(tmp_path / "c.json", {**FILE, "api_base_url": "http://127.0.0.1.evil.com"})

    with pytest.raises(AccountError, match="https"):
        CartoAuth.from_m2m(path)


def test_a_password_in_a_url_is_refused_and_not_shown() -> None:
    error = raised_by(lambda: CartoAccount.from_mapping({**FILE, "auth_url": f"https://me:{SECRET}@login.example.org"}))

    assert isinstance(error, AccountError)
    assert_shows_no_secret(error)


def test_a_secret_that_is_missing_is_named_with_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    set_environment(monkeypatch, api_base_url=BASE, client_id="c", auth_mode="m2m")

    with pytest.raises(AccountError, match=r"Missing client_secret .*CARTO_CLIENT_SECRET"):
        CartoAccount.from_env()


def test_an_empty_environment_is_an_error_that_names_what_to_set() -> None:
    with pytest.raises(AccountError, match="CARTO_"):
        CartoAuth.from_env()


SECRETIVE: dict[str, Callable[[Path], object]] = {
    "the constructor": lambda _: CartoAuth("m2m", "http://evil.com", client_id="c", client_secret=SECRET),
    "the constructor with a token": lambda _: CartoAuth("m2m", "nonsense", access_token=BEARER),
    "CartoAuth.from_mapping": lambda _: CartoAuth.from_mapping({**FILE, "api_base_url": "nonsense"}),
    "CartoAccount.from_mapping": lambda _: CartoAccount.from_mapping({**FILE, "api_base_url": "nonsense"}),
    "CartoAccount.resolve": lambda _: CartoAccount.resolve({**FILE, "api_base_url": "nonsense"}),
    "CartoAccount.from_env": lambda _: CartoAccount.from_env(client_secret=SECRET, api_base_url="nonsense"),
    "an absent file, a secret given": lambda path: CartoAccount.from_file(path / "absent", client_secret=SECRET),
    "a file with a field that is wrong": lambda path: CartoAuth.from_m2m(
        write(path / "c.json", {**FILE, "auth_url": "nonsense"})
    ),
    "a file with an unknown field": lambda path: CartoAuth.from_m2m(
        write(path / "c.json", {"refresh": SECRET, "client_id": "c"})
    ),
}


@pytest.mark.parametrize("way", SECRETIVE)
def test_an_error_on_the_way_in_shows_no_secret_even_with_its_locals(way: str, tmp_path: Path) -> None:
    error = raised_by(lambda: SECRETIVE[way](tmp_path))

    assert isinstance(error, AccountError)
    assert_shows_no_secret(error)


def test_an_error_does_not_show_the_password_of_the_token_store() -> None:
    error = raised_by(lambda: CartoAuth("m2m", BASE, client_id="c", token_store=REDIS))

    assert isinstance(error, AccountError)
    assert_shows_no_secret(error, REDIS_PASSWORD)


# A file that others may read


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o666])
def test_a_file_that_others_may_read_works_and_warns(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, mode: int
) -> None:
    path = write(tmp_path / "c.json", FILE, mode)

    assert CartoAccount.from_file(path).client_id == "the-client"
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert str(path) in caplog.text
    assert "chmod 600" in caplog.text


def test_a_file_for_its_owner_alone_does_not_warn(credentials: Path, caplog: pytest.LogCaptureFixture) -> None:
    CartoAccount.from_file(credentials)

    assert not caplog.records


# Precedence


def test_the_caller_goes_before_the_environment_and_that_before_the_default(
    credentials: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_environment(
        monkeypatch, api_base_url="https://env.example.org", audience="from-env", client_id="from-env", location="EU"
    )

    account = CartoAccount.from_file(credentials, location="US")

    assert holds(account, location="US", client_id="the-client", api_base_url=BASE, audience="from-env")
    assert account.accounts_url == FIELDS["accounts_url"].default


def test_what_the_caller_leaves_out_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    set_environment(monkeypatch, token_store="memory:", organization="org_env", default_dataset="shared")

    account = CartoAccount.from_mapping({**FILE, "organization": "", "default_dataset": None})

    assert holds(account, token_store="memory:", organization="org_env", default_dataset="shared")


def test_a_malformed_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    set_environment(monkeypatch, auth_url="nonsense")

    with pytest.raises(AccountError, match="CARTO_AUTH_URL"):
        CartoAccount.from_mapping(FILE)


def test_the_environment_of_another_mode_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    set_environment(monkeypatch, **FILE, access_token=BEARER)

    assert holds(
        CartoAccount.resolve({"mode": "oauth"}), client_secret=None, client_id=PUBLIC_CLIENT_ID, access_token=None
    )
    assert holds(CartoAccount.resolve({"mode": "token"}), access_token=Secret(BEARER), client_secret=None)
    assert holds(CartoAccount.resolve({"mode": "m2m"}), access_token=None, client_secret=Secret(SECRET))


def test_a_client_id_without_a_secret_is_the_logins(monkeypatch: pytest.MonkeyPatch) -> None:
    set_environment(monkeypatch, client_id="our-own-login-client")

    assert CartoAccount.resolve({"mode": "oauth"}).client_id == "our-own-login-client"


def test_a_variable_decides_the_mode_where_the_caller_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    set_environment(monkeypatch, auth_mode="oauth")

    assert CartoAccount.from_mapping({"api_base_url": BASE}).auth_mode == "oauth"


# What an account is


def test_an_account_cannot_be_changed() -> None:
    account = CartoAccount.from_mapping(FILE)

    with pytest.raises(AttributeError, match="immutable"):
        account.client_id = "another"
    with pytest.raises(AttributeError, match="immutable"):
        del account.client_id
    with pytest.raises(AttributeError):
        account.unheard_of = "x"  # type: ignore[attr-defined]
    assert account.client_id == "the-client"


def test_copies_of_an_account_are_the_account() -> None:
    account = CartoAccount.from_mapping(FILE)

    assert copy.copy(account) is account
    assert copy.deepcopy({"account": account})["account"] is account


def test_an_account_equals_another_with_the_same_fields_only() -> None:
    account = CartoAccount.from_mapping(FILE)

    assert account == CartoAccount.from_mapping(FILE)
    assert account != CartoAccount.from_mapping({**FILE, "client_secret": "another"})
    assert account != CartoAccount.from_mapping({**FILE, "location": "EU"})
    assert account != FILE
    assert len({account, CartoAccount.from_mapping(FILE)}) == 1


def test_the_repr_of_an_account_shows_its_fields_and_no_secret() -> None:
    shown = repr(CartoAccount.from_mapping({**FILE, "access_token": BEARER, "token_store": REDIS}))

    assert "the-client" in shown
    assert "redis.example.org" in shown
    for secret in (SECRET, BEARER, REDIS_PASSWORD):
        assert secret not in shown


IDENTITY: dict[str, Any] = {
    "auth_url": "https://login.example.org",
    "client_id": "another",
    "client_secret": "another",
    "audience": "another",
    "organization": "org_another",
    "api_base_url": "https://another.example.org",
    "access_token": "another",
}


@pytest.mark.parametrize("name", IDENTITY)
def test_accounts_that_differ_in_identity_have_different_fingerprints(name: str) -> None:
    account, other = (CartoAccount.from_mapping(fields) for fields in (FILE, {**FILE, name: IDENTITY[name]}))

    assert account.fingerprint != other.fingerprint


def test_the_mode_is_part_of_the_identity() -> None:
    fields = {"api_base_url": BASE, "client_id": "c", "access_token": BEARER}

    assert (
        CartoAccount.resolve({**fields, "mode": "m2m"}).fingerprint
        != CartoAccount.resolve({**fields, "mode": "token"}).fingerprint
    )


@pytest.mark.parametrize("name", ["token_store", "location", "default_dataset"])
def test_what_does_not_make_the_token_leaves_the_fingerprint_alone(name: str) -> None:
    account, other = (CartoAccount.from_mapping(fields) for fields in (FILE, {**FILE, name: "somewhere"}))

    assert account.fingerprint == other.fingerprint


def test_values_do_not_run_into_each_other_in_the_fingerprint() -> None:
    first = CartoAccount.from_mapping({**FILE, "client_id": 'a", "b'})
    second = CartoAccount.from_mapping({**FILE, "client_id": "a", "audience": "b"})

    assert first.fingerprint != second.fingerprint


def test_the_fingerprint_stays_the_same_from_release_to_release() -> None:
    fingerprint = CartoAccount.from_mapping(FILE).fingerprint

    assert fingerprint == CartoAccount.from_mapping(dict(reversed(FILE.items()))).fingerprint
    assert fingerprint == "98ac2c5414d8bc797c3b90a6ccdc584d29c56abd09f82318f841612e1cec63f7"


def test_the_fingerprint_holds_nothing_of_the_secret() -> None:
    account = CartoAccount.from_mapping(FILE)

    assert len(account.fingerprint) == 64
    assert SECRET not in account.fingerprint + repr(account.digests)


# What travels


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_an_account_travels_without_its_secrets(protocol: int) -> None:
    account = CartoAccount.from_mapping({**FILE, "access_token": BEARER, "token_store": REDIS, "location": "EU"})

    pickled = pickle.dumps(account, protocol)

    for secret in (SECRET, BEARER, REDIS_PASSWORD):
        assert secret.encode() not in pickled
    arrived = pickle.loads(pickled)
    assert holds(arrived, client_secret=None, access_token=None, token_store=None, location="EU")
    assert arrived.fingerprint == account.fingerprint


def test_an_account_that_travelled_equals_the_one_that_stayed() -> None:
    account = CartoAccount.from_mapping(FILE)

    assert pickle.loads(pickle.dumps(account)) == account


def test_a_token_store_without_a_password_travels() -> None:
    account = CartoAccount.from_mapping({**FILE, "token_store": "redis://redis.example.org/0"})

    assert pickle.loads(pickle.dumps(account)).token_store == "redis://redis.example.org/0"


def test_a_token_store_with_a_password_is_read_from_the_environment_there(monkeypatch: pytest.MonkeyPatch) -> None:
    pickled = pickle.dumps(CartoAccount.from_mapping({**FILE, "token_store": REDIS}))
    set_environment(monkeypatch, token_store=REDIS)

    assert pickle.loads(pickled).token_store == REDIS


def travelled(account: CartoAccount) -> CartoAccount:
    arrived: CartoAccount = pickle.loads(pickle.dumps(account))
    return arrived


def test_after_the_journey_the_secret_is_read_from_the_file_again(credentials: Path) -> None:
    arrived = travelled(CartoAccount.from_file(credentials))

    assert arrived.require("client_secret") == Secret(SECRET)
    assert arrived.client_secret == Secret(SECRET)


def test_after_the_journey_the_secret_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    arrived = travelled(CartoAccount.from_mapping(FILE))
    set_environment(monkeypatch, client_secret=SECRET)

    assert arrived.require("client_secret") == Secret(SECRET)


def test_after_the_journey_an_api_access_token_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    arrived = travelled(CartoAccount.from_mapping({"access_token": BEARER, "api_base_url": BASE}))
    set_environment(monkeypatch, access_token=BEARER)

    assert arrived.require("access_token") == Secret(BEARER)


def test_a_secret_that_travelled_beside_an_access_token_is_read_again_too(monkeypatch: pytest.MonkeyPatch) -> None:
    arrived = travelled(CartoAccount.from_mapping({**FILE, "access_token": BEARER}))
    set_environment(monkeypatch, client_secret=SECRET)

    assert arrived.require("client_secret") == Secret(SECRET)


def test_a_secret_that_changed_in_the_file_is_not_taken(credentials: Path) -> None:
    arrived = travelled(CartoAccount.from_file(credentials))
    write(credentials, {**FILE, "client_secret": "a-new-secret"})

    error = raised_by(lambda: arrived.require("client_secret"))

    assert isinstance(error, AccountError)
    assert "CARTO_CLIENT_SECRET" in str(error)
    assert_shows_no_secret(error, "a-new-secret")


def test_another_clients_secret_in_the_environment_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    arrived = travelled(CartoAccount.from_mapping(FILE))
    set_environment(monkeypatch, client_secret="another-clients-secret")

    with pytest.raises(AccountError, match="did not travel"):
        arrived.require("client_secret")


def test_where_there_is_no_way_to_the_secret_the_error_says_what_to_do(credentials: Path) -> None:
    arrived = travelled(CartoAccount.from_file(credentials))
    credentials.unlink()

    error = raised_by(lambda: arrived.require("client_secret"))

    assert isinstance(error, AttributeError)
    assert "CARTO_CLIENT_SECRET" in str(error)


def test_a_required_field_that_is_not_there_is_named_with_its_variable() -> None:
    account = CartoAccount.resolve({"mode": "oauth"})

    with pytest.raises(AccountError, match=r"api_base_url .*CARTO_API_BASE_URL"):
        account.require("api_base_url")
