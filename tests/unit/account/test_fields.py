"""Fields: what each takes, and what is said of what it does not take."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from carto_auth_integrations.account.fields import (
    FIELDS,
    canonical,
    check_url,
    checked,
    from_environment,
    hidden,
    is_loopback,
    suggestion,
    variable,
    without_password,
)
from carto_auth_integrations.account.secret import Secret
from carto_auth_integrations.errors import CredentialsError, InvalidField
from tests.support.accounts import SECRET
from tests.support.leaks import assert_shows_no_secret, raised_by


@pytest.mark.parametrize(
    "url",
    [
        "https://gcp-us-east1.api.carto.com",
        "https://carto.example.org/api",
        "https://carto.example.org:8443/auth-api",
        "http://127.0.0.1:8080",
        "http://127.255.255.254",
        "http://localhost:9050/path",
        "http://[::1]:8080",
        "https://[2001:db8::1]/api",
    ],
)
def test_a_url_is_taken_as_it_is(url: str) -> None:
    assert checked("api_base_url", {"api_base_url": url}, "a test") == url


@pytest.mark.parametrize("written", ["https://carto.example.org/api/", " https://carto.example.org/api\n"])
def test_blanks_around_a_url_and_a_slash_at_its_end_are_taken_off(written: str) -> None:
    assert checked("auth_url", {"auth_url": written}, "a test") == "https://carto.example.org/api"


@pytest.mark.parametrize(
    "url",
    [
        "http://carto.example.org",
        "http://127.0.0.1.evil.com",
        "http://127.0.0.1.evil.com:80/x",
        "http://localhost.evil.com",
        "http://evil.com/127.0.0.1",
        "http://evil.com/localhost",
        "http://127.evil.0.1",
        "http://128.0.0.1",
        "http://0.0.0.0:8080",
        "http://[::2]:8080",
        "http://127.1.evil.com.127.0.0.1x",
    ],
)
def test_plain_http_is_refused_for_any_other_machine(url: str) -> None:
    with pytest.raises(InvalidField, match="https"):
        checked("api_base_url", {"api_base_url": url}, "a test")


@pytest.mark.parametrize(
    "url",
    [
        "carto.example.org",
        "ftp://carto.example.org",
        "https://",
        "https:///path",
        "HTTPS//carto.example.org",
        "https://carto.example.org?x=1",
        "https://carto.example.org/#x",
        "https://carto example.org",
        "https://carto.example.org:port",
        "http://localhost@evil.com",
        "http://127.0.0.1#@evil.com",
        "http://127.0.0.1\\@evil.com",
        "javascript:alert(1)",
        "file:///etc/passwd",
    ],
)
def test_what_is_not_a_plain_url_is_refused(url: str) -> None:
    with pytest.raises(InvalidField, match="api_base_url in a test"):
        checked("api_base_url", {"api_base_url": url}, "a test")


def test_a_password_in_a_url_is_refused_and_not_shown() -> None:
    error = raised_by(lambda: check_url("api_base_url", f"https://user:{SECRET}@carto.example.org", "a test"))

    assert isinstance(error, InvalidField)
    assert SECRET not in str(error)
    assert "no user" in str(error)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.0.0.1:8080", True),
        ("127.9.9.9", True),
        ("localhost:1", True),
        ("[::1]", True),
        ("[::1]:443", True),
        ("127.0.0.1.evil.com", False),
        ("localhost.evil.com", False),
        ("evil.com", False),
        ("127.0.0.1@evil.com", False),
        ("", False),
    ],
)
def test_loopback_is_told_from_what_looks_like_it(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


@pytest.mark.parametrize("name", [name for name, field in FIELDS.items() if field.kind in ("text", "secret", "url")])
@pytest.mark.parametrize("value", [1, 1.5, True, ["a"], {"a": 1}, b"bytes", object()])
def test_what_is_not_text_is_refused_by_its_type(name: str, value: object) -> None:
    with pytest.raises(InvalidField, match=f"{name} in a test must be text, not {type(value).__name__}"):
        checked(name, {name: value}, "a test")


@pytest.mark.parametrize("value", ["line\nbreak", "car\rriage", "nul\0", "escape\x1b[0m", "bell\a", "\u2028"])
@pytest.mark.parametrize("name", ["client_id", "audience", "token_store", "location"])
def test_control_characters_inside_a_value_are_refused_and_not_shown(name: str, value: str) -> None:
    error = raised_by(lambda: checked(name, {name: f"x{value}x"}, "a test"))

    assert isinstance(error, InvalidField)
    assert "control character" in str(error)
    assert str(error).isprintable()


def test_control_characters_inside_a_secret_are_refused_without_showing_it() -> None:
    error = raised_by(lambda: checked("client_secret", {"client_secret": Secret(f"{SECRET}\n{SECRET}")}, "a test"))

    assert isinstance(error, InvalidField)
    assert_shows_no_secret(error)


def test_a_line_break_at_the_end_of_a_secret_is_taken_off() -> None:
    assert checked("client_secret", {"client_secret": Secret(f"{SECRET}\n")}, "a test") == Secret(SECRET)


@pytest.mark.parametrize("value", ["   ", "\n", "\t "])
def test_a_value_of_blanks_is_refused(value: str) -> None:
    with pytest.raises(InvalidField, match="blank"):
        checked("client_id", {"client_id": value}, "a test")


@pytest.mark.parametrize(
    "place",
    [
        "/var/lib/tokens.json",
        "tokens.json",
        "~/tokens.json",
        "C:\\tokens.json",
        "memory:",
        "redis://h/0",
        "rediss://h/0",
    ],
)
def test_a_token_store_is_a_path_memory_or_redis(place: str) -> None:
    assert checked("token_store", {"token_store": place}, "a test") == place


def test_a_token_store_may_be_a_path_object() -> None:
    assert checked("token_store", {"token_store": Path("/tmp/tokens.json")}, "a test") == "/tmp/tokens.json"


def test_an_unknown_scheme_of_a_token_store_is_refused_without_its_password() -> None:
    error = raised_by(lambda: checked("token_store", {"token_store": f"memcached://user:{SECRET}@host"}, "a test"))

    assert isinstance(error, InvalidField)
    assert "memcached" in str(error)
    assert SECRET not in str(error)


def test_the_password_of_a_store_is_shown_as_stars() -> None:
    assert without_password(f"redis://user:{SECRET}@host:6379/0") == "redis://***@host:6379/0"
    assert without_password(f"redis://:p@{SECRET}@host/0") == "redis://***@host/0"
    assert without_password("redis://host/0") == "redis://host/0"
    assert without_password("/home/me/tokens.json") == "/home/me/tokens.json"


def test_an_unknown_name_gets_a_suggestion() -> None:
    assert "did you mean client_secret?" in suggestion("client_secert")
    assert "did you mean api_base_url?" in suggestion("api_base_uri")
    assert all(name in suggestion("xyzzy") for name in FIELDS)


def test_an_unknown_field_is_refused_with_a_suggestion() -> None:
    with pytest.raises(InvalidField, match=r"Unknown field 'clientid' in a test; did you mean client_id\?"):
        canonical({"clientid": "x"}, "a test")


def test_the_seeds_names_are_taken_for_three_fields() -> None:
    given = {"mode": "m2m", "org": "org_abc", "cache_filepath": "tokens.json"}

    assert canonical(given, "a test") == {
        "auth_mode": "m2m",
        "organization": "org_abc",
        "token_store": Secret("tokens.json"),
    }


def test_one_field_under_two_names_is_refused() -> None:
    with pytest.raises(InvalidField, match="keep one"):
        canonical({"org": "org_abc", "organization": "org_def"}, "a test")


def test_none_and_the_empty_string_count_as_left_out() -> None:
    assert canonical({"org": None, "organization": "org_def", "location": "", "client_id": None}, "a test") == {
        "organization": "org_def"
    }


def test_secrets_are_wrapped_and_other_fields_are_not() -> None:
    wrapped = hidden({"client_secret": SECRET, "access_token": None, "client_id": "abc"})

    assert wrapped == {"client_secret": Secret(SECRET), "access_token": None, "client_id": "abc"}


def test_a_variable_is_named_after_its_field(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CARTO_API_BASE_URL", "https://carto.example.org")

    assert variable("api_base_url") == "CARTO_API_BASE_URL"
    assert from_environment("api_base_url") == "https://carto.example.org"


def test_an_empty_variable_counts_as_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CARTO_CLIENT_ID", "")
    monkeypatch.setenv("CARTO_CLIENT_SECRET", "")

    assert from_environment("client_id") is None
    assert from_environment("client_secret") is None


def test_a_secret_comes_wrapped_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CARTO_CLIENT_SECRET", SECRET)

    assert from_environment("client_secret") == Secret(SECRET)
    assert SECRET not in repr(from_environment("client_secret"))


@pytest.mark.parametrize("given", [10**10, "10000000000", " 10000000000 "])
def test_a_size_is_a_whole_number_also_as_text(given: Any) -> None:
    assert checked("maximum_bytes_billed", {"maximum_bytes_billed": given}, "a test") == 10**10


@pytest.mark.parametrize("given", [0, -1, True, 1.5, "10 GB", "1e9", "٣", "9" * 30])
def test_a_size_that_is_none_is_refused_by_its_name(given: Any) -> None:
    with pytest.raises(InvalidField, match="maximum_bytes_billed in a test"):
        checked("maximum_bytes_billed", {"maximum_bytes_billed": given}, "a test")


def test_every_field_says_in_one_sentence_what_it_is() -> None:
    for name, field in FIELDS.items():
        assert field.description.endswith("."), name


def test_a_field_that_is_refused_is_a_value_error_and_a_credentials_error() -> None:
    error = raised_by(lambda: checked("client_id", {"client_id": 5}, "a test"))

    assert isinstance(error, ValueError)
    assert isinstance(error, CredentialsError)
